// evoke sample: one recipe, one run directory.
#include <ATen/ATen.h>

#include <cstdio>
#include <iomanip>

#include "core/error.h"
#include "core/log.h"
#include "experiments/menus.h"
#include "experiments/options.h"
#include "experiments/sample.h"
#include "experiments/verbs.h"

namespace evoke {

namespace {

// A line a unit, with the spread of its pictures.
nlohmann::json summary_of(const Sampled& sampled, int64_t chains) {
  nlohmann::json units = nlohmann::json::array();
  for (size_t unit = 0; unit < sampled.units.size(); ++unit) {
    const Tensor own = sampled.results.activation.slice(0, static_cast<int64_t>(unit) * chains, static_cast<int64_t>(unit + 1) * chains);
    units.push_back({{"unit", sampled.units[unit]},
                     {"lowest", own.min().item<double>()},
                     {"mean", own.mean().item<double>()},
                     {"highest", own.max().item<double>()}});
  }
  return units;
}

std::string table_of(const nlohmann::json& units) {
  std::ostringstream out;
  size_t width = 6;
  for (const auto& unit : units) width = std::max(width, unit["unit"].get<std::string>().size() + 2);
  out << std::left << std::setw(static_cast<int>(width)) << "unit" << std::right << std::setw(12) << "lowest" << std::setw(12) << "mean"
      << std::setw(12) << "highest"
      << "\n"
      << std::setprecision(4);
  for (const auto& unit : units)
    out << std::left << std::setw(static_cast<int>(width)) << unit["unit"].get<std::string>() << std::right << std::setw(12)
        << unit["lowest"].get<double>() << std::setw(12) << unit["mean"].get<double>() << std::setw(12) << unit["highest"].get<double>()
        << "\n";
  return out.str();
}

int answer_of(const CommonOptions& options, const RunDirectory& directory, nlohmann::json units) {
  const nlohmann::json object{{"run", directory.path()},
                              {"results", directory.file("results.h5")},
                              {"picture", directory.file("contact_sheet.png")},
                              {"units", units}};
  answer(options, table_of(units) + directory.file("contact_sheet.png") + "\n" + directory.file("results.h5"), object);
  return 0;
}

int sample_into(const std::string& recipe_name, const std::string& out, const CommonOptions& options) {
  Recipe recipe = Recipe::load(recipe_file(recipe_name), overrides(options));
  const Experiment experiment = assemble(recipe);
  RunDirectory directory = RunDirectory::open(out, "sample", experiment.config);
  if (directory.done()) {
    say("sample: " + out + " holds this very run, finished; nothing to do");
    return answer_of(options, directory, directory.manifest().value("units", nlohmann::json::array()));
  }
  try {
    directory.manifest()["seed"] = experiment.run.seed;
    directory.manifest()["device"] = experiment.device.str();
    for (const std::string& file : experiment.files) directory.add_input(file);
    directory.save_manifest();
    detail("sample: " + experiment.target.name);
    say(text("sample: ", experiment.places.size(), " units × ", experiment.run.chains, " chains by ", experiment.method));

    const Sampled sampled = sample(experiment, {"sample " + experiment.method, &directory});
    if (sampled.interrupted) {
      directory.finish("interrupted");
      say("sample: interrupted and saved; the same command goes on from here");
      return 130;
    }
    const nlohmann::json units = summary_of(sampled, experiment.run.chains);
    for (const nlohmann::json& unit : units) directory.metric(unit);
    save_results(directory, sampled.results, sampled.captions);
    directory.manifest()["units"] = units;
    directory.manifest()["images_seen"] = sampled.images;
    directory.manifest()["sampling_seconds"] = sampled.seconds;
    directory.finish("done");
    std::remove(directory.file("checkpoint.safetensors").c_str());
    return answer_of(options, directory, units);
  } catch (...) {
    directory.finish("failed");
    throw;
  }
}

}  // namespace

Action sample_verb(CLI::App& command) {
  struct Options : CommonOptions {
    std::string recipe;
  };
  auto options = std::make_shared<Options>();
  command.add_option("RECIPE", options->recipe, "a recipe's file, or the name of one that comes with evoke")->required();
  add_common(command, *options, Takes::writing);
  command.footer([] { return "A recipe is TOML with a table a noun; options with their defaults:\n\n" + tables_help(sampling_tables()); });
  return [options] {
    begin_verb(*options);
    return sample_into(options->recipe, options->out, *options);
  };
}

}  // namespace evoke
