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
#include "core/storage/hdf5.h"
#include "tests/expect.h"

namespace evoke {
namespace {

namespace fs = std::filesystem;

std::string fresh(const std::string& name) {
  const fs::path path = fs::path(::testing::TempDir()) / text("evoke_results_", ::getpid()) / name;
  fs::create_directories(path);
  return path.string();
}

// Rows first … first + count - 1 of a run of three units and four chains each.
Results sample_results(int64_t first = 0, int64_t count = 12, uint64_t seed = 11) {
  Results results;
  Stream stream = Stream::range(3, first, count);
  results.images = (stream.uniform({48, 48, 3}) * 255).to(at::kByte);
  results.codes = stream.normal({6});
  results.activation = stream.normal({});
  results.chain = at::arange(first, first + count, at::kLong).remainder(4);
  results.seed = seed;
  for (int64_t row = first; row < first + count; ++row) {
    results.columns.push_back(row < 4 ? Column{"logits:0 to logits:1"} : column_of({"logits", row / 4}));
    results.labels.push_back(row < 4 ? "" : "red single line");
    results.status.push_back(row == 0 ? "searched at step 20" : "ok");
  }
  if (first + count == 12) results.columns.back() = column_of({"features/conv3", 2, 4, 5});
  results.trace = std::make_shared<Trace>(2);
  for (int64_t step = 0; step < 5; ++step) {
    State state;
    state.at.value = at::full({count}, static_cast<double>(step));
    state.at.terms["objective"] = at::full({count}, 10.0 * static_cast<double>(step));
    state.at.terms["prior"] = at::full({count}, -static_cast<double>(step));
    if (step > 2) state.at.terms["late"] = at::ones({count});
    results.trace->see(step, state);
    if (step == 4) results.trace->see_pictures(results.images);
  }
  return results;
}

TEST(Results, ComeBack) {
  const std::string run = fresh("back"), name = run + "/results.h5";
  const Results results = sample_results();
  write_results(name, results);
  save_pictures(run, results, 0);
  save_contact_sheet(run);

  const Results back = load_results(run);
  EXPECT_TRUE(at::equal(back.images, results.images));
  EXPECT_TRUE(at::equal(back.codes, results.codes));
  EXPECT_TRUE(at::equal(back.chain, results.chain));
  EXPECT_TRUE(at::equal(back.activation, results.activation));
  const Hdf5 file = Hdf5::open(name);
  EXPECT_TRUE(at::equal(file.read("/steps"), at::tensor({0, 2, 4}, at::kLong)));
  EXPECT_TRUE(at::equal(file.read("/activation/trace")[3], at::tensor({0.0f, 20.0f, 40.0f})));  // the score itself
  EXPECT_TRUE(at::equal(file.read("/terms/value")[3], at::tensor({0.0f, 2.0f, 4.0f})));         // what was climbed
  EXPECT_TRUE(at::equal(file.read("/terms/prior")[0], at::tensor({0.0f, -2.0f, -4.0f})));
  EXPECT_TRUE(file.read("/terms/late")[0][1].isnan().item<bool>());  // unknown then
  EXPECT_EQ(file.read("/terms/late")[0][2].item<float>(), 1);
  EXPECT_FALSE(file.has("/terms/objective"));
  EXPECT_EQ(file.shape("/snapshots"), (std::vector<int64_t>{12, 1, 48, 48, 3}));
  EXPECT_EQ(back.seed, 11u);
  EXPECT_EQ(back.status[0], "searched at step 20");
  EXPECT_EQ(back.columns[11].unit, (Unit{"features/conv3", 2, 4, 5}));
  EXPECT_EQ(back.columns[0].name, "logits:0 to logits:1");
  EXPECT_FALSE(back.columns[0].unit.has_value());
  EXPECT_EQ(unit_caption(back, 4), "logits:1 red single line");
  const Results some = read_results(name, 4, 3);
  EXPECT_TRUE(at::equal(some.images, results.images.narrow(0, 4, 3)));
  EXPECT_EQ(some.columns[0].name, "logits:1");

  EXPECT_TRUE(at::equal(load_image(run + "/images/0005_logits_1_1.png"), results.images[5]));
  EXPECT_TRUE(fs::exists(run + "/images/0011_features-conv3_2@4-5_3.png"));
  EXPECT_TRUE(fs::exists(run + "/images/0002_logits-0-to-logits-1_2.png"));
  EXPECT_GT(load_image(run + "/contact_sheet.png").size(0), 3 * 96);

  // The same results make the same bytes.
  const std::string before = read_file(name);
  write_results(name, sample_results());
  EXPECT_TRUE(read_file(name) == before);
}

TEST(Results, AreJoinedToTheSameBytesHoweverTheyWereParted) {
  const std::string run = fresh("joined");
  const auto joined = [&](const std::vector<int64_t>& counts) {
    std::vector<std::string> parts;
    int64_t first = 0;
    for (const int64_t count : counts) {
      parts.push_back(text(run, "/part", first, ".h5"));
      write_results(parts.back(), sample_results(first, count));
      first += count;
    }
    join_results(parts, run + "/joined.h5");
    return read_file(run + "/joined.h5");
  };
  const std::string whole = joined({12});
  EXPECT_EQ(rows_of_results(run + "/joined.h5"), 12);
  EXPECT_TRUE(joined({5, 1, 6}) == whole);
  EXPECT_TRUE(joined({4, 8}) == whole);
  EXPECT_TRUE(at::equal(read_results(run + "/joined.h5").images, sample_results().images));
  EXPECT_EQ(Hdf5::open(run + "/joined.h5").shape("/terms/late"), (std::vector<int64_t>{12, 3}));

  write_results(run + "/other.h5", sample_results(6, 6, 12));
  write_results(run + "/half.h5", sample_results(0, 6));
  expect_refusal(
      [&] {
        join_results({run + "/half.h5", run + "/other.h5"}, run + "/never.h5");
      },
      Failure::input, {"other.h5", "parts of one run"});
  EXPECT_FALSE(fs::exists(run + "/never.h5"));
}

TEST(Results, MisfittingOnesAreRefused) {
  const std::string run = fresh("misfit"), name = run + "/results.h5";
  Results results = sample_results();
  results.labels.pop_back();
  expect_refusal([&] { write_results(name, results); }, Failure::runtime, {"12 images", "11 labels"});
  results.labels.emplace_back();
  results.codes = at::zeros({3, 6});
  expect_refusal([&] { write_results(name, results); }, Failure::runtime, {"[3,6]", "12 rows"});
  EXPECT_FALSE(fs::exists(name));
  expect_refusal([&] { load_results(run); }, Failure::input, {"results.h5"});
}

}  // namespace
}  // namespace evoke
