// Judged pictures side by side on one sheet.
#pragma once
#include <string>
#include <vector>

#include "experiments/judging/judges.h"

namespace evoke {

/// Pictures of one origin, those of a unit side by side, and what was found of them.
struct SheetColumn {
  std::string name;
  Tensor images;       // uint8 [units·chains,H,W,C]
  Tensors findings{};  // a row a picture; empty: nobody judged them
};
/// A row a unit, a column each of these, the first `shown` pictures of the unit in a cell; below each who reads it as the unit's class:
/// T(arget), O(racle, the first), R(ender judge), W(itness). uint8 [H,W,3].
Tensor comparison_sheet(const Judges&, const std::vector<SheetColumn>&, const std::vector<std::string>& unit_names, int64_t shown);
/// All pictures of one origin, a row a unit.
Tensor method_sheet(const Judges&, const SheetColumn&, const std::vector<std::string>& unit_names);

}  // namespace evoke
