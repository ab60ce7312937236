// What the framework costs: each job on the reference pair of networks three times, through evoke, as a bare LibTorch loop, and as the
// field writes it (weights trainable, NCHW, one objective a pass, memory given back to the kernel at every step).
//
//   evoke_benchmarks [--benchmark_filter=…] [--benchmark_repetitions=…]      EVOKE_DEVICE=cpu|cuda
//
// Prints Google Benchmark's rows, then a table of ratios of medians.
#include <ATen/ATen.h>
#include <benchmark/benchmark.h>
#include <c10/core/GradMode.h>
#include <c10/core/InferenceMode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/optim/adamw.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "classifiers/objectives.h"
#include "core/log.h"
#include "core/networks/network.h"
#include "core/nouns/posterior.h"
#include "core/nouns/run.h"
#include "generators/priors.h"
#include "samplers/ascent.h"
#include "samplers/langevin.h"
#include "samplers/random_search.h"
#include "training/examples.h"
#include "training/loop.h"

namespace evoke {

void add_program_benchmarks();  // programs.cpp

namespace {

constexpr int64_t code = 6, batch = 64;

at::Device device() {
  static const at::Device chosen = device_named(std::getenv("EVOKE_DEVICE") ? std::getenv("EVOKE_DEVICE") : "auto");
  return chosen;
}

// 350 MFLOP an image, forward, the two together.
Network reference_classifier() {
  NetworkBuilder b(1);
  b.convolution("conv1", 3, 32, 3).relu("relu1").max_pool("pool1").convolution("conv2", 32, 64, 3).relu("relu2");
  b.convolution("conv3", 64, 64, 3).relu("relu3").max_pool("pool2").convolution("conv4", 64, 128, 3).relu("relu4");
  b.convolution("conv5", 128, 128, 3).relu("relu5").max_pool("pool3").flatten("flatten");
  return b.dense("dense1", 4608, 256).relu("relu6").dense("logits", 256, 60).build();
}

Network reference_decoder() {
  NetworkBuilder b(2);
  b.dense("dense", code, 4608).unflatten("grid", 128, 6, 6).relu("relu0");
  b.upsample("up1").convolution("conv1", 128, 128, 3).relu("relu1").upsample("up2").convolution("conv2", 128, 64, 3).relu("relu2");
  return b.upsample("up3").convolution("conv3", 64, 32, 3).relu("relu3").convolution("conv4", 32, 3, 3).sigmoid("image").build();
}

// A network as the field holds it: trainable, NCHW.
Network as_the_field(const Network& network) {
  Network out = network.trainable(device());
  for (auto& [name, tensor] : out.weights) tensor = tensor.detach().contiguous().requires_grad_();
  return out;
}

struct Pair {
  Network decoder, classifier;
};
const Pair& bare() {
  static const Pair pair{reference_decoder().frozen(device()), reference_classifier().frozen(device())};
  return pair;
}
const Pair& field() {
  static const Pair pair{as_the_field(reference_decoder()), as_the_field(reference_classifier())};
  return pair;
}

// The nouns of the same pair.
Generator generator() {
  Generator out{.name = "reference", .latent = {code}, .image = {}, .decode = {}, .start = {}};
  out.decode = [network = bare().decoder](const Tensor& z) { return network(z); };
  return out;
}
Classifier classifier() { return as_classifier("reference", reference_classifier(), {}, {}, device()); }

std::vector<Unit> classes(int64_t count) {
  std::vector<Unit> units;
  for (int64_t y = 0; y < count; ++y) units.push_back({"logits", y});
  return units;
}

// Waits for the device, so that a time is the time of the work.
void finish(const Tensor& last) {
  if (last.is_cuda()) last.flatten()[0].item<float>();
}

Tensor target_rows() { return at::arange(batch, at::TensorOptions(at::kLong).device(device())).remainder(60); }

// ---- Random search: draw codes, draw images, classify, keep the best 8 of a unit.

void search_through_evoke(benchmark::State& state, std::vector<Unit> units, const std::string& precision) {
  const Target target = posterior(generator(), {}, classifier(), unit_objective(units, classifier()), {}, {});
  RandomSearchOptions options;
  options.draws = int64_t{1} << 30;
  options.batch = batch;
  options.precision = precision;
  const Sampler sampler = random_search(options, [](Stream& stream) { return stream.uniform({code}); });
  const auto rows = static_cast<int64_t>(units.size()) * options.keep;
  RunOptions run_options;
  run_options.chains = at::arange(rows, at::TensorOptions(at::kLong).device(device()));
  State at = begin(sampler, target, at::zeros({rows, code}, at::TensorOptions().device(device())), run_options);
  const auto step = [&] {
    run_options.steps = run_options.first_step + 1;
    at = run(sampler, target, std::move(at), run_options);
    ++run_options.first_step;
    finish(at.z);
  };
  // At the start of a search everything is among the best, and looked at twice where the first look is rough.
  if (precision != "float32")
    while (run_options.first_step < 64) step();
  for (auto _ : state) step();
  state.SetItemsProcessed(state.iterations() * batch);
}

void search_with(benchmark::State& state, const Pair& pair, bool inference) {
  Tensor value = at::full({8}, -1e30, at::TensorOptions().device(device())), codes = at::zeros({8, code}, value.options());
  for (auto _ : state) {
    const c10::InferenceMode guard(inference);
    const Tensor z = at::rand({batch, code}, value.options());
    const Tensor score = pair.classifier(pair.decoder(z)).select(1, 54);
    const auto [best, place] = at::topk(at::cat({value, score}), 8);
    codes = at::cat({codes, z}).index_select(0, place);
    value = best;
    if (!inference) value = value.detach();
    finish(value);
  }
  state.SetItemsProcessed(state.iterations() * batch);
}

// ---- Langevin with a Gaussian prior on log-softmax.

void langevin_through_evoke(benchmark::State& state, const std::string& precision) {
  const Classifier judge = classifier();
  PosteriorOptions posterior_options;
  posterior_options.rows = target_rows();
  posterior_options.bfloat16 = in_bfloat16(precision, device());
  const Target target =
      posterior(generator(), {}, judge, log_softmax_objective(classes(60), judge), standard_normal({code}), posterior_options);
  const Sampler sampler = langevin({});
  RunOptions options;
  options.chains = at::arange(batch, at::TensorOptions(at::kLong).device(device()));
  State at = begin(sampler, target, at::zeros({batch, code}, at::TensorOptions().device(device())), options);
  for (auto _ : state) {
    options.steps = options.first_step + 1;
    at = run(sampler, target, std::move(at), options);
    ++options.first_step;
    finish(at.z);
  }
  state.SetItemsProcessed(state.iterations() * batch);
}

void langevin_with(benchmark::State& state, const Pair& pair, bool whole_graph) {
  const Tensor rows = target_rows().unsqueeze(1);
  Tensor z = at::zeros({batch, code}, at::TensorOptions().device(device()));
  for (auto _ : state) {
    Tensor point = z.detach().requires_grad_();
    const Tensor score = at::log_softmax(pair.classifier(pair.decoder(point)), 1).gather(1, rows).sum();
    Tensor gradient;
    if (whole_graph) {
      // .backward(): every weight gets its gradient too.
      torch::autograd::backward({score});
      gradient = point.grad();
    } else {
      gradient = torch::autograd::grad({score}, {point})[0];
    }
    const c10::NoGradGuard guard;
    z = z + 0.00125 * (gradient - z) + 0.05 * at::randn_like(z);
    finish(z);
  }
  state.SetItemsProcessed(state.iterations() * batch);
}

// ---- Adam on the logit.

void ascent_through_evoke(benchmark::State& state, const std::string& precision) {
  const Classifier judge = classifier();
  PosteriorOptions posterior_options;
  posterior_options.rows = target_rows();
  posterior_options.bfloat16 = in_bfloat16(precision, device());
  const Target target = posterior(generator(), {}, judge, unit_objective(classes(60), judge), {}, posterior_options);
  const Sampler sampler = ascent({});
  RunOptions options;
  options.chains = at::arange(batch, at::TensorOptions(at::kLong).device(device()));
  State at = begin(sampler, target, at::zeros({batch, code}, at::TensorOptions().device(device())), options);
  for (auto _ : state) {
    options.steps = options.first_step + 1;
    at = run(sampler, target, std::move(at), options);
    ++options.first_step;
    finish(at.z);
  }
  state.SetItemsProcessed(state.iterations() * batch);
}

void ascent_with(benchmark::State& state, const Pair& pair, bool whole_graph) {
  const Tensor rows = target_rows().unsqueeze(1);
  Tensor z = at::zeros({batch, code}, at::TensorOptions().device(device())), mean = z, square = z;
  double count = 0;
  for (auto _ : state) {
    Tensor point = z.detach().requires_grad_();
    const Tensor score = pair.classifier(pair.decoder(point)).gather(1, rows).sum();
    Tensor g;
    if (whole_graph) {
      torch::autograd::backward({score});
      g = point.grad();
    } else {
      g = torch::autograd::grad({score}, {point})[0];
    }
    const c10::NoGradGuard guard;
    ++count;
    mean = 0.9 * mean + 0.1 * g;
    square = 0.999 * square + 0.001 * g * g;
    z = z + 0.05 * (mean / (1 - std::pow(0.9, count))) / ((square / (1 - std::pow(0.999, count))).sqrt() + 1e-8);
    finish(z);
  }
  state.SetItemsProcessed(state.iterations() * batch);
}

// ---- Training the classifier by cross-entropy, 20 steps an iteration.

constexpr int64_t training_steps = 20;
struct TrainingSet {
  Tensor images = at::randint(0, 256, {training_steps * batch, 48, 48, 3}, at::TensorOptions(at::kByte).device(device()));
  Tensor labels = at::randint(0, 60, {training_steps * batch}, at::TensorOptions(at::kLong).device(device()));
};
const TrainingSet& training_set() {
  static const TrainingSet set;
  return set;
}

void training_through_evoke(benchmark::State& state) {
  const Network network = reference_classifier().trainable(device());
  const auto& [images, labels] = training_set();
  Task task;
  task.rows = images.size(0);
  task.groups = {network.weights};
  task.losses = [&](size_t, const Tensor& rows, Stream&) {
    return Tensors{{"loss", at::cross_entropy_loss(network(as_images(images.index_select(0, rows.to(images.device())))),
                                                   labels.index_select(0, rows.to(labels.device())))}};
  };
  task.validate = [] { return std::map<std::string, double>{{"validation", 0.0}}; };
  LoopOptions options;
  options.epochs = 1;
  options.gradient_clip = 0;
  set_verbosity(Verbosity::quiet);
  for (auto _ : state) {
    learn(task, options, {});
    finish(network.weights.begin()->second.detach());
  }
  state.SetItemsProcessed(state.iterations() * training_steps * batch);
}

void training_with(benchmark::State& state, bool as_field) {
  const Network network = as_field ? as_the_field(reference_classifier()) : reference_classifier().trainable(device());
  const auto& [images, labels] = training_set();
  std::vector<Tensor> weights;
  for (const auto& [name, tensor] : network.weights) weights.push_back(tensor);
  torch::optim::AdamW optimizer(weights, torch::optim::AdamWOptions(1e-3).weight_decay(1e-4));
  for (auto _ : state) {
    const Tensor order = at::randperm(images.size(0), at::TensorOptions(at::kLong).device(device()));
    for (int64_t step = 0; step < training_steps; ++step) {
      const Tensor rows = order.slice(0, step * batch, (step + 1) * batch);
      Tensor x = images.index_select(0, rows).permute({0, 3, 1, 2}).to(at::kFloat).mul_(1.0 / 255.0);
      if (as_field) x = x.contiguous(at::MemoryFormat::Contiguous);
      optimizer.zero_grad();
      torch::autograd::backward({at::cross_entropy_loss(network(x), labels.index_select(0, rows.to(labels.device())))});
      optimizer.step();
    }
    finish(weights[0].detach());
  }
  state.SetItemsProcessed(state.iterations() * training_steps * batch);
}

void add() {
  const auto channels = [] {
    std::vector<Unit> units = classes(60);
    for (int64_t c = 0; c < 8; ++c) units.push_back({"conv3", c});
    return units;
  };
  const auto put = [](const char* name, auto body) {
    benchmark::RegisterBenchmark(name, body)->UseRealTime()->Unit(benchmark::kMillisecond);
  };
  put("search/field", [](benchmark::State& s) { search_with(s, field(), false); });
  put("langevin/field", [](benchmark::State& s) { langevin_with(s, field(), true); });
  put("ascent/field", [](benchmark::State& s) { ascent_with(s, field(), true); });
  put("training/field", [](benchmark::State& s) { training_with(s, true); });
  put("training/bare", [](benchmark::State& s) { training_with(s, false); });
  put("training/evoke", [](benchmark::State& s) { training_through_evoke(s); });
  put("search/bare", [](benchmark::State& s) { search_with(s, bare(), true); });
  put("search/evoke", [](benchmark::State& s) { search_through_evoke(s, {{"logits", 54}}, "float32"); });
  put("search/evoke_auto", [](benchmark::State& s) { search_through_evoke(s, {{"logits", 54}}, "auto"); });
  put("search/evoke_68_units", [channels](benchmark::State& s) { search_through_evoke(s, channels(), "float32"); });
  put("search/evoke_auto_68_units", [channels](benchmark::State& s) { search_through_evoke(s, channels(), "auto"); });
  put("langevin/bare", [](benchmark::State& s) { langevin_with(s, bare(), false); });
  put("langevin/evoke", [](benchmark::State& s) { langevin_through_evoke(s, "float32"); });
  put("langevin/evoke_auto", [](benchmark::State& s) { langevin_through_evoke(s, "auto"); });
  put("ascent/bare", [](benchmark::State& s) { ascent_with(s, bare(), false); });
  put("ascent/evoke", [](benchmark::State& s) { ascent_through_evoke(s, "float32"); });
  put("ascent/evoke_auto", [](benchmark::State& s) { ascent_through_evoke(s, "auto"); });
}

// Shows the rows as they come and remembers the medians.
class Medians : public benchmark::ConsoleReporter {
 public:
  void ReportRuns(const std::vector<Run>& runs) override {
    benchmark::ConsoleReporter::ReportRuns(runs);
    for (const Run& run : runs)
      if (run.run_type == Run::RT_Iteration) times_[run.run_name.function_name].push_back(run.GetAdjustedRealTime());
  }
  double of(const std::string& name) {
    auto& all = times_[name];
    if (all.empty()) return std::nan("");
    std::sort(all.begin(), all.end());
    return all[all.size() / 2];
  }
  std::map<std::string, std::vector<double>> times_;
};

}  // namespace
}  // namespace evoke

