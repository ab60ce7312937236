// needs: files
// Exemplars: statistics and images against brute force, whatever the batches; sheets, refusals, interruption.
#include "experiments/unit_statistics.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "classifiers/networks.h"
#include "classifiers/objectives.h"
#include "core/error.h"
#include "core/numbers/stream.h"
#include "core/records/pictures.h"
#include "core/records/results.h"
#include "core/storage/hdf5.h"
#include "experiments/verbs.h"
#include "tests/expect.h"
#include "tests/experiments/outcome.h"
#include "training/datasets/folder.h"

extern char** environ;

namespace evoke {
namespace {

namespace fs = std::filesystem;

const std::vector<double> shares{0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99};

std::string content(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
void put(const fs::path& file, const std::string& bytes) { std::ofstream(file, std::ios::binary) << bytes; }
// fs::remove_all resolves to a copy inside libtorch.so that calls a null pointer.
void remove_tree(const fs::path& path) {
  if (fs::is_directory(fs::symlink_status(path)))
    for (const auto& entry : fs::directory_iterator(path)) remove_tree(entry.path());
  fs::remove(path);
}

// ---- What values units take ------------------------------------------------------------------------------------------------------------

// Values of kinds that a histogram finds hard, a column each, float32 [N,8].
Tensor hard_values(int64_t rows) {
  Stream stream = Stream::range(3, 0, rows);
  const Tensor normal = stream.normal({3}), uniform = stream.uniform({2});
  Tensor out = at::zeros({rows, 8});
  out.select(1, 0).copy_(normal.select(1, 0));
  out.select(1, 1).copy_(normal.select(1, 1).clamp_min(0));        // many zeros
  out.select(1, 2).copy_(uniform.select(1, 0).log().neg().exp());  // a heavy tail
  out.select(1, 3).copy_(1000 + 1e-3 * normal.select(1, 2));       // a small spread about a large mean
  out.select(1, 4).fill_(-2.5);                                    // constant
  out.select(1, 6).copy_((uniform.select(1, 1) * 5).floor() - 2);  // few values, zero among them
  out.select(1, 7).copy_(1e-20 * normal.select(1, 0));             // tiny; column 5 is all zeros
  out[rows - 1][0] = 1e6;                                          // an outlier that comes last
  return out;
}

UnitStatistics seen_in(const Tensor& values, int64_t batch) {
  UnitStatistics out(values.size(1));
  const Tensor rows = at::arange(values.size(0), at::kLong);
  for (int64_t first = 0; first < values.size(0); first += batch)
    out.see(values.slice(0, first, first + batch), rows.slice(0, first, first + batch));
  return out;
}

// The largest error of quantiles, as a share of what is allowed.
double quantile_error(const UnitStatistics& found, const Tensor& values) {
  const Tensor truth = at::quantile(values.to(at::kDouble), at::tensor(shares, at::kDouble), 0).t();
  return ((found.quantiles(shares) - truth).abs() / found.bin_width().unsqueeze(1)).max().item<double>();
}

TEST(Statistics, AgreeWithBruteForce) {
  const int64_t rows = 777;
  const Tensor values = hard_values(rows), v = values.to(at::kDouble), r = v.clamp_min(0);
  const UnitStatistics found = seen_in(values, 50);
  EXPECT_EQ(found.count(), rows);
  EXPECT_TRUE(at::allclose(found.mean(), v.mean(0), 1e-12, 1e-30));
  EXPECT_TRUE(at::allclose(found.deviation(), (v - v.mean(0)).square().mean(0).sqrt(), 1e-10, 1e-30));
  EXPECT_TRUE(at::equal(found.least(), v.amin(0)));
  EXPECT_TRUE(at::equal(found.most(), v.amax(0)));
  EXPECT_TRUE(at::allclose(found.zero_share(), (v == 0).to(at::kDouble).mean(0), 1e-14));
  EXPECT_TRUE(at::allclose(found.positive_share(), (v > 0).to(at::kDouble).mean(0), 1e-14));
  const Tensor share = r.mean(0).square() / r.square().mean(0);
  EXPECT_TRUE(at::allclose(found.treves_rolls(), share, 1e-12, 1e-12, /*equal_nan=*/true));
  EXPECT_TRUE(at::allclose(found.sparseness(), (1 - share) / (1 - 1.0 / rows), 1e-12, 1e-12, /*equal_nan=*/true));
  EXPECT_TRUE(std::isnan(found.sparseness()[5].item<double>()));

  // Every bin holds what lies between its edges, and all bins everything.
  const Tensor edges = found.edges(), low = edges.slice(1, 0, -1).unsqueeze(2), high = edges.slice(1, 1).unsqueeze(2);
  const Tensor within = (v.t().unsqueeze(1) >= low) & (v.t().unsqueeze(1) < high);
  EXPECT_TRUE(at::equal(found.histogram(), within.sum(2)));
  EXPECT_TRUE((found.histogram().sum(1) == rows).all().item<bool>());
}

TEST(Statistics, QuantilesAreWithinABin) {
  const Tensor values = hard_values(777);
  const UnitStatistics found = seen_in(values, 50);
  EXPECT_LT(quantile_error(found, values), 1.0);
  const Tensor range = found.most() - found.least(), width = found.bin_width();
  for (const int64_t unit : {0, 1, 2, 3, 6, 7}) EXPECT_LT(width[unit].item<double>(), range[unit].item<double>() / 127) << unit;
  // Where the truth is 0 so is the answer, and the ends are exact.
  EXPECT_EQ(found.quantiles({0.25})[1].item<double>(), 0.0);
  EXPECT_EQ(found.quantiles({0.5})[5].item<double>(), 0.0);
  EXPECT_TRUE(at::equal(found.quantiles({0.0, 1.0}), at::stack({found.least(), found.most()}, 1)));
  EXPECT_EQ(found.quantiles(shares)[4].min().item<double>(), -2.5);
  // The control: quantiles of other values are not within the bound.
  EXPECT_GT(quantile_error(found, values + 3 * at::maximum(width, at::full_like(width, 1e-25))), 1.0);
}

TEST(Statistics, DependOnNeitherBatchesNorOrder) {
  const Tensor values = hard_values(400);
  const UnitStatistics whole = seen_in(values, 400);
  const Tensor order = Stream::range(8, 0, 400).uniform({}).argsort(/*stable=*/true);
  for (const UnitStatistics& other :
       {seen_in(values, 1), seen_in(values, 64), seen_in(values.flip(0), 7), seen_in(values.index_select(0, order), 33)}) {
    EXPECT_TRUE(at::equal(whole.histogram(), other.histogram()));
    EXPECT_TRUE(at::equal(whole.edges(), other.edges()));
    EXPECT_TRUE(at::equal(whole.quantiles(shares), other.quantiles(shares)));
    EXPECT_TRUE(at::allclose(whole.mean(), other.mean(), 1e-12, 1e-30));
    EXPECT_TRUE(at::allclose(whole.deviation(), other.deviation(), 1e-9, 1e-30));
  }
  // In one order the moments do not depend on the batches either, to the last bit; in another they do.
  const auto equal = [&](const UnitStatistics& other) {
    return at::equal(whole.mean(), other.mean()) && at::equal(whole.deviation(), other.deviation()) &&
           at::allclose(whole.sparseness(), other.sparseness(), 0, 0, /*equal_nan=*/true);
  };
  for (const int64_t batch : {1, 7, 64, 100}) EXPECT_TRUE(equal(seen_in(values, batch))) << batch;
  EXPECT_FALSE(equal(seen_in(values.flip(0), 64)));
}

TEST(Statistics, GoOnFromWhatWasPacked) {
  const Tensor values = hard_values(400), rows = at::arange(400, at::kLong) * 3;
  const auto see = [&](UnitStatistics& into, int64_t first, int64_t end) {
    into.see(values.slice(0, first, end), rows.slice(0, first, end));
  };
  UnitStatistics whole(8);
  see(whole, 0, 400);
  for (const int64_t cut : {1, 64, 333}) {
    UnitStatistics before(8), after(8);
    see(before, 0, cut);
    after.unpack(before.pack(), at::kCPU);
    see(after, cut, 400);
    const Tensors found = after.pack(), wanted = whole.pack();
    ASSERT_EQ(found.size(), wanted.size());
    for (const auto& [name, tensor] : wanted) EXPECT_TRUE(at::equal(found.at(name), tensor)) << name << " " << cut;
  }
}

// What shards stand on: parts that begin at multiples of 64 rows join to the same bits, wherever they are cut and however many they are.
TEST(Statistics, PartsJoinToWhatOnePassGives) {
  const Tensor values = hard_values(1000);
  // Rows with gaps, so that leaves are missing and none is at 0; the outlier lies in the last part.
  const Tensor rows = at::arange(1000, at::kLong) * 2 + at::where(at::arange(1000) < 500, 3 * 64, 9 * 64 + 5);
  const auto part = [&](int64_t begin, int64_t end) {
    UnitStatistics out(8);
    const Tensor own = ((rows >= begin) & (rows < end)).nonzero().squeeze(1);
    for (int64_t first = 0; first < own.numel(); first += 50)
      out.see(values.index_select(0, own.slice(0, first, first + 50)), rows.index_select(0, own.slice(0, first, first + 50)));
    UnitStatistics again(8);  // a part comes from a file
    again.unpack(out.pack(), at::kCPU);
    return again;
  };
  const UnitStatistics whole = part(0, 3000);
  const auto equal = [&](const UnitStatistics& other) {
    return at::equal(whole.mean(), other.mean()) && at::equal(whole.deviation(), other.deviation()) &&
           at::allclose(whole.sparseness(), other.sparseness(), 0, 0, /*equal_nan=*/true) && at::equal(whole.edges(), other.edges()) &&
           at::equal(whole.histogram(), other.histogram()) && at::equal(whole.quantiles(shares), other.quantiles(shares)) &&
           at::equal(whole.zero_share(), other.zero_share()) && whole.count() == other.count();
  };
  for (const std::vector<int64_t>& cuts : std::vector<std::vector<int64_t>>{
           {0, 64}, {0, 320}, {0, 1024}, {0, 192, 256}, {0, 704, 960, 1984}, {0, 64, 128, 256, 512, 576, 1088, 1152, 2496, 2560}}) {
    UnitStatistics joined(8);
    for (size_t i = 0; i < cuts.size(); ++i) joined.join(part(cuts[i], i + 1 < cuts.size() ? cuts[i + 1] : 3000));
    EXPECT_TRUE(equal(joined)) << cuts.size() << " parts, cut at " << cuts[1];
  }
  UnitStatistics joined(8), after = part(1024, 3000);
  const Tensor before = after.histogram();
  joined.join(part(0, 1024)), joined.join(after);
  EXPECT_TRUE(at::equal(before, after.histogram()));  // what is joined stays as it was
  // The controls: parts in another order are refused, and parts that are cut within a leaf give other bits.
  UnitStatistics late = part(1024, 3000);
  expect_refusal([&] { late.join(part(0, 1024)); }, Failure::runtime, {"behind"});
  expect_refusal(
      [&] {
        UnitStatistics first = part(0, 1030);
        first.join(part(1030, 3000));
      },
      Failure::runtime, {"behind"});
}

TEST(Statistics, SparsenessInClosedForm) {
  // One image alone; every image alike; half of four; below zero counts as silence.
  const Tensor values =
      at::tensor({0.0F, 2.0F, 1.0F, -3.0F, 0.0F, 2.0F, 1.0F, 4.0F, 5.0F, 2.0F, 0.0F, -1.0F, 0.0F, 2.0F, 0.0F, 0.0F}).view({4, 4});
  const UnitStatistics found = seen_in(values, 3);
  EXPECT_TRUE(at::allclose(found.sparseness(), at::tensor({1.0, 0.0, 2.0 / 3, 1.0}, at::kDouble)));
  EXPECT_TRUE(at::allclose(found.treves_rolls(), at::tensor({0.25, 1.0, 0.5, 0.25}, at::kDouble)));
  EXPECT_TRUE(at::allclose(found.zero_share(), at::tensor({0.75, 0.0, 0.5, 0.25}, at::kDouble)));
}

TEST(Extremes, AreThoseOfASortAndOfEqualsTheEarlier) {
  const Tensor values = (Stream::range(4, 0, 300).uniform({5}) * 20).floor().to(at::kDouble), rows = at::arange(300) * 3;
  const Tensor places = at::arange(1500).view({300, 5});
  for (const int64_t batch : {1, 7, 300}) {
    Extremes top(5, 6, Extremes::End::most), bottom(5, 6, Extremes::End::least);
    for (int64_t first = 0; first < 300; first += batch)
      for (Extremes* one : {&top, &bottom})
        one->see(values.slice(0, first, first + batch), rows.slice(0, first, first + batch), places.slice(0, first, first + batch));
    for (const auto& [one, descending] : {std::pair{&top, true}, std::pair{&bottom, false}}) {
      const auto [value, order] = at::sort(values.t(), /*stable=*/std::optional<bool>(true), 1, descending);
      const Tensor first = order.slice(1, 0, 6);
      EXPECT_TRUE(at::equal(one->values(), value.slice(1, 0, 6))) << batch;
      EXPECT_TRUE(at::equal(one->rows(), first * 3)) << batch;
      EXPECT_TRUE(at::equal(one->places(), places.t().gather(1, first))) << batch;
    }
  }
  // Parts join to the same, and a part may hold fewer images than are kept.
  for (const int64_t cut : {2, 150, 300}) {
    Extremes whole(5, 6, Extremes::End::least), first = whole, second = whole;
    whole.see(values, rows, places);
    first.see(values.slice(0, 0, cut), rows.slice(0, 0, cut), places.slice(0, 0, cut));
    second.see(values.slice(0, cut), rows.slice(0, cut), places.slice(0, cut));
    first.join(second);
    for (const auto& [name, tensor] : whole.pack()) EXPECT_TRUE(at::equal(first.pack().at(name), tensor)) << name << " " << cut;
  }
  // Fewer images than are kept.
  Extremes few(5, 6, Extremes::End::most);
  few.see(values.slice(0, 0, 2), rows.slice(0, 0, 2), {});
  EXPECT_TRUE((few.rows().slice(1, 2) == -1).all().item<bool>());
  EXPECT_TRUE(few.values().slice(1, 2).isnan().all().item<bool>());
  EXPECT_TRUE((few.places() == -1).all().item<bool>());
}

TEST(UnitValues, OfEveryLayout) {
  const Tensor map = at::sin(at::arange(2 * 8 * 6 * 6, at::kFloat) * 1.3).view({2, 8, 6, 6}), last = map.permute({0, 2, 3, 1}).contiguous();
  const Tensor tokens = last.view({2, 36, 8});
  const auto [value, place] = map.flatten(2).max(2);
  for (const auto& [a, shape] : {std::pair{map, std::vector<int64_t>{8, 6, 6}}, {last, {6, 6, 8}}, {tokens, {36, 8}}}) {
    const Layer layer{"a", "", shape, 0};
    const auto most = unit_values(a, layer, "max"), mean = unit_values(a, layer, "mean"), centre = unit_values(a, layer, "centre");
    EXPECT_TRUE(at::equal(most.first, value.to(at::kDouble)));
    EXPECT_TRUE(at::equal(most.second, place));
    EXPECT_TRUE(at::allclose(mean.first, map.to(at::kDouble).mean(at::IntArrayRef({2, 3})), 1e-12, 1e-12));
    EXPECT_FALSE(mean.second.defined());
    const int64_t usual = shape.size() == 2 ? 0 : 3 * 6 + 3;
    EXPECT_TRUE(at::equal(centre.first, tokens.select(1, usual).to(at::kDouble)));
    EXPECT_TRUE((centre.second == usual).all().item<bool>());
  }
  EXPECT_TRUE(at::equal(unit_values(tokens[0], {"a", "", {8}, 0}, "max").first, tokens[0].to(at::kDouble)));
}

// ---- The command -----------------------------------------------------------------------------------------------------------------------

constexpr int64_t side = 16, classes = 6, images_in_all = 90;
const std::vector<std::string> labels{"red line", "green line", "red disk", "green disk", "red star", "green star"};

// A folder with a tiny untrained net, a dataset and a folder of pictures.
class ExemplarsVerb : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder = fs::path(testing::TempDir()) / ("evoke_exemplars_" + std::to_string(getpid()));
    fs::create_directories(folder / "pictures" / "within" / "deeper");
    save_net("net.safetensors", 3, side);
    images = to_bytes(Stream::range(6, 0, images_in_all).uniform({3, side, side}));
    write_dataset("data.h5", images);
    // Pictures of other sizes than the net's, in folders within folders.
    for (int64_t i = 0; i < 12; ++i) {
      const std::string place = i % 3 == 0 ? "pictures/" : i % 3 == 1 ? "pictures/within/" : "pictures/within/deeper/";
      const Tensor large = images[i].repeat_interleave(2 + i % 2, 0).repeat_interleave(2, 1);
      save_png(path(place + "p" + std::to_string(10 + i) + ".png"), large);
    }
    put(folder / "pictures" / ".hidden", "no image");
    put(folder / "pictures" / "within" / "Thumbs.db", "no image either");
  }
  static void TearDownTestSuite() { remove_tree(folder); }

