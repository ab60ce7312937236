// One sampling run: the nouns of a recipe, joined, started, moved and read out, a block of chains at a time.
#pragma once
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "core/records/results.h"
#include "experiments/experiment.h"
#include "experiments/shard.h"

namespace evoke {

/// How a run is watched; what is computed does not depend on it.
struct SampleRequest {
  std::string title = "sample";       // of the progress line
  RunDirectory* directory = nullptr;  // where parts and checkpoints go and are taken up from; none: results are kept in memory
  Shard shard{};
};

/// What a run gives.
struct Sampled {
  Results results;  // without a directory; with one they are in its results.h5, and only activation, columns, labels, chain and status here
  double seconds = 0;        // of this process, start to last picture
  int64_t images = 0;        // how many pictures the classifier looked at in the whole run (chain-steps or draws)
  bool interrupted = false;  // SIGINT, SIGTERM or SIGHUP: a directory holds a checkpoint
};

/// Runs it, block by block: as many chains at a time as memory allows (run.batch), each block from its start to its last picture, so that
/// memory grows neither with chains nor with units, and the first pictures are there early. A chain's random numbers are a function of what
/// it climbs and its index, and on the CPU a block of few chains is filled up, so that the bits of a result depend neither on blocks, nor
/// on shards, nor on interruptions. Where memory runs out after all, the block is halved, which is said once. `activation` is the objective
/// without transform and weights, at the codes the run ends with (ascent: at its best). A search sorts the pictures of each unit, best
/// first. A directory gets parts/*.h5 as the blocks end, then results.h5, images/*.png and contact_sheet.png.
Sampled sample(const Experiment&, const SampleRequest& = {});
/// Runs into the run directory `out`, new or taken up again, and ends it: units, metrics, manifest. Gives a line a unit {unit, lowest,
/// mean, highest}, from what is there where the run was finished before; nothing where it was interrupted (and saved).
std::optional<nlohmann::json> sample_into(const Experiment&, const std::string& out, SampleRequest);
/// Activation, chain, columns, labels and status of `more` behind those of `all`.
void append_summary(Results& all, const Results& more);
/// Ends a run whose results.h5 and pictures are there: metrics.jsonl, the manifest's units and its status. results: activation and columns.
nlohmann::json record_run(RunDirectory&, const Results&);
/// assemble and sample.
Sampled sample(Recipe&, const SampleRequest& = {});

/// The objective of every column for images in [0,1] ([N,C,H,W], any device), 64 at a time, without transform: float32 [N,U] on the CPU.
Tensor score_images(const Classifier&, const Objective&, const Tensor& images, at::Device);

}  // namespace evoke
