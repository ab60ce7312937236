// needs: files
// The figures of a judgement, against numpy and the definitions (tests/golden/judging.py); beside each a figure that is nearly the same one
// and must differ.
#include "experiments/judging/figures.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/numbers/linear_algebra.h"
#include "core/numbers/stream.h"
#include "experiments/judging/target_path.h"
#include "experiments/studies/measures.h"

namespace evoke {
namespace {

[[maybe_unused]] const bool one_thread = (set_threads(1), true);

Tensor golden(const std::string& name) {
  static const nlohmann::json all = nlohmann::json::parse(std::ifstream(EVOKE_SOURCE "/tests/golden/judging.json"));
  const nlohmann::json& one = all.at(name);
  return at::tensor(one.at("values").get<std::vector<double>>(), at::kDouble).reshape(one.at("shape").get<std::vector<int64_t>>());
}

// The formula of the script.
Tensor chirp(int64_t rows, int64_t columns, double rate) {
  const Tensor i = at::arange(rows * columns, at::kDouble);
  return (rate * i * i).sin().reshape({rows, columns});
}
Tensor real() { return chirp(60, 6, 0.37); }
Tensor made() { return 0.8 * chirp(45, 6, 0.53) + 0.3; }

void expect_near(const Tensor& found, const std::string& name) {
  const Tensor expected = golden(name);
  ASSERT_EQ(found.sizes(), expected.sizes()) << name;
  EXPECT_LT((found - expected).abs().max().item<double>(), 1e-6) << name << found << expected;
}

TEST(JudgingGolden, ManifoldOfNeighbours) {
  const Manifold manifold = manifold_of(real(), 5);
  expect_near(manifold.radii, "radii");
  expect_near(nearness(manifold, made()), "nearness");
  expect_near(nearness_left_out(manifold), "left_out");
  EXPECT_GT((manifold_of(real(), 4).radii - golden("radii")).abs().max().item<double>(), 0.01);
}

TEST(JudgingGolden, PrecisionAndRecall) {
  const double precision = golden("precision").item<double>(), recall = golden("recall").item<double>();
  const PrecisionRecall found = precision_recall(real(), 1.5 * made(), 5), fewer = precision_recall(real(), 1.5 * made(), 3);
  EXPECT_NEAR(found.precision.value, precision, 1e-9);
  EXPECT_NEAR(found.recall.value, recall, 1e-9);
  EXPECT_GT(std::abs(fewer.precision.value - precision), 0.01);
  EXPECT_GT(std::abs(fewer.recall.value - recall), 0.01);
}

TEST(JudgingGolden, FrechetAndVendi) {
  Moments a, b;
  a.add(real());
  b.add(made());
  const double frechet = golden("frechet").item<double>(), vendi = golden("vendi").item<double>();
  EXPECT_NEAR(frechet_distance(a.mean(), a.covariance(), b.mean(), b.covariance()), frechet, 1e-6);
  EXPECT_NEAR(vendi_score(made()), vendi, 1e-6);
  // Covariances that are divided by N, and rows that lie about their mean.
  EXPECT_GT(std::abs(frechet_distance(a.mean(), a.covariance() * (59.0 / 60), b.mean(), b.covariance() * (44.0 / 45)) - frechet), 1e-4);
  EXPECT_GT(std::abs(vendi_score(made() - made().mean(0)) - vendi), 0.01);
}

TEST(JudgingGolden, SlopeOfTheSpectrum) {
  std::vector<Tensor> images;
  for (const double rate : {0.37, 0.011, 0.0007}) images.push_back(chirp(3 * 24, 20, rate).reshape({3, 24, 20}));
  expect_near(spectrum_slope(at::stack(images)), "slope");
  EXPECT_GT((spectrum_slope(at::stack(images).slice(3, 0, 19)) - golden("slope")).abs().max().item<double>(), 0.01);
}

TEST(JudgingGolden, SpearmanWithManyTies) {
  const auto coarse = [](double rate) { return (4 * chirp(1, 80, rate)).round(); };
  const Tensor one = coarse(0.37), other = (2 * one + coarse(0.53)).exp();
  const double expected = golden("spearman").item<double>();
  EXPECT_NEAR(spearman(one, other), expected, 1e-6);
  // Pearson's correlation, and ranks that equal values do not share.
  const auto pearson = [](const Tensor& a, const Tensor& b) { return at::corrcoef(at::cat({a, b}))[0][1].item<double>(); };
  const auto orders = [](const Tensor& a) { return std::get<1>(std::get<1>(a.sort(1)).sort(1)).to(at::kDouble); };
  EXPECT_GT(std::abs(pearson(one, other) - expected), 0.01);
  EXPECT_GT(std::abs(pearson(orders(one), orders(other)) - expected), 1e-4);
}

TEST(JudgingGolden, Wilson) {
  const std::vector<std::pair<int64_t, int64_t>> cases{{0, 1},  {1, 1},  {0, 20},   {20, 20},   {1, 29},
                                                       {3, 10}, {7, 10}, {81, 263}, {999, 1000}};
  const Tensor expected = golden("wilson");
  for (size_t i = 0; i < cases.size(); ++i) {
    const auto [successes, trials] = cases[i];
    const Interval found = wilson(successes, trials);
    const Tensor ends = expected[static_cast<int64_t>(i)];
    EXPECT_NEAR(found.low, ends[0].item<double>(), 1e-6) << successes << " of " << trials;
    EXPECT_NEAR(found.high, ends[1].item<double>(), 1e-6) << successes << " of " << trials;
    // The normal law's interval, p ± z·√(p(1-p)/n).
    const double reach = 1.959964 * std::sqrt(found.value * (1 - found.value) / static_cast<double>(trials));
    EXPECT_GT(std::abs(found.value - reach - ends[0].item<double>()) + std::abs(found.value + reach - ends[1].item<double>()), 1e-3);
  }
}

// The script knows the exact law of a resample's median and mean, and that 100,000 resamples find its ends within 1e-3.
TEST(JudgingGolden, BootstrapIntervals) {
  const Tensor values = 0.03 * chirp(1, 100, 0.37).flatten().exp(), fewer = values.slice(0, 0, 99);
  const auto difference = [](const Interval& found, const std::string& name) {
    const Tensor ends = golden(name);
    return std::max(std::abs(found.low - ends[0].item<double>()), std::abs(found.high - ends[1].item<double>()));
  };
  const int64_t resamples = 100000;
  const Interval mean = bootstrap_mean((1000 * values).round() / 1000, 3, resamples);
  EXPECT_LT(difference(bootstrap_median(fewer, 1, resamples), "median_of_99"), 1e-3);
  EXPECT_LT(difference(bootstrap_median(values, 2, resamples), "median_of_100"), 1e-3);
  EXPECT_LT(difference(mean, "mean_of_100"), 1e-3);
  // The other figure, and half as many values.
  EXPECT_GT(difference(mean, "median_of_100"), 1e-3);
  EXPECT_GT(difference(bootstrap_median(values.slice(0, 0, 50), 2, resamples), "median_of_100"), 1e-3);
  EXPECT_GT(difference(bootstrap_mean(values.slice(0, 0, 50), 3, resamples), "mean_of_100"), 1e-3);
}

TEST(Manifold, LongerThanOnePartAndRefusals) {
  // More points than distances are taken of at once; on a line, k = 1: every radius is 1, whatever the part.
  const Manifold line = manifold_of(at::arange(1300, at::kDouble).unsqueeze(1), 1);
  EXPECT_TRUE(at::allclose(line.radii, at::ones({1300}, at::kDouble), 0, 1e-6));
  EXPECT_TRUE(at::allclose(nearness_left_out(line), at::ones({1300}, at::kDouble), 0, 1e-6));
  const Tensor found = nearness(line, at::tensor({0.25, 700.5, 1302.0}, at::kDouble).unsqueeze(1));
  EXPECT_NEAR(found[0].item<double>(), 0.25, 1e-6);
  EXPECT_NEAR(found[1].item<double>(), 0.5, 1e-6);
  EXPECT_NEAR(found[2].item<double>(), 3.0, 1e-6);
  EXPECT_THROW(manifold_of(real(), 60), Error);
  EXPECT_THROW(manifold_of(real(), 0), Error);
  EXPECT_TRUE(std::isnan(precision_recall(real(), real().slice(0, 0, 5), 5).precision.value));
  // Equal points: a ball without extent holds its own centre, and nothing else.
  const Manifold point = manifold_of(at::zeros({4, 2}), 2);
  EXPECT_LE(nearness(point, at::zeros({1, 2})).item<double>(), 1.0);
  EXPECT_GT(nearness(point, at::ones({1, 2})).item<double>(), 1.0);
}

TEST(Spectrum, NoiseIsFlatAndFilteredNoiseFalls) {
  Stream stream = Stream::range(3, 0, 8);
  const Tensor noise = stream.normal({1, 96, 96}).to(at::kDouble);
  EXPECT_LT(spectrum_slope(noise).abs().max().item<double>(), 0.2);
  const auto double_ = at::TensorOptions(at::kDouble);
  const Tensor y = at::fft_fftfreq(96, 1.0, double_).unsqueeze(1), x = at::fft_fftfreq(96, 1.0, double_);
  const Tensor frequency = (y * y + x * x).sqrt().clamp_min(1.0 / 96);
  const Tensor falling = at::real(at::fft_ifft2(at::fft_fft2(noise) / frequency));
  EXPECT_LT((spectrum_slope(falling) + 2).abs().max().item<double>(), 0.2);
  EXPECT_TRUE(std::isnan(spectrum_slope(at::ones({1, 3, 16, 16})).item<double>()));
  EXPECT_THROW(spectrum_slope(at::ones({1, 3, 4, 16})), Error);
}

TEST(Bootstrap, IntervalsOfMeansAndOfAnyFigure) {
  Stream stream = Stream::range(9, 0, 400);
  const Tensor values = stream.normal({}).to(at::kDouble) + 3;
  const Interval mean = bootstrap_mean(at::cat({values, at::full({3}, std::nan(""), at::kDouble)}), 1);
  EXPECT_NEAR(mean.value, values.mean().item<double>(), 1e-12);
  EXPECT_NEAR(mean.high - mean.low, 2 * 1.96 / 20, 0.03);  // of unit deviation
  EXPECT_LT(mean.low, mean.value);
  EXPECT_GT(mean.high, mean.value);
  const Interval same = bootstrap(
      400, [&](const Tensor& rows) { return values.index_select(0, rows).mean().item<double>(); }, 1, 1000);
  EXPECT_NEAR(same.value, mean.value, 1e-12);
  EXPECT_NEAR(same.low, mean.low, 0.01);
  EXPECT_NEAR(same.high, mean.high, 0.01);
  EXPECT_TRUE(std::isnan(bootstrap_mean(at::empty({0}), 1).value));
  EXPECT_THROW(bootstrap(
                   0, [](const Tensor&) { return 0.0; }, 1),
               Error);
}

// The formula of the script: uint8 [count,8,8,3], image i of class i % 4.
Tensor classes_of_images(int64_t count, double rate) {
  const Tensor waves = chirp(count, 8 * 8 * 3, rate).reshape({count, 8, 8, 3}), label = at::arange(count, at::kLong).remainder(4);
  const Tensor means = (1.3 * at::arange(4, at::kDouble).unsqueeze(1) + 2.1 * at::arange(3, at::kDouble)).cos().index_select(0, label);
  const Tensor contrast = 8 * (label + 1).view({count, 1, 1, 1});
  return (127.5 + contrast * waves + 48 * means.view({count, 1, 1, 3}) + 16 * waves.slice(1, 0, 1).slice(2, 0, 1)).floor().to(at::kByte);
}

TEST(JudgingGolden, TargetPath) {
  Judges judges;
  judges.target.image = {.channels = 3, .height = 8, .width = 8, .mean = {}, .deviation = {}};
  judges.target.layers = {{"image", "", {3, 8, 8}, 0}, {"square", "", {3, 8, 8}, 0}, {"logits", "dense", {4}, 0}};
  judges.target.forward = [](const Tensor& x, const std::vector<std::string>&) {
    const Tensor weight = (1.3 * at::arange(4, at::kDouble).unsqueeze(1) + 2.1 * at::arange(3, at::kDouble)).cos();
    return Activations{{"image", x}, {"square", x.to(at::kDouble).square()}, {"logits", x.to(at::kDouble).mean({2, 3}).mm(weight.t())}};
  };
  const auto images = [](int64_t count, double rate) {
    return RealImages{count, {}, [all = classes_of_images(count, rate)](const Tensor& rows) { return all.index_select(0, rows); }};
  };
  add_target_path(judges, images(160, 0.37), images(40, 0.53));
  ASSERT_TRUE(judges.target_path);
  ASSERT_EQ(judges.target_path->depths.size(), 2U);

  // Every picture as one of each unit's.
  const Tensor pictures = classes_of_images(12, 0.71);
  std::vector<Tensor> found;
  for (int64_t unit = 0; unit < 4; ++unit)
    found.push_back(judges.all.back().look(pictures, std::vector<Column>(12, column_of({"logits", unit}))).at("target_path"));
  const Tensor nearness = at::stack(found, 1).to(at::kDouble);  // [12,4,2]
  try_depths(judges, {column_of({"logits", 2})});
  for (int64_t i = 0; i < 2; ++i) {
    const TargetDepth& depth = judges.target_path->depths[static_cast<size_t>(i)];
    const std::string end = "_" + std::to_string(i);
    const Tensor expected = golden("target_path" + end);
    EXPECT_LT(((nearness.select(2, i) - expected) / expected).abs().max().item<double>(), 1e-4) << nearness << expected;
    EXPECT_NEAR(depth.stretch, golden("target_path_stretch" + end).item<double>(), 1e-4);
    EXPECT_NEAR(depth.left_out, golden("target_path_left_out" + end).item<double>(), 1e-9);
    EXPECT_NEAR(depth.others, golden("target_path_others" + end).item<double>(), 1e-9);
    EXPECT_FALSE(depth.used);
  }
  // Another unit's exciting images are others.
  EXPECT_GT((nearness.select(1, 0) - nearness.select(1, 1)).abs().max().item<double>(), 0.1);
}

}  // namespace
}  // namespace evoke
