#include "generators/encoder.h"

#include "core/error.h"
#include "core/programs/program.h"
#include "generators/decoder.h"

namespace evoke {

namespace {

void require_images(const ImageSpec& own, const ImageSpec& image, const std::string& whose) {
  require(own.channels == image.channels && own.height == image.height && own.width == image.width, Failure::input,
          "[encoder]: found images ", shape_text({image.channels, image.height, image.width}), " to encode, expected ",
          shape_text({own.channels, own.height, own.width}), ", which ", whose, " takes");
}

Encoder layer_as_encoder(const Classifier& classifier, const std::string& layer, const ImageSpec& image) {
  const Layer& found = layer_named(classifier, layer, "[encoder] layer", Failure::input);
  require_images(classifier.image, image, "network " + classifier.name);
  return {classifier.name + ":" + layer, image, found.shape,
          [forward = classifier.forward, layer](const Tensor& x) { return forward(x, {layer}).at(layer).to(at::kFloat); }};
}

}  // namespace

Encoder load_encoder(const EncoderChoice& choice, const ImageOptions& options, const ImageSpec& image, at::Device device,
                     const Classifier* classifier) {
  if (choice.weights.empty() && !choice.layer.empty()) {
    require(classifier != nullptr, Failure::input, "[encoder] layer: found '", choice.layer,
            "' of no network, expected weights = \"net.pt2\" or a table [classifier]");
    return layer_as_encoder(*classifier, choice.layer, image);
  }
  require(!choice.weights.empty(), Failure::input,
          "recipe: [encoder] names no weights, expected weights = \"file\" of an autoencoder, a vae, or an exported encoder (.pt2)");
  if (!choice.weights.ends_with(".safetensors")) {
    const Program program = load_program(choice.weights, device);
    const ImageSpec size{.channels = image.channels, .height = image.height, .width = image.width};
    const ImageSpec wanted = image_spec(options, size, choice.weights);
    require_images(wanted, image, choice.weights);
    return choice.layer.empty() ? as_encoder(program, wanted, device)
                                : layer_as_encoder(as_classifier(program, wanted, {}, device), choice.layer, image);
  }
  require(choice.layer.empty(), Failure::input, "[encoder] layer: found '", choice.layer, "' of ", choice.weights,
          ", expected a layer of an exported network (.pt2) or, with no weights named, of [classifier]");
  Decoder saved = load_decoder(choice.weights);
  if (saved.options.spatial) saved = resized(std::move(saved), image.height, image.width);
  std::optional<Encoder> found = as_encoder(saved, device);
  require(found.has_value(), Failure::input, choice.weights, ": found a decoder of kind ", saved.kind,
          ", which has no encoder; take an autoencoder or a vae, or an exported encoder");
  require_images(found->image, image, choice.weights);
  return *found;
}

}  // namespace evoke
