// How much memory a piece of work needs.
#pragma once
#include <cstdint>
#include <functional>
#include <string>

namespace evoke {

/// Bytes of resident memory that the process took at the most while `work` ran, beside what it held before. The peak is set back first
/// (/proc/self/clear_refs), so one measurement does not hide in an earlier, larger one, and what was freed before and kept by the allocator
/// is given back, so it is taken anew. What a first piece of work makes once and for all is counted, so only the difference of two says what
/// one more row of it needs. 0 where the system does not tell, and then
/// nothing is done.
int64_t memory_during(const std::function<void()>& work);

/// Does a library's sentence speak of memory that ran out?
bool speaks_of_memory(const std::string& sentence);

}  // namespace evoke
