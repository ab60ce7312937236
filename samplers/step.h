// What the kernels share: sizes of rows, the end of a step, and the best code so far.
#pragma once
#include <ATen/TensorOperators.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/where.h>

#include <limits>

#include "core/nouns/nouns.h"

namespace evoke {

/// Euclidean norm of each row, [N,…] -> [N].
inline Tensor row_norm(const Tensor& t) { return at::linalg_vector_norm(t.flatten(1), 2, at::IntArrayRef{1}); }

/// t / mean|t|, row by row; a row of zeros stays zero. [N,…] -> [N,…].
inline Tensor over_mean_magnitude(const Tensor& t) { return t / per_row(t.abs().flatten(1).mean(1).clamp_min(1e-37), t.dim()); }

/// mask ? a : b row by row; mask [N], a and b [N,…].
inline Tensor choose_rows(const Tensor& mask, const Tensor& a, const Tensor& b) { return at::where(per_row(mask, a.dim()), a, b); }

/// Ends a step at z: the target there, and how far each row moved.
inline Transition arrive(const State& from, Tensor z, Tensors carry, const Target& target, Stream& stream) {
  Info info;
  info.moved = row_norm(z - from.z);
  Evaluation at = target.evaluate(z, stream);
  return {{std::move(z), std::move(at), std::move(carry)}, std::move(info)};
}

/// Keeps "best_value" [N] and "best_code" [N,…] in a kernel's carry; a value that is NaN is never the best.
inline void keep_best(Tensors& carry, const Tensor& z, const Tensor& value) {
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
