// The one training loop: Adam, a schedule, validation, early stop, checkpoints.
#pragma once
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/nouns/nouns.h"
#include "core/recipes/recipe.h"

namespace evoke {

struct LoopOptions {
  int64_t epochs = 12, batch = 64;
  double learning_rate = 1e-3, warm_up = 0.05, final_rate = 0.01;
  double beta1 = 0.9, beta2 = 0.999, weight_decay = 1e-4, gradient_clip = 1.0;
  double average = 0.0;
  int64_t patience = 0, seed = 0, threads = 0;
  std::string precision = "float32", device = "auto";
};
inline void describe(Fields& f, LoopOptions& o) {
  f("epochs", o.epochs, "epochs", "passes over the training rows", {1, 1e6});
  f("batch", o.batch, "rows", "rows of a step", {1, 65536});
  f("learning_rate", o.learning_rate, "", "Adam's step size at its highest", more_than_zero(100));
  f("warm_up", o.warm_up, "share of all steps", "over which the rate rises from 0", share);
  f("final_rate", o.final_rate, "share of learning_rate", "where the rate ends, along half a cosine", share);
  f("beta1", o.beta1, "", "how much of the mean gradient is kept", {0, 0.99999});
  f("beta2", o.beta2, "", "how much of the mean squared gradient is kept", {0, 0.9999999});
  f("weight_decay", o.weight_decay, "1/learning rate", "decoupled (Loshchilov & Hutter 2019)", non_negative);
  f("gradient_clip", o.gradient_clip, "", "a longer gradient of a group is shortened to this norm; 0: never", non_negative);
  f("average", o.average, "share", "of the weights' running mean kept at each step; what is validated and saved is the mean; 0: none",
    {0, 0.999999});
  f("patience", o.patience, "epochs", "without a better validation before the training stops; 0: never early", non_negative);
  f("seed", o.seed, "", "of the order, the noise and the initial weights", {0, 9e15});
  f("threads", o.threads, "threads", "of LibTorch on the CPU; 0: one a core; another number rounds otherwise, and gives other weights",
    {0, 1024});
  f.choice("precision", o.precision,
           "of the products while learning; bfloat16 is about twice as fast where the processor has it, which auto finds out; weights and "
           "validation are float32",
           {"float32", "bfloat16", "auto"});
  f("device", o.device, "auto (CUDA if present), cpu, cuda or cuda:N");
}

/// A task to train. Weights come in groups, each with its own optimizer (a GAN has two), stepped in turn on every batch.
struct Task {
  int64_t rows = 0;             // training rows
  std::vector<Tensors> groups;  // leaf tensors that take gradients; changed in place
  std::vector<double> rates;    // a factor on the learning rate for each group; empty: 1
  /// The loss of a group on some rows (int64 [B] on the CPU), under "loss", smaller is better; other names are recorded beside it.
  /// noise: chains 0 … B-1, at the step's number.
  std::function<Tensors(size_t group, const Tensor& rows, Stream& noise)> losses;
  /// Figures of the weights as they stand in the groups, under "validation" the one that decides, smaller is better. No gradient is on.
  std::function<std::map<std::string, double>()> validate;
  /// The order in which an epoch visits the rows, int64 [rows], a function of its arguments alone. Empty: any order is as likely as
  /// another.
  std::function<Tensor(uint64_t seed, int64_t epoch)> order;
  /// The last weights are kept, whatever `validate` says: in a game of two groups it does not say which are better.
  bool keep_last = false;
};

/// Where a training leaves its traces.
struct LoopContext {
  std::string title;                 // of the progress line
  std::string checkpoint;            // a file; empty: none. There from an earlier run: the training goes on from it, on the CPU bit for bit
  double checkpoint_seconds = 20.0;  // how often, beside the end of every epoch
  std::function<void(const std::map<std::string, double>&)> record;  // a line an epoch: epoch, rate, means of the losses, validation
  std::function<void(int64_t)> recorded;  // told at the start how many epochs have their line already; what came later is written again
  std::function<bool()> stop;             // asked after each step; true saves and ends the loop
};

struct LoopResult {
  int64_t epochs = 0, best_epoch = 0;        // counted from 1
  std::map<std::string, double> validation;  // of the best epoch
  bool interrupted = false;
};

/// Trains, and leaves the best validated weights in the groups (the running means where `average` is on). Rows come in an order drawn from
/// (seed, epoch), the last short batch left out unless it is the only one. Throws Failure::runtime when a loss is not finite, with the
/// step.
LoopResult learn(Task&, const LoopOptions&, const LoopContext&);

}  // namespace evoke
