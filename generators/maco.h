// The phases of an image's waves as z: how much there is of each wave stays as it is in photographs.
#pragma once
#include "core/nouns/nouns.h"
#include "core/recipes/recipe.h"
#include "generators/spectrum.h"

namespace evoke {

struct MacoOptions {
  std::string spectrum, colour = "spectrum";
  double deviation = 1.0, spread = 1.0, contrast = 1.0;
  int64_t height = 0, width = 0;
};
inline void describe(Fields& f, MacoOptions& o) {
  f.path("spectrum", o.spectrum, "the mean spectrum of photographs, as evoke data spectrum measured it");
  f.choice(
      "colour", o.colour,
      "how channels become colours: as in the photographs of `spectrum`, as in ImageNet's, or each by itself; auto: imagenet for three "
      "channels, none for others",
      {"auto", "imagenet", "spectrum", "none"});
  f("deviation", o.deviation, "radians", "standard deviation of the starting phases", {0.0, 1e6});
  f("spread", o.spread, "radians",
    "standard deviation of the phases, whatever z's; with 1, as in the paper, waves agree near the corners, which are bright; with 3 they "
    "agree nowhere",
    more_than_zero(1e3));
  f("contrast", o.contrast, "", "factor of the image before the sigmoid", more_than_zero(100.0));
  f("height", o.height, "px", "of the images; 0: the classifier's", {0, 65536});
  f("width", o.width, "px", "of the images; 0: the classifier's", {0, 65536});
}

/// Draws an image from phases φ, with the magnitudes m of photographs (Fel et al. 2023, MACO; Xplique):
///
///     φ' = spread · (φ - mean φ)/(sd φ + 1e-5)
///     u  = irfft2(m · exp(iφ')),   û = (u - mean u)/(sd u + 1e-5)
///     x  = sigmoid(contrast · M·û)
///
/// means and deviations over all numbers of a row; latent [C,H,W/2+1], radians. m: those of `spectrum`, resized to `image`; M [C,C]: see
/// colour_matrix. start: N(0, deviation²).
/// Differs: Xplique resizes the spectrum as if it were a picture, which mixes the two ends of its vertical axis; here frequencies are
/// matched (resized, spectrum.h). spread and contrast are not in the paper: with 1 and 1 the picture is as there. Phases of deviation 1
/// share a direction (the mean of exp(iφ') is exp(-spread²/2)), so that all waves add up at the image's corners; and a contrast of 1 is
/// about half that of photographs. `options.spectrum`, `colour`, `height` and `width` are left to whoever made `spectrum`, `matrix` and
/// `image` (menu.h). Throws Failure::input for a spectrum of other channels.
Generator maco(const MacoOptions&, const ImageSpec& image, const Spectrum& spectrum, const Tensor& matrix, at::Device device);

}  // namespace evoke
