// Every generator keeps the contract: shape, range, rows on their own, gradients, starting points, encoders.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "generators/decoder.h"
#include "generators/pixel.h"
#include "tests/expect.h"

namespace evoke {
namespace {

DecoderOptions small() {
  DecoderOptions out;
  out.code = 5;
  out.filters = 4;
  out.encoder_filters = 4;
  out.height = 16;
  out.width = 24;
  return out;
}

DecoderOptions spatial() {
  DecoderOptions out = small();
  out.spatial = true;
  return out;
}

DecoderOptions residual() {
  DecoderOptions out = spatial();
  out.blocks = 2;
  return out;
}

Tensor normal(at::IntArrayRef shape, uint64_t seed = 1) { return Stream::range(seed, 0, 1).normal(shape).squeeze(0); }

Decoder untrained(const std::string& kind, const DecoderOptions& options) {
  Decoder out{kind, options, decoder_network(options, 1), {}, {}};
  if (kind != "gan") out.encoder = encoder_network(options, kind == "vae" ? 2 * options.code : options.code, 2);
  std::vector<int64_t> rows = code_shape(options);
  rows.insert(rows.begin(), 64);
  out.codes = code_statistics(normal(rows) * 2 + 1);
  return out;
}

std::vector<Generator> all() {
  const ImageSpec image{3, 16, 24, {}, {}};
  DecoderOptions hidden = small();
  hidden.hidden = 7;
  PixelOptions clip;
  clip.range = "clip";
  return {pixel({}, image),
          pixel(clip, image),
          as_generator(untrained("autoencoder", small()), at::kCPU),
          as_generator(untrained("vae", hidden), at::kCPU, "normal"),
          as_generator(untrained("gan", small()), at::kCPU),
          as_generator(untrained("autoencoder", spatial()), at::kCPU),
          as_generator(untrained("autoencoder", residual()), at::kCPU),
          as_generator(untrained("gan", spatial()), at::kCPU, "normal")};
}

Tensor rows(const Generator& generator, int64_t count, uint64_t seed = 3) {
  Stream stream = Stream::range(seed, 0, count);
  return 0.7 * stream.normal(generator.latent);
}

TEST(Generators, ShapeAndRange) {
  for (const Generator& generator : all()) {
    SCOPED_TRACE(generator.name);
    const Tensor x = generator.decode(rows(generator, 3));
    EXPECT_EQ(x.sizes(), at::IntArrayRef({3, 3, 16, 24}));
    EXPECT_GE(x.min().item<double>(), 0.0);
    EXPECT_LE(x.max().item<double>(), 1.0);
    EXPECT_GT(x.std().item<double>(), 1e-3);
    EXPECT_TRUE(x.is_contiguous(at::MemoryFormat::ChannelsLast));
    EXPECT_EQ(generator.decode(rows(generator, 1)).size(0), 1);
  }
}

TEST(Generators, ARowAloneEqualsTheRowInABatch) {
  for (const Generator& generator : all()) {
    SCOPED_TRACE(generator.name);
    const Tensor z = rows(generator, 9);
    const Tensor batch = generator.decode(z), alone = generator.decode(z.narrow(0, 4, 1));
    EXPECT_LT((batch.narrow(0, 4, 1) - alone).abs().max().item<double>(), 1e-5);
    EXPECT_GT((batch.narrow(0, 5, 1) - alone).abs().max().item<double>(), 1e-3);
  }
}

TEST(Generators, GradientsAgreeWithFiniteDifferences) {
  for (Generator generator : all()) {
    SCOPED_TRACE(generator.name);
    if (!generator.name.starts_with("pixel")) {
      Decoder exact = untrained(generator.name, generator.latent.size() == 1 ? small() : spatial());
      for (auto& [name, weight] : exact.decoder.weights) weight = weight.to(at::kDouble);
      generator = as_generator(exact, at::kCPU);
    }
    // Colours for a clip away from its corners, where no slope exists.
    Tensor z = rows(generator, 2).to(at::kDouble).detach().requires_grad_();
    const Tensor direction = normal(z.sizes(), 8).to(at::kDouble), weight = normal({2, 3, 16, 24}, 9).to(at::kDouble);
    const auto value = [&](const Tensor& at_z) { return (generator.decode(at_z) * weight).sum(); };
    const Tensor gradient = torch::autograd::grad({value(z)}, {z})[0];
    const double step = 1e-7;
    const double slope = ((value(z + step * direction) - value(z - step * direction)) / (2 * step)).item<double>();
    const double expected = (gradient * direction).sum().item<double>();
    EXPECT_NEAR(slope, expected, 1e-4 * (1 + std::abs(expected)));
    EXPECT_GT(std::abs(expected), 1e-4);
  }
}

TEST(Pixel, ClipPassesTheGradientOnlyInside) {
  PixelOptions options;
  options.range = "clip";
  const Generator generator = pixel(options, {1, 1, 3, {}, {}});
  Tensor z = at::tensor({-0.5f, 0.25f, 1.5f}).view({1, 1, 1, 3}).requires_grad_();
  const Tensor x = generator.decode(z);
  EXPECT_TRUE(at::equal(x.detach().flatten(), at::tensor({0.0f, 0.25f, 1.0f})));
  EXPECT_TRUE(at::equal(torch::autograd::grad({x.sum()}, {z})[0].flatten(), at::tensor({0.0f, 1.0f, 0.0f})));
}

TEST(Pixel, StartsAtGreyOrAtAnImageAndNowhereElse) {
  const ImageSpec image{3, 8, 8, {}, {}};
  Tensor picture = at::full({3, 8, 8}, 0.2);
  picture.select(0, 1).fill_(0.9);
  for (const char* range : {"sigmoid", "clip"}) {
    SCOPED_TRACE(range);
    PixelOptions options;
    options.range = range;
    Stream stream = Stream::range(4, 0, 200);
    const Generator grey = pixel(options, image);
    const Tensor z = grey.start(stream);
    EXPECT_EQ(z.sizes(), at::IntArrayRef({200, 3, 8, 8}));
    EXPECT_NEAR(z.std().item<double>(), 0.01, 2e-4);
    EXPECT_NEAR(grey.decode(z).mean().item<double>(), 0.5, 1e-3);

    options.deviation = 0;
    const Generator from_image = pixel(options, image, picture);
    Stream again = Stream::range(4, 0, 2);
    const Tensor x = from_image.decode(from_image.start(again));
    EXPECT_LT((x - picture).abs().max().item<double>(), 1e-6);
    EXPECT_LT((from_image.decode(pixel_encoder(options, image).encode(x)) - x).abs().max().item<double>(), 1e-6);
  }
  EXPECT_THROW(pixel({}, image, at::zeros({3, 8, 9})), Error);
}

TEST(Decoder, EncoderGivesTheCodeAndOfAVaeTheMean) {
  const Tensor x = at::sigmoid(normal({4, 3, 16, 24}));
  for (const char* kind : {"autoencoder", "vae"}) {
    const Decoder decoder = untrained(kind, small());
    const Tensor code = as_encoder(decoder, at::kCPU)->encode(x);
    EXPECT_EQ(code.sizes(), at::IntArrayRef({4, 5}));
    EXPECT_LT((decoder.encoder(x).narrow(1, 0, 5) - code).abs().max().item<double>(), 1e-5);
  }
  EXPECT_FALSE(as_encoder(untrained("gan", small()), at::kCPU));
  EXPECT_EQ(discriminator_network(small(), 3)(x).sizes(), at::IntArrayRef({4, 1}));
}

TEST(Decoder, APatchDiscriminatorSees26PixelsOfAnImageOfAnySize) {
  const Network network = patch_discriminator_network(small(), 3);
  EXPECT_EQ(network(normal({2, 3, 48, 40})).sizes(), at::IntArrayRef({2, 1, 12, 10}));
  const Tensor x = normal({1, 3, 64, 64}), said = network(x)[0][0];
  // What changes the number at (7, 8) of 16 × 16: places 4·7 - 11 … 4·7 + 14 down, and so across.
  const auto changes = [&](int64_t y, int64_t across) {
    Tensor other = x.clone();
    other.select(2, y).select(2, across).add_(1.0);
    return network(other)[0][0][7][8].item<double>() != said[7][8].item<double>();
  };
  EXPECT_TRUE(changes(28 - 11, 32) && changes(28 + 14, 32) && changes(28, 32 - 11) && changes(28, 32 + 14));
  EXPECT_FALSE(changes(28 - 12, 32) || changes(28 + 15, 32) || changes(28, 32 - 12) || changes(28, 32 + 15));
}

TEST(Decoder, ASpatialCodeIsASmallImageOfAnySize) {
  const Decoder trained = untrained("vae", spatial());
  EXPECT_EQ(code_shape(trained.options), (std::vector<int64_t>{5, 2, 3}));
  const Tensor x = at::sigmoid(normal({2, 3, 16, 24}));
  EXPECT_EQ(as_encoder(trained, at::kCPU)->encode(x).sizes(), at::IntArrayRef({2, 5, 2, 3}));

  // The same weights at 32 × 40: what lies far from an edge is what it was.
  const Decoder larger = resized(trained, 32, 40);
  const Generator generator = as_generator(larger, at::kCPU, "normal");
  EXPECT_EQ(generator.latent, (std::vector<int64_t>{5, 4, 5}));
  const Tensor z = normal({1, 5, 8, 8}), whole = as_generator(resized(trained, 64, 64), at::kCPU, "normal").decode(z);
  const Tensor part = as_generator(resized(trained, 64, 48), at::kCPU, "normal").decode(z.narrow(3, 0, 6));
  EXPECT_LT((whole.narrow(3, 0, 16) - part.narrow(3, 0, 16)).abs().max().item<double>(), 1e-5);
  EXPECT_EQ(as_encoder(larger, at::kCPU)->encode(at::zeros({1, 3, 32, 40})).sizes(), at::IntArrayRef({1, 5, 4, 5}));

  expect_refusal([&] { resized(trained, 30, 40); }, Failure::input, {"divisible by 8"});
  expect_refusal([&] { resized(untrained("vae", small()), 32, 40); }, Failure::input, {"expected 16 x 24", "spatial"});
  DecoderOptions hidden = spatial();
  hidden.hidden = 4;
  expect_refusal([&] { decoder_network(hidden, 1); }, Failure::input, {"hidden = 4", "expected hidden = 0"});
}

TEST(Decoder, CodesAreWhitenedInTheWeights) {
  Decoder decoder = untrained("autoencoder", residual());
  const Tensor x = at::sigmoid(2 * normal({40, 3, 16, 24}));
  decoder.encoder.weights["code.weight"].mul_(30);
  decoder.codes = code_statistics(decoder.encoder(x));
  const Tensor before = decoder.decoder(decoder.encoder(x));
  EXPECT_GT((decoder.codes.covariance - at::eye(5)).abs().max().item<double>(), 0.1);
  whiten(decoder);
  const Tensor codes = decoder.encoder(x);
  const CodeStatistics found = code_statistics(codes);
  EXPECT_LT((found.covariance - at::eye(5)).abs().max().item<double>(), 1e-2);
  EXPECT_LT(found.mean.abs().max().item<double>(), 1e-3);
  EXPECT_LT((decoder.codes.covariance - at::eye(5)).abs().max().item<double>(), 1e-2);
  EXPECT_TRUE((codes.amin({0, 2, 3}) >= decoder.codes.low.flatten() - 1e-3).all().item<bool>());
  EXPECT_TRUE((codes.amax({0, 2, 3}) <= decoder.codes.high.flatten() + 1e-3).all().item<bool>());
  EXPECT_LT((decoder.decoder(codes) - before).abs().max().item<double>(), 1e-3 * before.abs().max().item<double>());
  // Without blocks there is no layer to take it in.
  Decoder plain = untrained("autoencoder", spatial());
  expect_refusal([&] { whiten(plain); }, Failure::runtime, {"without blocks"});
  DecoderOptions dense = small();
  dense.blocks = 1;
  expect_refusal([&] { decoder_network(dense, 1); }, Failure::input, {"blocks = 1", "spatial = true"});
}

TEST(Codes, StatisticsComeInThreeForms) {
  const Tensor codes = normal({60, 3, 2, 4}) * at::tensor({1.0f, 5.0f, 0.1f}).view({3, 1, 1}) + 2;
  const auto in_parts = [&](const std::string& form) {
    CodeSums sums({3, 2, 4}, form);
    for (int64_t first = 0; first < 60; first += 7) sums.add(codes.slice(0, first, first + 7));
    return sums.statistics();
  };
  const auto near = [](const Tensor& a, const Tensor& b) { return at::allclose(a, b, 1e-4, 1e-6); };

  const CodeStatistics channel = in_parts("auto"), full = in_parts("full"), diagonal = in_parts("diagonal");
  const Tensor places = codes.movedim(1, -1).reshape({-1, 3});
  EXPECT_EQ(channel.mean.sizes(), at::IntArrayRef({3, 1, 1}));
  EXPECT_TRUE(near(channel.mean.flatten(), places.mean(0)));
  EXPECT_TRUE(near(channel.covariance, at::cov(places.t())));
  EXPECT_TRUE(near(channel.deviation().flatten(), places.std(0)));
  EXPECT_TRUE(at::equal(channel.high.flatten(), at::amax(places, {0})));

  EXPECT_TRUE(near(full.mean, codes.mean(0)));
  EXPECT_TRUE(near(full.covariance, at::cov(codes.flatten(1).t())));
  EXPECT_TRUE(near(full.deviation(), codes.std(0)));
  EXPECT_TRUE(near(diagonal.mean, codes.mean(0)));
  EXPECT_TRUE(near(diagonal.covariance, codes.var(0)));
  EXPECT_TRUE(near(diagonal.deviation(), codes.std(0)));
  EXPECT_TRUE(at::equal(diagonal.low, at::amin(codes, {0})));

  // By channel they fit any height and width, the others one.
  EXPECT_NO_THROW(channel.require_fit({3, 9, 9}, "here"));
  expect_refusal([&] { full.require_fit({3, 9, 9}, "here"); }, Failure::input, {"here", "[3,2,4]", "[3,9,9]"});
  expect_refusal([&] { diagonal.require_fit({4, 2, 4}, "here"); }, Failure::input, {"[4,2,4]"});
  // Large codes keep no matrix.
  EXPECT_EQ(code_statistics(normal({3, 5000})).covariance.sizes(), at::IntArrayRef({5000}));
  EXPECT_EQ(standard_statistics({5000}).covariance.sizes(), at::IntArrayRef({5000}));
  EXPECT_EQ(standard_statistics({3, 2, 4}).covariance.sizes(), at::IntArrayRef({3, 3}));
  expect_refusal([] { CodeSums({5}, "channel"); }, Failure::input, {"[C,H,W]"});
  expect_refusal([] { CodeSums({5000}, "full"); }, Failure::input, {"at most 4096"});
  expect_refusal([] { CodeSums({5}, "whole"); }, Failure::usage, {"diagonal"});
}

TEST(Decoder, StatisticsOfCodesAreThoseOfAnIndependentSum) {
  const Tensor codes = normal({50, 3}) * at::tensor({1.0f, 5.0f, 0.1f}) + 2;
  const CodeStatistics got = code_statistics(codes);
  EXPECT_TRUE(at::allclose(got.mean, codes.mean(0), 1e-5));
  EXPECT_TRUE(at::allclose(got.covariance, at::cov(codes.t()), 1e-4, 1e-6));
  EXPECT_TRUE(at::equal(got.low, at::amin(codes, {0})));
  EXPECT_TRUE(at::equal(got.high, at::amax(codes, {0})));
  EXPECT_THROW(code_statistics(codes.narrow(0, 0, 1)), Error);
}

TEST(Decoder, NamesItsStepsAndKnowsItsCost) {
  const auto layers = decoder_network({}, 1).layers({32});
  EXPECT_EQ(layers.front().name, "dense");
  EXPECT_EQ(layers.back().name, "sigmoid");
  EXPECT_EQ(layers.back().shape, (std::vector<int64_t>{3, 48, 48}));
  double cost = 0;
  for (const Layer& layer : layers)
    cost += static_cast<double>(layer.parameters) * (layer.shape.size() == 3 ? static_cast<double>(layer.shape[1] * layer.shape[2]) : 1.0);
  EXPECT_NEAR(cost, 28e6, 1e6);  // what decoder.h promises
}

TEST(Decoder, RefusesSizesAndCodesThatDoNotFit) {
  DecoderOptions odd = small();
  odd.width = 20;
  const auto refuse = [&](auto&& build) {
    try {
      build();
      ADD_FAILURE() << "not refused";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), Failure::input);
      EXPECT_NE(std::string(error.what()).find("divisible by 8"), std::string::npos) << error.what();
    }
  };
  refuse([&] { decoder_network(odd, 1); });
  refuse([&] { encoder_network(odd, 5, 1); });
  refuse([&] { discriminator_network(odd, 1); });
  const Generator generator = as_generator(untrained("vae", small()), at::kCPU);
  EXPECT_THROW(generator.decode(at::zeros({2, 6})), Error);
  EXPECT_THROW(as_encoder(untrained("vae", small()), at::kCPU)->encode(at::zeros({2, 3, 16, 16})), Error);
  EXPECT_THROW(as_generator(untrained("vae", small()), at::kCPU, "zero"), Error);
}

}  // namespace
}  // namespace evoke
