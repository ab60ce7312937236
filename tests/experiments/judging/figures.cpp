// needs: files
// The figures of a judgement against closed forms and published values.
#include "experiments/judging/figures.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/error.h"
#include "core/numbers/stream.h"

namespace evoke {
namespace {

TEST(Wilson, KnownValues) {
  // Newcombe 1998, Table I, method 3: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
  const struct {
    int64_t successes, trials;
    double low, high;
  } table[] = {{81, 263, 0.2553, 0.3662}, {15, 148, 0.0624, 0.1605}, {0, 20, 0.0, 0.1611}, {1, 29, 0.0061, 0.1718}};
  for (const auto& row : table) {
    const Interval found = wilson(row.successes, row.trials);
    EXPECT_NEAR(found.low, row.low, 5e-5) << row.successes << " of " << row.trials;
    EXPECT_NEAR(found.high, row.high, 5e-5) << row.successes << " of " << row.trials;
    EXPECT_DOUBLE_EQ(found.value, static_cast<double>(row.successes) / static_cast<double>(row.trials));
  }
}

TEST(Wilson, EndsAreExactAndSymmetric) {
  EXPECT_EQ(wilson(0, 10).low, 0.0);
  EXPECT_EQ(wilson(10, 10).high, 1.0);
  EXPECT_NEAR(wilson(3, 10).low, 1 - wilson(7, 10).high, 1e-15);
  EXPECT_TRUE(std::isnan(wilson(0, 0).value));
  EXPECT_THROW(wilson(3, 2), Error);
  EXPECT_THROW(wilson(-1, 2), Error);
}

TEST(BootstrapMedian, ValueAndRefusal) {
  EXPECT_EQ(bootstrap_median(at::tensor({3.0, 1.0, 2.0}), 1).value, 2.0);
  EXPECT_EQ(bootstrap_median(at::tensor({4.0, 1.0, 2.0, 3.0}), 1).value, 2.5);
  EXPECT_EQ(bootstrap_median(at::tensor({4.0, NAN, 2.0}), 1).value, 3.0);
  EXPECT_TRUE(std::isnan(bootstrap_median(at::empty({0}), 1).value));
  EXPECT_THROW(bootstrap_median(at::ones({3}), 1, 0), Error);
}

TEST(BootstrapMedian, EqualValuesHaveNoWidth) {
  const Interval found = bootstrap_median(at::full({50}, 0.25), 3);
  EXPECT_EQ(found.low, 0.25);
  EXPECT_EQ(found.high, 0.25);
}

TEST(BootstrapMedian, WidthIsThatOfTheNormalLaw) {
  // The median of n normal numbers has a standard error of √(π/2n): the interval's half width is about 1.96 of it.
  Stream stream = Stream::range(5, 0, 1);
  const int64_t count = 2000;
  const Interval found = bootstrap_median(stream.normal({count}).flatten(), 7);
  const double expected = 1.96 * std::sqrt(M_PI / (2.0 * count));
  EXPECT_NEAR((found.high - found.low) / 2, expected, 0.3 * expected);
  EXPECT_LT(found.low, found.value);
  EXPECT_GT(found.high, found.value);
}

TEST(BootstrapMedian, SameSeedSameInterval) {
  Stream stream = Stream::range(5, 0, 1);
  const Tensor values = stream.normal({101}).flatten();
  EXPECT_EQ(bootstrap_median(values, 7).low, bootstrap_median(values, 7).low);
  // Another seed draws other rows: with twenty resamples the ends differ for some of five seeds.
  int differing = 0;
  for (uint64_t seed = 8; seed < 13; ++seed) differing += bootstrap_median(values, 7, 20).low != bootstrap_median(values, seed, 20).low;
  EXPECT_GT(differing, 0);
}

TEST(Percentile, CountsBelowAndHalfOfTheEqual) {
  const Tensor reference = at::tensor({1.0, 2.0, 2.0, 3.0});
  const Tensor found = percentile_among(at::tensor({0.0, 1.0, 2.0, 2.5, 3.0, 9.0}), reference);
  EXPECT_TRUE(found.equal(at::tensor({0.0, 12.5, 50.0, 75.0, 87.5, 100.0}, at::kDouble))) << found;
  EXPECT_THROW(percentile_among(at::ones({1}), at::empty({0})), Error);
}

TEST(Vendi, ClosedForms) {
  EXPECT_NEAR(vendi_score(at::ones({7, 5})), 1.0, 1e-9);
  EXPECT_NEAR(vendi_score(at::eye(6)), 6.0, 1e-9);
  EXPECT_NEAR(vendi_score(at::eye(6).repeat({4, 1})), 6.0, 1e-9);          // more rows than features
  EXPECT_NEAR(vendi_score(at::eye(4).reshape({4, 2, 2}) * 3), 4.0, 1e-9);  // any shape, any length
  EXPECT_TRUE(std::isnan(vendi_score(at::empty({0, 3}))));
  // Two rows with cosine c: eigenvalues (1 ± c)/2.
  const double c = 0.6, up = (1 + c) / 2, down = (1 - c) / 2;
  const Tensor pair = at::tensor({1.0, 0.0, 0.6, 0.8}, at::kDouble).reshape({2, 2});
  EXPECT_NEAR(vendi_score(pair), std::exp(-up * std::log(up) - down * std::log(down)), 1e-12);
}

TEST(Vendi, RowsOfZerosAreAlikeAndUnlikeTheRest) {
  EXPECT_NEAR(vendi_score(at::zeros({3, 4})), 1.0, 1e-9);
  EXPECT_NEAR(vendi_score(at::cat({at::zeros({2, 4}), at::ones({2, 4})})), 2.0, 1e-9);
}

}  // namespace
}  // namespace evoke
