// Menus: the kinds that a table of a recipe can name. A row has a name, a sentence, options, an example and what makes the noun.
#pragma once
#include <functional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "core/recipes/recipe.h"

namespace evoke {

/// The options of one table, as --help prints them.
struct TableHelp {
  std::string table;
  std::vector<OptionHelp> options;
};

/// A row as a person reads it. Help, completion and the tests that go over every kind see nothing else.
struct MenuEntry {
  std::string table, kind, sentence;  // kind is empty for a table that has no kinds
  std::string example;                // TOML: small values for its options, and further tables that it reads; empty: the defaults serve
  std::vector<TableHelp> tables;      // what it reads; its own table comes first
};

/// The rows of one table, in the order of --help. `Order` is what a row makes its noun from; it names the recipe and the table that is read
/// in its members `recipe` and `table`. `Traits`: what a room wants to know of a kind before it is made.
template <class Noun, class Order, class Traits = std::monostate>
class Menu {
 public:
  struct Row {
    MenuEntry entry;
    std::function<Noun(const Order&)> make;
    Traits traits{};
    /// For help: it reads another table, too.
    template <class Options>
    Row also(std::string table) && {
      entry.tables.push_back({std::move(table), help_of<Options>()});
      return std::move(*this);
    }
  };

  /// `usual`: the kind of a table that names none; empty: it has to name one.
  Menu(std::string table, std::string usual, std::vector<Row> rows)
      : table_(std::move(table)), usual_(std::move(usual)), rows_(std::move(rows)) {
    for (Row& row : rows_) {
      row.entry.table = table_;
      if (!row.entry.tables.empty() && row.entry.tables.front().table.empty()) row.entry.tables.front().table = table_;
    }
  }

  /// A row whose options are one table: `make` takes the options that were read, and the order.
  template <class Options>
  static Row row(std::string kind, std::string sentence, std::string example, std::function<Noun(const Options&, const Order&)> make,
                 Traits traits = {}) {
    return {{"", std::move(kind), std::move(sentence), std::move(example), {{"", help_of<Options>()}}},
            [make = std::move(make)](const Order& order) { return make(order.recipe.template read<Options>(order.table), order); },
            std::move(traits)};
  }

  /// The row of a kind. Throws Failure::usage where there is none.
  const Row& named(const std::string& kind) const {
    std::vector<std::string> kinds;
    for (const Row& row : rows_) {
      if (row.entry.kind == kind) return row;
      kinds.push_back(row.entry.kind);
    }
    fail(Failure::usage, "found ", kind.empty() ? "none" : text("no ", table_, table_.empty() ? "'" : " of kind '", kind, "'"),
         did_you_mean(kind, kinds));
  }
  /// The row that a table of the recipe names: this menu's own, or another that may name the same kinds, with its own usual kind.
  const Row& chosen(Recipe& recipe, const std::string& table, const std::string& usual) const {
    const std::string kind = recipe.kind(table, usual);
    return recipe.about(table, {"kind"}, [&]() -> const Row& { return named(kind); });
  }
  const Row& chosen(Recipe& recipe) const { return chosen(recipe, table_, usual_); }

  std::vector<MenuEntry> entries() const {
    std::vector<MenuEntry> out;
    for (const Row& row : rows_) out.push_back(row.entry);
    return out;
  }

 private:
  std::string table_, usual_;
  std::vector<Row> rows_;
};

}  // namespace evoke
