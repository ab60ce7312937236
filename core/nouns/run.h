// The one loop that moves chains.
#pragma once
#include "core/nouns/nouns.h"

namespace evoke {

struct RunOptions {
  int64_t steps = 200;  // the run ends after step number `steps - 1`
  uint64_t seed = 0;
  Tensor chains;               // int64 [N], which stream each row draws from, on the device of z
  int64_t first_step = 0;      // where a resumed run goes on
  std::function<bool()> stop;  // asked after each step; true ends the run there. Empty: never.

  /// Checkpoints: asked after each step whether its state is to be saved. Where it is, the loop first looks whether everything is finite,
  /// so that no state is saved from which a run cannot go on. Called after the observer. Empty: never.
  std::function<bool(int64_t step)> save_due;
  std::function<void(int64_t step, const State&)> save;
};

/// Called after every step with its number; records, draws progress.
using Observer = std::function<void(int64_t step, const State&, const Info&)>;

/// The state before the first step: the kernel's init at z0, with the streams at step -1.
/// Throws Failure::runtime when the kernel needs an exact target and this one is not, or when z0 is not finite.
State begin(const Sampler&, const Target&, const Tensor& z0, const RunOptions&);

/// Steps first_step … steps-1 from `state`. Every 32 steps, before each save and at the end the loop waits for the device and looks whether
/// a code, value or gradient stopped being finite (a value may be -∞), and throws Failure::runtime naming the first chain and the step.
State run(const Sampler&, const Target&, State state, const RunOptions&, const Observer& = {});

/// begin and run.
State run(const Sampler&, const Target&, const Tensor& z0, const RunOptions&, const Observer& = {});

/// State as named tensors, for a checkpoint, and back: "z", "value", "gradient", "terms/…", "carry/…".
Tensors pack(const State&);
State unpack(const Tensors&);

}  // namespace evoke
