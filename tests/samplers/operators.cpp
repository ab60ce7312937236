// needs: files
// Operators on images: the contract over the menu, closed forms, what ascent makes of them, octaves, and refusals.
#include "samplers/operators.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "core/nouns/run.h"
#include "core/numbers/filters.h"
#include "samplers/ascent.h"
#include "samplers/menu.h"
#include "samplers/octaves.h"
#include "tests/expect.h"

namespace evoke {
namespace {

const ImageSpec size{.channels = 3, .height = 8, .width = 6};

// -½|z − peak|² of images, whose slope is 0 outside of rows 2 to 4 and columns 1 to 3.
Target window(const Tensor& peak) {
  Target target;
  target.name = "window";
  target.latent = {3, 8, 6};
  target.evaluate = [peak](const Tensor& z, Stream&) {
    Tensor away = at::zeros_like(z);
    away.slice(2, 2, 5).slice(3, 1, 4).copy_((z - peak).slice(2, 2, 5).slice(3, 1, 4));
    const Tensor score = -0.5 * away.square().flatten(1).sum(1);
    return Evaluation{score, -away, {{"objective", score}}};
  };
  return target;
}

Canvas canvas() {
  Canvas out{.pixels = true, .identity = true, .image = size};
  out.unit = window(at::full({1, 3, 8, 6}, 0.9));
  return out;
}

std::vector<Operator> operators(const std::string& toml, const Canvas& on = canvas()) {
  Recipe recipe = Recipe::parse(toml, ".");
  const std::vector<Operator> out = make_operators(recipe, toml.find("sampler.gradient") < 5 ? "sampler.gradient" : "sampler.after", on);
  recipe.refuse_unread();
  return out;
}

Tensor images(int64_t rows = 4, uint64_t seed = 1) {
  Stream stream = Stream::range(seed, 0, rows);
  return stream.uniform({3, 8, 6});
}

TEST(OperatorMenu, Contract) {
  const Tensor x = images(4), start = images(4, 2), gradient = images(4, 3) - 0.5;
  for (const MenuEntry& entry : operator_menu()) {
    SCOPED_TRACE(entry.table + " " + entry.kind);
    EXPECT_FALSE(entry.sentence.empty());
    for (const OptionHelp& option : entry.tables.at(0).options) EXPECT_FALSE(option.sentence.empty()) << option.key;
    const std::vector<Operator> one = operators("[[" + entry.table + "]]\nkind = \"" + entry.kind + "\"\n" + entry.example);
    ASSERT_EQ(one.size(), 1u);
    const auto through = [&](int64_t first, int64_t rows) {
      Stream stream = Stream::range(5, first, rows);
      const Tensor before = x.narrow(0, first, rows).clone(), own = before.clone();
      const std::vector<Tensor> kept = kept_by(one, canvas(), start.narrow(0, first, rows), stream);
      const Tensor out = applied(one, own, {start.narrow(0, first, rows), gradient.narrow(0, first, rows), {}}, kept, one[0].every - 1);
      EXPECT_TRUE(at::equal(own, before)) << "it wrote into its input";
      return out;
    };
    const Tensor all = through(0, 4);
    ASSERT_EQ(all.sizes(), x.sizes());
    EXPECT_EQ(all.scalar_type(), at::kFloat);
    EXPECT_TRUE(all.isfinite().all().item<bool>());
    // The same again, and each row by itself.
    EXPECT_TRUE(at::equal(all, through(0, 4)));
    for (int64_t row = 0; row < 4; ++row) EXPECT_TRUE(at::allclose(all.narrow(0, row, 1), through(row, 1), 1e-5, 1e-6)) << row;
    // It does something to noise (which lies in the range).
    EXPECT_EQ(at::equal(all, x), entry.kind == "range");
    // Not due, it does nothing.
    const Tensor undone = one[0].every > 1 ? applied(one, x, {start, gradient, {}}, {Tensor()}, one[0].every) : x;
    EXPECT_TRUE(at::equal(undone, x));
  }
}

TEST(Operators, ProjectionsDoNothingTwice) {
  const Tensor x = images();
  for (const std::string toml :
       {"kind = \"palette\"\ncolours = [\"black\", \"red\", \"white\"]",
        "kind = \"mixture\"\ncolours = [\"black\", \"red\", \"blue\", \"white\"]", "kind = \"range\"\nhigh = 0.5"}) {
    const std::vector<Operator> one = operators("[[sampler.after]]\n" + toml);
    const Tensor once = applied(one, x, {x, x, {}}, {Tensor()}, 0), twice = applied(one, once, {x, x, {}}, {Tensor()}, 0);
    EXPECT_TRUE(at::allclose(once, twice, 1e-5, 1e-6)) << toml;
    EXPECT_FALSE(at::allclose(once, x, 1e-3, 1e-3)) << toml;
  }
}

TEST(Operators, MixturesOfTwoColoursAreASegment) {
  const Tensor x = images();
  const auto mixed = [&](const std::string& colours) {
    return applied(operators("[[sampler.after]]\nkind = \"mixture\"\ncolours = " + colours), x, {x, x, {}}, {Tensor()}, 0);
  };
  // Red alone keeps the red channel; grey is the mean of the three.
  const Tensor red = mixed("[\"black\", \"red\"]"), grey = mixed("[\"white\", \"black\"]");
  EXPECT_TRUE(at::allclose(red.select(1, 0), x.select(1, 0), 1e-5, 1e-6));
  EXPECT_LT(red.slice(1, 1).abs().max().item<double>(), 1e-6);
  for (int64_t c = 0; c < 3; ++c) EXPECT_TRUE(at::allclose(grey.select(1, c), x.mean(1), 1e-5, 1e-6));
  // The eight corners of the cube mix to every colour; one colour to itself.
  const Tensor every = mixed("[\"black\", \"red\", \"green\", \"blue\", \"yellow\", \"cyan\", \"magenta\", \"white\"]");
  EXPECT_TRUE(at::allclose(every, x, 1e-4, 1e-5));
  EXPECT_TRUE(at::allclose(mixed("[\"grey\"]"), at::full_like(x, 0.5)));
  // Colours on a line add nothing to its ends.
  EXPECT_TRUE(at::allclose(mixed("[\"white\", \"grey\", \"black\"]"), grey, 1e-5, 1e-5));
}

TEST(Operators, TotalVariationShrinksAStepInClosedForm) {
  // Rows of n pixels at a and m at b > a: the step shrinks by w/n on the left and w/m on the right; and nothing where w is 0.
  Tensor x = at::full({1, 1, 5, 8}, 0.2, at::kDouble);
  x.slice(3, 5).fill_(0.8);
  Tensor expected = at::full({1, 1, 5, 8}, 0.2 + 0.1 / 5, at::kDouble);
  expected.slice(3, 5).fill_(0.8 - 0.1 / 3);
  EXPECT_TRUE(at::allclose(total_variation_proximal(x, 0.1, 4000), expected, 1e-4, 1e-4));
  EXPECT_TRUE(at::equal(total_variation_proximal(x, 0.0, 10), x));
  EXPECT_FALSE(at::allclose(total_variation_proximal(x, 0.2, 4000), expected, 1e-4, 1e-4));
}

TEST(Operators, TheBilateralFilterKeepsWhatABlurLoses) {
  Tensor step = at::zeros({1, 3, 8, 8});
  step.slice(3, 4).fill_(1.0);
  EXPECT_TRUE(at::allclose(bilateral_filtered(step, 1.5, 0.1), step, 1e-5, 1e-6));
  EXPECT_FALSE(at::allclose(gaussian_blurred(step, 1.5, Border::repeated), step, 1e-1, 1e-1));
  // Where all colours are alike to it, it is the Gaussian (cut at two deviations, so near it).
  EXPECT_LT((bilateral_filtered(step, 1.5, 1e4) - gaussian_blurred(step, 1.5, Border::repeated)).abs().max().item<double>(), 0.05);
}

TEST(Operators, ABlurKeepsFlatImagesAndSumsOfImpulses) {
  EXPECT_TRUE(at::allclose(gaussian_blurred(at::full({1, 2, 7, 9}, 0.3), 2, Border::repeated), at::full({1, 2, 7, 9}, 0.3)));
  EXPECT_LT(gaussian_blurred(at::full({1, 2, 7, 9}, 0.3), 2, Border::zeros)[0][0][0][0].item<double>(), 0.15);
  Tensor impulse = at::zeros({1, 2, 21, 21});
  impulse[0][1][10][10] = 1.0;
  const Tensor spread = gaussian_blurred(impulse, 1.0, Border::zeros);
  EXPECT_NEAR(spread.sum().item<double>(), 1.0, 1e-5);
  EXPECT_EQ(spread.select(1, 0).abs().max().item<double>(), 0.0);
  EXPECT_NEAR((spread[0][1][10][12] / spread[0][1][10][10]).item<double>(), std::exp(-2.0), 1e-5);
}

TEST(Operators, LaplacianNormalizationGivesScalesTheSameStrength) {
  // A fine pattern that is a hundredth of a coarse one comes out several times as strong, the coarse one as strong as before.
  const Tensor row = at::arange(64, at::kDouble), coarse = at::sin(row / 6).view({1, 1, 1, 64}).expand({1, 1, 64, 64});
  const Tensor fine = 0.01 * ((row.view({1, 1, 1, 64}) + row.view({1, 1, 64, 1})).remainder(2) * 2 - 1);
  const auto strength = [&](const Tensor& x) { return (x * fine).sum() / fine.square().sum() * 0.01; };
  const Tensor out = laplacian_normalized(coarse + fine, 4);
  EXPECT_NEAR(strength(coarse + fine).item<double>(), 0.01, 1e-3);
  EXPECT_GT(strength(out).item<double>(), 0.05);
  // Of any strength of the whole it makes the same.
  EXPECT_TRUE(at::allclose(laplacian_normalized(1e-3 * (coarse + fine), 4), out, 1e-6, 1e-8));
}

RunOptions run_of(int64_t steps, int64_t rows) {
  RunOptions options;
  options.steps = steps;
  options.chains = at::arange(rows);
  return options;
}

TEST(AscentOperators, MasksKeepTheStartOutside) {
  const Target target = window(at::full({1, 3, 8, 6}, 0.9));
  // Everything is pushed, also outside of the unit's field.
  Target push = target;
  push.evaluate = [evaluate = target.evaluate](const Tensor& z, Stream& stream) {
    Evaluation at = evaluate(z, stream);
    at.gradient = at.gradient + 0.1;
    return at;
  };
  const Tensor start = images(2);
  Tensor inside = at::zeros({2, 3, 8, 6}, at::kBool);
  inside.slice(2, 2, 5).slice(3, 1, 4).fill_(true);
  for (const std::string toml : {"kind = \"receptive_field\"", "kind = \"mask\"\nbox = [2, 1, 3, 3]"}) {
    const AscentOperators own{{}, operators("[[sampler.after]]\n" + toml), canvas()};
    const State end = run(ascent({.step_size = 0.02}, {}, own), push, start, run_of(20, 2));
    EXPECT_TRUE(at::equal(end.z.masked_select(inside.logical_not()), start.masked_select(inside.logical_not()))) << toml;
    EXPECT_GT((end.z - start).masked_select(inside).abs().min().item<double>(), 1e-3) << toml;
  }
  const State free = run(ascent({.step_size = 0.02}), push, start, run_of(20, 2));
  EXPECT_GT((free.z - start).masked_select(inside.logical_not()).abs().min().item<double>(), 1e-3);
}

TEST(AscentOperators, ResumedAnywhereTheyEndInTheSameBits) {
  const AscentOperators own{operators("[[sampler.gradient]]\nkind = \"blur\""),
                            operators("[[sampler.after]]\nkind = \"receptive_field\"\n[[sampler.after]]\nkind = \"blur\"\nevery = 3\n"
                                      "[[sampler.after]]\nkind = \"mask\"\nbox = [0, 0, 4, 6]"),
                            canvas()};
  const Sampler sampler = ascent({}, {}, own);
  const Target target = window(at::full({1, 3, 8, 6}, 0.9));
  const Tensor whole = run(sampler, target, images(2), run_of(10, 2)).z;
  for (const int64_t pause : {1, 2, 3, 7}) {
    RunOptions rest = run_of(10, 2);
    rest.first_step = pause;
    EXPECT_TRUE(at::equal(run(sampler, target, unpack(pack(run(sampler, target, images(2), run_of(pause, 2)))), rest).z, whole)) << pause;
  }
}

TEST(AscentOperators, AreAppliedInOrderAtTheStepsTheyAreDueAt) {
  // One pixel's way: each step adds 0.1, decay halves it after steps 2 and 4, then it is cut at 0.15.
  Target slope;
  slope.evaluate = [](const Tensor& z, Stream&) { return Evaluation{z.flatten(1).sum(1), at::ones_like(z), {}}; };
  const std::string decay = "[[sampler.after]]\nkind = \"decay\"\nshare = 0.5\nground = 0\nevery = 2\n",
                    range = "[[sampler.after]]\nkind = \"range\"\nhigh = 0.15\n";
  const auto way = [&](const std::string& toml) {
    std::vector<double> out;
    const AscentOperators own{{}, operators(toml), canvas()};
    run(ascent({.rule = "sgd", .step_size = 0.1}, {}, own), slope, at::zeros({1, 3, 8, 6}), run_of(4, 1),
        [&](int64_t, const State& state, const Info&) { out.push_back(state.z[0][1][2][3].item<double>()); });
    return out;
  };
  const auto expect_way = [&](const std::string& toml, const std::vector<double>& expected) {
    const std::vector<double> found = way(toml);
    for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(found.at(i), expected[i], 1e-6) << toml << i;
  };
  expect_way(decay, {0.1, 0.1, 0.2, 0.15});
  expect_way(decay + range, {0.1, 0.1, 0.15, 0.125});
  expect_way(range + decay, {0.1, 0.075, 0.15, 0.075});
}

TEST(AscentOperators, NoImageIsBestThatTheOperatorsDidNotSee) {
  // The start is the best image there is, but it is not grey.
  const Tensor peak = images(1);
  const AscentOperators grey{{}, operators("[[sampler.after]]\nkind = \"mixture\"\ncolours = [\"black\", \"white\"]"), canvas()};
  const State end = run(ascent({.step_size = 0.01}, {}, grey), window(peak), peak, run_of(5, 1));
  const Tensor& best = chosen_codes(end);
  EXPECT_TRUE(at::allclose(best.select(1, 0), best.select(1, 2), 1e-5, 1e-6));
  EXPECT_TRUE(at::equal(chosen_codes(run(ascent({.step_size = 0.01}), window(peak), peak, run_of(5, 1))), peak));
  // An operator that is not due at each step: the last image counts.
  const AscentOperators now_and_then{{}, operators("[[sampler.after]]\nkind = \"blur\"\nevery = 2"), canvas()};
  EXPECT_FALSE(run(ascent({}, {}, now_and_then), window(peak), peak, run_of(5, 1)).carry.contains("best_code"));
}

TEST(AscentOperators, GradientsAreBlurredBeforeTheStep) {
  const Tensor start = images(1), peak = at::full({1, 3, 8, 6}, 0.9);
  const AscentOperators blur{operators("[[sampler.gradient]]\nkind = \"blur\"\ndeviation = 0.7"), {}, canvas()};
  Stream stream = Stream::range(0, 0, 1), first = Stream::range(0, 0, 1, at::kCPU, 0);
  const Target target = window(peak);
  const Sampler sampler = ascent({.rule = "sgd", .step_size = 0.5}, {}, blur);
  const Transition next = sampler.step(sampler.init(start, target, stream), target, first);
  const Tensor g = target.evaluate(start, stream).gradient;
  EXPECT_TRUE(at::allclose(next.state.z, start + 0.5 * gaussian_blurred(g, 0.7, Border::zeros), 1e-5, 1e-6));
  EXPECT_FALSE(at::allclose(next.state.z, start + 0.5 * g, 1e-3, 1e-3));
}

// A bowl over the whole image.
Target bowl(const Tensor& peak) {
  Target target;
  target.name = "bowl";
  target.latent = {3, 16, 16};
  target.evaluate = [peak](const Tensor& z, Stream&) {
    const Tensor score = -0.5 * (z - peak).square().flatten(1).sum(1);
    return Evaluation{score, peak - z, {{"objective", score}}};
  };
  return target;
}

TEST(Octaves, SmallImagesFollowTheSlopeOfTheirEnlargement) {
  Stream stream = Stream::range(3, 0, 2), none = Stream::range(0, 0, 2);
  const Tensor peak = stream.uniform({3, 16, 16}), start = stream.uniform({3, 16, 16});
  const Sampler sampler = octaves(ascent({.rule = "sgd", .step_size = 1e-3}), 3, 2.0, 30);
  State state = sampler.init(start, bowl(peak), none);
  const Tensor y = state.carry.at("octave_code"), g = state.carry.at("octave_gradient");
  EXPECT_EQ(y.sizes(), at::IntArrayRef({2, 3, 4, 4}));
  EXPECT_TRUE(at::allclose(state.z, at::_upsample_bilinear2d_aa(y, {16, 16}, false)));
  // The gradient is the finite difference of the value along a direction of small images.
  const Tensor along = at::sin(at::arange(y.numel(), at::kDouble)).view(y.sizes());
  const auto value = [&](double h) {
    const Tensor image = at::_upsample_bilinear2d_aa(y.to(at::kDouble) + h * along, {16, 16}, false);
    return bowl(peak.to(at::kDouble)).evaluate(image, none).value.sum().item<double>();
  };
  EXPECT_NEAR((g * along).sum().item<double>(), (value(1e-4) - value(-1e-4)) / 2e-4, 1e-4);

  // Sides grow by two, a hundred steps each; the last octave reaches the peak, which small images cannot hold.
  std::vector<int64_t> sides;
  std::vector<double> far;
  const State end = run(octaves(ascent({.rule = "sgd", .step_size = 0.1}), 3, 2.0, 300), bowl(peak), start, run_of(300, 2),
                        [&](int64_t, const State& now, const Info&) {
                          sides.push_back(now.carry.at("octave_code").size(3));
                          far.push_back((now.z - peak).abs().max().item<double>());
                        });
  for (int64_t step : {0, 99}) EXPECT_EQ(sides[static_cast<size_t>(step)], 4);
  for (int64_t step : {100, 199}) EXPECT_EQ(sides[static_cast<size_t>(step)], 8);
  for (int64_t step : {200, 299}) EXPECT_EQ(sides[static_cast<size_t>(step)], 16);
  EXPECT_GT(far[99], 0.2);
  EXPECT_LT(far[299], 1e-3);
  EXPECT_TRUE(at::allclose(chosen_codes(end), peak.expand_as(end.z), 1e-2, 1e-2));
}

TEST(Octaves, ResumedAnywhereTheyEndInTheSameBits) {
  const Tensor start = at::zeros({2, 3, 16, 16});
  const Target target = bowl(at::full({1, 3, 16, 16}, 0.7));
  const Sampler sampler = octaves(ascent({}), 3, 1.4, 30);
  const State whole = run(sampler, target, start, run_of(30, 2));
  for (const int64_t pause : {5, 10, 11, 20}) {
    State half = unpack(pack(run(sampler, target, start, run_of(pause, 2))));
    RunOptions rest = run_of(30, 2);
    rest.first_step = pause;
    const State end = run(sampler, target, half, rest);
    EXPECT_TRUE(at::equal(end.z, whole.z)) << pause;
  }
  EXPECT_FALSE(at::equal(run(octaves(ascent({}), 2, 1.4, 30), target, start, run_of(30, 2)).z, whole.z));
}

TEST(Operators, Refusals) {
  const auto made = [](const std::string& toml, const Canvas& on = canvas()) { return [toml, on] { operators(toml, on); }; };
  const std::string after = "[[sampler.after]]\n";
  expect_in("did you mean 'blur'", refusal(made(after + "kind = \"blurr\""), Failure::input));
  expect_in("found none", refusal(made(after + "deviation = 1"), Failure::input));
  expect_in("did you mean 'deviation'", refusal(made(after + "kind = \"blur\"\ndeviaton = 1"), Failure::input));
  expect_in("expected 1 to 1e+09", refusal(made(after + "kind = \"blur\"\nevery = 0"), Failure::input));
  expect_in("one a channel", refusal(made(after + "kind = \"decay\"\nground = [0, 1]"), Failure::input));
  expect_in("did you mean 'green'", refusal(made(after + "kind = \"palette\"\ncolours = [\"geen\"]"), Failure::input));
  expect_in("hexadecimal", refusal(made(after + "kind = \"palette\"\ncolours = [\"#12345g\"]"), Failure::input));
  expect_in("found no colour", refusal(made(after + "kind = \"palette\""), Failure::input));
  expect_in("neither file nor box", refusal(made(after + "kind = \"mask\""), Failure::input));
  expect_in("a rectangle within 6×8", refusal(made(after + "kind = \"mask\"\nbox = [0, 0, 9, 2]"), Failure::input));
  expect_in("the low end first", refusal(made(after + "kind = \"range\"\nlow = 2"), Failure::input));
  expect_in("expected fewer", refusal(made("[[sampler.gradient]]\nkind = \"laplacian\"\nlevels = 3"), Failure::input));
  Canvas codes, waves = canvas();
  waves.identity = false;
  expect_in("range = \"clip\"", refusal(made(after + "kind = \"blur\"", waves), Failure::input));
  expect_in("where z is none", refusal(made("[[sampler.gradient]]\nkind = \"blur\"", codes), Failure::input));
  EXPECT_EQ(operators("[[sampler.gradient]]\nkind = \"blur\"", waves).size(), 1u);
  const auto sampler = [](const std::string& toml, const Canvas& on) {
    return [toml, on] {
      Recipe recipe = Recipe::parse("[sampler]\n" + toml, ".");
      SamplerNeeds needs;
      needs.canvas = on;
      make_sampler(recipe, bowl(at::zeros({1})), std::nullopt, needs);
      recipe.refuse_unread();
    };
  };
  expect_in("where z is none", refusal(sampler("kind = \"ascent\"\noctaves = 2", {}), Failure::input));
  expect_in(
      "beside the operator mask",
      refusal(sampler("kind = \"ascent\"\noctaves = 2\n[[sampler.after]]\nkind = \"mask\"\nbox = [0,0,2,2]", canvas()), Failure::input));
  expect_in("which nothing here reads",
            refusal(sampler("kind = \"langevin\"\n[[sampler.after]]\nkind = \"blur\"", canvas()), Failure::input));
}

}  // namespace
}  // namespace evoke
