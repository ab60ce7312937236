// Priors: slopes against autograd and closed forms, draws against the law they claim.
#include "generators/priors.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <numbers>

#include "generators/codes.h"
#include "tests/expect.h"

namespace evoke {
namespace {

const double log_two_pi = std::log(2 * std::numbers::pi);

Tensor mean() { return at::tensor({1.0f, -2.0f, 0.5f}); }
Tensor covariance() {
  const Tensor root = at::tensor({1.0f, 0.0f, 0.0f, 0.8f, 0.5f, 0.0f, -3.0f, 0.2f, 2.0f}).view({3, 3});
  return at::mm(root, root.t());
}

// score is the gradient of log_density, and a wrong one is told from it.
void expect_score(const Prior& prior, const Tensor& at_z) {
  const Tensor z = at_z.to(at::kDouble).requires_grad_();
  const Tensor expected = torch::autograd::grad({prior.log_density(z).sum()}, {z})[0];
  const Tensor score = prior.score(z.detach());
  EXPECT_EQ(score.sizes(), z.sizes());
  EXPECT_LT((score - expected).norm().item<double>(), 1e-6 * expected.norm().item<double>());
  EXPECT_GT((-score - expected).norm().item<double>(), 0.1 * expected.norm().item<double>());
}

TEST(Gaussian, ScoreIsTheSlopeOfLogDensity) {
  expect_score(gaussian(mean(), covariance(), at::kCPU), Stream::range(1, 0, 7).normal({3}) * 3);
  expect_score(standard_normal({2, 3}), Stream::range(1, 0, 7).normal({2, 3}));
}

// Statistics of codes [3,2,2] in each form, with the covariance of the whole code that each stands for.
struct Form {
  CodeStatistics codes;
  Tensor whole;  // [12,12]
};
std::vector<Form> forms() {
  const std::vector<int64_t> latent{3, 2, 2};
  const Tensor root = Stream::range(7, 0, 1).normal({12, 12}).squeeze(0), full = at::mm(root, root.t()) + at::eye(12);
  const Tensor centre = at::arange(12).to(at::kFloat).view({3, 2, 2}), channels = mean().view({3, 1, 1});
  const Tensor variances = (1 + at::arange(12)).to(at::kFloat).view({3, 2, 2});
  return {{{centre, full, centre, centre}, full},
          {{channels, covariance(), channels, channels}, at::kron(covariance(), at::eye(4))},
          {{centre, variances, centre, centre}, variances.flatten().diag()}};
}

TEST(Gaussian, OfSpatialCodesInEachForm) {
  for (const Form& form : forms()) {
    const Prior prior = gaussian(form.codes, {3, 2, 2}, at::kCPU);
    expect_score(prior, Stream::range(1, 0, 7).normal({3, 2, 2}) * 3);

    // The density is that of the whole code as one row.
    const Prior flat = gaussian(form.codes.mean.expand({3, 2, 2}).reshape({12}), form.whole, at::kCPU);
    const Tensor z = Stream::range(2, 0, 5).normal({3, 2, 2});
    EXPECT_TRUE(at::allclose(prior.log_density(z), flat.log_density(z.flatten(1)), 1e-4, 1e-3));
    EXPECT_TRUE(at::allclose(prior.score(z).flatten(1), flat.score(z.flatten(1)), 1e-3, 1e-3));

    // Draws have its moments, and no others.
    const int64_t count = 20000;
    Stream stream = Stream::range(3, 0, count);
    const Tensor drawn = prior.draw(stream);
    ASSERT_EQ(drawn.sizes(), at::IntArrayRef({count, 3, 2, 2}));
    const CodeStatistics found = code_statistics(drawn.flatten(1));
    const Tensor spread = form.whole.diagonal().sqrt();
    const auto off = [&](const Tensor& sigma) {
      const Tensor scale = at::sqrt((at::outer(spread, spread).square() + form.whole.square()) / static_cast<double>(count));
      return ((found.covariance - sigma).abs() / scale).max().item<double>();
    };
    EXPECT_LT(off(form.whole), 5);
    EXPECT_GT(off(form.whole * 1.1), 5);
  }
  // By channel it serves any height and width.
  Stream stream = Stream::range(3, 0, 2);
  EXPECT_EQ(gaussian(forms()[1].codes, {3, 5, 7}, at::kCPU).draw(stream).sizes(), at::IntArrayRef({2, 3, 5, 7}));
  expect_refusal([] { gaussian(forms()[0].codes, {3, 5, 7}, at::kCPU); }, Failure::input, {"[3,5,7]"});
}

TEST(Gaussian, LogDensityIsExact) {
  const Tensor z = Stream::range(2, 0, 5).normal({3}).to(at::kDouble);
  const Tensor sigma = covariance().to(at::kDouble), centred = z - mean();
  const Tensor expected = -0.5 * (at::mm(centred, at::inverse(sigma)) * centred).sum(1) - 0.5 * at::logdet(sigma) - 1.5 * log_two_pi;
  EXPECT_LT((gaussian(mean(), covariance(), at::kCPU).log_density(z) - expected).abs().max().item<double>(), 2e-4);

  // The standard normal is the special case.
  const Prior general = gaussian(at::zeros({3}), at::eye(3), at::kCPU), special = standard_normal({3});
  EXPECT_LT((general.log_density(z) - special.log_density(z)).abs().max().item<double>(), 1e-4);
  EXPECT_LT((general.score(z) - special.score(z)).abs().max().item<double>(), 1e-4);
}

TEST(Gaussian, DrawsHaveItsMoments) {
  const int64_t count = 40000;
  Stream stream = Stream::range(3, 0, count);
  const Tensor z = gaussian(mean(), covariance(), at::kCPU).draw(stream);
  const CodeStatistics found = code_statistics(z);
  const Tensor spread = covariance().diagonal().sqrt();
  const auto deviation = [&](const Tensor& sigma) {  // largest error in standard errors of the covariance's entries
    const Tensor scale = at::sqrt((at::outer(spread, spread).square() + covariance().square()) / static_cast<double>(count));
    return ((found.covariance - sigma).abs() / scale).max().item<double>();
  };
  EXPECT_LT(((found.mean - mean()).abs() / spread).max().item<double>(), 5 / std::sqrt(static_cast<double>(count)));
  EXPECT_LT(deviation(covariance()), 5);
  EXPECT_GT(deviation(covariance() * 1.1), 5);              // negative controls: too wide by 5 %,
  EXPECT_GT(deviation(covariance().diagonal().diag()), 5);  // and without correlations
}

TEST(Gaussian, RefusesWhatIsNoCovariance) {
  testing::internal::CaptureStderr();
  EXPECT_THROW(gaussian(mean(), at::eye(2), at::kCPU), Error);
  EXPECT_THROW(gaussian(mean(), -at::eye(3), at::kCPU), Error);
  EXPECT_THROW(gaussian(mean(), at::full({3, 3}, NAN), at::kCPU), Error);
  // A code that never varies is no reason to stop.
  Tensor flat = at::eye(3);
  flat[1][1] = 0;
  Stream stream = Stream::range(3, 0, 10);
  EXPECT_TRUE(at::isfinite(gaussian(mean(), flat, at::kCPU).draw(stream)).all().item<bool>());
  EXPECT_NE(testing::internal::GetCapturedStderr().find("without full rank"), std::string::npos);
}

TEST(Box, DrawsCoverTheRangeEvenly) {
  const Tensor low = at::tensor({-1.0f, 2.0f}), high = at::tensor({3.0f, 2.5f});
  const Prior prior = box(low, high, at::kCPU);
  const int64_t count = 20000;
  Stream stream = Stream::range(5, 0, count);
  const Tensor z = prior.draw(stream), share = (z - low) / (high - low);
  EXPECT_TRUE(((z >= low) & (z <= high)).all().item<bool>());

  // Kolmogorov-Smirnov against the uniform law; 1.95/√n is the 0.1 % point.
  const auto distance = [&](const Tensor& u) {
    const Tensor sorted = std::get<0>(u.sort());
    return (sorted - (at::arange(count) + 0.5) / count).abs().max().item<double>();
  };
  for (int i = 0; i < 2; ++i) {
    const double limit = 1.95 / std::sqrt(static_cast<double>(count));
    EXPECT_LT(distance(share.select(1, i)), limit);
    EXPECT_GT(distance(share.select(1, i).pow(1.1)), limit);  // negative control
  }
}

TEST(Box, KnowsInsideFromOutside) {
  const Prior prior = box(at::zeros({2}), at::ones({2}), at::kCPU);
  const Tensor z = at::tensor({0.5f, 0.5f, 0.5f, 1.5f, -0.1f, 0.5f}).view({3, 2});
  const Tensor value = prior.log_density(z);
  EXPECT_EQ(value[0].item<double>(), 0.0);
  EXPECT_EQ(value[1].item<double>(), -INFINITY);
  EXPECT_EQ(value[2].item<double>(), -INFINITY);
  EXPECT_TRUE(at::equal(prior.score(z), at::zeros_like(z)));
  EXPECT_TRUE(at::equal(prior.high, at::ones({2})));
  EXPECT_THROW(box(at::ones({2}), at::zeros({2}), at::kCPU), Error);
  EXPECT_THROW(box(at::zeros({2}), at::ones({3}), at::kCPU), Error);
}

TEST(Box, OfSpatialCodesHasBoundsOfTheirShape) {
  const Tensor low = at::tensor({-1.0f, 2.0f}).view({2, 1, 1}), high = at::tensor({3.0f, 2.5f}).view({2, 1, 1});
  const Prior prior = box(low, high, at::kCPU, {2, 3, 4});
  EXPECT_EQ(prior.low.sizes(), at::IntArrayRef({2, 3, 4}));
  EXPECT_EQ(prior.high.sizes(), at::IntArrayRef({2, 3, 4}));
  Stream stream = Stream::range(5, 0, 50);
  const Tensor z = prior.draw(stream);
  EXPECT_EQ(z.sizes(), at::IntArrayRef({50, 2, 3, 4}));
  EXPECT_TRUE((prior.log_density(z) == 0).all().item<bool>());
  EXPECT_EQ(prior.log_density(z + 4).max().item<double>(), -INFINITY);
  EXPECT_GT((z[0][0][0][0] - z[0][0][2][3]).abs().item<double>(), 0);  // each place draws its own
  expect_refusal([&] { box(low, high, at::kCPU, {3, 3, 4}); }, Failure::input, {"[2,1,1]", "[3,3,4]"});
}

TEST(Joint, GoesThroughTheEncoder) {
  Generator generator;
  generator.name = "half";
  generator.latent = {2};
  generator.decode = [](const Tensor& z) { return z.view({-1, 2, 1, 1}) + 1; };
  generator.image = {.channels = 2, .height = 1, .width = 1};
  Encoder encoder{"half", generator.image, {2}, [](const Tensor& x) { return 0.5 * x.flatten(1); }};
  const Prior prior = joint(generator, encoder, 0.5);
  const Tensor z = at::tensor({0.0f, 2.0f}).view({1, 2});
  EXPECT_TRUE(at::equal(prior.reconstruct(z), at::tensor({0.5f, 1.5f}).view({1, 2})));
  EXPECT_TRUE(at::equal(prior.score(z), at::tensor({2.0f, -2.0f}).view({1, 2})));
  EXPECT_FALSE(prior.log_density);
  EXPECT_THROW(joint(generator, encoder, 0.0), Error);
  Encoder other = encoder;
  other.latent = {1, 1, 2};
  expect_refusal([&] { joint(generator, other, 0.5); }, Failure::input, {"makes codes [1,1,2]", "takes codes [2]"});
  other = encoder;
  other.image.width = 7;
  expect_refusal([&] { joint(generator, other, 0.5); }, Failure::input, {"takes images [2,1,7]", "draws images [2,1,1]"});
}

TEST(Gaussian, KnowsEveryNoiseScale) {
  // E[clean | z] = μ + Σ(Σ + σ²D)⁻¹(z - μ), D the variances.
  const Tensor draws = Stream::range(2, 0, 1).normal({300, 4}).squeeze(0), mix = Stream::range(3, 0, 1).normal({4, 4}).squeeze(0);
  const CodeStatistics codes = code_statistics(draws.matmul(mix) + 2);
  const Prior prior = gaussian(codes, {4}, at::kCPU);
  ASSERT_TRUE(prior.diffusion);
  const Tensor z = Stream::range(4, 0, 3).normal({4}) * 3, covariance = codes.covariance.to(at::kDouble);
  for (const double sigma : {0.05, 1.0, 6.0}) {
    const Tensor noisy = covariance + sigma * sigma * at::diag(covariance.diagonal());
    const Tensor expected = codes.mean + at::linalg_solve(noisy, (z - codes.mean).to(at::kDouble).t()).t().matmul(covariance);
    EXPECT_LT((prior.diffusion->denoise(z, at::full({3}, sigma)) - expected).abs().max().item<double>(), 1e-4) << sigma;
  }
  // By channel and diagonal.
  const Tensor maps = Stream::range(5, 0, 1).normal({40, 3, 2, 4}).squeeze(0) * 2;
  const CodeStatistics channels = code_statistics(maps);
  const Prior spatial = gaussian(channels, {3, 2, 4}, at::kCPU),
              diagonal = gaussian(code_statistics(maps, "diagonal"), {3, 2, 4}, at::kCPU);
  const Tensor place = (maps.slice(0, 0, 1) - channels.mean).select(3, 1).select(2, 1).to(at::kDouble);  // [1,3]
  const Tensor c = channels.covariance.to(at::kDouble), noisy = c + at::diag(c.diagonal());
  const Tensor expected = channels.mean.flatten() + at::linalg_solve(noisy, place.t()).t().matmul(c);
  EXPECT_LT(
      (spatial.diffusion->denoise(maps.slice(0, 0, 1), at::ones({1})).select(3, 1).select(2, 1) - expected).abs().max().item<double>(),
      1e-4);
  const Tensor half = diagonal.diffusion->denoise(maps, at::ones({40}));
  EXPECT_LT((half - (maps + diagonal.diffusion->mean) / 2).abs().max().item<double>(), 1e-5);
}

}  // namespace
}  // namespace evoke
