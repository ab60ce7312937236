#include "experiments/options.h"

#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
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

// EVOKE_A__B__KEY=value is a.b.key = value. EVOKE_SHARE and the like have no table.
std::vector<Override> environment_overrides() {
  std::vector<Override> out;
  for (char** entry = environ; *entry; ++entry) {
    const std::string variable = *entry;
    const size_t equals = variable.find('=');
    const std::string name = variable.substr(0, equals);
    if (equals == std::string::npos || !name.starts_with("EVOKE_") || name.find("__", 6) == std::string::npos) continue;
    std::string dotted;
    for (size_t i = 6; i < name.size(); ++i) {
      const bool separator = name.compare(i, 2, "__") == 0;
      dotted += separator ? '.' : static_cast<char>(std::tolower(static_cast<unsigned char>(name[i])));
      i += separator;
    }
    out.emplace_back((dotted.starts_with('.') ? dotted.substr(1) : dotted) + variable.substr(equals), name, true);
  }
  return out;
}

}  // namespace

// ---- Flags -----------------------------------------------------------------------------------------------------------------------------

// Turns each declaration into an option of the command line.
class FlagFields : public Fields {
 public:
  FlagFields(CLI::App& command, Flags& flags) : command_(command), flags_(flags) {}

  void operator()(std::string_view key, double& value, std::string_view unit, std::string_view sentence, Range range) override {
    number(key, value, unit, sentence, range);
  }
  void operator()(std::string_view key, int64_t& value, std::string_view unit, std::string_view sentence, Range range) override {
    number(key, value, unit, sentence, range);
  }
  void operator()(std::string_view key, bool& value, std::string_view sentence) override {
    CLI::Option* option = command_.add_flag(name_of(key), value, std::string(sentence));
    flags_.flags_.push_back({option, std::string(key), [&value] { return value ? "true" : "false"; }});
  }
  void operator()(std::string_view key, std::string& value, std::string_view sentence) override { word(key, value, sentence); }
  void operator()(std::string_view key, std::vector<std::string>& value, std::string_view sentence) override {
    add(key, value, "", sentence)->type_name("WORD");
  }
  void operator()(std::string_view key, std::vector<double>& value, std::string_view unit, std::string_view sentence) override {
    add(key, value, unit, sentence)->type_name("NUMBER");
  }
  void choice(std::string_view key, std::string& value, std::string_view sentence, const std::vector<std::string>& words) override {
    std::string names;
    for (const std::string& one : words) names += (names.empty() ? "" : ",") + one;
    word(key, value, sentence)->type_name("{" + names + "}")->check([words](const std::string& found) {
      return std::find(words.begin(), words.end(), found) != words.end() ? "" : "found '" + found + "'" + did_you_mean(found, words);
    });
  }
  void path(std::string_view key, std::string& value, std::string_view sentence) override { word(key, value, sentence)->type_name("FILE"); }

 private:
  static std::string name_of(std::string_view key) {
    std::string out = key == "quiet" ? "-q,--" : key == "verbose" ? "-v,--" : "--";
    for (const char c : key) out += c == '_' ? '-' : c;
    return out;
  }
  template <class T>
  CLI::Option* add(std::string_view key, T& value, std::string_view unit, std::string_view sentence) {
    CLI::Option* option = command_.add_option(name_of(key), value, text(unit, unit.empty() ? "" : "; ", sentence));
    flags_.flags_.push_back({option, std::string(key), [&value] { return nlohmann::json(value).dump(); }});
    return option;
  }
  CLI::Option* word(std::string_view key, std::string& value, std::string_view sentence) {
    CLI::Option* option = add(key, value, "", sentence)->type_name("WORD");
    return value.empty() ? option : option->capture_default_str();
  }
  template <class T>
  void number(std::string_view key, T& value, std::string_view unit, std::string_view sentence, Range range) {
    CLI::Option* option = add(key, value, unit, sentence)->type_name("NUMBER");
    if (const auto now = static_cast<double>(value); now >= range.low && now <= range.high) option->capture_default_str();
    option->check([range](const std::string& typed) -> std::string {
      const std::string expected = (std::is_integral_v<T> ? "a whole number, " : "a number, ") + range_text(range);
      T found{};
      const auto [end, trouble] = std::from_chars(typed.data(), typed.data() + typed.size(), found);
      const bool read = trouble == std::errc() && end == typed.data() + typed.size();
      const bool within = read && static_cast<double>(found) >= range.low && static_cast<double>(found) <= range.high;
      return within ? "" : "found '" + typed + "', expected " + expected;
    });
  }

  CLI::App& command_;
  Flags& flags_;
};

std::unique_ptr<Fields> Flags::fields(CLI::App& command) { return std::make_unique<FlagFields>(command, *this); }

std::vector<Override> Flags::typed(const std::string& table) const {
  std::vector<Override> out;
  for (const Flag& flag : flags_)
    if (flag.option->count() > 0) out.emplace_back(text(table, ".", flag.key, "=", flag.toml()), flag.option->get_name());
  return out;
}

