// Random search against brute force; fallback where the gradient leads nowhere.
#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "core/nouns/run.h"
#include "samplers/ascent.h"
#include "samplers/fallback.h"
#include "samplers/langevin.h"

namespace evoke {
namespace {

const Proposal gaussian_codes = [](Stream& stream) { return 2 * stream.normal({3}); };

// Three units: a smooth one, one with many equal scores, and one that is NaN or infinite for some codes.
Tensor three_units(const Tensor& z) {
  const Tensor smooth = -(z - 1).square().sum(1), steps = z.select(1, 0).floor().clamp(-1, 1);
  const Tensor x = z.select(1, 1);
  const Tensor broken = at::where(x > 2, at::full_like(x, NAN), at::where(x < -2, at::full_like(x, INFINITY), x));
  return at::stack({smooth, steps, broken}, 1);
}

Target three_unit_target() {
  Target target;
  target.name = "three units";
  target.columns = {{"smooth"}, {"steps"}, {"broken"}};
  target.scan = [](const Tensor& z, Stream&) { return three_units(z); };
  return target;
}

State search(const RandomSearchOptions& options, uint64_t seed = 11) {
  RunOptions run_options;
  run_options.steps = search_steps(options);
  run_options.seed = seed;
  run_options.chains = at::arange(3 * options.keep);
  return run(random_search(options, gaussian_codes), three_unit_target(), at::zeros({3 * options.keep, 3}), run_options);
}

TEST(RandomSearch, KeepsWhatBruteForceKeeps) {
  const RandomSearchOptions options{.draws = 5000, .batch = 64, .keep = 5};
  const State found = search(options);
  Stream stream = candidate_stream(11, 0, options.draws, at::kCPU);
  const Tensor codes = gaussian_codes(stream), scores = three_units(codes);
  for (int64_t unit = 0; unit < 3; ++unit) {
    // All draws at once, sorted by hand: higher score first, then the earlier draw; nothing that is not finite.
    std::vector<std::pair<float, int64_t>> order;
    for (int64_t i = 0; i < options.draws; ++i)
      if (const auto score = scores[i][unit].item<float>(); std::isfinite(score)) order.emplace_back(-score, i);
    std::sort(order.begin(), order.end());
    for (int64_t rank = 0; rank < options.keep; ++rank) {
      const int64_t row = unit * options.keep + rank;
      EXPECT_EQ(found.at.value[row].item<float>(), -order[rank].first) << unit << " " << rank;
      EXPECT_EQ(found.carry.at("draw")[row].item<int64_t>(), order[rank].second) << unit << " " << rank;
      EXPECT_TRUE(at::equal(found.z[row], codes[order[rank].second]));
    }
  }
}

TEST(RandomSearch, BatchesOfAnySizeGiveTheSameBits) {
  const Tensors one = pack(search({.draws = 3001, .batch = 64, .keep = 4}));
  for (const int64_t batch : {1, 1000, 4096}) {
    const Tensors other = pack(search({.draws = 3001, .batch = batch, .keep = 4}));
    for (const auto& [name, tensor] : one) EXPECT_TRUE(at::equal(tensor, other.at(name))) << name << " with batches of " << batch;
  }
  EXPECT_FALSE(at::equal(one.at("z"), search({.draws = 3001, .batch = 64, .keep = 4}, 12).z));
}

// A target whose first look is off by up to 0.1, as one in bfloat16 might be, and that does not see draws from `blind` on.
Target rough_target(int64_t blind, int64_t& exact) {
  Target target = three_unit_target();
  target.scan = [blind, &exact](const Tensor& z, Stream& stream) {
    const Tensor scores = three_units(z);
    if (at::autocast::is_autocast_enabled(at::kCPU))
      return (scores + 0.1 * (1000 * z.sum(1, true)).sin()).masked_fill((stream.chains() >= blind).unsqueeze(1), -1e6);
    exact += z.size(0);
    return scores;
  };
  return target;
}

TEST(RandomSearch, ARoughFirstLookKeepsWhatTheExactOneKeeps) {
  RandomSearchOptions options{.draws = 20000, .batch = 64, .keep = 5, .precision = "float32"};
  RunOptions run_options;
  run_options.steps = search_steps(options);
  run_options.chains = at::arange(3 * options.keep);
  int64_t all = 0, some = 0, none = 0;
  const auto found = [&](const char* precision, int64_t& looked, int64_t blind) {
    options.precision = precision;
    return pack(run(random_search(options, gaussian_codes), rough_target(blind, looked), at::zeros({3 * options.keep, 3}), run_options));
  };
  const Tensors exact = found("float32", all, options.draws), rough = found("bfloat16", some, options.draws);
  EXPECT_EQ(all, options.draws);
  EXPECT_LT(some, options.draws / 2);  // a third is not finite for one unit, and looked at again
  for (const auto& [name, tensor] : exact) EXPECT_TRUE(at::equal(tensor, rough.at(name))) << name;
  const Tensors blind = found("bfloat16", none, 5000);
  EXPECT_FALSE(at::equal(blind.at("value"), exact.at("value")));
}

TEST(RandomSearch, ATransformsNumbersAreNotThoseThatMadeTheCode) {
  // The target draws three numbers of its own for each code, as a random transform would: in either precision they must be the same ones,
  // and have nothing to do with the three that made the code.
  std::vector<Tensor> codes, drawn;
  Target target = three_unit_target();
  target.scan = [&](const Tensor& z, Stream& stream) {
    const Tensor own = stream.normal({3});
    if (z.size(0) == 256) codes.push_back(z), drawn.push_back(own);  // not what was chosen by its score, to be looked at again
    return three_units(z + own);
  };
  RandomSearchOptions options{.draws = 2048, .batch = 256, .keep = 4, .precision = "float32"};
  RunOptions run_options;
  run_options.steps = search_steps(options);
  run_options.chains = at::arange(3 * options.keep);
  std::vector<Tensors> found;
  for (const char* precision : {"float32", "bfloat16"}) {
    options.precision = precision;
    codes.clear(), drawn.clear();
    found.push_back(pack(run(random_search(options, gaussian_codes), target, at::zeros({3 * options.keep, 3}), run_options)));
    const Tensor code = at::cat(codes) / 2, own = at::cat(drawn);
    // |correlation| of 2,048 independent pairs or more stays below 5/√2048 = 0.11; numbers used twice would give 1.
    for (int64_t i = 0; i < 3; ++i) EXPECT_LT(std::abs((code.select(1, i) * own.select(1, i)).mean().item<double>()), 0.12) << precision;
  }
  EXPECT_TRUE(at::equal(found[0].at("z"), found[1].at("z")));
  EXPECT_TRUE(at::equal(found[0].at("value"), found[1].at("value")));
}

TEST(RandomSearch, ARoughFirstLookKeepsTheSameInBatchesOfAnySize) {
  // A first look that is nearly right but for a few codes, and blind to every fifth one later on, so that how far it may be off is never
  // known well: what is kept is then not always what the exact look keeps, but it must not depend on how many codes are scored together.
  Target target = three_unit_target();
  target.scan = [](const Tensor& z, Stream& stream) {
    const Tensor scores = three_units(z), blind = (stream.chains() > 2000).logical_and(stream.chains().remainder(5) == 0);
    if (!at::autocast::is_autocast_enabled(at::kCPU)) return scores;
    return scores + 4 * (1000 * z.sum(1, true)).sin().pow(21) - 100 * blind.to(at::kFloat).unsqueeze(1);
  };
  RandomSearchOptions options{.draws = 20000, .batch = 64, .keep = 5, .precision = "bfloat16"};
  const auto found = [&](int64_t batch, const char* precision) {
    options.batch = batch;
    options.precision = precision;
    RunOptions run_options;
    run_options.steps = search_steps(options);
    run_options.chains = at::arange(3 * options.keep);
    return pack(run(random_search(options, gaussian_codes), target, at::zeros({3 * options.keep, 3}), run_options));
  };
  const Tensors one = found(64, "bfloat16");
  for (const int64_t batch : {32, 256, 1000, 20000}) {
    const Tensors other = found(batch, "bfloat16");
    for (const auto& [name, tensor] : one) EXPECT_TRUE(at::equal(tensor, other.at(name))) << name << " with batches of " << batch;
  }
  // The check is worth something only where the first look does lose codes.
  EXPECT_FALSE(at::equal(one.at("carry/draw"), found(64, "float32").at("carry/draw")));
}

TEST(RandomSearch, FewerDrawsThanPlacesLeaveTheRestMarked) {
  const State found = search({.draws = 3, .batch = 2, .keep = 4});
  EXPECT_EQ(found.carry.at("draw")[3].item<int64_t>(), -1);
  EXPECT_TRUE(std::isinf(found.at.value[3].item<float>()));
  EXPECT_GE(found.carry.at("draw").slice(0, 0, 3).min().item<int64_t>(), 0);
  EXPECT_LE(found.carry.at("draw").max().item<int64_t>(), 2);
}

TEST(RandomSearch, Refusals) {
  const auto sentence = [](const std::function<void()>& act) {
    try {
      act();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), Failure::usage);
      return std::string(error.what());
    }
    return std::string("nothing was refused");
  };
  EXPECT_NE(sentence([] { random_search({}, {}); }).find("[prior]"), std::string::npos);
  Stream stream = Stream::range(0, 0, 5);
  EXPECT_NE(sentence([&] {
              random_search({.keep = 4}, gaussian_codes).init(at::zeros({5, 3}), three_unit_target(), stream);
            }).find("= 12"),
            std::string::npos);
  EXPECT_NE(sentence([&] { random_search({}, gaussian_codes).init(at::zeros({8, 3}), {}, stream); }).find("scan"), std::string::npos);
  EXPECT_NE(sentence([] { fallback({}, langevin({}), {}); }).find("[prior]"), std::string::npos);
}

