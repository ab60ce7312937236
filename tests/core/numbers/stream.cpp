// Philox against its published vectors, and the promise that position is everything.
#include "core/numbers/stream.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "core/numbers/philox.h"

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

TEST(Stream, ElementsAreTheWordsTheyAreSaidToBe) {
  const uint64_t seed = 0x123456789abcdef0;
  const std::vector<int64_t> chains{5, 0xFFFFFFFF, (int64_t{0x9ABCD} << 32) + 7};
  Stream stream(seed, at::tensor(chains), 42);
  stream.normal({1});  // draw 0
  const Tensor got = stream.uniform({3, 3}), normal = stream.normal({6});
  for (int64_t row = 0; row < 3; ++row)
    for (uint32_t e = 0; e < 9; ++e) {
      const uint32_t low = row == 0 ? 5 : row == 1 ? 0xFFFFFFFF : 7, high = row == 2 ? 0x9ABCD000 : 0;
      const auto word = [&](uint32_t draw) { return philox({{e / 4, low, 42, high + draw}}, 0x9abcdef0, 0x12345678).word[e % 4]; };
      EXPECT_EQ(got[row].flatten()[e].item<float>(), uniform_from(word(1)));
      if (e < 6) {
        EXPECT_EQ(normal[row][e].item<float>(), normal_from(word(2)));
      }
    }
}

// The numbers of three draws of different shapes, for these chains.
std::vector<Tensor> numbers(const Tensor& chains, int64_t step = 3) {
  Stream stream(77, chains, step);
  return {stream.normal({3, 5}), stream.uniform({7}), stream.normal({})};
}

TEST(Stream, AChainDrawsTheSameAloneInAnyBatchAndInAnyOrder) {
  const std::vector<Tensor> batch = numbers(at::arange(64)), alone = numbers(at::full({1}, 17, at::kLong)),
                            backwards = numbers(at::arange(63, -1, -1));
  for (size_t i = 0; i < batch.size(); ++i) {
    EXPECT_TRUE(at::equal(batch[i][17], alone[i][0]));
    EXPECT_TRUE(at::equal(batch[i], backwards[i].flip(0)));
    // Batches of one, each chain in turn.
    for (int64_t chain = 0; chain < 64; ++chain)
      EXPECT_TRUE(at::equal(batch[i][chain], numbers(at::full({1}, chain, at::kLong))[i][0])) << chain;
  }
}

TEST(Stream, ThreadsDoNotMatter) {
  const int before = at::get_num_threads();
  const auto draw = [](int threads) {
    at::set_num_threads(threads);
    Stream stream = Stream::range(1, 0, 300);
    return stream.normal({101});
  };
  const Tensor one = draw(1), two = draw(2);
  at::set_num_threads(before);
  EXPECT_TRUE(at::equal(one, two));
}

TEST(Stream, SeedChainStepAndDrawEachMatter) {
  const auto first = [](uint64_t seed, int64_t chain, int64_t step) {
    Stream stream = Stream::range(seed, chain, 1, at::kCPU, step);
    return stream.normal({8});
  };
  const Tensor base = first(1, 2, 3);
  EXPECT_TRUE(at::equal(base, first(1, 2, 3)));
  for (const Tensor& other : {first(2, 2, 3), first(1 + (uint64_t{1} << 32), 2, 3), first(1, 3, 3), first(1, 2, 4), first(1, 2, -1)})
    EXPECT_EQ((base == other).sum().item<int64_t>(), 0);
  Stream stream = Stream::range(1, 2, 1, at::kCPU, 3);
  stream.normal({8});
  EXPECT_EQ((base == stream.normal({8})).sum().item<int64_t>(), 0);
  EXPECT_TRUE(at::equal(base, stream.at_step(3).normal({8})));
}

// Kolmogorov and Smirnov's statistic √n·sup|F_n − F| against N(0, 1); 1.95 is passed by chance once in a thousand.
double kolmogorov(const Tensor& sample) {
  const Tensor sorted = std::get<0>(sample.flatten().to(at::kDouble).sort());
  const Tensor law = 0.5 * (1 + at::erf(sorted / std::sqrt(2.0)));
  const auto n = static_cast<double>(sorted.numel());
  const Tensor above = at::arange(1, sorted.numel() + 1, at::kDouble) / n - law,
               below = law - at::arange(0, sorted.numel(), at::kDouble) / n;
  return std::sqrt(n) * std::max(above.max().item<double>(), below.max().item<double>());
}