  static ClassifierOptions net_options(int64_t channels, int64_t size) {
    ClassifierOptions options;
    options.classes = classes, options.filters = 2, options.channels = channels, options.height = options.width = size;
    return options;
  }
  static void save_net(const std::string& name, int64_t channels, int64_t size, double spoilt = 0) {
    const ClassifierOptions options = net_options(channels, size);
    ImageSpec image;
    image.channels = channels, image.height = image.width = size;
    Network network = build_classifier(options, 1);
    if (spoilt != 0) network.weights.at("logits.bias")[2] = spoilt;
    save_classifier(path(name), options, network, labels, image);
  }
  static void write_dataset(const std::string& name, const Tensor& bytes) {
    DatasetColumns data;
    const Tensor tenth = at::arange(bytes.size(0), at::kLong).remainder(10);
    data.labels = at::arange(bytes.size(0), at::kLong).remainder(classes);
    data.split = at::where(tenth == 3, 1, at::where(tenth == 4, 2, 0)).to(at::kByte);
    data.label_names = labels;
    int64_t row = 0;
    evoke::write_dataset(
        path(name), "test", bytes.sizes().slice(1).vec(), bytes.size(0), [&] { return row < bytes.size(0) ? bytes[row++] : Tensor(); },
        [&] { return data; });
  }

