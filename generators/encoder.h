// An encoder of any origin, in a file of its own.
#pragma once
#include <string>

#include "core/networks/image_spec.h"
#include "core/nouns/nouns.h"
#include "core/recipes/recipe.h"

namespace evoke {

/// The table [encoder]: the network that makes codes of images.
struct EncoderChoice {
  std::string weights, layer;
};
inline void describe(Fields& f, EncoderChoice& o) {
  f.path(
      "weights", o.weights,
      "the network that makes codes of images: weights of an autoencoder or a vae (.safetensors), or a program x [N,C,H,W] → z, exported "
      "(.pt2) or TorchScript; empty: the one that the generator was trained with");
  f("layer", o.layer,
    "the codes are what this layer says: of weights, where that is an exported classifier, or of the recipe's [classifier]; empty: what "
    "the whole network gives");
}

/// An encoder of images of `image`'s channels, height and width. `options`: what range and normalization a program wants (the table
/// [encoder.image]); our own weights know theirs. classifier: of the recipe, for a layer of it; may be null. Throws Failure::input for a
/// file that is missing or holds no encoder, a layer that does not exist, or one that does not take such images.
Encoder load_encoder(const EncoderChoice&, const ImageOptions& options, const ImageSpec& image, at::Device device,
                     const Classifier* classifier = nullptr);

}  // namespace evoke
