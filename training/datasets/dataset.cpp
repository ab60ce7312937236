#include "training/datasets/dataset.h"

#include <ATen/ATen.h>

#include <cstring>
#include <list>
#include <unordered_map>

#include "core/error.h"
#include "core/log.h"
#include "core/numbers/stream.h"
#include "core/storage/files.h"
#include "core/storage/hdf5.h"

namespace evoke {

// ---- Rows ------------------------------------------------------------------------------------------------------------------------------

struct RowReader::State {
  State(const std::string& name, const std::string& array, int64_t most_bytes)
      : file(Hdf5::open(name)), name(name), array(array), most_bytes(most_bytes), shape(file.shape(array)) {}
  Hdf5 file;
  std::string name, array;
  int64_t most_bytes;
  std::vector<int64_t> shape;
  at::ScalarType type = at::kByte;
  int64_t row_bytes = 1, block_rows = 1;
  std::list<std::pair<int64_t, Tensor>> blocks;  // the one used last first
  std::unordered_map<int64_t, std::list<std::pair<int64_t, Tensor>>::iterator> places;

  int64_t block_bytes() const { return block_rows * row_bytes; }
  int64_t blocks_in_all() const { return (shape[0] + block_rows - 1) / block_rows; }

  const Tensor& block(int64_t number) {
    if (const auto known = places.find(number); known != places.end()) {
      blocks.splice(blocks.begin(), blocks, known->second);
      return blocks.front().second;
    }
    while (!blocks.empty() && static_cast<int64_t>(blocks.size() + 1) * block_bytes() > most_bytes) {
      places.erase(blocks.back().first);
      blocks.pop_back();
    }
    const int64_t first = number * block_rows;
    blocks.emplace_front(number, file.read_rows(array, first, std::min(block_rows, shape[0] - first)));
    places[number] = blocks.begin();
    return blocks.front().second;
  }
};

RowReader::RowReader(const std::string& file, const std::string& array, int64_t cache_bytes)
    : state_(std::make_shared<State>(file, array, cache_bytes)) {
  State& s = *state_;
  require(!s.shape.empty(), Failure::input, file, ": /", array, ": found a single number, expected rows");
  s.type = s.file.read_rows(array, 0, 0).scalar_type();
  s.row_bytes = static_cast<int64_t>(c10::elementSize(s.type));
  for (size_t i = 1; i < s.shape.size(); ++i) s.row_bytes *= std::max<int64_t>(s.shape[i], 1);

  // A file of somebody else's may have no chunks, or larger ones than can be kept.
  constexpr int64_t usual = int64_t{1} << 19;
  const int64_t stored = s.file.chunk(array).at(0), most = std::max<int64_t>(1, cache_bytes / 4 / s.row_bytes);
  const bool whole = stored >= s.shape[0];
  s.block_rows = std::clamp<int64_t>(whole ? std::min(stored, std::max<int64_t>(1, usual / s.row_bytes)) : stored, 1, most);
}

const std::vector<int64_t>& RowReader::shape() const { return state_->shape; }

Tensor RowReader::read(const Tensor& rows) const {
  State& s = *state_;
  require_shape(rows, {-1}, s.name + ": rows");
  const Tensor wanted = rows.to(at::kLong).contiguous();
  std::vector<int64_t> shape = s.shape;
  shape[0] = wanted.size(0);
  const Tensor out = at::empty(shape, s.type);
  auto* to = static_cast<char*>(out.data_ptr());
  for (int64_t i = 0; i < shape[0]; ++i, to += s.row_bytes) {
    const int64_t row = wanted.const_data_ptr<int64_t>()[i];
    require(row >= 0 && row < s.shape[0], Failure::runtime, s.name, ": /", s.array, ": asked for row ", row, " of ", s.shape[0]);
    const Tensor& block = s.block(row / s.block_rows);
    std::memcpy(to, static_cast<const char*>(block.const_data_ptr()) + (row % s.block_rows) * s.row_bytes,
                static_cast<size_t>(s.row_bytes));
  }
  return out;
}

Tensor RowReader::shuffled(const Tensor& rows, uint64_t seed, int64_t epoch) const {
  const State& s = *state_;
  Stream stream = Stream::range(seed, 0, 1, at::kCPU, epoch);
  const Tensor order = stream.uniform({rows.size(0)}).squeeze(0).argsort(/*stable=*/true);
  const int64_t blocks = s.blocks_in_all();
  if (blocks * s.block_bytes() <= s.most_bytes) return order;

  // Each block gets a place among all, and with it the window in which its rows come.
  const int64_t together = std::max<int64_t>(1, s.most_bytes / 2 / s.block_bytes());
  const Tensor place = stream.uniform({blocks}).squeeze(0).argsort(/*stable=*/true).argsort();
  const Tensor block = rows.index_select(0, order).div(s.block_rows, "floor");
  const Tensor window = place.index_select(0, block).div(together, "floor");
  return order.index_select(0, window.argsort(/*stable=*/true));
}

// ---- Datasets --------------------------------------------------------------------------------------------------------------------------

Tensor Dataset::rows_of(Split which) const { return split.eq(static_cast<int64_t>(which)).nonzero().squeeze(1); }

Dataset open_dataset(const std::string& file) {
  const Hdf5 h5 = Hdf5::open(file);
  require(h5.attribute("format") == "evoke dataset", Failure::input, "dataset ", file, ": found format '", h5.attribute("format"),
          "', expected 'evoke dataset'; make one with `evoke data`");
  require(h5.attribute("version") == "1", Failure::input, "dataset ", file, ": found version '", h5.attribute("version"),
          "', expected 1; it was made by another evoke");
  for (const char* name : {"images", "labels", "split", "label_names"})
    require(h5.has(name), Failure::input, "dataset ", file, ": found no /", name, "; make it again with `evoke data`");

  Dataset out{RowReader(file, "images"), h5.read("labels"), h5.read("split"), h5.read_text("label_names")};
  const std::vector<int64_t>& shape = out.images.shape();
  require(shape.size() == 4 && shape[1] > 0 && shape[2] > 0 && shape[3] > 0, Failure::input, "dataset ", file, ": /images: found ",
          shape_text(shape), ", expected [N,H,W,C]");
  require_shape(out.labels, {shape[0]}, "dataset " + file + ": /labels");
  require_shape(out.split, {shape[0]}, "dataset " + file + ": /split");
  require(out.images.read(at::empty({0}, at::kLong)).scalar_type() == at::kByte && out.labels.scalar_type() == at::kLong &&
              out.split.scalar_type() == at::kByte,
          Failure::input, "dataset ", file, ": expected /images uint8, /labels int64 and /split uint8");
  const auto names = static_cast<int64_t>(out.label_names.size());
  require(shape[0] > 0 && out.labels.min().item<int64_t>() >= 0 && out.labels.max().item<int64_t>() < names, Failure::input, "dataset ",
          file, ": found a label outside the ", names, " of /label_names, or no image at all");
  return out;
}

DatasetWritten write_dataset(const std::string& file, const std::string& title, const std::vector<int64_t>& image, int64_t most,
                             const std::function<Tensor()>& next, const std::function<DatasetColumns()>& columns,
                             const std::map<std::string, std::string>& facts) {
  DatasetWritten out;
  Progress progress(title, most, "image");
  const auto write = [&](const std::string& temporary) {
    Hdf5 h5 = Hdf5::create(temporary);
    h5.set_attribute("format", "evoke dataset");
    h5.set_attribute("version", "1");
    for (const auto& [name, value] : facts) h5.set_attribute(name, value);
    h5.reserve("images", {most, image.at(0), image.at(1), image.at(2)}, at::kByte, {"image", "height", "width", "channel"});

    // What is stored together is written together, or it would be compressed again for every image.
    const Tensor chunk = at::empty({h5.chunk("images").at(0), image[0], image[1], image[2]}, at::kByte);
    int64_t held = 0;
    const auto put = [&] {
      if (held > 0) h5.write_rows("images", out.images - held, chunk.narrow(0, 0, held));
      held = 0;
    };
    for (Tensor one = next(); one.defined(); one = next()) {
      out.interrupted = interrupted();
      require(!out.interrupted, Failure::runtime, title, ": interrupted");
      chunk[held++].copy_(one);
      ++out.images;
      if (held == chunk.size(0)) put();
      progress.at(out.images);
    }
    put();
    require(out.images > 0, Failure::input, title, ": found no image, expected some");
    if (out.images < most) h5.keep_rows("images", out.images);

    const DatasetColumns rest = columns();
    out.classes = static_cast<int64_t>(rest.label_names.size());
    h5.write("labels", rest.labels, {"image"});
    h5.write("split", rest.split, {"image"});
    h5.write_text("label_names", rest.label_names);
    if (!rest.files.empty()) h5.write_text("files", rest.files);
    for (const auto& [name, values] : rest.attributes) h5.write("attributes/" + name, values, {"image"});
  };
  try {
    write_file_with(file, write);
  } catch (const Error&) {
    if (!out.interrupted) throw;
  }
  return out;
}

}  // namespace evoke
