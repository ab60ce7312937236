// evoke sample: one recipe, one run directory.
#include <ATen/ATen.h>

#include <cstdio>
#include <iomanip>

#include "core/error.h"
#include "core/log.h"
#include "experiments/menus.h"
#include "experiments/options.h"
#include "experiments/report/report.h"
#include "experiments/sample.h"
#include "experiments/verbs.h"

namespace evoke {

namespace {

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

int sample_and_say(const std::string& recipe_name, const Shard& shard, bool no_report, const CommonOptions& options) {
  Recipe recipe = Recipe::load(recipe_file(recipe_name), overrides(options));
  const bool was_reported = is_reported(options.out);
  const std::optional<nlohmann::json> units = sample_into(assemble(recipe), options.out, {.title = "sample", .shard = shard});
  if (!units) return 130;
  if (!no_report && !was_reported && shard.count == 1) report_run(options.out);
  if (interrupted()) return 130;
  const std::string picture = options.out + "/contact_sheet.png", results = options.out + "/results.h5";
  answer(options, table_of(*units) + picture + "\n" + results + report_line(options.out),
         {{"run", options.out}, {"results", results}, {"picture", picture}, {"units", *units}});
  return 0;
}

}  // namespace

Action sample_verb(CLI::App& command) {
  struct Options : CommonOptions {
    std::string recipe, shard = "0/1";
    bool no_report = false;
  };
  auto options = std::make_shared<Options>();
  command.add_option("RECIPE", options->recipe, "a recipe's file, or the name of one that comes with evoke")->required();
  command.add_option("--shard", options->shard, "i/n: only the i-th (from 0) of n parts of the chains; evoke merge joins the runs")
      ->capture_default_str();
  add_no_report(command, options->no_report);
  add_common(command, *options, Takes::writing);
  command.footer([] { return "A recipe is TOML with a table a noun; options with their defaults:\n\n" + tables_help(sampling_tables()); });
  return [options] {
    begin_verb(*options);
    return sample_and_say(options->recipe, shard_named(options->shard), options->no_report, *options);
  };
}

}  // namespace evoke
