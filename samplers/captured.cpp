#include "samplers/captured.h"

#include <ATen/ATen.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAGuard.h>

#include <memory>
#include <optional>

#include "core/error.h"
#include "core/log.h"
#include "core/nouns/run.h"

namespace evoke {

namespace {

constexpr int64_t first_steps = 3;  // that run as they are, before one is recorded

// What a graph was recorded for; it serves steps of nothing else.
struct Recorded {
  const Target* target;
  uint64_t seed;
  Tensor chains;
  Tensors state;  // as the graph reads it

  bool serves(const Tensors& now, const Target& of, const Stream& stream) const {
    if (target != &of || seed != stream.seed() || !chains.is_same(stream.chains()) || now.size() != state.size()) return false;
    for (const auto& [name, tensor] : now) {
      const auto found = state.find(name);
      if (found == state.end() || found->second.sizes() != tensor.sizes() || found->second.strides() != tensor.strides() ||
          found->second.scalar_type() != tensor.scalar_type() || found->second.device() != tensor.device())
        return false;
    }
    return true;
  }
};

class Recorder {
 public:
  Transition step(const Sampler& sampler, const State& state, const Target& target, Stream& stream) {
    const Tensors now = pack(state);
    if (!recorded_ || !recorded_->serves(now, target, stream)) {
      graph_.reset();
      steps_ = 0;
      recorded_ = Recorded{&target, stream.seed(), stream.chains(), now};
    }
    if (steps_ < first_steps) {
      ++steps_;
      return sampler.step(state, target, stream);
    }
    const c10::cuda::CUDAGuard guard(state.z.device());
    if (!graph_) record(sampler, target, stream);
    for (const auto& [name, tensor] : now) recorded_->state.at(name).copy_(tensor, /*non_blocking=*/true);
    step_.fill_(stream.step());
    graph_->replay();

    // The next replay writes over what the graph gives.
    Tensors given = pack(next_.state);
    for (auto& [name, tensor] : given) tensor = tensor.clone();
    Info info;
    if (next_.info.acceptance.defined()) info.acceptance = next_.info.acceptance.clone();
    if (next_.info.moved.defined()) info.moved = next_.info.moved.clone();
    return {unpack(given), std::move(info)};
  }

 private:
  void record(const Sampler& sampler, const Target& target, const Stream& stream) {
    for (auto& [name, tensor] : recorded_->state) tensor = tensor.clone();
    step_ = stream.step_tensor();
    Stream numbers(stream.seed(), stream.chains(), step_);
    c10::cuda::getCurrentCUDAStream().synchronize();
    const c10::cuda::CUDAStreamGuard apart(c10::cuda::getStreamFromPool(/*isHighPriority=*/false, stream.chains().device().index()));
    auto graph = std::make_unique<at::cuda::CUDAGraph>();
    graph->capture_begin();
    try {
      next_ = sampler.step(unpack(recorded_->state), target, numbers);
    } catch (const std::exception& reason) {
      try {
        graph->capture_end();
      } catch (const std::exception&) {
        // The first reason is the one to tell.
      }
      fail(Failure::runtime, "captured: a step of ", sampler.name, " on ", target.name, " could not be recorded into a CUDA graph (",
           one_line(reason.what()), "); it waits for the host somewhere: run it without graphs");
    }
    graph->capture_end();
    graph_ = std::move(graph);
  }

  std::optional<Recorded> recorded_;
  int64_t steps_ = 0;  // run as they are, for what `recorded_` names
  std::unique_ptr<at::cuda::CUDAGraph> graph_;
  Tensor step_;      // int64 [], as the graph reads it
  Transition next_;  // as the graph writes it
};

}  // namespace

Sampler captured(Sampler sampler) {
  Sampler out = sampler;
  out.step = [sampler = std::move(sampler), recorder = std::make_shared<Recorder>()](const State& state, const Target& target,
                                                                                     Stream& stream) {
    if (!state.z.is_cuda()) return sampler.step(state, target, stream);
    if (!sampler.capturable || !target.capturable) {
      warn_once(text(sampler.capturable ? "target " + target.name : "sampler " + sampler.name,
                     " cannot be held in a CUDA graph: its kernels are launched one by one"));
      return sampler.step(state, target, stream);
    }
    return recorder->step(sampler, state, target, stream);
  };
  return out;
}

}  // namespace evoke
