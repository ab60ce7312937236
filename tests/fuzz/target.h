// What every fuzz target needs (scripts/fuzz): where the input lies, what may come out, and memory that shows a read past a tensor's end.
#pragma once
#include <ATen/Parallel.h>
#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/util/Exception.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/error.h"

namespace evoke {

// Memory that ends at a page nobody may touch: LibTorch is not instrumented, and would read past a tensor's end unseen.

constexpr size_t page = 4096, slot_bytes = 4 * page, most_bytes = size_t{1} << 26;

class Guarded final : public c10::Allocator {
 public:
  // Some callers keep the pointer alone: what belongs to it is looked up.
  static void release(void* data) {
    const std::lock_guard<std::mutex> locked(guard_);
    const auto found = blocks_.find(data);
    if (found == blocks_.end()) return;
    if (found->second.pooled)
      free_.push_back(found->second.base);
    else
      munmap(found->second.base, found->second.bytes);
    blocks_.erase(found);
  }

  c10::DataPtr allocate(size_t bytes) override {
    const c10::Device cpu(c10::DeviceType::CPU);
    if (bytes == 0) return {nullptr, cpu};
    TORCH_CHECK(bytes <= most_bytes, "DefaultCPUAllocator: can't allocate memory: you tried to allocate ", bytes, " bytes.");
    const std::lock_guard<std::mutex> locked(guard_);
    Block block{nullptr, 0, bytes <= slot_bytes};
    size_t whole = slot_bytes;
    if (block.pooled) {
      if (free_.empty())
        for (int i = 0; i < 64; ++i) free_.push_back(mapped(slot_bytes));
      block.base = free_.back();
      free_.pop_back();
    } else {
      whole = (bytes + page - 1) / page * page;
      block.base = mapped(whole);
      block.bytes = whole + 2 * page;
    }
    // Numbers lie at the end; what is vectorized asks for steps of 16 bytes at most of its own accord.
    char* data = block.base + page + (whole - (bytes + 15) / 16 * 16);
    if (block.pooled) std::memset(data, 0xa5, bytes);
    blocks_[data] = block;
    return {data, data, &release, cpu};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, size_t bytes) const override { std::memcpy(to, from, bytes); }

 private:
  struct Block {
    char* base;
    size_t bytes;
    bool pooled;
  };
  static char* mapped(size_t bytes) {
    void* base = mmap(nullptr, bytes + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    TORCH_CHECK(base != MAP_FAILED, "DefaultCPUAllocator: can't allocate memory");
    mprotect(static_cast<char*>(base) + page, bytes, PROT_READ | PROT_WRITE);
    return static_cast<char*>(base);
  }
  static inline std::mutex guard_;
  static inline std::vector<char*> free_;
  static inline std::unordered_map<void*, Block> blocks_;
};

struct Silent final : c10::WarningHandler {
  void process(const c10::Warning&) override {}
};

/// The input as a file, in memory.
inline std::string written(const uint8_t* data, size_t size) {
  static const std::string file = "/dev/shm/evoke_fuzz_" + std::to_string(getpid());
  std::ofstream(file, std::ios::binary) << std::string_view(reinterpret_cast<const char*>(data), size);
  return file;
}

[[noreturn]] inline void escaped(const char* what) {
  std::fprintf(stderr, "escaped: %s\n", what);
  std::abort();
}

/// Whatever a file does, it runs, or it ends in a sentence of one line. EVOKE_FUZZ_TELL in the environment: says which.
template <class Act>
void outcome(Act act) {
  static const bool tell = std::getenv("EVOKE_FUZZ_TELL") != nullptr;
  try {
    act();
    if (tell) std::fprintf(stderr, "ran\n");
  } catch (const Error& error) {
    if (tell) std::fprintf(stderr, "said: %s\n", error.what());
    const std::string_view said(error.what());
    if (said.empty() || said.find('\n') != std::string_view::npos) escaped(error.what());
  } catch (const std::exception& error) {
    if (std::string_view(error.what()).find("can't allocate memory") == std::string_view::npos) escaped(error.what());
  }
}

}  // namespace evoke

extern "C" __attribute__((used)) inline int LLVMFuzzerInitialize(int*, char***) {
  static evoke::Guarded guarded;
  static evoke::Silent silent;
  c10::SetCPUAllocator(&guarded, 100);
  c10::WarningUtils::set_warning_handler(&silent);
  at::set_num_threads(1);
  return 0;
}
