// The one training loop: Adam's numbers, resume to the bit, early stop, the running mean.
#include "training/loop.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>

#include "core/error.h"

namespace evoke {
namespace {

// Least squares from noisy inputs: a tiny task with noise in it.
struct Line {
  Tensor x = Stream::range(1, 0, 40).normal({3}), w = at::zeros({3, 1}).requires_grad_(), b = at::zeros({1}).requires_grad_();
  Tensor y = x.mm(at::tensor({1.0f, -2.0f, 0.5f}).view({3, 1})) + 0.3;
  Task task;
  Line() {
    task.rows = 40;
    task.groups = {{{"b", b}, {"w", w}}};
    task.losses = [this](size_t, const Tensor& rows, Stream& noise) {
      const Tensor in = x.index_select(0, rows) + 0.01 * noise.normal({3});
      return Tensors{{"loss", (in.mm(w) + b - y.index_select(0, rows)).square().mean()}};
    };
    task.validate = [this] { return std::map<std::string, double>{{"validation", (x.mm(w) + b - y).square().mean().item<double>()}}; };
  }
};

LoopOptions short_options() {
  LoopOptions out;
  out.epochs = 6;
  out.batch = 8;
  out.learning_rate = 0.05;
  out.average = 0.5;
  return out;
}

TEST(Loop, AdamsFirstStepsByHand) {
  // One weight, gradient always 2: m̂ = 2, v̂ = 4, so each step is the rate times 2/(2 + 1e-8), after decay by rate·λ.
  Tensor w = at::full({1}, 5.0f).requires_grad_();
  Task task;
  task.rows = 1;
  task.groups = {{{"w", w}}};
  task.losses = [&](size_t, const Tensor&, Stream&) { return Tensors{{"loss", (2.0 * w).sum()}}; };
  task.validate = [&] { return std::map<std::string, double>{{"validation", w.item<double>()}}; };
  LoopOptions options;
  options.epochs = 3;
  options.batch = 1;
  options.learning_rate = 0.1;
  options.warm_up = 0;
  options.final_rate = 1.0;
  options.weight_decay = 0.01;
  options.gradient_clip = 0;
  learn(task, options, {});
  double expected = 5.0;
  for (int step = 0; step < 3; ++step) expected = expected * (1 - 0.1 * 0.01) - 0.1;
  EXPECT_NEAR(w.item<double>(), expected, 1e-5);
}

TEST(Loop, LearnsAndRecords) {
  Line line;
  LoopOptions options = short_options();
  options.epochs = 60;
  std::vector<std::map<std::string, double>> lines;
  LoopContext context;
  context.record = [&](const std::map<std::string, double>& l) { lines.push_back(l); };
  const LoopResult result = learn(line.task, options, context);
  EXPECT_EQ(result.epochs, 60);
  EXPECT_EQ(lines.size(), 60u);
  EXPECT_LT(result.validation.at("validation"), 1e-3);
  EXPECT_GT(lines.front().at("loss"), 1.0);
  EXPECT_NEAR(line.w[1].item<double>(), -2.0, 0.05);
}

TEST(Loop, ResumeEqualsTheUninterruptedRun) {
  Line whole;
  const LoopResult straight = learn(whole.task, short_options(), {});
  for (const int64_t stop_after : {1, 7, 10, 29}) {
    const std::string file = ::testing::TempDir() + "/evoke_loop.safetensors";
    std::remove(file.c_str());
    LoopContext context;
    context.checkpoint = file;
    int64_t steps = 0;
    context.stop = [&] { return ++steps == stop_after; };
    {
      Line first;
      EXPECT_TRUE(learn(first.task, short_options(), context).interrupted);
    }
    context.stop = {};
    Line second;  // fresh weights: everything comes from the file
    const LoopResult resumed = learn(second.task, short_options(), context);
    EXPECT_TRUE(at::equal(second.w, whole.w)) << stop_after;
    EXPECT_TRUE(at::equal(second.b, whole.b)) << stop_after;
    EXPECT_EQ(resumed.best_epoch, straight.best_epoch);
    EXPECT_EQ(resumed.validation, straight.validation);
  }
  // The check can fail: another seed gives other weights.
  Line other;
  LoopOptions options = short_options();
  options.seed = 9;
  learn(other.task, options, {});
  EXPECT_FALSE(at::equal(other.w, whole.w));
}

TEST(Loop, Bfloat16RoundsTheProductsAndNothingElse) {
  Line exact, rounded, again;
  LoopOptions options = short_options();
  learn(exact.task, options, {});
  options.precision = "bfloat16";
  learn(rounded.task, options, {});
  learn(again.task, options, {});
  EXPECT_TRUE(at::equal(rounded.w, again.w));
  EXPECT_EQ(rounded.w.scalar_type(), at::kFloat);
  EXPECT_FALSE(at::equal(exact.w, rounded.w));
  EXPECT_LT((exact.w - rounded.w).abs().max().item<double>(), 0.02);
  EXPECT_EQ(exact.x.mm(exact.w).scalar_type(), at::kFloat);  // the scope has ended
}

TEST(Loop, RefusesACheckpointOfAnotherTraining) {
  const std::string file = ::testing::TempDir() + "/evoke_loop_other.safetensors";
  std::remove(file.c_str());
  LoopContext context;
  context.checkpoint = file;
  Line line;
  learn(line.task, short_options(), context);
  Tensor w = at::zeros({2}).requires_grad_();
  Task other;
  other.rows = 4;
  other.groups = {{{"w", w}}};
  other.losses = [&](size_t, const Tensor&, Stream&) { return Tensors{{"loss", w.sum()}}; };
  other.validate = [] { return std::map<std::string, double>{{"validation", 0.0}}; };
  EXPECT_THROW(learn(other, short_options(), context), Error);
}

TEST(Loop, StopsEarlyAndKeepsTheBest) {
  // Validation is best at the third epoch and worse ever after.
  Tensor w = at::zeros({1}).requires_grad_();
  int64_t epoch = 0;
  double at_best = 0;
  Task task;
  task.rows = 1;
  task.groups = {{{"w", w}}};
  task.losses = [&](size_t, const Tensor&, Stream&) { return Tensors{{"loss", w.sum()}}; };
  task.validate = [&] {
    if (++epoch == 3) at_best = w.item<double>();
    return std::map<std::string, double>{{"validation", std::abs(3.0 - static_cast<double>(epoch))}};
  };
  LoopOptions options;
  options.epochs = 50;
  options.batch = 1;
  options.patience = 4;
  const LoopResult result = learn(task, options, {});
  EXPECT_EQ(result.best_epoch, 3);
  EXPECT_EQ(result.epochs, 7);
  EXPECT_EQ(w.item<double>(), at_best);

  // A game of two groups: the last weights, however they validate.
  epoch = 0;
  task.keep_last = true;
  options.epochs = 6;
  const LoopResult game = learn(task, options, {});
  EXPECT_EQ(game.best_epoch, 6);
  EXPECT_EQ(game.validation.at("validation"), 3.0);
  EXPECT_LT(w.item<double>(), at_best);
}

TEST(Loop, StopsWhereALossIsNotFinite) {
  Tensor w = at::zeros({1}).requires_grad_();
  Task task;
  task.rows = 1;
  task.groups = {{{"w", w}}};
  task.losses = [&](size_t, const Tensor&, Stream&) { return Tensors{{"loss", (w / 0.0).sum()}}; };
  task.validate = [] { return std::map<std::string, double>{{"validation", 0.0}}; };
  LoopOptions options;
  options.batch = 1;
  EXPECT_THROW(learn(task, options, {}), Error);
}

}  // namespace
}  // namespace evoke
