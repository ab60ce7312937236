// Transforms: each against a closed form, the laws of their draws with both ends, one draw a row.
#include "classifiers/transforms.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <map>

namespace evoke {
namespace {

constexpr double pi = 3.14159265358979323846;

Tensor noise_images(int64_t rows, int64_t height, int64_t width, int64_t channels = 2) {
  Stream stream = Stream::range(5, 100, rows);
  return stream.uniform({channels, height, width});
}

Tensor applied(const Transform& transform, const Tensor& x, int64_t first = 0) {
  Stream stream = Stream::range(3, first, x.size(0));
  return transform(x, stream);
}

double distance(const Tensor& a, const Tensor& b) { return (a - b).abs().max().item<double>(); }

// What one placement draws for many rows: an entry of its maps.
std::vector<double> drawn(const Placement& placement, int64_t row, int64_t column, int64_t rows = 20000) {
  Stream stream = Stream::range(9, 0, rows);
  const Tensor maps = placement(stream, 48, 48).select(1, row).select(1, column).to(at::kDouble).contiguous();
  return {maps.const_data_ptr<double>(), maps.const_data_ptr<double>() + rows};
}

// Is each of these values met, nothing else, and each as often as a fair draw would (chi-square below its mean + 5 standard deviations)?
bool fair_among(const std::vector<double>& values, const std::vector<double>& draws) {
  std::map<size_t, double> counts;
  for (const double draw : draws) {
    size_t which = 0;
    while (which < values.size() && std::abs(values[which] - draw) > 1e-5) ++which;
    if (which == values.size()) return false;
    counts[which] += 1;
  }
  const double expected = static_cast<double>(draws.size()) / static_cast<double>(values.size());
  double chi_square = 0;
  for (size_t i = 0; i < values.size(); ++i) chi_square += (counts[i] - expected) * (counts[i] - expected) / expected;
  const auto freedom = static_cast<double>(values.size() - 1);
  return chi_square < freedom + 5 * std::sqrt(2 * freedom);
}

// Largest gap between the draws' distribution function and the uniform one on [low, high], below the 1e-6 quantile of Kolmogorov's law?
bool uniform_in(double low, double high, std::vector<double> draws) {
  std::sort(draws.begin(), draws.end());
  double gap = 0;
  for (size_t i = 0; i < draws.size(); ++i)
    gap = std::max(gap, std::abs((draws[i] - low) / (high - low) - (static_cast<double>(i) + 0.5) / static_cast<double>(draws.size())));
  return gap < 2.7 / std::sqrt(static_cast<double>(draws.size()));
}

std::vector<double> evenly(double low, double high, int64_t count) {
  std::vector<double> out;
  for (int64_t i = 0; i < count; ++i) out.push_back(low + (high - low) * static_cast<double>(i) / static_cast<double>(count - 1));
  return out;
}

TEST(Draws, JitterCoversBothEnds) {
  for (const int64_t axis : {0, 1}) {
    EXPECT_TRUE(fair_among(evenly(-4, 4, 9), drawn(jitter_placement(8), axis, 2)));
    EXPECT_TRUE(fair_among(evenly(-10, 10, 21), drawn(jitter_placement(20), axis, 2)));
    EXPECT_TRUE(fair_among(evenly(-2, 1, 4), drawn(jitter_placement(3), axis, 2)));
    // One place too few, or one too many.
    EXPECT_FALSE(fair_among(evenly(-4, 3, 8), drawn(jitter_placement(8), axis, 2)));
    EXPECT_FALSE(fair_among(evenly(-4, 5, 10), drawn(jitter_placement(8), axis, 2)));
  }
  for (const double move : drawn(jitter_placement(0), 0, 2, 100)) EXPECT_EQ(move, 0.0);
}

TEST(Draws, ScaleCoversBothEnds) {
  std::vector<double> factors = drawn(scale_placement(0.9, 1.1, 11), 0, 0);
  for (double& factor : factors) factor = 1 / factor;
  EXPECT_TRUE(fair_among(evenly(0.9, 1.1, 11), factors));
  EXPECT_FALSE(fair_among(evenly(0.9, 1.08, 10), factors));
  factors = drawn(scale_placement(0.5, 2.0), 1, 1);
  for (double& factor : factors) factor = 1 / factor;
  EXPECT_TRUE(uniform_in(0.5, 2.0, factors));
  EXPECT_FALSE(uniform_in(0.5, 1.9, factors));
}

TEST(Draws, RotationCoversBothEnds) {
  const auto degrees = [](const Placement& placement) {
    std::vector<double> sines = drawn(placement, 0, 1), cosines = drawn(placement, 0, 0);
    for (size_t i = 0; i < sines.size(); ++i) sines[i] = std::atan2(sines[i], cosines[i]) * 180 / pi;
    return sines;
  };
  const std::vector<double> whole = degrees(rotate_placement(-10, 10, 21));
  std::vector<double> rounded = whole;
  for (double& angle : rounded) angle = std::round(angle);
  for (size_t i = 0; i < whole.size(); ++i) EXPECT_NEAR(whole[i], rounded[i], 1e-4);
  EXPECT_TRUE(fair_among(evenly(-10, 10, 21), rounded));
  EXPECT_FALSE(fair_among(evenly(-10, 9, 20), rounded));
  EXPECT_TRUE(uniform_in(-180, 180, degrees(rotate_placement(0, 360))));
  EXPECT_FALSE(uniform_in(-180, 180, degrees(rotate_placement(0, 340))));
}

TEST(Draws, FlipAndCrop) {
  EXPECT_TRUE(fair_among({-1, 1}, drawn(flip_placement(), 0, 0)));
  EXPECT_TRUE(uniform_in(0.25, 0.75, drawn(crop_placement(0.25, 0.75), 0, 0)));
  // A window of half the side has its middle anywhere within a quarter of 48 pixels.
  EXPECT_TRUE(uniform_in(-12, 12, drawn(crop_placement(0.5, 0.5), 0, 2)));
  EXPECT_TRUE(uniform_in(-12, 12, drawn(crop_placement(0.5, 0.5), 1, 2)));
  EXPECT_FALSE(uniform_in(-12, 11, drawn(crop_placement(0.5, 0.5), 1, 2)));
}

TEST(Draws, CropsShrinkFromStepToStep) {
  // The window's side at steps of a run of 11: the range moves from .5 … .7 to .1 … .2, and stays where the run begins and ends.
  const Placement shrinking = shrinking_crop_placement({0.5, 0.7}, {0.1, 0.2}, 11);
  const auto sides = [&](int64_t step) {
    Stream stream = Stream::range(9, 0, 20000, at::kCPU, step);
    const Tensor maps = shrinking(stream, 48, 32).to(at::kDouble);
    // Every window lies within the image.
    EXPECT_LE((maps.select(1, 0).select(1, 2).abs() - 16 * (1 - maps.select(1, 0).select(1, 0))).max().item<double>(), 1e-5);
    const Tensor side = maps.select(1, 1).select(1, 1).contiguous();
    return std::vector<double>(side.const_data_ptr<double>(), side.const_data_ptr<double>() + side.numel());
  };
  EXPECT_TRUE(uniform_in(0.5, 0.7, sides(-1)));
  EXPECT_TRUE(uniform_in(0.5, 0.7, sides(0)));
  EXPECT_TRUE(uniform_in(0.3, 0.45, sides(5)));
  EXPECT_TRUE(uniform_in(0.1, 0.2, sides(10)));
  EXPECT_TRUE(uniform_in(0.1, 0.2, sides(40)));
  EXPECT_FALSE(uniform_in(0.3, 0.45, sides(6)));
}

TEST(Transforms, JitterMovesPixelsExactly) {
  const Tensor x = noise_images(30, 9, 12);
  Stream same = Stream::range(3, 0, 30);
  const Tensor maps = jitter_placement(6)(same, 9, 12);
  const Tensor found = applied(jitter(6, 0.25), x);
  for (int64_t n = 0; n < 30; ++n) {
    const auto dx = static_cast<int64_t>(-maps[n][0][2].item<float>()), dy = static_cast<int64_t>(-maps[n][1][2].item<float>());
    const Tensor framed = at::constant_pad_nd(x[n], {3, 3, 3, 3}, 0.25);
    const Tensor expected = framed.slice(1, 3 - dy, 12 - dy).slice(2, 3 - dx, 15 - dx);
    EXPECT_LT(distance(found[n], expected), 2e-5) << dx << "," << dy;
  }
}

TEST(Transforms, QuarterTurnsAreExact) {
  const Tensor x = noise_images(2, 10, 10);
  EXPECT_LT(distance(applied(rotate(90, 90), x), at::rot90(x, -1, {2, 3})), 2e-5);  // clockwise
  EXPECT_LT(distance(applied(rotate(-90, -90), x), at::rot90(x, 1, {2, 3})), 2e-5);
  EXPECT_LT(distance(applied(rotate(180, 180), x), x.flip({2, 3})), 2e-5);
  EXPECT_LT(distance(applied(rotate(0, 0), x), x), 2e-5);
  EXPECT_GT(distance(applied(rotate(90, 90), x), at::rot90(x, 1, {2, 3})), 0.1);
}

TEST(Transforms, ScaleAgainstItsClosedForm) {
  // A slope stays a slope under bilinear resampling: x = column, about the middle, is divided by the factor.
  const Tensor column = (at::arange(20, at::kDouble) - 9.5).expand({1, 1, 16, 20});
  const Tensor found = applied(scale(2, 2, 0, std::nullopt), column);
  EXPECT_LT(distance(found, column / 2), 1e-5);
  // Shrunk by two, the ground fills the outer half.
  const Tensor small = applied(scale(0.5, 0.5, 0, 0.25), at::ones({1, 1, 16, 16}));
  EXPECT_LT(distance(small.slice(2, 0, 4), at::full({}, 0.25)), 1e-6);
  EXPECT_LT(distance(small.slice(2, 4, 12).slice(3, 4, 12), at::ones({})), 1e-6);
}

TEST(Transforms, CropFlipBlur) {
  const Tensor column = (at::arange(20, at::kDouble) - 9.5).expand({3, 1, 20, 20});
  const Tensor cropped = applied(crop(0.5, 0.5), column);
  EXPECT_LT(distance(cropped.diff(1, 3), at::full({}, 0.5)), 1e-5);  // half the slope, whatever the window
  EXPECT_LE(cropped.abs().max().item<double>(), 9.5);

  const Tensor x = noise_images(8, 6, 7), flipped = applied(flip(), x);
  int64_t turned = 0;
  for (int64_t n = 0; n < 8; ++n) {
    const bool is_turned = distance(flipped[n], x[n].flip(2)) < 2e-5;
    EXPECT_TRUE(is_turned || distance(flipped[n], x[n]) < 2e-5);
    turned += is_turned;
  }
  EXPECT_GT(turned, 0);
  EXPECT_LT(turned, 8);

  // A blur keeps a constant, and makes a Gaussian of a point.
  EXPECT_LT(distance(applied(gaussian_blur(2), at::ones({1, 3, 8, 8})), at::ones({})), 1e-6);
  Tensor point = at::zeros({1, 1, 31, 31}, at::kDouble);
  point[0][0][15][15] = 1.0;
  const Tensor spread = applied(gaussian_blur(2), point);
  EXPECT_NEAR((spread[0][0][15][18] / spread[0][0][15][15]).item<double>(), std::exp(-9.0 / 8), 1e-9);
  EXPECT_NEAR((spread[0][0][18][15] / spread[0][0][15][15]).item<double>(), std::exp(-9.0 / 8), 1e-9);
}

TEST(Transforms, NoiseHasItsDeviation) {
  const Tensor found = applied(noise(0.08), at::zeros({50, 3, 30, 30}));
  const double samples = 50 * 3 * 900;
  EXPECT_NEAR(found.std().item<double>() / 0.08, 1.0, 5 / std::sqrt(2 * samples));
  EXPECT_GT(std::abs(found.std().item<double>() / 0.088 - 1.0), 5 / std::sqrt(2 * samples));  // a tenth more would be seen
}

TEST(Transforms, ComposedPlacementsAreOneResample) {
  // Whole moves and quarter turns lose nothing, so one resample must equal one after the other, drawing the same.
  const Tensor x = noise_images(6, 12, 12);
  const Tensor at_once = applied(resample({jitter_placement(4), rotate_placement(-90, 90, 3)}, black), x);
  const Tensor in_turn = applied(compose({jitter(4), rotate(-90, 90, 3)}), x);
  EXPECT_LT(distance(at_once, in_turn), 3e-5);
  const Tensor in_other_order = applied(resample({rotate_placement(-90, 90, 3), jitter_placement(4)}, black), x);
  EXPECT_GT(distance(at_once, in_other_order), 0.1);

  // A point far from the middle, turned and then moved, lands where the sentence says.
  Tensor point = at::zeros({1, 1, 11, 11});
  point[0][0][5][8] = 1.0;  // three to the right
  EXPECT_NEAR(applied(rotate(90, 90), point)[0][0][8][5].item<double>(), 1.0, 1e-5);
}

TEST(Transforms, LucidsStackIsItsOwnOperationsInTurn) {
  // The rows whose draws neither scale nor turn: there Lucid pads by 12, cuts a window of 8 less, then one of 4 less, and our network sees
  // the middle of the S + 12 pixels left. Nothing is resized, so whole pixels must be found again.
  constexpr int64_t rows = 3000, side = 16;
  const Tensor x = noise_images(rows, side, side, 1), found = applied(lucid_transform(), x);
  EXPECT_EQ(found.sizes(), x.sizes());
  Stream same = Stream::range(3, 0, rows);
  const Tensor first = same.uniform({2}), scaled = same.uniform({}), angle = same.uniform({}), last = same.uniform({2});
  int64_t unmoved = 0, angles_of_none = 0;
  for (int64_t n = 0; n < rows; ++n) {
    const auto which = static_cast<int64_t>(angle[n].item<float>() * 26);
    const bool none = which == 10 || which >= 21;
    angles_of_none += none;
    if (static_cast<int64_t>(scaled[n].item<float>() * 11) != 5 || !none) continue;
    ++unmoved;
    const auto place = [n](const Tensor& u, int64_t axis, int64_t by) {
      return by - static_cast<int64_t>(u[n][axis].item<float>() * (by + 1));
    };
    Tensor image = at::constant_pad_nd(x[n], {12, 12, 12, 12}, 0.5);
    for (const auto& [u, by] : {std::pair{first, 8}, std::pair{last, 4}})
      image = image.narrow(1, place(u, 1, by), image.size(1) - by).narrow(2, place(u, 0, by), image.size(2) - by);
    ASSERT_EQ(image.size(1), side + 12);
    EXPECT_LT(distance(found[n], image.narrow(1, 6, side).narrow(2, 6, side)), 2e-5) << "row " << n;
  }
  EXPECT_GT(unmoved, 30);
  EXPECT_NEAR(static_cast<double>(angles_of_none) / rows, 6.0 / 26, 5 * std::sqrt(6.0 / 26 * 20 / 26 / rows));
}

TEST(Transforms, RowsAreSeparate) {
  const std::vector<std::pair<std::string, Transform>> all{
      {"jitter", jitter(4)},      {"scale", scale(0.5, 2)},     {"rotate", rotate(-30, 30)},
      {"flip", flip()},           {"crop", crop(0.2, 0.8)},     {"noise", noise(0.1)},
      {"blur", gaussian_blur(1)}, {"lucid", lucid_transform()}, {"shapes", shapes_transform()}};
  for (const auto& [name, transform] : all) {
    // A chain alone sees what it sees in a batch.
    const Tensor x = noise_images(5, 12, 10), together = applied(transform, x, 7);
    for (int64_t n = 0; n < 5; ++n)
      EXPECT_LT(distance(applied(transform, x.slice(0, n, n + 1), 7 + n), together.slice(0, n, n + 1)), 1e-6) << name;

    // The slope of one row's output reaches that row alone, and is the finite difference.
    const Tensor z = x.to(at::kDouble).requires_grad_();
    const Tensor weight = at::cos(at::arange(together[0].numel(), at::kDouble)).view(together[0].sizes());
    const auto value = [&](const Tensor& images) { return (applied(transform, images, 7)[2] * weight).sum(); };
    const Tensor slope = torch::autograd::grad({value(z)}, {z})[0];
    EXPECT_EQ(slope.slice(0, 0, 2).abs().sum().item<double>() + slope.slice(0, 3).abs().sum().item<double>(), 0.0) << name;
    const Tensor along = at::sin(at::arange(z.numel(), at::kDouble) * 1.7).view(z.sizes());
    const double h = 1e-5, numerical = ((value(z + h * along) - value(z - h * along)) / (2 * h)).item<double>();
    EXPECT_NEAR((slope * along).sum().item<double>(), numerical, 1e-7 + 1e-6 * std::abs(numerical)) << name;
    EXPECT_GT(std::abs(numerical), 1e-3) << name;
  }
}

TEST(Transforms, Refusals) {
  EXPECT_THROW(jitter(-1), std::runtime_error);
  EXPECT_THROW(scale(1.1, 0.9), std::runtime_error);
  EXPECT_THROW(crop(0.5, 1.5), std::runtime_error);
  EXPECT_THROW(gaussian_blur(0), std::runtime_error);
  EXPECT_FALSE(compose({}));
  EXPECT_FALSE(compose({Transform(), Transform()}));
  Stream other = Stream::range(1, 0, 3);
  EXPECT_THROW(jitter(2)(noise_images(2, 8, 8), other), std::runtime_error);
}

}  // namespace
}  // namespace evoke
