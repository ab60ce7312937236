// Unadjusted Langevin: a step uphill and exact noise.
#pragma once
#include <cmath>

#include "core/recipes/recipe.h"
#include "samplers/step.h"

namespace evoke {

struct LangevinOptions {
  double step_size = 0.05;
  double gradient_clip = 0.0;
  double temperature = 1.0;
  std::string precision = "auto";
};
inline void describe(Fields& f, LangevinOptions& o) {
  f("step_size", o.step_size, "code units", "τ, standard deviation of a step's noise at temperature 1", positive);
  f("gradient_clip", o.gradient_clip, "1/code units", "a row's gradient that is longer is shortened to this norm; 0: never", non_negative);
  f("temperature", o.temperature, "", "T: the chain wanders in proportion to π^(1/T); 0 climbs without noise", non_negative);
  describe_precision(f, o.precision);
}

/// Unadjusted Langevin algorithm (Roberts & Tweedie 1996), ξ ~ N(0, 1) for each coordinate:
///
///     z ← z + (τ²/2)·∂log π/∂z + τ·√T·ξ
///
/// Nothing is rejected, so the law it reaches differs from π by O(τ²): for π = N(0, 1), T = 1 and h = τ²/2 its variance is 1/(1 − h/2), and
/// it is stable for h < 2. With gradient_clip a gradient longer than c is multiplied by c/|g|, which flattens π's steepest slopes. A step
/// that leaves the bounds of a bounded prior (a box) is mirrored back at them (reflected Langevin; Tanaka 1979), so the chain has the law
/// of π within the box.
inline Sampler langevin(const LangevinOptions& options, const Prior& prior = {}) {
  Sampler sampler{.name = "langevin", .needs_exact_target = false, .init = {}, .step = {}};
  sampler.init = [](const Tensor& z, const Target& target, Stream& stream) { return State{z, target.evaluate(z, stream), {}}; };
  sampler.step = [options, prior](const State& state, const Target& target, Stream& stream) {
    Tensor g = state.at.gradient;
    if (options.gradient_clip > 0) g = g * broadcast_rows((options.gradient_clip / row_norm(g)).clamp_max(1.0), g.dim());
    const Tensor noise = stream.normal(g.sizes().slice(1));
    const double tau = options.step_size;
    const Tensor z = state.z + (0.5 * tau * tau) * g + (tau * std::sqrt(options.temperature)) * noise;
    return arrive(state, mirrored(z, prior), state.carry, target, stream);
  };
  return sampler;
}

}  // namespace evoke
