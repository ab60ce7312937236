// Denoisers: preconditioning, whitening, the slope they know, and that they learn the closed form.
#include "generators/denoiser.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/optim.h>

#include "core/error.h"

namespace evoke {
namespace {

// Small tensors: threads that wait for one another would take most of the time.
[[maybe_unused]] const bool one_thread = (set_threads(1), true);

Tensor normal(at::IntArrayRef shape, uint64_t seed = 1) { return Stream::range(seed, 0, 1).normal(shape).squeeze(0); }

DenoiserOptions codes(double sigma = 0) {
  DenoiserOptions out;
  out.sigma = sigma;
  out.code = 3;
  out.hidden = 32;
  out.blocks = 2;
  return out;
}

DenoiserOptions images(double sigma = 0) {
  DenoiserOptions out = codes(sigma);
  out.space = "image";
  out.base_channels = 8;
  out.height = 8;
  out.width = 12;
  return out;
}

// Codes [3,2,5]: no size that halves twice.
DenoiserOptions spatial(double sigma = 0) {
  DenoiserOptions out = codes(sigma);
  out.base_channels = 8;
  out.code_height = 2;
  out.code_width = 5;
  return out;
}

Tensor data_for(const DenoiserOptions& options) {
  if (options.code_height > 0) {
    const Tensor scale = at::tensor({1.0f, 10.0f, 0.01f}).view({3, 1, 1});
    return normal({200, 3, 2, 5}) * scale + 2 * scale;
  }
  if (options.space == "code") return normal({200, 3}) * at::tensor({1.0f, 10.0f, 0.01f}) + at::tensor({0.0f, 5.0f, -1.0f});
  return at::sigmoid(normal({20, 3, 8, 12}));
}

// The last layer starts at 0; give it something to say.
Denoiser talkative(const DenoiserOptions& options) {
  Denoiser out = make_denoiser(options, data_for(options), 7);
  Tensor& last = out.network.weights.at("out.weight");
  last = normal(last.sizes(), 5) * 0.3;
  return out;
}

const std::vector<DenoiserOptions> kinds{codes(), codes(0.3), spatial(), spatial(0.3), images(), images(0.3)};

TEST(Denoiser, StartsAsTheBestGuessForGaussianData) {
  for (const DenoiserOptions& options : kinds) {
    const Tensor data = data_for(options);
    const Denoiser denoiser = make_denoiser(options, data, 7);
    const double sigma = 0.3;
    const Tensor got = denoise(denoiser, data, at::full({data.size(0)}, sigma));
    const Tensor expected = denoiser.mean + (data - denoiser.mean) / (1 + sigma * sigma);
    EXPECT_EQ(got.sizes(), data.sizes());
    EXPECT_LT(((got - expected) / denoiser.deviation).abs().max().item<double>(), 1e-4);
  }
}

TEST(Denoiser, IsToldSigmaRowByRow) {
  for (const DenoiserOptions& options : {codes(), spatial(), images()}) {
    const Denoiser denoiser = talkative(options);
    const Tensor z = data_for(options).narrow(0, 0, 4);
    const Tensor sigma = at::tensor({0.05f, 0.5f, 2.0f, 10.0f});
    const Tensor batch = denoise(denoiser, z, sigma);
    for (int64_t i = 0; i < 4; ++i) {
      const Tensor alone = denoise(denoiser, z.narrow(0, i, 1), sigma.narrow(0, i, 1));
      EXPECT_LT(((batch.narrow(0, i, 1) - alone) / denoiser.deviation).abs().max().item<double>(), 1e-5);
    }
    // The network itself hears σ: at another one it says something else.
    Tensor input = at::cat({z.narrow(0, 0, 1), z.narrow(0, 0, 1)}, 0);
    std::vector<int64_t> extra = input.sizes().vec();
    extra[1] = 1;
    extra[0] = 1;
    input = at::cat({input, at::cat({at::full(extra, -0.7), at::full(extra, 0.5)}, 0)}, 1);
    const Tensor said = denoiser.network(input);
    EXPECT_GT((said[0] - said[1]).abs().max().item<double>(), 1e-3);
  }
}

TEST(Denoiser, OfSpatialCodesServesAnyHeightAndWidth) {
  const Denoiser denoiser = talkative(spatial());
  EXPECT_EQ(denoiser.mean.sizes(), at::IntArrayRef({3, 1, 1}));
  const Prior prior = denoiser_prior(denoiser, 0, at::kCPU, {.draw_steps = 3}, {3, 7, 4});
  Stream stream = Stream::range(5, 0, 2);
  const Tensor drawn = prior.draw(stream);
  EXPECT_EQ(drawn.sizes(), at::IntArrayRef({2, 3, 7, 4}));
  EXPECT_EQ(prior.score(drawn).sizes(), drawn.sizes());
}

TEST(Denoiser, WorksInTheDatasOwnUnits) {
  // Codes stretched and shifted: the same denoiser, stretched and shifted.
  const DenoiserOptions options = codes();
  const Tensor data = data_for(options), stretch = at::tensor({4.0f, 0.5f, 100.0f}), shift = at::tensor({3.0f, -1.0f, 0.0f});
  const Denoiser plain = talkative(options);
  Denoiser stretched = make_denoiser(options, data * stretch + shift, 7);
  stretched.network = plain.network;
  const Tensor sigma = at::full({200}, 0.4);
  const Tensor a = denoise(plain, data, sigma) * stretch + shift, b = denoise(stretched, data * stretch + shift, sigma);
  EXPECT_LT(((a - b) / stretched.deviation).abs().max().item<double>(), 1e-3);
}

TEST(Denoiser, ScoreIsTheWayToItsReconstruction) {
  for (const DenoiserOptions& options : kinds) {
    const Denoiser denoiser = talkative(options);
    const double sigma = 0.3;
    const Prior prior = denoiser_prior(denoiser, sigma, at::kCPU);
    const Tensor z = data_for(options).narrow(0, 0, 5);
    const Tensor noise = sigma * denoiser.deviation;
    const Tensor expected = (prior.reconstruct(z) - z) / noise.square();
    EXPECT_LT(((prior.score(z) - expected) * noise).abs().max().item<double>(), 1e-3);
    EXPECT_GT((expected * noise).abs().max().item<double>(), 0.1);
    EXPECT_FALSE(prior.log_density);
    EXPECT_EQ(static_cast<bool>(prior.draw), options.sigma == 0);
    EXPECT_FALSE(prior.score(z.clone().requires_grad_()).requires_grad());
    if (!prior.draw) continue;
    Stream batch = Stream::range(5, 0, 6), alone = Stream::range(5, 2, 1);
    const Tensor drawn = prior.draw(batch);
    EXPECT_LT(((drawn.narrow(0, 2, 1) - prior.draw(alone)) / denoiser.deviation).abs().max().item<double>(), 1e-3);
    EXPECT_EQ(drawn.sizes().slice(1), z.sizes().slice(1));
  }
}

TEST(Denoiser, LossWeighsAllNoiseLevelsAlikeAtTheStart) {
  // With F = 0, D = u/(1+σ²) and the data Gaussian, the expected loss is 1 at every σ.
  const DenoiserOptions options = codes();
  const Tensor clean = normal({20000, 3}, 2);
  const Denoiser denoiser = make_denoiser(options, clean, 7);
  for (const double sigma : {0.05, 1.0, 15.0}) {
    const Tensor loss = denoising_loss(denoiser, clean, normal({20000, 3}, 3), at::full({20000}, sigma));
    EXPECT_EQ(loss.sizes(), at::IntArrayRef({20000}));
    EXPECT_NEAR(loss.mean().item<double>(), 1.0, 0.03);
  }
}

TEST(Denoiser, LearnsTheClosedFormOfCorrelatedGaussians) {
  // Ideal R of N(0, Σ) in whitened units: Σ(Σ + σ²)⁻¹ u. The untrained guess ignores the correlation, so it is the negative control.
  const Tensor root = at::tensor({1.0f, 0.0f, 0.0f, 0.9f, 0.43589f, 0.0f, 0.0f, 0.0f, 1.0f}).view({3, 3});
  const Tensor data = at::mm(normal({4096, 3}, 2), root.t());
  const Denoiser untrained = make_denoiser(codes(), data, 7), learner = trainable(untrained, at::kCPU);
  std::vector<Tensor> weights;
  for (const auto& [name, tensor] : learner.network.weights) weights.push_back(tensor);
  torch::optim::Adam optimizer(weights, torch::optim::AdamOptions(3e-3));
  for (int64_t step = 0; step < 300; ++step) {
    Stream stream = Stream::range(9, 0, 256, at::kCPU, step);
    const Tensor sigma = at::exp(1.2 * stream.normal({}) - 0.6), noise = stream.normal({3});
    const Tensor loss = denoising_loss(learner, data.narrow(0, (step * 256) % 4096, 256), noise, sigma).mean();
    optimizer.zero_grad();
    loss.backward();
    optimizer.step();
  }
  const auto error = [&](const Denoiser& denoiser) {
    const double sigma = 0.7;
    const Tensor z = data.narrow(0, 0, 500) + sigma * normal({500, 3}, 4);
    const Tensor s = at::mm(root, root.t());
    const Tensor ideal = at::mm(z, at::mm(s, at::inverse(s + sigma * sigma * at::eye(3))).t());
    return (denoise(denoiser, z, at::full({500}, sigma)) - ideal).square().mean().sqrt().item<double>();
  };
  const Denoiser learned = frozen(learner, at::kCPU);
  EXPECT_LT(error(learned), 0.08);
  EXPECT_GT(error(untrained), 0.16);
}

TEST(Denoiser, RefusesWhatDoesNotFit) {
  const auto expect = [](Failure kind, const char* part, auto&& act) {
    try {
      act();
      ADD_FAILURE() << "not refused: " << part;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), kind);
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    }
  };
  const Tensor data = data_for(codes());
  expect(Failure::input, "expected [-1,3]", [&] { make_denoiser(codes(), at::zeros({5, 4}), 1); });
  expect(Failure::input, "never vary", [&] { make_denoiser(codes(), at::zeros({5, 3}), 1); });
  DenoiserOptions options = codes();
  options.sigma_low = 30;
  expect(Failure::usage, "sigma_low < sigma_high", [&] { make_denoiser(options, data, 1); });
  options = spatial();
  options.code_width = 0;
  expect(Failure::input, "expected no size to be 0", [&] { denoiser_network(options, 1); });
  expect(Failure::input, "[4,2,5]", [&] { denoiser_prior(make_denoiser(spatial(), data_for(spatial()), 1), 0, at::kCPU, {}, {4, 2, 5}); });
  expect(Failure::input, "[3,2,5]", [&] { denoiser_prior(make_denoiser(codes(), data, 1), 0, at::kCPU, {}, {3, 2, 5}); });
  expect(Failure::usage, "trained at", [&] { denoiser_prior(make_denoiser(codes(), data, 1), 50, at::kCPU); });
  expect(Failure::usage, "trained at", [&] { denoiser_prior(make_denoiser(codes(0.3), data, 1), 0.2, at::kCPU); });
  EXPECT_NO_THROW(denoiser_prior(make_denoiser(codes(0.3), data, 1), 0, at::kCPU));
}

}  // namespace
}  // namespace evoke
