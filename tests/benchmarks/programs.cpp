// What an exported program costs over the same network written by hand against ATen: ResNet-18 at batch 8 and 224 px, forward and input
// gradient, and the smallest of nets at batch 1, where nothing hides the cost of a step. Python makes the files (tests/golden/programs.py
// --bench).
#include <ATen/ATen.h>
#include <benchmark/benchmark.h>
#include <c10/core/InferenceMode.h>
#include <torch/csrc/autograd/autograd.h>

#include <cstdlib>

#include "core/programs/program.h"
#include "core/storage/safetensors.h"

namespace evoke {

namespace {

const std::string folder = EVOKE_BINARY "/bench_programs";

const Tensors& weights(const std::string& net) {
  static std::map<std::string, Tensors> all;
  if (!all.contains(net)) all[net] = load_safetensors(folder + "/" + net + ".safetensors").tensors;
  return all.at(net);
}

struct ByHand {
  const Tensors& w;
  Tensor norm(const Tensor& x, const std::string& name) const {
    return at::batch_norm(x, w.at(name + ".weight"), w.at(name + ".bias"), w.at(name + ".running_mean"), w.at(name + ".running_var"), false,
                          0.1, 1e-5, true);
  }
  Tensor block(const Tensor& x, const std::string& name, int64_t stride) const {
    Tensor y = norm(at::conv2d(x, w.at(name + ".conv1.weight"), {}, {stride, stride}, {1, 1}), name + ".bn1").relu_();
    y = norm(at::conv2d(y, w.at(name + ".conv2.weight"), {}, {1, 1}, {1, 1}), name + ".bn2");
    const Tensor straight = w.contains(name + ".downsample.0.weight")
                                ? norm(at::conv2d(x, w.at(name + ".downsample.0.weight"), {}, {stride, stride}), name + ".downsample.1")
                                : x;
    return y.add_(straight).relu_();
  }
  Tensor resnet18(const Tensor& x) const {
    Tensor y = norm(at::conv2d(x, w.at("conv1.weight"), {}, {2, 2}, {3, 3}), "bn1").relu_();
    y = at::max_pool2d(y, {3, 3}, {2, 2}, {1, 1});
    for (int layer = 1; layer <= 4; ++layer)
      for (int part = 0; part < 2; ++part)
        y = block(y, "layer" + std::to_string(layer) + "." + std::to_string(part), layer > 1 && part == 0 ? 2 : 1);
    return at::linear(at::adaptive_avg_pool2d(y, {1, 1}).flatten(1), w.at("fc.weight"), w.at("fc.bias"));
  }
  Tensor small(const Tensor& x) const {
    const Tensor y = at::relu(norm(at::conv2d(x, w.at("conv.weight"), w.at("conv.bias")), "norm"));
    return at::linear(y.mean(at::IntArrayRef{2, 3}), w.at("head.weight"), w.at("head.bias"));
  }
};

template <class Forward>
void slope(benchmark::State& state, const Tensor& image, const Forward& forward) {
  for (auto _ : state) {
    const Tensor x = image.detach().requires_grad_();
    benchmark::DoNotOptimize(torch::autograd::grad({forward(x).sum()}, {x})[0]);
  }
}
template <class Forward>
void pass(benchmark::State& state, const Tensor& image, const Forward& forward) {
  const c10::InferenceMode no_gradient;
  for (auto _ : state) benchmark::DoNotOptimize(forward(image));
}

}  // namespace

void add_program_benchmarks() {
  const std::string make = "test -e '" + folder +
                           "/small.pt2' || '" EVOKE_SOURCE "/.venv/bin/python' '" EVOKE_SOURCE "/tests/golden/programs.py' '" + folder +
                           "' --bench";
  if (std::system(make.c_str()) != 0) return;  // where there is no Python with torchvision
  const auto put = [](const std::string& name, auto body) {
    benchmark::RegisterBenchmark(name.c_str(), body)->UseRealTime()->Unit(benchmark::kMicrosecond);
  };
  const auto program = [](const std::string& net) {
    return [run = load_program(folder + "/" + net + ".pt2", at::kCPU).run](const Tensor& x) { return run({x}, {"output"}).at("output"); };
  };
  const auto by_hand = [](const std::string& net) {
    return [net, hand = ByHand{weights(net)}](const Tensor& x) { return net == "small" ? hand.small(x) : hand.resnet18(x); };
  };
  const Tensor large = at::rand({8, 3, 224, 224}), tiny = at::rand({1, 3, 8, 8});
  for (const auto& [net, image] : {std::pair<std::string, Tensor>{"resnet18", large}, std::pair<std::string, Tensor>{"small", tiny}})
    if (!at::equal(program(net)(image), by_hand(net)(image)))
      std::printf("%s: the program and the network by hand disagree\n", net.c_str());
  put("program_resnet18/bare", [=](benchmark::State& s) { slope(s, large, by_hand("resnet18")); });
  put("program_resnet18/evoke", [=](benchmark::State& s) { slope(s, large, program("resnet18")); });
  put("program_small/bare", [=](benchmark::State& s) { pass(s, tiny, by_hand("small")); });
  put("program_small/evoke", [=](benchmark::State& s) { pass(s, tiny, program("small")); });
}

}  // namespace evoke
