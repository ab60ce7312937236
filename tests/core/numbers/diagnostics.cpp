// R̂ and effective sample size where both are known.
#include "core/numbers/diagnostics.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "core/numbers/stream.h"

namespace evoke {
namespace {

// x_t = φ·x_{t−1} + √(1−φ²)·ξ, started from its own law: [S,N].
Tensor autoregressive(double phi, int64_t steps, int64_t chains, uint64_t seed = 1) {
  Stream stream = Stream::range(seed, 0, chains);
  const Tensor noise = stream.normal({steps}).to(at::kDouble).t().contiguous();
  Tensor out = at::empty_like(noise);
  out[0] = noise[0];
  for (int64_t t = 1; t < steps; ++t) out[t] = phi * out[t - 1] + std::sqrt(1 - phi * phi) * noise[t];
  return out;
}

// Effective draws a draw of an AR(1) chain: (1−φ)/(1+φ). The estimate's own error is some percent at this length.
bool effective_share_is(double measured, double phi) {
  const double expected = (1 - phi) / (1 + phi);
  return std::abs(measured / expected - 1) < 0.08;
}

TEST(EffectiveSampleSize, OfAutoregressiveChains) {
  for (const double phi : {-0.4, 0.0, 0.3, 0.6, 0.9}) {
    const double measured = effective_sample_size(autoregressive(phi, 10000, 8)) / 80000;
    EXPECT_TRUE(effective_share_is(measured, phi)) << phi << ": " << measured;
    EXPECT_FALSE(effective_share_is(measured, phi + 0.07)) << "the check cannot tell " << phi << " from " << phi + 0.07;
  }
}

TEST(EffectiveSampleSize, ChainsThatDisagreeAreWorthLittle) {
  Tensor draws = autoregressive(0.0, 2000, 4);
  const double apart = effective_sample_size(draws + at::tensor({0.0, 3.0, 6.0, 9.0}));
  EXPECT_LT(apart, 50);
  EXPECT_GT(effective_sample_size(draws), 6000);
}

TEST(SplitRHat, OfShiftedChainsInClosedForm) {
  // Two chains of N(±δ, 1) are four halves with means δ, δ, −δ, −δ: the variance of the means is 4δ²/3.
  const int64_t steps = 20000;
  Tensor draws = autoregressive(0.0, steps, 2);
  draws = (draws - draws.mean(0)) / draws.std(0);
  for (const double delta : {0.0, 0.1, 0.5, 2.0}) {
    const double expected = std::sqrt(1 + 4 * delta * delta / 3);
    EXPECT_NEAR(split_r_hat(draws + at::tensor({delta, -delta})), expected, 2e-3) << delta;
  }
}

TEST(SplitRHat, SeesADriftWithinOneChain) {
  const Tensor draws = autoregressive(0.0, 4001, 1);
  EXPECT_LT(split_r_hat(draws), 1.01);
  EXPECT_GT(split_r_hat(draws + at::linspace(0, 3, 4001, at::kDouble).unsqueeze(1)), 1.3);
}

TEST(Diagnostics, RefuseShapesAndMarkConstants) {
  EXPECT_THROW(split_r_hat(at::zeros({10})), Error);
  EXPECT_THROW(effective_sample_size(at::zeros({3, 2})), Error);
  EXPECT_TRUE(std::isnan(split_r_hat(at::ones({10, 2}))));
  EXPECT_TRUE(std::isnan(effective_sample_size(at::ones({10, 2}))));
}

}  // namespace
}  // namespace evoke
