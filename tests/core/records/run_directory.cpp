// needs: files
// What a run leaves behind.
#include "core/records/run_directory.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "core/error.h"
#include "core/records/contact_sheet.h"
#include "core/records/pictures.h"
#include "core/storage/files.h"
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
    run.keep_metrics(1);
    run.metric({{"step", 2}, {"value", std::nan("")}});
    run.finish("done");
  }
  EXPECT_EQ(read_file(path + "/metrics.jsonl"), "{\"step\":1,\"value\":0.5}\n{\"step\":2,\"value\":null}\n");
  const nlohmann::json manifest = manifest_of(path);
  EXPECT_EQ(manifest["files"]["config.toml"], sha256("x = 1\n"));
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
  expect_refusal([&] { RunDirectory::open(full + "/letter.txt/run", "sample", ""); }, Failure::usage, {"found a file at"});

  write_file(path + "/manifest.json", "{\"torn\":");
  expect_refusal([&] { RunDirectory::open(path, "sample", "x = 1\n"); }, Failure::input, {"manifest.json", "no manifest"});
  RunDirectory other = RunDirectory::open(fresh("other"), "sample", "");
  expect_refusal([&] { other.finish("dnoe"); }, Failure::runtime, {"did you mean 'done'?"});
}

// The manifest with a change, signed as the program signs it.
void change_manifest(const std::string& path, const std::function<void(nlohmann::json&)>& change) {
  nlohmann::json manifest = manifest_of(path);
  change(manifest);
  manifest.erase("sha256");
  manifest["sha256"] = sha256(manifest.dump());
  write_file(path + "/manifest.json", manifest.dump());
}

TEST(RunDirectory, IsItsRecipeItsInputsAndTheVersion) {
  const std::string path = fresh("identity"), input = fresh("weights.bin"), folder = fresh("photographs");
  fs::create_directories(folder + "/within");
  write_file(input, "first weights");
  write_file(folder + "/within/a.png", "a picture");
  for (const char* status : {"interrupted", "done"}) {
    RunDirectory run = RunDirectory::open(path, "sample", "x = 1\n", {input, folder});
    run.finish(status);
  }
  const nlohmann::json before = manifest_of(path);
  EXPECT_EQ(before["inputs"].size(), 2u);
  EXPECT_TRUE(before["versions"]["evoke"].is_string());
  const auto again = [&] { RunDirectory::open(path, "sample", "x = 1\n", {input, folder}); };
  again();

  // An input changed: neither the finished run nor an unfinished one is taken for this one, and the old hash stays.
  for (const char* status : {"done", "running"}) {
    change_manifest(path, [&](nlohmann::json& manifest) { manifest["status"] = status; });
    const std::string manifest = read_file(path + "/manifest.json");
    write_file(input, "other weights");
    expect_refusal(again, Failure::usage,
                   {path, input, "has changed since", before["inputs"][1]["sha256"].get<std::string>().substr(0, 12),
                    "another place with --out, or remove"});
    write_file(input, "first weights");
    write_file(folder + "/within/a.png", "another picture");
    expect_refusal(again, Failure::usage, {path, folder, "has changed since"});
    write_file(folder + "/within/a.png", "a picture");
    expect_refusal([&] { RunDirectory::open(path, "sample", "x = 1\n", {input}); }, Failure::usage, {"also read " + folder});
    expect_refusal(
        [&] {
          RunDirectory::open(path, "sample", "x = 1\n", {input, folder, path + "/config.toml"});
        },
        Failure::usage, {"without the input"});
    EXPECT_EQ(read_file(path + "/manifest.json"), manifest);
    again();
  }

  change_manifest(path, [](nlohmann::json& manifest) { manifest["versions"]["evoke"] = "0.0.9"; });
  expect_refusal(again, Failure::usage, {"evoke 0.0.9 began, this is evoke", "--out"});
}

TEST(RunDirectory, DamagedOrEditedRecordsAreRefused) {
  const std::string path = fresh("edited");
  {
    RunDirectory run = RunDirectory::open(path, "compare", "x = 1\n");
    write_file(run.file("table.md"), "| method |\n");
    run.metric({{"step", 1}});
    run.finish("done");
  }
  const auto again = [&] { RunDirectory::open(path, "compare", "x = 1\n"); };
  again();
  for (const char* name : {"table.md", "metrics.jsonl"}) {
    const std::string whole = read_file(path + "/" + name);
    write_file(path + "/" + name, whole + " ");
    expect_refusal(again, Failure::input, {name, "other content than the run wrote"});
    expect_refusal([&] { check_run_file(path, name); }, Failure::input, {name});
    fs::remove(path + "/" + name);
    expect_refusal(again, Failure::input, {name, "cannot be read"});
    write_file(path + "/" + name, whole);
  }
  again();
  std::string manifest = read_file(path + "/manifest.json");
  manifest.replace(manifest.find("\"done\""), 6, "\"dome\"");
  write_file(path + "/manifest.json", manifest);
  expect_refusal(again, Failure::input, {"manifest.json", "checksum does not fit"});
  fs::remove(path + "/manifest.json");
  expect_refusal(again, Failure::input, {path, "without its manifest.json"});
}

