// The generators, encoders and priors that a recipe can name.
#pragma once
#include <optional>

#include "core/nouns/nouns.h"
#include "core/recipes/menu.h"
#include "generators/codes.h"

namespace evoke {

/// What a recipe's [generator] and [encoder] say together: z to images and back, and what is known of the codes of real images.
struct Codec {
  Generator generator;
  std::optional<Encoder> encoder;       // none: images cannot be made into codes
  std::optional<CodeStatistics> codes;  // none: not known
};

/// [generator] kind = "pixel" (the default), "fourier", "maco", "decoder" (weights: a file of save_decoder) or "program" (an exported
/// decoder). [encoder] weights: a file of its own (generators/encoder.h); without it the encoder is the one that the generator was trained
/// with, or the inverse of pixel and fourier. `image`: what the classifier wants; all that can draw any size take its height and width
/// unless they are told others. classifier: the recipe's, of which [encoder] may name a layer. Throws Failure::input for another kind, a file that is missing or misfits, and an encoder that does not fit
/// the generator.
Codec make_codec(Recipe&, const ImageSpec& image, at::Device device, const Classifier* classifier = nullptr);

/// A prior and how much it counts.
struct WeightedPrior {
  std::optional<Prior> prior;  // none: nothing is known of z
  double weight = 1.0;         // w ≥ 0
};

/// What a recipe's [prior] says. kind = "none" (the default), "gaussian", "box", "denoiser", "joint" or "data" (the images of a
/// dataset's training split, one after another: a random search over them finds the best real images). Gaussian and box take what is known
/// of the codes, joint the encoder. Throws Failure::input for another kind, for a prior that needs codes or an encoder where there are
/// none, and for one of another latent shape than the generator's.
WeightedPrior make_prior(Recipe&, const Codec&, at::Device device);

/// [critic] weights = "file" (train critic); none where the recipe names no file. Throws Failure::input for one of other codes.
std::optional<Critic> make_critic(Recipe&, const Codec&, at::Device device);
/// Its options, for --help.
MenuEntry critic_entry();

/// The kinds of [generator] and [prior], and the table [encoder], with their options, for --help.
std::vector<MenuEntry> generator_menu();
std::vector<MenuEntry> prior_menu();
MenuEntry encoder_entry();

}  // namespace evoke
