#include "core/programs/memory_bound.h"

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>

#include <cstdint>
#include <fstream>
#include <limits>
#include <string>

#include "core/error.h"
#include "core/programs/checks.h"

namespace evoke {

namespace {

constexpr size_t small = size_t{1} << 28;  // bytes; smaller blocks are not worth a look
thread_local int bounds = 0;

// Bytes that the machine can still give, as far as it says.
uint64_t available_memory() {
  std::ifstream lines("/proc/meminfo");
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with("MemAvailable:")) return std::strtoull(line.c_str() + 13, nullptr, 10) * 1024;
  return std::numeric_limits<uint64_t>::max();
}

class Bounded final : public c10::Allocator {
 public:
  explicit Bounded(c10::Allocator* inner) : inner_(inner) {}
  c10::DataPtr allocate(size_t bytes) override {
    if (bounds > 0 && bytes >= small) {
      require(bytes / 16 <= uint64_t{most_numbers}, Failure::input, "asks for ", bytes, " bytes, more than any network's values take");
      require(bytes <= available_memory() / 2, Failure::device, "asks for ", bytes >> 20,
              " MiB at once: there is not enough memory left to go on; take fewer rows at a time");
    }
    return inner_->allocate(bytes);
  }
  c10::DeleterFnPtr raw_deleter() const override { return inner_->raw_deleter(); }
  void copy_data(void* to, const void* from, size_t bytes) const override { inner_->copy_data(to, from, bytes); }

 private:
  c10::Allocator* inner_;
};

}  // namespace

MemoryBound::MemoryBound() {
  // Never freed: tensors that outlive everything else give their memory back through it.
  static const bool installed = [] {
    c10::SetCPUAllocator(new Bounded(c10::GetCPUAllocator()));
    return true;
  }();
  bounds += installed;
}

MemoryBound::~MemoryBound() { --bounds; }

}  // namespace evoke
