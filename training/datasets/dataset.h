// Datasets of labelled images: HDF5 on disk, bytes in memory.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "core/numbers/tensor.h"

namespace evoke {

enum class Split : uint8_t { train = 0, validation = 1, test = 2 };

/// Labelled images in memory.
struct Dataset {
  Tensor images;                         // uint8 [N,H,W,C], RGB
  Tensor labels;                         // int64 [N]
  Tensor split;                          // uint8 [N], see Split
  std::vector<std::string> label_names;  // by label
  Tensors attributes;                    // name -> [N]; what is known of each image; may be empty
};

/// The layout: /images uint8 [N,H,W,C], /labels int64 [N], /split uint8 [N], /label_names, /attributes/<name> [N]; root attributes
/// format = "evoke dataset", version = "1".
/// Throws Failure::input when the file is no such dataset, is torn, or its arrays do not fit each other.
Dataset load_dataset(const std::string& file);
/// Writes atomically, with `facts` as further attributes of the root.
void save_dataset(const std::string& file, const Dataset&, const std::map<std::string, std::string>& facts = {});

/// The rows of one split.
Dataset part(const Dataset&, Split);

/// An image, uint8 [H,W,C], cropped to the aspect of height × width about its centre and resampled to that size: by area where it
/// shrinks, linearly where it grows.
Tensor fit_image(const Tensor& image, int64_t height, int64_t width);

/// One folder a class (in the order of their names), any image format that OpenCV reads; each image is cropped to the aspect about its
/// centre and resampled by area to size × size. Split 8:1:1 in an order drawn from the seed. Throws Failure::input naming the first file
/// that is torn or no image, unless skip_broken, which warns of each and goes on.
Dataset read_folder(const std::string& folder, int64_t size, uint64_t seed, bool skip_broken = false);

}  // namespace evoke
