// The generators and priors that a recipe can name.
#pragma once
#include <optional>

#include "core/nouns/nouns.h"
#include "core/recipes/menu.h"

namespace evoke {

/// What a recipe's [generator] says. kind = "pixel" (the default) or "decoder" (weights: a file of save_decoder).
/// `image`: what the classifier wants; pixels take its channels and size. Throws Failure::input for another kind, a file that is missing
/// or misfits.
Generator make_generator(Recipe&, const ImageSpec& image, at::Device device);

/// A prior and how much it counts.
struct WeightedPrior {
  std::optional<Prior> prior;  // none: nothing is known of z
  double weight = 1.0;         // w ≥ 0
};

/// What a recipe's [prior] says. kind = "none" (the default), "gaussian", "box", "denoiser" or "joint". Gaussian and box take what is known
/// of the codes from the file of the recipe's [generator]. Throws Failure::input for another kind, for a prior that needs codes where the
/// generator has none, and for one of another latent shape than the generator's.
WeightedPrior make_prior(Recipe&, const Generator&, at::Device device);

/// The kinds of [generator] and [prior], with their options, for --help.
std::vector<MenuEntry> generator_menu();
std::vector<MenuEntry> prior_menu();

}  // namespace evoke
