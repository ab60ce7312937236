#include "experiments/judging/figures.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/error.h"
#include "core/numbers/linear_algebra.h"
#include "core/numbers/stream.h"

namespace evoke {
namespace {

constexpr double kNothing = std::numeric_limits<double>::quiet_NaN();

// Medians of the rows of `values` [R,N], N ≥ 1.
Tensor medians(const Tensor& values) {
  const int64_t count = values.size(1);
  const Tensor sorted = std::get<0>(values.sort(1));
  return (sorted.select(1, (count - 1) / 2) + sorted.select(1, count / 2)) / 2;
}

Tensor without_nan(const Tensor& values) {
  const Tensor all = values.detach().to(at::kCPU, at::kDouble).flatten();
  return all.index({all.isnan().logical_not()});
}

// int64 [resamples,count]. One chain a resample: the interval does not depend on how many resamples are drawn together.
Tensor resampled_rows(int64_t count, uint64_t seed, int64_t resamples) {
  require(resamples > 0, Failure::usage, "bootstrap: found ", resamples, " resamples, expected at least 1");
  Stream stream = Stream::range(seed, 0, resamples);
  return (stream.uniform({count}).to(at::kDouble) * count).floor().to(at::kLong).clamp(0, count - 1);
}

// The value with the ends that 95 % of the resampled values [R] leave out.
Interval between(double value, const Tensor& resampled) {
  const Tensor sorted = std::get<0>(resampled.sort());
  const int64_t last = sorted.size(0) - 1;
  const auto at_share = [&](double share) {
    return sorted[std::clamp<int64_t>(std::llround(share * static_cast<double>(last)), 0, last)].item<double>();
  };
  return {value, at_share(0.025), at_share(0.975)};
}

// Distances between every two rows, float64 [N,M].
Tensor distances(const Tensor& a, const Tensor& b) { return at::cdist(a.to(at::kDouble), b.to(at::kDouble), 2.0, 1); }

constexpr int64_t rows_at_once = 512;  // of distances to all points

// distance / radius, where a ball without extent holds its own centre.
Tensor share_of_radius(const Tensor& distance, const Tensor& radii) {
  return at::where(distance.le(radii), (distance / radii).nan_to_num(0).clamp_max(1), distance / radii);
}

}  // namespace

Interval wilson(int64_t successes, int64_t trials) {
  require(successes >= 0 && successes <= trials, Failure::usage, "wilson: found ", successes, " successes in ", trials,
          " trials, expected 0 ≤ successes ≤ trials");
  if (trials == 0) return {kNothing, kNothing, kNothing};
  const double z = 1.959963984540054, n = static_cast<double>(trials), p = static_cast<double>(successes) / n;
  const double centre = p + z * z / (2 * n), reach = z * std::sqrt(p * (1 - p) / n + z * z / (4 * n * n)), scale = 1 + z * z / n;
  // The ends are 0 and 1 exactly at no and at all successes; rounding must not say otherwise.
  const double low = successes == 0 ? 0.0 : (centre - reach) / scale, high = successes == trials ? 1.0 : (centre + reach) / scale;
  return {p, low, high};
}

Interval bootstrap_median(const Tensor& values, uint64_t seed, int64_t resamples) {
  const Tensor kept = without_nan(values);
  if (kept.numel() == 0) return {kNothing, kNothing, kNothing};
  return between(medians(kept.unsqueeze(0)).item<double>(), medians(kept.index({resampled_rows(kept.size(0), seed, resamples)})));
}

Interval bootstrap_mean(const Tensor& values, uint64_t seed, int64_t resamples) {
  const Tensor kept = without_nan(values);
  if (kept.numel() == 0) return {kNothing, kNothing, kNothing};
  return between(kept.mean().item<double>(), kept.index({resampled_rows(kept.size(0), seed, resamples)}).mean(1));
}

Interval bootstrap(int64_t count, const std::function<double(const Tensor& rows)>& figure, uint64_t seed, int64_t resamples) {
  require(count >= 1, Failure::usage, "bootstrap: found no rows, expected at least one");
  const Tensor rows = resampled_rows(count, seed, resamples);
  std::vector<double> figures;
  for (int64_t i = 0; i < resamples; ++i) figures.push_back(figure(rows[i]));
  const double value = figure(at::arange(count, at::kLong));
  const double reach = resamples > 1 ? 1.959963984540054 * at::tensor(figures, at::kDouble).std().item<double>() : 0.0;
  return {value, value - reach, value + reach};
}

Tensor percentile_among(const Tensor& values, const Tensor& reference) {
  require(reference.numel() > 0, Failure::usage, "percentile_among: found no reference values, expected at least one");
  const Tensor sorted = std::get<0>(reference.detach().to(at::kCPU, at::kDouble).flatten().sort());
  const Tensor wanted = values.detach().to(at::kCPU, at::kDouble).contiguous();
  const Tensor below = at::searchsorted(sorted, wanted), at_most = at::searchsorted(sorted, wanted, false, true);
  return (below + at_most).to(at::kDouble) * (50.0 / static_cast<double>(sorted.size(0)));
}

double vendi_score(const Tensor& features) {
  const int64_t count = features.size(0);
  if (count == 0) return kNothing;
  const Tensor flat = features.detach().to(at::kCPU, at::kDouble).reshape({count, -1});
  // A row of zeros has no direction; it gets one of its own, so that the kernel's diagonal is 1 everywhere.
  const Tensor length = flat.norm(2, 1, true), silent = length.eq(0).to(at::kDouble);
  const Tensor unit = at::cat({flat / (length + silent), silent}, 1);
  const Tensor gram = (count <= unit.size(1) ? unit.mm(unit.t()) : unit.t().mm(unit)) / static_cast<double>(count);
  const Tensor eigenvalues = symmetric_eigenvalues(gram).clamp_min(0);
  return std::exp(-at::special_xlogy(eigenvalues, eigenvalues).sum().item<double>());
}

Manifold manifold_of(const Tensor& points, int64_t k) {
  const int64_t count = points.size(0);
  require(k >= 1 && k < count, Failure::usage, "manifold: found ", count, " points, expected more than ", std::max<int64_t>(k, 1),
          ", the number of neighbours");
  std::vector<Tensor> radii;
  for (int64_t first = 0; first < count; first += rows_at_once) {
    const Tensor part = points.slice(0, first, first + rows_at_once);
    // A point is its own nearest neighbour, whatever rounding says.
    Tensor distance = distances(part, points);
    distance.diagonal(first).fill_(-1);
    radii.push_back(std::get<0>(distance.kthvalue(k + 1, 1)));
  }
  return {points, at::cat(radii)};
}

Tensor nearness_to_each(const Manifold& manifold, const Tensor& queries) {
  return share_of_radius(distances(queries, manifold.points), manifold.radii);
}

Tensor nearness(const Manifold& manifold, const Tensor& queries) {
  std::vector<Tensor> out{at::empty({0}, at::kDouble)};
  for (int64_t first = 0; first < queries.size(0); first += rows_at_once)
    out.push_back(nearness_to_each(manifold, queries.slice(0, first, first + rows_at_once)).amin(1));
  return at::cat(out);
}

Tensor nearness_left_out(const Manifold& manifold) {
  std::vector<Tensor> out;
  for (int64_t first = 0; first < manifold.points.size(0); first += rows_at_once) {
    Tensor share = nearness_to_each(manifold, manifold.points.slice(0, first, first + rows_at_once));
    share.diagonal(first).fill_(std::numeric_limits<double>::infinity());
    out.push_back(share.amin(1));
  }
  return at::cat(out);
}

PrecisionRecall precision_recall(const Tensor& real, const Tensor& pictures, int64_t k) {
  if (real.size(0) <= k || pictures.size(0) <= k) return {wilson(0, 0), wilson(0, 0)};
  const auto inside = [&](const Tensor& balls, const Tensor& points) {
    return wilson(nearness(manifold_of(balls, k), points).le(1).sum().item<int64_t>(), points.size(0));
  };
  return {inside(real, pictures), inside(pictures, real)};
}

Tensor spectrum_slope(const Tensor& images) {
  const int64_t height = images.size(2), width = images.size(3), side = std::min(height, width);
  require(side >= 8, Failure::usage, "spectrum_slope: found images of ", height, "×", width, ", expected sides of 8 or more");
  Tensor grey = images.detach().to(at::kCPU, at::kDouble).mean(1);
  grey = grey - grey.mean({1, 2}, true);
  const auto double_ = at::TensorOptions(at::kDouble);
  grey = grey * at::hann_window(height, double_).unsqueeze(1) * at::hann_window(width, double_);
  const Tensor power = at::fft_fft2(grey).abs().square().flatten(1);

  // The ring of each frequency; those beyond S/2, in the corners, are in none.
  const Tensor y = at::fft_fftfreq(height, 1.0, double_).unsqueeze(1), x = at::fft_fftfreq(width, 1.0, double_);
  const Tensor ring = (y * y + x * x).sqrt().mul(side).round().to(at::kLong).flatten();
  const int64_t rings = side / 2 + 1;
  const Tensor held = ring.lt(rings).nonzero().squeeze(1), of = ring.index_select(0, held);
  const Tensor sums = at::zeros({images.size(0), rings}, double_).index_add(1, of, power.index_select(1, held));
  const Tensor mean = (sums / at::bincount(of, {}, rings)).slice(1, 2);
  const Tensor log_power = at::where(mean.gt(0), mean.log(), at::full({}, kNothing, double_));
  Tensor log_ring = at::arange(2, rings, double_).log();
  log_ring = log_ring - log_ring.mean();
  return log_power.matmul(log_ring) / log_ring.square().sum();
}

}  // namespace evoke
