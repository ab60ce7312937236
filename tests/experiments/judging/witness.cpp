// needs: files
// A witness: its features by the definition, what it refuses, and what it says of pictures that are real and that are none.
#include "experiments/judging/witness.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "classifiers/networks.h"
#include "classifiers/objectives.h"
#include "core/error.h"
#include "core/log.h"
#include "core/numbers/stream.h"
#include "core/records/pictures.h"
#include "core/records/results.h"
#include "core/records/run_directory.h"
#include "experiments/judge.h"
#include "tests/experiments/outcome.h"
#include "training/datasets/dataset.h"
#include "training/datasets/shapes.h"

namespace evoke {
namespace {

std::vector<Layer> layers_of(const std::vector<std::string>& names) {
  std::vector<Layer> out;
  for (const std::string& name : names) out.push_back({name, "", {4, 8, 8}, 0});
  return out;
}

TEST(Depths, BlocksAreTakenWhereNamesSaySo) {
  // As EfficientNet's names: the stem, blocks with parts inside, and the head, which have some inside, too.
  std::vector<std::string> names{"stem.pad", "stem"};
  for (int block = 0; block < 7; ++block)
    for (const char* part : {".conv.pad", ".conv", ".bn", ""}) names.push_back("blocks." + std::to_string(block) + part);
  const std::vector<std::string> found = depth_candidates(layers_of(names), 12);
  EXPECT_EQ(found, (std::vector<std::string>{"stem", "blocks.0", "blocks.1", "blocks.2", "blocks.3", "blocks.4", "blocks.5", "blocks.6"}));
  // At most so many, evenly, both ends among them.
  EXPECT_EQ(depth_candidates(layers_of(names), 3), (std::vector<std::string>{"stem", "blocks.3", "blocks.6"}));
  // Without blocks every layer of a map; a dense one is none.
  std::vector<Layer> plain = layers_of({"conv1", "relu1", "conv2"});
  plain.push_back({"logits", "", {10}, 0});
  EXPECT_EQ(depth_candidates(plain, 12), (std::vector<std::string>{"conv1", "relu1", "conv2"}));
}

TEST(Depths, FeaturesAreMeansDeviationsAndAgreementOfNeighbours) {
  const Layer layer{"conv", "", {2, 3, 4}, 0};
  Stream stream = Stream::range(1, 0, 2);
  const Tensor a = stream.normal({2, 3, 4});
  const Tensor found = depth_features(a, layer);
  ASSERT_EQ(found.sizes(), (std::vector<int64_t>{2, 8}));
  for (int64_t row = 0; row < 2; ++row)
    for (int64_t channel = 0; channel < 2; ++channel) {
      const Tensor map = a[row][channel].to(at::kDouble);
      const double mean = map.mean().item<double>(), variance = (map - mean).square().mean().item<double>();
      double across = 0, down = 0;
      for (int64_t y = 0; y < 3; ++y)
        for (int64_t x = 0; x < 4; ++x) {
          const double here = map[y][x].item<double>() - mean;
          if (x < 3) across += here * (map[y][x + 1].item<double>() - mean) / 9;
          if (y < 2) down += here * (map[y + 1][x].item<double>() - mean) / 8;
        }
      EXPECT_NEAR(found[row][channel].item<double>(), mean, 1e-6);
      EXPECT_NEAR(found[row][2 + channel].item<double>(), std::sqrt(variance), 1e-6);
      EXPECT_NEAR(found[row][4 + channel].item<double>(), across / variance, 1e-4);
      EXPECT_NEAR(found[row][6 + channel].item<double>(), down / variance, 1e-4);
    }
  // Channels last says the same; a map that does not vary says nothing and is no NaN.
  const Tensor square = at::cat({a, a, a}, 2).slice(2, 0, 4);  // [2,2,4,4]
  EXPECT_TRUE(at::allclose(depth_features(square, {"a", "", {2, 4, 4}, 0}),
                           depth_features(square.permute({0, 2, 3, 1}), {"a", "", {4, 4, 2}, 0}), 1e-5, 1e-6));
  EXPECT_FALSE(depth_features(at::ones({1, 2, 3, 4}), layer).isnan().any().item<bool>());
}

TEST(Anchors, ScrambledPhasesKeepTheAmplitudes) {
  Stream pixels = Stream::range(1, 0, 3), phases = Stream::range(2, 0, 3);
  const Tensor x = 0.5 + 0.02 * pixels.normal({3, 16, 12});  // far from what is clipped
  const Tensor scrambled = phase_scrambled(x, phases);
  EXPECT_GT((scrambled - x).abs().max().item<float>(), 0.01f);
  const auto amplitudes = [](const Tensor& images) { return at::fft_rfft2(images).abs(); };
  EXPECT_LT((amplitudes(scrambled) - amplitudes(x)).abs().max().item<float>(), 1e-3f);
  // One draw a picture, the same for its channels: what channels share they go on sharing.
  const Tensor grey = x.slice(1, 0, 1).expand({3, 3, 16, 12});
  Stream again = Stream::range(2, 0, 3);
  const Tensor still = phase_scrambled(grey, again);
  EXPECT_TRUE(at::allclose(still.select(1, 0), still.select(1, 2), 0, 1e-5));
}

// ---- From end to end -------------------------------------------------------------------------------------------------------------------

// std::filesystem::remove_all resolves to a copy inside libtorch.so that calls a null pointer.
void remove_tree(const std::filesystem::path& path) {
  if (std::filesystem::is_directory(std::filesystem::symlink_status(path)))
    for (const auto& entry : std::filesystem::directory_iterator(path)) remove_tree(entry.path());
  std::filesystem::remove(path);
}

// With --data in place of photographs there is no place for it, and the key knows nothing of the dataset.
TEST(Remembered, NothingWithoutPhotographs) {
  int made = 0;
  const auto make = [&] { return ++made, Tensors{{"count", at::full({1}, made)}}; };
  for (int64_t time = 1; time <= 2; ++time) EXPECT_EQ(remembered(Witness{}, "scores", make).at("count").item<int64_t>(), time);
}

const std::string weights = EVOKE_SOURCE "/experiments/weights/";

// Renders of the shapes dataset count as photographs; the shipped classifier is the target, the shipped oracle the witness.
class WitnessEndToEnd : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    set_verbosity(Verbosity::quiet);
    folder = ::testing::TempDir() + "evoke_witness_" + std::to_string(getpid());
    std::filesystem::create_directories(folder);
    write_shapes(folder + "/photographs.h5", 5, 600);
    write_shapes(folder + "/few.h5", 5, 40);
  }
  static void TearDownTestSuite() { remove_tree(folder); }

