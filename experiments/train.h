// Training a recipe into a run directory.
#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/recipes/recipe.h"

namespace evoke {

/// What a training left.
struct Trained {
  int code = 0;            // 0, or 130: interrupted after saving
  bool reused = false;     // a finished run of this very config was there
  std::string weights;     // the file
  nlohmann::json figures;  // of the test split
};

/// Trains what the recipe's `kind` says into the folder `out`; goes on where an interrupted training of this config left off, and
/// returns at once where a finished one is. `overrides`: as Recipe::load takes them. Throws as plan_training and RunDirectory::open.
Trained train_into(const std::string& recipe, const std::vector<Override>& overrides, const std::string& out);

}  // namespace evoke
