// Guided sampling against laws in closed form: a linear-Gaussian case, and the exact table of a code of two numbers.
#include "samplers/guided.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/error.h"
#include "core/nouns/run.h"
#include "tests/expect.h"

namespace evoke {
namespace {

// ---- Linear and Gaussian: u ~ N(0, 1) in two numbers, ln p_y = -½·((a·u - b)/s)². Codes are z = m + d·u. -------------------------------

const double b = 1.5, s = 0.5;
Tensor a() { return at::tensor({0.8f, -0.6f}); }
Tensor centre() { return at::tensor({3.0f, -1.0f}); }
Tensor spread() { return at::tensor({0.5f, 4.0f}); }
Tensor whitened(const Tensor& z) { return (z - centre()) / spread(); }

Prior gaussian_codes() {
  Prior prior;
  prior.name = "gaussian";
  prior.diffusion = Diffusion{centre(), spread(), 0.01, 20.0, [](const Tensor& z, const Tensor& sigma) {
                                return centre() + spread() * whitened(z) / (1 + sigma.square()).unsqueeze(1);
                              }};
  return prior;
}

// ln E[p_y | u]: a·clean given u is N(a·u/(1+σ²), σ²/(1+σ²)). wrong: only a part of it, and shifted.
Critic critic(double share = 1.0, double shift = 0.0) {
  return {"critic", "layer", 1, [share, shift](const Tensor& z, const Tensor& sigma) {
            const Tensor squared = sigma.square(), mean = whitened(z).mv(a()) / (1 + squared), variance = squared / (1 + squared) + s * s;
            return (share * (-0.5 * (variance / (s * s)).log() - 0.5 * (mean - b - shift).square() / variance)).unsqueeze(1);
          }};
}

Target linear_target(double scale = 1.0) {
  Target target;
  target.name = "linear";
  target.columns = {column_of(Unit{"layer", 0})};
  target.latent = {2};
  target.evaluate = [scale](const Tensor& z, Stream&) {
    const Tensor away = (whitened(z).mv(a()) - b) / s, value = -0.5 * scale * away.square();
    return Evaluation{value, -(scale * away / s).unsqueeze(1) * a() / spread(), {{"objective", value}}};
  };
  return target;
}

// The codes that so many chains end at, whitened.
Tensor ends(const GuidedOptions& options, int64_t steps, int64_t chains, const Prior& prior, const Target& target,
            const std::optional<Critic>& with) {
  at::set_num_threads(1);
  RunOptions run_options;
  run_options.steps = steps;
  run_options.seed = 11;
  run_options.chains = at::arange(chains);
  const Sampler sampler = guided(options, steps, prior, with, at::zeros({chains}, at::kLong));
  return run(sampler, target, centre().expand({chains, 2}).contiguous(), run_options).z;
}

// The greatest distance of mean and covariance from the posterior's, in its deviations and variances; what chance alone may give.
struct Distance {
  double mean, covariance, chance;
};
Distance distance_of(const Tensor& u) {
  const Tensor direction = a().to(at::kDouble), eye = at::eye(2, at::kDouble);
  const Tensor covariance = at::linalg_inv(eye + at::outer(direction, direction) / (s * s)),
               mean = covariance.mv(direction) * (b / (s * s));
  const Tensor deviation = covariance.diagonal().sqrt(), found = u.to(at::kDouble), off = found - found.mean(0);
  const Tensor other = off.t().matmul(off) / static_cast<double>(u.size(0) - 1);
  return {((found.mean(0) - mean) / deviation).abs().max().item<double>(),
          ((other - covariance) / at::outer(deviation, deviation)).abs().max().item<double>(),
          5 * std::sqrt(2.0 / static_cast<double>(u.size(0)))};
}

TEST(Guided, WithTheExactCriticDrawsFromThePosterior) {
  const GuidedOptions options{.critic_weight = 1, .ancestral = true, .sigma_low = 0.01, .rho = 7, .precision = "float32"};
  const auto found = [&](const GuidedOptions& o) {
    return distance_of(whitened(ends(o, 400, 1 << 14, gaussian_codes(), linear_target(), critic())));
  };
  const Distance right = found(options);
  EXPECT_LT(right.mean, 0.02 + right.chance);
  EXPECT_LT(right.covariance, 0.03 + right.chance);

  GuidedOptions off = options;
  off.critic_weight = 0;
  EXPECT_GT(found(off).mean, 0.5) << "unsteered";
  off = options;
  off.critic_weight = 2;
  EXPECT_GT(found(off).covariance, 0.03 + right.chance) << "steered twice as much: surer than the posterior";
  off = options;
  off.ancestral = false;
  off.churn = 1;
  EXPECT_GT(found(off).covariance, 0.03 + right.chance) << "all noise fresh: the law narrows";
}

TEST(Guided, ParticlesMendAWrongCritic) {
  GuidedOptions options{.critic_weight = 1, .ancestral = true, .sigma_low = 0.01, .rho = 7, .particles = 24, .precision = "float32"};
  const Critic wrong = critic(0.4, 1.5);
  const auto found = [&] { return distance_of(whitened(ends(options, 150, 1 << 12, gaussian_codes(), linear_target(), wrong))); };
  const Distance right = found();
  EXPECT_LT(right.mean, 0.06 + right.chance);
  EXPECT_LT(right.covariance, 0.08 + right.chance);
  options.particles = 1;
  EXPECT_GT(found().mean, 0.06 + right.chance) << "the wrong critic alone";
}

// ---- A code of two numbers whose posterior is a table ----------------------------------------------------------------------------------

// Four Gaussians of deviation .35 at (±1, ±1), each one's mean known below noise.
Prior four_heaps() {
  const Tensor places = at::tensor({1.f, 1.f, 1.f, -1.f, -1.f, 1.f, -1.f, -1.f}).view({4, 2});
  constexpr double variance = 0.35 * 0.35;
  Prior prior;
  prior.name = "heaps";
  prior.diffusion = Diffusion{at::zeros({2}), at::ones({2}), 0.01, 20.0, [places](const Tensor& z, const Tensor& sigma) {
                                const Tensor noise = sigma.square().unsqueeze(1), total = noise + variance;
                                const Tensor apart = z.unsqueeze(1) - places;  // [N,4,2]
                                const Tensor share = (-0.5 * apart.square().sum(2) / total).softmax(1).unsqueeze(2);
                                const Tensor mean = places + apart * (variance / total).unsqueeze(2);
                                return (share * mean).sum(1);
                              }};
  return prior;
}
Tensor wish(const Tensor& z) { return 1.5 * at::cos(3 * z.select(1, 0)) + 1.2 * z.select(1, 1) * z.select(1, 0); }
Target wish_target() {
  Target target;
  target.name = "wish";
  target.columns = {column_of(Unit{"layer", 0})};
  target.latent = {2};
  target.evaluate = [](const Tensor& z, Stream&) {
    const Tensor value = wish(z), x = z.select(1, 0), y = z.select(1, 1);
    return Evaluation{value, at::stack({-4.5 * at::sin(3 * x) + 1.2 * y, 1.2 * x}, 1), {{"objective", value}}};
  };
  return target;
}
// A poor guess: the wish at the mean, fading as nothing is known.
Critic rough_critic() {
  return {"rough", "layer", 1, [denoise = four_heaps().diffusion->denoise](const Tensor& z, const Tensor& sigma) {
            return (wish(denoise(z, sigma)) / (1 + sigma.square())).unsqueeze(1);
          }};
}

constexpr int64_t bins = 12;
constexpr double edge = 2.4;

Tensor table() {
  constexpr int64_t fine = 40 * bins;
  const Tensor at_points = (at::arange(fine, at::kDouble) + 0.5) * (2 * edge / static_cast<double>(fine)) - edge;
  const std::vector<Tensor> grid = at::meshgrid({at_points, at_points}, "ij");
  const Tensor z = at::stack({grid[0].flatten(), grid[1].flatten()}, 1);
  Tensor density = at::zeros({z.size(0)}, at::kDouble);
  for (const double x : {-1.0, 1.0})
    for (const double y : {-1.0, 1.0})
      density += (-0.5 * ((z.select(1, 0) - x).square() + (z.select(1, 1) - y).square()) / (0.35 * 0.35)).exp();
  density = density * wish(z).exp();
  const Tensor sums = (density / density.sum()).view({bins, fine / bins, bins, fine / bins}).sum({1, 3});
  return sums.flatten();
}
double total_variation(const Tensor& codes) {
  const Tensor place = ((codes.to(at::kDouble) + edge) * (bins / (2 * edge))).floor().clamp(0, bins - 1).to(at::kLong);
  const Tensor counts = at::bincount(place.select(1, 0) * bins + place.select(1, 1), {}, bins * bins).to(at::kDouble);
  return 0.5 * (counts / static_cast<double>(codes.size(0)) - table()).abs().sum().item<double>();
}

TEST(Guided, ParticlesDrawFromTheTableOfATwoDimensionalCode) {
  GuidedOptions options{.critic_weight = 1, .ancestral = true, .sigma_low = 0.01, .rho = 7, .particles = 16, .precision = "float32"};
  const auto found = [&] { return total_variation(ends(options, 250, 1 << 11, four_heaps(), wish_target(), rough_critic())); };
  const double right = found();
  EXPECT_LT(right, 0.11) << "2,048 draws of the table itself come to about .075";
  options.particles = 1;
  EXPECT_GT(found(), 0.22) << "the critic alone";
}

// ---- The gradient at the estimate ------------------------------------------------------------------------------------------------------

TEST(Guided, TheGradientSteersWhateverItsScale) {
  const GuidedOptions options{.strength = 4, .rescale = false, .churn = 0.5, .precision = "float32"};
  const Tensor small = ends(options, 40, 64, gaussian_codes(), linear_target(1), std::nullopt),
               large = ends(options, 40, 64, gaussian_codes(), linear_target(1000), std::nullopt);
  EXPECT_LT((small - large).abs().max().item<double>(), 1e-3);
  const auto reached = [](const Tensor& z) { return whitened(z).mv(a()).mean().item<double>(); };
  EXPECT_GT(reached(small), 0.7);
  EXPECT_LT(std::abs(reached(ends({.strength = 0, .precision = "float32"}, 40, 64, gaussian_codes(), linear_target(), std::nullopt))), 0.5);
}

TEST(Guided, ThroughTheDenoiserStepsAlongTheGradientInTheNoisyCode) {
  // The last step ends at the moved estimate, whose way from R(z, σ) has the direction of ∂wish(R(z, σ))/∂z: central differences.
  const Prior prior = four_heaps();
  const double sigma = 0.8;
  const Tensor z = at::tensor({0.3f, 0.2f, -0.6f, 0.9f, 1.4f, -0.1f}).view({3, 2});
  const auto estimate = [&](const Tensor& at) { return prior.diffusion->denoise(at, at::full({3}, sigma, at.options())); };
  Tensor slope = at::zeros({3, 2}, at::kDouble);
  for (int64_t i = 0; i < 2; ++i) {
    const Tensor step = 1e-5 * at::one_hot(at::tensor(i), 2).to(at::kDouble), from = z.to(at::kDouble);
    slope.select(1, i).copy_((wish(estimate(from + step)) - wish(estimate(from - step))) / 2e-5);
  }
  const Tensor along = slope / slope.norm(2, 1, true);

  const auto moved = [&](bool through) {
    const GuidedOptions options{.strength = 3, .through_denoiser = through, .sigma_high = sigma, .precision = "float32"};
    Stream stream = Stream::range(5, 0, 3, at::kCPU, 0);
    return (guided(options, 1, prior).step(State{z, {}, {}}, wish_target(), stream).state.z - estimate(z)).to(at::kDouble);
  };
  const Tensor right = moved(true), length = at::full({3}, 3 * sigma / std::sqrt(1 + sigma * sigma) * 0.1 * std::sqrt(2.0), at::kDouble);
  EXPECT_LT((right - along * length.unsqueeze(1)).abs().max().item<double>(), 1e-4);
  EXPECT_FALSE(right.requires_grad());
  const Tensor other = moved(false);
  EXPECT_LT((other.norm(2, 1) - length).abs().max().item<double>(), 1e-5);
  EXPECT_GT((other - right).norm(2, 1).max().item<double>(), 0.05) << "the gradient at the estimate points elsewhere";
}

TEST(Guided, ShrinksSpatialCodesAloneToTheDatasDeviation) {
  // A strength that throws every estimate far beyond the data's deviation.
  const auto deviation = [](const std::vector<int64_t>& shape, bool rescale) {
    Prior prior;
    prior.name = "gaussian";
    prior.diffusion = Diffusion{at::zeros({1}), at::ones({1}), 0.01, 20.0, [](const Tensor& z, const Tensor& sigma) {
                                  return z / (1 + sigma.square()).view(std::vector<int64_t>(static_cast<size_t>(z.dim()), 1));
                                }};
    Target target;
    target.name = "fixed";
    target.evaluate = [](const Tensor& z, Stream&) {
      const Tensor slope = at::arange(z[0].numel(), z.options()).view(z.sizes().slice(1)).expand_as(z);
      return Evaluation{z.flatten(1).sum(1), slope, {{"objective", z.flatten(1).sum(1)}}};
    };
    RunOptions options;
    options.steps = 1;
    options.chains = at::arange(1);
    std::vector<int64_t> start = shape;
    start.insert(start.begin(), 1);
    const GuidedOptions how{.strength = 200, .rescale = rescale, .sigma_high = 9, .precision = "float32"};
    return run(guided(how, 1, prior), target, at::zeros(start), options).z.std().item<double>();
  };
  EXPECT_NEAR(deviation({1, 4, 4}, true), 1.0, 1e-4);
  EXPECT_GT(deviation({1, 4, 4}, false), 5.0);
  EXPECT_GT(deviation({16}, true), 5.0) << "a dense code is what it is";
}

TEST(Guided, AChainWithoutASlopeGoesOnAsThePriorAlone) {
  // Codes as large as photographs': a unit that is silent at the estimate of one chain stops neither it nor the others.
  Prior prior;
  prior.name = "gaussian";
  prior.diffusion = Diffusion{at::zeros({1}), at::ones({1}), 0.01, 20.0, [](const Tensor& z, const Tensor& sigma) {
                                return z / (1 + sigma.square()).view({-1, 1, 1, 1});
                              }};
  Target target;
  target.name = "half silent";
  target.evaluate = [](const Tensor& z, Stream&) {
    const Tensor slope = at::ones_like(z);
    slope[0].zero_();
    return Evaluation{at::zeros({z.size(0)}), slope, {}};
  };
  const auto moved = [&](double strength) {
    const GuidedOptions how{.strength = strength, .rescale = false, .sigma_high = 9, .precision = "float32"};
    Stream stream = Stream::range(5, 0, 2, at::kCPU, 0);
    return guided(how, 1, prior).step(State{at::ones({2, 16, 28, 28}), {}, {}}, target, stream).state.z;
  };
  const Tensor steered = moved(12), free = moved(0);
  EXPECT_TRUE(at::equal(steered[0], free[0]));
  EXPECT_GT((steered[1] - free[1]).norm().item<double>(), 1.0);
}

TEST(Guided, BeginsAtAGivenCodeBelowNoise) {
  GuidedOptions options{.strength = 0, .churn = 0, .sigma_start = 0.06, .sigma_low = 0.01, .precision = "float32"};
  const Tensor near = ends(options, 20, 32, gaussian_codes(), linear_target(), std::nullopt);
  EXPECT_LT(whitened(near).abs().max().item<double>(), 0.3);
  options.sigma_start = 20;
  const Tensor far = ends(options, 20, 32, gaussian_codes(), linear_target(), std::nullopt);
  EXPECT_GT(whitened(far).abs().max().item<double>(), 1.5);
}

TEST(Guided, RefusesWhatItCannotDo) {
  Prior bare;
  bare.name = "box";
  expect_refusal([&] { guided({}, 10, bare); }, Failure::usage, {"prior box", "all noise scales"});
  expect_refusal([&] { guided({.particles = 4}, 10, gaussian_codes()); }, Failure::usage, {"4 particles", "no critic"});
  expect_refusal([&] { guided({.sigma_high = 50}, 10, gaussian_codes()); }, Failure::usage, {"from 50"});
  Target other = linear_target();
  other.columns = {{"a whole layer"}};
  expect_refusal([&] { critic_units(critic(), other, {}, 2); }, Failure::usage, {"a whole layer", "layer layer"});
  Target random = linear_target();
  random.comparable = false;
  expect_refusal([&] { ends({.particles = 2}, 5, 4, gaussian_codes(), random, critic()); }, Failure::usage, {"drawn at random"});
}

}  // namespace
}  // namespace evoke
