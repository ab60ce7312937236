// needs: files
// The render judge: right on renders, with and without noise; equal to brute force; and a spoiled set of templates is found out.
#include "experiments/judging/render_judge.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/error.h"
#include "core/numbers/stream.h"
#include "training/datasets/shapes.h"

namespace evoke {
namespace {

// Renders of classes 0, 1, … 59, 0, 1 … with places and turns drawn from the seed.
struct Renders {
  Tensor images;      // uint8 [N,48,48,3]
  Tensor classes;     // int64 [N]
  Tensor attributes;  // float32 [N,3]: tx, ty, θ
};
Renders renders(int64_t count, uint64_t seed) {
  Stream stream = Stream::range(seed, 0, count);
  const Tensor drawn = (stream.uniform({3}) - at::tensor({0.5f, 0.5f, 0.0f})) * at::tensor({18.0, 18.0, 2 * M_PI}).to(at::kFloat);
  const Tensor classes = at::arange(count, at::kLong).remainder(60);
  std::vector<Tensor> images;
  for (int64_t row = 0; row < count; ++row) {
    ShapeAttributes a;
    a.shape = row % 60 / 15;
    a.style = row % 15 / 5;
    a.colour = row % 5;
    a.tx = drawn[row][0].item<double>();
    a.ty = drawn[row][1].item<double>();
    a.theta = drawn[row][2].item<double>();
    images.push_back(render_shape(a));
  }
  return {at::stack(images), classes, drawn};
}

const RenderTemplates& templates() {
  static const RenderTemplates made = render_templates(at::kCPU);
  return made;
}

Tensor noisy(const Tensor& bytes, double deviation, uint64_t seed) {
  const Tensor x = bytes.to(at::kFloat).div(255).permute({0, 3, 1, 2}).contiguous();
  Stream stream = Stream::range(seed, 0, x.size(0));
  return x + deviation * stream.normal({3, 48, 48});
}

double accuracy(const RenderVerdict& verdict, const Tensor& classes) {
  return verdict.shape_class.eq(classes).to(at::kDouble).mean().item<double>();
}

TEST(RenderJudge, RightOnEveryRender) {
  const Renders made = renders(300, 11);
  const RenderVerdict verdict = judge_renders(templates(), made.images);
  EXPECT_TRUE(verdict.shape_class.equal(made.classes)) << verdict.shape_class.ne(made.classes).nonzero();
  EXPECT_LT(verdict.shape_rmse.median().item<float>(), 0.01f);
  EXPECT_LT(verdict.shape_rmse.max().item<float>(), 0.04f);
  EXPECT_GT(verdict.margin.min().item<float>(), 0.0f);

  // Place, and turn modulo the symmetry; a plain circle has no turn.
  const Tensor off = at::maximum((verdict.tx - made.attributes.select(1, 0)).abs(), (verdict.ty - made.attributes.select(1, 1)).abs());
  EXPECT_LT(off.max().item<float>(), 0.6f);
  for (int64_t row = 0; row < 300; ++row) {
    const double range = symmetry_of(row % 60);
    if (range == 0) continue;
    const double turn = (verdict.theta[row] - made.attributes[row][2]).item<double>();
    EXPECT_LT(std::abs(std::remainder(turn, range)), 0.06) << "row " << row << " class " << row % 60;
  }
}

TEST(RenderJudge, RightUnderNoise) {
  const Renders made = renders(120, 12);
  const RenderVerdict verdict = judge_renders(templates(), noisy(made.images, 0.1, 5));
  EXPECT_TRUE(verdict.shape_class.equal(made.classes)) << verdict.shape_class.ne(made.classes).nonzero();
  // What remains is the noise itself.
  EXPECT_NEAR(verdict.shape_rmse.mean().item<float>(), 0.1f, 0.01f);
}

TEST(RenderJudge, GridEqualsBruteForce) {
  // A coarse grid; one render off the grid, one picture of noise, one black.
  const RenderTemplates coarse = render_templates(at::kCPU, 90);
  Stream stream = Stream::range(3, 0, 1);
  const Tensor x = at::cat({noisy(renders(8, 13).images.narrow(0, 7, 1), 0.05, 6), stream.uniform({3, 48, 48}), at::zeros({1, 3, 48, 48})});
  const GridMatch found = match_grid(coarse, x);

  for (const int64_t shape_class : {0, 8, 13, 16, 24, 31, 39, 47, 54, 59}) {
    Tensor least = at::full({x.size(0)}, std::numeric_limits<float>::infinity());
    for (int64_t turn = 0; turn < 4; ++turn) {
      ShapeAttributes a;
      a.shape = shape_class / 15;
      a.style = shape_class / 5 % 3;
      a.colour = shape_class % 5;
      // The grid has as many turns as fit into the symmetry's range at steps of 90°: one or two for plain shapes, four for rainbows.
      const double range = symmetry_of(shape_class);
      const int64_t turns = std::max<int64_t>(1, std::llround(range / (M_PI / 2)));
      a.theta = range * static_cast<double>(turn % turns) / static_cast<double>(turns);
      const Tensor t = render_shape(a).to(at::kFloat).div(255).permute({2, 0, 1});
      for (int64_t ty = -kReach; ty <= kReach; ++ty)
        for (int64_t tx = -kReach; tx <= kReach; ++tx)
          least = at::minimum(least, (x - at::roll(t, {ty, tx}, {1, 2})).square().sum({1, 2, 3}));
    }
    // A plain colour's template is c·m before rounding to bytes, so it may differ by a few thousandths of the whole.
    const Tensor wrong = (found.distance.select(1, shape_class) - least).abs() / (1 + least);
    EXPECT_LT(wrong.max().item<float>(), 5e-3f) << "class " << shape_class;
  }
}

TEST(RenderJudge, NothingNearerNearby) {
  // No image rendered around the verdict, of any class, comes nearer than the verdict says.
  const Renders made = renders(60, 14);
  const Tensor x = noisy(made.images.slice(0, 0, 60, 13), 0.1, 7);
  const RenderVerdict verdict = judge_renders(templates(), x);
  for (int64_t row = 0; row < x.size(0); ++row) {
    double nearest = std::numeric_limits<double>::infinity();
    for (int64_t shape_class = 0; shape_class < 60; ++shape_class)
      for (int64_t place = 0; place < 75; ++place) {
        ShapeAttributes a;
        a.shape = shape_class / 15;
        a.style = shape_class / 5 % 3;
        a.colour = shape_class % 5;
        a.tx = verdict.tx[row].item<double>() + 0.5 * static_cast<double>(place % 5 - 2);
        a.ty = verdict.ty[row].item<double>() + 0.5 * static_cast<double>(place / 5 % 5 - 2);
        a.theta = verdict.theta[row].item<double>() + 0.05 * static_cast<double>(place / 25 - 1);
        const Tensor t = render_shape(a).to(at::kFloat).div(255).permute({2, 0, 1});
        nearest = std::min(nearest, (x[row] - t).square().mean().sqrt().item<double>());
      }
    EXPECT_LT(verdict.shape_rmse[row].item<double>(), nearest + 1e-4) << "row " << row;
  }
}

TEST(RenderJudge, SpoiledTemplatesAreFoundOut) {
  // Masks of one family in the place of another's: no longer right on renders.
  RenderTemplates spoiled = render_templates(at::kCPU);
  spoiled.masks = spoiled.masks.roll(7, 0).contiguous();
  spoiled.rainbows = spoiled.rainbows.roll(70, 1).contiguous();
  const Renders made = renders(60, 15);
  EXPECT_LT(accuracy(judge_renders(spoiled, made.images), made.classes), 0.9);
  EXPECT_EQ(accuracy(judge_renders(templates(), made.images), made.classes), 1.0);
}

TEST(RenderJudge, BytesAndFloatsAlike) {
  const Renders made = renders(6, 16);
  const RenderVerdict bytes = judge_renders(templates(), made.images), floats = judge_renders(templates(), noisy(made.images, 0.0, 1));
  EXPECT_TRUE(bytes.shape_class.equal(floats.shape_class));
  EXPECT_TRUE(bytes.shape_rmse.allclose(floats.shape_rmse, 1e-3, 1e-5));
}

TEST(RenderJudge, Refusals) {
  EXPECT_THROW(judge_renders(templates(), at::zeros({2, 3, 32, 48})), Error);
  EXPECT_THROW(judge_renders(templates(), at::zeros({2, 3, 48, 48}), 1), Error);
  EXPECT_THROW(render_templates(at::kCPU, 0), Error);
  EXPECT_THROW(symmetry_of(60), Error);
}

}  // namespace
}  // namespace evoke
