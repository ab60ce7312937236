#include "core/numbers/tensor.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>
#include <ATen/cpu/Utils.h>
#include <malloc.h>
#include <sys/resource.h>

#include "core/error.h"

namespace evoke {

std::string shape_text(at::IntArrayRef shape) {
  std::string out = "[";
  for (size_t i = 0; i < shape.size(); ++i) out += (i ? "," : "") + std::to_string(shape[i]);
  return out + "]";
}

void require_shape(const Tensor& tensor, at::IntArrayRef shape, std::string_view where) {
  bool same = tensor.defined() && tensor.dim() == static_cast<int64_t>(shape.size());
  for (size_t i = 0; same && i < shape.size(); ++i) same = shape[i] == -1 || tensor.size(i) == shape[i];
  require(same, Failure::input, where, ": found ", tensor.defined() ? shape_text(tensor.sizes()) : "no tensor", ", expected ",
          shape_text(shape), " (-1 is any size)");
}

Tensor broadcast_rows(const Tensor& values, int64_t dimensions) {
  std::vector<int64_t> shape(dimensions, 1);
  shape[0] = values.size(0);
  return values.view(shape);
}

at::Device device_named(std::string_view name) {
  if (name == "auto") return at::hasCUDA() ? at::Device(at::kCUDA, 0) : at::Device(at::kCPU);
  const bool known = name == "cpu" || name == "cuda" ||
                     (name.substr(0, 5) == "cuda:" && name.size() > 5 && name.size() < 8 &&
                      name.substr(5).find_first_not_of("0123456789") == std::string_view::npos);
  require(known, Failure::usage, "found no device called '", name, "', expected auto, cpu, cuda or cuda:N");
  if (name == "cpu") return at::Device(at::kCPU);
  require(at::hasCUDA(), Failure::device, "device: found no CUDA device for '", name,
          "'; use --device cpu, or auto to take CUDA where it is present");
  const int index = name == "cuda" ? 0 : std::stoi(std::string(name.substr(5)));
  const auto count = static_cast<int>(at::detail::getCUDAHooks().deviceCount());
  require(index < count, Failure::device, "device: found ", count, " CUDA devices, expected one numbered ", index);
  return at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(index));
}

bool in_bfloat16(std::string_view precision, at::Device device) {
  require(precision == "auto" || precision == "float32" || precision == "bfloat16", Failure::usage, "precision: found '", precision,
          "', expected auto, float32 or bfloat16");
  if (precision != "auto") return precision == "bfloat16";
  if (device.is_cuda()) return at::detail::getCUDAHooks().supportsBFloat16ConvolutionWithCuDNNv8();
  static const bool native = [] {
    const auto can = at::cpu::get_cpu_capabilities();
    const auto has = [&](const char* what) {
      const auto found = can.find(what);
      return found != can.end() && found->second.isBool() && found->second.toBool();
    };
    return has("avx512_bf16") || has("amx_bf16");
  }();
  return native;
}

Bfloat16Scope::Bfloat16Scope(bool on, at::Device device) : on_(on), device_(device) {
  if (!on_) return;
  before_ = at::autocast::is_autocast_enabled(device.type());
  at::autocast::set_autocast_enabled(device.type(), true);
  at::autocast::set_autocast_dtype(device.type(), at::kBFloat16);
  at::autocast::increment_nesting();
}

Bfloat16Scope::~Bfloat16Scope() {
  if (!on_) return;
  // Rounded weights are kept until the outermost scope ends.
  if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
  at::autocast::set_autocast_enabled(device_.type(), before_);
}

void retain_memory() {
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 2'000'000'000);
  mallopt(M_TOP_PAD, 64 << 20);
}

void set_threads(int64_t threads) {
  require(threads >= 0 && threads <= 1024, Failure::usage, "threads: found ", threads, ", expected 0 (one a core) to 1024");
  if (threads > 0) at::set_num_threads(static_cast<int>(threads));
}

double peak_memory_mib() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024.0;
}

}  // namespace evoke
