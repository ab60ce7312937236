// Comparing methods: several recipes on the same units and chains, judged side by side.
#pragma once
#include <string>
#include <vector>

#include "experiments/judge.h"

namespace evoke {

struct CompareOptions : CommonOptions {
  std::vector<std::string> recipes;  // files, or names of shipped recipes
  std::vector<std::string> units;    // as [objective] units; empty: each recipe's own, which must be the same
  int64_t chains = 0;                // per unit; 0: each recipe's own
  int64_t budget = 0;                // pictures that the classifier may look at in each method; 0: each recipe's own steps
  JudgeFiles files;                  // data: for all recipes
  int64_t shown = 2;                 // pictures a cell of the sheet
  bool no_report = false;
};

/// Runs every recipe into a run directory of its own in --out, judges its pictures, stores what is found with the run, and writes
/// comparison.png (a row a unit, a column a method, real images last), METHOD.png (all pictures of a method), table.md, table.json and
/// report.html; says the table. A directory of the same comparison is said again without running. Throws Failure::usage when recipes have
/// other classifiers, units or chains than the first, or one name. Returns the exit code.
int compare(const CompareOptions&);

}  // namespace evoke
