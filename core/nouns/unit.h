// A unit as a value: what is asked for, on the command line, in a run's results and before a judge. It is text only where a person reads
// it.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace evoke {

/// A unit (or channel) of a layer, at y, x of its map, or at token y; -1: the usual place, or a layer without places.
struct Unit {
  std::string layer;
  int64_t index = 0, y = -1, x = -1;
  bool operator==(const Unit&) const = default;
};

/// "conv3:5", "conv3:5@12,9", "block2:5@7".
std::string unit_text(const Unit&);

/// What one column of an objective's scores is about: a unit, or something that is not one unit (a whole layer, a direction, a sum of
/// several), which has only a name.
struct Column {
  std::string name;  // of a unit: unit_text of it
  std::optional<Unit> unit{};
};
Column column_of(const Unit&);
/// The name, and behind it the label where the unit is one of the last layer's that has one: "logits:54 rainbow double triangle".
std::string caption_of(const Column&, const std::string& last_layer, const std::vector<std::string>& labels);

/// The number of a chain's random stream: a function of what it climbs and of its index among the chains of that column, so that a unit
/// asked for alone, in a batch, in a shard or after a resume draws the same numbers. The upper 32 of its 52 bits are a hash of the column's
/// name (FNV-1a, folded), the lower 20 are the index. Throws Failure::usage unless 0 ≤ index < 2^20.
int64_t chain_number(const Column&, int64_t index);

}  // namespace evoke
