// From a recipe's tables to a classifier, an objective and a transform.
#pragma once
#include <string>
#include <vector>

#include "classifiers/objectives.h"
#include "core/networks/image_spec.h"
#include "core/nouns/nouns.h"
#include "core/recipes/menu.h"
#include "core/recipes/recipe.h"

namespace evoke {

/// [classifier] weights = "net.pt2" (exported), TorchScript, or "weights.safetensors": of evoke train, or with `architecture` a
/// state dict from Python. How a program wants its images stands in
/// [image] of the file NET.toml beside it, and in [classifier.image], which beats it.
Classifier make_classifier(Recipe&, at::Device);
/// A network of the literature (classifiers/literature.h) with a state dict from Python. classes 0: as customary.
Classifier literature_classifier(const std::string& architecture, int64_t classes, const std::string& file, const ImageOptions&,
                                 at::Device);
/// The file that [classifier] names.
std::string classifier_file(Recipe&);
/// [image] of the file NET.toml beside NET.pt2; the defaults where there is none.
ImageOptions image_beside(const std::string& file);
/// The options of [classifier], for --help.
std::vector<OptionHelp> classifier_help();
/// Whether a file is to be read as a program (.pt2, TorchScript) and not as weights.
bool is_program(const std::string& file);

/// [objective] kind, units…; `penalties` adds others, and so do the tables of the list [[objective.penalty]], each of which is an objective
/// of this menu with its weight. rows: int64 [N], the column each row climbs (for diversity among equals); may be undefined. penalties:
/// whether they, and the objective's own weight, count.
Objective make_objective(Recipe&, const Classifier&, const Tensor& rows = {}, bool penalties = true);

/// A transform and how often it is drawn at each look (PosteriorOptions::views).
struct RepeatedTransform {
  Transform transform;  // empty: none
  int64_t views = 1;
};

/// What a recipe's [transform] says: kind = none | lucid | shapes | crops | custom, none where there is no such table. steps: of the run,
/// for crops that shrink.
RepeatedTransform make_transform(Recipe&, int64_t steps);

/// The kinds of [objective] and [transform], with their options, for --help.
std::vector<MenuEntry> objective_menu();
std::vector<MenuEntry> transform_menu();

}  // namespace evoke
