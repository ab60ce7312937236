// The facets of a unit: the different kinds of images that it answers to, and an image to begin at for each.
#pragma once
#include <vector>

#include "core/nouns/nouns.h"

namespace evoke {

struct FacetOptions {
  int64_t count = 0;        // K, facets of each unit; 0: none are looked for
  std::string layer;        // whose activations say what is alike; empty: the last but one
  int64_t components = 50;  // of them, their widest directions
  int64_t nearest = 15;     // images that are averaged
  double blur = 1.0;        // px, of the mean images
};

/// The layer that the options name; throws Failure::usage where the classifier has none of that name.
std::string facet_layer(const FacetOptions&, const Classifier&);

/// Of one unit.
struct Facets {
  Tensor starts;                           // float [K,C,H,W], where to begin
  std::vector<std::vector<int64_t>> rows;  // of each facet, the images nearest to its centre, by their place in what was given
};

/// Multifaceted feature visualization (Nguyen, Yosinski & Clune 2016, Alg. 1): the layer's activations of a unit's images [N,C,H,W] in
/// [0,1] along their principal components, in K groups (k-means); of each group, the largest first, the mean of the images nearest to its
/// centre, blurred. Differs: no t-SNE before the groups; the images are those that the unit answers to most, not those of its class. Throws
/// Failure::usage for fewer images than facets, or fewer than two, and for a layer that does not exist.
Facets facets_of(const Tensor& images, const Classifier&, at::Device, const FacetOptions&);

}  // namespace evoke