  static std::string path(const std::string& name) { return (folder / name).string(); }
  static Outcome exemplars(const std::string& data, const std::string& out, std::vector<std::string> more = {}) {
    std::vector<std::string> words{"exemplars", path("net.safetensors"), path(data), "--out", path(out), "-q", "--threads", "1", "--device",
                                   "cpu"};
    words.insert(words.end(), more.begin(), more.end());
    return evoke_command(words);
  }
  // Refused, and nothing left behind where nothing was begun.
  static void expect_refusal(const Outcome& outcome, int code, const std::string& saying) {
    EXPECT_EQ(outcome.code, code) << outcome.err;
    EXPECT_EQ(outcome.out, "");
    EXPECT_TRUE(outcome.err.starts_with("evoke: ")) << outcome.err;
    EXPECT_NE(outcome.err.find(saying), std::string::npos) << outcome.err << "does not say: " << saying;
    EXPECT_FALSE(fs::exists(folder / "no"));
  }

  // What the net answers to these images, a batch at a time as the command takes them.
  static Activations answers(const Tensor& bytes, int64_t batch = 64) {
    const c10::NoGradGuard no_gradient;
    const Classifier net = load_classifier(path("net.safetensors"));
    std::map<std::string, std::vector<Tensor>> parts;
    for (int64_t first = 0; first < bytes.size(0); first += batch)
      for (const auto& [name, a] : net.forward(from_bytes(bytes.slice(0, first, first + batch)), {"conv3", "logits"}))
        parts[name].push_back(a);
    Activations out;
    for (const auto& [name, a] : parts) out[name] = at::cat(a);
    return out;
  }

