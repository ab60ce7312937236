// needs: files
// The render judge on two thousand noisy renders: right in at least 99.9 %.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/numbers/stream.h"
#include "experiments/judging/render_judge.h"
#include "training/datasets/shapes.h"

namespace evoke {
namespace {

TEST(RenderJudge, RightInNearlyAllUnderNoise) {
  const int64_t count = 2000;
  Stream places = Stream::range(21, 0, count), noise = Stream::range(22, 0, count);
  const Tensor drawn = places.uniform({3});
  std::vector<Tensor> images;
  for (int64_t row = 0; row < count; ++row) {
    ShapeAttributes a;
    a.shape = row % 60 / 15;
    a.style = row % 15 / 5;
    a.colour = row % 5;
    a.tx = 18 * drawn[row][0].item<double>() - 9;
    a.ty = 18 * drawn[row][1].item<double>() - 9;
    a.theta = 2 * M_PI * drawn[row][2].item<double>();
    images.push_back(render_shape(a).to(at::kFloat).div(255).permute({2, 0, 1}));
  }
  const Tensor classes = at::arange(count, at::kLong).remainder(60), clean = at::stack(images);
  const RenderTemplates templates = render_templates(at::kCPU);
  const auto wrong = [&](const Tensor& x) { return judge_renders(templates, x).shape_class.ne(classes).sum().item<int64_t>(); };
  EXPECT_LE(wrong(clean + 0.1 * noise.normal({3, 48, 48})), count / 1000);
  // A control: ten times the noise drowns the shapes.
  EXPECT_GT(judge_renders(templates, (clean + noise.normal({3, 48, 48})).narrow(0, 0, 120))
                .shape_class.ne(classes.narrow(0, 0, 120))
                .sum()
                .item<int64_t>(),
            0);
}

}  // namespace
}  // namespace evoke
