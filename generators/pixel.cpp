#include "generators/pixel.h"

#include <ATen/ATen.h>

namespace evoke {

Generator pixel(const PixelOptions& options, const ImageSpec& image, const Tensor& initial) {
  const bool sigmoid = options.range == "sigmoid", free = options.range == "free";
  const std::vector<int64_t> shape{image.channels, image.height, image.width};
  const auto latent_of = [sigmoid, free](const Tensor& x) { return sigmoid ? at::logit(x.clamp(1e-3, 1 - 1e-3)) : free ? x - 0.5 : x; };

  Tensor centre = at::full(shape, 0.5);
  if (initial.defined()) {
    require_shape(initial, shape, "generator pixel: initial image");
    centre = initial.to(at::kFloat);
  }
  centre = latent_of(centre).contiguous();

  Generator out;
  out.name = sigmoid ? "pixel" : "pixel " + options.range;
  out.latent = shape;
  out.image = image;
  out.decode = [sigmoid, free](const Tensor& z) {
    return (sigmoid ? at::sigmoid(z) : free ? z + 0.5 : at::clamp(z, 0.0, 1.0)).contiguous(at::MemoryFormat::ChannelsLast);
  };
  out.encode = latent_of;
  out.start = [centre, shape, deviation = options.deviation](Stream& stream) {
    return centre.to(stream.chains().device()) + deviation * stream.normal(shape);
  };
  return out;
}

}  // namespace evoke
