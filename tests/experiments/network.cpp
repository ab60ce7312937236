// needs: files
// A network of the user's own, from the file to the picture: inspect, check, sample in pixels, under transforms and through a decoder of
// another size, exemplars; and how each wrong file or word is refused.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/numbers/tensor.h"
#include "core/programs/program.h"
#include "core/storage/hdf5.h"
#include "core/storage/safetensors.h"
#include "experiments/verbs.h"
#include "tests/experiments/outcome.h"

namespace evoke {
namespace {

namespace fs = std::filesystem;

const std::string folder = std::string(EVOKE_BINARY) + "/own_network";
const std::string small = folder + "/small.pt2";

testing::AssertionResult says(const std::string& text, const std::string& words) {
  if (text.find(words) != std::string::npos) return testing::AssertionSuccess();
  return testing::AssertionFailure() << "found \"" << text << "\", expected it to say \"" << words << "\"";
}

class OwnNetwork : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    ASSERT_EQ(
        std::system(
            ("'" EVOKE_SOURCE "/.venv/bin/python' '" EVOKE_SOURCE "/tests/golden/programs.py' '" + folder + "' --bad 2>/dev/null").c_str()),
        0);
    std::ofstream(folder + "/small.toml") << "[image]\npreset = \"unit\"\nlabels = [\"a\", \"b\", \"c\", \"d\", \"e\"]\n";
  }
  // A new run of the recipe for one's own network, 8 pixels wide.
  static Outcome sample(const std::string& name, std::vector<std::string> set, const std::string& file = small) {
    const std::string out = folder + "/run_" + name;
    fs::remove_all(out);  // of an earlier run of this test
    std::vector<std::string> words{"sample", "network", "-q", "--out", out, "--set", "classifier.weights=" + file, "--set", "run.steps=12"};
    for (const std::string& one : set) words.insert(words.end(), {"--set", one});
    return evoke_command(words);
  }
};

TEST_F(OwnNetwork, InspectNamesLayersUnitsAndTheImage) {
  const Outcome found = evoke_command({"inspect", small});
  EXPECT_EQ(found.code, 0) << found.err;
  EXPECT_TRUE(says(found.out, "images 3 × 8 × 8"));
  EXPECT_TRUE(says(found.out, "relu:0-3 @y,x, 6 × 6"));
  EXPECT_TRUE(says(found.out, "Conv2d"));
  const nlohmann::json json = nlohmann::json::parse(evoke_command({"inspect", small, "--json"}).out);
  EXPECT_EQ(json["networks"][0]["layers"].size(), 5u);
  EXPECT_EQ(json["labels"][2], "c");
  const Outcome other = evoke_command({"inspect", small, "--set", "image.preset=caffe"});
  EXPECT_TRUE(says(other.out, "BGR"));
  EXPECT_TRUE(says(other.out, "[104.0,117.0,123.0]"));
  EXPECT_TRUE(says(evoke_command({"inspect", small, "--layer", "rely"}).err, "did you mean 'relu'"));
  EXPECT_TRUE(says(evoke_command({"inspect", folder + "/script.pt", "--set", "image.height=8", "--set", "image.width=8"}).out, "relu:0-3"));
}

// One sentence each, and no file. The connection that weights would come by leads nowhere.
TEST_F(OwnNetwork, TheExporterSaysWhatItCannotHave) {
  const std::string out = folder + "/not_exported.pt2", said = folder + "/exporter.txt";
  const auto refusal = [&](const std::string& words) {
    const std::string command = "HTTPS_PROXY=http://127.0.0.1:9 https_proxy=http://127.0.0.1:9 TORCH_HOME='" + folder +
                                "/no_weights' '" EVOKE_SOURCE "/.venv/bin/python' '" EVOKE_SOURCE "/scripts/export_network.py' " + words +
                                " --out '" + out + "' >/dev/null 2>'" + said + "'";
    EXPECT_NE(std::system(command.c_str()), 0) << words;
    std::ifstream in(said);
    std::string last;
    for (std::string line; std::getline(in, line);) {
      EXPECT_EQ(line.find("Traceback"), std::string::npos) << words;
      last = line;
    }
    return last;
  };
  const std::string unfetched = refusal("torchvision:resnet18 --weights DEFAULT");
  EXPECT_TRUE(says(unfetched, "torchvision does not make 'resnet18' with weights DEFAULT: "));
  EXPECT_TRUE(says(unfetched, "--weights FILE"));
  EXPECT_TRUE(says(refusal("torchvision:resnet81"), "torchvision does not make 'resnet81'"));
  EXPECT_TRUE(says(refusal("collections:OrderedDict --weights nowhere.pth"), "--weights: found no file 'nowhere.pth'"));
  EXPECT_FALSE(fs::exists(out));
}

