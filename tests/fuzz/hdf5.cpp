// Fuzzes the reader of HDF5 with libFuzzer (scripts/fuzz hdf5): every array, text and attribute of a dataset's or a run's file is read.
// EVOKE_FUZZ_SEEDS=FOLDER scripts/fuzz hdf5 writes the seeds, tests/fuzz/corpus_hdf5, instead.
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

// The layouts that evoke writes, with little in them.
void write_seeds(const std::string& folder) {
  evoke::Hdf5 data = evoke::Hdf5::create(folder + "/dataset.h5");
  data.set_attribute("format", "dataset");
  data.set_attribute("version", "1");
  data.write("/images", at::arange(2 * 4 * 4 * 3).to(at::kByte).view({2, 4, 4, 3}), {"row", "height", "width", "channel"});
  data.write("/labels", at::arange(2), {"row"});
  data.write_text("/label_names", {"a", "circle"});
  evoke::Hdf5 run = evoke::Hdf5::create(folder + "/results.h5");
  run.set_attribute("format", "results");
  run.write("/activation/trace", at::rand({2, 3}), {"row", "step"});
  run.write("/activation/final", at::rand({2}).to(at::kDouble));
  run.reserve("/snapshots", {2, 1, 2, 2, 3}, at::kByte);
  run.write_rows("/snapshots", 1, at::ones({1, 1, 2, 2, 3}, at::kByte));
  run.write_text("/status", {"ok", "no gradient"});
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (const char* folder = std::getenv("EVOKE_FUZZ_SEEDS"); folder != nullptr) {
    write_seeds(folder);
    std::_Exit(0);
  }
  const std::string file = evoke::written(data, size);
  evoke::outcome([&] {
    const evoke::Hdf5 opened = evoke::Hdf5::open(file);
    evoke::outcome([&] { opened.attribute("format"); });
    evoke::outcome([&] { opened.attribute("version"); });
    read_all(opened, "/", 0);
  });
  return 0;
}
