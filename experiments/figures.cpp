#include "experiments/figures.h"

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
  require(resamples > 0, Failure::usage, "bootstrap_median: found ", resamples, " resamples, expected at least 1");
  Tensor kept = values.detach().to(at::kCPU, at::kDouble).flatten();
  kept = kept.index({kept.isnan().logical_not()});
  const int64_t count = kept.size(0);
  if (count == 0) return {kNothing, kNothing, kNothing};

  // One chain a resample: the interval does not depend on how many resamples are drawn together.
  Stream stream = Stream::range(seed, 0, resamples);
  const Tensor rows = (stream.uniform({count}).to(at::kDouble) * count).floor().to(at::kLong).clamp(0, count - 1);
  const Tensor sorted = std::get<0>(medians(kept.index({rows})).sort());
  const auto at_share = [&](double share) {
    return sorted[std::clamp<int64_t>(std::llround(share * static_cast<double>(resamples - 1)), 0, resamples - 1)].item<double>();
  };
  return {medians(kept.unsqueeze(0)).item<double>(), at_share(0.025), at_share(0.975)};
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

}  // namespace evoke
