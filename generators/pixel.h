// Pixels as z: the image itself is moved.
#pragma once
#include "core/nouns/nouns.h"
#include "core/recipes/recipe.h"

namespace evoke {

struct PixelOptions {
  std::string range = "sigmoid";
  double deviation = 0.01;
  std::string initial;
};

inline void describe(Fields& f, PixelOptions& o) {
  f.choice("range", o.range, "how z becomes a colour: x = sigmoid(z), x = clip(z, 0, 1), or free, x = 1/2 + z, which leaves [0,1]",
           {"sigmoid", "clip", "free"});
  f("deviation", o.deviation, "units of z", "standard deviation of the starting noise", non_negative);
  f.path("initial", o.initial, "image (or safetensors with 'image' [C,H,W] in [0,1]) where chains start; empty: middle grey");
}

/// The image itself: x = sigmoid(z); x = clip(z, 0, 1), whose gradient is 1 inside the range and 0 outside; or free, x = 1/2 + z, for
/// analysis (a ball about grey, first-layer filters): it leaves [0,1], and pictures of it are clipped. Latent [C,H,W]. start: N(z0,
/// deviation²) with z0 the latent of `initial` [C,H,W] in [0,1], of middle grey where that is undefined. `options.initial` is left to
/// whoever reads files (menu.h). identity for clip, where z is the image. Throws Failure::input for an `initial` of another shape.
Generator pixel(const PixelOptions& options, const ImageSpec& image, const Tensor& initial = {});

/// The way back: the z whose image is x (for sigmoid, x clipped to [1e-3, 1 - 1e-3]).
Encoder pixel_encoder(const PixelOptions& options, const ImageSpec& image);

}  // namespace evoke
