// needs: files
// Every format that evoke writes, with single bits flipped: a reader refuses the file, or reads what was written.
// EVOKE_EVERY_BIT=1 tries every bit of the HDF5 files, too (a quarter of an hour), instead of some thousands.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <set>

#include "core/error.h"
#include "core/records/pictures.h"
#include "core/records/results.h"
#include "core/records/run_directory.h"
#include "core/storage/files.h"
#include "core/storage/hdf5.h"
#include "core/storage/safetensors.h"
#include "training/datasets/dataset.h"

namespace evoke {
namespace {

namespace fs = std::filesystem;

// Everything that is read from a file, by name, as bytes with their type and shape.
using Content = std::map<std::string, std::string>;

void add(Content& content, const std::string& name, const Tensor& tensor) {
  const Tensor held = tensor.contiguous();
  content[name] = text(c10::toString(held.scalar_type()), shape_text(held.sizes()), ":") +
                  std::string(static_cast<const char*>(held.data_ptr()), held.nbytes());
}

// All arrays of an HDF5 file; those named in `texts` hold text, those in `attributes` are attributes of the root.
Content content_of_hdf5(const std::string& file, const std::vector<std::string>& texts, const std::vector<std::string>& attributes) {
  static const std::set<std::string> groups{"/units", "/activation", "/terms", "/judge", "/attributes", "/conv1", "/conv1/top"};
  const Hdf5 in = Hdf5::open(file);
  Content content;
  const std::function<void(const std::string&)> visit = [&](const std::string& group) {
    for (const std::string& child : in.names(group)) {
      const std::string name = (group == "/" ? "" : group) + "/" + child;
      if (std::find(texts.begin(), texts.end(), name) != texts.end()) {
        for (const std::string& line : in.read_text(name)) content[name] += line + "\n";
      } else if (groups.contains(name)) {
        visit(name);
      } else {
        add(content, name, in.read(name));
      }
    }
  };
  visit("/");
  for (const std::string& attribute : attributes) content["@" + attribute] = in.attribute(attribute);
  return content;
}

class Bitflips : public ::testing::Test {
 protected:
  void SetUp() override {
    root = fs::path(::testing::TempDir()) / text("evoke_bitflips_", ::getpid()) /
           ::testing::UnitTest::GetInstance()->current_test_info()->name();
    fs::create_directories(root);
  }
  std::string at(const std::string& name) const { return (root / name).string(); }

