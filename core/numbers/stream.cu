#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "core/numbers/philox.h"
#include "core/numbers/stream_cuda.h"

namespace evoke {

namespace {
// A thread makes four neighbouring elements of one row, which one Philox block gives.
__global__ void fill(float* out, const int64_t* chains, int64_t rows, int64_t elements, uint32_t key0, uint32_t key1, uint32_t step,
                     const int64_t* device_step, uint32_t draw, bool normal) {
  if (device_step) step = static_cast<uint32_t>(*device_step);
  const int64_t blocks = (elements + 3) / 4;
  for (int64_t i = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; i < rows * blocks; i += int64_t{gridDim.x} * blockDim.x) {
    const int64_t row = i / blocks, block = i % blocks;
    const PhiloxWords words =
        philox({{static_cast<uint32_t>(block), static_cast<uint32_t>(chains[row]), step, stream_word(chains[row], draw)}}, key0, key1);
    for (int64_t e = 4 * block; e < min(4 * block + 4, elements); ++e)
      out[row * elements + e] = normal ? normal_from(words.word[e - 4 * block]) : uniform_from(words.word[e - 4 * block]);
  }
}
}  // namespace

void fill_cuda(Tensor& out, const Tensor& chains, int64_t elements, uint64_t seed, uint32_t step, const Tensor& device_step, uint32_t draw,
               bool normal) {
  const int64_t work = out.numel() == 0 ? 0 : chains.size(0) * ((elements + 3) / 4);
  if (work == 0) return;
  const c10::cuda::CUDAGuard guard(out.device());
  const int grid = static_cast<int>(std::min<int64_t>((work + 255) / 256, 8192));
  fill<<<grid, 256, 0, c10::cuda::getCurrentCUDAStream()>>>(
      out.mutable_data_ptr<float>(), chains.const_data_ptr<int64_t>(), chains.size(0), elements, static_cast<uint32_t>(seed),
      static_cast<uint32_t>(seed >> 32), step, device_step.defined() ? device_step.const_data_ptr<int64_t>() : nullptr, draw, normal);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

}  // namespace evoke
