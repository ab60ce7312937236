// Images from folders: one folder a class.
#include <ATen/ATen.h>

#include <algorithm>
#include <filesystem>
#include <opencv2/imgproc.hpp>

#include "core/error.h"
#include "core/log.h"
#include "core/picture.h"
#include "core/stream.h"
#include "training/dataset.h"

namespace evoke {

namespace {

std::vector<std::filesystem::path> sorted_children(const std::filesystem::path& folder, bool folders) {
  std::vector<std::filesystem::path> out;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    if (entry.is_directory() == folders && entry.path().filename().string().front() != '.') out.push_back(entry.path());
  std::sort(out.begin(), out.end());
  return out;
}

// The largest centred square, resampled by area.
Tensor fitted(const Tensor& image, int64_t size) {
  const int64_t height = image.size(0), width = image.size(1), side = std::min(height, width);
  const Tensor square = image.slice(0, (height - side) / 2, (height - side) / 2 + side)
                            .slice(1, (width - side) / 2, (width - side) / 2 + side).contiguous();
  const cv::Mat from(static_cast<int>(side), static_cast<int>(side), CV_8UC3, square.data_ptr<uint8_t>());
  Tensor out = at::empty({size, size, 3}, at::kByte);
  cv::Mat to(static_cast<int>(size), static_cast<int>(size), CV_8UC3, out.data_ptr<uint8_t>());
  cv::resize(from, to, to.size(), 0, 0, side >= size ? cv::INTER_AREA : cv::INTER_LINEAR);
  return out;
}

}  // namespace

Dataset read_folder(const std::string& folder, int64_t size, uint64_t seed, bool skip_broken) {
  require(std::filesystem::is_directory(folder), Failure::input, "data folder: found no folder ", folder,
          ", expected one that holds a folder for each class");
  require(size >= 8 && size <= 4096, Failure::usage, "data folder: found size ", size, ", expected 8 to 4096 px");
  Dataset out;
  std::vector<Tensor> images;
  std::vector<int64_t> labels;
  for (const auto& group : sorted_children(folder, true)) {
    const auto label = static_cast<int64_t>(out.label_names.size());
    out.label_names.push_back(group.filename().string());
    for (const auto& file : sorted_children(group, false)) {
      try {
        images.push_back(fitted(load_image(file.string(), 3), size));
        labels.push_back(label);
      } catch (const Error& error) {
        if (!skip_broken || error.kind() != Failure::input) throw;
        warn(text(error.what(), "; left out"));
      }
    }
  }
  require(!images.empty(), Failure::input, "data folder: found no image in ", folder, ", expected a folder for each class with images in it");
  out.images = at::stack(images);
  out.labels = at::tensor(labels, at::kLong);

  // A tenth to validation and a tenth to test, in the order of one uniform number an image.
  const auto rows = static_cast<int64_t>(images.size());
  const Tensor order = Stream::range(seed, 0, 1).uniform({rows}).squeeze(0).argsort(/*stable=*/true);
  out.split = at::zeros({rows}, at::kByte);
  out.split.index_fill_(0, order.slice(0, 0, rows / 10), 1);
  out.split.index_fill_(0, order.slice(0, rows / 10, 2 * (rows / 10)), 2);
  return out;
}

}  // namespace evoke
