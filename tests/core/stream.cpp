// Philox against its published vectors, and the promise that position is everything.
#include "core/stream.h"

#include <gtest/gtest.h>

#include "core/philox.h"

namespace evoke {
namespace {

TEST(Philox, KnownAnswers) {
  // Random123's kat_vectors for philox4x32-10.
  const auto check = [](PhiloxWords counter, uint32_t k0, uint32_t k1, PhiloxWords expected) {
    const PhiloxWords got = philox(counter, k0, k1);
    for (int i = 0; i < 4; ++i) EXPECT_EQ(got.word[i], expected.word[i]) << i;
  };
  check({{0, 0, 0, 0}}, 0, 0, {{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}});
  check({{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}}, 0xffffffff, 0xffffffff, {{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}});
  check({{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}}, 0xa4093822, 0x299f31d0, {{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}});
}

TEST(Philox, NormalQuantile) {
  EXPECT_DOUBLE_EQ(normal_quantile(0.5), 0.0);
  EXPECT_NEAR(normal_quantile(0.975), 1.959963984540054, 1e-14);
  EXPECT_NEAR(normal_quantile(0.001), -3.090232306167813, 1e-14);
  EXPECT_NEAR(normal_quantile(1e-9), -5.997807015007687, 1e-13);
  for (double x : {1e-300, 1e-10, 0.3, 0.999, 1.0, 1.5, 7.0, 1e200}) EXPECT_NEAR(exact_log(x), std::log(x), 1e-14 * std::abs(std::log(x)));
}

}  // namespace
}  // namespace evoke
