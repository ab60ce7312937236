// needs: files
// HDF5: arrays, text, axes and refusals.
#include "core/storage/hdf5.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>

#include "core/error.h"
#include "core/storage/files.h"
#include "tests/expect.h"

namespace evoke {
namespace {

namespace fs = std::filesystem;

class Hdf5Files : public ::testing::Test {
 protected:
  void SetUp() override {
    root =
        fs::path(::testing::TempDir()) / text("evoke_hdf5_", ::getpid()) / ::testing::UnitTest::GetInstance()->current_test_info()->name();
    fs::remove_all(root);
    fs::create_directories(root);
    ::testing::internal::CaptureStderr();
  }
  void TearDown() override { EXPECT_EQ(::testing::internal::GetCapturedStderr(), ""); }  // the library's own complaints stay inside
  std::string at(const std::string& name) const { return (root / name).string(); }
  fs::path root;
};

void write_sample(const std::string& file) {
  write_file_with(file, [](const std::string& temporary) {
    Hdf5 out = Hdf5::create(temporary);
    out.set_attribute("format", "sample");
    out.write("/images", at::arange(5 * 4 * 4 * 3).remainder(256).to(at::kByte).view({5, 4, 4, 3}), {"row", "height", "width", "channel"});
    out.write("/units/unit", at::arange(5, at::kLong), {"row"});
    out.write("/terms/value", at::linspace(0, 1, 10).view({5, 2}), {"row", "step"});
    out.write("/single", at::full({3}, 1.0 / 3.0, at::kDouble), {"row"});  // another length of the same axis
    out.write("/small", at::arange(3, at::kInt));
    out.write("/seed", at::scalar_tensor(int64_t{7}, at::kLong));
    out.write("/none", at::zeros({0, 3}), {"nothing"});
    out.write_text("/labels", {"red single line", "", "blauer Kreis ö"});
  });
}

TEST_F(Hdf5Files, ArraysAndTextComeBack) {
  write_sample(at("a.h5"));
  const Hdf5 in = Hdf5::open(at("a.h5"));
  const Tensor images = at::arange(5 * 4 * 4 * 3).remainder(256).to(at::kByte).view({5, 4, 4, 3});
  EXPECT_TRUE(at::equal(in.read("/images"), images));
  EXPECT_TRUE(at::equal(in.read_rows("/images", 2, 2), images.narrow(0, 2, 2)));
  EXPECT_EQ(in.read("/units/unit").scalar_type(), at::kLong);
  EXPECT_EQ(in.read("/terms/value").scalar_type(), at::kFloat);
  EXPECT_TRUE(at::equal(in.read("/terms/value"), at::linspace(0, 1, 10).view({5, 2})));
  EXPECT_EQ(in.read("/single")[1].item<double>(), 1.0 / 3.0);
  EXPECT_EQ(in.read("/small").scalar_type(), at::kInt);
  EXPECT_EQ(in.read("/seed").item<int64_t>(), 7);
  EXPECT_EQ(in.read("/seed").dim(), 0);
  EXPECT_EQ(in.shape("/none"), (std::vector<int64_t>{0, 3}));
  EXPECT_EQ(in.read("/none").numel(), 0);
  EXPECT_EQ(in.read_text("/labels"), (std::vector<std::string>{"red single line", "", "blauer Kreis ö"}));
  EXPECT_EQ(in.attribute("format"), "sample");
  EXPECT_EQ(in.attribute("version", "0"), "0");
  EXPECT_TRUE(in.has("/units") && in.has("/units/unit") && !in.has("/units/none") && !in.has("/none/at/all"));
  EXPECT_EQ(in.names("/units"), std::vector<std::string>{"unit"});
  for (const char* axis : {"/channel", "/height", "/nothing", "/row", "/row_3", "/step", "/width"}) EXPECT_TRUE(in.has(axis)) << axis;
  EXPECT_TRUE(in.is_axis("/row") && !in.is_axis("/images") && !in.is_axis("/units") && !in.is_axis("/gone"));
}

TEST_F(Hdf5Files, TheSameContentMakesTheSameBytes) {
  write_sample(at("a.h5"));
  write_sample(at("b.h5"));
  EXPECT_TRUE(read_file(at("a.h5")) == read_file(at("b.h5")));
}

TEST_F(Hdf5Files, RowsFillAReservedArray) {
  {
    Hdf5 out = Hdf5::create(at("a.h5"));
    out.reserve("/x", {1000, 600}, at::kFloat, {"row", "code"});
    for (int64_t first = 0; first < 1000; first += 300)
      out.write_rows("/x", first, at::full({std::min<int64_t>(300, 1000 - first), 600}, static_cast<double>(first)));
    expect_refusal([&] { out.write_rows("/x", 999, at::zeros({2, 600})); }, Failure::runtime, {"/x", "[2,600]", "[1000,600]"});
    expect_refusal([&] { out.write_rows("/x", 0, at::zeros({2, 5})); }, Failure::runtime, {"/x"});
    expect_refusal([&] { out.reserve("/x", {1}, at::kFloat); }, Failure::runtime, {"/x", "already"});
    expect_refusal([&] { out.write("/half", at::zeros({2}, at::kHalf)); }, Failure::runtime, {"/half", "expected byte"});
  }
  const Tensor x = Hdf5::open(at("a.h5")).read("/x");
  EXPECT_EQ(x[299][5].item<float>(), 0);
  EXPECT_EQ(x[300][5].item<float>(), 300);
  EXPECT_EQ(x[999][599].item<float>(), 900);
  EXPECT_LT(fs::file_size(at("a.h5")), 200'000u);  // compressed from 2.4 MB
}

TEST_F(Hdf5Files, ArraysAndGroupsCanBeReplaced) {
  write_sample(at("a.h5"));
  for (int round = 0; round < 3; ++round) {
    Hdf5 file = Hdf5::edit(at("a.h5"));
    if (file.has("/judge")) file.remove("/judge");
    file.write("/judge/wanted", at::full({5}, round, at::kLong), {"row"});
    file.write("/judge/margin", at::rand({5}), {"row"});
  }
  const Hdf5 in = Hdf5::open(at("a.h5"));
  EXPECT_EQ(in.read("/judge/wanted")[4].item<int64_t>(), 2);
  EXPECT_EQ(in.read("/row").numel(), 5);
}

TEST_F(Hdf5Files, WhatIsNotThereIsRefused) {
  write_sample(at("a.h5"));
  const Hdf5 in = Hdf5::open(at("a.h5"));
  expect_refusal([&] { in.read("/none/such"); }, Failure::input, {at("a.h5"), "/none/such"});
  expect_refusal([&] { in.shape("/units"); }, Failure::input, {"/units", "as an array"});
  expect_refusal([&] { in.read("/labels"); }, Failure::input, {"/labels", "expected numbers"});
  expect_refusal([&] { in.read_text("/small"); }, Failure::input, {"/small", "text"});
  expect_refusal([&] { in.read_rows("/images", 4, 2); }, Failure::input, {"/images", "rows 4 to 6"});
  expect_refusal([&] { in.read_rows("/images", 0, INT64_MAX); }, Failure::input, {"/images"});
  expect_refusal([&] { Hdf5::open(at("none.h5")); }, Failure::input, {at("none.h5"), "found no file"});
  std::ofstream(at("foreign.h5")) << "this is a letter, not a data file";
  expect_refusal([&] { Hdf5::open(at("foreign.h5")); }, Failure::input,
                 {at("foreign.h5"), "cannot be opened as HDF5 (file signature not found)", "foreign"});
}

TEST_F(Hdf5Files, TornFilesAreRefused) {
  write_sample(at("a.h5"));
  const std::string whole = read_file(at("a.h5"));
  for (const size_t length : {size_t{0}, size_t{100}, whole.size() / 2, whole.size() - 1}) {
    std::ofstream(at("cut.h5"), std::ios::binary) << whole.substr(0, length);
    expect_refusal([&] { Hdf5::open(at("cut.h5")); }, Failure::input, {at("cut.h5"), "truncated or foreign"});
  }
}

TEST_F(Hdf5Files, AFlippedByteIsNoticedByTheChecksum) {
  {
    Hdf5 out = Hdf5::create(at("a.h5"));
    out.write("/x", at::randperm(20000, at::kLong));
  }
  std::string bytes = read_file(at("a.h5"));
  bytes[bytes.size() / 2] ^= 0x10;
  std::ofstream(at("a.h5"), std::ios::binary) << bytes;
  expect_refusal([&] { Hdf5::open(at("a.h5")).read("/x"); }, Failure::input, {"/x", "cannot be read", "damaged"});
}

TEST_F(Hdf5Files, AFullDiskKeepsTheOldFile) {
  write_sample(at("a.h5"));
  const std::string before = read_file(at("a.h5"));
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit old{}, small{};
  getrlimit(RLIMIT_FSIZE, &old);
  small = old;
  small.rlim_cur = 100'000;
  setrlimit(RLIMIT_FSIZE, &small);
  expect_refusal(
      [&] {
        write_file_with(at("a.h5"), [](const std::string& temporary) {
          Hdf5 out = Hdf5::create(temporary);
          out.write("/x", at::randperm(200000, at::kLong), {"row"});
        });
      },
      Failure::runtime, {at("a.h5"), "/x", "cannot be written (File too large)"});
  setrlimit(RLIMIT_FSIZE, &old);
  EXPECT_TRUE(read_file(at("a.h5")) == before);
  EXPECT_EQ(std::distance(fs::directory_iterator(root), fs::directory_iterator()), 1);
  write_sample(at("b.h5"));  // the library still works afterwards
  EXPECT_TRUE(Hdf5::open(at("b.h5")).has("/images"));
}

// ---- Files of strangers (tests/fuzz) ---------------------------------------------------------------------------------------------------

const std::string fuzz = EVOKE_SOURCE "/tests/fuzz/";

TEST_F(Hdf5Files, TheLayoutThatH5pyWritesIsRead) {
  const Hdf5 in = Hdf5::open(fuzz + "corpus_hdf5/old_layout.h5");
  EXPECT_TRUE(at::equal(in.read("/images"), at::arange(2 * 4 * 4 * 3).to(at::kByte).view({2, 4, 4, 3})));
  EXPECT_TRUE(at::equal(in.read("/labels"), at::arange(2)));
  EXPECT_TRUE(at::equal(in.read("/group/trace"), at::ones({2, 3})));
  EXPECT_EQ(in.read_text("/label_names"), (std::vector<std::string>{"a", "circle"}));
  EXPECT_EQ(in.attribute("format"), "dataset");
}

// On these the library crashes, or goes round in a circle.
TEST_F(Hdf5Files, WhatCrashesTheLibraryIsRefused) {
  int files = 0;
  for (const auto& entry : fs::directory_iterator(fuzz + "crashes_hdf5")) {
    expect_refusal([&] { Hdf5::open(entry.path().string()); }, Failure::input,
                   {entry.path().string(), "the HDF5 library", "the file is damaged"});
    expect_refusal([&] { Hdf5::edit(entry.path().string()); }, Failure::input, {entry.path().string()});
    ++files;
  }
  EXPECT_GE(files, 2);
  // Behind a block of the user's own, too.
  std::ofstream(at("behind.h5"), std::ios::binary) << std::string(512, ' ') << read_file(fuzz + "crashes_hdf5/walked_off.h5");
  expect_refusal([&] { Hdf5::open(at("behind.h5")).read("/labels"); }, Failure::input, {"behind.h5"});
}

}  // namespace
}  // namespace evoke
