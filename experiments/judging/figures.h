// The figures of a judgement: shares and medians with their 95 % intervals, percentiles, and how many different pictures there are.
#pragma once
#include <functional>

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

/// The mean of `values` [N], NaNs left out, with the same kind of interval.
Interval bootstrap_mean(const Tensor& values, uint64_t seed, int64_t resamples = 1000);

/// Any figure of `count` ≥ 1 rows, ± 1.96 standard deviations of what `resamples` resamples give: `figure` is given rows, int64 [count].
/// Rows that occur twice bias a distance between distributions upwards, so its resampled values say how far it varies and not where it
/// lies (Efron & Tibshirani 1993, Section 13.2).
Interval bootstrap(int64_t count, const std::function<double(const Tensor& rows)>& figure, uint64_t seed, int64_t resamples = 200);

/// Where `values` [N] fall among `reference` [M], in percent: 100·(values below + half of the equal ones)/M, float64 [N] on the CPU.
/// Throws Failure::usage when the reference is empty.
Tensor percentile_among(const Tensor& values, const Tensor& reference);

/// The effective number of different rows of `features` [N,…]: exp(−Σ λ·log λ), λ the eigenvalues of K/N, K the cosine of every two rows
/// (Friedman & Dieng 2023, Eq. 3). N equal rows give 1, N orthogonal ones N; a row of zeros equals only other rows of zeros. NaN where N =
/// 0.
double vendi_score(const Tensor& features);

/// The k-nearest-neighbour manifold of points: a ball about each, as far as its k-th nearest neighbour among the others
/// (Kynkäänniemi 2019, Eq. 1).
struct Manifold {
  Tensor points;  // float [M,D]
  Tensor radii;   // float64 [M]
};
/// Throws Failure::usage unless 1 ≤ k < M.
Manifold manifold_of(const Tensor& points, int64_t k);
/// |x - p_j|/r_j, float64 [N,M]: at most 1 where a query [N,D] lies in the ball of point j.
Tensor nearness_to_each(const Manifold&, const Tensor& queries);
/// min_j |x - p_j|/r_j, float64 [N]: at most 1 for a query [N,D] that lies in a ball.
Tensor nearness(const Manifold&, const Tensor& queries);
/// The same of the manifold's own points, each as if its own ball were not there: float64 [M].
Tensor nearness_left_out(const Manifold&);
/// Shares in both directions (Kynkäänniemi 2019, Eq. 2): of `pictures` [N,D] inside the manifold of `real` [M,D], and of `real` inside that
/// of `pictures`; Wilson's intervals, which know nothing of how the balls themselves would vary. NaN where N or M ≤ k.
struct PrecisionRecall {
  Interval precision, recall;
};
PrecisionRecall precision_recall(const Tensor& real, const Tensor& pictures, int64_t k);

/// The slope of log power over log frequency of each image, float64 [N]: images [N,C,H,W] → the mean of their channels, minus its own mean,
/// times a Hann window; |FFT|² averaged over rings of equal round(S·f), f in cycles a pixel, S = min(H,W); a line fitted by least squares
/// to the rings 2 … S/2. About -2 to -3 for photographs (Field 1987), 0 for white noise; NaN where a ring has no power. Throws
/// Failure::usage for sides below 8.
Tensor spectrum_slope(const Tensor& images);

}  // namespace evoke
