// Gradient ascent, the best code kept.
#pragma once
#include <ATen/ops/arange.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <array>
#include <cmath>

#include "core/error.h"
#include "core/recipes/recipe.h"
#include "samplers/step.h"

namespace evoke {

struct AscentOptions {
  std::string rule = "adam";
  double step_size = 0.05;
  double decay = 0.0;
  double ball = 0.0;
  double gradient_blur = 0.0;
  double beta1 = 0.9, beta2 = 0.999;
  std::string precision = "auto";
};
inline void describe(Fields& f, AscentOptions& o) {
  f.choice("rule", o.rule, "how a gradient becomes a step: adam, nadam, sgd (step_size · g), or normalized (of length step_size)",
           {"adam", "nadam", "sgd", "normalized"});
  f("step_size", o.step_size, "code units", "length of a step (adam and nadam: of each of its coordinates)", step_length);
  f("decay", o.decay, "share a step", "how much of the code is taken away after each step; 0: nothing", share);
  f("ball", o.ball, "code units", "radius of an L2 ball about 0 that each code is kept in; 0: none", non_negative);
  f("gradient_blur", o.gradient_blur, "px", "standard deviation of a Gaussian blur of the gradient, for codes that are images; 0: none",
    {0.0, 100.0});
  f("beta1", o.beta1, "", "adam, nadam: how much of the mean gradient is kept from step to step", {0.0, 0.9999999});
  f("beta2", o.beta2, "", "adam, nadam: how much of the mean squared gradient is kept from step to step", {0.0, 0.9999999});
  describe_precision(f, o.precision);
}

/// Convolves [N,C,H,W] with a Gaussian of this standard deviation in px, cut at 3 of them, zeros beyond the border.
inline Tensor gaussian_blurred(const Tensor& image, double deviation) {
  const auto reach = static_cast<int64_t>(std::ceil(3 * deviation));
  const Tensor offset = at::arange(-reach, reach + 1, image.options());
  Tensor weight = (offset * offset / (-2 * deviation * deviation)).exp();
  weight = (weight / weight.sum()).view({1, 1, 1, -1}).repeat({image.size(1), 1, 1, 1});
  const std::array<int64_t, 2> one{1, 1}, wide{0, reach}, tall{reach, 0};
  const Tensor across = at::conv2d(image, weight, Tensor(), one, wide, one, image.size(1));
  return at::conv2d(across, weight.transpose(2, 3).contiguous(), Tensor(), one, tall, one, image.size(1));
}

/// Climbs the gradient g = ∂log π/∂z:
///
///     adam:        m ← β1·m + (1−β1)·g,  v ← β2·v + (1−β2)·g²,  z ← z + τ·m̂/(√v̂ + 1e-8)   (Kingma & Ba 2015, Alg. 1, upwards)
///     nadam:       z ← z + τ·(β1·m/(1−β1^(t+1)) + (1−β1)·g/(1−β1^t))/(√v̂ + 1e-8)           (Dozat 2016, with one β1)
///     sgd:         z ← z + τ·g                                                             (Simonyan 2014)
///     normalized:  z ← z + τ·g/|g|                                                         (Erhan 2009, with steps of one length)
///
/// then z ← (1−decay)·z, with ball = r > 0, z ← z·min(1, r/|z|), row by row, and z is clipped to the bounds of a bounded prior. With
/// gradient_blur, g is blurred first (z must be [N,C,H,W]; Failure::usage otherwise). carry: "best_value" [N] and "best_code" [N,…] over
/// all steps, the start included, where the target's values can be compared (see keep_best); adam's and nadam's "mean", "square" [N,…] and
/// "count" [N], which is kept for each row so that a row can be started anew.
inline Sampler ascent(const AscentOptions& options, const Prior& prior = {}) {
  Sampler sampler{.name = "ascent", .needs_exact_target = false, .init = {}, .step = {}};
  const bool adaptive = options.rule == "adam" || options.rule == "nadam";
  sampler.init = [options, adaptive](const Tensor& z, const Target& target, Stream& stream) {
    require(options.gradient_blur == 0 || z.dim() == 4, Failure::usage, "ascent: found codes of shape ", shape_text(z.sizes()),
            ", expected images [N,C,H,W] for gradient_blur; set gradient_blur = 0");
    State state{z, target.evaluate(z, stream), {}};
    keep_best(state.carry, z, state.at.value, target);
    if (adaptive) {
      state.carry["mean"] = at::zeros_like(z);
      state.carry["square"] = at::zeros_like(z);
      state.carry["count"] = at::zeros({z.size(0)}, z.options());
    }
    return state;
  };
  sampler.step = [options, adaptive, prior](const State& state, const Target& target, Stream& stream) {
    Tensors carry = state.carry;
    Tensor g = state.at.gradient;
    if (options.gradient_blur > 0) g = gaussian_blurred(g, options.gradient_blur);

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
    Transition next = arrive(state, std::move(z), std::move(carry), target, stream);
    keep_best(next.state.carry, next.state.z, next.state.at.value, target);
    return next;
  };
  return sampler;
}

}  // namespace evoke
