// From pictures to stimuli: luminance, contrast and mask as an experiment fixes them.
#pragma once
#include <string>
#include <vector>

#include "core/numbers/tensor.h"
#include "core/recipes/recipe.h"

namespace evoke {

/// What an experiment holds fixed.
struct StimulusOptions {
  double luminance = -1, contrast = -1, background = 0.5;
  std::string mask = "none";
  double mask_radius = 1.0, mask_edge = 0.1;
  int64_t size = 0;
};
void describe(Fields&, StimulusOptions&);

/// Pictures that were made stimuli, with what they have: luminance is Rec. 709's weighted sum of the bytes' R, G and B in [0,1], as the
/// file holds them (a display's gamma is the experiment's); its mean and standard deviation (RMS contrast; Peli 1990) over the mask.
struct Stimuli {
  Tensor images;               // uint8 [N,H,W,3]
  Tensor luminance, contrast;  // float64 [N], measured on those bytes
};

/// Resized (bilinear, antialiased), then each picture x becomes m + k·(x - mean luminance), all channels alike, with m and k such that mean
/// luminance and RMS contrast over the mask are those wanted, as far as values between 0 and 1 allow; then blended into the background:
/// background + mask·(x - background). disk: 1 within mask_radius of the half side, down to 0 over mask_edge of it by a raised cosine;
/// gaussian: exp(-r²/(2·(mask_radius/2)²)), r in half sides. images: uint8 [N,H,W,C], C 1 or 3.
Stimuli make_stimuli(const Tensor& images, const StimulusOptions&);

/// The mask of a picture: float64 [H,W] in [0,1].
Tensor stimulus_mask(int64_t height, int64_t width, const StimulusOptions&);

/// An array as NumPy reads it (.npy, version 1.0): uint8, int64, float32 or float64 of any shape; atomically.
void save_npy(const std::string& file, const Tensor&);

}  // namespace evoke
