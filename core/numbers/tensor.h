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

/// `values` [N] as a tensor [N,1,…] of `dimensions` dimensions, which broadcasts over the rows of such a tensor.
Tensor broadcast_rows(const Tensor& values, int64_t dimensions);

/// "auto" (CUDA if present), "cpu", "cuda" or "cuda:1". Throws Failure::device when it is not there, Failure::usage when it is no device.
at::Device device_named(std::string_view name);

/// What "auto", "float32" and "bfloat16" mean on a device: true for bfloat16, which auto is where the processor multiplies it itself (x86
/// with AVX512_BF16 or AMX, CUDA from compute capability 8) and so is about twice as fast.
bool in_bfloat16(std::string_view precision, at::Device device);

/// While it lives and `on`, LibTorch rounds what goes into convolutions and matrix products to bfloat16 (8 bits of precision); sums are
/// float32, weights stay as they are (autocast). Networks still answer in float32.
class Bfloat16Scope {
 public:
  Bfloat16Scope(bool on, at::Device device);
  ~Bfloat16Scope();
  Bfloat16Scope(const Bfloat16Scope&) = delete;
  Bfloat16Scope& operator=(const Bfloat16Scope&) = delete;

 private:
  bool on_, before_ = false;
  at::Device device_;
};

/// Keeps freed memory in the process (glibc returns large blocks to the kernel otherwise, and faults them in again at every step):
/// 1.3 to 1.5 times the speed of LibTorch on a CPU. Called once, by programs.
void retain_memory();

/// Threads for LibTorch's CPU kernels; 0 leaves the default, which is one a core.
void set_threads(int64_t threads);

/// The largest resident set of this process so far, in MiB.
double peak_memory_mib();

}  // namespace evoke
