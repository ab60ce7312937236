// needs: files
// Filters and operators on images against tests/golden/operators.py, an independent implementation in float64.
#include "samplers/operators.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

namespace evoke {
namespace {

Tensor golden(const std::string& name) {
  static const nlohmann::json all = nlohmann::json::parse(std::ifstream(EVOKE_SOURCE "/tests/golden/operators.json"));
  return at::tensor(all.at(name).at("values").get<std::vector<double>>(), at::kDouble)
      .view(all.at(name).at("shape").get<std::vector<int64_t>>());
}

Tensor wave(at::IntArrayRef shape, double rate, double phase) {
  return at::sin(at::arange(c10::multiply_integers(shape), at::kDouble) * rate + phase).view(shape);
}

// What the operator of a recipe makes of the script's image, or of its gradient.
Tensor operated(const std::string& list, const std::string& toml) {
  Canvas canvas{.pixels = true, .identity = true, .image = {.channels = 3, .height = 9, .width = 8}};
  Recipe recipe = Recipe::parse("[[" + list + "]]\n" + toml, ".");
  const std::vector<Operator> operators = make_operators(recipe, list, canvas);
  const Tensor image = 0.5 + 0.5 * wave({2, 3, 9, 8}, 0.37, 0.3), gradient = wave({2, 3, 9, 8}, 1.7, 0.1);
  const bool of_gradient = toml.find("laplacian") != std::string::npos;
  return applied(operators, of_gradient ? gradient : image, {image, gradient, {}}, {Tensor()}, 0);
}

void expect_golden(const std::string& name, const std::string& toml, double tolerance = 1e-8, const std::string& list = "sampler.after") {
  SCOPED_TRACE(name);
  const Tensor found = operated(list, toml), expected = golden(name);
  ASSERT_EQ(found.sizes(), expected.sizes());
  EXPECT_LT((found - expected).abs().max().item<double>(), tolerance);
  // The check sees a change of a thousandth, and the image that nothing was done to.
  EXPECT_GT((found * 1.001 - expected).abs().max().item<double>(), tolerance);
  EXPECT_GT((0.5 + 0.5 * wave({2, 3, 9, 8}, 0.37, 0.3) - expected).abs().max().item<double>(), 1e-2);
}

TEST(OperatorsGolden, EachKind) {
  expect_golden("blur", "kind = \"blur\"\ndeviation = 1.2");
  expect_golden("bilateral", "kind = \"bilateral\"\ndeviation = 1.3\ncolour = 0.4");
  expect_golden("decay", "kind = \"decay\"\nshare = 0.1\nground = [0.1, 0.2, 0.3]");
  expect_golden("range", "kind = \"range\"\nlow = 0.2\nhigh = 0.7");
  expect_golden("small_norm", "kind = \"small_norm\"\nshare = 0.35");
  expect_golden("small_contribution", "kind = \"small_contribution\"\nshare = 0.35");
  expect_golden("total_variation", "kind = \"total_variation\"\nweight = 0.15\niterations = 10000", 1e-4);
  expect_golden("palette", "kind = \"palette\"\ncolours = [\"black\", \"red\", \"#0066cc\", \"white\"]");
  expect_golden("mixture", "kind = \"mixture\"\ncolours = [\"black\", \"red\", \"#0066cc\", \"white\"]", 1e-6);
  expect_golden("mixture_two", "kind = \"mixture\"\ncolours = [\"black\", \"red\"]", 1e-6);
  expect_golden("gradient_blur", "kind = \"blur\"\ndeviation = 1.2", 1e-8, "sampler.gradient");
  expect_golden("laplacian", "kind = \"laplacian\"\nlevels = 2", 1e-8, "sampler.gradient");
}

}  // namespace
}  // namespace evoke