  // Flips bits of `file` one at a time: all of them, or `most` chosen at random and as many among the first bytes, where the format's own
  // structure lies.
  void flip(const std::string& file, const std::function<Content()>& read, size_t most = SIZE_MAX) {
    const Content whole = read();
    ASSERT_FALSE(whole.empty());
    const std::string bytes = read_file(file);
    std::vector<size_t> bits;
    const size_t all = bytes.size() * 8;
    if (most >= all || std::getenv("EVOKE_EVERY_BIT")) {
      for (size_t bit = 0; bit < all; ++bit) bits.push_back(bit);
    } else {
      std::mt19937 engine(1);
      for (size_t i = 0; i < most; ++i) bits.push_back(engine() % all);
      for (size_t i = 0; i < most; ++i) bits.push_back(engine() % std::min<size_t>(all, 4096 * 8));
    }
    std::fstream out(file, std::ios::in | std::ios::out | std::ios::binary);
    const auto put = [&](size_t place, char byte) {
      out.seekp(static_cast<std::streamoff>(place));
      out.put(byte).flush();
    };
    size_t refused = 0, silent = 0;
    for (const size_t bit : bits) {
      put(bit / 8, static_cast<char>(bytes[bit / 8] ^ (1 << bit % 8)));
      try {
        if (read() != whole && silent++ < 5)
          ADD_FAILURE() << file << ": bit " << bit % 8 << " of byte " << bit / 8 << " of " << bytes.size();
      } catch (const Error&) {
        ++refused;
      }
      put(bit / 8, bytes[bit / 8]);
    }
    EXPECT_EQ(silent, 0u);
    EXPECT_EQ(read(), whole);
    std::cout << fs::path(file).filename().string() << ": " << bits.size() << " flips, " << refused << " refused, "
              << bits.size() - refused - silent << " without effect, " << silent << " silent\n";
  }
  fs::path root;
};

Tensors some_tensors() {
  return {{"a.weight", at::arange(12, at::kFloat).view({3, 4})},
          {"a.count", at::scalar_tensor(int64_t{5}, at::kLong)},
          {"half", at::arange(4, at::kFloat).to(at::kHalf)},
          {"mask", at::arange(3, at::kInt) > 0},
          {"none", at::zeros({0, 2})}};
}

Results some_results() {
  Results results;
  results.images = at::arange(6 * 8 * 8 * 3).remainder(251).to(at::kByte).view({6, 8, 8, 3});
  results.codes = at::linspace(-1, 1, 24).view({6, 4});
  for (int64_t row = 0; row < 6; ++row) {
    results.columns.push_back(column_of({"conv1", row / 3, row, -1}));
    results.labels.emplace_back(row == 2 ? "a label" : "");
    results.status.emplace_back("ok");
  }
  results.chain = at::arange(6, at::kLong);
  results.seed = 11;
  results.activation = at::linspace(2, 3, 6);
  results.trace = std::make_shared<Trace>(1);
  for (int64_t step = 0; step < 20; ++step) {
    State state;
    state.at.value = at::linspace(0, static_cast<double>(step), 6);
    state.at.terms["prior"] = state.at.value.neg();
    results.trace->see(step, state);
    if (step % 7 == 0) results.trace->see_pictures(results.images);
  }
  return results;
}

TEST_F(Bitflips, Weights) {
  save_weights(at("weights.safetensors"), "vae", "code = 32\n", some_tensors(), {{"evoke.labels", "[\"é\"]"}});
  flip(at("weights.safetensors"), [&] {
    const SafeTensors in = load_weights(at("weights.safetensors"), {"vae"});
    Content content;
    for (const auto& [name, tensor] : in.tensors) add(content, name, tensor);
    for (const auto& [key, value] : in.metadata) content["@" + key] = value;
    return content;
  });
}

TEST_F(Bitflips, Checkpoint) {
  save_checkpoint(at("checkpoint.safetensors"), {some_tensors(), {{"step", "17"}, {"trace", "4096"}}});
  flip(at("checkpoint.safetensors"), [&] {
    const Checkpoint in = load_checkpoint(at("checkpoint.safetensors"));
    Content content;
    for (const auto& [name, tensor] : in.tensors) add(content, name, tensor);
    for (const auto& [key, value] : in.facts) content["@" + key] = value;
    return content;
  });
}

TEST_F(Bitflips, TraceOfAnUnfinishedRun) {
  const std::string file = at("trace.records");
  int64_t length = 0;
  {
    Trace trace(1, file);
    State state;
    for (int64_t step = 0; step < 5; ++step) {
      state.at.value = at::full({3}, static_cast<double>(step));
      trace.see(step, state);
    }
    trace.see_pictures(at::arange(24, at::kByte).view({1, 2, 4, 3}).expand({3, 2, 4, 3}));
    length = trace.keep();
  }
  flip(file, [&] {
    Trace trace(1, file, length);
    return Content{{"unmoved", text(trace.unmoved())}, {"length", text(trace.keep())}};
  });
}

TEST_F(Bitflips, Results) {
  RunDirectory run = RunDirectory::open(at("run"), "sample", "");
  write_results(run.file("results.h5"), some_results());
  {
    Hdf5 file = Hdf5::edit(run.file("results.h5"));
    file.write("/judge/wanted", at::arange(6, at::kLong), {"row"});
    file.write("/judge/percentile", at::linspace(0, 100, 6, at::kDouble), {"row"});
  }
  const auto read = [&] {
    return content_of_hdf5(run.file("results.h5"), {"/units/name", "/units/label", "/units/layer", "/status"}, {"format", "version"});
  };
  ASSERT_EQ(read().at("/status"), "ok\nok\nok\nok\nok\nok\n");
  flip(run.file("results.h5"), read, 600);
}

TEST_F(Bitflips, Dataset) {
  DatasetColumns data;
  const Tensor images = at::arange(20 * 6 * 6 * 3).remainder(253).to(at::kByte).view({20, 6, 6, 3});
  data.labels = at::arange(20, at::kLong).remainder(2);
  data.split = at::arange(20, at::kLong).remainder(3).to(at::kByte);
  data.label_names = {"cat", "dog"};
  data.attributes = {{"theta", at::linspace(0, 6, 20)}};
  for (int64_t i = 0; i < 20; ++i) data.files.push_back(text("cat/", i, ".png"));
  int64_t row = 0;
  const auto next = [&] { return row < 20 ? images[row++] : Tensor(); };
  write_dataset(at("dataset.h5"), "test", {6, 6, 3}, 20, next, [&] { return data; }, {{"source", "folder"}});
  flip(
      at("dataset.h5"),
      [&] {
        return content_of_hdf5(at("dataset.h5"), {"/label_names", "/files"}, {"format", "version", "source"});
      },
      700);
}

TEST_F(Bitflips, Exemplars) {
  {
    Hdf5 file = Hdf5::create(at("exemplars.h5"));
    for (const char* name : {"format", "version", "data", "split", "of", "images", "quantile_error"}) file.set_attribute(name, name);
    file.write("/quantile_shares", at::linspace(0, 1, 7, at::kDouble), {"quantile"});
    file.write_text("/paths", {"a.png", "b/c.jpg"});
    file.write("/conv1/top/rows", at::arange(24, at::kLong).view({4, 6}), {"unit", "rank"});
    file.write("/conv1/top/activation", at::linspace(5, 0, 24).view({4, 6}), {"unit", "rank"});
    file.write("/conv1/mean", at::linspace(0, 1, 4, at::kDouble), {"unit"});
    file.write("/conv1/count", at::full({4}, 2, at::kLong), {"unit"});
  }
  flip(
      at("exemplars.h5"),
      [&] {
        return content_of_hdf5(at("exemplars.h5"), {"/paths"}, {"format", "data", "images"});
      },
      700);
}

TEST_F(Bitflips, TextsOfARun) {
  const std::string path = at("run"), config = "[run]\nchains = 3\n";
  {
    RunDirectory run = RunDirectory::open(path, "compare", config);
    run.manifest()["seed"] = 12;
    run.manifest()["share"] = 0.25;
    for (int line = 0; line < 3; ++line) run.metric({{"step", line}, {"value", 0.5 * line}});
    write_file(run.file("table.json"), "[{\"name\":\"ppgn\"}]\n");
    run.finish("done");
  }
  const auto read = [&] {
    RunDirectory run = RunDirectory::open(path, "compare", config);
    Content content{{"manifest", run.manifest().dump()}};
    for (const char* name : {"config.toml", "metrics.jsonl", "table.json"}) content[name] = read_file(run.file(name));
    return content;
  };
  for (const char* name : {"manifest.json", "config.toml", "metrics.jsonl", "table.json"}) flip(path + "/" + name, read);
  for (const char* name : {"config.toml", "metrics.jsonl"})
    flip(path + "/" + name, [&] {
      check_run_file(path, name);
      return Content{{name, read_file(path + "/" + name)}};
    });
}

TEST_F(Bitflips, Png) {
  save_png(at("picture.png"), at::arange(8 * 8 * 3).mul(7).remainder(256).to(at::kByte).view({8, 8, 3}));
  ::testing::internal::CaptureStderr();  // the decoder's own words
  flip(at("picture.png"), [&] {
    Content content;
    add(content, "picture", load_image(at("picture.png")));
    return content;
  });
  ::testing::internal::GetCapturedStderr();
}

}  // namespace
}  // namespace evoke
