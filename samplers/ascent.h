// Gradient ascent, the best code kept.
#pragma once
#include <ATen/ops/full_like.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>

#include "core/error.h"
#include "core/recipes/recipe.h"
#include "samplers/operators.h"
#include "samplers/step.h"

namespace evoke {

struct AscentOptions {
  std::string rule = "adam";
  double step_size = 0.05;
  double decay = 0.0;
  double ball = 0.0;
  int64_t octaves = 1;
  double octave_scale = 1.4;
  double beta1 = 0.9, beta2 = 0.999;
  std::string precision = "auto";
};
inline void describe(Fields& f, AscentOptions& o) {
  f.choice("rule", o.rule, "how a gradient becomes a step: adam, nadam, sgd (step_size · g), or normalized (of length step_size)",
           {"adam", "nadam", "sgd", "normalized"});
  f("step_size", o.step_size, "code units", "length of a step (adam and nadam: of each of its coordinates)", step_length);
  f("decay", o.decay, "share a step", "how much of the code is taken away after each step; 0: nothing", share);
  f("ball", o.ball, "code units", "radius of an L2 ball about 0 that each code is kept in; 0: none", non_negative);
  f("octaves", o.octaves, "",
    "sizes of an image that the run goes through: it begins at the smallest and goes on from what it found, enlarged; each has as many "
    "steps",
    {1, 64});
  f("octave_scale", o.octave_scale, "", "how much larger the side of an image is in the next octave", {1.0, 16.0});
  f("beta1", o.beta1, "", "adam, nadam: how much of the mean gradient is kept from step to step", {0.0, 0.9999999});
  f("beta2", o.beta2, "", "adam, nadam: how much of the mean squared gradient is kept from step to step", {0.0, 0.9999999});
  describe_precision(f, o.precision);
}

/// What an ascent on images applies beside its own rule.
struct AscentOperators {
  std::vector<Operator> gradient, after;
  Canvas canvas;  // for what they keep
};

/// Climbs the gradient g = ∂log π/∂z:
///
///     adam:        m ← β1·m + (1−β1)·g,  v ← β2·v + (1−β2)·g²,  z ← z + τ·m̂/(√v̂ + 1e-8)   (Kingma & Ba 2015, Alg. 1, upwards)
///     nadam:       z ← z + τ·(β1·m/(1−β1^(t+1)) + (1−β1)·g/(1−β1^t))/(√v̂ + 1e-8)           (Dozat 2016, with one β1)
///     sgd:         z ← z + τ·g                                                             (Simonyan 2014)
///     normalized:  z ← z + τ·g/|g|                                                         (Erhan 2009, with steps of one length)
///
/// then z ← (1−decay)·z, with ball = r > 0, z ← z·min(1, r/|z|), row by row, and z is clipped to the bounds of a bounded prior; last come
/// the operators, z ← r(z), one after another, each at the steps that it is due at. Operators on gradients work on g before all this.
/// carry: "best_value" [N] and "best_code" [N,…] over all steps, the start included, where the target's values can be compared (see
/// keep_best). After operators the start does not count, and where one is not due at every step no best is kept: it would be the image that
/// was looked at before the operator. adam's and nadam's "mean", "square" [N,…] and "count" [N], which is kept for each row so that a row
/// can be started anew; and "gradient_kept_i", "after_kept_i", what operator i keeps. `octaves` is left to samplers/octaves.h.
inline Sampler ascent(const AscentOptions& options, const Prior& prior = {}, const AscentOperators& operators = {}) {
  Sampler sampler{.name = "ascent", .needs_exact_target = false, .init = {}, .step = {}};
  sampler.capturable = operators.gradient.empty() && operators.after.empty();  // they count steps
  const bool adaptive = options.rule == "adam" || options.rule == "nadam";
  const bool compares = std::all_of(operators.after.begin(), operators.after.end(), [](const Operator& one) { return one.every == 1; });

  const auto kept = [](const std::string& list, const std::vector<Operator>& of, const Tensors& carry) {
    std::vector<Tensor> out;
    for (size_t i = 0; i < of.size(); ++i) out.push_back(of[i].keep ? carry.at(text(list, "_kept_", i)) : Tensor());
    return out;
  };
  sampler.init = [options, adaptive, operators, compares](const Tensor& z, const Target& target, Stream& stream) {
    State state{z, target.evaluate(z, stream), {}};
    const bool operates = !operators.after.empty();
    const Tensor value = operates ? at::full_like(state.at.value, -std::numeric_limits<double>::infinity()) : state.at.value;
    if (compares) keep_best(state.carry, z, value, target);
    if (adaptive) {
      state.carry["mean"] = at::zeros_like(z);
      state.carry["square"] = at::zeros_like(z);
      state.carry["count"] = at::zeros({z.size(0)}, z.options());
    }
    for (const auto& [list, of] : {std::pair{"gradient", &operators.gradient}, std::pair{"after", &operators.after}}) {
      const std::vector<Tensor> keeps = kept_by(*of, operators.canvas, z, stream);
      for (size_t i = 0; i < keeps.size(); ++i)
        if (keeps[i].defined()) state.carry[text(list, "_kept_", i)] = keeps[i];
    }
    return state;
  };
  sampler.step = [options, adaptive, prior, operators, compares, kept](const State& state, const Target& target, Stream& stream) {
    Tensors carry = state.carry;
    const Seen seen{state.z, state.at.gradient, {}};
    Tensor g = state.at.gradient;
    if (!operators.gradient.empty()) g = applied(operators.gradient, g, seen, kept("gradient", operators.gradient, carry), stream.step());

    if (adaptive) {
      const Tensor count = carry["count"] + 1;
      carry["mean"] = options.beta1 * carry["mean"] + (1 - options.beta1) * g;
      carry["square"] = options.beta2 * carry["square"] + (1 - options.beta2) * g * g;
      carry["count"] = count;
      const Tensor left = broadcast_rows(1 - at::pow(options.beta1, count), g.dim());
      Tensor mean = carry["mean"] / left;
      if (options.rule == "nadam")
        mean =
            options.beta1 * carry["mean"] / broadcast_rows(1 - at::pow(options.beta1, count + 1), g.dim()) + (1 - options.beta1) * g / left;
      const Tensor square = carry["square"] / broadcast_rows(1 - at::pow(options.beta2, count), g.dim());
      g = mean / (square.sqrt() + 1e-8);
    } else if (options.rule == "normalized") {
      g = g / broadcast_rows(row_norm(g).clamp_min(1e-37), g.dim());
    }

    Tensor z = (1 - options.decay) * (state.z + options.step_size * g);
    if (options.ball > 0) z = z * broadcast_rows((options.ball / row_norm(z).clamp_min(1e-37)).clamp_max(1.0), z.dim());
    if (prior.low.defined()) z = clipped(z, prior.low, prior.high);
    if (!operators.after.empty()) z = applied(operators.after, z, seen, kept("after", operators.after, carry), stream.step());
    Transition next = arrive(state, std::move(z), std::move(carry), target, stream);
    if (compares) keep_best(next.state.carry, next.state.z, next.state.at.value, target);
    return next;
  };
  return sampler;
}

}  // namespace evoke
