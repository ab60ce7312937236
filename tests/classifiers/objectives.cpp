// Objectives and units: what is refused and how it is said, slopes exact and as released, columns in the order asked for.
#include "classifiers/objectives.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <gtest/gtest.h>

#include <fstream>

#include "core/error.h"
#include "tests/expect.h"

namespace evoke {
namespace {

Classifier example() {
  Classifier out;
  out.name = "example";
  out.layers = {{"conv3", "convolution", {8, 6, 5}}, {"tokens", "", {4, 7}},   {"features.5.1.mlp#2", "", {6, 6, 8}},  // channels last
                {"windows", "", {2, 3, 4, 5}},       {"dense1", "dense", {6}}, {"logits", "dense", {4}}};
  out.labels = {"red square", "red circle", "blue square", "rainbow double line"};
  return out;
}

std::vector<Unit> units(const std::vector<std::string>& words) { return parse_units(words, example()); }

TEST(Units, EveryForm) {
  EXPECT_EQ(units({"logits:2"}), (std::vector<Unit>{{"logits", 2}}));
  EXPECT_EQ(units({"conv3:1-3"}), (std::vector<Unit>{{"conv3", 1}, {"conv3", 2}, {"conv3", 3}}));
  EXPECT_EQ(units({"logits:*"}).size(), 4);
  EXPECT_EQ(units({"conv3:*@5,4"}).back(), (Unit{"conv3", 7, 5, 4}));
  EXPECT_EQ(units({"conv3:5@0,3"}), (std::vector<Unit>{{"conv3", 5, 0, 3}}));
  EXPECT_EQ(units({"tokens:6"}), (std::vector<Unit>{{"tokens", 6}}));
  EXPECT_EQ(units({"tokens:*"}).size(), 7);
  EXPECT_EQ(units({"tokens:2-3@1"}), (std::vector<Unit>{{"tokens", 2, 1}, {"tokens", 3, 1}}));
  EXPECT_EQ(units({"features.5.1.mlp#2:*"}).size(), 8);
  EXPECT_EQ(units({"features.5.1.mlp#2:7@5,4"}), (std::vector<Unit>{{"features.5.1.mlp#2", 7, 5, 4}}));
  EXPECT_EQ(units({"logits:red circle"}), (std::vector<Unit>{{"logits", 1}}));
  EXPECT_EQ(units({"rainbow double line"}), (std::vector<Unit>{{"logits", 3}}));
  EXPECT_EQ(units({"logits:3", "conv3:0", "logits:2-3"}), (std::vector<Unit>{{"logits", 3}, {"conv3", 0}, {"logits", 2}}));
}

TEST(Units, TextReadsBack) {
  for (const Unit& unit : {Unit{"conv3", 5, 0, 3}, Unit{"logits", 2}, Unit{"tokens", 6, 3}, Unit{"features.5.1.mlp#2", 7, 0, 5}})
    EXPECT_EQ(units({unit_text(unit)}).front(), unit);
  EXPECT_EQ(caption_of(column_of({"logits", 3}), "logits", example().labels), "logits:3 rainbow double line");
  EXPECT_EQ(caption_of(column_of({"conv3", 3}), "logits", example().labels), "conv3:3");
  EXPECT_EQ(caption_of(column_of({"logits", 3}), "logits", {}), "logits:3");
}

TEST(Units, AFileMayNameLayersThatHoldAHash) {
  const std::string file = ::testing::TempDir() + "units_with_hash.txt";
  std::ofstream(file) << "# which\nfeatures.5.1.mlp#2:3@1,2  # a place\n\tlogits:1\t#logits:2\n#tokens:1\n";
  EXPECT_EQ(units({"@" + file}), (std::vector<Unit>{{"features.5.1.mlp#2", 3, 1, 2}, {"logits", 1}}));
}

TEST(Units, RefusalsSayWhatThereIs) {
  expect_in("did you mean 'conv3'", refusal([] { units({"conv4:1"}); }));
  expect_in("dense1", refusal([] { units({"conv4:1"}); }));
  expect_in("the units 0 to 3", refusal([] { units({"logits:4"}); }));
  expect_in("the units 0 to 7", refusal([] { units({"conv3:5-8"}); }));
  expect_in("runs backwards", refusal([] { units({"conv3:5-4"}); }));
  expect_in("did you mean 'red circle'", refusal([] { units({"logits:red circel"}); }));
  expect_in("did you mean 'red square'", refusal([] { units({"red squar"}); }));
  expect_in("y below 6 and x below 5", refusal([] { units({"conv3:1@6,0"}); }));
  expect_in("expected @y,x", refusal([] { units({"conv3:1@6"}); }));
  expect_in("has no places", refusal([] { units({"logits:1@0,0"}); }));
  expect_in("expected a number, a range", refusal([] { units({"conv3:-1"}); }));
  expect_in("expected a number, a range", refusal([] { units({"conv3:99999999999999999999"}); }));
  expect_in("expected a number, a range", refusal([] { units({"conv3:"}); }));
  expect_in("expected [C], [T,D], [C,H,W] or [H,W,C]", refusal([] { units({"windows:1"}); }));
  expect_in("the units 0 to 6", refusal([] { units({"tokens:7"}); }));
  expect_in("the tokens 0 to 3", refusal([] { units({"tokens:0@4"}); }));
  expect_in("expected @t", refusal([] { units({"tokens:0@1,2"}); }));
  expect_in("the units 0 to 7", refusal([] { units({"features.5.1.mlp#2:8"}); }));
  expect_in("y below 6 and x below 6", refusal([] { units({"features.5.1.mlp#2:0@6,0"}); }));
  expect_in("did you mean 'features.5.1.mlp#2'", refusal([] { units({"features.5.1.mlp#1:0"}); }));
  expect_in("found none", refusal([] { units({}); }));
}

TEST(Objectives, RefuseUnitsThatMeanNothing) {
  const Classifier c = example();
  expect_in("expected units of the last layer, logits", refusal([&] { logit_objective({{"dense1", 0}}, c); }));
  expect_in("leave it out", refusal([&] { channel_objective({{"conv3", 0, 1, 1}}, c); }));
  expect_in("leave it out", refusal([&] { channel_objective({{"tokens", 0, 1}}, c); }));
  expect_in("expected a layer of classes", refusal([&] { softmax_objective({{"tokens", 0}}, c); }));
  expect_in("units 0 to 6", refusal([&] { unit_objective({{"tokens", 7}}, c); }));
  expect_in("y below 4", refusal([&] { unit_objective({{"tokens", 0, 4}}, c); }));
  expect_in("objective direction: layer windows", refusal([&] { direction_objective("windows", at::ones({2, 5}), c); }));
  expect_in("objective diversity: layer windows", refusal([&] { diversity_objective("windows", c); }));
  expect_in("expected [U,7]", refusal([&] { direction_objective("tokens", at::ones({2, 4}), c); }, Failure::input));
  expect_in("expected a layer of classes", refusal([&] { log_softmax_objective({{"conv3", 0}}, c); }));
  expect_in("expected at least one", refusal([&] { unit_objective({}, c); }));
  expect_in("units 0 to 7", refusal([&] { unit_objective({{"conv3", 8}}, c); }));
  expect_in("expected [U,8]", refusal([&] { direction_objective("conv3", at::ones({2, 7}), c); }, Failure::input));
  expect_in("length 0", refusal([&] { direction_objective("conv3", at::zeros({2, 8}), c); }, Failure::input));
  expect_in("did you mean 'conv3'", refusal([&] { layer_objective("conv", c); }));
  expect_in("expected 1 or 3", refusal([&] {
              weighted_sum({{logit_objective(units({"logits:0-2"}), c), 1.0}, {logit_objective(units({"logits:0-1"}), c), 1.0}});
            }));
  expect_in("expected one each", refusal([&] { combined(logit_objective(units({"logits:0-2"}), c), {1, 2}); }));
  expect_in("expected 2", refusal([&] { interpolation(logit_objective(units({"logits:0-2"}), c)); }));
}

TEST(Layouts, FollowFromTheShape) {
  const auto layout = [](std::vector<int64_t> shape) { return layout_of({"a", "", std::move(shape)}); };
  EXPECT_EQ(layout({10}), Layout::dense);
  EXPECT_EQ(layout({197, 768}), Layout::tokens);
  EXPECT_EQ(layout({64, 56, 56}), Layout::map);
  EXPECT_EQ(layout({56, 56, 96}), Layout::map_last);
  EXPECT_EQ(layout({7, 7, 768}), Layout::map_last);
  EXPECT_EQ(layout({7, 7, 7}), Layout::map);
  EXPECT_EQ(layout({8, 6, 5}), Layout::map);
  EXPECT_EQ(layout({1000, 1, 1}), Layout::map);
  EXPECT_EQ(units_of({"a", "", {56, 56, 96}}), 96);
  EXPECT_EQ(usual_place({"a", "", {8, 6, 5}}), 3 * 5 + 2);
  EXPECT_EQ(usual_place({"a", "", {197, 768}}), 0);

  Classifier c;
  c.name = "c";
  c.layers = {{"map", "", {8, 6, 5}},      {"deep", "", {16, 3, 2}},   {"deeper", "", {16, 3, 2}},
              {"deepest", "", {16, 3, 2}}, {"pooled", "", {16, 1, 1}}, {"logits", "", {9}}};
  EXPECT_EQ(scene_layer(c), "deep");
  c.layers = {{"stem", "", {8, 6, 5}}, {"a.conv", "", {16, 3, 2}}, {"a", "", {16, 3, 2}}, {"b.conv", "", {16, 3, 2}},
              {"b", "", {16, 3, 2}},   {"c.conv", "", {16, 3, 2}}, {"c", "", {16, 3, 2}}, {"d.conv", "", {16, 3, 2}},
              {"d", "", {16, 3, 2}},   {"norm", "", {16, 3, 2}}};
  EXPECT_EQ(scene_layer(c), "b");
  c.layers = {{"patches", "", {7, 12}},     {"block.0.mlp", "", {7, 12}}, {"block.0", "", {7, 12}},
              {"block.1.mlp", "", {7, 12}}, {"block.1", "", {7, 12}},     {"logits", "", {9}}};
  EXPECT_EQ(scene_layer(c), "block.0");
  c.layers = {{"logits", "", {9}}};
  expect_in("found no layer with places", refusal([&] { scene_layer(c); }));
  for (const std::vector<int64_t>& shape : {std::vector<int64_t>{}, {2, 3, 4, 5}})
    expect_in("expected [C], [T,D], [C,H,W] or [H,W,C]", refusal([&] { layout(shape); }));
}

TEST(Layouts, TokensInClosedForm) {
  const Classifier c = example();
  const Tensor tokens = at::arange(2 * 4 * 7, at::kFloat).view({2, 4, 7});
  const Activations a{{"tokens", tokens}};
  // The class token unless another is named.
  EXPECT_TRUE(at::equal(unit_objective(units({"tokens:*"}), c).score({}, a), tokens.select(1, 0)));
  EXPECT_TRUE(at::equal(unit_objective(units({"tokens:5@3", "tokens:0"}), c).score({}, a),
                        at::stack({tokens.select(1, 3).select(1, 5), tokens.select(1, 0).select(1, 0)}, 1)));
  EXPECT_TRUE(at::equal(channel_objective(units({"tokens:*"}), c).score({}, a), tokens.mean(1)));
  EXPECT_TRUE(at::allclose(layer_objective("tokens", c).score({}, a), tokens.square().mean(at::IntArrayRef({1, 2})).unsqueeze(1)));
  EXPECT_TRUE(at::equal(combined(unit_objective(units({"tokens:1", "tokens:2"}), c), {2, -1}).score({}, a),
                        (2 * tokens.select(1, 0).select(1, 1) - tokens.select(1, 0).select(1, 2)).unsqueeze(1)));
  const Tensor between = interpolation(unit_objective(units({"tokens:1@2", "tokens:2@1"}), c)).score({}, a);
  EXPECT_TRUE(at::equal(between, at::stack({tokens[0][2][1], tokens[1][1][2]}).unsqueeze(1)));
  // Along one unit the direction is that unit times its cosine squared: (a·e)·(a·e/|a|)² where that is above 0.1.
  const Tensor along = direction_objective("tokens", at::eye(7).slice(0, 6), c).score({}, a);
  const Tensor cosine = (tokens.select(2, 6) / tokens.norm(2, at::IntArrayRef({2}))).clamp_min(0.1);
  EXPECT_TRUE(at::allclose(along, (tokens.select(2, 6) * cosine.square()).mean(1).unsqueeze(1)));
  const Tensor pair = diversity_objective("tokens", c).score({}, {{"tokens", tokens.slice(0, 0, 1).expand({2, 4, 7})}});
  EXPECT_TRUE(at::allclose(pair, at::full({2, 1}, -0.5)));
}

TEST(Layouts, ChannelsFirstAndLastScoreAndSlopeAlike) {
  Classifier first = example(), last = example();
  first.layers = {{"a", "", {8, 6, 6}}};
  last.layers = {{"a", "", {6, 6, 8}}};
  const Tensor map = at::sin(at::arange(3 * 8 * 6 * 6, at::kDouble) * 1.7).view({3, 8, 6, 6});
  const Tensor groups = at::tensor({0, 0, 1}, at::kLong), directions = at::cos(at::arange(16, at::kDouble)).view({2, 8});
  using Make = std::function<Objective(const Classifier&)>;
  const auto of = [](std::vector<std::string> words) {
    return [words](const Classifier& c) { return unit_objective(parse_units(words, c), c); };
  };
  const std::vector<Make> objectives{
      of({"a:*"}),
      of({"a:3@5,0", "a:0", "a:7@2,4"}),
      [](const Classifier& c) { return channel_objective(parse_units({"a:2-6"}, c), c); },
      [](const Classifier& c) { return layer_objective("a", c); },
      [&](const Classifier& c) { return direction_objective("a", directions, c); },
      [](const Classifier& c) { return diversity_objective("a", c); },
      [&](const Classifier& c) { return diversity_objective("a", c, groups); },
      [&](const Classifier& c) {
        return interpolation(of({"a:1", "a:2@0,1"})(c));
      },
      [&](const Classifier& c) {
        return weighted_sum({{of({"a:1", "a:2"})(c), 0.5}, {layer_objective("a", c), 2.0}});
      },
  };
  for (const Make& make : objectives) {
    const Tensor here = map.clone().requires_grad_(), there = map.permute({0, 2, 3, 1}).contiguous().requires_grad_();
    const Tensor score = make(first).score({}, {{"a", here}}), same = make(last).score({}, {{"a", there}});
    EXPECT_TRUE(at::allclose(score, same, 1e-12, 1e-14)) << make(first).name;
    const Tensor weights = at::arange(1, score.numel() + 1, at::kDouble).view_as(score);
    const Tensor slope = torch::autograd::grad({(score * weights).sum()}, {here})[0];
    const Tensor slope_there = torch::autograd::grad({(same * weights).sum()}, {there})[0];
    EXPECT_TRUE(at::allclose(slope, slope_there.permute({0, 3, 1, 2}), 1e-12, 1e-14)) << make(first).name;
    EXPECT_GT(slope.abs().max().item<double>(), 0.0) << make(first).name;
  }
  // The control: read as the other layout, the same memory scores otherwise.
  const Tensor there = map.permute({0, 2, 3, 1}).contiguous().view({3, 8, 6, 6});
  EXPECT_FALSE(at::allclose(of({"a:*"})(first).score({}, {{"a", map}}), of({"a:*"})(first).score({}, {{"a", there}})));
}

Tensor slope_of(const Objective& objective, const Tensor& logits, int64_t column) {
  const Tensor point = logits.clone().requires_grad_();
  return torch::autograd::grad({objective.score({}, {{"logits", point}}).select(1, column).sum()}, {point})[0];
}

TEST(LogSoftmax, SlopesExactAndAsReleased) {
  const Tensor logits = at::tensor({1.0, -2.0, 0.5, 3.0, 60.0, 0.0, -40.0, 1.0}, at::kDouble).view({2, 4});
  const Tensor p = at::softmax(logits, 1);
  const Objective exact = log_softmax_objective(units({"logits:*"}), example());
  const Objective released = log_softmax_objective(units({"logits:*"}), example(), true);
  EXPECT_TRUE(at::equal(exact.score({}, {{"logits", logits}}), at::log_softmax(logits, 1)));
  EXPECT_TRUE(at::equal(released.score({}, {{"logits", logits}}), at::log_softmax(logits, 1)));
  for (int64_t y = 0; y < 4; ++y) {
    Tensor onehot = at::zeros({4}, at::kDouble);
    onehot[y] = 1.0;
    EXPECT_TRUE(at::allclose(slope_of(exact, logits, y), onehot - p, 1e-12, 1e-14));
    EXPECT_TRUE(at::allclose(slope_of(released, logits, y), onehot * (1 - p), 1e-12, 1e-14));
  }
  EXPECT_FALSE(at::allclose(slope_of(released, logits, 0), slope_of(exact, logits, 0), 1e-3, 1e-3));
}

TEST(LogSoftmax, KeepsItsSlopeWhereTheProbabilityVanishes) {
  // A class 200 below the best: p is 0 in float32, and an epsilon in a denominator would flatten the slope.
  const Tensor logits = at::tensor({200.0F, 0.0F, 0.0F, 0.0F}).view({1, 4});
  const Objective exact = log_softmax_objective({{"logits", 1}}, example());
  EXPECT_FLOAT_EQ(exact.score({}, {{"logits", logits}}).item<float>(), -200.0F);
  EXPECT_TRUE(at::allclose(slope_of(exact, logits, 0), at::tensor({-1.0F, 1.0F, 0.0F, 0.0F}).view({1, 4})));
  EXPECT_EQ(slope_of(softmax_objective({{"logits", 1}}, example()), logits, 0).abs().max().item<float>(), 0.0F);
}

TEST(Objectives, ColumnsComeInTheOrderAskedFor) {
  const Tensor map = at::arange(2 * 8 * 6 * 5, at::kFloat).view({2, 8, 6, 5}), logits = at::arange(8, at::kFloat).view({2, 4}) * -1;
  const Objective mixed = unit_objective({{"logits", 3}, {"conv3", 2}, {"logits", 1}, {"conv3", 7, 5, 4}}, example());
  std::vector<std::string> names;
  for (const Column& column : mixed.columns) names.push_back(column.name);
  EXPECT_EQ(names, (std::vector<std::string>{"logits:3", "conv3:2", "logits:1", "conv3:7@5,4"}));
  EXPECT_EQ(mixed.columns[3].unit, (Unit{"conv3", 7, 5, 4}));
  const Tensor expected = at::stack(
      {logits.select(1, 3), map.select(1, 2).select(1, 3).select(1, 2), logits.select(1, 1), map.select(1, 7).select(1, 5).select(1, 4)},
      1);
  EXPECT_TRUE(at::equal(mixed.score({}, {{"conv3", map}, {"logits", logits}}), expected));
  // The same from a map whose channels lie together in memory.
  EXPECT_TRUE(at::equal(mixed.score({}, {{"conv3", map.contiguous(at::MemoryFormat::ChannelsLast)}, {"logits", logits}}), expected));
}

TEST(Objectives, SearchFirstAndSlopeAfter) {
  // What a search keeps for later calls must serve a gradient, and another precision.
  const Objective objective = combined(direction_objective("conv3", at::ones({2, 8}), example()), {1.0, 2.0});
  const Tensor map = at::ones({2, 8, 6, 5}, at::kDouble);
  {
    const c10::InferenceMode search;
    objective.score({}, {{"conv3", map.clone()}});
  }
  const Tensor point = map.clone().requires_grad_();
  EXPECT_GT(torch::autograd::grad({objective.score({}, {{"conv3", point}}).sum()}, {point})[0].abs().sum().item<double>(), 0.0);
  EXPECT_EQ(objective.score({}, {{"conv3", map.to(at::kFloat)}}).scalar_type(), at::kFloat);
}

TEST(Direction, RestsWhereNothingIsActive) {
  const Tensor silent = at::zeros({1, 8, 6, 5}).requires_grad_();
  const Tensor score = direction_objective("conv3", at::ones({1, 8}), example()).score({}, {{"conv3", silent}});
  EXPECT_EQ(score.item<float>(), 0.0F);
  EXPECT_TRUE(torch::autograd::grad({score.sum()}, {silent})[0].isfinite().all().item<bool>());
}

TEST(Diversity, CountsEachPairOnce) {
  const Classifier c = example();
  const Objective all = diversity_objective("conv3", c);
  EXPECT_EQ(all.score({}, {{"conv3", at::ones({1, 8, 6, 5})}}).item<float>(), 0.0F);  // alone: no pair
  const Tensor same = all.score({}, {{"conv3", at::ones({4, 8, 6, 5})}});
  EXPECT_EQ(same.sizes(), at::IntArrayRef({4, 1}));
  EXPECT_NEAR(same.sum().item<float>(), -6.0, 1e-5);  // six pairs of equals
  const Objective grouped = diversity_objective("conv3", c, at::tensor({0, 0, 1, 1}, at::kLong));
  EXPECT_NEAR(grouped.score({}, {{"conv3", at::ones({4, 8, 6, 5})}}).sum().item<float>(), -2.0, 1e-5);
  EXPECT_THROW(grouped.score({}, {{"conv3", at::ones({3, 8, 6, 5})}}), Error);
}

TEST(OfObjectives, NegativeSumAndInterpolation) {
  const Classifier c = example();
  const Activations a{{"logits", at::arange(12, at::kFloat).view({3, 4})}};
  const Tensor x = at::full({3, 1, 2, 2}, 0.5), logits = a.at("logits");
  const Objective every = logit_objective(units({"logits:*"}), c);
  EXPECT_TRUE(at::equal(negative(every).score(x, a), -logits));
  const Objective sum = weighted_sum({{l2_objective(), 2.0}, {every, 3.0}});
  EXPECT_EQ(sum.columns.size(), every.columns.size());
  EXPECT_TRUE(at::allclose(sum.score(x, a), logits * 3 - 2.0));
  EXPECT_TRUE(at::allclose(combined(every, {1, 0, -1, 2}).score(x, a), logits.matmul(at::tensor({1.0F, 0.0F, -1.0F, 2.0F})).unsqueeze(1)));
  const Objective between = interpolation(logit_objective({{"logits", 0}, {"logits", 3}}, c));
  EXPECT_TRUE(at::allclose(between.score(x, a), at::tensor({0.0F, 5.5F, 11.0F}).unsqueeze(1)));
}

TEST(OfObjectives, SayWhetherARowsScoreDependsOnTheOthers) {
  const Classifier c = example();
  const Objective alone = logit_objective({{"logits", 0}, {"logits", 3}}, c), together = diversity_objective("conv3", c),
                  along = interpolation(alone);
  for (const Objective& objective : {alone, negative(alone), combined(alone, {1, 2}), weighted_sum({{alone, 1.0}, {l2_objective(), 2.0}})})
    EXPECT_TRUE(objective.rows_independent) << objective.name;
  for (const Objective& objective : {together, along, negative(along), combined(along, {2}), weighted_sum({{alone, 1.0}, {together, 2.0}})})
    EXPECT_FALSE(objective.rows_independent) << objective.name;
}

TEST(OfTheImage, ClosedForms) {
  // A step of height 1 between two halves of a 4×6 image, in two channels.
  Tensor x = at::zeros({1, 2, 4, 6});
  x.slice(3, 3).fill_(1.0);
  EXPECT_EQ(total_variation_objective().score(x, {}).item<float>(), -8.0F);
  EXPECT_EQ(total_variation_objective().score(x.transpose(2, 3), {}).item<float>(), -8.0F);
  EXPECT_EQ(l2_objective(0.5).score(x, {}).item<float>(), -12.0F);
  EXPECT_EQ(l1_objective().score(x, {}).item<float>(), -24.0F);
}

}  // namespace
}  // namespace evoke
