// The CUDA twin of Stream::draw.
#pragma once
#include "core/numbers/tensor.h"

namespace evoke {

/// Fills out, float32 [N,…] contiguous on CUDA, as Stream documents, without a copy to or from the host. device_step: int64 [] on CUDA,
/// read by the kernel in place of `step` where it is defined.
void fill_cuda(Tensor& out, const Tensor& chains, int64_t elements, uint64_t seed, uint32_t step, const Tensor& device_step, uint32_t draw,
               bool normal);

}  // namespace evoke
