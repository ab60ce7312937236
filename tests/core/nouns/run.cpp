// The loop: order of calls, resume, refusals, and chains that stop being finite.
#include "core/nouns/run.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/expect.h"

namespace evoke {
namespace {

// Adds the stream's noise to z and counts steps in its carry.
Sampler walk() {
  Sampler sampler{.name = "walk", .needs_exact_target = false, .init = {}, .step = {}};
  sampler.init = [](const Tensor& z, const Target& target, Stream& stream) {
    return State{z, target.evaluate(z, stream), {{"count", at::zeros({z.size(0)})}}};
  };
  sampler.step = [](const State& s, const Target& target, Stream& stream) {
    const Tensor z = s.z + stream.normal(s.z.sizes().slice(1));
    return Transition{{z, target.evaluate(z, stream), {{"count", s.carry.at("count") + 1}}}, {}};
  };
  return sampler;
}

Target flat() {
  Target target;
  target.name = "flat";
  target.evaluate = [](const Tensor& z, Stream&) {
    const Tensor zero = at::zeros({z.size(0)});
    return Evaluation{zero, at::zeros_like(z), {{"objective", zero + 1}}};
  };
  return target;
}

RunOptions options_of(int64_t steps, int64_t rows) {
  RunOptions options;
  options.steps = steps;
  options.seed = 5;
  options.chains = at::arange(rows) + 10;
  return options;
}

TEST(Run, EachStepDrawsFromItsOwnCounter) {
  Tensor expected = at::zeros({3, 2});
  for (int64_t step = 0; step < 7; ++step) {
    Stream stream(5, at::arange(3) + 10, step);
    expected = expected + stream.normal({2});
  }
  std::vector<int64_t> seen;
  const State end =
      run(walk(), flat(), at::zeros({3, 2}), options_of(7, 3), [&](int64_t step, const State&, const Info&) { seen.push_back(step); });
  EXPECT_TRUE(at::equal(end.z, expected));
  EXPECT_EQ(seen, (std::vector<int64_t>{0, 1, 2, 3, 4, 5, 6}));
}

TEST(Run, GoesOnFromAPackedStateToTheBit) {
  const Tensors whole = pack(run(walk(), flat(), at::zeros({3, 2}), options_of(9, 3)));
  RunOptions rest = options_of(9, 3);
  const State half = unpack(pack(run(walk(), flat(), at::zeros({3, 2}), options_of(4, 3))));
  rest.first_step = 4;
  const Tensors resumed = pack(run(walk(), flat(), half, rest));
  ASSERT_EQ(whole.size(), resumed.size());
  for (const auto& [name, tensor] : whole) EXPECT_TRUE(at::equal(tensor, resumed.at(name))) << name;
  for (const char* name : {"z", "value", "gradient", "terms/objective", "carry/count"}) EXPECT_TRUE(whole.contains(name)) << name;
  // A run that began its counters anew would differ.
  rest.first_step = 0;
  rest.steps = 5;
  EXPECT_FALSE(at::equal(run(walk(), flat(), half, rest).z, whole.at("z")));
}

TEST(Run, StopsWhenAsked) {
  RunOptions options = options_of(100, 1);
  int64_t steps = 0;
  options.stop = [&] { return steps == 3; };
  const State end = run(walk(), flat(), at::zeros({1, 2}), options, [&](int64_t, const State&, const Info&) { ++steps; });
  EXPECT_EQ(end.carry.at("count").item<float>(), 3);
}

TEST(Run, NamesTheChainAndTheStepThatStoppedBeingFinite) {
  // Row 2, which is chain 12, turns NaN at step 5, in its value or in its code.
  for (const bool in_value : {true, false}) {
    Sampler sampler = walk();
    sampler.step = [in_value, plain = sampler.step](const State& s, const Target& target, Stream& stream) {
      Transition next = plain(s, target, stream);
      if (stream.step() == 5) (in_value ? next.state.at.value : next.state.z)[2] += NAN;
      return next;
    };
    const std::string sentence = refusal([&] { run(sampler, flat(), at::zeros({4, 2}), options_of(50, 4)); }, Failure::runtime);
    EXPECT_NE(sentence.find("chain 12 stopped being finite at step 5"), std::string::npos) << sentence;
    // The last look is after the last step, so a short run is caught too.
    EXPECT_NE(refusal(
                  [&] {
                    run(sampler, flat(), at::zeros({4, 2}), options_of(6, 4));
                  },
                  Failure::runtime)
                  .find("step 5"),
              std::string::npos);
    EXPECT_NO_THROW(run(sampler, flat(), at::zeros({4, 2}), options_of(5, 4)));
  }
}

TEST(Run, NamesAGradientThatIsNotFiniteBeforeItSpoilsTheCode) {
  Sampler sampler = walk();
  sampler.step = [plain = sampler.step](const State& s, const Target& target, Stream& stream) {
    Transition next = plain(s, target, stream);
    if (stream.step() == 5) next.state.at.gradient[1] += INFINITY;
    return next;
  };
  const std::string sentence = refusal([&] { run(sampler, flat(), at::zeros({4, 2}), options_of(6, 4)); }, Failure::runtime);
  EXPECT_NE(sentence.find("chain 11 stopped being finite at step 5: its gradient"), std::string::npos) << sentence;
}

TEST(Run, SavesWhenItIsDueAndNeverAStateThatIsNotFinite) {
  // Chain 12 turns NaN at step 5; every second step is due.
  Sampler sampler = walk();
  sampler.step = [plain = sampler.step](const State& s, const Target& target, Stream& stream) {
    Transition next = plain(s, target, stream);
    if (stream.step() == 5) next.state.z[2] += NAN;
    return next;
  };
  std::vector<int64_t> watched, saved;
  RunOptions options = options_of(50, 4);
  options.save_due = [](int64_t step) { return step % 2 == 1; };
  options.save = [&](int64_t step, const State& state) {
    EXPECT_EQ(watched.back(), step);  // the observer has seen it, so that its records can be saved beside the state
    EXPECT_TRUE(state.z.isfinite().all().item<bool>());
    saved.push_back(step);
  };
  const Observer observer = [&](int64_t step, const State&, const Info&) { watched.push_back(step); };
  EXPECT_NE(refusal(
                [&] {
                  run(sampler, flat(), at::zeros({4, 2}), options, observer);
                },
                Failure::runtime)
                .find("step 5"),
            std::string::npos);
  EXPECT_EQ(saved, (std::vector<int64_t>{1, 3}));
  EXPECT_EQ(watched.back(), 5);
}

TEST(Run, RefusesAtTheDoor) {
  Sampler metropolis = walk();
  metropolis.name = "metropolis";
  metropolis.needs_exact_target = true;
  const std::string sentence = refusal([&] { run(metropolis, flat(), at::zeros({1, 2}), options_of(1, 1)); }, Failure::runtime);
  EXPECT_NE(sentence.find("metropolis"), std::string::npos) << sentence;
  EXPECT_NE(sentence.find("log density"), std::string::npos) << sentence;
  Target exact = flat();
  exact.exact = true;
  EXPECT_NO_THROW(run(metropolis, exact, at::zeros({1, 2}), options_of(1, 1)));

  EXPECT_NE(refusal(
                [] {
                  run(walk(), flat(), at::zeros({2, 2}), options_of(1, 3));
                },
                Failure::runtime)
                .find("3 chains for 2 rows"),
            std::string::npos);
  EXPECT_NE(refusal(
                [] {
                  run(walk(), flat(), at::full({1, 2}, NAN), options_of(1, 1));
                },
                Failure::runtime)
                .find("not finite"),
            std::string::npos);
  EXPECT_THROW(unpack({{"value", at::zeros({1})}}), Error);
}

}  // namespace
}  // namespace evoke
