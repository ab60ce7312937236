#include "core/numbers/stream.h"

#include <ATen/Parallel.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>

#include "core/error.h"
#include "core/numbers/philox.h"
#include "core/numbers/stream_cuda.h"

namespace evoke {

namespace {
// One row's numbers; built twice, because a fused multiply-add in hardware is ten times the library's.
__attribute__((flatten, target_clones("arch=x86-64-v3", "default"))) void fill_row(float* out, int64_t elements, uint64_t seed,
                                                                                   int64_t chain, uint32_t step, uint32_t draw,
                                                                                   bool normal) {
  const uint32_t low = static_cast<uint32_t>(chain), last = stream_word(chain, draw);
  for (int64_t first = 0; first < elements; first += 4) {
    const PhiloxWords words =
        philox({{static_cast<uint32_t>(first / 4), low, step, last}}, static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
    for (int64_t e = first; e < std::min(first + 4, elements); ++e)
      out[e] = normal ? normal_from(words.word[e - first]) : uniform_from(words.word[e - first]);
  }
}
}  // namespace

Stream::Stream(uint64_t seed, Tensor chains, int64_t step) : seed_(seed), chains_(std::move(chains)), step_(step) {
  require(chains_.defined() && chains_.dim() == 1 && chains_.scalar_type() == at::kLong && chains_.is_contiguous(), Failure::runtime,
          "stream: expected chains as a contiguous int64 tensor [N]");
  require(step >= -1 && step < int64_t{0xFFFFFFFF}, Failure::runtime, "stream: found step ", step, ", expected -1 to 2^32 - 2");
}

Stream::Stream(uint64_t seed, Tensor chains, Tensor step) : Stream(seed, std::move(chains), step.is_cpu() ? step.item<int64_t>() : -1) {
  require(step.dim() == 0 && step.scalar_type() == at::kLong && step.device() == chains_.device(), Failure::runtime,
          "stream: expected the step as an int64 tensor [] on the device of the chains");
  if (!step.is_cpu()) device_step_ = std::move(step);
}

Stream Stream::of_chains(Tensor chains) const {
  Stream out(seed_, std::move(chains), step_);
  out.device_step_ = device_step_;
  out.draws_ = draws_;
  return out;
}

int64_t Stream::step() const {
  require(knows_step(), Failure::runtime, "stream: the step is known on the device only; read step_tensor()");
  return step_;
}

Tensor Stream::step_tensor() const { return knows_step() ? at::full({}, step_, chains_.options()) : device_step_; }

Stream Stream::range(uint64_t seed, int64_t first, int64_t rows, at::Device device, int64_t step) {
  require(first >= 0 && rows >= 0 && first + rows <= chain_limit, Failure::runtime, "stream: found chains ", first, " to ",
          first + rows - 1, ", expected numbers below 2^52");
  return {seed, at::arange(first, first + rows, at::TensorOptions(at::kLong).device(device)), step};
}

Tensor Stream::normal(at::IntArrayRef shape) { return draw(shape, true); }
Tensor Stream::uniform(at::IntArrayRef shape) { return draw(shape, false); }

Tensor Stream::draw(at::IntArrayRef shape, bool normal) {
  std::vector<int64_t> sizes{rows()};
  sizes.insert(sizes.end(), shape.begin(), shape.end());
  Tensor out = at::empty(sizes, chains_.options().dtype(at::kFloat));
  const int64_t elements = rows() == 0 ? 0 : out.numel() / rows();
  const auto step = static_cast<uint32_t>(step_);
  require(draws_ < stream_draws, Failure::runtime, "stream: found more than ", stream_draws, " draws at one step; draw larger tensors");
  const uint32_t draw = draws_++;
  if (chains_.is_cuda()) {
    fill_cuda(out, chains_, elements, seed_, step, device_step_, draw, normal);
    return out;
  }
  float* data = out.mutable_data_ptr<float>();
  const int64_t* chains = chains_.const_data_ptr<int64_t>();
  at::parallel_for(0, rows(), std::max<int64_t>(1, 4096 / std::max<int64_t>(1, elements)), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) fill_row(data + row * elements, elements, seed_, chains[row], step, draw, normal);
  });
  return out;
}

}  // namespace evoke
