// A file's numbers decide how large values become: what the machine does not have is refused before it is taken.
#pragma once

namespace evoke {

/// While one lives, a block of this thread's tensors on the CPU may take half of the memory that the machine can still give, and no more.
/// LibTorch asks before it writes, the kernel kills once pages are written. Allocation throws Failure::device, or Failure::input for what
/// no network needs. On other devices LibTorch refuses by itself.
class MemoryBound {
 public:
  MemoryBound();
  ~MemoryBound();
  MemoryBound(const MemoryBound&) = delete;
  MemoryBound& operator=(const MemoryBound&) = delete;
};

}  // namespace evoke