  // A run whose first half are real images of its units, and whose second half is noise.
  static std::string made_run() {
    const std::string run = folder + "/run";
    if (std::filesystem::exists(run)) return run;
    std::filesystem::create_directories(run);
    RunDirectory directory = RunDirectory::open(run, "sample", "[classifier]\nweights = \"" + weights + "classifier.safetensors\"\n");
    write_shapes(folder + "/others.h5", 6, 300);
    const Dataset others = open_dataset(folder + "/others.h5");
    Stream stream = Stream::range(1, 0, 30);
    Results results;
    results.images = at::cat({others.images.read(at::arange(30, at::kLong)), to_bytes(stream.uniform({3, 48, 48}))});
    for (int64_t i = 0; i < 60; ++i) {
      results.columns.push_back(column_of({"logits", others.labels[i % 30].item<int64_t>()}));
      results.labels.emplace_back();
      results.status.emplace_back("ok");
    }
    results.codes = at::zeros({60, 1});
    results.chain = at::arange(60, at::kLong);
    results.activation = at::zeros({60});
    write_results(run + "/results.h5", results);
    directory.finish("done");
    return run;
  }
  static Outcome judged(std::vector<std::string> more) {
    std::vector<std::string> words{"judge", made_run(), "--json", "-q", "--device", "cpu"};
    words.insert(words.end(), more.begin(), more.end());
    return evoke_command(words);
  }
  static std::string folder;
};
std::string WitnessEndToEnd::folder;

