// evoke train: one recipe, one run directory with weights.
#include "core/error.h"
#include "core/log.h"
#include "core/tensor.h"
#include "experiments/options.h"
#include "experiments/verbs.h"
#include "training/menu.h"

namespace evoke {

namespace {

std::string tables_help() {
  std::string out = "A training recipe is TOML: kind = \"…\", then the tables\n\n";
  for (const std::string& kind : training_kinds())
    for (const auto& [table, options] : training_help(kind)) out += help_section("[" + table + "] for kind = \"" + kind + "\"", options) + "\n";
  out.pop_back();
  return out;
}

int said(const CommonOptions& options, const RunDirectory& directory, const nlohmann::json& figures) {
  std::string line;
  for (const auto& [name, value] : figures.items())
    if (name.starts_with("test_") || name == "validation" || name == "sliced_distance") line += text(name, "  ", value.dump(), "\n");
  answer(options, line + directory.file("weights.safetensors"),
         {{"run", directory.path()}, {"weights", directory.file("weights.safetensors")}, {"figures", figures}});
  return 0;
}

}  // namespace

int train_into(Recipe& recipe, const std::string& out, const CommonOptions& options) {
  const TrainingPlan plan = plan_training(recipe);
  const at::Device device = device_named(plan.device);
  set_threads(plan.threads);
  RunDirectory directory = RunDirectory::open(out, "train", plan.config);
  if (directory.done()) {
    say("train: " + out + " holds this very training, finished; nothing to do");
    return said(options, directory, directory.manifest().value("figures", nlohmann::json::object()));
  }
  try {
    directory.manifest()["seed"] = plan.seed;
    directory.manifest()["device"] = device.str();
    for (const std::string& file : plan.inputs) directory.add_input(file);
    directory.save_manifest();
    const nlohmann::json figures = plan.train(directory, device, interrupted);
    if (figures.at("interrupted").get<bool>()) {
      directory.finish("interrupted");
      say("train: interrupted and saved; the same command goes on from here");
      return 130;
    }
    directory.finish("done");
    std::remove(directory.file("checkpoint.safetensors").c_str());
    return said(options, directory, figures);
  } catch (...) {
    directory.finish("failed");
    throw;
  }
}

Action train_verb(CLI::App& command) {
  struct Options : CommonOptions {
    std::string recipe, data;
  };
  auto options = std::make_shared<Options>();
  command.add_option("RECIPE", options->recipe, "a training recipe's file, or the name of one that comes with evoke")->required();
  command.add_option("--data", options->data, "the dataset (HDF5); the recipe's [data] file otherwise");
  add_common(command, *options, Takes::writing);
  command.footer(tables_help);
  return [options] {
    begin_verb(*options);
    std::vector<std::string> set = overrides(*options, "training");
    if (!options->data.empty()) set.push_back("data.file=" + options->data);
    Recipe recipe = Recipe::load(recipe_file(options->recipe), set);
    return train_into(recipe, options->out, *options);
  };
}

Action demo_verb(CLI::App&) {
  return []() -> int { fail(Failure::usage, "demo: not there yet"); };
}

}  // namespace evoke
