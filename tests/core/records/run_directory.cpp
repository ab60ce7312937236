// needs: files
// What a run leaves behind.
#include "core/records/run_directory.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "core/error.h"
#include "core/records/picture.h"
#include "core/storage/files.h"
#include "core/storage/hdf5.h"
#include "tests/expect.h"

namespace evoke {
namespace {

namespace fs = std::filesystem;

std::string fresh(const std::string& name) {
  const fs::path path = fs::path(::testing::TempDir()) / text("evoke_run_", ::getpid()) / name;
  fs::remove_all(path);
  fs::create_directories(path.parent_path());
  return path.string();
}

nlohmann::json manifest_of(const std::string& path) { return nlohmann::json::parse(read_file(path + "/manifest.json")); }

TEST(RunDirectory, IsMadeThenResumedThenDone) {
  const std::string path = fresh("a/b");
  {
    RunDirectory run = RunDirectory::open(path, "sample", "x = 1\n");
    EXPECT_FALSE(run.resumed() || run.done());
    EXPECT_EQ(read_file(path + "/config.toml"), "x = 1\n");
    EXPECT_EQ(manifest_of(path)["status"], "running");
    run.manifest()["seed"] = 7;
    run.metric({{"step", 1}, {"value", 0.5}});
    run.finish("interrupted");
  }
  std::ofstream(path + "/metrics.jsonl", std::ios::app) << "{\"step\":2,\"va";  // a kill cut this line
  std::ofstream(path + "/.results.part-12-0.h5") << "half";                     // and left this
  {
    RunDirectory run = RunDirectory::open(path, "sample", "x = 1\n");
    EXPECT_TRUE(run.resumed());
    EXPECT_FALSE(run.done());
    EXPECT_EQ(run.manifest()["seed"], 7);
    EXPECT_EQ(manifest_of(path)["status"], "running");
    EXPECT_FALSE(fs::exists(path + "/.results.part-12-0.h5"));
    run.metric({{"step", 2}, {"value", std::nan("")}});
    run.add_input(path + "/config.toml");
    run.add_input(path + "/config.toml");
    run.finish("done");
  }
  EXPECT_EQ(read_file(path + "/metrics.jsonl"), "{\"step\":1,\"value\":0.5}\n{\"step\":2,\"value\":null}\n");
  const nlohmann::json manifest = manifest_of(path);
  EXPECT_EQ(manifest["inputs"].size(), 1u);
  EXPECT_EQ(manifest["inputs"][0]["sha256"], sha256("x = 1\n"));
  EXPECT_GE(manifest["seconds"].get<double>(), 0);
  EXPECT_TRUE(manifest["versions"].contains("libtorch"));

  const RunDirectory done = RunDirectory::open(path, "sample", "x = 1\n");
  EXPECT_TRUE(done.done());
  EXPECT_FALSE(done.resumed());
  EXPECT_EQ(manifest_of(path), manifest);  // a finished run is not touched
}

TEST(RunDirectory, AnotherRunOrOtherFilesAreRefused) {
  const std::string path = fresh("taken");
  RunDirectory::open(path, "sample", "x = 1\n");
  expect_refusal([&] { RunDirectory::open(path, "sample", "x = 2\n"); }, Failure::usage, {path, "another config", "--out"});
  expect_refusal([&] { RunDirectory::open(path, "train", "x = 1\n"); }, Failure::usage, {path, "evoke sample", "evoke train"});
  EXPECT_EQ(read_file(path + "/config.toml"), "x = 1\n");

  const std::string full = fresh("full");
  fs::create_directories(full);
  std::ofstream(full + "/letter.txt") << "dear";
  expect_refusal([&] { RunDirectory::open(full, "sample", "x = 1\n"); }, Failure::usage, {full, "letter.txt", "--out"});
  EXPECT_FALSE(fs::exists(full + "/config.toml"));
  expect_refusal([&] { RunDirectory::open(full + "/letter.txt", "sample", ""); }, Failure::usage, {"found a file"});
  expect_refusal([&] { RunDirectory::open(full + "/letter.txt/run", "sample", ""); }, Failure::runtime, {"cannot be made"});

  write_file(path + "/manifest.json", "{\"torn\":");
  expect_refusal([&] { RunDirectory::open(path, "sample", "x = 1\n"); }, Failure::input, {"manifest.json", "no manifest"});
  RunDirectory other = RunDirectory::open(fresh("other"), "sample", "");
  expect_refusal([&] { other.finish("dnoe"); }, Failure::runtime, {"did you mean 'done'?"});
}

Results sample_results(int64_t units, int64_t chains) {
  Results results;
  const int64_t rows = units * chains;
  results.images = at::randint(256, {rows, 48, 48, 3}, at::kByte);
  results.codes = at::randn({rows, 6});
  for (int64_t row = 0; row < rows; ++row) results.columns.push_back(column_of({"logits", row / chains}));
  results.columns.back() = column_of({"features/conv3", units - 1, 4, 5});
  results.columns.front() = {"logits:0 to logits:1"};
  results.labels.assign(rows, "red single line");
  results.chain = at::arange(rows, at::kLong);
  results.seed = 11;
  results.activation = at::randn({rows});
  results.status.assign(rows, "ok");
  results.status[0] = "searched";
  return results;
}

TEST(RunDirectory, ResultsComeBack) {
  RunDirectory run = RunDirectory::open(fresh("results"), "sample", "");
  Results results = sample_results(3, 4);
  Trace trace(2);
  for (int64_t step = 0; step < 5; ++step) {
    State state;
    state.at.value = at::full({12}, static_cast<double>(step));
    state.at.terms["prior"] = at::full({12}, -static_cast<double>(step));
    if (step > 2) state.at.terms["late"] = at::ones({12});
    trace.see(step, state);
  }
  trace.into(results);
  results.trace = results.terms.at("value");
  write_results(run.file("results.h5"), results);
  save_pictures(run.path(), results, 0);
  save_contact_sheet(run.path());

  const Results back = load_results(run.path());
  EXPECT_TRUE(at::equal(back.images, results.images));
  EXPECT_TRUE(at::equal(back.codes, results.codes));
  EXPECT_TRUE(at::equal(back.chain, results.chain));
  EXPECT_TRUE(at::equal(back.activation, results.activation));
  EXPECT_TRUE(at::equal(back.steps, at::tensor({0, 2, 4}, at::kLong)));
  EXPECT_TRUE(at::equal(back.trace[3], at::tensor({0.0f, 2.0f, 4.0f})));
  EXPECT_TRUE(at::equal(back.terms.at("prior")[0], at::tensor({0.0f, -2.0f, -4.0f})));
  EXPECT_TRUE(back.terms.at("late")[0][1].isnan().item<bool>());  // unknown then
  EXPECT_EQ(back.terms.at("late")[0][2].item<float>(), 1);
  EXPECT_EQ(back.seed, 11u);
  EXPECT_EQ(back.status[0], "searched");
  EXPECT_EQ(back.columns[11].unit, (Unit{"features/conv3", 2, 4, 5}));
  EXPECT_EQ(back.columns[0].name, "logits:0 to logits:1");
  EXPECT_FALSE(back.columns[0].unit.has_value());
  EXPECT_EQ(unit_caption(back, 4), "logits:1 red single line");
  EXPECT_FALSE(back.snapshots.defined());

  EXPECT_TRUE(at::equal(load_image(run.file("images/0005_logits_1_5.png")), results.images[5]));
  EXPECT_TRUE(fs::exists(run.file("images/0011_features-conv3_2@4-5_11.png")));
  EXPECT_GT(load_image(run.file("contact_sheet.png")).size(0), 3 * 96);

  // The same results make the same bytes, whole or joined from parts.
  const std::string before = read_file(run.file("results.h5"));
  write_results(run.file("results.h5"), results);
  EXPECT_TRUE(read_file(run.file("results.h5")) == before);
  std::vector<std::string> parts;
  for (const auto& [first, count] : std::vector<std::pair<int64_t, int64_t>>{{0, 5}, {5, 1}, {6, 6}}) {
    parts.push_back(run.file(text("part", first, ".h5")));
    write_results(parts.back(), read_results(run.file("results.h5"), first, count));
  }
  join_results(parts, run.file("joined.h5"));
  EXPECT_TRUE(read_file(run.file("joined.h5")) == before);
  Results other = results;
  other.seed = 12;
  write_results(parts.back(), other);
  expect_refusal([&] { join_results(parts, run.file("joined.h5")); }, Failure::input, {"part6.h5", "parts of one run"});
}

TEST(RunDirectory, MisfittingResultsAreRefused) {
  RunDirectory run = RunDirectory::open(fresh("misfit"), "sample", "");
  Results results = sample_results(2, 2);
  results.labels.pop_back();
  expect_refusal([&] { write_results(run.file("results.h5"), results); }, Failure::runtime, {"4 images", "3 labels"});
  results.labels.emplace_back();
  results.codes = at::zeros({3, 6});
  expect_refusal([&] { write_results(run.file("results.h5"), results); }, Failure::runtime, {"[3,6]", "4 rows"});
  EXPECT_FALSE(fs::exists(run.file("results.h5")));
  expect_refusal([&] { load_results(run.path()); }, Failure::input, {"results.h5"});
}

TEST(Trace, ContinuesFromACheckpoint) {
  const auto state_at = [](int64_t step) {
    State state;
    state.at.value = at::full({3}, static_cast<double>(step));
    state.at.terms["prior"] = at::full({3}, 0.5 * static_cast<double>(step));
    return state;
  };
  Trace whole, first, second;
  for (int64_t step = 0; step < 6; ++step) whole.see(step, state_at(step));
  for (int64_t step = 0; step < 3; ++step) first.see(step, state_at(step));
  second.unpack(first.pack());
  for (int64_t step = 3; step < 6; ++step) second.see(step, state_at(step));
  Results a, b;
  whole.into(a);
  second.into(b);
  EXPECT_TRUE(at::equal(a.steps, b.steps) && at::equal(a.trace, b.trace) && at::equal(a.terms.at("prior"), b.terms.at("prior")));
  Trace empty;
  empty.unpack({});
  EXPECT_TRUE(empty.pack().empty());
  expect_refusal([&] { empty.unpack({{"steps", at::zeros({2}, at::kLong)}, {"value", at::zeros({3, 5})}}); }, Failure::input, {"trace"});
}

}  // namespace
}  // namespace evoke
