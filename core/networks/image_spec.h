// From evoke's images to what a network sees, and the small TOML file that says so.
#pragma once
#include "core/recipes/recipe.h"
#include "core/nouns/nouns.h"

namespace evoke {

/// How a network wants its images, as a recipe's table or the file NET.toml beside a network says it.
struct ImageOptions {
  std::string preset = "none";
  int64_t channels = 0, height = 0, width = 0;
  std::vector<double> mean, deviation, range;
  std::string order = "as preset";
  std::vector<std::string> labels;
  std::string labels_file;
};
void describe(Fields&, ImageOptions&);

/// The spec that the options give; what they leave open (0, empty) is taken from the preset and then from `otherwise`.
///
/// | preset    | range | order | mean                | deviation           |
/// |-----------|-------|-------|---------------------|---------------------|
/// | unit      | 0…1   | rgb   | none                | none                |
/// | imagenet  | 0…1   | rgb   | .485, .456, .406    | .229, .224, .225    |
/// | caffe     | 0…255 | bgr   | 104, 117, 123       | none                |
/// | inception | -1…1  | rgb   | none                | none                |
///
/// none: `otherwise` as it is. Throws Failure::input where mean or deviation do not have one number a channel, or a deviation is 0.
ImageSpec image_spec(const ImageOptions&, const ImageSpec& otherwise, const std::string& where);
/// The options' labels, from the list or the file (one a line).
std::vector<std::string> labels_of(const ImageOptions&);

/// x [N,C,H,W] in [0,1] to what the network sees, on x's device; the identity costs nothing.
std::function<Tensor(const Tensor& x)> preprocessing(const ImageSpec&, at::Device);
/// The way back: what a network draws in its own range, to evoke's images.
std::function<Tensor(const Tensor& x)> postprocessing(const ImageSpec&, at::Device);

}  // namespace evoke
