// Groups of rows that lie together.
#pragma once
#include <cstdint>

#include "core/numbers/tensor.h"

namespace evoke {

/// Rows in groups, the largest group first.
struct Clusters {
  Tensor centres;     // [K,D], the mean of each group's rows, float64
  Tensor of;          // int64 [N], the group of each row
  double spread = 0;  // Σ |row - its centre|²
};

/// K groups of data [N,D] by Lloyd's algorithm (1982): each row goes to its nearest centre, each centre to the mean of its rows, until no
/// row goes elsewhere or after `iterations` of these. Centres begin at rows drawn one after another, each in proportion to its squared
/// distance to the nearest one drawn before (k-means++; Arthur & Vassilvitskii 2007), by the stream of `seed`. A centre that loses its last
/// row goes to the row that is furthest from its own. On the CPU, in float64. Throws Failure::input unless 1 ≤ K ≤ N, and for numbers that
/// are not finite.
Clusters k_means(const Tensor& data, int64_t count, uint64_t seed, int64_t iterations = 100);

}  // namespace evoke
