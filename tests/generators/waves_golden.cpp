// Images drawn from waves, and the spectrum of images: against numpy (tests/golden/waves.py), the way back, and slopes.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "generators/fourier.h"
#include "generators/maco.h"
#include "tests/expect.h"

namespace evoke {
namespace {

[[maybe_unused]] const bool one_thread = (set_threads(1), true);

Tensor golden(const std::string& name) {
  static const nlohmann::json all = nlohmann::json::parse(std::ifstream(EVOKE_SOURCE "/tests/golden/waves.json"));
  const nlohmann::json& one = all.at(name);
  return at::tensor(one.at("values").get<std::vector<double>>(), at::kDouble).reshape(one.at("shape").get<std::vector<int64_t>>());
}

// The formula of the script.
Tensor chirp(const std::vector<int64_t>& shape) {
  int64_t count = 1;
  for (const int64_t n : shape) count *= n;
  const Tensor i = at::arange(count, at::kDouble);
  return (0.37 * i * i).sin().reshape(shape);
}

double distance(const Tensor& a, const Tensor& b) { return (a - b).abs().max().item<double>(); }

const std::vector<std::pair<int64_t, int64_t>> sizes{{6, 8}, {7, 9}, {8, 5}};
ImageSpec image(int64_t height, int64_t width) { return {3, height, width, {}, {}}; }
std::string name(int64_t height, int64_t width) { return text(height, "x", width); }

Spectrum lower_spectrum(int64_t height, int64_t width) {
  return {1.5 + chirp({3, height, width / 2 + 1}).to(at::kFloat), at::zeros({3}), at::eye(3) + at::tril(at::full({3, 3}, 0.2), -1), height,
          width};
}

TEST(Fourier, DrawsWhatNumpyDraws) {
  const Tensor matrix = colour_matrix("imagenet", nullptr, 3, "");
  FourierOptions gentle;
  gentle.decay = 0.6;
  for (const auto& [h, w] : sizes) {
    SCOPED_TRACE(name(h, w));
    const Tensor z = 0.2 * chirp({2, 3, h, w / 2 + 1, 2});
    const Generator colour = fourier({}, image(h, w), matrix, at::kCPU), plain = fourier(gentle, image(h, w), {}, at::kCPU);
    EXPECT_EQ(colour.latent, (std::vector<int64_t>{3, h, w / 2 + 1, 2}));
    EXPECT_LT(distance(colour.decode(z), golden("fourier/" + name(h, w))), 1e-12);
    EXPECT_LT(distance(colour.decode(z.to(at::kFloat)), golden("fourier/" + name(h, w))), 1e-5);
    EXPECT_LT(distance(plain.decode(z), golden("fourier_plain/" + name(h, w))), 1e-12);
    EXPECT_GT(distance(plain.decode(z), golden("fourier/" + name(h, w))), 1e-3);
  }
}

TEST(Fourier, EncodesWhatItDraws) {
  const Tensor matrix = colour_matrix("imagenet", nullptr, 3, "");
  for (const auto& [h, w] : sizes) {
    SCOPED_TRACE(name(h, w));
    const Encoder encoder = fourier_encoder({}, image(h, w), matrix, at::kCPU);
    const Generator generator = fourier({}, image(h, w), matrix, at::kCPU);
    const Tensor x = 0.5 + 0.45 * chirp({2, 3, h, w}), z = encoder.encode(x);
    EXPECT_LT(distance(z, golden("code/" + name(h, w))), 1e-10);
    EXPECT_LT(distance(generator.decode(z), x), 1e-12);
    EXPECT_LT(distance(generator.decode(encoder.encode(x.to(at::kFloat))), x), 1e-5);
    // What lies outside the range that the sigmoid reaches is clipped.
    EXPECT_LT(distance(generator.decode(encoder.encode(at::ones({1, 3, h, w}, at::kDouble))), at::full({}, 0.999, at::kDouble)), 1e-9);
    EXPECT_THROW(encoder.encode(at::zeros({1, 3, h + 1, w})), Error);
  }
}

TEST(Maco, DrawsWhatNumpyDraws) {
  MacoOptions vivid;
  vivid.contrast = 1.7;
  MacoOptions spread;
  spread.spread = 2.5;
  for (const auto& [h, w] : sizes) {
    SCOPED_TRACE(name(h, w));
    const Spectrum spectrum = lower_spectrum(h, w);
    const Generator generator = maco(vivid, image(h, w), spectrum, colour_matrix("spectrum", &spectrum, 3, ""), at::kCPU);
    const Tensor z = 2 * chirp({2, 3, h, w / 2 + 1});
    // The spectrum is float32.
    EXPECT_LT(distance(generator.decode(z), golden("maco/" + name(h, w))), 1e-6);
    EXPECT_LT(distance(generator.decode(z.to(at::kFloat)), golden("maco/" + name(h, w))), 1e-5);
    EXPECT_LT(distance(maco(spread, image(h, w), spectrum, {}, at::kCPU).decode(z), golden("maco_spread/" + name(h, w))), 1e-6);
    // A row is drawn alone as in a batch, and neither a turn of all phases nor their unit says anything.
    EXPECT_LT(distance(generator.decode(z.slice(0, 1)), generator.decode(z).slice(0, 1)), 1e-12);
    EXPECT_LT(distance(generator.decode(3 * z + 0.7), generator.decode(z)), 1e-4);
  }
}

TEST(Waves, SlopesAreFiniteDifferences) {
  const Spectrum spectrum = lower_spectrum(7, 9);
  const Tensor matrix = colour_matrix("imagenet", nullptr, 3, ""), weight = chirp({3, 7, 9});
  for (const Generator& generator : {fourier({}, image(7, 9), matrix, at::kCPU), maco({}, image(7, 9), spectrum, matrix, at::kCPU)}) {
    SCOPED_TRACE(generator.name);
    std::vector<int64_t> shape = generator.latent;
    shape.insert(shape.begin(), 2);
    const Tensor z = (0.3 * chirp(shape)).requires_grad_(), along = (chirp(shape) * 1.3).cos();
    const auto value = [&](const Tensor& at) { return (generator.decode(at) * weight).sum(); };
    const Tensor slope = torch::autograd::grad({value(z)}, {z})[0];
    const double h = 1e-6, numerical = ((value(z + h * along) - value(z - h * along)) / (2 * h)).item<double>();
    EXPECT_NEAR((slope * along).sum().item<double>(), numerical, 1e-6 * (1 + std::abs(numerical)));
    EXPECT_GT(std::abs(numerical), 1e-3);
  }
}

TEST(Waves, ColoursAreNotRoundedWithTheNetworks) {
  // Rounding to bfloat16 is for networks' products: a picture has the colours that it has.
  const Generator generator = fourier({}, image(6, 8), colour_matrix("imagenet", nullptr, 3, ""), at::kCPU);
  const Tensor z = (0.2 * chirp({2, 3, 6, 5, 2})).to(at::kFloat);
  const Tensor exact = generator.decode(z);
  const Bfloat16Scope rounded(true, at::kCPU);
  EXPECT_TRUE(at::equal(generator.decode(z), exact));
}

TEST(Spectrum, MeasuresWhatNumpyMeasures) {
  const Tensor mix = at::tensor({3.0, 0.5, 0.1, 3.0, 0.0, -0.2, 2.5, -0.6, 0.3}, at::kDouble).view({3, 3}) / 3;
  const Tensor images = (0.5 + 0.1 * at::einsum("ck,nkhw->nchw", {mix, chirp({5, 3, 6, 9})})).to(at::kFloat);
  int times = 0;
  const Spectrum found = measure_spectrum(
      [&](const std::function<void(const Tensor&)>& visit) {
        for (const auto& [first, last] : {std::pair{0, 2}, std::pair{2, 5}}) visit(images.slice(0, first, last));
        ++times;
      },
      "images");
  EXPECT_EQ(times, 2);
  EXPECT_EQ(found.height, 6);
  EXPECT_EQ(found.width, 9);
  EXPECT_LT(distance(found.mean, golden("measured/mean")), 1e-6);
  EXPECT_LT(distance(found.factor, golden("measured/factor")), 1e-6);
  EXPECT_LT(distance(found.magnitude, golden("measured/magnitude")), 1e-4);

  const auto of = [](const Tensor& grey) {
    return refusal([&] { measure_spectrum([&](const auto& visit) { visit(grey); }, "grey.h5"); }, Failure::input);
  };
  expect_in("grey.h5: found images whose channels do not vary each by itself", of(images.mean(1, true).expand({5, 3, 6, 9})));
  expect_in("grey.h5: found images whose channels", of(at::full({2, 3, 4, 4}, 0.5)));
  expect_in("found 0 pixels", refusal([] { measure_spectrum([](const auto&) {}, "none.h5"); }, Failure::input));
}

TEST(Spectrum, IsResizedAsNumpyDoesIt) {
  for (const auto& [h, w] : sizes) {
    const Spectrum from = lower_spectrum(h, w);
    for (const auto& [h2, w2] : {std::pair{6, 8}, std::pair{13, 4}, std::pair{5, 17}}) {
      const Spectrum found = resized(from, h2, w2);
      EXPECT_LT(distance(found.magnitude, golden("resized/" + name(h, w) + "/" + name(h2, w2))), 1e-6)
          << h << " " << w << " " << h2 << " " << w2;
      EXPECT_EQ(found.width, w2);
    }
  }
}

}  // namespace
}  // namespace evoke
