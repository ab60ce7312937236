#include "core/nouns/unit.h"

#include "core/error.h"

namespace evoke {

namespace {

// FNV-1a, 64 bits, folded to 32: what tells the columns of a run apart, not a secret.
uint32_t hash_of(const std::string& name) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const unsigned char byte : name) hash = (hash ^ byte) * 0x100000001b3;
  return static_cast<uint32_t>(hash ^ (hash >> 32));
}

}  // namespace

std::string unit_text(const Unit& unit) {
  const std::string place = unit.y < 0 ? "" : unit.x < 0 ? text("@", unit.y) : text("@", unit.y, ",", unit.x);
  return text(unit.layer, ":", unit.index, place);
}

Column column_of(const Unit& unit) { return {unit_text(unit), unit}; }

std::string caption_of(const Column& column, const std::string& last_layer, const std::vector<std::string>& labels) {
  const bool labelled = column.unit && column.unit->layer == last_layer && column.unit->y < 0 && column.unit->index >= 0 &&
                        column.unit->index < static_cast<int64_t>(labels.size());
  return labelled ? column.name + " " + labels[static_cast<size_t>(column.unit->index)] : column.name;
}

int64_t chain_number(const Column& column, int64_t index) {
  require(index >= 0 && index < int64_t{1} << 20, Failure::usage, "chain: found index ", index,
          ", expected 0 to 2^20 - 1 chains of a unit");
  return (static_cast<int64_t>(hash_of(column.name)) << 20) + index;
}

}  // namespace evoke
