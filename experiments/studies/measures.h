// The measures that a study can take of its runs, beside the judges' figures: rows of a menu, each a table of numbers.
#pragma once
#include <string>
#include <vector>

#include "core/nouns/nouns.h"
#include "core/recipes/menu.h"
#include "experiments/judging/judges.h"
#include "experiments/studies/measured.h"

namespace evoke {

/// A finished run of a study: its nouns, and its pictures, those of a column side by side.
struct StudyRun {
  std::string name;
  Classifier classifier;
  Objective objective;  // without penalties
  Generator generator;
  at::Device device{at::kCPU};
  std::vector<Column> columns;  // U
  int64_t chains = 1;
  uint64_t seed = 0;
  Pictures pictures;  // U × chains
};

/// What a measure is made from: its options in the table of the study, and all runs.
struct MeasureOrder {
  Recipe& recipe;
  std::string table;
  const std::vector<StudyRun>& runs;
  /// The run of a name. Throws Failure::input with the names there are.
  const StudyRun& run(const std::string& name) const;
};

/// The kinds of measure: responses, tuning, repeats, slopes, readers, filters.
const Menu<Measured, MeasureOrder>& measure_menu();

/// Spearman's rank correlation of two rows of numbers [n], ties sharing their mean rank; NaN where one of them does not vary.
double spearman(const Tensor& a, const Tensor& b);

}  // namespace evoke
