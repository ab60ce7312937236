#include "experiments/menus.h"

#include "classifiers/menu.h"
#include "experiments/experiment.h"
#include "experiments/options.h"
#include "generators/menu.h"
#include "samplers/menu.h"
#include "training/menu.h"

namespace evoke {

namespace {

// A table without kinds.
MenuEntry table_of(const std::string& table, const std::string& sentence, const std::vector<OptionHelp>& options) {
  return {table, "", sentence, "", {{table, options}}};
}

}  // namespace

std::vector<MenuEntry> sampling_tables() {
  std::vector<MenuEntry> out{table_of("classifier", "the network whose units are asked", classifier_help())};
  out.back().tables.push_back({"classifier.image", help_of<ImageOptions>()});
  const auto add = [&](const std::vector<MenuEntry>& menu) { out.insert(out.end(), menu.begin(), menu.end()); };
  add(objective_menu());
  add(generator_menu());
  add({encoder_entry()});
  add(prior_menu());
  add({critic_entry()});
  add(transform_menu());
  add(sampler_menu());
  add(operator_menu());
  out.push_back(table_of("run", "", help_of<RunTable>()));
  out.push_back(table_of("data", "", help_of<DataTable>()));
  return out;
}

std::vector<MenuEntry> training_tables() { return training_menu(); }

bool is_list(const std::string& table) { return table.ends_with(".after") || table.ends_with(".gradient"); }

std::string tables_help(const std::vector<MenuEntry>& entries) {
  std::string out;
  for (const MenuEntry& entry : entries) {
    if (entry.table.empty()) out += "kind = \"" + entry.kind + "\"" + (entry.sentence.empty() ? "" : ": ") + entry.sentence + "\n";
    for (const TableHelp& table : entry.tables) {
      const bool own = table.table == entry.table;
      out += help_section((is_list(table.table) ? "[[" + table.table + "]]" : "[" + table.table + "]") +
                              (own && !entry.kind.empty() ? " kind = \"" + entry.kind + "\"" : "") +
                              (own && !entry.sentence.empty() ? ": " + entry.sentence : ""),
                          table.options);
    }
    out += "\n";
  }
  out.pop_back();
  return out;
}

}  // namespace evoke
