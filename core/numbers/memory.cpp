#include "core/numbers/memory.h"

#include <malloc.h>

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

int64_t memory_during(const std::function<void()>& work) {
  malloc_trim(0);
  if (!(std::ofstream("/proc/self/clear_refs") << "5" << std::flush)) return 0;
  const int64_t before = status_bytes("VmRSS:");
  work();
  return status_bytes("VmHWM:") - before;
}

bool speaks_of_memory(const std::string& sentence) {
  for (const char* words : {"out of memory", "can't allocate memory", "not enough memory", "CUDA_ERROR_OUT_OF_MEMORY"})
    if (sentence.find(words) != std::string::npos) return true;
  return false;
}

}  // namespace evoke