int main(int argc, char** argv) {
  // Random interleaving, so that a machine that slows down slows both sides of a ratio.
  std::vector<char*> arguments(argv, argv + argc);
  std::string interleave = "--benchmark_enable_random_interleaving=true", repetitions = "--benchmark_repetitions=9",
              least = "--benchmark_min_time=0.5";
  arguments.insert(arguments.begin() + 1, {interleave.data(), repetitions.data(), least.data()});
  int count = static_cast<int>(arguments.size());
  benchmark::Initialize(&count, arguments.data());
  evoke::add();
  evoke::add_program_benchmarks();
  evoke::Medians medians;
  // The field's loops first: once memory is retained, it stays retained.
  benchmark::RunSpecifiedBenchmarks(&medians, nullptr, ".*/field.*");
  evoke::retain_memory();
  benchmark::RunSpecifiedBenchmarks(&medians, nullptr, ".*/(bare|evoke).*");

  std::printf("\n| job, batch 64 | evoke ms | bare ms | field ms | evoke / bare | field / evoke |\n|---|---|---|---|---|---|\n");
  for (const std::string job : {"search", "langevin", "ascent", "training"}) {
    const double evoke = medians.of(job + "/evoke"), bare = medians.of(job + "/bare"), field = medians.of(job + "/field");
    if (evoke == evoke)
      std::printf("| %s | %.1f | %.1f | %.1f | %.3f | %.2f |\n", job.c_str(), evoke, bare, field, evoke / bare, field / evoke);
  }
  if (medians.of("program_small/evoke") > 0) {
    std::printf("\n| exported program | evoke µs | by hand µs | evoke / by hand |\n|---|---|---|---|\n");
    for (const std::string net : {"resnet18", "small"}) {
      const double evoke = medians.of("program_" + net + "/evoke"), by_hand = medians.of("program_" + net + "/bare");
      std::printf("| %s | %.1f | %.1f | %.3f |\n", net.c_str(), evoke, by_hand, evoke / by_hand);
    }
  }
  std::printf("scoring 60 classes and 8 channels / scoring one class: %.3f\n",
              medians.of("search/evoke_68_units") / medians.of("search/evoke"));
  std::printf("search with precision auto, after 4,096 draws: %.1f ms, field / evoke %.2f; 68 units %.1f ms\n",
              medians.of("search/evoke_auto"), medians.of("search/field") / medians.of("search/evoke_auto"),
              medians.of("search/evoke_auto_68_units"));
  for (const std::string job : {"langevin", "ascent"})
    std::printf("%s with precision auto: %.1f ms, float32 / auto %.2f\n", job.c_str(), medians.of(job + "/evoke_auto"),
                medians.of(job + "/evoke") / medians.of(job + "/evoke_auto"));
  return 0;
}