  // Top, bottom and statistics of a layer against what a sort of all values says.
  static void expect_layer(const Hdf5& file, const std::string& layer, const Tensor& values, const Tensor& rows, int64_t keep) {
    const std::string group = "/" + layer + "/";
    for (const auto& [end, descending] : {std::pair{"top/", true}, std::pair{"bottom/", false}}) {
      const auto [value, order] = at::sort(values.t(), /*stable=*/std::optional<bool>(true), 1, descending);
      EXPECT_TRUE(at::equal(file.read(group + end + "activation"), value.slice(1, 0, keep).to(at::kFloat))) << layer << end;
      EXPECT_TRUE(at::equal(file.read(group + end + "rows"), rows.index_select(0, order.slice(1, 0, keep).flatten()).view({-1, keep})))
          << layer << end;
    }
    EXPECT_TRUE(at::allclose(file.read(group + "mean"), values.mean(0), 1e-12, 1e-14));
    EXPECT_TRUE(at::allclose(file.read(group + "deviation"), values.std(0, /*unbiased=*/false), 1e-10, 1e-14));
    EXPECT_TRUE(at::equal(file.read(group + "min"), values.amin(0)));
    EXPECT_TRUE(at::equal(file.read(group + "max"), values.amax(0)));
    const Tensor truth = at::quantile(values, at::tensor(shares, at::kDouble), 0).t();
    EXPECT_TRUE(((file.read(group + "quantiles") - truth).abs() < file.read(group + "bin_width").unsqueeze(1)).all().item<bool>());
    EXPECT_TRUE((file.read(group + "histogram").sum(1) == values.size(0)).all().item<bool>());
  }

