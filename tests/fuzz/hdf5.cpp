// Fuzzes the reader of HDF5 with libFuzzer (scripts/fuzz hdf5): every array, text and attribute of a dataset's or a run's file is read.
#include <ATen/ATen.h>

#include "core/storage/hdf5.h"
#include "tests/fuzz/target.h"

namespace {

constexpr int64_t most_numbers = 1 << 20;

void read_all(const evoke::Hdf5& file, const std::string& group, int depth) {
  if (depth > 4) return;
  std::vector<std::string> names;
  evoke::outcome([&] { names = file.names(group); });
  for (const std::string& name : names) {
    const std::string full = group == "/" ? "/" + name : group + "/" + name;
    std::vector<int64_t> shape;
    bool array = false;
    evoke::outcome([&] {
      shape = file.shape(full);
      array = true;
    });
    if (!array) {
      read_all(file, full, depth + 1);
      continue;
    }
    double count = 1;
    for (const int64_t size : shape) count *= static_cast<double>(size);
    if (count <= most_numbers) evoke::outcome([&] { file.read(full); });
    if (!shape.empty() && count <= most_numbers) evoke::outcome([&] { file.read_rows(full, shape[0] / 2, 1); });
    if (count <= most_numbers) evoke::outcome([&] { file.read_text(full); });
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string file = evoke::written(data, size);
  evoke::outcome([&] {
    const evoke::Hdf5 opened = evoke::Hdf5::open(file);
    evoke::outcome([&] { opened.attribute("format"); });
    evoke::outcome([&] { opened.attribute("version"); });
    read_all(opened, "/", 0);
  });
  return 0;
}
