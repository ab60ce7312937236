// Datasets of labelled images on disk, read and written a part at a time: memory does not grow with the images' pixels.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/numbers/tensor.h"

namespace evoke {

/// Rows of an array in an HDF5 file, in any order. They are read in blocks (the file's own chunks, about half a MiB); the blocks used last
/// stay in memory, in all at most `cache_bytes`, so an array smaller than that is read once. Copies share the blocks.
class RowReader {
 public:
  static constexpr int64_t cache_bytes = int64_t{256} << 20;
  RowReader(const std::string& file, const std::string& array, int64_t cache_bytes = RowReader::cache_bytes);

  const std::vector<int64_t>& shape() const;  // [N,…]
  /// rows: int64 [n] on the CPU, any of 0 … N-1. Gives [n,…] in their order.
  Tensor read(const Tensor& rows) const;
  /// An order in which to visit n rows (int64 [n], ascending), drawn from (seed, epoch) alone: a permutation of 0 … n-1, int64 [n].
  /// Where the array fits into the cache every permutation is equally likely. Where it does not, blocks drawn from all over the array fill
  /// half the cache, their rows are shuffled, then the next blocks come: every block is read once.
  Tensor shuffled(const Tensor& rows, uint64_t seed, int64_t epoch) const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

enum class Split : uint8_t { train = 0, validation = 1, test = 2 };

/// What is known of the N images of a dataset but their pixels.
struct DatasetColumns {
  Tensor labels;                         // int64 [N]
  Tensor split;                          // uint8 [N], see Split
  std::vector<std::string> label_names;  // by label
  std::vector<std::string> files;        // N: the file that each image came from; or none
  Tensors attributes;                    // name -> [N]; what else is known of each image; may be empty
};

/// A dataset that is read as it is needed: labels and split are in memory (9 bytes an image), pixels are not.
struct Dataset {
  RowReader images;                      // uint8 [N,H,W,C], RGB
  Tensor labels;                         // int64 [N]
  Tensor split;                          // uint8 [N]
  std::vector<std::string> label_names;  // by label
  int64_t height() const { return images.shape()[1]; }
  int64_t width() const { return images.shape()[2]; }
  int64_t channels() const { return images.shape()[3]; }
  /// The rows of one split, int64, ascending.
  Tensor rows_of(Split) const;
};

/// The layout: /images uint8 [N,H,W,C], /labels int64 [N], /split uint8 [N], /label_names, /files [N] where images came from files,
/// /attributes/<name> [N]; root attributes format = "evoke dataset", version = "1".
/// Throws Failure::input when the file is no such dataset, is torn, or its arrays do not fit each other.
Dataset open_dataset(const std::string& file);

/// What write_dataset made.
struct DatasetWritten {
  int64_t images = 0, classes = 0;
  bool interrupted = false;  // SIGINT or SIGTERM: there is no file
};
/// Writes a dataset atomically, the pixels as they come. image: {H,W,C}; most: how many images there will be at most; next: the next image,
/// uint8 [H,W,C], undefined at the end; columns: of the images that came, asked for at the end; facts: further attributes of the root.
/// title: of the progress line.
DatasetWritten write_dataset(const std::string& file, const std::string& title, const std::vector<int64_t>& image, int64_t most,
                             const std::function<Tensor()>& next, const std::function<DatasetColumns()>& columns,
                             const std::map<std::string, std::string>& facts = {});

}  // namespace evoke
