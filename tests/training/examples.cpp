// What a training reads.
#include "training/examples.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "tests/expect.h"

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

TEST(Examples, AreCutShiftedAndMirroredRowByRow) {
  // Pixel (y, x) of image i holds 100·i + 10·y + x.
  const Tensor images = (at::arange(400).view({400, 1, 1, 1}) * 100 + at::arange(8).view({8, 1}) * 10 + at::arange(8)).to(at::kFloat);
  const auto changed = [&](const Augmentation& how, uint64_t seed = 1) {
    Stream stream = Stream::range(seed, 0, 400);
    return augmented(images, how, stream);
  };
  Stream unused = Stream::range(1, 0, 400);
  EXPECT_TRUE(augmented(images, {}, unused).is_same(images));

  const Tensor cut = changed({.crop = 5});
  ASSERT_EQ(cut.sizes(), at::IntArrayRef({400, 1, 5, 5}));
  const Tensor corner = cut.select(2, 0).select(2, 0).squeeze(1) - at::arange(400) * 100;  // 10·y + x of the window
  const Tensor y = corner.div(10, "floor"), x = corner.remainder(10);
  for (const Tensor& place : {y, x}) {
    EXPECT_EQ(place.min().item<double>(), 0);
    EXPECT_EQ(place.max().item<double>(), 3);
    for (int64_t k = 0; k < 4; ++k) EXPECT_NEAR(place.eq(k).sum().item<double>(), 100, 45);
  }
  EXPECT_TRUE(at::equal(cut[7][0] - cut[7][0][0][0], images[7][0].slice(0, 0, 5).slice(1, 0, 5) - images[7][0][0][0]));
  EXPECT_TRUE(at::equal(cut, changed({.crop = 5})));
  EXPECT_FALSE(at::equal(cut, changed({.crop = 5}, 2)));

  const Tensor mirrored = changed({.flip = true});
  int64_t turned = 0;
  for (int64_t i = 0; i < 400; ++i) {
    const bool is = at::equal(mirrored[i], images[i].flip({2}));
    EXPECT_TRUE(is || at::equal(mirrored[i], images[i]));
    turned += is;
  }
  EXPECT_NEAR(static_cast<double>(turned), 200, 50);

  const Tensor shifted = changed({.shift = 2});
  EXPECT_EQ(shifted.sizes(), images.sizes());
  EXPECT_TRUE(
      at::equal(shifted.select(2, 4).select(2, 4).squeeze(1).sub(at::arange(400) * 100 + 44).abs().le(22), at::ones({400}, at::kBool)));
  expect_refusal([&] { changed({.crop = 9}); }, Failure::input, {"crop: found 9", "at most the images' 8"});
  expect_refusal([&] { changed({.shift = 8}); }, Failure::input, {"shift: found 8"});
}

TEST(Examples, EpochsOfAnyLengthVisitEveryRowAsOften) {
  for (const Order& order : {Order(), Order([](uint64_t, int64_t epoch) { return at::arange(5).roll(epoch); })}) {
    const Tensor three = in_epochs(order, 5, 15)(1, 2);  // three passes
    EXPECT_TRUE(at::equal(at::bincount(three), at::full({5}, 3, at::kLong)));
    EXPECT_FALSE(at::equal(three.slice(0, 0, 5), three.slice(0, 5, 10)));
    // Passes go on from one epoch to the next: those of two and of seven rows are the same as those of fifteen.
    for (const int64_t visits : {2, 7}) {
      std::vector<Tensor> epochs;
      for (int64_t epoch = 0; epoch * visits < 45; ++epoch) {
        epochs.push_back(in_epochs(order, 5, visits)(1, epoch));
        EXPECT_EQ(epochs.back().sizes(), at::IntArrayRef({visits}));
      }
      EXPECT_TRUE(at::equal(at::cat(epochs).slice(0, 30, 45), three)) << visits;
    }
  }
  EXPECT_EQ(visits({}, 5), 5);
  EXPECT_EQ(visits({.epoch_images = 3}, 5), 3);
  EXPECT_EQ(visits({.epoch_images = 3}, 0), 0);  // which the loop refuses
}

}  // namespace
}  // namespace evoke
