// Tensors by name, the checks that guard them, and the machine they live on.
#pragma once
#include <ATen/core/Tensor.h>

#include <map>
#include <string>
#include <string_view>

namespace evoke {

using at::Tensor;
/// Tensors by name; iterates in the order of the names, so files and checks are reproducible.
using Tensors = std::map<std::string, Tensor>;

/// "[4,3,48,48]".
std::string shape_text(at::IntArrayRef shape);

/// Throws Failure::input unless `tensor` has exactly this shape; -1 in `shape` matches any size. `where` begins the sentence.
void require_shape(const Tensor& tensor, at::IntArrayRef shape, std::string_view where);

/// `values` [N] as a tensor that broadcasts over the rows of a tensor of `dimensions` dimensions: [N,1,…].
Tensor per_row(const Tensor& values, int64_t dimensions);

/// "auto" (CUDA if present), "cpu", "cuda" or "cuda:1". Throws Failure::device when it is not there, Failure::usage when it is no device.
at::Device device_named(std::string_view name);

/// Keeps freed memory in the process (glibc returns large blocks to the kernel otherwise, and faults them in again at every step):
/// 1.3 to 1.5 times the speed of LibTorch on a CPU. Called once, by programs.
void retain_memory();

/// Threads for LibTorch's CPU kernels; 0 leaves the default, which is one a core.
void set_threads(int64_t threads);

/// The largest resident set of this process so far, in MiB.
double peak_memory_mib();

}  // namespace evoke
