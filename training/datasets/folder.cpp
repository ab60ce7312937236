// Images from folders: one folder a class.
#include "training/datasets/folder.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <opencv2/imgproc.hpp>

#include "core/error.h"
#include "core/log.h"
#include "core/numbers/stream.h"
#include "core/records/pictures.h"

namespace evoke {

namespace fs = std::filesystem;

namespace {

bool hidden(const fs::path& path) { return path.filename().string().starts_with('.'); }

std::vector<std::string> folders_in(const fs::path& folder) {
  std::vector<std::string> out;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.is_directory() && !hidden(entry.path())) out.push_back(entry.path().filename().string());
  std::sort(out.begin(), out.end());
  return out;
}

// A folder whose images are of one class, and of one part of the split.
struct Group {
  std::string folder, label;
  Split part = Split::train;
};

// Folders that are all called as parts of a split, and hold folders, are no classes: those within them are.
std::vector<Group> groups_of(const fs::path& folder) {
  const std::map<std::string, Split> parts{{"train", Split::train},
                                           {"val", Split::validation},
                                           {"valid", Split::validation},
                                           {"validation", Split::validation},
                                           {"test", Split::test}};
  const std::vector<std::string> names = folders_in(folder);
  const bool split = names.size() > 1 && std::find(names.begin(), names.end(), "train") != names.end() &&
                     std::all_of(names.begin(), names.end(),
                                 [&](const std::string& name) { return parts.contains(name) && !folders_in(folder / name).empty(); });
  std::vector<Group> out;
  if (!split) {
    for (const std::string& name : names) out.push_back({name, name});
    return out;
  }
  // What is learned from names the classes.
  for (const Split part : {Split::train, Split::validation, Split::test})
    for (const std::string& name : names)
      if (parts.at(name) == part)
        for (const std::string& label : folders_in(folder / name)) out.push_back({name + "/" + label, label, part});
  return out;
}

}  // namespace

ImageFiles image_files(const std::string& folder) {
  ImageFiles out;
  std::vector<std::string> names;
  for (auto entry = fs::recursive_directory_iterator(folder); entry != fs::recursive_directory_iterator(); ++entry) {
    const bool is_folder = entry->is_directory();
    if (hidden(entry->path())) {
      if (is_folder) entry.disable_recursion_pending();
    } else if (!is_folder) {
      names.push_back(entry->path().lexically_relative(folder).string());
    }
  }
  std::sort(names.begin(), names.end());
  for (std::string& name : names) {
    if (is_image((fs::path(folder) / name).string()))
      out.images.push_back(std::move(name));
    else if (++out.passed_over <= 5)
      out.others.push_back(std::move(name));
  }
  return out;
}

void say_passed_over(const std::string& where, const ImageFiles& found) {
  if (found.passed_over == 0) return;
  const bool one = found.passed_over == 1, all = found.passed_over == static_cast<int64_t>(found.others.size());
  say(text(where, ": passed over ", found.passed_over,
           one ? " file that is no image: " : " files that are no images: ", list_of(found.others), all ? "" : ", …"));
}

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

DatasetWritten write_folder(const std::string& file, const std::string& folder, int64_t size, uint64_t seed, bool skip_broken,
                            std::map<std::string, std::string> facts) {
  require(fs::is_directory(folder), Failure::input, "data folder: found no folder ", folder,
          ", expected one that holds images, or a folder for each class");
  require(size >= 8 && size <= 4096, Failure::usage, "data folder: found size ", size, ", expected 8 to 4096 px");
  std::vector<Group> groups = groups_of(folder);

  // Every image with its class, before any is read. A folder that holds images itself and no folder is one class.
  ImageFiles found;
  std::vector<size_t> ends;  // of each group's images
  if (groups.empty()) {
    found = image_files(folder);
    const fs::path whole = fs::absolute(folder).lexically_normal();
    const std::string name = (whole.has_filename() ? whole : whole.parent_path()).filename().string();
    groups.push_back({name, name});
    ends.push_back(found.images.size());
  }
  const bool flat = !ends.empty();
  const auto no_class = [&](const std::string& group) {
    warn(text("data folder: ", (fs::path(folder) / group).string(), " holds no image that can be read, so it is no class; left out"));
  };
  for (const auto& [group, label, part] : flat ? std::vector<Group>() : groups) {
    ImageFiles here = image_files((fs::path(folder) / group).string());
    if (here.images.empty()) no_class(group);
    for (const std::string& name : here.images) found.images.push_back(group + "/" + name);
    for (const std::string& name : here.others)
      if (found.others.size() < 5) found.others.push_back(group + "/" + name);
    found.passed_over += here.passed_over;
    ends.push_back(found.images.size());
  }
  say_passed_over("data folder", found);
  require(!found.images.empty(), Failure::input, "data folder: found no image in ", folder,
          ", expected images, or a folder for each class with images in it");

  constexpr int64_t no_label = -1;
  DatasetColumns columns;
  std::vector<int64_t> labels, parts;
  std::vector<size_t> taken;                               // which of the images came through
  std::vector<int64_t> label_of(groups.size(), no_label);  // of each group that one came through of
  size_t at = 0, group = 0;
  const auto next = [&]() -> Tensor {
    for (; at < found.images.size(); ++at) {
      while (at >= ends[group]) ++group;
      try {
        const Tensor image = fit_image(load_image((fs::path(folder) / found.images[at]).string(), 3), size, size);
        if (label_of[group] == no_label) {
          std::vector<std::string>& names = columns.label_names;
          const auto known = std::find(names.begin(), names.end(), groups[group].label);
          label_of[group] = known - names.begin();
          if (known == names.end()) names.push_back(groups[group].label);
        }
        labels.push_back(label_of[group]);
        parts.push_back(static_cast<int64_t>(groups[group].part));
        taken.push_back(at++);
        return image;
      } catch (const Error& error) {
        require(skip_broken || error.kind() != Failure::input, error.kind(), error.what(), "; or leave such files out with --skip-broken");
        if (error.kind() != Failure::input) throw;
        warn(text(error.what(), "; left out"));
      }
    }
    return {};
  };
  const auto rest = [&] {
    for (size_t i = 0; i < groups.size(); ++i)
      if (label_of[i] == no_label && ends[i] > (i > 0 ? ends[i - 1] : 0)) no_class(groups[i].folder);
    for (size_t& from : taken) columns.files.push_back(std::move(found.images[from]));
    columns.labels = at::tensor(labels, at::kLong);

    // A tenth to validation and a tenth to test, in the order of one uniform number an image; where folders say what is validated or
    // tested, that, and the tenths are of what is learned from.
    columns.split = at::tensor(parts, at::kByte);
    const auto rows_of = [&](Split part) { return columns.split.eq(static_cast<int64_t>(part)).nonzero().squeeze(1); };
    const Tensor free = rows_of(Split::train);
    const int64_t tenth = free.numel() / 10;
    const Tensor order = free.index_select(0, Stream::range(seed, 0, 1).uniform({free.numel()}).squeeze(0).argsort(/*stable=*/true));
    int64_t begin = 0;
    for (const Split part : {Split::validation, Split::test})
      if (rows_of(part).numel() == 0) {
        columns.split.index_fill_(0, order.slice(0, begin, begin + tenth), static_cast<int64_t>(part));
        begin += tenth;
      }
    return columns;
  };
  facts.insert({{"source", "folder"}, {"seed", std::to_string(seed)}, {"size", std::to_string(size)}});
  return write_dataset(file, "data folder", {size, size, 3}, static_cast<int64_t>(found.images.size()), next, rest, facts);
}

}  // namespace evoke
