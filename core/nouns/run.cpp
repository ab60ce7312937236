#include "core/nouns/run.h"

#include <ATen/ATen.h>

#include "core/error.h"

namespace evoke {

namespace {

// Remembers on the device the first step at which each row stopped being finite; looking at it waits for the device.
class Watch {
 public:
  void see(const State& state, int64_t step) {
    // Three times the step, plus what was found: 0 a code, 1 a score, 2 a gradient that is not finite, the first of them.
    const auto not_finite = [](const Tensor& t) { return ~at::isfinite(t.flatten(1)).all(1); };
    const auto note = [&](const Tensor& bad, int64_t what) {
      if (!first_bad_.defined()) first_bad_ = at::full_like(bad, -1, at::TensorOptions(at::kLong));
      first_bad_ = first_bad_.masked_fill(bad & (first_bad_ < 0), 3 * step + what);
    };
    note(not_finite(state.z), 0);
    if (state.at.value.defined()) note(at::isnan(state.at.value), 1);
    if (state.at.gradient.defined()) note(not_finite(state.at.gradient), 2);
  }
  void look(const RunOptions& options) const {
    if (!first_bad_.defined() || (first_bad_ < 0).all().item<bool>()) return;
    const Tensor bad = first_bad_.cpu(), chains = options.chains.cpu();
    for (int64_t row = 0; row < bad.size(0); ++row)
      if (const auto found = bad[row].item<int64_t>(); found >= 0)
        fail(Failure::runtime, "run: chain ", chains[row].item<int64_t>(), " stopped being finite at step ", found / 3, ": its ",
             found % 3 == 0   ? "code is not finite"
             : found % 3 == 1 ? "score is NaN though its code is finite"
                              : "gradient is not finite though its code is",
             "; expected finite codes and values: take a smaller step, or look for NaN in the network's activations (evoke inspect) and "
             "weights");
  }

 private:
  Tensor first_bad_;
};

}  // namespace

State begin(const Sampler& sampler, const Target& target, const Tensor& z0, const RunOptions& options) {
  require(!sampler.needs_exact_target || target.exact, Failure::runtime, "run: sampler ", sampler.name, " compares densities, but target ",
          target.name, " knows only a slope or draws a random transform; leave the transform out and take a prior with a log density");
  require(options.chains.defined() && options.chains.size(0) == z0.size(0), Failure::runtime, "run: found ",
          options.chains.defined() ? options.chains.size(0) : 0, " chains for ", z0.size(0), " rows of z; expected one each");
  require(at::isfinite(z0).all().item<bool>(), Failure::runtime, "run: the starting codes hold a value that is not finite");
  Stream stream(options.seed, options.chains, -1);
  return sampler.init(z0, target, stream);
}

State run(const Sampler& sampler, const Target& target, State state, const RunOptions& options, const Observer& observer) {
  Watch watch;
  for (int64_t step = options.first_step; step < options.steps; ++step) {
    Stream stream(options.seed, options.chains, step);
    Transition next = sampler.step(state, target, stream);
    state = std::move(next.state);
    watch.see(state, step);
    if (step % 32 == 31) watch.look(options);
    if (observer) observer(step, state, next.info);
    if (options.save && options.save_due && options.save_due(step)) {
      watch.look(options);
      options.save(step, state);
    }
    if (options.stop && options.stop()) break;
  }
  watch.look(options);
  return state;
}

State run(const Sampler& sampler, const Target& target, const Tensor& z0, const RunOptions& options, const Observer& observer) {
  return run(sampler, target, begin(sampler, target, z0, options), options, observer);
}

Tensors pack(const State& state) {
  Tensors out{{"z", state.z}};
  if (state.at.value.defined()) out["value"] = state.at.value;
  if (state.at.gradient.defined()) out["gradient"] = state.at.gradient;
  for (const auto& [name, tensor] : state.at.terms) out["terms/" + name] = tensor;
  for (const auto& [name, tensor] : state.carry) out["carry/" + name] = tensor;
  return out;
}

State unpack(const Tensors& tensors) {
  require(tensors.contains("z"), Failure::input, "checkpoint: found no codes 'z'; it is not a sampler's checkpoint");
  State state;
  for (const auto& [name, tensor] : tensors) {
    if (name == "z")
      state.z = tensor;
    else if (name == "value")
      state.at.value = tensor;
    else if (name == "gradient")
      state.at.gradient = tensor;
    else if (name.starts_with("terms/"))
      state.at.terms[name.substr(6)] = tensor;
    else if (name.starts_with("carry/"))
      state.carry[name.substr(6)] = tensor;
  }
  return state;
}

}  // namespace evoke
