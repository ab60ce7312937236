// needs: files
// What is recorded while a run goes on.
#include "core/records/trace.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "core/error.h"
#include "core/storage/files.h"
#include "tests/expect.h"

namespace evoke {
namespace {

namespace fs = std::filesystem;

std::string fresh(const std::string& name) {
  const fs::path path = fs::path(::testing::TempDir()) / text("evoke_trace_", ::getpid());
  fs::create_directories(path);
  return (path / name).string();
}

constexpr int64_t chains = 3;
// Chain 1 never moves.
State state_at(int64_t step) {
  State state;
  const auto value = static_cast<double>(step);
  state.at.value = at::tensor({value, 7.0, -value});
  state.at.terms["prior"] = at::full({chains}, 0.5 * value, at::kDouble);
  if (step >= 400) state.at.terms["late"] = at::ones({chains});
  return state;
}
Tensor pictures_at(int64_t step) { return at::arange(chains * 4 * 5 * 3).add(step).remainder(256).to(at::kByte).view({chains, 4, 5, 3}); }

void record(Trace& trace, int64_t from, int64_t to) {
  for (int64_t step = from; step < to; ++step) {
    trace.see(step, state_at(step));
    if (step % 100 == 0) trace.see_pictures(pictures_at(step));
  }
}
std::string written(Trace& trace, const std::string& name) {
  const std::string file = fresh(name);
  {
    Hdf5 out = Hdf5::create(file);
    trace.write(out);
  }
  return read_file(file);
}

TEST(Trace, RecordsEverySoManySteps) {
  Trace trace(2);
  EXPECT_FALSE(trace.unmoved().defined());
  record(trace, 0, 900);
  EXPECT_TRUE(at::equal(trace.unmoved(), at::tensor({0, 1, 0}, at::kLong).to(at::kBool)));
  written(trace, "a.h5");
  const Hdf5 file = Hdf5::open(fresh("a.h5"));
  EXPECT_TRUE(at::equal(file.read("/steps"), at::arange(0, 900, 2, at::kLong)));
  EXPECT_TRUE(at::equal(file.read("/activation/trace")[2], at::arange(0, 900, 2, at::kFloat).neg()));
  EXPECT_TRUE(at::equal(file.read("/terms/prior")[1], at::arange(0, 450, at::kFloat)));
  const Tensor late = file.read("/terms/late")[0];
  EXPECT_TRUE(late.slice(0, 0, 200).isnan().all().item<bool>() && (late.slice(0, 200) == 1).all().item<bool>());
  EXPECT_EQ(file.shape("/snapshots"), (std::vector<int64_t>{chains, 9, 4, 5, 3}));
  EXPECT_TRUE(at::equal(file.read("/snapshots").select(1, 7), pictures_at(700)));
}

TEST(Trace, GoesOnFromWhatACheckpointCountsWithTheSameBytes) {
  Trace whole(1);
  record(whole, 0, 700);
  const std::string file = fresh("trace.records");
  {
    Trace first(1, file);
    record(first, 0, 150);
    first.keep();
    record(first, 150, 333);
    const int64_t length = first.keep();
    record(first, 333, 650);  // lost: the process was killed before its next checkpoint
    first.keep();
    Trace second(1, file, length);
    EXPECT_EQ(static_cast<int64_t>(fs::file_size(file)), length);
    record(second, 333, 700);
    EXPECT_TRUE(written(second, "b.h5") == written(whole, "a.h5"));
    EXPECT_TRUE(at::equal(second.unmoved(), whole.unmoved()));
  }
  Trace anew(1, file);
  EXPECT_EQ(fs::file_size(file), 0u);
  EXPECT_EQ(anew.keep(), 0);
}

TEST(Trace, MemoryDoesNotGrowWithTheSteps) {
  const std::string file = fresh("long.records");
  Trace trace(1, file);
  State state;
  state.at.value = at::rand({2000});
  size_t largest = 0, before = 0;
  for (int64_t step = 0; step < 3000; ++step) {
    trace.see(step, state);
    if (fs::file_size(file) > before) largest = std::max<size_t>(largest, fs::file_size(file) - before);
    before = fs::file_size(file);
  }
  EXPECT_GT(before, 2000u * 2800 * 4);         // nearly all of it is on disk already…
  EXPECT_LE(largest, 2000u * 256 * 4 + 8192);  // …where it went in parts
}

TEST(Trace, DamageIsRefused) {
  const std::string file = fresh("damaged.records");
  int64_t length = 0;
  {
    Trace trace(1, file);
    record(trace, 0, 20);
    length = trace.keep();
  }
  const std::string whole = read_file(file);
  expect_refusal([&] { Trace(1, file, length + 1); }, Failure::input, {file, "damaged"});
  for (const size_t byte : {size_t{3}, size_t{70}, whole.size() / 2, whole.size() - 1}) {
    std::string flipped = whole;
    flipped[byte] ^= 4;
    write_file(file, flipped);
    expect_refusal([&] { Trace(1, file, length); }, Failure::input, {file, "damaged"});
  }
  write_file(file, whole.substr(0, whole.size() - 5));
  expect_refusal([&] { Trace(1, file, length); }, Failure::input, {file, "damaged"});
}

}  // namespace
}  // namespace evoke
