// Images from folders: one folder a class.
#include <ATen/ATen.h>

#include <algorithm>
#include <filesystem>
#include <opencv2/imgproc.hpp>

#include "core/error.h"
#include "core/log.h"
#include "core/records/pictures.h"
#include "core/numbers/stream.h"
#include "training/datasets/dataset.h"

namespace evoke {

namespace {

std::vector<std::filesystem::path> sorted_children(const std::filesystem::path& folder, bool folders) {
  std::vector<std::filesystem::path> out;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    if (entry.is_directory() == folders && entry.path().filename().string().front() != '.') out.push_back(entry.path());
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace

Tensor fit_image(const Tensor& image, int64_t height, int64_t width) {
  require_shape(image, {-1, -1, -1}, "fit_image");
  const int64_t rows = image.size(0), columns = image.size(1), channels = image.size(2);
  if (rows == height && columns == width) return image;
  const int64_t crop_height = std::clamp<int64_t>(columns * height / width, 1, rows);
  const int64_t crop_width = std::clamp<int64_t>(rows * width / height, 1, columns);
  const Tensor crop = image.narrow(0, (rows - crop_height) / 2, crop_height).narrow(1, (columns - crop_width) / 2, crop_width).contiguous();
  const int type = CV_8UC(static_cast<int>(channels));
  const cv::Mat from(static_cast<int>(crop_height), static_cast<int>(crop_width), type, crop.data_ptr<uint8_t>());
  Tensor out = at::empty({height, width, channels}, at::kByte);
  cv::Mat to(static_cast<int>(height), static_cast<int>(width), type, out.data_ptr<uint8_t>());
  const bool shrinks = crop_height >= height && crop_width >= width;
  cv::resize(from, to, to.size(), 0, 0, shrinks ? cv::INTER_AREA : cv::INTER_LINEAR);
  return out;
}

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
        images.push_back(fit_image(load_image(file.string(), 3), size, size));
        labels.push_back(label);
      } catch (const Error& error) {
        if (!skip_broken || error.kind() != Failure::input) throw;
        warn(text(error.what(), "; left out"));
      }
    }
  }
  require(!images.empty(), Failure::input, "data folder: found no image in ", folder,
          ", expected a folder for each class with images in it");
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
