#include "experiments/report/exemplar_images.h"

#include <ATen/ATen.h>

#include <cmath>
#include <filesystem>

#include "core/error.h"
#include "core/records/pictures.h"
#include "core/records/run_directory.h"
#include "core/storage/files.h"
#include "core/storage/hdf5.h"
#include "training/datasets/folder.h"

namespace evoke {

namespace fs = std::filesystem;

ExemplarImages::ExemplarImages(const std::string& folder) {
  const std::string file = folder + "/exemplars.h5";
  require(fs::exists(file) && fs::exists(folder + "/manifest.json"), Failure::input, folder,
          ": found no exemplars.h5 with its manifest.json, expected a finished run of evoke exemplars (--exemplars)");
  check_run_file(folder, "config.toml");
  found_ = std::make_unique<Hdf5>(Hdf5::open(file));
  require(found_->attribute("format") == "evoke exemplars", Failure::input, file, ": found format '", found_->attribute("format"),
          "', expected 'evoke exemplars'");
  data_ = found_->attribute("data");
  const nlohmann::json manifest = nlohmann::json::parse(read_file(folder + "/manifest.json"));
  for (const nlohmann::json& input : manifest.at("inputs"))
    if (input.at("file") != data_ && !input.at("file").get<std::string>().ends_with("/results.h5"))
      network_ = input.at("sha256").get<std::string>();
  if (found_->has("/paths")) paths_ = found_->read_text("/paths");
  there_ = fs::exists(data_);
  if (there_ && paths_.empty()) dataset_ = std::make_unique<Hdf5>(Hdf5::open(data_));
}
ExemplarImages::~ExemplarImages() = default;
ExemplarImages::ExemplarImages(ExemplarImages&&) noexcept = default;

ExemplarImages::Ends ExemplarImages::of(const Unit& unit, int64_t most) const {
  Ends out;
  for (const auto& [end, exemplars] : {std::pair{"/top", &out.top}, {"/bottom", &out.bottom}}) {
    const std::string group = "/" + unit.layer + end;
    if (!found_->has(group + "/rows") || unit.index >= found_->shape(group + "/rows").at(0)) continue;
    const Tensor rows = found_->read_rows(group + "/rows", unit.index, 1)[0];
    const Tensor values = found_->read_rows(group + "/activation", unit.index, 1)[0];
    for (int64_t k = 0; k < std::min(most, rows.size(0)); ++k)
      if (const auto row = rows[k].item<int64_t>(); row >= 0) exemplars->push_back({row, values[k].item<double>()});
  }
  return out;
}

Tensor ExemplarImages::image(int64_t row, int64_t height, int64_t width) const {
  if (dataset_) return dataset_->read_rows("/images", row, 1)[0];
  require(row < static_cast<int64_t>(paths_.size()), Failure::input, data_, ": found ", paths_.size(), " images, expected number ", row);
  return fit_image(load_image(paths_[static_cast<size_t>(row)], 3), height, width);
}

}  // namespace evoke