TEST(Stream, NormalNumbersAreNormal) {
  Stream stream = Stream::range(2024, 0, 2000);
  const Tensor x = stream.normal({250});
  EXPECT_LT(kolmogorov(x), 1.95);
  // Five standard errors of each moment.
  const double root = std::sqrt(static_cast<double>(x.numel()));
  EXPECT_NEAR(x.mean().item<double>(), 0, 5 / root);
  EXPECT_NEAR(x.square().mean().item<double>(), 1, 5 * std::sqrt(2.0) / root);
  EXPECT_NEAR(x.pow(3).mean().item<double>(), 0, 5 * std::sqrt(15.0) / root);
  EXPECT_NEAR(x.pow(4).mean().item<double>(), 3, 5 * std::sqrt(96.0) / root);
  // Neighbouring elements, neighbouring chains and neighbouring steps know nothing of each other.
  Stream later = stream.at_step(0);
  const Tensor y = later.normal({250});
  EXPECT_NEAR((x.slice(1, 1) * x.slice(1, 0, -1)).mean().item<double>(), 0, 5 / root);
  EXPECT_NEAR((x.slice(0, 1) * x.slice(0, 0, -1)).mean().item<double>(), 0, 5 / root);
  EXPECT_NEAR((x * y).mean().item<double>(), 0, 5 / root);
  // The same test sees a scale of 1.01, a shift of 0.01 and a law of another shape.
  EXPECT_GT(kolmogorov(1.01 * x), 1.95);
  EXPECT_GT(kolmogorov(x + 0.01), 1.95);
  EXPECT_GT(kolmogorov((stream.uniform({250}) - 0.5) * std::sqrt(12.0)), 1.95);
}

TEST(Stream, UniformNumbersLieStrictlyInside) {
  EXPECT_GT(uniform_from(0), 0.0f);
  EXPECT_LT(uniform_from(0xFFFFFFFF), 1.0f);
  EXPECT_LT(std::abs(normal_from(0)), 6.4f);
  EXPECT_EQ(normal_from(0), -normal_from(0xFFFFFFFF));
  Stream stream = Stream::range(9, 0, 1000);
  const Tensor u = stream.uniform({500});
  EXPECT_NEAR(u.mean().item<double>(), 0.5, 5 * std::sqrt(1.0 / 12 / 5e5));
  EXPECT_LT(kolmogorov(std::sqrt(2.0) * at::erfinv(2 * u.to(at::kDouble) - 1)), 1.95);
}

TEST(Stream, TheStepMayBeATensor) {
  const Tensor chains = at::arange(5) + 3;
  Stream number(7, chains, 12), tensor(7, chains, at::full({}, 12, at::kLong));
  EXPECT_TRUE(at::equal(number.normal({4}), tensor.normal({4})));
  EXPECT_EQ(tensor.step(), 12);
  EXPECT_EQ(tensor.step_tensor().item<int64_t>(), 12);
  EXPECT_THROW(Stream(7, chains, at::zeros({1}, at::kLong)), Error);
  EXPECT_THROW(Stream(7, chains, at::zeros({})), Error);
}

TEST(Stream, OtherChainsGoOnWhereTheseStand) {
  Stream all = Stream::range(7, 0, 6, at::kCPU, 12), whole = all;
  all.normal({3});
  whole.normal({3});
  Stream some = all.of_chains(at::tensor({4, 1}, at::kLong));
  EXPECT_TRUE(at::equal(some.uniform({5}), whole.uniform({5}).index_select(0, at::tensor({4, 1}, at::kLong))));
}

TEST(Stream, RefusesWhatHasNoCounter) {
  EXPECT_THROW(Stream(0, at::zeros({2})), Error);
  EXPECT_THROW(Stream(0, at::zeros({2, 2}, at::kLong)), Error);
  EXPECT_THROW(Stream::range(0, 0, 1, at::kCPU, -2), Error);
  EXPECT_THROW(Stream::range(0, 0, 1, at::kCPU, int64_t{0xFFFFFFFF}), Error);
  EXPECT_THROW(Stream::range(0, (int64_t{1} << 52) - 1, 2), Error);
  Stream many = Stream::range(0, 0, 1);
  for (int draw = 0; draw < 4096; ++draw) many.uniform({1});
  EXPECT_THROW(many.uniform({1}), Error);  // the next draw's numbers would be another chain's
  Stream empty = Stream::range(0, 0, 0);
  EXPECT_EQ(empty.normal({3}).sizes(), at::IntArrayRef({0, 3}));
}

}  // namespace
}  // namespace evoke