// Two units. Unit 0 is a bowl with its peak at 2. Unit 1 is dead (value 0, slope 0) but for a bump of radius 1 about (-1.5, 0, 0).
Target dead_region() {
  Target target;
  target.name = "dead region";
  target.columns = {{"bowl"}, {"bump"}};
  const auto both = [](const Tensor& z) {
    const Tensor away = z - at::tensor({-1.5f, 0.0f, 0.0f});
    return at::stack({-0.5 * (z - 2).square().sum(1), (1 - away.square().sum(1)).clamp_min(0)}, 1);
  };
  target.scan = [both](const Tensor& z, Stream&) { return both(z); };
  target.evaluate = [both](const Tensor& z, Stream&) {
    // Even rows climb unit 0, odd rows unit 1.
    const Tensor unit = at::arange(z.size(0)).remainder(2), away = z - at::tensor({-1.5f, 0.0f, 0.0f});
    const Tensor value = both(z).gather(1, unit.unsqueeze(1)).squeeze(1);
    const Tensor bump = at::where((away.square().sum(1) < 1).unsqueeze(1), -2 * away, at::zeros_like(z));
    return Evaluation{value, at::where((unit == 1).unsqueeze(1), bump, 2 - z), {}};
  };
  return target;
}

TEST(Fallback, HandsOverTheDeadRowsAndOnlyThose) {
  const int64_t rows = 8;
  const Tensor units = at::arange(rows).remainder(2);
  RunOptions options;
  options.steps = 300;
  options.chains = at::arange(rows);
  const Tensor z0 = at::full({rows, 3}, 4.0);  // far from the bump: slope exactly 0 there
  const Sampler climb = ascent({.step_size = 0.05});

  // Alone, the climb leaves the dead rows where they are: that is what the fallback is for.
  const State stuck = run(climb, dead_region(), z0, options);
  EXPECT_EQ(stuck.at.value[1].item<float>(), 0.0f);

  const State end = run(fallback({.candidates = 64, .parts = 4}, climb, gaussian_codes, units), dead_region(), z0, options);
  for (int64_t row = 0; row < rows; ++row) {
    const auto searched = end.carry.at("searched")[row].item<int64_t>();
    if (row % 2 == 0) {
      EXPECT_EQ(searched, -1) << "row " << row;
      EXPECT_NEAR(end.carry.at("best_value")[row].item<float>(), 0.0f, 1e-3) << "row " << row;
    } else {
      EXPECT_EQ(searched % 20, 0) << "row " << row;
      EXPECT_GT(searched, 0) << "row " << row;
      // Polished: a random code alone does not come this near to the top of the bump.
      EXPECT_NEAR(end.carry.at("best_value")[row].item<float>(), 1.0f, 1e-3) << "row " << row;
    }
  }
  // Chains of one unit were dealt different candidates.
  const Tensor codes = end.carry.at("search_code");
  EXPECT_FALSE(at::equal(codes[1], codes[3]));
}

