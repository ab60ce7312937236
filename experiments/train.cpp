// evoke train: one recipe, one run directory with weights.
#include "experiments/train.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <filesystem>

#include "core/error.h"
#include "core/log.h"
#include "core/storage/hdf5.h"
#include "experiments/menus.h"
#include "experiments/options.h"
#include "experiments/verbs.h"
#include "training/menu.h"

namespace evoke {

namespace {

std::string lines_of(const Trained& trained) {
  std::string out;
  for (const auto& [name, value] : trained.figures.items())
    if (value.is_number()) out += text(name, " ", value.get<double>(), "\n");
  return out + trained.weights;
}

}  // namespace

Trained train_into(const std::string& recipe_name, const std::vector<Override>& overrides, const std::string& out) {
  Recipe recipe = Recipe::load(recipe_name, overrides);
  const TrainingPlan plan = plan_training(recipe);
  const at::Device device = recipe.about("training", {"device"}, [&] { return device_named(plan.device); });
  set_threads(plan.threads);
  for (const std::string& input : plan.inputs)
    require(std::filesystem::is_regular_file(input), Failure::input, "train: found no file ", input,
            "; expected a dataset (evoke data) or weights (evoke train)");

  RunDirectory directory = RunDirectory::open(out, "train", plan.config, plan.inputs);
  Trained trained;
  trained.weights = directory.file("weights.safetensors");
  trained.reused = directory.done();
  if (trained.reused) {
    say("train: " + out + " holds this very training, finished; nothing to do");
    trained.figures = directory.manifest().value("figures", nlohmann::json::object());
    return trained;
  }
  say(text("train: ", plan.kind, " on ", plan.inputs.at(0)));
  try {
    directory.manifest()["kind"] = plan.kind;
    directory.manifest()["seed"] = plan.seed;
    directory.manifest()["device"] = device.str();
    directory.manifest()["threads"] = at::get_num_threads();
    directory.save_manifest();
    trained.figures = plan.train(directory, device, interrupted);
    if (trained.figures.value("interrupted", false)) {
      directory.finish("interrupted");
      say("train: interrupted and saved; the same command goes on from here");
      trained.code = 130;
      return trained;
    }
    directory.finish("done");
  } catch (...) {
    directory.finish("failed");
    throw;
  }
  return trained;
}

Action train_verb(CLI::App& command) {
  struct Options : CommonOptions {
    std::string recipe, data;
  };
  auto options = std::make_shared<Options>();
  command.add_option("RECIPE", options->recipe, "a recipe's file, or the name of one that comes with evoke (train_classifier…)")
      ->required();
  command.add_option("--data", options->data, "dataset to train on (HDF5, made by evoke data) [default: the recipe's]")->type_name("FILE");
  add_common(command, *options, Takes::writing);
  command.footer([] {
    return "A recipe is TOML: kind = \"…\" on its first line, then tables; options with their defaults:\n\n" +
           tables_help(training_tables());
  });
  return [options] {
    begin_verb(*options);
    std::vector<Override> more = overrides(*options, "training");
    if (!options->data.empty())
      more.emplace_back("data.file=" + nlohmann::json(std::filesystem::absolute(options->data).string()).dump(), "--data");
    const Trained trained = train_into(recipe_file(options->recipe), more, options->out);
    if (trained.code == 0)
      answer(*options, lines_of(trained), {{"run", options->out}, {"weights", trained.weights}, {"figures", trained.figures}});
    return trained.code;
  };
}

}  // namespace evoke
