// needs: files
// Files written whole or not at all, safetensors and checkpoints.
#include "core/storage/files.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>

#include "core/error.h"
#include "core/storage/safetensors.h"
#include "tests/expect.h"

namespace evoke {
namespace {

namespace fs = std::filesystem;

// An empty folder of its own for each test.
class Files : public ::testing::Test {
 protected:
  void SetUp() override {
    root =
        fs::path(::testing::TempDir()) / text("evoke_files_", ::getpid()) / ::testing::UnitTest::GetInstance()->current_test_info()->name();
    fs::remove_all(root);
    fs::create_directories(root);
  }
  std::string at(const std::string& name) const { return (root / name).string(); }
  size_t count() const { return std::distance(fs::directory_iterator(root), fs::directory_iterator()); }
  void put(const std::string& name, const std::string& bytes) const { std::ofstream(at(name), std::ios::binary) << bytes; }
  fs::path root;
};

// No file may grow beyond this many bytes while it lives: a disk that is full.
struct FullDisk {
  explicit FullDisk(rlim_t bytes) {
    std::signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before);
    rlimit small = before;
    small.rlim_cur = bytes;
    setrlimit(RLIMIT_FSIZE, &small);
  }
  ~FullDisk() { setrlimit(RLIMIT_FSIZE, &before); }
  rlimit before{};
};

std::string framed(const std::string& header, const std::string& data = "") {
  std::string bytes(8, '\0');
  for (int i = 0; i < 8; ++i) bytes[i] = static_cast<char>(static_cast<uint64_t>(header.size()) >> (8 * i));
  return bytes + header + data;
}

TEST_F(Files, WriteReplacesAndLeavesNothingBeside) {
  write_file(at("a.txt"), "one");
  write_file(at("a.txt"), std::string("two\0three", 9));
  EXPECT_EQ(read_file(at("a.txt")), std::string("two\0three", 9));
  EXPECT_EQ(count(), 1u);
}

TEST_F(Files, FullDiskKeepsTheOldFile) {
  write_file(at("a.bin"), "old");
  {
    const FullDisk full(4096);
    expect_refusal([&] { write_file(at("a.bin"), std::string(100000, 'x')); }, Failure::runtime,
                   {at("a.bin"), "cannot be written (File too large)", "nothing was changed"});
  }
  EXPECT_EQ(read_file(at("a.bin")), "old");
  EXPECT_EQ(count(), 1u);
}

TEST_F(Files, AFullDiskSaysSoWhenALineIsAppended) {
  append_line(at("a.jsonl"), "one");
  {
    const FullDisk full(6);
    expect_refusal([&] { append_line(at("a.jsonl"), "two and more"); }, Failure::runtime, {at("a.jsonl"), "written (File too large)"});
  }
  EXPECT_TRUE(read_file(at("a.jsonl")).starts_with("one\n"));
  expect_refusal([&] { append_line("/dev/full", "one"); }, Failure::runtime, {"/dev/full", "(No space left on device)"});
  expect_refusal([&] { append_line(at("none/a"), "one"); }, Failure::runtime, {at("none/a"), "(No such file or directory)"});
}

TEST_F(Files, AFileIsClaimedByOneProcessAtATime) {
  const Lock first = claim_file(at("data.h5"));
  expect_refusal([&] { claim_file(at("data.h5")); }, Failure::usage, {at("data.h5"), text("another process (", ::getpid(), ")")});
  put(".data.part-99-0.h5", "of the first");
  expect_refusal([&] { claim_file(at("data.h5")); }, Failure::usage, {"at work there"});
  EXPECT_TRUE(fs::exists(at(".data.part-99-0.h5")));
  claim_file(at("other.h5"));
  EXPECT_EQ(count(), 2u);  // the lock and the part; the other's lock is gone
  expect_refusal([&] { claim_file(at("none/data.h5")); }, Failure::runtime, {"found no folder"});
}

TEST_F(Files, WhatADeadWriterLeftIsRemovedByTheNext) {
  const pid_t writer = fork();
  if (writer == 0) {
    const Lock lock = claim_file(at("data.h5"));
    write_file_with(at("data.h5"), [](const std::string& temporary) {
      std::ofstream(temporary) << "half" << std::flush;
      ::kill(::getpid(), SIGKILL);
    });
  }
  int status = 0;
  waitpid(writer, &status, 0);
  EXPECT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(count(), 2u);
  put(".data_of_mine.part-1-0.h5", "another file's");
  { const Lock lock = claim_file(at("data.h5")); }
  EXPECT_EQ(count(), 1u);
}

TEST_F(Files, AWriterThatThrowsKeepsTheOldFile) {
  write_file(at("a.h5"), "old");
  const auto failing = [](const std::string& temporary) {
    EXPECT_TRUE(temporary.ends_with(".h5"));
    std::ofstream(temporary) << "half";
    fail(Failure::runtime, "the writer gave up");
  };
  expect_refusal([&] { write_file_with(at("a.h5"), failing); }, Failure::runtime, {at("a.h5"), "the writer gave up"});
  EXPECT_EQ(read_file(at("a.h5")), "old");
  EXPECT_EQ(count(), 1u);
}

TEST_F(Files, PlacesThatCannotBeAreRefused) {
  expect_refusal([&] { read_file(at("none")); }, Failure::input, {at("none"), "No such file"});
  expect_refusal([&] { read_file(root.string()); }, Failure::input, {"found a folder"});
  expect_refusal([&] { write_file(at("none/a"), "x"); }, Failure::runtime, {"found no folder"});
  expect_refusal([&] { write_file(root.string(), "x"); }, Failure::runtime, {"expected a file's name"});
  expect_refusal([&] { write_file("/dev/full", "x"); }, Failure::runtime, {"expected a file's name"});
}

TEST_F(Files, Sha256KnowsItsAnswers) {
  EXPECT_EQ(sha256(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  write_file(at("long"), std::string(3'000'000, 'a'));
  EXPECT_EQ(sha256_of_file(at("long")), sha256(std::string(3'000'000, 'a')));
}

Tensors every_type() {
  return {{"f32", at::arange(6, at::kFloat).view({2, 3}).t()},  // not contiguous
          {"f64", at::full({2}, 1.0 / 3.0, at::kDouble)},
          {"f16", at::arange(3, at::kFloat).to(at::kHalf)},
          {"bf16", at::arange(3, at::kFloat).to(at::kBFloat16)},
          {"i64", at::full({1}, int64_t{1} << 60, at::kLong)},
          {"i32", at::arange(4, at::kInt)},
          {"u8", at::arange(7, at::kByte)},
          {"bool", at::arange(3, at::kInt) > 0},
          {"scalar", at::scalar_tensor(2.5)},
          {"empty", at::zeros({0, 4})}};
}

TEST_F(Files, SafeTensorsComeBack) {
  save_safetensors(at("w.safetensors"), {every_type(), {{"note", "é \"quoted\""}}});
  const SafeTensors back = load_safetensors(at("w.safetensors"));
  EXPECT_EQ(back.metadata.at("note"), "é \"quoted\"");
  ASSERT_EQ(back.tensors.size(), every_type().size());
  for (const auto& [name, tensor] : every_type()) {
    EXPECT_EQ(back.tensors.at(name).scalar_type(), tensor.scalar_type()) << name;
    EXPECT_TRUE(at::equal(back.tensors.at(name), tensor)) << name;
  }
  save_safetensors(at("again.safetensors"), back);
  EXPECT_TRUE(read_file(at("again.safetensors")) == read_file(at("w.safetensors")));
}

TEST_F(Files, ForeignAndTornSafeTensorsAreRefused) {
  const std::string four(4, '\0'), eight(8, '\0');
  const auto entry = [](const std::string& type, const std::string& shape, const std::string& offsets) {
    return R"({"w":{"dtype":")" + type + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}";
  };
  struct Case {
    std::string bytes;
    std::vector<std::string> parts;
  };
  const std::vector<Case> cases{
      {"", {"found 0 bytes"}},
      {"short", {"found 5 bytes"}},
      {std::string("\x89PNG\r\n\x1a\n and so on, a picture"), {"found a header of", "no safetensors file"}},
      {std::string(8, '\xff') + "{}", {"found a header of 18446744073709551615 bytes in a file of 10"}},
      {framed("not json"), {"no JSON object"}},
      {framed("[1,2]  "), {"no JSON object"}},
      {framed(R"({"w":3})"), {"tensor 'w'", "expected dtype, shape and data_offsets"}},
      {framed(entry("F8", "[1]", "[0,1]"), "x"), {"dtype \"F8\"", "expected F32"}},
      {framed(entry("F32", "[1]", "[0,8]"), eight), {"found 8 bytes, expected 4"}},
      {framed(entry("F32", "[2]", "[0,8]"), four), {"within the 4 bytes", "truncated"}},
      {framed(entry("F32", "[1]", "[4,0]"), four), {"data_offsets [4,0]"}},
      {framed(entry("F32", "[1]", "[-4,0]"), four), {"data_offsets [-4,0]"}},
      {framed(entry("F32", "[-1]", "[0,4]"), four), {"shape [-1]", "whole numbers"}},
      {framed(entry("F32", "[1.5]", "[0,4]"), four), {"shape [1.5]", "whole numbers"}},
      {framed(entry("F32", "[4294967296,4294967296]", "[0,4]"), four), {"which no memory holds"}},
      {framed(entry("F32", "[4611686018427387905]", "[0,4]"), four), {"which no memory holds"}},
      {framed(entry("F32", "[0,4611686018427387904,4]", "[0,0]")), {"which no memory holds"}},
      {framed(entry("F32", "[1000000000000]", "[0,4]"), four), {"found 4 bytes, expected 4000000000000"}},
      {framed(entry("F32", "[1]", "[0,4]"), eight), {"4 bytes behind the last tensor"}},
      {framed(entry("F32", "[1]", "[4,8]"), eight), {"found 4 bytes before tensor 'w'"}},
      {framed(R"({"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},"b":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}})", four),
       {"tensor 'b' begins at byte 2", "do not overlap"}},
      {framed(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})", "xx"),
       {"tensor 'a' twice"}},
      {framed(R"({"__metadata__":{"a":1}})"), {"__metadata__", "expected text"}},
  };
  for (const Case& one : cases) {
    put("bad.safetensors", one.bytes);
    std::vector<std::string> parts = one.parts;
    parts.push_back(at("bad.safetensors"));
    expect_refusal([&] { load_safetensors(at("bad.safetensors")); }, Failure::input, parts);
  }
  expect_refusal([&] { load_safetensors(at("none")); }, Failure::input, {at("none"), "No such file"});
  expect_refusal([&] { load_safetensors(root.string()); }, Failure::input, {"cannot be read"});
}

