#include "generators/fourier.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "generators/spectrum.h"

namespace evoke {

namespace {

std::vector<int64_t> latent_of(const ImageSpec& image) { return {image.channels, image.height, image.width / 2 + 1, 2}; }

// s [H,W/2+1], in double.
Tensor scale_of(const FourierOptions& options, const ImageSpec& image) {
  const Tensor down = at::fft_fftfreq(image.height, 1.0, at::kDouble).unsqueeze(1),
               across = at::fft_rfftfreq(image.width, 1.0, at::kDouble);
  const Tensor cycles = at::sqrt(down * down + across * across);
  const double least = 1.0 / static_cast<double>(std::max(image.height, image.width));
  return std::sqrt(static_cast<double>(image.height * image.width)) * cycles.clamp_min(least).pow(-options.decay);
}

}  // namespace

Generator fourier(const FourierOptions& options, const ImageSpec& image, const Tensor& matrix, at::Device device) {
  const Tensor scale = scale_of(options, image).unsqueeze(2).to(device);
  const Tensor colours = matrix.defined() ? matrix.to(device) : matrix;
  const std::vector<int64_t> size{image.height, image.width};
  Generator out;
  out.name = "fourier";
  out.latent = latent_of(image);
  out.image = image;
  out.decode = [scale = scale.to(at::kFloat), exact = scale, single = colours.defined() ? colours.to(at::kFloat) : colours, colours,
                size](const Tensor& z) {
    const bool wide = z.scalar_type() == at::kDouble;
    const Tensor waves = at::view_as_complex((z * (wide ? exact : scale)).contiguous());
    const Tensor channels = at::fft_irfft2(waves, size, {-2, -1}) / 4;
    return at::sigmoid(in_colours(wide ? colours : single, channels)).contiguous(at::MemoryFormat::ChannelsLast);
  };
  out.start = [shape = out.latent, deviation = options.deviation](Stream& stream) { return deviation * stream.normal(shape); };
  return out;
}

Encoder fourier_encoder(const FourierOptions& options, const ImageSpec& image, const Tensor& matrix, at::Device device) {
  const Tensor scale = scale_of(options, image).unsqueeze(2).to(device);
  const Tensor inverse = matrix.defined() ? at::linalg_inv(matrix).to(device) : matrix;
  const std::vector<int64_t> shape{-1, image.channels, image.height, image.width};
  return {"fourier", image, latent_of(image), [=](const Tensor& x) {
            require_shape(x, shape, "encoder fourier: images");
            const Tensor channels = in_colours(inverse, at::logit(x.to(at::kDouble).clamp(1e-3, 1 - 1e-3)));
            const Tensor waves = at::view_as_real(at::fft_rfft2(4 * channels, c10::nullopt, {-2, -1}));
            return (waves / scale).to(x.scalar_type());
          }};
}

}  // namespace evoke
