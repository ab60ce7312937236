// The law that Langevin reaches, against the discrete Lyapunov equation: for a slope of float32, and for one rounded to bfloat16.
#include "samplers/langevin.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "core/nouns/posterior.h"
#include "core/nouns/run.h"

namespace evoke {
namespace {

// log π = -Σ z²/(2λ): a Gaussian in the frame of its own axes, turned by an orthogonal `axes` [D,D] (columns), so that Σ is full.
struct Gaussian {
  Tensor variances, axes;
  double slope_sign = 1;  // -1: the mutant that walks downhill
  bool bfloat16 = false;  // the same density as a sentence of nouns, whose two products are rounded to bfloat16

  Target target() const {
    if (bfloat16) return rounded_target();
    const Tensor precision = axes.matmul(at::diag(1 / variances)).matmul(axes.t()).contiguous();
    Target out;
    out.name = "gaussian";
    out.exact = true;
    out.evaluate = [precision, sign = slope_sign](const Tensor& z, Stream&) {
      const Tensor pull = z.matmul(precision);
      return Evaluation{-0.5 * (z * pull).sum(1), -sign * pull, {}};
    };
    return out;
  }

  // G(z) = Λ^-½·Aᵀ·z as an image of one row, which the classifier turns back by A; the objective is -½|a|².
  Target rounded_target() const {
    const int64_t dimensions = variances.size(0);
    Generator generator{.name = "axes", .latent = {dimensions}, .image = {1, 1, dimensions, {}, {}}, .decode = {}, .start = {}};
    generator.decode = [weight = at::diag(variances.rsqrt()).matmul(axes.t()).contiguous(), dimensions](const Tensor& z) {
      return at::linear(z, weight).view({-1, 1, 1, dimensions});
    };
    Classifier classifier;
    classifier.name = "turned";
    classifier.image = generator.image;
    classifier.forward = [weight = axes](const Tensor& x, const std::vector<std::string>&) {
      return Activations{{"a", at::linear(x.flatten(1), weight)}};
    };
    Objective objective;
    objective.name = "norm";
    objective.taps = {"a"};
    objective.columns = {{"norm"}};
    objective.score = [](const Tensor&, const Activations& a) { return -0.5 * a.at("a").square().sum(1, true); };
    return posterior(generator, {}, classifier, objective, std::nullopt, {.rows = {}, .bfloat16 = true});
  }
};

Gaussian gaussian(int64_t dimensions) {
  Stream stream = Stream::range(99, 0, dimensions);
  const Tensor axes = std::get<0>(at::linalg_qr(stream.normal({dimensions})));
  // Variances from 0.75 to 1.5: all stable up to h = 1. In one dimension the plain N(0, 1).
  return {dimensions == 1 ? at::ones({1}) : at::linspace(0.75, 1.5, dimensions), axes};
}

struct Check {
  double ratio = 0, standard_error = 0;  // of the variances to the closed form, averaged over the axes
  double worst_axis = 0;                 // the greatest distance of one axis, in its own standard errors
  bool passes() const { return std::isfinite(ratio) && 5 * standard_error < 0.01 && std::abs(ratio - 1) < 0.01 && worst_axis < 5; }
};

// Runs chains, started from Σ itself, which is within a few times h of the law, and compares the variance along each axis of Σ with the
// solution of C = (I − hΣ⁻¹)·C·(I − hΣ⁻¹)ᵀ + 2h·I, which is λ/(1 − h/(2λ)) along the axis of variance λ.
Check check(const Gaussian& law, double h, double temperature = 1) {
  at::set_num_threads(1);
  const int64_t dimensions = law.variances.size(0);
  // Squares of an AR(1) chain of coefficient 1 − h forget in about 1/h steps.
  const auto burn = static_cast<int64_t>(4 / h) + 20, steps = burn + static_cast<int64_t>(8 / h) + 20;
  const int64_t chains = std::max<int64_t>(256, 65536 / dimensions);
  RunOptions options;
  options.steps = steps;
  options.seed = 7;
  options.chains = at::arange(chains);
  const Target target = law.target();
  Stream start = Stream::range(8, 0, chains);
  const Tensor z0 = (start.normal({dimensions}) * law.variances.sqrt()).matmul(law.axes.t());

  Tensor squares = at::zeros({chains, dimensions}, at::kDouble);
  int64_t seen = 0;
  try {
    run(langevin({.step_size = std::sqrt(2 * h), .gradient_clip = 0, .temperature = temperature}), target, z0, options,
        [&](int64_t step, const State& state, const Info&) {
          if (step < burn) return;
          squares += state.z.matmul(law.axes).square();
          ++seen;
        });
  } catch (const Error&) {
    return {};
  }
  const Tensor expected = law.variances / (1 - h / (2 * law.variances));
  const Tensor relative = squares / static_cast<double>(seen) / expected;  // [chains, D], one independent row a chain
  const Tensor axis = relative.mean(0), axis_error = relative.std(0) / std::sqrt(static_cast<double>(chains));
  return {axis.mean().item<double>(), relative.mean(1).std().item<double>() / std::sqrt(static_cast<double>(chains)),
          ((axis - 1) / axis_error).abs().max().item<double>()};
}

class Langevin : public ::testing::TestWithParam<std::tuple<int64_t, double>> {};

TEST_P(Langevin, VarianceIsThatOfTheDiscreteLyapunovEquation) {
  const auto [dimensions, h] = GetParam();
  const Check c = check(gaussian(dimensions), h);
  EXPECT_TRUE(c.passes()) << "ratio " << c.ratio << " ± " << c.standard_error << ", worst axis " << c.worst_axis;
}
INSTANTIATE_TEST_SUITE_P(Sizes, Langevin, ::testing::Combine(::testing::Values(1, 6, 100), ::testing::Values(0.02, 0.1, 0.5, 1.0)));

TEST(LangevinInBfloat16, HasTheSameVariance) {
  // Rounding moves the law by less than a hundredth. Each axis by itself is known to about a thousandth, and off by up to three of them.
  for (const auto& [dimensions, h] : {std::pair<int64_t, double>{6, 0.1}, {6, 0.5}, {100, 0.5}}) {
    Gaussian law = gaussian(dimensions);
    law.bfloat16 = true;
    const Check c = check(law, h);
    EXPECT_LT(5 * c.standard_error, 0.01) << dimensions << " dimensions, h " << h;
    EXPECT_NEAR(c.ratio, 1, 0.01) << dimensions << " dimensions, h " << h;
    EXPECT_FALSE(check(law, h, 1.1 * 1.1).passes()) << "noise × 1.1";
  }
}

TEST(LangevinMutants, AreCaughtByTheSameCheck) {
  const double h = 0.5;
  for (const int64_t dimensions : {1, 6}) {
    Gaussian law = gaussian(dimensions);
    EXPECT_TRUE(check(law, h).passes());
    EXPECT_FALSE(check(law, h, 1.1 * 1.1).passes()) << "noise × 1.1";
    EXPECT_FALSE(check(law, h, 0.5).passes()) << "√2 missing in the noise";
    law.slope_sign = -1;
    EXPECT_FALSE(check(law, h).passes()) << "downhill";
  }
}

TEST(LangevinInABox, HasTheUniformLawWithoutASlope) {
  // No slope on [-1, 2]: the law must stay uniform, with mean 0.5 and variance 9/12, and no share of the codes may pile up near the faces.
  at::set_num_threads(1);
  constexpr int64_t chains = 20000;
  Prior bounds;
  bounds.low = at::full({1}, -1.0), bounds.high = at::full({1}, 2.0);
  Target flat;
  flat.evaluate = [](const Tensor& z, Stream&) { return Evaluation{at::zeros({z.size(0)}), at::zeros_like(z), {}}; };
  RunOptions options;
  options.steps = 100;
  options.chains = at::arange(chains);
  const auto law = [&](const Prior& prior) {
    return run(langevin({.step_size = 0.6}, prior), flat, at::zeros({chains, 1}), options).z.to(at::kDouble).squeeze(1);
  };
  const Tensor z = law(bounds);
  EXPECT_NEAR(z.mean().item<double>(), 0.5, 5 * std::sqrt(0.75 / chains));
  EXPECT_NEAR(z.var().item<double>() / 0.75, 1.0, 5 * std::sqrt(0.8 / chains));  // kurtosis 1.8
  EXPECT_NEAR((z > 1.9).to(at::kDouble).mean().item<double>(), 1.0 / 30, 5 * std::sqrt(1.0 / 30 / chains));
  EXPECT_GT(law({}).var().item<double>(), 10);  // what is let go never comes back
}

TEST(LangevinMutants, SmallStepsCatchThemToo) {
  Gaussian law = gaussian(6);
  EXPECT_FALSE(check(law, 0.02, 1.1 * 1.1).passes());
  law.slope_sign = -1;
  EXPECT_FALSE(check(law, 0.02).passes());
}

}  // namespace
}  // namespace evoke
