// Shards: a run's work cut into parts for several processes or machines.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "core/records/run_directory.h"

namespace evoke {

/// The index-th of count equal parts: of a run's chains, or of the images that are looked at.
struct Shard {
  int64_t index = 0, count = 1;
  /// Of `groups` that may not be parted, where this shard begins; the next one's beginning is where it ends.
  int64_t begin(int64_t groups) const { return groups * index / count; }
  int64_t end(int64_t groups) const { return groups * (index + 1) / count; }
};
/// "0/4" to a shard. Throws Failure::usage unless it is i/n with 0 ≤ i < n.
Shard shard_named(const std::string& word);

/// Writes into the manifest which shard of its run a directory holds. Throws Failure::usage where it holds another.
void record_shard(RunDirectory&, const Shard&);

/// Run directories in the order of their shards. Throws Failure::input unless they are all the shards of one run of `verb`, each of them
/// finished.
std::vector<std::string> shards_in_order(const std::vector<std::string>& runs, const std::string& verb);

}  // namespace evoke
