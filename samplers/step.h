// What the kernels share: an option, sizes of rows, the bounds of a prior, the end of a step, and the best code so far.
#pragma once
#include <ATen/TensorOperators.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/minimum.h>
#include <ATen/ops/where.h>

#include <limits>

#include "core/nouns/nouns.h"
#include "core/recipes/recipe.h"

namespace evoke {

/// The option that every kernel has which follows the gradient. It is the target's to keep (SamplerPlan, PosteriorOptions).
inline void describe_precision(Fields& f, std::string& precision) {
  f.choice("precision", precision,
           "of the networks' products for the gradient: bfloat16 rounds what goes into them to about two digits, while codes, sums and the "
           "scores of the results stay float32; auto: bfloat16 where the machine multiplies it itself and is about twice as fast, float32 "
           "otherwise",
           {"auto", "float32", "bfloat16"});
}

/// Euclidean norm of each row, [N,…] -> [N].
inline Tensor row_norm(const Tensor& t) { return at::linalg_vector_norm(t.flatten(1), 2, at::IntArrayRef{1}); }

/// t / mean|t|, row by row; a row of zeros stays zero. [N,…] -> [N,…].
inline Tensor over_mean_magnitude(const Tensor& t) { return t / broadcast_rows(t.abs().flatten(1).mean(1).clamp_min(1e-37), t.dim()); }

/// mask ? a : b row by row; mask [N], a and b [N,…].
inline Tensor choose_rows(const Tensor& mask, const Tensor& a, const Tensor& b) { return at::where(broadcast_rows(mask, a.dim()), a, b); }

/// z with the coordinates outside low … high [latent…] set on these bounds; an undefined bound is none.
inline Tensor clipped(Tensor z, const Tensor& low, const Tensor& high) {
  if (low.defined()) z = at::maximum(z, low);
  return high.defined() ? at::minimum(z, high) : z;
}

/// z mirrored at the bounds of a bounded prior, as often as it takes to lie within; any other prior leaves z as it is. A random walk that
/// is mirrored keeps the uniform law of the box, where one that is clipped piles up on its faces, and one that is let go never returns,
/// because the density has no slope outside.
inline Tensor mirrored(const Tensor& z, const Prior& prior) {
  if (!prior.low.defined()) return z;
  const Tensor side = prior.high - prior.low, way = (z - prior.low).remainder(2 * side.clamp_min(1e-37));
  const Tensor inside = (z >= prior.low).logical_and(z <= prior.high);
  return at::where(inside, z, clipped(prior.high - (way - side).abs(), prior.low, prior.high));
}

/// Ends a step at z: the target there, and how far each row moved.
inline Transition arrive(const State& from, Tensor z, Tensors carry, const Target& target, Stream& stream) {
  Info info;
  info.moved = row_norm(z - from.z);
  Evaluation at = target.evaluate(z, stream);
  return {{std::move(z), std::move(at), std::move(carry)}, std::move(info)};
}

/// Keeps "best_value" [N] and "best_code" [N,…] in a kernel's carry; a value that is NaN is never the best. Where the target's values
/// cannot be compared nothing is kept, and the last code is what the climb has found: under a random transform the highest value is the
/// luckiest draw, and beside a prior that knows only its slope it is the code that the prior was asked least about.
inline void keep_best(Tensors& carry, const Tensor& z, const Tensor& value, const Target& target) {
  if (!target.comparable) return;
  if (!carry.contains("best_value")) {
    carry["best_value"] = at::where(value.isnan(), -std::numeric_limits<double>::infinity(), value);
    carry["best_code"] = z;
    return;
  }
  const Tensor better = value > carry["best_value"];
  carry["best_value"] = at::where(better, value, carry["best_value"]);
  carry["best_code"] = choose_rows(better, z, carry["best_code"]);
}

}  // namespace evoke
