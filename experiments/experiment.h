// From a recipe to nouns: the one place where a sampling recipe becomes a classifier, an objective, a generator, a prior, a sampler and the
// run that joins them.
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/nouns/nouns.h"
#include "core/recipes/recipe.h"

namespace evoke {

/// The table [run] of a sampling recipe.
struct RunTable {
  int64_t chains = 8, steps = 200, seed = 0;
  std::string start = "auto", starts, exemplars;
  int64_t search_draws = 512, stride = 1, snapshots = 0, checkpoint = 0, threads = 0, batch = 0, redirected = 0;
  double memory = 4.0;
  std::string device = "auto";
  double objective_weight = 1.0;
};
void describe(Fields&, RunTable&);

/// The table [data]: where real images come from.
struct DataTable {
  std::string file;
};
void describe(Fields&, DataTable&);

/// Some chains that go through the networks together, with what moves them.
struct Block {
  Tensor columns;  // int64 [B], the column of the objective that each chain climbs
  Tensor chains;   // int64 [B], the numbers of their random streams (chain_number)
  Target target;   // what is climbed; its rows are these chains
  Sampler sampler;
};

/// The nouns of a recipe, on their device, and how they are to be run. There are columns × run.chains chains, those of a column side by
/// side.
struct Experiment {
  at::Device device{at::kCPU};
  Classifier classifier;
  std::vector<Column> columns;  // what is asked for, U columns
  std::vector<bool> silent;     // of each column: real images never excite its unit, as run.exemplars says; empty: not known
  Objective objective;          // their scores, without penalties
  Generator generator;
  std::optional<Encoder> encoder;  // of real images, where there is one
  std::optional<Prior> prior;
  Target scores;            // the objective alone at a code, without transform, prior and weights: what pictures are scored by
  std::string method;       // the sampler's name, for people
  bool searches;            // the sampler looks for all columns at once and sorts what it keeps
  bool needs_start;         // it goes on from starting codes
  bool rows_independent;    // what a chain climbs, penalties included, does not depend on the others in its block
  bool bfloat16 = false;    // what is climbed goes through the networks in bfloat16; pictures are scored in float32
  RunTable run;             // of a search: chains is its keep, steps what its draws need
  int64_t views = 1;        // pictures of each code that the classifier looks at in one step
  int64_t images_seen = 0;  // pictures that the classifier looks at in the whole run
  /// The chains `first` to `first + count - 1` of all, filled up with copies of the last one where these are fewer than `least`. Chains of
  /// one column stay together where rows are not independent: the caller sees to that.
  std::function<Block(int64_t first, int64_t count, int64_t least)> block;
  std::string data;                // the dataset's file; may be empty
  std::string config;              // the recipe, resolved
  std::vector<std::string> files;  // every file that was read

  int64_t rows() const { return static_cast<int64_t>(columns.size()) * run.chains; }
};

/// Reads every table of a sampling recipe ([classifier], [objective], [generator], [encoder], [prior], [transform], [sampler], [run],
/// [data]) and makes the nouns. Refuses unread tables and a sampler that cannot have what it needs. Sets LibTorch's threads.
Experiment assemble(Recipe&);

/// What a comparison overrides so that a recipe's run shows the classifier `budget` pictures in all: a search draws so many codes; chains
/// take budget / (rows · views) steps, what a start = "search" draws taken off first. Throws Failure::usage where that leaves no step.
std::vector<std::string> budget_overrides(const Experiment&, int64_t budget);

/// A column as a person reads it, with its label where the classifier has one: "logits:54 rainbow double triangle".
std::string caption_of(const Column&, const Classifier&);

/// The rows of a dataset's training split, int64 [M], at least one. Throws Failure::input where there are none, or no such arrays.
Tensor training_rows(const std::string& file);

}  // namespace evoke
