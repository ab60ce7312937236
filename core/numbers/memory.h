// How much memory a piece of work needs.
#pragma once
#include <cstdint>
#include <functional>
#include <string>

namespace evoke {

/// Bytes of resident memory that the process held at its peak while `work` ran; the peak is set back first (/proc/self/clear_refs), so one
/// measurement does not hide in an earlier, larger one. What was freed before and kept by the allocator is counted: only the difference of
/// two pieces of work says what one needs. 0 where the system does not tell.
int64_t peak_memory_during(const std::function<void()>& work);

/// Does a library's sentence speak of memory that ran out?
bool speaks_of_memory(const std::string& sentence);

}  // namespace evoke
