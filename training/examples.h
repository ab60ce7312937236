// What a training reads: rows of a split, a batch at a time, wherever they are kept.
#pragma once
#include <cstdint>
#include <functional>

#include "core/numbers/stream.h"
#include "core/recipes/recipe.h"

namespace evoke {

/// Rows that a training looks at. `rows` of the functions: int64 [B] on the CPU, of 0 … count-1.
struct Examples {
  int64_t count = 0;
  int64_t size = 1;                                           // numbers in a row: C·H·W of an image
  std::function<Tensor(const Tensor& rows)> read;             // float [B,C,H,W] in [0,1], channels_last, or codes [B,…]; on the device
  std::function<Tensor(const Tensor& rows)> labels;           // int64 [B] on the device; empty where there are none
  std::function<Tensor(uint64_t seed, int64_t epoch)> order;  // how an epoch visits them, int64 [count]; empty: shuffled anyhow
};
struct Splits {
  Examples train, validation, test;
};

/// How a training sees its images: changed at random, one draw an image, so that few of them teach more.
struct Augmentation {
  int64_t crop = 0, shift = 0;
  bool flip = false;
  int64_t epoch_images = 0;
};
inline void describe(Fields& f, Augmentation& o) {
  f("crop", o.crop, "px", "side of a square cut out anywhere; 0: the whole image", {0, 65536});
  f("shift", o.shift, "px", "furthest move in each direction, the border mirrored; 0: none", {0, 65536});
  f("flip", o.flip, "mirror left and right, with even chances");
  f("epoch_images", o.epoch_images, "images",
    "that an epoch visits, however many there are: each several times, changed anew, or a part of them, where the next epoch goes on; 0: "
    "each once",
    {0, 1e9});
}
/// images [B,C,H,W] → [B,C,crop,crop], or as they were: shifted, cut and mirrored by numbers of the stream. Without any of the three the
/// images themselves, and nothing is drawn. Throws Failure::input for a crop larger than the images, or a shift of a side or more.
Tensor augmented(const Tensor& images, const Augmentation&, Stream&);
/// How many of `count` images an epoch visits; of none, none.
int64_t visits(const Augmentation&, int64_t count);
/// Orders of `count` rows one after another, cut into epochs of `visits` rows: each row comes as often as any other, but for one time.
/// order: empty where any will do.
using Order = std::function<Tensor(uint64_t seed, int64_t epoch)>;
Order in_epochs(const Order& order, int64_t count, int64_t visits);

/// Of tensors in memory: images uint8 [N,H,W,C], or codes float [N,…]; labels int64 [N], or undefined.
Examples examples_of(const Tensor& values, const Tensor& labels, at::Device);

/// uint8 [B,H,W,C] as float [B,C,H,W] in [0,1], channels_last.
Tensor as_images(const Tensor& bytes);

/// `most` of the rows, or all where there are fewer, evenly spaced: a dataset may be sorted by class.
Tensor evenly_spaced(int64_t count, int64_t most);

/// Calls `f` with all rows in batches of at most 256 rows and 2²¹ numbers, without gradients.
void each_batch(const Examples&, const std::function<void(const Tensor& rows)>& f);
/// The mean over all rows of `f`, which gives a number a row, [B].
double mean_over(const Examples&, const std::function<Tensor(const Tensor& rows)>& f);

}  // namespace evoke