TEST_F(WitnessEndToEnd, TellsRealImagesFromNoise) {
  const std::vector<std::string> flags{"--witness", weights + "oracle.safetensors", "--photographs", folder + "/photographs.h5"};
  const Outcome first = judged(flags);
  ASSERT_EQ(first.code, 0) << first.err;
  const nlohmann::json said = nlohmann::json::parse(first.out), &table = said["table"];
  ASSERT_EQ(table.size(), 5U);
  EXPECT_EQ(table[1]["name"], "photographs left out");
  EXPECT_EQ(table[2]["name"], "phase-scrambled");
  EXPECT_EQ(table[3]["name"], "noise");
  EXPECT_EQ(table[4]["name"], "pixel ascent");
  EXPECT_GE(table[1]["witness"]["top1"]["value"].get<double>(), 0.95);
  EXPECT_LE(table[3]["witness"]["top1"]["value"].get<double>(), 0.5);

  // Every depth was tried, and used where it tells the anchors apart.
  size_t used = 0;
  for (const nlohmann::json& depth : said["depths"]) {
    const bool separates = depth["photographs_left_out"].get<double>() >= 0.9 && depth["phase_scrambled"].get<double>() <= 0.1 &&
                           depth["noise"].get<double>() <= 0.1;
    EXPECT_EQ(depth["used"].get<bool>(), separates) << depth;
    used += separates ? 1 : 0;
    EXPECT_LE(table[0]["path_at"][depth["depth"].get<std::string>()]["value"].get<double>(), 1.0);
  }
  ASSERT_GE(used, 1U) << said["depths"];
  // Half of the run is real.
  EXPECT_GT(table[0]["path"]["value"].get<double>(), 0.3);
  EXPECT_LE(table[0]["path"]["value"].get<double>(), 0.55);
  EXPECT_LT(table[3]["path"]["value"].get<double>(), 0.1);
  EXPECT_LT(table[1]["frechet"]["value"].get<double>(), table[3]["frechet"]["value"].get<double>());
  EXPECT_GT(table[1]["precision"]["value"].get<double>(), table[3]["precision"]["value"].get<double>());
  EXPECT_NEAR(table[3]["spectrum"]["value"].get<double>(), 0, 0.3);
  EXPECT_LT(table[1]["spectrum"]["value"].get<double>(), -1);

  // On its way through the target itself the half that is real passes what excites its units, and noise does not.
  EXPECT_NEAR(table[0]["target_path"]["value"].get<double>(), 0.5, 0.1);
  EXPECT_GE(table[1]["target_path"]["value"].get<double>(), 0.9);
  EXPECT_LE(table[3]["target_path"]["value"].get<double>(), 0.1);
  ASSERT_EQ(said["target_depths"].size(), 5U);
  for (const nlohmann::json& depth : said["target_depths"])
    EXPECT_EQ(depth["used"].get<bool>(), depth["left_out"].get<double>() >= 0.9 && depth["phase_scrambled"].get<double>() <= 0.1 &&
                                             depth["noise"].get<double>() <= 0.1);
  EXPECT_TRUE(said["off_path"].is_array());
  std::vector<std::string> without = flags;
  without.emplace_back("--no-target-path");
  const nlohmann::json short_table = nlohmann::json::parse(judged(without).out);
  EXPECT_FALSE(short_table["table"][0].contains("target_path") || short_table.contains("off_path"));
  EXPECT_EQ(short_table["table"][0]["path"], table[0]["path"]);
  EXPECT_EQ(judged(flags).out, first.out);

  // What was found is stored with the run, and again the same is said, from what is kept.
  const auto [names, findings] = stored_judgement(made_run());
  EXPECT_NE(names.find("witness"), std::string::npos) << names;
  EXPECT_EQ(findings.at("path").size(0), 60);
  EXPECT_FALSE(std::filesystem::is_empty(folder + "/photographs.h5.judged"));
  const Outcome second = judged(flags);
  EXPECT_EQ(second.out, first.out);
  // In words.
  std::vector<std::string> words{"judge", "-q", "--device", "cpu"};
  words.insert(words.end(), flags.begin(), flags.end());
  words.insert(words.end(), {"--layers", "block2", "--layers", "block3", made_run()});
  const Outcome read = evoke_command(words);
  EXPECT_EQ(read.code, 0) << read.err;
  for (const char* word : {"witness [95 %]", "path [95 %]", "share inside at", "| block3 ", "| block3 means ", "pixel ascent"})
    EXPECT_NE(read.out.find(word), std::string::npos) << read.out;
}

