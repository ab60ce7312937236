// needs: files
// What results.h5 holds.
#include "core/records/results.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "core/error.h"
#include "core/records/pictures.h"
#include "core/storage/files.h"
#include "tests/expect.h"

namespace evoke {
namespace {

namespace fs = std::filesystem;

std::string fresh(const std::string& name) {
  const fs::path path = fs::path(::testing::TempDir()) / text("evoke_results_", ::getpid()) / name;
  fs::create_directories(path.parent_path());
  return path.string();
}

Results sample_results(int64_t units, int64_t chains) {
  Results results;
  const int64_t rows = units * chains;
  results.images = at::randint(256, {rows, 48, 48, 3}, at::kByte);
  results.codes = at::randn({rows, 6});
  for (int64_t row = 0; row < rows; ++row) results.units.push_back({"logits", row / chains, -1, -1});
  results.units.back() = {"features/conv3", units - 1, 4, 5};
  results.chain = at::arange(rows, at::kLong);
  results.seed = 11;
  results.activation = at::randn({rows});
  results.status.assign(rows, "ok");
  results.status[0] = "searched";
  return results;
}

TEST(Results, ResultsComeBack) {
  RunDirectory run = RunDirectory::open(fresh("results"), "sample", "");
  Results results = sample_results(3, 4);
  results.trace = std::make_shared<Trace>(2);
  for (int64_t step = 0; step < 5; ++step) {
    State state;
    state.at.value = at::full({12}, static_cast<double>(step));
    state.at.terms["prior"] = at::full({12}, -static_cast<double>(step));
    if (step > 2) state.at.terms["late"] = at::ones({12});
    results.trace->see(step, state);
  }
  const std::vector<std::string> captions(12, "logits:1 red single line  12.3");
  save_results(run, results, captions);

  const Results back = load_results(run.path());
  EXPECT_TRUE(at::equal(back.images, results.images));
  EXPECT_TRUE(at::equal(back.codes, results.codes));
  EXPECT_TRUE(at::equal(back.chain, results.chain));
  EXPECT_TRUE(at::equal(back.activation, results.activation));
  const Hdf5 file = Hdf5::open(run.file("results.h5"));
  EXPECT_TRUE(at::equal(file.read("/steps"), at::tensor({0, 2, 4}, at::kLong)));
  EXPECT_TRUE(at::equal(file.read("/activation/trace")[3], at::tensor({0.0f, 2.0f, 4.0f})));
  EXPECT_TRUE(at::equal(file.read("/terms/prior")[0], at::tensor({0.0f, -2.0f, -4.0f})));
  EXPECT_TRUE(file.read("/terms/late")[0][1].isnan().item<bool>());  // unknown then
  EXPECT_EQ(file.read("/terms/late")[0][2].item<float>(), 1);
  EXPECT_FALSE(file.has("/snapshots"));
  EXPECT_EQ(back.seed, 11u);
  EXPECT_EQ(back.status[0], "searched");
  EXPECT_EQ(back.units[11].layer, "features/conv3");
  EXPECT_EQ(back.units[11].y, 4);

  EXPECT_TRUE(at::equal(load_image(run.file("images/0005_logits_1_5.png")), results.images[5]));
  EXPECT_TRUE(fs::exists(run.file("images/0011_features-conv3_2@4-5_11.png")));
  EXPECT_GT(load_image(run.file("contact_sheet.png")).size(0), 3 * 96);

  // The same results make the same bytes.
  const std::string before = read_file(run.file("results.h5"));
  save_results(run, results, captions);
  EXPECT_TRUE(read_file(run.file("results.h5")) == before);
}

TEST(Results, MisfittingResultsAreRefused) {
  RunDirectory run = RunDirectory::open(fresh("misfit"), "sample", "");
  Results results = sample_results(2, 2);
  expect_refusal([&] { save_results(run, results, {"only one"}); }, Failure::runtime, {"4 images", "1 captions"});
  results.codes = at::zeros({3, 6});
  expect_refusal([&] { save_results(run, results, {}); }, Failure::runtime, {"[3,6]", "4 rows"});
  EXPECT_FALSE(fs::exists(run.file("results.h5")));
  expect_refusal([&] { load_results(run.path()); }, Failure::input, {"results.h5"});
}

}  // namespace
}  // namespace evoke
