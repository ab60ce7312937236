// Samplers whose steps are held in CUDA graphs against the same samplers without.
#include "samplers/captured.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/networks/network.h"
#include "core/nouns/posterior.h"
#include "core/nouns/run.h"
#include "generators/priors.h"
#include "samplers/ascent.h"
#include "samplers/dgn_am.h"
#include "samplers/langevin.h"
#include "samplers/ppgn.h"
#include "samplers/random_search.h"

namespace evoke {
namespace {

constexpr int64_t code = 6, rows = 8, classes = 4, steps = 40;

// A small decoder and a small classifier on `device`, joined; each row climbs a class of its own.
Target joined(at::Device device, std::optional<Prior> prior) {
  Generator generator{.name = "decoder", .latent = {code}, .image = {3, 8, 8, {}, {}}, .decode = {}, .start = {}};
  generator.decode = [network =
                          NetworkBuilder(1).dense("dense", code, 192).unflatten("image", 3, 8, 8).sigmoid("x").build().frozen(device)](
                         const Tensor& z) { return network(z); };
  const Network network = NetworkBuilder(2).convolution("conv", 3, 8, 3).relu("relu").flatten("flat").dense("logits", 512, classes).build();
  Objective objective;
  objective.name = "log_softmax";
  objective.taps = {"logits"};
  objective.columns = {{"0"}, {"1"}, {"2"}, {"3"}};
  objective.score = [](const Tensor&, const Activations& a) { return at::log_softmax(a.at("logits"), 1); };
  const Tensor columns = at::arange(rows, at::TensorOptions(at::kLong).device(device)).remainder(classes);
  return posterior(generator, {}, as_classifier("small", network, {3, 8, 8, {}, {}}, {}, device), objective, std::move(prior),
                   {.rows = columns});
}

struct Job {
  std::string name;
  Sampler sampler;
  bool with_prior = true;
};
std::vector<Job> jobs(const Prior& prior) {
  return {{"ascent", ascent({}), true},
          {"dgn_am", dgn_am({.steps = steps, .step_size = 0.5}), false},
          {"langevin", langevin({}, prior), true},
          {"ppgn", ppgn({.epsilon1 = 0.01, .epsilon3 = 0.01, .as_released = true, .low = -5, .reset_every = 7}, prior), false},
          {"random_search", random_search({.draws = 1000, .batch = 32, .keep = 2, .precision = "float32"}, prior.draw), true}};
}

State outcome(const Sampler& sampler, const Target& target, at::Device device) {
  RunOptions options;
  options.steps = sampler.name == "random_search" ? search_steps({.draws = 1000, .batch = 32}) : steps;
  options.seed = 9;
  options.chains = at::arange(rows, at::TensorOptions(at::kLong).device(device));
  return run(sampler, target, at::zeros({rows, code}, at::TensorOptions().device(device)), options);
}

TEST(Captured, OnTheCpuItIsTheSamplerItself) {
  const Prior prior = standard_normal({code});
  for (const Job& job : jobs(prior)) {
    const Target target = joined(at::kCPU, job.with_prior ? std::optional(prior) : std::nullopt);
    const Tensors alone = pack(outcome(job.sampler, target, at::kCPU)), captive = pack(outcome(captured(job.sampler), target, at::kCPU));
    ASSERT_EQ(alone.size(), captive.size()) << job.name;
    for (const auto& [name, tensor] : alone) EXPECT_TRUE(at::equal(tensor, captive.at(name))) << job.name << ": " << name;
  }
}

TEST(Captured, GivesTheSameBits) {
  if (!at::hasCUDA()) GTEST_SKIP() << "no CUDA device";
  at::globalContext().setDeterministicCuDNN(true);  // two runs without graphs would differ otherwise
  const Prior prior = standard_normal({code});
  for (const Job& job : jobs(prior)) {
    const Target target = joined(at::kCUDA, job.with_prior ? std::optional(prior) : std::nullopt);
    const Tensors alone = pack(outcome(job.sampler, target, at::kCUDA)), captive = pack(outcome(captured(job.sampler), target, at::kCUDA));
    ASSERT_EQ(alone.size(), captive.size()) << job.name;
    for (const auto& [name, tensor] : alone) EXPECT_TRUE(at::equal(tensor, captive.at(name))) << job.name << ": " << name;
  }
}

TEST(Captured, StepsAsItIsWhereATargetCannotBeHeld) {
  if (!at::hasCUDA()) GTEST_SKIP() << "no CUDA device";
  const Prior prior = standard_normal({code});
  Target target = joined(at::kCUDA, prior);
  const State alone = outcome(langevin({}), target, at::kCUDA);
  target.capturable = false;
  // A step that waits for the host would end a capture with an error.
  target.evaluate = [inner = target.evaluate](const Tensor& z, Stream& stream) {
    EXPECT_TRUE(z.isfinite().all().item<bool>());
    return inner(z, stream);
  };
  EXPECT_TRUE(at::equal(outcome(captured(langevin({})), target, at::kCUDA).z, alone.z));
}

}  // namespace
}  // namespace evoke
