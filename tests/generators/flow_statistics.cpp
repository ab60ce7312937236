// Heun's probability flow with ideal denoisers in closed form draws from the law they belong to.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/error.h"
#include "generators/denoiser.h"

namespace evoke {
namespace {

// Small tensors: threads that wait for one another would take most of the time.
[[maybe_unused]] const bool one_thread = (set_threads(1), true);

using Reconstruct = std::function<Tensor(const Tensor& z, const Tensor& sigma)>;
constexpr int64_t rows = 100000;

struct Moments {
  double mean, deviation;
};
Moments draw(const Reconstruct& reconstruct, const DrawOptions& options) {
  Stream stream = Stream::range(11, 0, rows);
  const Tensor z = probability_flow(reconstruct, {1}, 0.002, 80, stream, options).to(at::kDouble);
  return {z.mean().item<double>(), z.std().item<double>()};
}

// R of N(m, s²): (s²z + σ²m)/(s² + σ²). `blunder` scales the noise it believes in.
constexpr double m = 1.5, s = 0.5;
Tensor ideal(const Tensor& z, const Tensor& sigma, double blunder = 1.0) {
  const Tensor variance = broadcast_rows((blunder * sigma).square(), 2);
  return (s * s * z + variance * m) / (s * s + variance);
}

// The exact flow scales z - m by r = s/√(s² + σ²): what begins as N(0, σ²) ends as N(m(1 - r), (rσ)²); with churn the start is forgotten
// and the mean is m. Five standard errors of the draws, and 0.3 % for Heun's own error (0.09 % without churn, 0.25 % with, at 128 steps).
bool fits(const Moments& found, bool churn = false) {
  const double high = 80, r = s / std::sqrt(s * s + high * high), count = rows;
  const double mean = churn ? m : m * (1 - r);
  return std::abs(found.mean - mean) < 5 * s / std::sqrt(count) + 0.001 &&
         std::abs(found.deviation / (r * high) - 1) < 5 / std::sqrt(2 * count) + 0.003;
}

TEST(ProbabilityFlow, DrawsAGaussian) {
  for (const double churn : {0.0, 10.0}) {
    SCOPED_TRACE(churn);
    DrawOptions options;
    options.draw_steps = 128;
    options.churn = churn;
    const auto right = [](const Tensor& z, const Tensor& sigma) { return ideal(z, sigma); };
    const Moments found = draw(right, options);
    EXPECT_TRUE(fits(found, churn > 0)) << found.mean << " " << found.deviation;
  }
}

TEST(ProbabilityFlow, CatchesAWrongDenoiser) {
  DrawOptions options;
  options.draw_steps = 128;
  const Moments shrunk = draw([](const Tensor& z, const Tensor& sigma) { return ideal(z, sigma, 1.1); }, options);
  EXPECT_FALSE(fits(shrunk)) << shrunk.mean << " " << shrunk.deviation;
  const Moments shifted =
      draw([](const Tensor& z,
              const Tensor& sigma) { return ideal(z, sigma) + 0.05 * broadcast_rows(sigma, 2) / (1 + broadcast_rows(sigma, 2)); },
           options);
  EXPECT_FALSE(fits(shifted)) << shifted.mean << " " << shifted.deviation;
}

TEST(ProbabilityFlow, IsOfSecondOrder) {
  // Four times as many steps: the error of the deviation falls about sixteenfold. One draw of one chain, as the flow is linear.
  const double r = s / std::sqrt(s * s + 80.0 * 80.0);
  const auto error = [&](int64_t steps) {
    DrawOptions options;
    options.draw_steps = steps;
    Stream stream = Stream::range(11, 0, 64);
    const auto right = [](const Tensor& z, const Tensor& sigma) { return ideal(z.to(at::kDouble), sigma.to(at::kDouble)); };
    const Tensor z = probability_flow(right, {1}, 0.002, 80, stream, options).to(at::kDouble);
    Stream again = Stream::range(11, 0, 64);
    return (z - (m + r * (80 * again.normal({1}).to(at::kDouble) - m))).abs().mean().item<double>();
  };
  const double coarse = error(16), fine = error(64);
  EXPECT_LT(fine, coarse / 8);
  EXPECT_GT(coarse, 1e-5);
}

TEST(ProbabilityFlow, FindsBothModesInProportion) {
  // 0.3 N(-1, 0.1²) + 0.7 N(3/7, 0.1²): mean 0, so the start is right on average.
  const double low = -1, high = 3.0 / 7, spread = 0.1;
  const Reconstruct mixture = [=](const Tensor& z, const Tensor& sigma) {
    const Tensor variance = broadcast_rows(sigma.square(), 2), total = variance + spread * spread;
    const auto part = [&](double centre) { return (spread * spread * z + variance * centre) / total; };
    const Tensor odds = std::log(0.7 / 0.3) + ((z - low).square() - (z - high).square()) / (2 * total);
    const Tensor share = at::sigmoid(odds);
    return (1 - share) * part(low) + share * part(high);
  };
  Stream stream = Stream::range(13, 0, rows);
  DrawOptions options;
  options.draw_steps = 128;
  const Tensor z = probability_flow(mixture, {1}, 0.002, 80, stream, options).flatten();
  const Tensor upper = z > -0.3;
  EXPECT_NEAR(upper.to(at::kDouble).mean().item<double>(), 0.7, 5 * std::sqrt(0.21 / rows) + 0.005);
  EXPECT_NEAR(z.masked_select(upper).std().item<double>(), spread, 0.005);
  EXPECT_NEAR(z.masked_select(upper.logical_not()).mean().item<double>(), low, 0.005);
}

TEST(ProbabilityFlow, RefusesLevelsThatGoNowhere) {
  Stream stream = Stream::range(13, 0, 2);
  const auto right = [](const Tensor& z, const Tensor& sigma) { return ideal(z, sigma); };
  EXPECT_THROW(probability_flow(right, {1}, 1, 0.5, stream), Error);
  DrawOptions options;
  options.draw_steps = 1;
  EXPECT_THROW(probability_flow(right, {1}, 0.1, 5, stream, options), Error);
}

}  // namespace
}  // namespace evoke
