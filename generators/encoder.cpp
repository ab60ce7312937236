#include "generators/encoder.h"

#include "core/error.h"
#include "core/programs/program.h"
#include "generators/decoder.h"

namespace evoke {

Encoder load_encoder(const EncoderChoice& choice, const ImageOptions& options, const ImageSpec& image, at::Device device) {
  require(!choice.weights.empty(), Failure::input,
          "recipe: [encoder] names no weights, expected weights = \"file\" of an autoencoder, a vae, or an exported encoder (.pt2)");
  if (!choice.weights.ends_with(".safetensors")) {
    const ImageSpec size{.channels = image.channels, .height = image.height, .width = image.width};
    return as_encoder(load_program(choice.weights, device), image_spec(options, size, choice.weights), device);
  }
  Decoder saved = load_decoder(choice.weights);
  if (saved.options.spatial) saved = resized(std::move(saved), image.height, image.width);
  std::optional<Encoder> found = as_encoder(saved, device);
  require(found.has_value(), Failure::input, choice.weights, ": found a ", saved.kind,
          ", which has no encoder; take an autoencoder or a vae, or an exported encoder");
  return *found;
}

}  // namespace evoke
