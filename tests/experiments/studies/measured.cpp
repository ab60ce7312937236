// What a study measures and says: numbers by name, claims, tables, curves; the measures against networks whose answers are known.
#include "experiments/studies/measured.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/records/pictures.h"
#include "experiments/studies/measures.h"
#include "tests/expect.h"

namespace evoke {
namespace {

constexpr double nothing = std::numeric_limits<double>::quiet_NaN();

Measured table() {
  return {"Tuning & more", "zoom", {"a:1", "b"}, {{"0.5", {1.0, nothing}}, {"1", {2.5, nothing}}, {"2", {0.25, nothing}}}, true};
}

TEST(Measured, NumbersGoIntoSentencesByName) {
  Numbers numbers;
  add_numbers(numbers, "zoom", table());
  add_numbers(numbers, "", {"", "run", {"oracle"}, {{"guided", {0.9833}}}});
  EXPECT_EQ(with_numbers("at 1: {zoom/1/a:1}, {guided/oracle}; {zoom/1/b}", numbers), "at 1: 2.500, 0.983; -");
  EXPECT_EQ(with_numbers("no number", numbers), "no number");
  expect_refusal([&] { with_numbers("{guided/oracl}", numbers); }, Failure::input, {"'guided/oracl'", "did you mean 'guided/oracle'"});
}

TEST(Measured, ClaimsHoldOrDoNotOrCannotBeSaid) {
  const Numbers n{{"a/x", 2.0}, {"b/x", 1.0}, {"c/x", nothing}, {"same first class", 1.95}};
  EXPECT_EQ(verdict_of({"a/x > b/x"}, n), "agrees");
  EXPECT_EQ(verdict_of({"a/x < b/x"}, n), "does not agree");
  EXPECT_EQ(verdict_of({"a/x >= 2 * b/x", "b/x <= 1"}, n), "agrees");
  EXPECT_EQ(verdict_of({"a/x > 2 * b/x"}, n), "does not agree");
  EXPECT_EQ(verdict_of({"a/x ~ same first class"}, n), "agrees");
  EXPECT_EQ(verdict_of({"a/x ~ b/x"}, n), "does not agree");
  EXPECT_EQ(verdict_of({"a/x > c/x"}, n), "cannot be said");
  EXPECT_EQ(verdict_of({"a/x > c/x", "a/x < b/x"}, n), "does not agree") << "one claim that fails is enough";
  EXPECT_EQ(verdict_of({}, n), "cannot be said");
  expect_refusal([&] { verdict_of({"a/x b/x"}, n); }, Failure::input, {"'a/x b/x'", "expected two numbers or names"});
  expect_refusal([&] { verdict_of({"a/y > 0"}, n); }, Failure::input, {"'a/y'"});
}

TEST(Measured, TablesLeaveOutColumnsWithoutNumbers) {
  EXPECT_EQ(markdown_of(table()), "| zoom |   a:1 |\n|------|------:|\n| 0.5  | 1.000 |\n| 1    | 2.500 |\n| 2    | 0.250 |\n");
}

TEST(Measured, CurvesAreDrawnAndEscaped) {
  Measured one = table();
  one.columns[0] = "<script>";
  const std::string svg = curves_svg(one);
  expect_in("Tuning &amp; more", svg);
  expect_in("&lt;script>", svg);
  EXPECT_EQ(svg.find("<script"), std::string::npos);
  // Three points of the one column that has numbers: 0.5, 1 and 2 on an axis from 0.4 or less to 2 or more.
  const size_t at = svg.find("points=\"") + 8;
  const std::string points = svg.substr(at, svg.find('"', at) - at);
  EXPECT_EQ(std::count(points.begin(), points.end(), ','), 3);
}

TEST(Measured, SpearmanByHandWithTies) {
  // Ranks (1, 2.5, 2.5, 4) and (2, 1, 3, 4): deviations (-1.5, 0, 0, 1.5), (-.5, -1.5, .5, 1.5): 3 / √(4.5 · 5).
  EXPECT_NEAR(spearman(at::tensor({1.0, 3.0, 3.0, 9.0}), at::tensor({0.2, 0.1, 0.3, 7.0})), 3 / std::sqrt(4.5 * 5), 1e-12);
  EXPECT_NEAR(spearman(at::arange(9).to(at::kFloat), -at::arange(9).to(at::kFloat).exp()), -1.0, 1e-12);
  EXPECT_TRUE(std::isnan(spearman(at::ones(4), at::arange(4))));
}

// A network of one linear layer on 8×8 images with two units: the weights w of unit 0, and the mean of the image.
constexpr int64_t side = 8;
Tensor weights() { return Stream::range(5, 0, 1).normal({3, side, side})[0]; }
StudyRun linear_run(const Tensor& pictures) {
  StudyRun run;
  run.name = "linear";
  run.classifier.name = "linear";
  run.classifier.image = {3, side, side};
  run.classifier.layers = {{"dense", "linear", {2}, 0}};
  run.classifier.forward = [w = weights()](const Tensor& x, const std::vector<std::string>&) {
    return Activations{{"dense", at::stack({(x * w).flatten(1).sum(1), x.flatten(1).mean(1)}, 1)}};
  };
  run.columns = {column_of({"dense", 0})};
  run.objective.columns = run.columns;
  run.objective.taps = {"dense"};
  run.objective.score = [](const Tensor&, const Activations& a) { return a.at("dense").slice(1, 0, 1); };
  run.generator.image = run.classifier.image;
  run.generator.latent = {3, side, side};
  run.generator.decode = [](const Tensor& z) { return 0.25 * z; };
  run.generator.start = [](Stream& stream) { return stream.normal({3, side, side}); };
  run.chains = pictures.size(0);
  run.pictures = pictures_in(to_bytes(pictures), std::vector<Column>(static_cast<size_t>(pictures.size(0)), run.columns[0]));
  return run;
}

Measured measured(const std::string& toml, const std::vector<StudyRun>& runs) {
  Recipe recipe = Recipe::parse("[measure.m]\n" + toml, "");
  return measure_menu().chosen(recipe, "measure.m", "").make({recipe, "measure.m", runs});
}

TEST(Measures, FiltersKnowALinearUnitsWeights) {
  const Tensor w = weights();
  const Tensor likes = (0.5 + 0.4 * w / w.abs().max()).unsqueeze(0), noise = Stream::range(9, 0, 1).uniform({3, side, side});
  EXPECT_NEAR(measured("kind = \"filters\"\nrun = \"linear\"", {linear_run(likes)}).rows[0].second[0], 1.0, 1e-3);
  EXPECT_LT(std::abs(measured("kind = \"filters\"\nrun = \"linear\"", {linear_run(noise)}).rows[0].second[0]), 0.3);
}

TEST(Measures, FiltersLookAtTheMiddleOfAMap) {
  // One channel whose value at a place is the red of that pixel: at the middle, (4, 4) of 8 × 8, and nowhere else.
  StudyRun run = linear_run(at::zeros({1, 3, side, side}));
  run.classifier.layers = {{"red", "conv", {1, side, side}, 0}};
  run.classifier.forward = [](const Tensor& x, const std::vector<std::string>&) { return Activations{{"red", x.slice(1, 0, 1)}}; };
  run.columns = {column_of({"red", 0})};
  const auto cosine = [&](int64_t y, int64_t x) {
    Tensor image = at::full({1, 3, side, side}, 0.5);
    image[0][0][y][x] = 1.0;
    run.pictures = pictures_in(to_bytes(image), run.columns);
    return measured("kind = \"filters\"\nrun = \"linear\"", {run}).rows[0].second;
  };
  EXPECT_NEAR(cosine(4, 4)[0], 1.0, 1e-3);
  EXPECT_EQ(cosine(4, 4)[1], 1.0) << "one pixel";
  EXPECT_LT(cosine(4, 0)[0], 0.9) << "a pixel elsewhere is not what it weighs";
}

TEST(Measures, SlopesAreNormsOfTheGradient) {
  const Measured found = measured("kind = \"slopes\"\nrun = \"linear\"\nstarts = 3", {linear_run(at::zeros({1, 3, side, side}))});
  const double norm = weights().norm().item<double>();
  ASSERT_EQ(found.rows.size(), 3u);
  EXPECT_EQ(found.rows[0].first, "code");
  EXPECT_NEAR(found.rows[0].second[0], norm / 4, 1e-4 * norm);
  EXPECT_NEAR(found.rows[1].second[0], norm, 1e-4 * norm);
  EXPECT_NEAR(found.rows[2].second[0], 1.0, 1e-6) << "of the unit itself";
  EXPECT_NEAR(found.rows[2].second[1], 0.5, 1e-6) << "the other unit has no part in it";
}

TEST(Measures, ResponsesAndTuningAnswerToWhatTheyShow) {
  const Tensor x = Stream::range(3, 0, 2).uniform({3, side, side});
  StudyRun run = linear_run(x);
  const Tensor w = weights(), seen = from_bytes(to_bytes(x));
  const Measured responses = measured("kind = \"responses\"\nrun = \"linear\"", {run});
  const auto value = [&](const std::string& name) {
    for (const auto& [row, values] : responses.rows)
      if (row == name) return values[0];
    return nothing;
  };
  EXPECT_NEAR(value("its picture"), (seen * w).flatten(1).sum(1).mean().item<double>(), 1e-4);
  EXPECT_NEAR(value("white"), w.sum().item<double>(), 1e-4);
  EXPECT_NEAR(value("mid-grey"), w.sum().item<double>() / 2, 1e-4);
  EXPECT_NEAR(value("red channel alone"), (seen.select(1, 0) * w[0]).flatten(1).sum(1).mean().item<double>(), 1e-4);
  EXPECT_EQ(value("black"), 0.0);
  const Measured contrast = measured("kind = \"tuning\"\nrun = \"linear\"\nby = \"contrast\"\nat = [0.0, 1.0]", {run});
  EXPECT_NEAR(contrast.rows[0].second[0], w.sum().item<double>() / 2, 1e-4);
  EXPECT_NEAR(contrast.rows[1].second[0], value("its picture"), 1e-4);
  const Measured turned = measured("kind = \"tuning\"\nrun = \"linear\"\nby = \"rotation\"\nat = [0.0, 180.0]", {run});
  EXPECT_NEAR(turned.rows[0].second[0], value("its picture"), 1e-3);
  EXPECT_NEAR(turned.rows[1].second[0], (seen.flip({2, 3}) * w).flatten(1).sum(1).mean().item<double>(), 1e-3);
}

TEST(Measures, RepeatsCountPairs) {
  const Tensor one = Stream::range(3, 0, 1).uniform({3, side, side});
  const Measured same = measured("kind = \"repeats\"\nrun = \"linear\"", {linear_run(one.expand({3, 3, side, side}))});
  const std::vector<double> expected{1, 1, 1, 3};
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(same.rows[0].second[i], expected[i], 1e-9) << same.columns[i];
  expect_refusal([&] { measured("kind = \"repeats\"\nrun = \"other\"", {linear_run(one)}); }, Failure::input, {"measure.m", "'other'"});
}

}  // namespace
}  // namespace evoke
