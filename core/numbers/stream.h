// Randomness as a pure function of (seed, chain, step): Philox4x32-10 counters, the same bits on CPU and CUDA.
#pragma once
#include <cstdint>

#include "core/numbers/tensor.h"

namespace evoke {

/// Chains are numbered below this.
inline constexpr int64_t chain_limit = int64_t{1} << 52;

/// Random numbers for the rows of a batch, one chain a row.
///
/// Element e of draw d at step t of chain c is Philox4x32-10 (Salmon 2011) with key = seed and
/// counter = (e / 4, c mod 2^32, t, d + 2^12·⌊c / 2^32⌋), word e mod 4; d below 2^12. So a chain draws the same numbers alone, in any batch, in any shard, on any
/// number of threads, after a resume, and on CPU and CUDA alike. Nothing global is seeded.
class Stream {
 public:
  /// chains: int64 [N], each in [0, 2^52); its device is where the numbers are made. step: in [-1, 2^32 - 2]; -1 is the start of a run.
  Stream(uint64_t seed, Tensor chains, int64_t step = -1);
  /// The step as a tensor, int64 [] on the device of the chains, which is read when numbers are drawn: a CUDA graph that holds the draw
  /// gives other numbers once another step is written into it. On the CPU it is read at once.
  Stream(uint64_t seed, Tensor chains, Tensor step);
  /// Chains first … first + rows - 1.
  static Stream range(uint64_t seed, int64_t first, int64_t rows, at::Device device = at::kCPU, int64_t step = -1);

  /// Standard normal numbers, float32 [N, shape…]: the inverse normal distribution function (Wichura 1988, AS241) of
  /// (word + ½)/2³², in double, with fused multiply-adds that round alike on CPU and CUDA. |value| < 6.4.
  Tensor normal(at::IntArrayRef shape);
  /// Uniform numbers in (0, 1), float32 [N, shape…]: (top 23 bits of word + ½)/2²³.
  Tensor uniform(at::IntArrayRef shape);

  /// The same chains at another step, with no draw taken yet.
  Stream at_step(int64_t step) const { return {seed_, chains_, step}; }
  /// The same step of other chains, int64 [M], with as many draws taken: what they give next is what a stream of all chains would.
  Stream of_chains(Tensor chains) const;
  const Tensor& chains() const { return chains_; }
  int64_t rows() const { return chains_.size(0); }
  uint64_t seed() const { return seed_; }
  /// The step as a number of the host. Throws Failure::runtime where it is only known on the device (see knows_step).
  int64_t step() const;
  bool knows_step() const { return !device_step_.defined(); }
  /// The step as int64 [] on the device of the chains, for schedules that a CUDA graph may hold.
  Tensor step_tensor() const;

 private:
  Tensor draw(at::IntArrayRef shape, bool normal);

  uint64_t seed_;
  Tensor chains_;
  int64_t step_ = -1;
  Tensor device_step_;  // where the step is only known on the device; undefined elsewhere
  uint32_t draws_ = 0;  // how many tensors this stream has given at this step
};

}  // namespace evoke
