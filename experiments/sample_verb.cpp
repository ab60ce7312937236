// evoke sample: one recipe, one run directory.
#include <ATen/ATen.h>

#include <cstdio>
#include <iomanip>

#include "classifiers/menu.h"
#include "core/error.h"
#include "core/log.h"
#include "experiments/options.h"
#include "experiments/sample.h"
#include "experiments/verbs.h"
#include "generators/menu.h"
#include "samplers/menu.h"

namespace evoke {

namespace {

// Every table of a sampling recipe, with what each of its kinds takes.
std::string tables_help() {
  std::string out = "A recipe is TOML with a table a noun; options with their defaults:\n\n";
  const auto section = [&](const std::string& table, const std::string& kind, const std::string& sentence,
                           const std::vector<OptionHelp>& options) {
    out += help_section("[" + table + "]" + (kind.empty() ? "" : " kind = \"" + kind + "\"") + (sentence.empty() ? "" : ": " + sentence),
                        options) +
           "\n";
  };
  section("classifier", "", "the network whose units are asked", {{"weights", "\"\"", "", "file of a trained classifier"}});
  for (const auto& entry : objective_menu()) section("objective", entry.kind, entry.sentence, entry.options);
  for (const std::string& kind : generator_kinds()) section("generator", kind, "", generator_help(kind));
  section("encoder", "", "images to codes, in a file of its own", encoder_help());
  for (const std::string& kind : prior_kinds()) section("prior", kind, "", prior_help(kind));
  for (const auto& entry : transform_menu()) section("transform", entry.kind, entry.sentence, entry.options);
  for (const SamplerEntry& entry : sampler_menu()) section("sampler", entry.kind, entry.sentence, entry.options);
  section("run", "", "", help_of<RunTable>());
  section("data", "", "", help_of<DataTable>());
  out.pop_back();
  return out;
}

std::string table_of(const nlohmann::json& units) {
  std::ostringstream out;
  size_t width = 6;
  for (const auto& unit : units) width = std::max(width, unit["unit"].get<std::string>().size() + 2);
  out << std::left << std::setw(static_cast<int>(width)) << "unit" << std::right << std::setw(12) << "lowest" << std::setw(12) << "mean"
      << std::setw(12) << "highest"
      << "\n"
      << std::setprecision(4);
  constexpr size_t most = 40;
  size_t line = 0;
  for (const auto& unit : units) {
    if (line++ == most) {
      out << "… " << units.size() << " in all: metrics.jsonl has every one\n";
      break;
    }
    out << std::left << std::setw(static_cast<int>(width)) << unit["unit"].get<std::string>() << std::right << std::setw(12)
        << unit["lowest"].get<double>() << std::setw(12) << unit["mean"].get<double>() << std::setw(12) << unit["highest"].get<double>()
        << "\n";
  }
  return out.str();
}

int sample_and_say(const std::string& recipe_name, const Shard& shard, const CommonOptions& options) {
  Recipe recipe = Recipe::load(recipe_file(recipe_name), overrides(options));
  const std::optional<nlohmann::json> units = sample_into(assemble(recipe), options.out, {.title = "sample", .shard = shard});
  if (!units) return 130;
  const std::string picture = options.out + "/contact_sheet.png", results = options.out + "/results.h5";
  answer(options, table_of(*units) + picture + "\n" + results,
         {{"run", options.out}, {"results", results}, {"picture", picture}, {"units", *units}});
  return 0;
}

}  // namespace

Action sample_verb(CLI::App& command) {
  struct Options : CommonOptions {
    std::string recipe, shard = "0/1";
  };
  auto options = std::make_shared<Options>();
  command.add_option("RECIPE", options->recipe, "a recipe's file, or the name of one that comes with evoke")->required();
  command.add_option("--shard", options->shard, "i/n: only the i-th (from 0) of n parts of the chains; evoke merge joins the runs")
      ->capture_default_str();
  add_common(command, *options, Takes::writing);
  command.footer(tables_help);
  return [options] {
    begin_verb(*options);
    return sample_and_say(options->recipe, shard_named(options->shard), *options);
  };
}

}  // namespace evoke
