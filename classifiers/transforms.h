// What happens to an image between generator and classifier: drawn afresh at each step, one draw a row.
#pragma once
#include <optional>
#include <vector>

#include "core/nouns/nouns.h"

namespace evoke {

/// What lies outside the image: a value of every channel, or (empty) its border repeated.
using Ground = std::optional<double>;
inline constexpr double grey = 0.5, black = 0.0;

/// A random map of the plane, one draw a row: [N,3,3], from places in the new image to places in the old one; homogeneous (x, y, 1), in
/// pixels from the middle of each. Old images are `height` × `width`.
using Placement = std::function<Tensor(Stream&, int64_t height, int64_t width)>;

/// Moves by whole pixels, dx and dy each uniform among the `pixels` + 1 values -pixels/2 … pixels - pixels/2 (rounded towards zero): every
/// way of cutting a window of side S - pixels out of a side S.
Placement jitter_placement(int64_t pixels);
/// Enlarges about the middle by a factor uniform in [low, high], or among `values` evenly spaced ones, both ends included.
Placement scale_placement(double low, double high, int64_t values = 0);
/// Turns about the middle, clockwise as seen, by an angle uniform in [low, high] degrees, or among `values` evenly spaced ones.
Placement rotate_placement(double low, double high, int64_t values = 0);
/// Mirrors left and right, or does not, with even chances.
Placement flip_placement();
/// A square window whose side is a share of the image's, uniform in [low, high], anywhere inside, blown up to the whole image.
Placement crop_placement(double low, double high);
/// Between what sizes the side of a crop is drawn, as shares of the image's.
struct CropSides {
  double low = 0.7, high = 1.0;
};
/// The same with a range that moves evenly from `first` at the run's step 0 to `last` at its step number `steps` - 1, read off the stream's
/// step. Fel 2023 (MACO) shrink the side from .5 to .05. Differs: there the side is N(mean, .05²) and the middle N(½, .15²).
Placement shrinking_crop_placement(CropSides first, CropSides last, int64_t steps);

/// One bilinear resample through all placements, the first applied first, onto an image of the same size.
Transform resample(std::vector<Placement>, Ground ground);

Transform jitter(int64_t pixels, Ground ground = black);
Transform scale(double low, double high, int64_t values = 0, Ground ground = black);
Transform rotate(double low, double high, int64_t values = 0, Ground ground = black);
Transform flip();
Transform crop(double low, double high);
/// x + N(0, deviation²), a draw a pixel.
Transform noise(double deviation);
/// Convolution with a Gaussian of `deviation` pixels, cut at four of them, the border repeated. Not random.
Transform gaussian_blur(double deviation);

/// One after the other. Empty ones are left out; of none at all, an empty Transform.
Transform compose(std::vector<Transform>);

/// Lucid's standard stack (Olah 2017): pad 12 grey, jitter 8, scale 1 + (i - 5)/50 for i of 0 … 10, rotate by one of -10 … 10 whole degrees
/// and five more zeros, jitter 4; then the middle of the size that the image had. So a pixel stays a pixel: the padding only fills with
/// grey what the moves uncover. Differs: Lucid's networks take any size and see the S + 12 pixels that are left of S + 24, ours see the
/// middle S of them; one resample instead of three, about the middle whatever the scale.
Transform lucid_transform();
/// jitter 0 … 20 pixels and any rotation on black: an image's answer under the motions of the shapes dataset.
Transform shapes_transform();

}  // namespace evoke
