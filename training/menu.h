// What a training recipe trains.
#pragma once
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/recipes/menu.h"
#include "core/records/run_directory.h"

namespace evoke {

/// Where a training recipe's data come from.
struct TrainingInputs {
  std::string file;
};
inline void describe(Fields& f, TrainingInputs& o) { f.path("file", o.file, "dataset to train on (HDF5, made by evoke data)"); }

/// Everything that a training recipe says, read and checked before work begins.
struct TrainingPlan {
  std::string kind;    // classifier, autoencoder, vae, inverter, gan, codes, denoiser or critic
  std::string config;  // the recipe, resolved
  std::string device;  // auto, cpu, cuda…
  int64_t threads = 0, seed = 0;
  std::vector<std::string> inputs;  // the files it reads
  /// Trains into the directory: weights.safetensors, metrics.jsonl, checkpoint.safetensors while it runs, figures in the manifest under
  /// "figures". Goes on from a checkpoint that is there. The answer's "interrupted" is true when stop asked for it: the caller exits with
  /// 130.
  std::function<nlohmann::json(RunDirectory&, at::Device, const std::function<bool()>& stop)> train;
};

/// Reads the tables of a training recipe: top level `kind`; [data] file; [encoder], for what learns from codes; [classifier], for what
/// looks through one; [network]; [training] (the loop and what the kind adds). [network]'s channels, height, width and classes are the
/// dataset's unless the recipe says otherwise, which is refused. Throws Failure::input for a kind that does not exist, for unread tables,
/// and for a dataset that is none.
TrainingPlan plan_training(Recipe&);

/// The kinds, with the options of each table, for --help.
std::vector<MenuEntry> training_menu();

}  // namespace evoke
