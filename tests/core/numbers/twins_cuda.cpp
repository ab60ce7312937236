// Each CUDA twin against its CPU kernel, bit for bit.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/numbers/stream.h"

namespace evoke {
namespace {

TEST(StreamTwin, GivesTheSameBits) {
  if (!at::hasCUDA()) GTEST_SKIP() << "no CUDA device";
  const std::vector<std::vector<int64_t>> shapes{{}, {1}, {6}, {3, 5}, {3, 48, 48}};
  const Tensor chains = at::cat({at::arange(70), at::tensor(std::vector<int64_t>{1 << 20, 0xFFFFFFFF})});
  for (const uint64_t seed : {uint64_t{0}, uint64_t{0x123456789abcdef0}})
    for (const int64_t step : {int64_t{-1}, int64_t{0}, int64_t{12345}, int64_t{0xFFFFFFFE}}) {
      Stream host(seed, chains, step), device(seed, chains.cuda(), step);
      for (const auto& shape : shapes) {
        EXPECT_TRUE(at::equal(host.normal(shape), device.normal(shape).cpu())) << "normal, seed " << seed << ", step " << step;
        EXPECT_TRUE(at::equal(host.uniform(shape), device.uniform(shape).cpu())) << "uniform, seed " << seed << ", step " << step;
      }
    }
}

TEST(StreamTwin, ReadsTheStepFromTheDevice) {
  if (!at::hasCUDA()) GTEST_SKIP() << "no CUDA device";
  const Tensor chains = at::arange(70), step = at::full({}, 5, at::TensorOptions(at::kLong).device(at::kCUDA));
  for (const int64_t now : {int64_t{5}, int64_t{12345}}) {
    step.fill_(now);
    Stream host(3, chains, now), device(3, chains.cuda(), step);
    EXPECT_TRUE(at::equal(host.normal({6}), device.normal({6}).cpu())) << now;
    EXPECT_FALSE(device.knows_step());
    EXPECT_THROW(device.step(), std::runtime_error);
  }
}

TEST(StreamTwin, GivesTheSameBitsForManyNumbers) {
  if (!at::hasCUDA()) GTEST_SKIP() << "no CUDA device";
  // Enough for the tails of the quantile and for more blocks than one grid has.
  Stream host = Stream::range(3, 0, 4096), device = Stream::range(3, 0, 4096, at::kCUDA);
  EXPECT_TRUE(at::equal(host.normal({4099}), device.normal({4099}).cpu()));
  EXPECT_FALSE(at::equal(host.normal({5}), device.at_step(7).normal({5}).cpu()));  // the comparison can fail
}

}  // namespace
}  // namespace evoke
