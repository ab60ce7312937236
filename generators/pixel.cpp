#include "generators/pixel.h"

#include <ATen/ATen.h>

namespace evoke {

namespace {

// The z whose image is x [C,H,W] or [N,C,H,W].
Tensor latent_of(const Tensor& x, const std::string& range) {
  if (range == "sigmoid") return at::logit(x.clamp(1e-3, 1 - 1e-3));
  return range == "free" ? x - 0.5 : x;
}

}  // namespace

Generator pixel(const PixelOptions& options, const ImageSpec& image, const Tensor& initial) {
  const bool sigmoid = options.range == "sigmoid", free = options.range == "free";
  const std::vector<int64_t> shape{image.channels, image.height, image.width};

  Tensor centre = at::full(shape, 0.5);
  if (initial.defined()) {
    require_shape(initial, shape, "generator pixel: initial image");
    centre = initial.to(at::kFloat);
  }
  centre = latent_of(centre, options.range).contiguous();

  Generator out;
  out.name = sigmoid ? "pixel" : "pixel " + options.range;
  out.latent = shape;
  out.image = image;
  out.decode = [sigmoid, free](const Tensor& z) {
    return (sigmoid ? at::sigmoid(z) : free ? z + 0.5 : at::clamp(z, 0.0, 1.0)).contiguous(at::MemoryFormat::ChannelsLast);
  };
  out.identity = !sigmoid && !free;
  out.start = [centre, shape, deviation = options.deviation](Stream& stream) {
    return centre.to(stream.chains().device()) + deviation * stream.normal(shape);
  };
  return out;
}

Encoder pixel_encoder(const PixelOptions& options, const ImageSpec& image) {
  const std::vector<int64_t> shape{image.channels, image.height, image.width};
  return {"pixel", image, shape, [range = options.range, shape](const Tensor& x) {
            require_shape(x, {-1, shape[0], shape[1], shape[2]}, "encoder pixel: images");
            return latent_of(x, range);
          }};
}

}  // namespace evoke
