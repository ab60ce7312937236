// needs: files
// ReLUs whose slope is redirected: of an exported program against Python, by hand, and in a run's first steps.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "classifiers/networks.h"
#include "classifiers/objectives.h"
#include "core/error.h"
#include "core/networks/network.h"
#include "core/nouns/posterior.h"
#include "core/numbers/relu.h"
#include "core/programs/program.h"
#include "core/storage/safetensors.h"
#include "tests/expect.h"

namespace evoke {
namespace {

Tensor slope(const std::function<Tensor(const Tensor&)>& f, const Tensor& x, bool redirected) {
  const Tensor point = x.clone().requires_grad_();
  const RedirectedReluScope scope(redirected);
  return torch::autograd::grad({f(point).sum()}, {point})[0];
}

TEST(Redirected, ProgramsAgainstPython) {
  const std::string folder = std::string(EVOKE_BINARY) + "/rectifiers";
  std::filesystem::create_directories(folder);
  ASSERT_EQ(std::system(
                ("'" EVOKE_SOURCE "/.venv/bin/python' '" EVOKE_SOURCE "/tests/golden/programs.py' '" + folder + "' --rectifiers").c_str()),
            0);
  const Program program = load_program(folder + "/rectifiers.pt2", at::kCPU);
  const Tensors golden = load_safetensors(folder + "/rectifiers.safetensors").tensors;
  const auto run = [&](const Tensor& x) { return program.run({x}, {"output"}).at("output"); };
  const Tensor& x = golden.at("input");
  EXPECT_TRUE(at::allclose(run(x), golden.at("output"), 1e-5, 1e-6));
  const Tensor plain = slope(run, x, false), redirected = slope(run, x, true);
  EXPECT_TRUE(at::allclose(plain, golden.at("plain"), 1e-4, 1e-7));
  EXPECT_TRUE(at::allclose(redirected, golden.at("redirected"), 1e-4, 1e-7));
  // Where ReLUs let nothing through there is no slope, but for the redirected one; an ordinary row keeps its own.
  EXPECT_EQ(plain[1].abs().max().item<double>(), 0.0);
  EXPECT_GT(redirected[1].abs().max().item<double>(), 1e-6);
  EXPECT_GT(plain[0].abs().max().item<double>(), 1e-6);
  EXPECT_TRUE(at::allclose(redirected[0], plain[0], 1e-5, 1e-8));

  // TorchScript runs by itself, and says so.
  const Program script = load_program(folder + "/rectifiers.pt", at::kCPU);
  const auto run_script = [&](const Tensor& input) { return script.run({input}, {"output"}).at("output"); };
  EXPECT_TRUE(at::allclose(slope(run_script, x, false), golden.at("plain"), 1e-4, 1e-7));
  expect_in("export the network (.pt2)", refusal([&] { slope(run_script, x, true); }));
}

TEST(Redirected, ByHand) {
  // f = w·relu(x): rows that pass something, that pass nothing, and that a negative weight pushes further down.
  const Tensor x = at::tensor({1.0, -2.0, -1.0, -2.0}).view({2, 2}), w = at::tensor({3.0, -5.0});
  const auto f = [&](const Tensor& point) { return rectified(point) * w; };
  EXPECT_TRUE(at::equal(slope(f, x, false), at::tensor({3.0, 0.0, 0.0, 0.0}).view({2, 2})));
  EXPECT_TRUE(at::equal(slope(f, x, true), at::tensor({3.0, 0.0, 3.0, 0.0}).view({2, 2})));
  // Above the upper end of a clamp, only what pulls down passes.
  const auto clamped = [&](const Tensor& point) { return rectified(point, 0, 6) * w; };
  EXPECT_TRUE(at::equal(slope(clamped, at::full({1, 2}, 7.0), true), at::tensor({0.0, -5.0}).view({1, 2})));
  EXPECT_TRUE(at::equal(slope(clamped, at::full({1, 2}, 7.0), false), at::zeros({1, 2})));
  EXPECT_FALSE(relus_are_redirected());
}

TEST(Redirected, OnlyInTheFirstStepsOfARunAndOnlyInTheClassifier) {
  // Every image is below the ReLU, so that nothing but the redirected slope moves it.
  NetworkBuilder net(1);
  net.flatten("flatten").dense("dense", 4, 3).relu("relu").dense("logits", 3, 2);
  Network network = net.build();
  network.weights.at("dense.bias").fill_(-9.0);
  const ImageSpec image{1, 2, 2, {}, {}};
  const Classifier classifier = as_classifier("dead", network, image, {}, at::kCPU);
  Generator generator;
  generator.name = "images";
  generator.latent = {1, 2, 2};
  generator.image = image;
  generator.decode = [](const Tensor& z) {
    EXPECT_FALSE(relus_are_redirected());
    return z;
  };
  PosteriorOptions options;
  options.redirected = 3;
  const Target target = posterior(generator, {}, classifier, logit_objective({{"logits", 0}, {"logits", 1}}, classifier), {}, options);
  EXPECT_FALSE(target.capturable);
  const Tensor z = at::full({2, 1, 2, 2}, 0.5);
  for (const int64_t step : {-1, 0, 2, 3, 50}) {
    Stream stream = Stream::range(0, 0, 2, at::kCPU, step);
    const double size = target.evaluate(z, stream).gradient.abs().max().item<double>();
    if (step < 3)
      EXPECT_GT(size, 1e-3) << step;
    else
      EXPECT_EQ(size, 0.0) << step;
  }
  EXPECT_FALSE(relus_are_redirected());
}

}  // namespace
}  // namespace evoke