TEST_F(OwnNetwork, CheckComparesWithPythonToTheLastBit) {
  const Outcome good = evoke_command({"inspect", small, "--check"});
  EXPECT_EQ(good.code, 0);
  EXPECT_TRUE(says(good.out, "output equal to the last bit, gradient equal to the last bit"));
  EXPECT_TRUE(says(good.out, "with 2 threads"));
  // The same pair for another network differs, and says so.
  fs::copy_file(folder + "/writing.pt2", folder + "/other.pt2", fs::copy_options::overwrite_existing);
  fs::copy_file(folder + "/small.check.safetensors", folder + "/other.check.safetensors", fs::copy_options::overwrite_existing);
  const Outcome bad = evoke_command({"inspect", folder + "/other.pt2", "--check"});
  EXPECT_EQ(bad.code, 1);
  EXPECT_TRUE(says(bad.out, "differs by up to"));
  EXPECT_TRUE(says(bad.out, "the pair was made with 2 threads, so it is another network"));
  const Outcome other_threads = evoke_command({"inspect", folder + "/other.pt2", "--check", "--threads", "1", "--json"});
  EXPECT_EQ(other_threads.code, 1);
  EXPECT_EQ(nlohmann::json::parse(other_threads.out)["cause"], "network");
}

TEST_F(OwnNetwork, CheckTellsThreadsFromARealDifference) {
  // A pair that one thread made, of a sum that two threads add in another order; which pictures show it is found by trying.
  const std::string net = folder + "/summing.pt2";
  const Program program = load_program(net, at::kCPU);
  const auto output = [&](const Tensor& x, int64_t threads) {
    set_threads(threads);
    return program.run({x}, {"output"}).at("output");
  };
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(uint64_t{1});
  Tensors pair;
  for (int i = 0; i < 50 && (pair.empty() || at::equal(pair["output"], output(pair["input"], 2))); ++i) {
    pair["input"] = at::rand({1, 3, 128, 128}, generator);
    pair["output"] = output(pair["input"], 1);
  }
  ASSERT_FALSE(at::equal(pair["output"], output(pair["input"], 2)));
  const auto check = [&](const std::vector<std::string>& more, const std::map<std::string, std::string>& facts) {
    save_safetensors(folder + "/summing.check.safetensors", {pair, facts});
    std::vector<std::string> words{"inspect", net, "--check"};
    words.insert(words.end(), more.begin(), more.end());
    return evoke_command(words);
  };
  const std::map<std::string, std::string> one{{"threads", "1"}};
  const Outcome recorded = check({}, one);
  EXPECT_EQ(recorded.code, 0) << recorded.out;
  EXPECT_TRUE(says(recorded.out, "output equal to the last bit, with 1 thread"));
  const Outcome two = check({"--threads", "2"}, one);
  EXPECT_EQ(two.code, 0) << two.out;
  EXPECT_TRUE(says(two.out, "output differs by up to"));
  EXPECT_TRUE(says(two.out, "with 2 threads; it is the number of threads: with the 1 that the pair was made with"));
  const Outcome unknown = check({"--threads", "2"}, {});
  EXPECT_EQ(unknown.code, 1);
  EXPECT_TRUE(says(unknown.out, "does not say with how many it was made"));
  EXPECT_EQ(check({}, {{"threads", "many"}}).code, 3);
  pair["output"] = pair["output"] + 1;
  const Outcome real = check({"--threads", "2"}, one);
  EXPECT_EQ(real.code, 1);
  EXPECT_TRUE(says(real.out, "so it is another network"));
  set_threads(2);
}

TEST_F(OwnNetwork, ASizeThatNobodySaysIsSaidAloud) {
  const Outcome guessed = evoke_command({"inspect", folder + "/script.pt"});
  EXPECT_EQ(guessed.code, 0) << guessed.err;
  EXPECT_TRUE(says(guessed.out, "images 3 × 224 × 224"));
  EXPECT_TRUE(says(guessed.err, "found no size of its images"));
  const Outcome said = evoke_command({"inspect", folder + "/script.pt", "--set", "image.height=8", "--set", "image.width=8"});
  EXPECT_TRUE(says(said.out, "images 3 × 8 × 8"));
  EXPECT_EQ(said.err, "");
}