TEST_F(WitnessEndToEnd, TheBestPhotographsStandBesideThePictures) {
  // Of the test split, those whose logit is the largest.
  const std::string photographs = folder + "/photographs.h5", classifier = weights + "classifier.safetensors";
  const Dataset dataset = open_dataset(photographs);
  const std::vector<Column> columns{column_of({"logits", 9}), column_of({"logits", 54})};
  const Classifier target = load_classifier(classifier);
  const Judges judges = make_judges(target, classifier, logit_objective({{"logits", 9}, {"logits", 54}}, target),
                                    {.oracles = {}, .data = photographs, .witness = {}, .photographs = {}, .layers = {}}, at::kCPU);
  const Tensor best = best_real_images(judges, columns, 1, 48, 48), small = best_real_images(judges, columns, 3, 24, 32);
  ASSERT_EQ(best.sizes(), at::IntArrayRef({2, 48, 48, 3}));
  EXPECT_EQ(small.sizes(), at::IntArrayRef({6, 24, 32, 3}));
  const Tensor images = dataset.images.read((dataset.split == 2).nonzero().squeeze(1));
  const Tensor logits = target.forward(from_bytes(images), {"logits"}).at("logits");
  EXPECT_TRUE(at::equal(best[0], images[logits.select(1, 9).argmax().item<int64_t>()]));
  EXPECT_TRUE(at::equal(best[1], images[logits.select(1, 54).argmax().item<int64_t>()]));
  EXPECT_FALSE(best_real_images(judges, columns, 100000, 48, 48).defined());

  // On the sheet they are one column more.
  std::ofstream(folder + "/two.toml") << "parent = \"" EVOKE_SOURCE "/experiments/recipes/pixel.toml\"\n[run]\nsteps = 2\nchains = 1\n";
  const auto width = [&](const std::string& out, const std::vector<std::string>& more) {
    std::vector<std::string> words{"compare", folder + "/two.toml", "--units", "logits:9", "--witness", weights + "oracle.safetensors",
                                   "--out",   folder + "/" + out,   "-q",      "--device", "cpu",       "--no-report"};
    words.insert(words.end(), more.begin(), more.end());
    const Outcome outcome = evoke_command(words);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return load_picture(folder + "/" + out + "/comparison.png").size(2);
  };
  EXPECT_GT(width("beside", {"--photographs", photographs}), width("alone", {}) + 48);
}

// A target cut off behind its third convolution: nothing that it says is a class.
TEST_F(WitnessEndToEnd, AnchorsOfATargetThatEndsInAMapAreItsChannels) {
  write_shapes(folder + "/mapped.h5", 5, 120);
  const std::string classifier = weights + "classifier.safetensors";
  Classifier target = load_classifier(classifier);
  while (target.layers.back().name != "conv3") target.layers.pop_back();
  const Judges judges = make_judges(
      target, classifier, unit_objective({{"conv3", 2}}, target),
      {.oracles = {}, .data = {}, .witness = weights + "oracle.safetensors", .photographs = folder + "/mapped.h5", .layers = {"block2"}},
      at::kCPU);
  const std::vector<JudgedAnchor> anchors = photograph_anchors(judges);
  ASSERT_EQ(anchors.size(), 4U);
  EXPECT_EQ(anchors[0].name, "photographs left out");
  EXPECT_TRUE(anchors[0].judged.findings.at("target_class").eq(-1).all().item<bool>());
  ASSERT_EQ(anchors[3].judged.columns.size(), 8U);  // pixel ascent
  for (size_t i = 0; i < 8; ++i) EXPECT_EQ(anchors[3].judged.columns[i].name, "conv3:" + std::to_string(i));
  EXPECT_TRUE(at::isfinite(anchors[3].judged.findings.at("path")).all().item<bool>());
}

TEST_F(WitnessEndToEnd, RefusesWhatCannotJudge) {
  const std::string photographs = folder + "/photographs.h5", oracle = weights + "oracle.safetensors";
  const auto refused = [](const Outcome& outcome, int code, const std::string& words) {
    EXPECT_EQ(outcome.code, code) << outcome.err;
    EXPECT_NE(outcome.err.find(words), std::string::npos) << outcome.err;
  };
  // A copy of the target under another name is the target.
  std::filesystem::copy_file(weights + "classifier.safetensors", folder + "/other.safetensors",
                             std::filesystem::copy_options::overwrite_existing);
  refused(judged({"--witness", folder + "/other.safetensors"}), 2, "would judge itself");
  refused(judged({"--photographs", photographs}), 2, "--witness");
  refused(judged({"--witness", oracle, "--photographs", folder + "/few.h5"}), 3, "at least 50");
  refused(judged({"--witness", oracle, "--photographs", photographs, "--layers", "block9"}), 2, "block");
  refused(judged({"--witness", oracle, "--photographs", photographs, "--layers", "logits"}), 2, "with a map");
  refused(judged({"--witness", oracle, "--photographs", folder + "/missing.h5"}), 3, "missing.h5");
}

TEST_F(WitnessEndToEnd, AloneItSaysWhetherItAgrees) {
  const Outcome outcome = judged({"--witness", weights + "oracle.safetensors"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const nlohmann::json table = nlohmann::json::parse(outcome.out)["table"];
  EXPECT_GT(table[0]["witness"]["top1"]["value"].get<double>(), 0.45);
  EXPECT_FALSE(table[0].contains("path"));
}

}  // namespace
}  // namespace evoke
