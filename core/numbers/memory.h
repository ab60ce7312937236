// How much memory a piece of work needs.
#pragma once
#include <cstdint>
#include <functional>
#include <string>

namespace evoke {

/// Bytes of resident memory that `work` needed at its peak beyond what the process held before; the peak is set back first
/// (/proc/self/clear_refs), so one measurement does not hide in an earlier, larger one. 0 where the system does not tell.
int64_t peak_memory_of(const std::function<void()>& work);

/// Does a library's sentence speak of memory that ran out?
bool speaks_of_memory(const std::string& sentence);

}  // namespace evoke
