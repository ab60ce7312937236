// What a training reads.
#include "training/examples.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace evoke {
namespace {

TEST(Examples, ImagesFromBytes) {
  const Tensor bytes = at::arange(2 * 2 * 2 * 3).view({2, 2, 2, 3}).to(at::kByte);
  const Examples examples = examples_of(bytes, at::tensor({7L, 8L}), at::kCPU);
  EXPECT_EQ(examples.count, 2);
  EXPECT_EQ(examples.size, 12);
  const Tensor x = examples.read(at::tensor({1L}));
  EXPECT_EQ(x.sizes(), (std::vector<int64_t>{1, 3, 2, 2}));
  EXPECT_TRUE(x.is_contiguous(at::MemoryFormat::ChannelsLast));
  EXPECT_FLOAT_EQ(x[0][1][0][1].item<float>(), 16.0f / 255.0f);
  EXPECT_EQ(examples.labels(at::tensor({1L})).item<int64_t>(), 8);
}

TEST(Examples, BatchesAreBoundedInNumbers) {
  Examples small, large;
  small.count = 600, small.size = 6912;
  large.count = 30, large.size = 224 * 224 * 3;
  const auto batches = [](const Examples& of) {
    std::vector<int64_t> out;
    int64_t next = 0;
    each_batch(of, [&](const Tensor& rows) {
      EXPECT_EQ(rows[0].item<int64_t>(), next);
      next += rows.size(0);
      out.push_back(rows.size(0));
    });
    EXPECT_EQ(next, of.count);
    return out;
  };
  EXPECT_EQ(batches(small), (std::vector<int64_t>{256, 256, 88}));
  EXPECT_EQ(batches(large), (std::vector<int64_t>{13, 13, 4}));
  const Tensor values = at::arange(600, at::kFloat);
  EXPECT_DOUBLE_EQ(mean_over(small, [&](const Tensor& rows) { return values.index_select(0, rows); }), 299.5);
}

TEST(Examples, SomeAreEvenlySpaced) {
  EXPECT_TRUE(at::equal(evenly_spaced(5, 8), at::arange(5)));
  EXPECT_TRUE(at::equal(evenly_spaced(10, 4), at::tensor({0L, 2L, 5L, 7L})));
}

}  // namespace
}  // namespace evoke
