#include "core/numbers/memory.h"

#include <algorithm>
#include <fstream>
#include <string>

namespace evoke {

namespace {

// A line such as "VmHWM:   1234 kB" of /proc/self/status, in bytes.
int64_t status_bytes(const std::string& key) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with(key)) return 1024 * std::stoll(line.substr(key.size()));
  return 0;
}

}  // namespace

int64_t peak_memory_during(const std::function<void()>& work) {
  std::ofstream("/proc/self/clear_refs") << "5";
  work();
  return status_bytes("VmHWM:");
}

bool speaks_of_memory(const std::string& sentence) {
  for (const char* words : {"out of memory", "can't allocate memory", "not enough memory", "CUDA_ERROR_OUT_OF_MEMORY"})
    if (sentence.find(words) != std::string::npos) return true;
  return false;
}

}  // namespace evoke
