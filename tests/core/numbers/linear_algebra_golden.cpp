// Linear algebra on the host: against numpy (tests/golden/linear_algebra.py), against LibTorch, and in closed form.
#include "core/numbers/linear_algebra.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/numbers/stream.h"
#include "tests/expect.h"

namespace evoke {
namespace {

// Small tensors: threads that wait for one another would take most of the time.
[[maybe_unused]] const bool one_thread = (set_threads(1), true);

Tensor golden(const std::string& name) {
  static const nlohmann::json all = nlohmann::json::parse(std::ifstream(EVOKE_SOURCE "/tests/golden/linear_algebra.json"));
  const nlohmann::json& one = all.at(name);
  return at::tensor(one.at("values").get<std::vector<double>>(), at::kDouble).reshape(one.at("shape").get<std::vector<int64_t>>());
}

// The formula of the script.
Tensor chirp(int64_t rows, int64_t columns, double rate) {
  const Tensor i = at::arange(rows * columns, at::kDouble), column = at::arange(columns, at::kDouble);
  return (rate * i * i).sin().reshape({rows, columns}) * (1 + column) + 10 * column;
}

void expect_near(const Tensor& found, const Tensor& expected, double tolerance = 1e-10) {
  ASSERT_EQ(found.sizes(), expected.sizes());
  EXPECT_EQ(found.scalar_type(), at::kDouble);
  EXPECT_LT(((found - expected).abs() / (1 + expected.abs())).max().item<double>(), tolerance) << found << expected;
}

Moments moments_of(const Tensor& rows, int64_t part = 1000) {
  Moments out;
  for (int64_t first = 0; first < rows.size(0); first += part) out.add(rows.slice(0, first, first + part));
  return out;
}

TEST(Moments, AreThoseOfNumpyWhateverTheParts) {
  const Tensor data = chirp(40, 7, 0.37);
  for (const int64_t part : {1, 7, 40}) {
    const Moments found = moments_of(data, part);
    EXPECT_EQ(found.count(), 40);
    expect_near(found.mean(), golden("mean"));
    expect_near(found.covariance(), golden("covariance"));
  }
  // A mean a million times the deviation: Σx² - n·μ² would have lost every digit that counts.
  expect_near(moments_of(data + 1e7, 7).covariance(), golden("covariance"), 1e-6);
  // Any type and any strides.
  expect_near(moments_of(data.to(at::kFloat).t().contiguous().t(), 11).covariance(), at::cov(data.to(at::kFloat).to(at::kDouble).t()));
}

TEST(Moments, Refusals) {
  Moments one;
  one.add(at::ones({1, 3}));
  expect_in("expected at least 2", refusal([&] { one.covariance(); }, Failure::input));
  expect_in("expected [-1,3]", refusal([&] { one.add(at::ones({2, 4})); }, Failure::input));
  expect_in("no rows", refusal([&] { one.add(at::ones({0, 3})); }, Failure::input));
}

TEST(Whitening, IsCholeskysFactor) {
  const Whitening found = *whitening(golden("covariance"));
  expect_near(found.factor, golden("factor"));
  expect_near(found.inverse, golden("inverse"));
  EXPECT_NEAR(found.log_determinant, golden("log_determinant").item<double>(), 1e-10);
  expect_near(at::mm(found.inverse, found.factor), at::eye(7, at::kDouble));
}

TEST(Whitening, NoneOfWhatIsNoCovariance) {
  EXPECT_FALSE(whitening(-at::eye(3)));
  EXPECT_FALSE(whitening(at::zeros({3, 3})));
  EXPECT_FALSE(whitening(at::full({2, 2}, NAN)));
  EXPECT_FALSE(whitening(at::full({2, 2}, INFINITY)));
  expect_in("square", refusal([] { whitening(at::ones({2, 3})); }, Failure::input));
}

TEST(Eigenvalues, OfNumpyAndOfALadder) {
  expect_near(symmetric_eigenvalues(golden("covariance")), golden("eigenvalues"));
  expect_near(symmetric_eigenvalues(at::tensor({3.0f, -1.0f, 2.0f}).diag()), at::tensor({-1.0, 2.0, 3.0}, at::kDouble));
  // The path of n points, 2 on the diagonal and -1 beside it: 2 - 2·cos(kπ/(n + 1)).
  const int64_t size = 9;
  const Tensor beside = at::ones({size - 1}).diag(1), path = 2 * at::eye(size) - beside - beside.t();
  expect_near(symmetric_eigenvalues(path), 2 - 2 * (at::arange(1, size + 1, at::kDouble) * (M_PI / (size + 1))).cos());
  EXPECT_EQ(symmetric_eigenvalues(at::zeros({0, 0})).numel(), 0);
  expect_in("do not converge", refusal([] { symmetric_eigenvalues(at::full({2, 2}, NAN)); }, Failure::runtime));
}

TEST(SquareRoot, TimesItselfIsTheMatrix) {
  expect_near(symmetric_square_root(golden("covariance")), golden("square_root"));
  // Of less than full rank: ones [2,2] = R·R with R = ones/√2.
  expect_near(symmetric_square_root(at::ones({2, 2})), at::full({2, 2}, std::sqrt(0.5), at::kDouble));
}

TEST(FrechetDistance, OfNumpyAndInClosedForm) {
  const Moments a = moments_of(chirp(40, 7, 0.37)), b = moments_of(chirp(25, 7, 0.53));
  const double expected = golden("frechet").item<double>();
  EXPECT_NEAR(frechet_distance(a.mean(), a.covariance(), b.mean(), b.covariance()), expected, 1e-10 * (1 + expected));
  EXPECT_NEAR(frechet_distance(b.mean(), b.covariance(), a.mean(), a.covariance()), expected, 1e-9 * (1 + expected));
  EXPECT_NEAR(frechet_distance(a.mean(), a.covariance(), a.mean(), a.covariance()), 0, 1e-9);
  // Diagonal: |Δμ|² + Σ(s₁ - s₂)².
  const Tensor s1 = at::tensor({1.0, 2.0, 0.0}, at::kDouble), s2 = at::tensor({3.0, 0.5, 0.0}, at::kDouble);
  EXPECT_NEAR(frechet_distance(at::zeros({3}), s1.square().diag(), at::ones({3}), s2.square().diag()), 3 + 4 + 2.25, 1e-12);
  expect_in("expected [3]", refusal([&] { frechet_distance(at::zeros({3}), at::eye(3), at::zeros({2}), at::eye(2)); }, Failure::input));
}

TEST(PrincipalComponents, AreTheSingularVectorsOfTallAndOfWideData) {
  const PrincipalComponents tall = principal_components(chirp(40, 7, 0.37), 3), wide = principal_components(chirp(5, 12, 0.37), 4);
  expect_near(tall.mean, golden("mean"));
  expect_near(tall.directions, golden("tall/directions"));
  expect_near(tall.variances, golden("tall/variances"));
  expect_near(wide.directions, golden("wide/directions"));
  expect_near(wide.variances, golden("wide/variances"));
}

TEST(PrincipalComponents, OfALine) {
  const Tensor along = Stream::range(1, 0, 1).normal({50}).view({50, 1}).to(at::kDouble);
  const PrincipalComponents found = principal_components(along * at::tensor({3.0, -4.0}, at::kDouble) + 7, 2);
  expect_near(found.directions[0], at::tensor({-0.6, 0.8}, at::kDouble));
  EXPECT_NEAR(found.variances[0].item<double>(), 25 * along.var().item<double>(), 1e-10);
  EXPECT_NEAR(found.variances[1].item<double>(), 0, 1e-10);
  expect_in("expected 1 to 2", refusal([&] { principal_components(at::ones({9, 2}), 3); }, Failure::input));
  expect_in("at least 2", refusal([&] { principal_components(at::ones({1, 2}), 1); }, Failure::input));
}

}  // namespace
}  // namespace evoke
