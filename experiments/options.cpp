#include "experiments/options.h"

#include <cstdlib>
#include <filesystem>
#include <iostream>

#include "core/error.h"
#include "core/log.h"
#include "core/numbers/tensor.h"
#include "core/records/run_directory.h"

namespace evoke {

namespace {

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

// Text as a TOML string, so that no device name can break out of its override.
std::string quoted(const std::string& value) { return nlohmann::json(value).dump(); }

}  // namespace

void add_common(CLI::App& command, CommonOptions& options, Takes takes, const std::string& default_out) {
  if (takes == Takes::writing) {
    CLI::Option* out = command.add_option("--out", options.out, "folder or file the results go to");
    if (default_out.empty()) {
      out->required();
    } else {
      options.out = default_out;
      out->capture_default_str();
    }
  }
  if (takes != Takes::nothing) {
    command.add_option("--device", options.device, "auto (CUDA if present), cpu, cuda or cuda:N [environment EVOKE_DEVICE; default auto]");
    command.add_option("--seed", options.seed, "of every random stream [environment EVOKE_SEED; default: the recipe's]")
        ->check(CLI::NonNegativeNumber);
    command.add_option("--threads", options.threads, "of LibTorch on the CPU; 0: one a core [environment EVOKE_THREADS]")
        ->check(CLI::NonNegativeNumber);
    command
        .add_option("--set", options.set,
                    "table.key=value: puts a value in the recipe's place; repeatable [environment EVOKE_<TABLE>__<KEY>]")
        ->type_size(1)
        ->allow_extra_args(false);
  }
  command.add_flag("-q,--quiet", options.quiet, "say nothing on stderr but warnings and errors");
  command.add_flag("-v,--verbose", options.verbose, "say more on stderr");
  command.add_flag("--json", options.json, "results on stdout as JSON");
}

void begin_verb(const CommonOptions& options) {
  set_verbosity(options.quiet ? Verbosity::quiet : options.verbose ? Verbosity::verbose : Verbosity::normal);
  catch_interrupts();
  retain_memory();
}

std::string device_of(const CommonOptions& options) {
  if (!options.device.empty()) return options.device;
  const std::string named = environment("EVOKE_DEVICE");
  return named.empty() ? "auto" : named;
}

std::vector<std::string> overrides(const CommonOptions& options, const std::string& table) {
  std::vector<std::string> out;
  if (const std::string value = environment("EVOKE_DEVICE"); !value.empty()) out.push_back(table + ".device=" + quoted(value));
  if (const std::string value = environment("EVOKE_SEED"); !value.empty()) out.push_back(table + ".seed=" + value);
  if (const std::string value = environment("EVOKE_THREADS"); !value.empty()) out.push_back(table + ".threads=" + value);
  out.insert(out.end(), options.set.begin(), options.set.end());
  if (!options.device.empty()) out.push_back(table + ".device=" + quoted(options.device));
  if (options.seed >= 0) out.push_back(text(table, ".seed=", options.seed));
  if (options.threads >= 0) out.push_back(text(table, ".threads=", options.threads));
  return out;
}

std::string share_folder() {
  const std::string folder = environment("EVOKE_SHARE");
  return folder.empty() ? EVOKE_SHARE : folder;
}

std::string recipe_file(const std::string& name) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  if (fs::is_regular_file(name, ignored)) {
    // A run's own recipe is what the run wrote, or it is not taken for it.
    const fs::path file(name), folder = file.has_parent_path() ? file.parent_path() : fs::path(".");
    if (file.filename() == "config.toml" && fs::exists(folder / "manifest.json", ignored)) check_run_file(folder.string(), "config.toml");
    return name;
  }

  // A bare name is looked for among the recipes that come with the program.
  const fs::path folder = fs::path(share_folder()) / "recipes";
  if (name.find('/') == std::string::npos && !name.empty()) {
    for (const std::string& candidate : {name, name + ".toml"})
      if (fs::is_regular_file(folder / candidate, ignored)) return (folder / candidate).string();
  }
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder, ignored))
    if (entry.path().extension() == ".toml") names.push_back(entry.path().stem().string());
  std::sort(names.begin(), names.end());
  fail(Failure::input, "recipe: found no file '", name, "' and no recipe of that name in ", folder.string(), did_you_mean(name, names));
}

std::string help_section(const std::string& title, const std::vector<OptionHelp>& options) {
  std::string out = title + "\n";
  size_t width = 0;
  for (const OptionHelp& option : options) width = std::max(width, option.key.size() + option.value.size() + 3);
  for (const OptionHelp& option : options) {
    const std::string pair = option.key + " = " + option.value;
    out +=
        "  " + pair + std::string(width - pair.size() + 2, ' ') + (option.unit.empty() ? "" : option.unit + "; ") + option.sentence + "\n";
  }
  return out;
}

void answer(const CommonOptions& options, const std::string& line, const nlohmann::json& object) {
  std::cout << (options.json ? object.dump(2) : line) << "\n" << std::flush;
}

}  // namespace evoke