TEST_F(Files, EveryTruncationOfASafeTensorsFileIsRefused) {
  save_safetensors(at("w"), {{{"a", at::arange(5, at::kFloat)}, {"b", at::arange(3, at::kLong)}}, {{"k", "v"}}});
  const std::string whole = read_file(at("w"));
  for (size_t length = 0; length < whole.size(); ++length) {
    put("cut", whole.substr(0, length));
    EXPECT_THROW(load_safetensors(at("cut")), Error) << length;
  }
}

TEST_F(Files, AFlippedBitOfOurOwnTensorsIsNoticed) {
  save_safetensors(at("w"), {{{"a", at::arange(50, at::kFloat)}}, {{"k", "v"}}});
  EXPECT_TRUE(load_safetensors(at("w")).checked);
  std::string flipped = read_file(at("w"));
  flipped[flipped.size() - 9] ^= 1;
  put("w", flipped);
  expect_refusal([&] { load_safetensors(at("w")); }, Failure::input, {at("w"), "checksum does not fit"});

  // Files of other programs have no checksum, and pass; what calls itself ours has to have one.
  put("other", framed(R"({"w":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})", "xx"));
  EXPECT_FALSE(load_safetensors(at("other")).checked);
  put("ours", framed(R"({"__metadata__":{"evoke.format":"weights","evoke.version":"1","evoke.kind":"vae"}})"));
  expect_refusal([&] { load_weights(at("ours"), {"vae"}); }, Failure::input, {at("ours"), "without the checksum"});
}