TEST(RunDirectory, WhatOnlyAResumeNeedsGoesWhenTheRunIsDone) {
  const std::string path = fresh("left");
  RunDirectory::open(path, "sample", "").finish("done");
  write_file(path + "/checkpoint.safetensors", "left by a kill just before it was removed");
  fs::create_directories(path + "/parts");
  write_file(path + "/parts/000000000000.h5", "joined already");
  EXPECT_TRUE(RunDirectory::open(path, "sample", "").done());
  EXPECT_FALSE(fs::exists(path + "/checkpoint.safetensors"));
  EXPECT_FALSE(fs::exists(path + "/parts"));
  EXPECT_FALSE(fs::exists(path + "/.lock"));
  write_file(path + "/.lock", "12");  // left by a kill after the manifest said that the run is done
  EXPECT_TRUE(RunDirectory::open(path, "sample", "").done());
  EXPECT_FALSE(fs::exists(path + "/.lock"));
}

// A process may die while it writes into any folder of its run.
TEST(RunDirectory, HalfWrittenFilesGoFromEveryFolderOfTheRun) {
  const std::string path = fresh("half");
  for (int sitting = 0; sitting < 2; ++sitting) {
    RunDirectory run = RunDirectory::open(path, "sample", "");
    for (const char* folder : {"parts", "images", "anywhere"}) {
      EXPECT_FALSE(fs::exists(run.file(text(folder, "/.000.part-19-0.h5")))) << folder;
      fs::create_directories(run.file(folder));
      write_file(run.file(text(folder, "/.000.part-19-0.h5")), "half");
    }
    run.finish("interrupted");
  }
  RunDirectory::open(path, "sample", "").finish("done");
  EXPECT_FALSE(fs::exists(path + "/parts"));
  for (const auto& entry : fs::recursive_directory_iterator(path)) EXPECT_EQ(entry.path().string().find(".part-"), std::string::npos);
}

TEST(RunDirectory, AFinishedRunAtWhichSomebodyWorksIsFinishedAllTheSame) {
  const std::string path = fresh("judged");
  RunDirectory::open(path, "sample", "").finish("done");
  const Lock judge = claim_folder(path);
  EXPECT_TRUE(RunDirectory::open(path, "sample", "").done());
  EXPECT_TRUE(fs::exists(path + "/.lock"));
}

TEST(RunDirectory, KeepsTheMetricsThatACheckpointCounts) {
  RunDirectory run = RunDirectory::open(fresh("metrics"), "train", "");
  run.keep_metrics(0);
  for (int line = 0; line < 3; ++line) run.metric({{"epoch", line}});
  std::ofstream(run.file("metrics.jsonl"), std::ios::app) << "{\"epoch\":3,";  // a kill cut this line
  run.keep_metrics(2);
  EXPECT_EQ(read_file(run.file("metrics.jsonl")), "{\"epoch\":0}\n{\"epoch\":1}\n");
  expect_refusal([&] { run.keep_metrics(3); }, Failure::input, {"metrics.jsonl", "found 2 lines", "the 3"});
  run.keep_metrics(0);
  EXPECT_EQ(read_file(run.file("metrics.jsonl")), "");
}

// Another process that opens the folder and stays until it is told to go.
TEST(RunDirectory, ASecondProcessIsRefusedWhileTheFirstLives) {
  const std::string path = fresh("shared");
  int ready[2], go[2];
  ASSERT_EQ(pipe(ready), 0);
  ASSERT_EQ(pipe(go), 0);
  const pid_t first = fork();
  if (first == 0) {
    RunDirectory run = RunDirectory::open(path, "sample", "x = 1\n");
    write_file(run.file(".results.part-1-0.h5"), "half");
    char byte = 0;
    if (write(ready[1], "r", 1) != 1 || read(go[0], &byte, 1) < 0) _exit(1);
    _exit(0);
  }
  char byte = 0;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  const auto open = [&] { RunDirectory::open(path, "sample", "x = 1\n"); };
  const std::string manifest = read_file(path + "/manifest.json");
  for (int again = 0; again < 2; ++again)
    expect_refusal(open, Failure::usage, {path, text("another process (", first, ") is at work there"), "--out"});
  EXPECT_EQ(read_file(path + "/manifest.json"), manifest);
  EXPECT_TRUE(fs::exists(path + "/.results.part-1-0.h5"));

  kill(first, SIGKILL);
  int status = 0;
  waitpid(first, &status, 0);
  RunDirectory second = RunDirectory::open(path, "sample", "x = 1\n");
  EXPECT_TRUE(second.resumed());
  EXPECT_FALSE(fs::exists(path + "/.results.part-1-0.h5"));
  expect_refusal(open, Failure::usage, {"another process"});  // a second object of the same process, too
  second.finish("done");
  EXPECT_FALSE(fs::exists(path + "/.lock"));
  for (int end : {ready[0], ready[1], go[0], go[1]}) close(end);
}

}  // namespace
}  // namespace evoke
