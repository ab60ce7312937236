// Every table that a recipe can have, with the kinds it can name: what --help prints and what the shell completes.
#pragma once
#include <string>
#include <vector>

#include "core/recipes/menu.h"

namespace evoke {

/// The tables of a sampling recipe, kind by kind, in the order in which the sentence is read.
std::vector<MenuEntry> sampling_tables();
/// What can be trained, kind by kind.
std::vector<MenuEntry> training_tables();

/// Whether a recipe writes a table as a list, [[table]]; --set then names its items, "table.0".
bool is_list(const std::string& table);

/// A section a table and kind: "[table] kind = name: sentence", and a line a key with default, unit and sentence.
std::string tables_help(const std::vector<MenuEntry>&);

}  // namespace evoke
