// The figures of a judgement: shares and medians with their 95 % intervals, percentiles, and how many different pictures there are.
#pragma once
#include "core/numbers/tensor.h"

namespace evoke {

/// A figure and the ends of its 95 % interval; all NaN where there is nothing to measure.
struct Interval {
  double value = 0, low = 0, high = 0;
};

/// The share `successes / trials` with Wilson's score interval:
///     (p + z²/2n ± z·√(p(1−p)/n + z²/4n²)) / (1 + z²/n), z = 1.959964
/// (Wilson 1927, Eq. 6). Throws Failure::usage unless 0 ≤ successes ≤ trials.
Interval wilson(int64_t successes, int64_t trials);

/// The median of `values` [N] with a percentile bootstrap interval from `resamples` resamples of N rows drawn with the stream of `seed`
/// (Efron 1979). An even number of values has the mean of the middle two as its median. NaNs are left out.
Interval bootstrap_median(const Tensor& values, uint64_t seed, int64_t resamples = 1000);

/// Where `values` [N] fall among `reference` [M], in percent: 100·(values below + half of the equal ones)/M, float64 [N] on the CPU.
/// Throws Failure::usage when the reference is empty.
Tensor percentile_among(const Tensor& values, const Tensor& reference);

/// The effective number of different rows of `features` [N,…]: exp(−Σ λ·log λ), λ the eigenvalues of K/N, K the cosine of every two rows
/// (Friedman & Dieng 2023, Eq. 3). N equal rows give 1, N orthogonal ones N; a row of zeros equals only other rows of zeros. NaN where N =
/// 0.
double vendi_score(const Tensor& features);

}  // namespace evoke