TEST_F(OwnNetwork, SamplesInPixelsUnderTransformsAndThroughADecoderOfAnotherSize) {
  const std::string units = "objective.units=[\"relu:1\",\"relu:2@3,3\",\"conv:0\"]";
  const Outcome lucid = sample("lucid", {"objective.kind=unit", units});
  EXPECT_EQ(lucid.code, 0) << lucid.err;
  const Hdf5 results = Hdf5::open(folder + "/run_lucid/results.h5");
  EXPECT_EQ(results.shape("/images"), (std::vector<int64_t>{3, 8, 8, 3}));
  EXPECT_TRUE(fs::is_regular_file(folder + "/run_lucid/contact_sheet.png"));

  EXPECT_EQ(sample("pixel", {"objective.kind=unit", units, "transform.kind=none"}).code, 0);
  EXPECT_EQ(sample("dict", {"objective.kind=channel", "objective.units=[\"output.first:1\"]"}, folder + "/pair.pt2").code, 0);
  EXPECT_EQ(
      sample("script", {"objective.units=[\"relu:1\"]", "classifier.image.height=8", "classifier.image.width=8"}, folder + "/script.pt")
          .code,
      0);
  const Outcome label = sample("label", {"objective.kind=logit", "objective.units=[\"d\"]"});
  EXPECT_EQ(label.code, 0) << label.err;
  EXPECT_TRUE(says(label.out, "output:3"));

  const std::string vae = EVOKE_SOURCE "/experiments/weights/vae.safetensors";
  const Outcome decoded =
      sample("decoder", {"objective.kind=unit", units, "transform.kind=none", "generator.kind=decoder", "generator.weights=" + vae});
  EXPECT_EQ(decoded.code, 0) << decoded.err;
  EXPECT_TRUE(says(decoded.err, "resampled"));
  EXPECT_EQ(Hdf5::open(folder + "/run_decoder/results.h5").shape("/images"), (std::vector<int64_t>{3, 48, 48, 3}));
  EXPECT_EQ(sample("search", {"objective.kind=unit", units, "transform.kind=none", "generator.kind=decoder", "generator.weights=" + vae,
                              "sampler.kind=random_search", "sampler.draws=64", "prior.kind=gaussian"})
                .code,
            0);
}

TEST_F(OwnNetwork, APixelRunClimbs) {
  // Twelve steps of ascent without transform: higher than where it began.
  EXPECT_EQ(sample("climb", {"transform.kind=none", "objective.units=[\"conv:0\",\"conv:3\"]", "run.steps=40"}).code, 0);
  const Hdf5 results = Hdf5::open(folder + "/run_climb/results.h5");
  const Tensor trace = results.read("/activation/trace"), final = results.read("/activation/final");
  EXPECT_TRUE((final > trace.select(1, 0) + 0.05).all().item<bool>()) << trace.select(1, 0) << final;
}

TEST_F(OwnNetwork, RefusesInASentence) {
  const auto refused = [&](const Outcome& outcome, int code, const std::string& words) {
    EXPECT_EQ(outcome.code, code) << outcome.err;
    EXPECT_TRUE(says(outcome.err, words));
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
  };
  refused(sample("a", {"objective.units=[\"rleu:1\"]"}), 2, "did you mean 'relu'");
  refused(sample("b", {"objective.units=[\"relu:9\"]"}), 2, "relu");
  refused(sample("c", {"objective.units=[\"relu:1\"]", "classifier.image.height=16"}), 3, "was exported");
  refused(sample("d", {"objective.units=[\"relu:1\"]", "classifier.image.mean=[0.5]"}), 3, "expected one a channel");
  refused(sample("e", {"objective.units=[\"relu:1\"]"}, folder + "/training.pt2"), 3, "model.eval()");
  refused(sample("f", {"objective.units=[\"relu:1\"]"}, folder + "/two.pt2"), 3, "expected one image");
  refused(sample("g", {"objective.units=[\"relu:1\"]"}, folder + "/pickled.pth"), 3, "pickled");
  refused(sample("h", {"objective.units=[\"relu:1\"]"}, folder + "/whole.pt2"), 3, "no gradient");
  refused(sample("i", {"objective.units=[\"output:1\"]", "objective.kind=unit", "transform.kind=none"}, folder + "/not_a_number.pt2"), 1,
          "NaN");
  refused(evoke_command({"inspect", folder + "/branching.pt2"}), 3, "control flow");
  std::ofstream(folder + "/bad.toml") << "[image]\npreste = \"unit\"\n";
  fs::copy_file(small, folder + "/bad.pt2", fs::copy_options::overwrite_existing);
  refused(evoke_command({"inspect", folder + "/bad.pt2"}), 3, "preste");
  save_safetensors(folder + "/state.safetensors", {{{"conv1.weight", at::zeros({1})}}, {}});
  refused(sample("j", {"objective.units=[\"relu:1\"]"}, folder + "/state.safetensors"), 3, "classifier.architecture");
  refused(sample("k", {"objective.units=[\"relu:1\"]", "classifier.architecture=resnet18"}, folder + "/state.safetensors"), 3, "missing");
}

}  // namespace
}  // namespace evoke
