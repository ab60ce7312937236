// The path through the target itself: who is said to be off it, and what is not said.
#include "experiments/judging/target_path.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/numbers/stream.h"
#include "experiments/judging/table.h"

namespace evoke {
namespace {

[[maybe_unused]] const bool one_thread = (set_threads(1), true);

constexpr float unsaid = std::numeric_limits<float>::quiet_NaN();

// Three depths, the last of them not used.
TargetPath path_of(double left_out, double others) {
  TargetPath path;
  for (const bool used : {true, true, false}) {
    path.depths.push_back({.layer = used ? "used" : "unused", .mean = {}, .scale = {}, .real = {}});
    path.depths.back().used = used;
    path.depths.back().stretch = 2;
  }
  path.left_out = {left_out, left_out, left_out}, path.others = {others, others, others};
  return path;
}

// `count` pictures of a unit, `inside` of them on the path.
void add(Judged& judged, int64_t unit, int64_t count, int64_t inside) {
  Tensor found = at::full({count, 3}, 1.0);
  found.slice(0, inside).slice(1, 1, 2).fill_(2.5);  // inside at one of two depths is not at more than half
  const Tensor before = judged.columns.empty() ? at::empty({0, 3}) : judged.findings.at("target_path");
  judged.findings["target_path"] = at::cat({before, found});
  judged.columns.insert(judged.columns.end(), static_cast<size_t>(count), column_of({"logits", unit}));
}

std::vector<std::string> names_off(const TargetPath& path, const Judged& judged) {
  std::vector<std::string> out;
  for (const Column& column : off_path(path, judged)) out.push_back(column.name);
  return out;
}

TEST(TargetPath, AtMoreThanHalfOfTheDepthsThatAreUsed) {
  const TargetPath path = path_of(0.99, 0.01);
  const Tensors findings{{"target_path", at::tensor({1.F, 2.F, 9.F, 1.F, 2.1F, 0.F, unsaid, unsaid, unsaid}).view({3, 3})}};
  const Tensor found = on_path(path, findings);
  EXPECT_EQ(found[0].item<float>(), 1);
  EXPECT_EQ(found[1].item<float>(), 0);
  EXPECT_TRUE(std::isnan(found[2].item<float>()));
  EXPECT_EQ(at_depth(path, findings, 2)[0].item<float>(), 0);
  TargetPath unused = path;
  for (TargetDepth& depth : unused.depths) depth.used = false;
  EXPECT_FALSE(on_path(unused, findings).defined());
}

// P(X ≤ 5 of 8 | 0.9) = 0.0381, P(X ≤ 6) = 0.1869, P(0 of 1) = 0.1, P(0 of 2) = 0.01.
TEST(TargetPath, OffItIsWhatChanceDoesNotExplain) {
  const TargetPath path = path_of(0.99, 0.01);
  const auto alone = [&](int64_t count, int64_t inside) {
    Judged judged;
    add(judged, 7, count, inside);
    return !names_off(path, judged).empty();
  };
  EXPECT_TRUE(alone(8, 5));
  EXPECT_FALSE(alone(8, 6));
  EXPECT_FALSE(alone(1, 0));
  EXPECT_TRUE(alone(2, 0));
  // Among twenty units, of which one in twenty would be taken for one by chance, it takes more: P(X ≤ 3 of 8) = 0.0004.
  Judged judged;
  for (int64_t unit = 0; unit < 20; ++unit) add(judged, unit, 8, unit == 3 ? 5 : unit == 4 ? 3 : 8);
  EXPECT_EQ(names_off(path, judged), std::vector<std::string>{"logits:4"});
  // Where fewer of the real images are on it, so may the pictures be; and nothing is said by what tells nothing.
  EXPECT_TRUE(names_off(path_of(0.5, 0.01), judged).empty());
  EXPECT_TRUE(names_off(path_of(0.99, 0.2), judged).empty());
  EXPECT_FALSE(can_tell(path_of(0.99, 0.2)));
  EXPECT_FALSE(can_tell(path_of(0.99, std::numeric_limits<double>::quiet_NaN())));
}

// Two classes of grey images, dark and bright; the second channel of the layer is silent.
Judges toy_judges(int64_t known, int64_t left_out) {
  Judges judges;
  judges.target.image = {.channels = 1, .height = 4, .width = 4, .mean = {}, .deviation = {}};
  judges.target.layers = {{"map", "", {2, 4, 4}, 0}, {"logits", "dense", {2}, 0}};
  judges.target.forward = [](const Tensor& x, const std::vector<std::string>&) {
    const Tensor mean = x.mean({1, 2, 3});
    return Activations{{"map", at::cat({x, at::zeros_like(x)}, 1)}, {"logits", at::stack({-mean, mean}, 1)}};
  };
  judges.all.push_back(target_judge(judges.target, {}, at::kCPU));
  const auto images = [](int64_t count, uint64_t seed) {
    const Tensor level = at::arange(count, at::kLong).remainder(2).mul(120).view({count, 1, 1, 1});
    const Tensor all = (level + 40 + Stream::range(seed, 0, count).uniform({4, 4, 1}) * 40).to(at::kByte);
    return RealImages{count, {}, [all](const Tensor& rows) { return all.index_select(0, rows); }};
  };
  judges.real = images(left_out, 2);
  add_target_path(judges, images(known, 1), images(left_out, 2));
  return judges;
}

TEST(TargetPath, ASilentUnitIsNotJudged) {
  const Judges judges = toy_judges(120, 20);
  ASSERT_TRUE(judges.target_path);
  const Tensor image = judges.real.read(at::zeros({1}, at::kLong));  // dark
  const std::vector<Column> columns{column_of({"logits", 0}), column_of({"logits", 1}), column_of({"map", 0}), column_of({"map", 1})};
  const Judged judged = judge_pictures(judges, pictures_in(image.expand({4, 4, 4, 1}).contiguous(), columns));
  try_depths(judges, columns);
  const Tensor found = judged.findings.at("target_path");
  EXPECT_LT(found[0][0].item<float>(), found[1][0].item<float>());
  EXPECT_FALSE(std::isnan(found[2][0].item<float>()));
  EXPECT_TRUE(std::isnan(found[3][0].item<float>()));
  EXPECT_EQ(figures_of(judges, judged).target_path_at[0].value,
            figures_of(judges, judged, at::arange(3, at::kLong)).target_path_at[0].value);
}

TEST(TargetPath, FewRealImagesSayNothing) {
  EXPECT_FALSE(toy_judges(99, 20).target_path);
  EXPECT_FALSE(toy_judges(120, 9).target_path);
}

}  // namespace
}  // namespace evoke
