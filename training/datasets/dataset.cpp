#include "training/datasets/dataset.h"

#include <ATen/ATen.h>

#include "core/error.h"
#include "core/storage/files.h"
#include "core/storage/hdf5.h"

namespace evoke {

Dataset load_dataset(const std::string& file) {
  const Hdf5 h5 = Hdf5::open(file);
  require(h5.attribute("format") == "evoke dataset", Failure::input, "dataset ", file, ": found format '", h5.attribute("format"),
          "', expected 'evoke dataset'; make one with `evoke data`");
  require(h5.attribute("version") == "1", Failure::input, "dataset ", file, ": found version '", h5.attribute("version"),
          "', expected 1; it was made by another evoke");
  for (const char* name : {"images", "labels", "split", "label_names"})
    require(h5.has(name), Failure::input, "dataset ", file, ": found no /", name, "; make it again with `evoke data`");

  Dataset out{h5.read("images"), h5.read("labels"), h5.read("split"), h5.read_text("label_names"), {}};
  require_shape(out.images, {-1, -1, -1, -1}, "dataset " + file + ": /images");
  const int64_t rows = out.images.size(0);
  require_shape(out.labels, {rows}, "dataset " + file + ": /labels");
  require_shape(out.split, {rows}, "dataset " + file + ": /split");
  require(out.images.scalar_type() == at::kByte && out.labels.scalar_type() == at::kLong && out.split.scalar_type() == at::kByte,
          Failure::input, "dataset ", file, ": expected /images uint8, /labels int64 and /split uint8");
  const auto names = static_cast<int64_t>(out.label_names.size());
  require(rows > 0 && out.labels.min().item<int64_t>() >= 0 && out.labels.max().item<int64_t>() < names, Failure::input, "dataset ", file,
          ": found a label outside the ", names, " of /label_names, or no image at all");
  if (h5.has("attributes"))
    for (const std::string& name : h5.names("attributes")) {
      out.attributes[name] = h5.read("attributes/" + name);
      require_shape(out.attributes[name], {rows}, "dataset " + file + ": /attributes/" + name);
    }
  return out;
}

void save_dataset(const std::string& file, const Dataset& data, const std::map<std::string, std::string>& facts) {
  write_file_with(file, [&](const std::string& temporary) {
    Hdf5 h5 = Hdf5::create(temporary);
    h5.set_attribute("format", "evoke dataset");
    h5.set_attribute("version", "1");
    for (const auto& [name, value] : facts) h5.set_attribute(name, value);
    h5.write("images", data.images, {"image", "height", "width", "channel"});
    h5.write("labels", data.labels, {"image"});
    h5.write("split", data.split, {"image"});
    h5.write_text("label_names", data.label_names);
    for (const auto& [name, values] : data.attributes) h5.write("attributes/" + name, values, {"image"});
  });
}

Dataset part(const Dataset& data, Split split) {
  const Tensor rows = data.split.eq(static_cast<int64_t>(split)).nonzero().squeeze(1);
  Dataset out{data.images.index_select(0, rows), data.labels.index_select(0, rows), data.split.index_select(0, rows), data.label_names, {}};
  for (const auto& [name, values] : data.attributes) out.attributes[name] = values.index_select(0, rows);
  return out;
}

}  // namespace evoke