TEST_F(Files, WeightsKnowTheirKind) {
  save_weights(at("w"), "vae", "code = 32\n", {{"a", at::ones({2})}}, {{"labels", "x"}});
  const SafeTensors back = load_weights(at("w"), {"autoencoder", "vae"});
  EXPECT_EQ(back.metadata.at("evoke.options"), "code = 32\n");
  EXPECT_EQ(back.metadata.at("labels"), "x");
  expect_refusal([&] { load_weights(at("w"), {"gan"}); }, Failure::input, {"kind 'vae'", "expected one of gan"});
  save_safetensors(at("plain"), {{{"a", at::ones({2})}}, {}});
  expect_refusal([&] { load_weights(at("plain"), {"vae"}); }, Failure::input, {"evoke.format", "evoke train"});
}

TEST_F(Files, CheckpointsComeBackWithTheirMemoryOrder) {
  const Tensor pixels = at::arange(48, at::kFloat).view({2, 3, 2, 4}).contiguous(at::MemoryFormat::ChannelsLast);
  save_checkpoint(at("c"), {{{"z", pixels}, {"value", at::rand({2})}}, {{"step", "17"}, {"config", "ab=\n"}}});
  const Checkpoint back = load_checkpoint(at("c"));
  EXPECT_EQ(back.facts, (std::map<std::string, std::string>{{"step", "17"}, {"config", "ab=\n"}}));
  EXPECT_TRUE(at::equal(back.tensors.at("z"), pixels));
  EXPECT_EQ(back.tensors.at("z").strides(), pixels.strides());
}

