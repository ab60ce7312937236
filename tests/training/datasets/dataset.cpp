// needs: files
// Datasets on disk: rows in any order, shuffles, writing in parts, and memory that does not grow with the images.
#include "training/datasets/dataset.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <limits>

#include "core/error.h"
#include "core/numbers/stream.h"
#include "core/storage/files.h"
#include "core/storage/hdf5.h"
#include "tests/expect.h"
#include "training/datasets/shapes.h"

namespace evoke {
namespace {

std::string temporary(const std::string& name) { return ::testing::TempDir() + "/evoke_dataset_" + name; }

// An array of rows of 64 KiB, eight to a block, in which every number is its row's (of 256).
std::string array_of(int64_t rows) {
  const std::string file = temporary(text(rows, ".h5"));
  Hdf5 h5 = Hdf5::create(file);
  h5.reserve("a", {rows, 65536}, at::kByte);
  for (int64_t first = 0; first < rows; first += 8)
    h5.write_rows("a", first, at::arange(first, first + 8).remainder(256).to(at::kByte).unsqueeze(1).expand({8, 65536}));
  return file;
}

TEST(RowReader, GivesAnyRowsInAnyOrder) {
  const std::string file = array_of(104);
  for (const int64_t cache : {int64_t{1} << 16, int64_t{3} << 19, RowReader::cache_bytes}) {
    const RowReader reader(file, "a", cache);
    EXPECT_EQ(reader.shape(), (std::vector<int64_t>{104, 65536}));
    for (const Tensor& rows : {at::tensor({103L, 0L, 50L, 50L, 7L, 8L}), at::arange(104).flip(0), at::empty({0}, at::kLong)})
      EXPECT_TRUE(at::equal(reader.read(rows), rows.to(at::kByte).unsqueeze(1).expand({-1, 65536}))) << cache;
    EXPECT_THROW(reader.read(at::tensor({104L})), Error);
  }
  // An array without chunks, and of other numbers.
  const std::string whole = temporary("whole.h5");
  Hdf5::create(whole).write("codes", at::arange(30, at::kFloat).view({10, 3}));
  EXPECT_TRUE(at::equal(RowReader(whole, "codes").read(at::tensor({9L, 1L})), at::tensor({27.f, 28.f, 29.f, 3.f, 4.f, 5.f}).view({2, 3})));
}

TEST(RowReader, ShufflesByWindowsWhereTheArrayDoesNotFit) {
  const RowReader small(array_of(104), "a"), large(array_of(2048), "a", int64_t{16} << 20);  // 128 MiB in a cache of 16 MiB
  const auto is_permutation = [](const Tensor& order) { return at::equal(std::get<0>(order.sort()), at::arange(order.size(0))); };
  const Tensor all = at::arange(104);
  EXPECT_TRUE(at::equal(small.shuffled(all, 3, 1), Stream::range(3, 0, 1, at::kCPU, 1).uniform({104}).squeeze(0).argsort(true)));

  const Tensor rows = at::arange(0, 2048, 2, at::kLong), order = large.shuffled(rows, 3, 1);
  EXPECT_TRUE(is_permutation(order));
  EXPECT_TRUE(at::equal(order, large.shuffled(rows, 3, 1)));
  EXPECT_FALSE(at::equal(order, large.shuffled(rows, 3, 2)));
  EXPECT_FALSE(at::equal(order, large.shuffled(rows, 4, 1)));
  // Sixteen blocks of four of these rows make a window. No window needs more, and all together need each block once.
  const Tensor block = rows.index_select(0, order).div(8, "floor");
  for (int64_t first = 0; first < 1024; first += 64)
    EXPECT_EQ(std::get<0>(at::_unique(block.slice(0, first, first + 64))).numel(), 16) << first;
  // A window comes from all over the array and is shuffled: 64 rows that are neighbours in order lie far apart.
  const Tensor apart = (rows.index_select(0, order).slice(0, 1) - rows.index_select(0, order).slice(0, 0, -1)).abs().to(at::kFloat);
  EXPECT_NEAR(apart.mean().item<double>(), 2048.0 / 3, 120);
}

// The largest resident set since it was last asked, in KiB.
int64_t peak_since() {
  std::ifstream in("/proc/self/status");
  int64_t found = -1;
  for (std::string line; std::getline(in, line);)
    if (line.starts_with("VmHWM:")) found = std::stoll(line.substr(6));
  std::ofstream("/proc/self/clear_refs") << "5";
  return found;
}

TEST(RowReader, MemoryDoesNotGrowWithTheRows) {
  const std::string once = array_of(1024), twice = array_of(2048);  // 64 and 128 MiB
  const auto pass = [](const std::string& file, int64_t cache) {
    const RowReader reader(file, "a", cache);
    const Tensor rows = at::arange(reader.shape()[0]), order = reader.shuffled(rows, 1, 0);
    int64_t sum = 0;
    for (int64_t first = 0; first < order.size(0); first += 32)
      sum += reader.read(order.slice(0, first, first + 32)).select(1, 0).sum().item<int64_t>();
    EXPECT_EQ(sum, rows.remainder(256).sum().item<int64_t>());
  };
  constexpr int64_t cache = int64_t{16} << 20;
  pass(once, cache);
  peak_since();
  pass(once, cache);
  const int64_t of_once = peak_since();
  // The least of three: now and then an allocator keeps a few MiB more.
  int64_t of_twice = std::numeric_limits<int64_t>::max();
  for (int time = 0; time < 3; ++time) {
    pass(twice, cache);
    of_twice = std::min(of_twice, peak_since());
  }
  ASSERT_GT(of_once, 0);
  EXPECT_LT(of_twice, of_once + 4096);
  // The control: with room for everything, it grows.
  pass(twice, RowReader::cache_bytes);
  EXPECT_GT(peak_since(), of_once + 65536);
}

TEST(Dataset, IsWrittenInPartsAndMayEndEarly) {
  const std::string file = temporary("early.h5");
  DatasetColumns columns;
  int64_t row = 0;
  const auto written = write_dataset(
      file, "test", {40, 50, 3}, 1000,
      [&] {
        return row < 200 ? at::full({40, 50, 3}, row++, at::kByte) : Tensor();
      },
      [&] {
        columns.labels = at::arange(200).remainder(2);
        columns.split = at::zeros({200}, at::kByte);
        columns.label_names = {"even", "odd"};
        for (int64_t i = 0; i < 200; ++i) columns.files.push_back(text("f", i));
        return columns;
      },
      {{"source", "test"}});
  EXPECT_EQ(written.images, 200);
  EXPECT_EQ(written.classes, 2);
  const Dataset data = open_dataset(file);
  EXPECT_EQ(data.images.shape(), (std::vector<int64_t>{200, 40, 50, 3}));
  EXPECT_EQ(data.height(), 40);
  EXPECT_EQ(data.width(), 50);
  const Tensor read = data.images.read(at::arange(200));
  EXPECT_TRUE((read == at::arange(200).to(at::kByte).view({200, 1, 1, 1})).all().item<bool>());
  const Hdf5 h5 = Hdf5::open(file);
  EXPECT_EQ(h5.shape("/image"), (std::vector<int64_t>{200}));
  EXPECT_EQ(h5.read_lines("files", 198, 2), (std::vector<std::string>{"f198", "f199"}));
  EXPECT_EQ(h5.attribute("source"), "test");

  // What goes wrong on the way leaves nothing behind.
  row = 0;
  EXPECT_THROW(write_dataset(
                   temporary("no.h5"), "test", {4, 4, 3}, 9,
                   [&]() -> Tensor {
                     require(++row < 3, Failure::input, "enough");
                     return at::zeros({4, 4, 3}, at::kByte);
                   },
                   [&] { return columns; }),
               Error);
  EXPECT_FALSE(std::ifstream(temporary("no.h5")).good());
}

TEST(Dataset, RefusesForeignAndTornFiles) {
  const auto refused = [](const std::string& file) { return refusal([&] { open_dataset(file); }, Failure::input); };
  const std::string good = temporary("good.h5"), torn = temporary("torn.h5"), foreign = temporary("foreign.h5"),
                    text_file = temporary("t.h5");
  write_shapes(good, 1, 60);
  const std::string bytes = read_file(good);
  write_file(torn, bytes.substr(0, bytes.size() / 2));
  write_file(text_file, "not HDF5 at all");
  Hdf5::create(foreign).write("weights", at::ones({3}));
  expect_in("torn.h5", refused(torn));
  expect_in("t.h5", refused(text_file));
  expect_in("evoke dataset", refused(foreign));
  expect_in("missing.h5", refused(temporary("missing.h5")));
  EXPECT_NO_THROW(open_dataset(good));
}

}  // namespace
}  // namespace evoke
