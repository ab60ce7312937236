// DGN-AM: normalized steps through a decoder, the code kept within the range that codes have.
#pragma once
#include <ATen/ops/clamp.h>
#include <ATen/ops/minimum.h>

#include <algorithm>

#include "core/error.h"
#include "core/recipes/recipe.h"
#include "samplers/step.h"

namespace evoke {

struct DgnAmOptions {
  int64_t steps = 200;  // over which the step size falls; the run's own number of steps
  double step_size = 8.0, last_step_size = 1e-10;
  double decay = 0.99;
  std::string clip = "prior";
  double low = 0.0, high = 30.0;
  bool as_released = false;
  std::string precision = "auto";
};
inline void describe(Fields& f, DgnAmOptions& o) {
  f("step_size", o.step_size, "code units", "mean magnitude of the first step's coordinates", positive);
  f("last_step_size", o.last_step_size, "code units", "and of the last step's; linear in between", positive);
  f("decay", o.decay, "", "what the code is multiplied by after each step", share);
  f.choice("clip", o.clip, "which range codes are kept in: the prior's (none where it has none), low … high, or none",
           {"prior", "options", "none"});
  f("low", o.low, "code units", "least value of a coordinate, for clip = options");
  f("high", o.high, "code units", "greatest value of a coordinate, for clip = options");
  f("as_released", o.as_released, "clip to 0 … the prior's high (mean + 3σ), and let step t of S be t/S of the way, as the authors' code");
  describe_precision(f, o.precision);
}

/// Deep generator network activation maximization (Nguyen 2016, §2 and released code), for a target without a prior:
///
///     g = ∂a_y/∂x,  x' = x + τ·g/mean|g|,  g_h = Jᵀ(x' − x),  h ← decay · clip(h + τ·g_h/mean|g_h|, low, high)
///
/// with J = ∂x/∂h. g_h is (τ/mean|g|)·Jᵀg, and Jᵀg = ∂a_y/∂h: the normalization of the image step is a positive factor of each row, and the
/// normalization of the code step divides it out. So the step is h ← decay · clip(h + τ·d/mean|d|, low, high) with d = ∂log π/∂h, and no
/// image gradient is needed. τ falls linearly from step_size to last_step_size over `steps`. Start at h ~ N(0, 1). The prior gives nothing
/// but its range. carry: "best_value" [N], "best_code" [N,…], where the target's values can be compared (see keep_best). Throws
/// Failure::usage for as_released when the prior has no high, and for a low above high. Differs: by default codes are clipped to the
/// prior's own range, which need not begin at 0: only codes after a ReLU do.
inline Sampler dgn_am(const DgnAmOptions& options, const Prior& prior = {}) {
  require(!options.as_released || prior.high.defined(), Failure::usage, "dgn_am: as_released clips codes to 0 … mean + 3σ, but the prior",
          prior.name.empty() ? "" : " ", prior.name, " has no range; choose a box or gaussian prior, or set as_released = false");
  require(options.clip != "options" || options.low < options.high, Failure::usage, "dgn_am: found low = ", options.low,
          " and high = ", options.high, "; expected low below high");
  Sampler sampler{.name = "dgn_am", .needs_exact_target = false, .init = {}, .step = {}};
  sampler.init = [](const Tensor& z, const Target& target, Stream& stream) {
    State state{z, target.evaluate(z, stream), {}};
    keep_best(state.carry, z, state.at.value, target);
    return state;
  };
  sampler.step = [options, low = prior.low, high = prior.high](const State& state, const Target& target, Stream& stream) {
    const int64_t last = options.as_released ? options.steps : options.steps - 1;
    const Tensor way =
        (stream.step_tensor().to(at::kDouble) / static_cast<double>(std::max<int64_t>(last, 1))).clamp_max(last > 0 ? 1.0 : 0.0);
    const Tensor tau = options.step_size + (options.last_step_size - options.step_size) * way;

    Tensor z = state.z + tau * over_mean_magnitude(state.at.gradient);
    if (options.as_released) {
      z = at::minimum(z.clamp_min(0), high);
    } else if (options.clip == "options") {
      z = z.clamp(options.low, options.high);
    } else if (options.clip == "prior") {
      z = clipped(z, low, high);
    }

    Transition next = arrive(state, options.decay * z, state.carry, target, stream);
    keep_best(next.state.carry, next.state.z, next.state.at.value, target);
    return next;
  };
  return sampler;
}

}  // namespace evoke