TEST_F(Files, ADamagedCheckpointIsRefused) {
  save_checkpoint(at("c"), {{{"z", at::arange(64, at::kFloat)}}, {{"step", "17"}}});
  const std::string whole = read_file(at("c"));

  // A flipped bit in a tensor, and another fact.
  std::string flipped = whole;
  flipped[flipped.size() - 9] ^= 1;
  put("flipped", flipped);
  expect_refusal([&] { load_checkpoint(at("flipped")); }, Failure::input, {at("flipped"), "checksum does not fit"});
  std::string other = whole;
  other.replace(other.find("\"17\""), 4, "\"18\"");
  put("other", other);
  expect_refusal([&] { load_checkpoint(at("other")); }, Failure::input, {"checksum does not fit"});

  put("cut", whole.substr(0, whole.size() / 2));
  expect_refusal([&] { load_checkpoint(at("cut")); }, Failure::input, {at("cut"), "truncated"});
  save_safetensors(at("weights"), {{{"z", at::ones({2})}}, {}});
  expect_refusal([&] { load_checkpoint(at("weights")); }, Failure::input, {"found no checkpoint"});
}

TEST_F(Files, AFullDiskKeepsTheOldCheckpoint) {
  save_checkpoint(at("c"), {{{"z", at::ones({4})}}, {{"step", "1"}}});
  {
    const FullDisk full(8192);
    expect_refusal(
        [&] {
          save_checkpoint(at("c"), {{{"z", at::ones({100000})}}, {{"step", "2"}}});
        },
        Failure::runtime, {at("c"), "(File too large)"});
  }
  EXPECT_EQ(load_checkpoint(at("c")).facts.at("step"), "1");
  EXPECT_EQ(count(), 1u);
}

}  // namespace
}  // namespace evoke
