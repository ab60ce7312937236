// needs: files
// The literature's networks against Python's: tests/golden/literature.py makes them with random weights, and their state dicts load here
// as they are. Also what is refused.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "classifiers/literature.h"
#include "core/error.h"
#include "core/storage/safetensors.h"

namespace evoke {
namespace {

// Python's files, made once for all tests (a gigabyte and a half), taken away at the end.
class Python : public ::testing::Environment {
 public:
  void SetUp() override {
    folder() = std::filesystem::path(::testing::TempDir()) / text("evoke_literature_", getpid());
    std::filesystem::create_directories(folder());
    const std::string python = EVOKE_SOURCE "/.venv/bin/python";
    ASSERT_TRUE(std::filesystem::exists(python)) << python << " is missing; scripts/setup makes it";
    ASSERT_EQ(std::system((python + " " EVOKE_SOURCE "/tests/golden/literature.py " + folder().string()).c_str()), 0);
  }
  void TearDown() override { std::filesystem::remove_all(folder()); }
  static std::filesystem::path& folder() {
    static std::filesystem::path path;
    return path;
  }
};
const auto* const python = ::testing::AddGlobalTestEnvironment(new Python);

std::string state_dict(const std::string& kind) { return (Python::folder() / (kind + ".safetensors")).string(); }
Tensors golden(const std::string& kind) { return load_safetensors((Python::folder() / (kind + ".golden.safetensors")).string()).tensors; }

ClassifierOptions options_of(const std::string& kind) {
  ClassifierOptions out{.kind = kind, .classes = 10, .filters = 4};
  out.height = out.width = golden(kind).at("input").size(2);
  return out;
}

double distance(const Tensor& found, const Tensor& expected) {
  EXPECT_EQ(found.sizes(), expected.sizes());
  if (found.sizes() != expected.sizes()) return INFINITY;
  return ((found - expected).norm() / expected.norm()).item<double>();
}

// Output and input gradient, as synthesis computes them: frozen, channels_last.
struct Answer {
  Tensor output, gradient;
};
Answer answer(const Network& network, const Tensor& input) {
  const Tensor x = input.contiguous(at::MemoryFormat::ChannelsLast).clone().requires_grad_();
  const Tensor output = network.forward(x, {"logits"}).at("logits");
  const Tensor factor = at::cos(at::arange(output.numel(), at::kFloat) * 0.7).view(output.sizes());
  return {output.detach(), torch::autograd::grad({(output * factor).sum()}, {x})[0]};
}

class Literature : public ::testing::TestWithParam<std::string> {};

TEST_P(Literature, IsPythons) {
  const std::string kind = GetParam();
  Tensors expected = golden(kind);
  Network network = load_state_dict(options_of(kind), state_dict(kind)).frozen(at::kCPU);
  const Answer found = answer(network, expected["input"]);
  EXPECT_LT(distance(found.output, expected["output"]), 1e-5);
  EXPECT_LT(distance(found.gradient, expected["gradient"]), 1e-3);

  // Every tap by Python's name, alone and all in one pass, before anything works in place on it.
  std::vector<std::string> taps;
  for (const auto& [name, tensor] : expected)
    if (name.starts_with("tap/")) taps.push_back(name.substr(4));
  EXPECT_GE(taps.size(), 3u);
  const Activations together = network.forward(expected["input"], taps);
  for (const std::string& tap : taps) {
    EXPECT_LT(distance(together.at(tap), expected["tap/" + tap]), 1e-5) << tap;
    EXPECT_LT(distance(network.forward(expected["input"], {tap}).at(tap), expected["tap/" + tap]), 1e-5) << tap;
  }

  // Neither is blind: two rows of one weight changed for each other are seen in both.
  Tensor& weight = network.weights.at(kind == "tnn"                ? "conv4.gate_ch.weight"
                                      : kind.starts_with("resnet") ? "conv1.weight"
                                      : kind == "googlenet"        ? "inception4a.branch3.1.conv.weight"
                                      : kind == "caffenet"         ? "conv4.weight"
                                                                   : "features.0.weight");
  weight = at::cat({weight.narrow(0, 1, 1), weight.narrow(0, 0, 1), weight.slice(0, 2)});
  const Answer wrong = answer(network, expected["input"]);
  EXPECT_GT(distance(wrong.output, expected["output"]), 1e-4);
  EXPECT_GT(distance(wrong.gradient, expected["gradient"]), 2e-3);
}

INSTANTIATE_TEST_SUITE_P(Kinds, Literature, ::testing::ValuesIn(literature_kinds()), [](const auto& each) { return each.param; });

// What is refused.

std::string refusal(const ClassifierOptions& options, const Tensors& weights) {
  const std::string file = (Python::folder() / "refused.safetensors").string();
  save_safetensors(file, {weights, {}});
  try {
    load_state_dict(options, file);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), Failure::input);
    EXPECT_TRUE(std::string(error.what()).starts_with(file)) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "not refused";
  return "";
}
void expect_in(const std::string& part, const std::string& sentence) { EXPECT_NE(sentence.find(part), std::string::npos) << sentence; }

TEST(StateDict, StrictButForWhatEvaluationDoesNotNeed) {
  const ClassifierOptions options = options_of("resnet18");
  const Tensors whole = load_safetensors(state_dict("resnet18")).tensors;
  EXPECT_TRUE(whole.contains("bn1.num_batches_tracked"));

  Tensors changed = whole;
  changed.erase("layer2.0.bn1.running_mean");
  expect_in("missing layer2.0.bn1.running_mean;", refusal(options, changed));
  changed = whole;
  changed["layer2.0.bn9.num_batches_tracked"] = at::zeros({}, at::kLong);  // of a batch norm that is not there
  changed["aux1.fc1.weight"] = at::zeros({2});                             // GoogLeNet's alone
  expect_in("unexpected aux1.fc1.weight, layer2.0.bn9.num_batches_tracked;", refusal(options, changed));
  changed = whole;
  changed["fc.weight"] = at::zeros({11, 512});
  expect_in("of another shape: fc.weight [11,512] float where [10,512] float is expected;", refusal(options, changed));
  changed["fc.weight"] = whole.at("fc.weight").to(at::kHalf);
  expect_in("'fc.weight' is Half, expected Float; save model.float().state_dict() instead", refusal(options, changed));
  changed["fc.weight"] = whole.at("fc.weight").to(at::kDouble);
  expect_in("'fc.weight' is Double", refusal(options, changed));
  ClassifierOptions other = options;
  other.kind = "resnet50";
  expect_in("layer1.0.conv3.weight", refusal(other, whole));

  // Python's GoogLeNet brings its auxiliary heads along.
  EXPECT_TRUE(load_safetensors(state_dict("googlenet")).tensors.contains("aux2.fc2.bias"));
}

}  // namespace
}  // namespace evoke
