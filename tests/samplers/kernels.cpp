// Ascent, DGN-AM, Langevin's options and PPGN's released rule, each against a step worked out by hand.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "core/nouns/run.h"
#include "samplers/ascent.h"
#include "samplers/dgn_am.h"
#include "samplers/langevin.h"
#include "samplers/menu.h"
#include "samplers/ppgn.h"
#include "tests/expect.h"

namespace evoke {
namespace {

Tensor row(std::initializer_list<float> values) { return at::tensor(std::vector<float>(values)).unsqueeze(0); }

// log π = -½|z − peak|², its slope as autograd would give it.
Target bowl(const Tensor& peak) {
  Target target;
  target.name = "bowl";
  target.exact = true;
  target.evaluate = [peak](const Tensor& z, Stream&) {
    const Tensor away = z - peak;
    return Evaluation{-0.5 * away.square().flatten(1).sum(1), -away, {}};
  };
  return target;
}

// The same slope everywhere.
Target slope(const Tensor& gradient) {
  Target target;
  target.name = "slope";
  target.evaluate = [gradient](const Tensor& z, Stream&) {
    return Evaluation{(z * gradient).flatten(1).sum(1), gradient.expand_as(z), {}};
  };
  return target;
}

RunOptions run_of(int64_t steps, int64_t rows) {
  RunOptions options;
  options.steps = steps;
  options.chains = at::arange(rows);
  return options;
}

Transition one_step(const Sampler& sampler, const Target& target, const Tensor& z, int64_t step = 0) {
  Stream start = Stream::range(0, 0, z.size(0)), stream = Stream::range(0, 0, z.size(0), at::kCPU, step);
  return sampler.step(sampler.init(z, target, start), target, stream);
}

void expect_near(const Tensor& got, const Tensor& expected, double tolerance = 1e-6) {
  ASSERT_EQ(got.sizes(), expected.sizes());
  EXPECT_TRUE(at::allclose(got, expected.to(got.scalar_type()), tolerance, tolerance)) << got << "\nexpected\n" << expected;
}

TEST(Ascent, EveryRuleReachesAPlantedPeak) {
  const Tensor peak = at::tensor({1.0f, -2.0f, 0.5f});
  for (const std::string rule : {"adam", "nadam", "sgd", "normalized"}) {
    const State end = run(ascent({.rule = rule, .step_size = rule == "sgd" ? 0.1 : 0.02}), bowl(peak), at::zeros({4, 3}), run_of(600, 4));
    EXPECT_LT((end.carry.at("best_code") - peak).abs().max().item<float>(), 0.02) << rule;
    expect_near(end.carry.at("best_value"), -0.5 * (end.carry.at("best_code") - peak).square().sum(1));
  }
}

TEST(Ascent, FirstStepsByHand) {
  const Tensor g = at::tensor({3.0f, -4.0f}), z = at::zeros({1, 2});
  expect_near(one_step(ascent({.rule = "sgd", .step_size = 0.1}), slope(g), z).state.z, at::tensor({0.3f, -0.4f}).view({1, 2}));
  expect_near(one_step(ascent({.rule = "normalized", .step_size = 0.1}), slope(g), z).state.z, at::tensor({0.06f, -0.08f}).view({1, 2}));
  // Adam's first step is ±τ in every coordinate.
  const Transition adam = one_step(ascent({.step_size = 0.1, .decay = 0.5}), slope(g), z);
  expect_near(adam.state.z, at::tensor({0.05f, -0.05f}).view({1, 2}));
  expect_near(adam.info.moved, at::tensor({0.05f * std::sqrt(2.0f)}));
}

TEST(Ascent, NadamLooksOneStepAhead) {
  // Three steps in the bowl at peak 1, with the mean of the gradients as it will be.
  const double b1 = 0.8, b2 = 0.95, tau = 0.1;
  double m = 0, v = 0, z = 0;
  State state =
      begin(ascent({.rule = "nadam", .step_size = tau, .beta1 = b1, .beta2 = b2}), bowl(at::ones({1})), at::zeros({1, 1}), run_of(3, 1));
  for (int t = 1; t <= 3; ++t) {
    const double g = 1 - z;
    m = b1 * m + (1 - b1) * g;
    v = b2 * v + (1 - b2) * g * g;
    z += tau * (b1 * m / (1 - std::pow(b1, t + 1)) + (1 - b1) * g / (1 - std::pow(b1, t))) / (std::sqrt(v / (1 - std::pow(b2, t))) + 1e-8);
  }
  state = run(ascent({.rule = "nadam", .step_size = tau, .beta1 = b1, .beta2 = b2}), bowl(at::ones({1})), state, run_of(3, 1));
  expect_near(state.z, at::full({1, 1}, z), 1e-5);
}

TEST(Ascent, AdamOnAChangingSlopeByHand) {
  // One coordinate, gradients 1 then -0.5 (the bowl at peak 1, stepped by hand to 1.5).
  const double b1 = 0.9, b2 = 0.999, tau = 0.1;
  double m = 0, v = 0, z = 0;
  Target target = bowl(at::ones({1}));
  const Sampler sampler = ascent({.step_size = tau});
  Stream start = Stream::range(0, 0, 1);
  State state = sampler.init(at::zeros({1, 1}), target, start);
  for (int t = 1; t <= 50; ++t) {
    const double g = 1 - z;
    m = b1 * m + (1 - b1) * g;
    v = b2 * v + (1 - b2) * g * g;
    z += tau * (m / (1 - std::pow(b1, t))) / (std::sqrt(v / (1 - std::pow(b2, t))) + 1e-8);
    Stream stream = Stream::range(0, 0, 1, at::kCPU, t - 1);
    state = sampler.step(state, target, stream).state;
    ASSERT_NEAR(state.z.item<float>(), z, 2e-5) << t;
  }
}

TEST(Ascent, BestIsKeptWhenTheClimbOvershoots) {
  // A step of 2.5 slopes throws the code 1.5 times as far to the other side of the peak, again and again: the start stays the best.
  double best = -1e9;
  const State end = run(ascent({.rule = "sgd", .step_size = 2.5}), bowl(at::full({1}, 0.3)), at::zeros({1, 1}), run_of(5, 1),
                        [&](int64_t, const State& s, const Info&) { best = std::max(best, s.at.value.item<double>()); });
  EXPECT_NEAR(best, -0.045 * 2.25, 1e-6);
  EXPECT_NEAR(end.carry.at("best_value").item<double>(), -0.045, 1e-6);
  EXPECT_EQ(end.carry.at("best_code").item<float>(), 0.0f);
}

TEST(Ascent, TheLastCodeIsTakenWhereValuesCannotBeCompared) {
  // The value is a lottery, as under a random transform: the luckiest draw says nothing of the code.
  Target lottery = bowl(at::full({1}, 0.3));
  lottery.comparable = false;
  lottery.evaluate = [plain = lottery.evaluate](const Tensor& z, Stream& stream) {
    Evaluation at = plain(z, stream);
    at.value = at.value + 10 * stream.normal({});
    return at;
  };
  const State end = run(ascent({.rule = "sgd", .step_size = 0.5}), lottery, at::full({2, 1}, -1.0), run_of(30, 2));
  EXPECT_FALSE(end.carry.contains("best_code"));
  EXPECT_TRUE(at::equal(chosen_codes(end), end.z));
  EXPECT_NEAR(end.z[0].item<float>(), 0.3f, 1e-3);
  // Without the prior's density in it the value grows outwards for ever; the climb ends where objective and prior balance.
  Target half_known = slope(at::ones({1}));
  half_known.comparable = false;
  half_known.evaluate = [](const Tensor& z, Stream&) { return Evaluation{z.sum(1), 1 - z, {}}; };
  const State balanced = run(ascent({.rule = "sgd", .step_size = 1.9}), half_known, at::zeros({1, 1}), run_of(200, 1));
  EXPECT_NEAR(chosen_codes(balanced).item<float>(), 1.0f, 1e-3);
}

TEST(DgnAm, StepsByHandAndNormalizationOfTheImageStepCancels) {
  // G(z) = W·z, a = w·x: g = w for every image, Jᵀ = Wᵀ. The paper's two normalizations, written out.
  Stream numbers = Stream::range(3, 0, 5);
  const Tensor weights = numbers.normal({3}), unit = numbers.normal({}),
               z = at::tensor({0.2f, -0.4f, 1.0f, 2.0f, 0.1f, -0.3f}).view({2, 3});
  Prior range;
  range.low = at::full({3}, -1.0);
  range.high = at::tensor({1.5f, 6.0f, 9.0f});
  DgnAmOptions options{.steps = 5};
  const auto clipped = [&](const Tensor& h) { return 0.99 * at::minimum(at::maximum(h, range.low), range.high); };
  for (const int64_t step : {0, 2}) {
    const double tau = 8.0 + (1e-10 - 8.0) * static_cast<double>(step) / 4;
    const Tensor gh = weights.t().matmul(tau * unit / unit.abs().mean());
    expect_near(one_step(dgn_am(options, range), slope(weights.t().matmul(unit)), z, step).state.z, clipped(z + tau * gh / gh.abs().mean()),
                1e-5);
  }
  // The last of five steps is of size 1e-10, far below the last place; the released code gets only 4/5 of the way.
  expect_near(one_step(dgn_am(options, range), slope(at::ones({3})), z, 4).state.z, clipped(z));
  options.as_released = true;
  expect_near(one_step(dgn_am(options, range), slope(at::ones({3})), z, 4).state.z, 0.99 * at::minimum((z + 1.6).clamp_min(0), range.high));
}

TEST(DgnAm, ClipsAsAsked) {
  const Tensor z = row({-3.0f, 0.5f, 40.0f});
  const Target flat = slope(at::zeros({3}));
  Prior range;
  range.name = "box";
  range.low = at::full({3}, -1.0);
  range.high = at::full({3}, 2.0);
  expect_near(one_step(dgn_am({}, range), flat, z).state.z, 0.99 * row({-1.0f, 0.5f, 2.0f}));
  expect_near(one_step(dgn_am({.clip = "options"}, range), flat, z).state.z, 0.99 * row({0.0f, 0.5f, 30.0f}));
  expect_near(one_step(dgn_am({.clip = "none"}, range), flat, z).state.z, 0.99 * z);
  expect_near(one_step(dgn_am({}), flat, z).state.z, 0.99 * z);
  expect_near(one_step(dgn_am({.as_released = true}, range), flat, z).state.z, 0.99 * row({0.0f, 0.5f, 2.0f}));
  EXPECT_NE(refusal([] { dgn_am({.as_released = true}); }, Failure::usage).find("mean + 3σ"), std::string::npos);
  EXPECT_NE(refusal([] { dgn_am({.clip = "options", .low = 2, .high = 1}); }, Failure::usage).find("low"), std::string::npos);
}

TEST(Langevin, StepIsDriftAndTheStreamsOwnNoise) {
  const Tensor g = at::tensor({3.0f, -4.0f}), z = at::ones({3, 2});
  Stream noise = Stream::range(0, 0, 3, at::kCPU, 6);
  const Tensor xi = noise.normal({2});
  const double tau = 0.2;
  expect_near(one_step(langevin({.step_size = tau}), slope(g), z, 6).state.z, z + 0.02 * g + tau * xi);
  expect_near(one_step(langevin({.step_size = tau, .temperature = 0.25}), slope(g), z, 6).state.z, z + 0.02 * g + 0.5 * tau * xi);
  expect_near(one_step(langevin({.step_size = tau, .gradient_clip = 1}), slope(g), z, 6).state.z, z + 0.02 * g / 5 + tau * xi);
  expect_near(one_step(langevin({.step_size = tau, .gradient_clip = 6}), slope(g), z, 6).state.z, z + 0.02 * g + tau * xi);
  expect_near(one_step(langevin({.step_size = tau, .gradient_clip = 1, .temperature = 0}), slope(at::zeros({2})), z, 6).state.z, z);
}

TEST(Langevin, MirrorsAtTheBoundsOfABoundedPrior) {
  Prior bounds;
  bounds.low = at::tensor({-1.0f, 0.0f, 2.0f, -1.0f});
  bounds.high = at::tensor({1.0f, 0.5f, 2.0f, 1.0f});
  // One and a quarter beyond a side of 0.5 is back and forth and back; a side of nothing holds its one place; inside nothing moves.
  expect_near(mirrored(row({1.25f, 1.25f, 7.0f, 0.3f}), bounds), row({0.75f, 0.25f, 2.0f, 0.3f}));
  expect_near(mirrored(row({-4.5f, -0.1f, 2.0f, -1.0f}), bounds), row({-0.5f, 0.1f, 2.0f, -1.0f}));
  const Tensor inside = row({0.1234567f, 0.3333333f, 2.0f, -0.9999999f});
  EXPECT_TRUE(at::equal(mirrored(inside, bounds), inside));
  bounds.low = bounds.high = Tensor();
  expect_near(mirrored(row({1.25f, 1.25f, 7.0f, 9.0f}), bounds), row({1.25f, 1.25f, 7.0f, 9.0f}));
}

TEST(Ppgn, ReleasedRuleByHand) {
  const Tensor g = at::tensor({3.0f, -4.0f}), z = row({1.0f, 1.0f});
  Prior prior;
  prior.name = "half";
  prior.reconstruct = [](const Tensor& h) { return 0.5 * h; };
  const PpgnOptions options{.epsilon1 = 2, .epsilon2 = 0.5, .epsilon3 = 0, .as_released = true, .step_size = 0.5, .low = 0, .high = 30};
  // d = 2·(-0.5, -0.5) + 0.5·(3, -4) = (0.5, -3), mean|d| = 1.75.
  expect_near(one_step(ppgn(options, prior), slope(g), z).state.z, row({1.0f + 0.25f / 1.75f, 1.0f - 1.5f / 1.75f}));
  expect_near(one_step(ppgn(options, prior), slope(at::tensor({0.0f, -40.0f})), z).state.z,
              row({1.0f - 0.5f / 11.0f, 1.0f - 10.5f / 11.0f}), 1e-5);
  expect_near(one_step(ppgn(options, prior), slope(at::tensor({1000.0f, 2.0f})), 30 * at::ones({1, 2})).state.z.clamp_max(30),
              one_step(ppgn(options, prior), slope(at::tensor({1000.0f, 2.0f})), 30 * at::ones({1, 2})).state.z);
  // A step of nothing stays where it is, and is no division by zero.
  expect_near(one_step(ppgn({.epsilon1 = 0, .epsilon3 = 0, .as_released = true}), slope(at::zeros({2})), z).state.z, z);
}

TEST(Ppgn, NoiseOfTheReleasedStartingPointIsBelowTheLastPlace) {
  const Tensor z = at::ones({2, 4}), g = at::tensor({0.1f, 0.2f, -0.3f, 0.4f});
  const PpgnOptions loud{.epsilon1 = 0, .as_released = true};
  PpgnOptions still = loud;
  still.epsilon3 = 0;
  EXPECT_TRUE(at::equal(one_step(ppgn(loud), slope(g), z).state.z, one_step(ppgn(still), slope(g), z).state.z));
}

TEST(Ppgn, ResetStartsAnewWithAnotherEpsilon) {
  Prior prior;
  prior.score = [](const Tensor& h) { return -h; };
  const PpgnOptions options{.epsilon1 = 0.5, .epsilon3 = 0, .as_released = true, .low = -30, .reset_every = 4};
  std::vector<Tensor> epsilons, codes;
  run(ppgn(options, prior), slope(at::ones({8})), at::zeros({64, 8}), run_of(6, 64), [&](int64_t, const State& s, const Info&) {
    epsilons.push_back(s.carry.at("epsilon1"));
    codes.push_back(s.z);
  });
  EXPECT_TRUE(at::equal(epsilons[3], at::full({64}, 0.5)));
  EXPECT_GT(epsilons[4].min().item<float>(), 1e-6);
  EXPECT_LT(epsilons[4].max().item<float>(), 1e-2);
  EXPECT_GT(epsilons[4].std().item<float>(), 1e-3);
  EXPECT_TRUE(at::equal(epsilons[4], epsilons[5]));
  EXPECT_NEAR(codes[4].std().item<float>(), 1.0f, 0.2f);
  EXPECT_LT(codes[3].std().item<float>(), 1e-3f);
}

TEST(Ppgn, NeedsAPriorUnlessItsWeightIsNothing) {
  EXPECT_NE(refusal([] { ppgn({}); }, Failure::usage).find("epsilon1"), std::string::npos);
  EXPECT_NO_THROW(ppgn({.epsilon1 = 0}));
  EXPECT_NE(refusal([] { ppgn({.epsilon1 = 0, .as_released = true, .low = 3, .high = 3}); }, Failure::usage).find("low"),
            std::string::npos);
}

}  // namespace
}  // namespace evoke