  static inline fs::path folder;
  static inline Tensor images;
};

TEST_F(ExemplarsVerb, AgreesWithBruteForce) {
  const Outcome outcome = exemplars("data.h5", "brute", {"--layers", "conv3", "logits", "--keep", "5"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.err, "");
  const Activations a = answers(images);
  const auto [most, place] = a.at("conv3").flatten(2).max(2);
  const Hdf5 file = Hdf5::open(path("brute/exemplars.h5"));
  const Tensor rows = at::arange(images_in_all);
  expect_layer(file, "conv3", most.to(at::kDouble), rows, 5);
  expect_layer(file, "logits", a.at("logits").to(at::kDouble), rows, 5);

  // Where the maximum was.
  const Tensor top = file.read("/conv3/top/rows"), at_place = place.t().gather(1, top);
  const int64_t width = a.at("conv3").size(3);
  EXPECT_TRUE(at::equal(file.read("/conv3/top/y"), at_place.div(width, "floor")));
  EXPECT_TRUE(at::equal(file.read("/conv3/top/x"), at_place.remainder(width)));
  EXPECT_TRUE((file.read("/logits/top/y") == -1).all().item<bool>());

  // The control: the values of another layer's units would not do.
  const Tensor wrong = std::get<0>(most.flip(1).to(at::kDouble).t().topk(5));
  EXPECT_FALSE(at::equal(file.read("/conv3/top/activation"), wrong.to(at::kFloat)));

  EXPECT_EQ(file.attribute("format"), "evoke exemplars");
  for (const char* name : {"config.toml", "manifest.json", "conv3.png", "logits.png"})
    EXPECT_TRUE(fs::exists(folder / "brute" / name)) << name;
  EXPECT_NE(outcome.out.find("logits:4 red star"), std::string::npos) << outcome.out;
  EXPECT_NE(outcome.out.find(path("brute/conv3.png")), std::string::npos) << outcome.out;
  EXPECT_EQ(nlohmann::json::parse(content(folder / "brute/manifest.json"))["status"], "done");
}

// As far as the network answers alike, which it does to about seven digits.
TEST_F(ExemplarsVerb, BatchesChangeTheLastBitsAtMost) {
  ASSERT_EQ(exemplars("data.h5", "batch64", {"--layers", "conv3"}).code, 0);
  ASSERT_EQ(exemplars("data.h5", "batch1", {"--layers", "conv3", "--batch", "1"}).code, 0);
  const Hdf5 many = Hdf5::open(path("batch64/exemplars.h5")), one = Hdf5::open(path("batch1/exemplars.h5"));
  for (const char* name : {"top/rows", "bottom/rows", "top/y", "top/x"})
    EXPECT_TRUE(at::equal(many.read(std::string("/conv3/") + name), one.read(std::string("/conv3/") + name))) << name;
  for (const char* name : {"top/activation", "mean", "deviation", "quantiles", "sparseness", "edges"})
    EXPECT_TRUE(at::allclose(many.read(std::string("/conv3/") + name), one.read(std::string("/conv3/") + name), 1e-5, 1e-6)) << name;
}

TEST_F(ExemplarsVerb, MeanAndCentre) {
  const Tensor a = answers(images).at("conv3").to(at::kDouble);
  for (const auto& [of, values] :
       {std::pair{"mean", a.mean(at::IntArrayRef({2, 3}))}, std::pair{"centre", a.select(2, a.size(2) / 2).select(2, a.size(3) / 2)}}) {
    ASSERT_EQ(exemplars("data.h5", of, {"--layers", "conv3", "--of", of}).code, 0);
    const Hdf5 file = Hdf5::open(path(std::string(of) + "/exemplars.h5"));
    EXPECT_TRUE(at::allclose(file.read("/conv3/mean"), values.mean(0), 1e-6, 1e-8)) << of;
    EXPECT_TRUE(at::equal(file.read("/conv3/top/rows"), std::get<1>(values.t().topk(9)))) << of;
    EXPECT_EQ(file.read("/conv3/top/y")[0][0].item<int64_t>(), std::string(of) == "mean" ? -1 : a.size(2) / 2);
  }
}

TEST_F(ExemplarsVerb, ASplitIsItsImagesAlone) {
  ASSERT_EQ(exemplars("data.h5", "train", {"--split", "train", "--keep", "80"}).code, 0);
  const Tensor tenth = at::arange(images_in_all).remainder(10), train = ((tenth != 3) & (tenth != 4)).nonzero().squeeze(1);
  const Hdf5 file = Hdf5::open(path("train/exemplars.h5"));
  const Tensor found = file.read("/logits/top/rows");
  EXPECT_EQ(found.size(1), 80);
  // 72 images for 80 places: every image once, the rest empty.
  EXPECT_TRUE(at::equal(std::get<0>(found[0].slice(0, 0, 72).sort()), train));
  EXPECT_TRUE((found.slice(1, 72) == -1).all().item<bool>());
  EXPECT_EQ(file.attribute("images"), "72");
  EXPECT_LT(load_image(path("train/logits.png")).size(1), 40 * 120);  // the sheet shows fewer than are kept
  EXPECT_EQ(file.read("/logits/count")[0].item<int64_t>(), 72);
}

TEST_F(ExemplarsVerb, AFolderIsLookedThrough) {
  const Outcome outcome = exemplars("pictures", "of_folder", {"--layers", "logits", "--keep", "2", "--json"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const auto object = nlohmann::json::parse(outcome.out);
  EXPECT_EQ(object["images"], 12);
  const Hdf5 file = Hdf5::open(path("of_folder/exemplars.h5"));
  const std::vector<std::string> paths = file.read_text("/paths");
  ASSERT_EQ(paths.size(), 12u);
  EXPECT_TRUE(std::is_sorted(paths.begin(), paths.end()));
  std::vector<Tensor> fitted;
  for (const std::string& name : paths) fitted.push_back(fit_image(load_image(name), side, side));
  const Tensor values = answers(at::stack(fitted)).at("logits").to(at::kDouble);
  expect_layer(file, "logits", values, at::arange(12), 2);
  EXPECT_EQ(object["units"][0]["top"][0], values.select(1, 0).argmax().item<int64_t>());
  EXPECT_EQ(object["units"][0]["top_files"][0], paths[static_cast<size_t>(values.select(1, 0).argmax().item<int64_t>())]);

  // A torn file is named, or left out aloud.
  put(folder / "pictures" / "within" / "torn.png", content(paths[0]).substr(0, 60));
  expect_refusal(exemplars("pictures", "torn"), 3, "torn.png");  // and says how to go on without it
  EXPECT_EQ(nlohmann::json::parse(content(folder / "torn/manifest.json"))["status"], "failed");
  EXPECT_FALSE(fs::exists(folder / "torn" / "exemplars.h5"));
  const Outcome skipping = exemplars("pictures", "skipping", {"--layers", "logits", "--keep", "2", "--skip-broken"});
  ASSERT_EQ(skipping.code, 0) << skipping.err;
  EXPECT_NE(skipping.err.find("torn.png"), std::string::npos);
  const Hdf5 skipped = Hdf5::open(path("skipping/exemplars.h5"));
  EXPECT_TRUE(at::equal(skipped.read("/logits/top/activation"), file.read("/logits/top/activation")));
  EXPECT_EQ(skipped.read_text("/paths").size(), 13u);
  fs::remove(folder / "pictures" / "within" / "torn.png");

  fs::create_directories(folder / "empty" / "within");
  expect_refusal(exemplars("empty", "no"), 3, "no image");
  expect_refusal(exemplars("pictures", "no", {"--split", "train"}), 2, "no splits");
}

TEST_F(ExemplarsVerb, TheSameCommandTwiceGivesTheSameBytes) {
  for (const char* out : {"first/run", "second/run"}) ASSERT_EQ(exemplars("data.h5", out, {"--layers", "conv3"}).code, 0);
  for (const char* name : {"exemplars.h5", "conv3.png", "config.toml"})
    EXPECT_TRUE(content(folder / "first/run" / name) == content(folder / "second/run" / name)) << name;
  // Done is done; another question needs another folder.
  const Outcome again = exemplars("data.h5", "first/run", {"--layers", "conv3"});
  EXPECT_EQ(again.code, 0);
  EXPECT_NE(again.out.find("conv3:7"), std::string::npos);
  expect_refusal(exemplars("data.h5", "first/run", {"--layers", "conv3", "--keep", "3"}), 2, path("first/run"));
  // A run that was interrupted begins again and ends as if it had not been.
  auto manifest = nlohmann::json::parse(content(folder / "first/run/manifest.json"));
  manifest["status"] = "interrupted";
  put(folder / "first/run/manifest.json", signed_manifest(manifest));
  fs::remove(folder / "first/run/exemplars.h5");
  ASSERT_EQ(exemplars("data.h5", "first/run", {"--layers", "conv3"}).code, 0);
  EXPECT_TRUE(content(folder / "first/run/exemplars.h5") == content(folder / "second/run/exemplars.h5"));
}

TEST_F(ExemplarsVerb, UnitsChooseWhatIsShown) {
  const auto shown = [](const Outcome& outcome) {
    std::vector<std::string> out;
    const auto found = nlohmann::json::parse(outcome.out);
    for (const auto& unit : found["units"]) out.push_back(unit["unit"]);
    return out;
  };
  using Names = std::vector<std::string>;
  EXPECT_EQ(shown(exemplars("data.h5", "units1", {"--json", "--layers", "conv3:2-3", "red star"})),
            (Names{"conv3:2", "conv3:3", "logits:4"}));
  EXPECT_EQ(shown(exemplars("data.h5", "units2", {"--json", "--units", "conv3:7"})), (Names{"conv3:7"}));
  EXPECT_EQ(shown(exemplars("data.h5", "units3", {"--json"})).size(), 6u);
  // The file has every unit of the layer nevertheless.
  EXPECT_EQ(Hdf5::open(path("units2/exemplars.h5")).shape("/conv3/top/rows"), (std::vector<int64_t>{8, 9}));
}

TEST_F(ExemplarsVerb, ARunsPicturesStandBeside) {
  put(folder / "recipe.toml",
      "[classifier]\nweights = \"net.safetensors\"\n[generator]\nkind = \"pixel\"\n[objective]\nkind = \"unit\"\nunits = [\"conv3:1\", "
      "\"conv3:4\"]\n[sampler]\nkind = \"ascent\"\n[run]\nchains = 2\nsteps = 3\n");
  const Outcome made = evoke_command({"sample", path("recipe.toml"), "--out", path("made"), "-q", "--device", "cpu"});
  ASSERT_EQ(made.code, 0) << made.err;
  const Outcome outcome = exemplars("data.h5", "beside", {"--beside", path("made"), "--keep", "3", "--json"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(nlohmann::json::parse(outcome.out)["units"].size(), 2u);
  ASSERT_EQ(exemplars("data.h5", "alone", {"--units", "conv3:1", "conv3:4", "--keep", "3"}).code, 0);
  const Tensor with = load_image(path("beside/conv3.png")), without = load_image(path("alone/conv3.png"));
  EXPECT_EQ(with.size(0), without.size(0));
  EXPECT_GT(with.size(1), without.size(1) + 2 * side);

  // The run's pictures are measured as the real ones are: their maximum over places, though the run's objective was another.
  const Results run = load_results(path("made"));
  const Hdf5 file = Hdf5::open(path("beside/exemplars.h5"));
  const Tensor most = std::get<0>(answers(run.images).at("conv3").flatten(2).max(2));
  EXPECT_TRUE(at::equal(file.read("/conv3/beside/unit"), at::tensor({1, 1, 4, 4}, at::kLong)));
  EXPECT_TRUE(at::allclose(file.read("/conv3/beside/activation"), most.gather(1, file.read("/conv3/beside/unit").unsqueeze(1)).squeeze(1)));
  EXPECT_FALSE(at::allclose(file.read("/conv3/beside/activation"), run.activation));
  expect_refusal(exemplars("data.h5", "no", {"--beside", path("made"), "--layers", "logits"}), 2, "--beside");
  expect_refusal(exemplars("data.h5", "no", {"--beside", path("nowhere")}), 3, "nowhere");
}

TEST_F(ExemplarsVerb, OtherSizesAreResampledAndOtherChannelsRefused) {
  const Tensor larger = images.slice(0, 0, 10).repeat_interleave(2, 1).repeat_interleave(2, 2);
  write_dataset("larger.h5", larger);
  const Outcome outcome = exemplars("larger.h5", "larger");
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_NE(outcome.err.find("resampled"), std::string::npos) << outcome.err;
  write_dataset("gray.h5", images.slice(3, 0, 1).contiguous());
  expect_refusal(exemplars("gray.h5", "no"), 3, "channels");
}

TEST_F(ExemplarsVerb, Refusals) {
  expect_refusal(exemplars("data.h5", "no", {"--layers", "conv33"}), 2, "did you mean 'conv3'");
  expect_refusal(exemplars("data.h5", "no", {"--units", "conv3:8"}), 2, "the units 0 to 7");
  expect_refusal(exemplars("data.h5", "no", {"--units", "conv3:1@0,0"}), 2, "leave it out");
  expect_refusal(exemplars("data.h5", "no", {"--split", "trian"}), 2, "--split");
  expect_refusal(exemplars("data.h5", "no", {"--keep", "0"}), 2, "--keep");
  expect_refusal(exemplars("data.h5", "no", {"--of", "median"}), 2, "--of");
  expect_refusal(exemplars("nowhere.h5", "no"), 3, "nowhere.h5");
  expect_refusal(exemplars("net.safetensors", "no"), 3, "net.safetensors");
  expect_refusal(exemplars("data.h5", "no", {"--set", "exemplars.kep=3"}), 2, "did you mean 'keep'");
  expect_refusal(exemplars("data.h5", "no", {"--set", "classifier.wights=x"}), 2, "did you mean 'weights'");
  expect_refusal(evoke_command({"exemplars", path("data.h5"), path("data.h5"), "--out", path("no")}), 3, "data.h5");
  expect_refusal(evoke_command({"exemplars", path("net.safetensors"), path("data.h5")}), 2, "--out");
  fs::create_directories(folder / "mine");
  put(folder / "mine" / "letter.txt", "dear all");
  expect_refusal(exemplars("data.h5", "mine"), 2, path("mine"));
  EXPECT_EQ(content(folder / "mine" / "letter.txt"), "dear all");
  put(folder / "cut.h5", content(folder / "data.h5").substr(0, 900));
  expect_refusal(exemplars("cut.h5", "no"), 3, "cut.h5");
}

TEST_F(ExemplarsVerb, ValuesThatAreNotFiniteAreNamed) {
  save_net("spoilt.safetensors", 3, side, std::nan(""));
  const Outcome outcome = evoke_command({"exemplars", path("spoilt.safetensors"), path("data.h5"), "--out", path("spoilt"), "-q"});
  expect_refusal(outcome, 1, "unit logits:2 answers nan to image 0");
  EXPECT_FALSE(fs::exists(folder / "spoilt" / "exemplars.h5"));
  EXPECT_FALSE(fs::exists(folder / "spoilt" / "logits.png"));
}

TEST_F(ExemplarsVerb, ADatasetOfPhotographsKnowsTheirFiles) {
  fs::create_directories(folder / "photographs" / "dogs");
  for (int64_t i = 0; i < 3; ++i) save_png(path("photographs/dogs/d" + std::to_string(i) + ".png"), images[i]);
  ASSERT_EQ(evoke_command({"data", "folder", path("photographs"), "--size", "16", "--out", path("photographs.h5"), "-q"}).code, 0);
  const Outcome outcome = exemplars("photographs.h5", "of_photographs", {"--keep", "2"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_NE(outcome.out.find("dogs/d"), std::string::npos) << outcome.out;
  const auto unit = nlohmann::json::parse(content(folder / "of_photographs/manifest.json"))["units"][0];
  EXPECT_EQ(unit["top_files"][0], "dogs/d" + std::to_string(unit["top"][0].get<int64_t>()) + ".png");
}

// The shards of a run, merged, are the run that one process writes, to the last byte of what is no time.
TEST_F(ExemplarsVerb, MergedShardsAreTheWholeRun) {
  write_dataset("many.h5", images.repeat({20, 1, 1, 1}));
  fs::create_directories(folder / "album");
  for (int64_t i = 0; i < 150; ++i) save_png(path("album/p" + std::to_string(1000 + i) + ".png"), images[i % images_in_all].clone());
  put(folder / "album" / "p1070.png", "torn");
  struct Case {
    std::string name, data;
    int64_t shards;
    std::vector<std::string> words;
  };
  for (const Case& one :
       {Case{"all", "many.h5", 4, {"--layers", "conv3", "logits"}}, Case{"train", "many.h5", 3, {"--split", "train", "--keep", "700"}},
        Case{"odd", "many.h5", 2, {"--batch", "192"}}, Case{"files", "album", 3, {"--skip-broken", "--keep", "4"}}}) {
    const std::string root = "sharded/" + one.name;
    ASSERT_EQ(exemplars(one.data, root + "/whole/run", one.words).code, 0);
    std::vector<std::string> merge{"merge", "--out", path(root + "/merged/run"), "-q"};
    for (int64_t i = one.shards; i-- > 0;) {
      std::vector<std::string> words = one.words;
      words.insert(words.end(), {"--shard", text(i, "/", one.shards)});
      for (int again = 0; again < 2; ++again) {
        const Outcome shard = exemplars(one.data, text(root, "/", i), words);
        ASSERT_EQ(shard.code, 0) << shard.err;
      }
      EXPECT_FALSE(fs::exists(folder / root / std::to_string(i) / "exemplars.h5"));
      merge.push_back(path(text(root, "/", i)));
    }
    for (int again = 0; again < 2; ++again) {
      const Outcome merged = evoke_command(merge);
      ASSERT_EQ(merged.code, 0) << merged.err;
    }
    int compared = 0;
    for (const auto& entry : fs::directory_iterator(folder / root / "whole/run")) {
      const fs::path other = folder / root / "merged/run" / entry.path().filename();
      if (entry.path().filename() == "manifest.json") {
        auto whole = nlohmann::json::parse(content(entry.path())), merged = nlohmann::json::parse(content(other));
        for (const char* time : {"begun", "ended", "seconds", "peak_memory_mib", "sha256"}) whole.erase(time), merged.erase(time);
        EXPECT_EQ(whole, merged) << one.name;
      } else {
        EXPECT_TRUE(content(entry.path()) == content(other)) << other;
      }
      ++compared;
    }
    EXPECT_EQ(compared, std::distance(fs::directory_iterator(folder / root / "merged/run"), fs::directory_iterator())) << one.name;
  }
  const std::string zero = path("sharded/all/0"), one = path("sharded/all/1"), two = path("sharded/all/2"), three = path("sharded/all/3");
  expect_refusal(evoke_command({"merge", zero, one, two, "--out", path("no")}), 3, "3/4");
  expect_refusal(evoke_command({"merge", zero, one, two, path("sharded/train/0"), "--out", path("no")}), 3, "another recipe");
  expect_refusal(exemplars("many.h5", "no", {"--shard", "0/5"}), 2, "expected at most 4: images are dealt out 512 at a time");
  expect_refusal(exemplars("many.h5", "no", {"--shard", "4/4"}), 2, "i/n");
  expect_refusal(exemplars("many.h5", "sharded/all/1", {"--layers", "conv3", "logits", "--shard", "2/4"}), 2, "found shard 1/4");
  expect_refusal(exemplars("many.h5", "sharded/all/1", {"--layers", "conv3", "logits"}), 2, "found shard 1/4 of this run, expected 0/1");
  // The images changed after the shards were made.
  write_dataset("many.h5", images.repeat({19, 1, 1, 1}));
  expect_refusal(evoke_command({"merge", zero, one, two, three, "--out", path("no")}), 3, "have changed since");
}

// A pass that is interrupted again and again, or killed, ends in the same bytes.
TEST_F(ExemplarsVerb, AnInterruptedPassGoesOn) {
  if (!fs::exists(EVOKE_BINARY "/evoke")) GTEST_SKIP() << "the program is not built";
  write_dataset("long.h5", images.repeat({100, 1, 1, 1}));
  const auto begin = [](const std::string& out) {
    const std::string program = EVOKE_BINARY "/evoke";
    std::vector<std::string> words{program,
                                   "exemplars",
                                   path("net.safetensors"),
                                   path("long.h5"),
                                   "--layers",
                                   "conv3",
                                   "--split",
                                   "train",
                                   "--batch",
                                   "1",
                                   "--out",
                                   path(out),
                                   "--threads",
                                   "1"};
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    posix_spawn_file_actions_t quiet;
    posix_spawn_file_actions_init(&quiet);
    posix_spawn_file_actions_addopen(&quiet, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&quiet, 2, "/dev/null", O_WRONLY, 0);
    pid_t child = -1;
    EXPECT_EQ(posix_spawn(&child, argv[0], &quiet, nullptr, argv.data(), environ), 0);
    posix_spawn_file_actions_destroy(&quiet);
    return child;
  };
  const auto end = [](pid_t child) {
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  };
  ASSERT_EQ(end(begin("untouched")), 0);
  EXPECT_FALSE(fs::exists(folder / "untouched" / "checkpoint.safetensors"));

  std::vector<int> codes;
  for (const int signal : {SIGINT, SIGTERM, SIGKILL, SIGINT}) {
    const pid_t child = begin("stopped");
    for (int i = 0; i < 1200 && !fs::exists(folder / "stopped" / "manifest.json"); ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    std::this_thread::sleep_for(std::chrono::milliseconds(250));
    kill(child, signal);
    codes.push_back(end(child));
    if (codes.back() != 130) continue;
    EXPECT_EQ(nlohmann::json::parse(content(folder / "stopped/manifest.json"))["status"], "interrupted");
    EXPECT_FALSE(fs::exists(folder / "stopped" / "exemplars.h5"));
  }
  EXPECT_EQ(codes[0], 130);
  ASSERT_EQ(end(begin("stopped")), 0);
  for (const char* name : {"exemplars.h5", "conv3.png"})
    EXPECT_TRUE(content(folder / "stopped" / name) == content(folder / "untouched" / name)) << name;
}

}  // namespace
}  // namespace evoke
