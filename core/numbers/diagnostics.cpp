#include "core/numbers/diagnostics.h"

#include <ATen/ATen.h>

#include <cmath>

#include "core/error.h"

namespace evoke {

namespace {

// [S,N] as halves [n,2N], in double, on the CPU.
Tensor halves(const Tensor& draws, const char* where) {
  require(draws.defined() && draws.dim() == 2 && draws.size(0) >= 4 && draws.size(1) >= 1, Failure::usage, where, ": found draws of shape ",
          draws.defined() ? shape_text(draws.sizes()) : "none", ", expected [S,N] with S ≥ 4 steps of N ≥ 1 chains");
  const Tensor all = draws.detach().to(at::kCPU, at::kDouble);
  const int64_t n = all.size(0) / 2;
  return at::cat({all.slice(0, 0, n), all.slice(0, all.size(0) - n)}, 1);
}

struct Spread {
  double within, total;  // W, and (n−1)/n·W + B/n
};
Spread spread(const Tensor& chains) {
  const auto n = static_cast<double>(chains.size(0));
  const double within = chains.var(0, /*unbiased=*/true).mean().item<double>();
  return {within, (n - 1) / n * within + chains.mean(0).var(/*unbiased=*/true).item<double>()};
}

}  // namespace

double split_r_hat(const Tensor& draws) {
  const Spread s = spread(halves(draws, "split_r_hat"));
  return std::sqrt(s.total / s.within);
}

double effective_sample_size(const Tensor& draws) {
  const Tensor chains = halves(draws, "effective_sample_size");
  const int64_t n = chains.size(0);
  const auto total = static_cast<double>(chains.numel());
  const Spread s = spread(chains);
  if (!(s.within > 0)) return std::nan("");

  // Autocovariances of all lags at once: the power spectrum of the padded chains, transformed back.
  const Tensor centred = chains - chains.mean(0, true);
  const Tensor spectrum = at::fft_rfft(centred, 2 * n, 0);
  const Tensor covariance = at::fft_irfft(spectrum * spectrum.conj(), 2 * n, 0).slice(0, 0, n).mean(1) / static_cast<double>(n);
  const auto lag = covariance.accessor<double, 1>();
  const auto rho = [&](int64_t t) {
    return t == 0 ? 1.0 : 1 - (s.within - lag[t] * static_cast<double>(n) / static_cast<double>(n - 1)) / s.total;
  };

  // Pairs while they are positive, and never rising.
  double sum = 0, least = INFINITY;
  for (int64_t t = 0; t + 1 < n; t += 2) {
    const double pair = rho(t) + rho(t + 1);
    if (pair <= 0) break;
    least = std::min(least, pair);
    sum += least;
  }
  return total / std::max(2 * sum - 1, 1 / std::log10(total));
}

}  // namespace evoke
