// The coefficients of an image's waves as z: what gradients push is spread over the whole picture, as in photographs.
#pragma once
#include "core/nouns/nouns.h"
#include "core/recipes/recipe.h"

namespace evoke {

struct FourierOptions {
  double decay = 1.0, deviation = 0.01;
  std::string colour = "auto", spectrum;
  int64_t height = 0, width = 0;
};
inline void describe(Fields& f, FourierOptions& o) {
  f("decay", o.decay, "", "how much stronger slow waves are than fast ones: coefficients are divided by (cycles per pixel)^decay",
    {0.0, 8.0});
  f("deviation", o.deviation, "units of z", "standard deviation of the starting coefficients", {0.0, 1e6});
  f.choice("colour", o.colour,
           "how channels become colours: correlated as in ImageNet's photographs, as in those of `spectrum`, or each by itself; auto: "
           "imagenet for three channels, none for others",
           {"auto", "imagenet", "spectrum", "none"});
  f.path("spectrum", o.spectrum, "what evoke data spectrum measured, for colour = \"spectrum\"");
  f("height", o.height, "px", "of the images; 0: the classifier's", {0, 65536});
  f("width", o.width, "px", "of the images; 0: the classifier's", {0, 65536});
}

/// Draws an image from the coefficients of its waves (Olah, Mordvintsev & Schubert 2017; Lucid):
///
///     x = sigmoid( M · irfft2(s ⊙ (z_re + i·z_im)) / 4 ),   s = √(W·H) / max(f, 1/max(W,H))^decay,   f in cycles per pixel
///
/// latent [C,H,W/2+1,2], real and imaginary parts; M [C,C] turns decorrelated channels into colours (colour_matrix; undefined: none). The
/// coordinates that a real image cannot have, such as the imaginary part of its mean, do nothing. start: N(0, deviation²). With decay 1 and
/// these s, Adam's steps, alike for all coordinates, change every octave of frequencies alike.
/// Differs: an image of odd width has W/2+1 columns of coefficients, where Lucid makes one that is a pixel wider and cuts it.
/// `image` is what it draws; `options.height`, `width`, `colour` and `spectrum` are left to whoever made `image` and `matrix` (menu.h).
Generator fourier(const FourierOptions&, const ImageSpec& image, const Tensor& matrix, at::Device device);

/// The way back: the z whose image is x, clipped to [1e-3, 1 - 1e-3].
Encoder fourier_encoder(const FourierOptions&, const ImageSpec& image, const Tensor& matrix, at::Device device);

}  // namespace evoke
