// needs: files
// Programs beside Python: output, what hooks see, and input gradients, equal to the last bit on the CPU.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cstdlib>
#include <filesystem>

#include "core/error.h"
#include "core/programs/program.h"
#include "core/storage/safetensors.h"

namespace evoke {
namespace {

const std::string folder = std::string(EVOKE_BINARY) + "/golden_programs";

void python(const std::string& arguments) {
  const std::string command =
      std::string("'") + EVOKE_SOURCE "/.venv/bin/python' '" EVOKE_SOURCE "/tests/golden/programs.py' '" + folder + "' " + arguments;
  ASSERT_EQ(std::system(command.c_str()), 0) << command;
}

double distance(const Tensor& a, const Tensor& b) { return ((a - b).norm() / b.norm()).item<double>(); }

class Net : public testing::TestWithParam<std::string> {};

TEST_P(Net, EqualsPython) {
  at::set_num_threads(2);  // as programs.py: the bits of a product depend on it
  const std::string name = GetParam(), file = folder + "/" + name + ".pt2";
  ASSERT_NO_FATAL_FAILURE(python(name));
  const Tensors python = load_safetensors(folder + "/" + name + ".safetensors").tensors;
  const Program program = load_program(file, at::kCPU);
  EXPECT_GT(program.parameters, 1000);

  std::vector<std::string> taps{"output"};
  for (const auto& [key, tensor] : python)
    if (key.starts_with("tap:")) taps.push_back(key.substr(4));
  ASSERT_GE(taps.size(), 3u);

  // All taps in one pass, and each alone: nothing above it is computed, nothing that it needs is left out.
  Tensor x = python.at("input").clone().requires_grad_();
  const Activations all = program.run({x}, taps);
  EXPECT_TRUE(at::equal(all.at("output"), python.at("output"))) << name << ": " << distance(all.at("output"), python.at("output"));
  for (const std::string& tap : taps) {
    const Tensor& wanted = tap == "output" ? python.at("output") : python.at("tap:" + tap);
    EXPECT_TRUE(at::equal(all.at(tap), wanted)) << name << " " << tap << ": " << distance(all.at(tap), wanted);
    const Tensor alone = program.run({x}, {tap}).at(tap);
    EXPECT_TRUE(at::equal(alone, wanted)) << name << " " << tap << " alone: " << distance(alone, wanted);
    const Tensor gradient = torch::autograd::grad({(alone * alone).sum()}, {x})[0];
    EXPECT_TRUE(at::equal(gradient, python.at("gradient:" + tap)))
        << name << " " << tap << ", gradient: " << distance(gradient, python.at("gradient:" + tap));
    const auto found = std::find_if(program.layers.begin(), program.layers.end(), [&](const Layer& layer) { return layer.name == tap; });
    ASSERT_NE(found, program.layers.end());
    EXPECT_EQ(found->shape, wanted.sizes().slice(1).vec()) << tap;
  }

  // A changed weight or pixel shows, so the comparison can fail.
  Tensor other = python.at("input").clone();
  other.flatten()[7] += 0.25;
  EXPECT_FALSE(at::equal(program.run({other}, {"output"}).at("output"), python.at("output")));

  // Channels last, batch norms folded: the same but for rounding, whatever is tapped.
  const Program fast = load_program(file, at::kCPU, MemoryOrder::channels_last);
  Tensor y = python.at("input").clone().requires_grad_();
  const Tensor output = fast.run({y}, {"output"}).at("output");
  EXPECT_LT(distance(output, python.at("output")), 1e-4) << name;
  const Activations fast_taps = fast.run({python.at("input")}, taps);
  for (const std::string& tap : taps)
    if (tap != "output") {
      EXPECT_LT(distance(fast_taps.at(tap), python.at("tap:" + tap)), 1e-4) << name << " " << tap;
      EXPECT_LT(distance(fast.run({python.at("input")}, {tap}).at(tap), python.at("tap:" + tap)), 1e-4) << name << " " << tap << " alone";
    }
  EXPECT_LT(distance(torch::autograd::grad({(output * output).sum()}, {y})[0], python.at("gradient:output")), 3e-2)
      << name;                    // ReLUs flip on rounding
  std::filesystem::remove(file);  // some are large

  // As TorchScript, scripted and traced, where Python can.
  for (const std::string& way : {std::string("_script.pt"), std::string("_trace.pt")}) {
    const std::string script = folder + "/" + name + way;
    if (!std::filesystem::exists(script)) continue;
    const Program scripted = load_program(script, at::kCPU);
    EXPECT_EQ(scripted.parameters, program.parameters) << script;
    for (const std::string& tap : taps) {
      Tensor x = python.at("input").clone().requires_grad_();
      const Tensor alone = scripted.run({x}, {tap}).at(tap), &wanted = tap == "output" ? python.at("output") : python.at("tap:" + tap);
      EXPECT_TRUE(at::equal(alone, wanted)) << script << " " << tap << ": " << distance(alone, wanted);
      const Tensor gradient = torch::autograd::grad({(alone * alone).sum()}, {x})[0];
      EXPECT_TRUE(at::equal(gradient, python.at("gradient:" + tap))) << script << " " << tap << ", gradient";
    }
    std::filesystem::remove(script);
  }
}

INSTANTIATE_TEST_SUITE_P(Nets, Net,
                         testing::Values("alexnet", "vgg19", "googlenet", "inception_v3", "resnet18", "resnet50", "densenet121",
                                         "convnext_tiny", "swin_t", "vit_b_16", "mobilenet_v3_small", "efficientnet_b0",
                                         "shufflenet_v2_x1_0", "nasnetalarge", "clip_image_tower", "unet_decoder"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace evoke
