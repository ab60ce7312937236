// One sampling run: the nouns of a recipe, joined, started, moved and read out.
#pragma once
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "core/nouns/nouns.h"
#include "core/recipes/recipe.h"
#include "core/records/run_directory.h"

namespace evoke {

/// The table [run] of a sampling recipe.
struct RunTable {
  int64_t chains = 8, steps = 200, seed = 0;
  std::string start = "auto";
  int64_t search_draws = 512, stride = 1, snapshots = 0, checkpoint = 0, threads = 0;
  std::string device = "auto";
  double objective_weight = 1.0;
};
inline void describe(Fields& f, RunTable& o) {
  f("chains", o.chains, "chains",
    "chains per unit; dataset_examples keeps so many pictures of each unit, and so does random_search unless it has a keep", {1, 1e6});
  f("steps", o.steps, "steps", "length of each chain; random_search and dataset_examples need none", {0, 1e9});
  f("seed", o.seed, "", "of every random stream of the run", {0, 9e15});
  f.choice("start", o.start,
           "where chains begin: at draws of the prior, the generator's customary point, the best of search_draws draws of the prior, or "
           "real images of [data] through the encoder; auto: prior where it can draw, else generator",
           {"auto", "prior", "generator", "search", "data"});
  f("search_draws", o.search_draws, "draws", "how many codes start = \"search\" looks at; one pass serves all units", {1, 1e9});
  f("stride", o.stride, "steps", "between two records of the trace; a search keeps at most 256", {1, 1e9});
  f("snapshots", o.snapshots, "steps", "between two pictures of every chain; 0 keeps only the last", {0, 1e9});
  f("checkpoint", o.checkpoint, "steps", "between two checkpoints, beside one every 20 s; 0: only those", {0, 1e9});
  f("objective_weight", o.objective_weight, "", "the objective's factor beside [prior] weight; 0 samples the prior alone", non_negative);
  f("threads", o.threads, "threads", "of LibTorch on the CPU; 0: one a core", {0, 1024});
  f("device", o.device, "auto (CUDA if present), cpu, cuda or cuda:N");
}

/// The table [data]: where real images come from.
struct DataTable {
  std::string file;
};
inline void describe(Fields& f, DataTable& o) { f.path("file", o.file, "dataset of real images (HDF5, made by evoke data)"); }

/// The sampler kind "dataset_examples": no synthesis, the training images that excite each unit most.
struct DatasetExamplesOptions {
  int64_t images = 0;
};
inline void describe(Fields& f, DatasetExamplesOptions& o) {
  f("images", o.images, "images", "of the training split that are looked at; 0: all", {0, 1e12});
}

/// The nouns of a recipe, on their device, and how they are to be run. Rows are units × chains, unit-major: row u·chains + c.
struct Experiment {
  at::Device device{at::kCPU};
  Classifier classifier;
  Objective objective;            // one column a unit
  std::vector<UnitPlace> places;  // what the columns are
  Generator generator;
  std::optional<Prior> prior;
  Target target;       // what is climbed
  Target plain;        // the objective alone, without transform, prior and weights: what pictures are scored by
  std::string method;  // the sampler's kind
  Sampler sampler;     // no step for dataset_examples
  DatasetExamplesOptions examples;
  RunTable run;                                               // random_search: chains is its keep, steps what its draws need
  Tensor rows;                                                // int64 [N]: the column of each row
  int64_t images_per_step = 0;                                // pictures the classifier looks at in a step…
  int64_t most_images = std::numeric_limits<int64_t>::max();  // …and at most in all
  bool row_by_row = true;                                     // a row's score does not depend on the others in its batch
  std::string data;                                           // the dataset's file; may be empty
  std::string config;                                         // the recipe, resolved
  std::vector<std::string> files;                             // every file that was read
};

/// Reads every table of a sampling recipe ([classifier], [objective], [generator], [prior], [transform], [sampler], [run], [data]) and
/// makes the nouns. Refuses unread tables and a sampler that cannot have what it needs. Sets LibTorch's threads.
Experiment assemble(Recipe&);

/// How a run is watched; what is computed does not depend on it.
struct SampleRequest {
  std::string title = "sample";       // of the progress line
  RunDirectory* directory = nullptr;  // where checkpoints go and are taken up from; none: nothing is written
};

/// What a run gives, in memory.
struct Sampled {
  Results results;
  std::vector<std::string> captions;  // a row: "logits:54 rainbow double triangle  12.3"
  std::vector<std::string> units;     // U names as the objective has them: "logits:54"
  double seconds = 0;                 // of this process, start to last picture
  int64_t images = 0;                 // how many pictures the classifier looked at (chain-steps, draws or dataset images)
  bool interrupted = false;           // SIGINT: results hold where the chains stand; a directory holds a checkpoint
};

/// Runs it. Chains draw from streams 0 … rows-1 of the seed, so a resumed run is bit-identical to an uninterrupted one (on the CPU).
/// `activation` is the objective without transform and weights, at the codes the run ends with (ascent: at its best). random_search and
/// dataset_examples sort the pictures of each unit, best first.
Sampled sample(const Experiment&, const SampleRequest& = {});
/// assemble and sample.
Sampled sample(Recipe&, const SampleRequest& = {});

/// "logits:54" with its label where the classifier has one: "logits:54 rainbow double triangle".
std::string unit_caption(const Classifier&, const std::string& unit);
/// "layer:unit" or "layer:unit@y,x" taken apart.
UnitPlace unit_place(const std::string& unit);

/// The objective of every unit for images in [0,1] ([N,C,H,W], any device), 64 at a time, without transform: float32 [N,U] on the CPU.
Tensor score_images(const Classifier&, const Objective&, const Tensor& images, at::Device);

}  // namespace evoke