TEST(Fallback, LeavesTheOthersAsTheClimbAloneMovesThem) {
  RunOptions options;
  options.steps = 60;
  options.chains = at::arange(4);
  const Tensor z0 = at::full({4, 3}, 4.0), units = at::arange(4).remainder(2);
  const State alone = run(ascent({}), dead_region(), z0, options);
  const State end = run(fallback({}, ascent({}), gaussian_codes, units), dead_region(), z0, options);
  EXPECT_TRUE(at::equal(alone.z[0], end.z[0]));
  EXPECT_FALSE(at::equal(alone.z[1], end.z[1]));
}

TEST(Fallback, ARowThatHasArrivedKeepsItsCode) {
  // Started on the peak of unit 0 nothing rises and the slope is 0, but no random code is better.
  RunOptions options;
  options.steps = 100;
  options.chains = at::zeros({1}, at::kLong);
  const State end = run(fallback({.patience = 10}, ascent({}), gaussian_codes), dead_region(), at::full({1, 3}, 2.0), options);
  EXPECT_EQ(end.carry.at("searched").item<int64_t>(), -1);
  EXPECT_EQ(end.carry.at("best_value").item<float>(), 0.0f);
}

TEST(Fallback, APriorsSlopeDoesNotHideADeadUnit) {
  // The objective rises by a hair each step, so that only a vanished gradient can hand rows over; beside it a prior pulls hard everywhere.
  Target target = dead_region();
  target.evaluate = [](const Tensor& z, Stream& stream) {
    const double step = static_cast<double>(std::max<int64_t>(stream.step(), 0));
    const Tensor score = at::full({z.size(0)}, -100 + 0.01 * step), alive = (z.abs().amax(1) < 3.9).to(at::kFloat);
    return Evaluation{score, -z, {{"objective", score}, {"slope", alive}}};
  };
  RunOptions options;
  options.steps = 60;
  options.chains = at::arange(2);
  const FallbackOptions often{.patience = 10};
  const State end = run(fallback(often, ascent({.step_size = 1e-6}), gaussian_codes), target, at::full({2, 3}, 4.0), options);
  EXPECT_EQ(end.carry.at("searched").min().item<int64_t>(), 10);
  // With the prior's slope taken for the objective's, no row is ever found dead.
  target.evaluate = [with = target.evaluate](const Tensor& z, Stream& stream) {
    Evaluation at = with(z, stream);
    at.terms.erase("slope");
    return at;
  };
  const State blind = run(fallback(often, ascent({.step_size = 1e-6}), gaussian_codes), target, at::full({2, 3}, 4.0), options);
  EXPECT_EQ(blind.carry.at("searched").max().item<int64_t>(), -1);
}

TEST(Fallback, ARowThatStopsRisingOnASlopeIsHandedOver) {
  // A climb that never moves, at a point with a healthy slope: only the second rule can see it.
  Sampler still = ascent({.rule = "sgd", .step_size = 1e-30});
  RunOptions options;
  options.steps = 60;
  options.chains = at::zeros({1}, at::kLong);
  const State end = run(fallback({.patience = 10}, still, gaussian_codes), dead_region(), at::full({1, 3}, 4.0), options);
  EXPECT_EQ(end.carry.at("searched").item<int64_t>(), 10);
}

}  // namespace
}  // namespace evoke