namespace {

// The common flags in the three groups that a verb takes or leaves.
struct Speech {
  CommonOptions& all;
};
void describe(Fields& f, Speech& o) {
  f("quiet", o.all.quiet, "say nothing on stderr but warnings and errors");
  f("verbose", o.all.verbose, "say more on stderr");
  f("json", o.all.json, "results on stdout as JSON");
}
struct Computing {
  CommonOptions& all;
};
void describe(Fields& f, Computing& o) {
  f("device", o.all.device, "auto (CUDA if present), cpu, cuda or cuda:N [environment EVOKE_DEVICE; default auto]");
  f("seed", o.all.seed, "", "of every random stream [environment EVOKE_SEED; default: the recipe's]", {0, 9e15});
  f("threads", o.all.threads, "", "of LibTorch on the CPU; 0: one a core [environment EVOKE_THREADS]", {0, 1024});
  f("set", o.all.set, "table.key=value: puts a value in the recipe's place; repeatable [environment EVOKE_<TABLE>__<KEY>]");
}
struct Place {
  CommonOptions& all;
};
void describe(Fields& f, Place& o) { f.path("out", o.all.out, "folder or file the results go to"); }

}  // namespace

void add_common(CLI::App& command, CommonOptions& options, Takes takes, const std::string& default_out) {
  if (takes == Takes::writing) {
    options.out = default_out;
    Place place{options};
    Flags(command, place);
    if (default_out.empty()) command.get_option("--out")->required();
  }
  if (takes != Takes::nothing) {
    Computing computing{options};
    Flags(command, computing);
    command.get_option("--set")->type_size(1)->allow_extra_args(false);
  }
  Speech speech{options};
  Flags(command, speech);
}

void add_no_report(CLI::App& command, bool& no_report) { command.add_flag("--no-report", no_report, "write no report.html into the run"); }

void begin_verb(const CommonOptions& options) {
  set_verbosity(options.quiet ? Verbosity::quiet : options.verbose ? Verbosity::verbose : Verbosity::normal);
  catch_interrupts();
  retain_memory();
}

// ---- What beats a recipe ---------------------------------------------------------------------------------------------------------------

std::string device_of(const CommonOptions& options) {
  if (!options.device.empty()) return options.device;
  const std::string named = environment("EVOKE_DEVICE");
  return named.empty() ? "auto" : named;
}

int64_t threads_of(const CommonOptions& options) {
  if (options.threads >= 0) return options.threads;
  const std::string named = environment("EVOKE_THREADS");
  if (named.empty()) return 0;
  int64_t threads = -1;
  const auto [end, trouble] = std::from_chars(named.data(), named.data() + named.size(), threads);
  require(trouble == std::errc() && end == named.data() + named.size() && threads >= 0 && threads <= 1024, Failure::usage,
          "EVOKE_THREADS: found '", named, "', expected a whole number, 0 (one a core) to 1024");
  return threads;
}

std::vector<Override> set_overrides(const CommonOptions& options) { return {options.set.begin(), options.set.end()}; }

std::vector<Override> overrides(const CommonOptions& options, const std::string& table) {
  std::vector<Override> out = environment_overrides();
  for (const auto& [name, key] :
       {std::pair{"EVOKE_DEVICE", ".device="}, std::pair{"EVOKE_SEED", ".seed="}, std::pair{"EVOKE_THREADS", ".threads="}})
    if (const std::string value = environment(name); !value.empty())
      out.emplace_back(table + key + (name == std::string("EVOKE_DEVICE") ? quoted(value) : value), name, true);
  for (const Override& one : set_overrides(options)) out.push_back(one);
  if (!options.device.empty()) out.emplace_back(table + ".device=" + quoted(options.device), "--device");
  if (options.seed >= 0) out.emplace_back(text(table, ".seed=", options.seed), "--seed");
  if (options.threads >= 0) out.emplace_back(text(table, ".threads=", options.threads), "--threads");
  return out;
}

// ---- Recipes by name -------------------------------------------------------------------------------------------------------------------

std::string share_folder() {
  const std::string folder = environment("EVOKE_SHARE");
  return folder.empty() ? EVOKE_SHARE : folder;
}

std::vector<std::string> recipe_names(const std::string& folder) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(fs::path(share_folder()) / folder, ignored))
    if (entry.path().extension() == ".toml") names.push_back(entry.path().stem().string());
  std::sort(names.begin(), names.end());
  return names;
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
  fail(Failure::input, "recipe: found no file '", name, "' and no recipe of that name in ", folder.string(),
       did_you_mean(name, recipe_names()));
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

// ---- What is said ----------------------------------------------------------------------------------------------------------------------

void answer(const CommonOptions& options, const std::string& line, const nlohmann::json& object) {
  std::cout << (options.json ? object.dump(2) : line) << "\n";
  flush_answers();
}

void flush_answers() {
  if (std::cout.flush()) return;
  std::cout.clear();
  const int reason = ::write(STDOUT_FILENO, "\n", 1) < 0 ? errno : 0;  // what the next byte meets
  fail(Failure::runtime, "standard output cannot be written", reason ? text(" (", std::strerror(reason), ")") : "",
       "; what was written to files is complete");
}

}  // namespace evoke
