// The sentence: value and slope against finite differences, a unit for each row, weights, terms and refusals.
#include "core/nouns/posterior.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "classifiers/networks.h"
#include "classifiers/objectives.h"
#include "core/error.h"
#include "generators/decoder.h"

namespace evoke {
namespace {

constexpr int64_t codes = 4, side = 5;

// A smooth decoder, classifier, objective and prior, in double.
struct Parts {
  Tensor decoder, filter, centre;
  Generator generator;
  Classifier classifier;
  Objective objective;
  Prior prior;

  Parts() {
    Stream stream = Stream::range(4, 0, 3 * side * side);
    decoder = 0.3 * stream.normal({codes}).to(at::kDouble);
    filter = 0.2 * stream.normal({6}).to(at::kDouble);
    centre = at::linspace(-1, 1, codes, at::kDouble);
    generator.name = "smooth";
    generator.latent = {codes};
    generator.image = {3, side, side, {}, {}};
    generator.decode = [w = decoder](const Tensor& z) { return at::sigmoid(z.matmul(w.t())).view({-1, 3, side, side}); };
    classifier.name = "tanh";
    classifier.image = {3, side, side, {}, {}};
    classifier.forward = [w = filter](const Tensor& x, const std::vector<std::string>& taps) {
      EXPECT_EQ(taps, std::vector<std::string>{"logits"});
      return Activations{{"logits", at::tanh(x.flatten(1).matmul(w)) * 3}};
    };
    objective.name = "log_softmax";
    objective.taps = {"logits"};
    for (const char* name : {"0", "1", "2", "3", "4", "5"}) objective.columns.push_back({name});
    objective.score = [](const Tensor&, const Activations& a) { return at::log_softmax(a.at("logits"), 1); };
    prior.name = "gaussian";
    prior.log_density = [m = centre](const Tensor& z) { return -0.5 * (z - m).square().sum(1); };
    prior.score = [m = centre](const Tensor& z) { return m - z; };
  }
};

Stream no_stream(int64_t rows) { return Stream::range(0, 0, rows); }

// Central differences of target.value, row by row.
Tensor differences(const Target& target, const Tensor& z, double step = 1e-5) {
  Tensor out = at::empty_like(z);
  Stream stream = no_stream(z.size(0));
  for (int64_t i = 0; i < z.size(1); ++i) {
    Tensor shift = at::zeros_like(z);
    shift.select(1, i).fill_(step);
    out.select(1, i).copy_((target.evaluate(z + shift, stream).value - target.evaluate(z - shift, stream).value) / (2 * step));
  }
  return out;
}

Tensor some_codes(int64_t rows) {
  Stream stream = Stream::range(6, 0, rows);
  return stream.normal({codes}).to(at::kDouble);
}

TEST(Posterior, SlopeIsThatOfTheValue) {
  const Parts p;
  const Tensor z = some_codes(6), rows = at::tensor(std::vector<int64_t>{0, 1, 2, 3, 4, 5});
  for (const bool with_prior : {false, true})
    for (const double weight : {1.0, 0.3}) {
      const Target target = posterior(p.generator, {}, p.classifier, p.objective, with_prior ? std::optional(p.prior) : std::nullopt,
                                      {.rows = rows, .prior_weight = 1.7, .objective_weight = weight});
      Stream stream = no_stream(6);
      const Evaluation at = target.evaluate(z, stream);
      EXPECT_LT((at.gradient - differences(target, z)).abs().max().item<double>(), 1e-8);
      // The same check sees a slope that is off by a hundredth.
      EXPECT_GT((1.01 * at.gradient - differences(target, z)).abs().max().item<double>(), 1e-4);
      EXPECT_FALSE(at.gradient.requires_grad() || at.value.requires_grad());
    }
}

TEST(Posterior, EachRowClimbsItsOwnUnitAndTermsAddUp) {
  const Parts p;
  const Tensor z = some_codes(1).expand({6, codes}).contiguous(), rows = at::arange(6).flip(0);
  const Target target =
      posterior(p.generator, {}, p.classifier, p.objective, p.prior, {.rows = rows, .prior_weight = 2, .objective_weight = 0.5});
  Stream stream = no_stream(6);
  const Evaluation at = target.evaluate(z, stream);
  const Tensor all = at::log_softmax(p.classifier.forward(p.generator.decode(z), {"logits"}).at("logits"), 1);
  EXPECT_TRUE(at::allclose(at.terms.at("objective"), all[0].flip(0)));
  EXPECT_TRUE(at::allclose(at.terms.at("prior"), p.prior.log_density(z)));
  EXPECT_TRUE(at::allclose(at.value, 0.5 * at.terms.at("objective") + 2 * at.terms.at("prior")));
  EXPECT_TRUE(at::allclose(target.scan(z, stream), all));
  ASSERT_EQ(target.columns.size(), 6u);
  EXPECT_EQ(target.columns[4].name, "4");

  // A row alone is what it is in the batch.
  const Target one = posterior(p.generator, {}, p.classifier, p.objective, p.prior,
                               {.rows = at::full({1}, 5, at::kLong), .prior_weight = 2, .objective_weight = 0.5});
  EXPECT_TRUE(at::allclose(one.evaluate(z.slice(0, 0, 1), stream).gradient, at.gradient.slice(0, 0, 1)));
}

TEST(Posterior, KnowsWhetherItIsExact) {
  const Parts p;
  Prior slope_only = p.prior;
  slope_only.log_density = {};
  const Transform shift = [](const Tensor& x, Stream& stream) { return x + 0.1 * broadcast_rows(stream.normal({}).to(at::kDouble), 4); };
  const auto exact = [&](const Transform& transform, std::optional<Prior> prior, double weight = 1) {
    return posterior(p.generator, transform, p.classifier, p.objective, std::move(prior), {.rows = {}, .prior_weight = weight}).exact;
  };
  EXPECT_TRUE(exact({}, std::nullopt));
  EXPECT_TRUE(exact({}, p.prior));
  EXPECT_FALSE(exact({}, slope_only));
  EXPECT_TRUE(exact({}, slope_only, 0));
  EXPECT_FALSE(exact(shift, p.prior));
}

TEST(Posterior, APriorThatKnowsOnlyItsSlopeMovesButDoesNotCount) {
  const Parts p;
  Prior slope_only = p.prior;
  slope_only.log_density = {};
  const Tensor z = some_codes(2);
  Stream stream = no_stream(2);
  const Evaluation with = posterior(p.generator, {}, p.classifier, p.objective, slope_only, {}).evaluate(z, stream);
  const Evaluation without = posterior(p.generator, {}, p.classifier, p.objective, std::nullopt, {}).evaluate(z, stream);
  EXPECT_TRUE(at::equal(with.value, without.value));
  EXPECT_TRUE(at::allclose(with.gradient, without.gradient + p.prior.score(z)));
  EXPECT_FALSE(with.terms.contains("prior"));
}

TEST(Posterior, ATransformDrawsFromTheStreamOfItsRow) {
  const Parts p;
  const Transform shift = [](const Tensor& x, Stream& stream) { return x + broadcast_rows(stream.normal({}).to(at::kDouble), 4); };
  const Target target = posterior(p.generator, shift, p.classifier, p.objective, std::nullopt, {});
  const Tensor z = some_codes(3);
  Stream all = Stream::range(1, 0, 3), third = Stream::range(1, 2, 1), again = Stream::range(1, 0, 3);
  const Tensor value = target.evaluate(z, all).value;
  EXPECT_TRUE(at::allclose(target.evaluate(z.slice(0, 2), third).value, value.slice(0, 2)));
  EXPECT_TRUE(at::equal(target.evaluate(z, again).value, value));
  EXPECT_FALSE(at::equal(target.evaluate(z, again).value, value));  // a second draw of the same step
}

TEST(Posterior, ViewsAreTheMeanOfSingleOnes) {
  // A score that compares the rows of its batch: each view is scored among its own rows.
  Parts p;
  p.objective.rows_independent = false;
  p.objective.score = [](const Tensor& x, const Activations& a) {
    const Tensor logits = a.at("logits");
    return at::log_softmax(logits, 1) - (logits - logits.mean(0, true)).square() + 0.1 * x.flatten(1).sum(1, true);
  };
  const Transform shift = [](const Tensor& x, Stream& stream) { return x + broadcast_rows(stream.normal({}).to(at::kDouble), 4); };
  const Tensor z = some_codes(3), rows = at::tensor(std::vector<int64_t>{4, 0, 2});
  const auto target = [&](int64_t views) {
    return posterior(p.generator, shift, p.classifier, p.objective, p.prior, {.rows = rows, .prior_weight = 2, .views = views});
  };
  Stream together = Stream::range(1, 0, 3), in_turn = Stream::range(1, 0, 3);
  const Evaluation found = target(3).evaluate(z, together);
  Tensor score = at::zeros({3}, at::kDouble), gradient = at::zeros_like(z);
  for (int view = 0; view < 3; ++view) {
    const Evaluation one = target(1).evaluate(z, in_turn);
    score += one.terms.at("objective") / 3;
    gradient += one.gradient / 3;
  }
  EXPECT_TRUE(at::allclose(found.terms.at("objective"), score));
  EXPECT_TRUE(at::allclose(found.gradient, gradient));
  EXPECT_TRUE(at::allclose(found.terms.at("slope"), (gradient - 2 * p.prior.score(z)).norm(2, at::IntArrayRef({1}))));
  // The draws of the views differ, and both leave the stream at the same place.
  EXPECT_TRUE(at::equal(together.normal({4}), in_turn.normal({4})));
  Stream again = Stream::range(1, 0, 3);
  EXPECT_GT((target(1).evaluate(z, again).gradient - found.gradient).abs().max().item<double>(), 1e-3);
  Stream third = Stream::range(1, 0, 3), one_by_one = Stream::range(1, 0, 3);
  Tensor scan = at::zeros({3, 6}, at::kDouble);
  for (int view = 0; view < 3; ++view) scan += target(1).scan(z, one_by_one) / 3;
  EXPECT_TRUE(at::allclose(target(3).scan(z, third), scan));
  EXPECT_THROW(posterior(p.generator, {}, p.classifier, p.objective, std::nullopt, {.rows = {}, .views = 2}), Error);
  EXPECT_THROW(posterior(p.generator, shift, p.classifier, p.objective, std::nullopt, {.rows = {}, .views = 0}), Error);
}

TEST(Posterior, ATransformWorksOnTheImageThatTheClassifierSees) {
  // Images of another size than the classifier's are resampled before the transform, so that its pixels are the classifier's.
  Parts p;
  p.classifier.image = {3, 2 * side, 2 * side, {}, {}};
  std::vector<int64_t> given, seen;
  p.classifier.forward = [&](const Tensor& x, const std::vector<std::string>&) {
    seen = x.sizes().vec();
    return Activations{{"logits", x.flatten(1).slice(1, 0, 6)}};
  };
  const Transform transform = [&](const Tensor& x, Stream&) {
    given = x.sizes().vec();
    return x;
  };
  Stream stream = no_stream(2);
  posterior(p.generator, transform, p.classifier, p.objective, std::nullopt, {}).evaluate(some_codes(2), stream);
  EXPECT_EQ(given, (std::vector<int64_t>{2, 3, 2 * side, 2 * side}));
  EXPECT_EQ(seen, given);
}

TEST(Posterior, SaysWhetherCodesAreComparable) {
  const Parts p;
  Prior slope_only = p.prior;
  slope_only.log_density = {};
  const Transform shift = [](const Tensor& x, Stream&) { return x; };
  const auto target = [&](const Transform& transform, std::optional<Prior> prior, PosteriorOptions options) {
    return posterior(p.generator, transform, p.classifier, p.objective, std::move(prior), options);
  };
  EXPECT_TRUE(target({}, p.prior, {}).comparable);
  EXPECT_FALSE(target(shift, p.prior, {}).comparable);
  EXPECT_FALSE(target({}, slope_only, {}).comparable);
  EXPECT_TRUE(target({}, slope_only, {.rows = {}, .prior_weight = 0}).comparable);
  // Rounding leaves codes comparable, but its differences are no density ratios.
  const Target rounded = target({}, p.prior, {.rows = {}, .bfloat16 = true});
  EXPECT_TRUE(rounded.comparable);
  EXPECT_FALSE(rounded.exact);
}

TEST(Posterior, SlopeIsTheObjectivesOwnWhateverThePriorAndTheWeights) {
  const Parts p;
  const Tensor z = some_codes(5);
  Stream stream = no_stream(5);
  const Tensor alone = posterior(p.generator, {}, p.classifier, p.objective, std::nullopt, {}).evaluate(z, stream).gradient;
  const Evaluation at =
      posterior(p.generator, {}, p.classifier, p.objective, p.prior, {.rows = {}, .prior_weight = 3, .objective_weight = 0.1})
          .evaluate(z, stream);
  EXPECT_TRUE(at::allclose(at.terms.at("slope"), alone.norm(2, at::IntArrayRef({1}))));
}

TEST(Posterior, InBfloat16TheGradientKeepsItsDirection) {
  // The shipped decoder and classifier, at codes as the decoder's own lie. Where a code is on an edge of a max-pool or a ReLU rounding may
  // put it on the other side, so single rows may be far off; most are not.
  constexpr int64_t rows = 128;
  const std::string weights = EVOKE_SOURCE "/experiments/weights/";
  const Generator generator = as_generator(load_decoder(weights + "vae.safetensors"), at::kCPU);
  const Classifier classifier = load_classifier(weights + "classifier.safetensors");
  std::vector<Unit> units;
  for (int64_t y = 0; y < 60; ++y) units.push_back({.layer = classifier.layers.back().name, .index = y});
  Stream numbers = Stream::range(3, 0, rows);
  const Tensor z = generator.start(numbers), columns = at::arange(rows).remainder(60);
  const auto target = [&](bool bfloat16) {
    return posterior(generator, {}, classifier, log_softmax_objective(units, classifier), std::nullopt,
                     {.rows = columns, .bfloat16 = bfloat16});
  };
  Stream stream = no_stream(rows);
  const Evaluation exact = target(false).evaluate(z, stream), rounded = target(true).evaluate(z, stream);
  EXPECT_EQ(rounded.gradient.scalar_type(), at::kFloat);
  EXPECT_EQ(rounded.value.scalar_type(), at::kFloat);
  const Tensor length = exact.gradient.norm(2, at::IntArrayRef({1})), other = rounded.gradient.norm(2, at::IntArrayRef({1}));
  const Tensor off = (rounded.gradient - exact.gradient).norm(2, at::IntArrayRef({1})) / length;
  const Tensor cosine = (rounded.gradient * exact.gradient).sum(1) / (length * other);
  const double whole = ((rounded.gradient - exact.gradient).norm() / exact.gradient.norm()).item<double>();
  // Measured: .086 of all, .075 of the median row; cosines .998 in the median, .94 at least; log p off by at most .9 where it goes to -140.
  EXPECT_LT(whole, 0.15);
  EXPECT_LT(off.median().item<double>(), 0.12);
  EXPECT_GT(cosine.median().item<double>(), 0.995);
  EXPECT_GT(cosine.min().item<double>(), 0.8);
  EXPECT_LT((rounded.value - exact.value).abs().max().item<double>(), 0.02 * exact.value.abs().max().item<double>());
  EXPECT_GT(whole, 1e-5);  // it was rounded
  // Scores for good are float32 all the same.
  EXPECT_TRUE(at::equal(target(true).scan(z, stream), target(false).scan(z, stream)));
}

TEST(Posterior, AnObjectiveThatIgnoresTheImageHasNoSlope) {
  const Parts p;
  Objective constant;
  constant.name = "constant";
  constant.columns = {{"one"}};
  constant.score = [](const Tensor& x, const Activations&) {
    return at::ones({x.size(0), 1}, x.options()) + 0 * x.flatten(1).sum(1, true);
  };
  Stream stream = no_stream(2);
  EXPECT_EQ(posterior(p.generator, {}, p.classifier, constant, std::nullopt, {})
                .evaluate(some_codes(2), stream)
                .gradient.abs()
                .max()
                .item<double>(),
            0.0);
}

TEST(Posterior, Refusals) {
  const Parts p;
  const auto sentence = [](const std::function<void()>& act, Failure kind) {
    try {
      act();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), kind);
      return std::string(error.what());
    }
    return std::string("nothing was refused");
  };
  Generator grey = p.generator;
  grey.image.channels = 1;
  EXPECT_NE(sentence([&] { posterior(grey, {}, p.classifier, p.objective, std::nullopt, {}); }, Failure::input).find("1 channels"),
            std::string::npos);
  Objective nothing = p.objective;
  nothing.columns.clear();
  EXPECT_NE(sentence([&] { posterior(p.generator, {}, p.classifier, nothing, std::nullopt, {}); }, Failure::usage).find("unit"),
            std::string::npos);
  for (const int64_t column : {-1, 6})
    EXPECT_NE(
        sentence([&] { posterior(p.generator, {}, p.classifier, p.objective, std::nullopt, {.rows = at::full({1}, column, at::kLong)}); },
                 Failure::usage)
            .find("0 to 5"),
        std::string::npos);
}

}  // namespace
}  // namespace evoke
