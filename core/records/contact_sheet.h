// A grid of captioned images.
#pragma once
#include <string>
#include <vector>

#include "core/numbers/tensor.h"

namespace evoke {

struct Cell {
  Tensor image;         // uint8 [H,W,C]; undefined leaves the cell empty
  std::string caption;  // below the image; may be empty
};
/// A grid of captioned images with names for its rows and columns: uint8 [H,W,3] on a light ground.
/// rows and columns may be empty. cells: row by row. scale: pixels a pixel (nearest), so small images can be seen.
Tensor contact_sheet(const std::vector<Cell>& cells, int64_t columns, const std::vector<std::string>& row_names = {},
                     const std::vector<std::string>& column_names = {}, int64_t scale = 2, const std::string& title = {});

}  // namespace evoke
