// From a recipe's tables to a classifier, an objective and a transform.
#pragma once
#include <string>
#include <vector>

#include "classifiers/objectives.h"
#include "core/config.h"
#include "core/nouns.h"

namespace evoke {

/// [classifier] weights = "file.safetensors".
Classifier make_classifier(Recipe&, at::Device);
/// The file that [classifier] names.
std::string classifier_file(Recipe&);

/// [objective] kind, units…; `penalties` adds others. rows: int64 [N], the column each row climbs (for diversity among equals); may be
/// undefined.
Objective make_objective(Recipe&, const Classifier&, const Tensor& rows = {});

/// [transform] kind = none | lucid | shapes | custom. Empty for none, and where the recipe has no such table.
Transform make_transform(Recipe&, const ImageSpec&);

/// What `kind` of a table may be, with its options, for --help.
struct ClassifierMenuEntry {
  std::string kind, sentence;
  std::vector<OptionHelp> options;
};
std::vector<ClassifierMenuEntry> objective_menu();
std::vector<ClassifierMenuEntry> transform_menu();

}  // namespace evoke
