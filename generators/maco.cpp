#include "generators/maco.h"

#include <ATen/ATen.h>

#include "core/error.h"

namespace evoke {

namespace {

// (x - mean x)/(sd x + 1e-5), row by row.
Tensor standardized(const Tensor& x) {
  const Tensor flat = x.flatten(1), centred = flat - flat.mean(1, true);
  return (centred / (centred.square().mean(1, true).sqrt() + 1e-5)).view(x.sizes());
}

}  // namespace

Generator maco(const MacoOptions& options, const ImageSpec& image, const Spectrum& spectrum, const Tensor& matrix, at::Device device) {
  require(spectrum.magnitude.size(0) == image.channels, Failure::input, "generator maco: found a spectrum of ", spectrum.magnitude.size(0),
          " channels, expected one of ", image.channels, " as the classifier sees them; measure it on such images");
  const Tensor magnitude = resized(spectrum, image.height, image.width).magnitude.to(device);
  const Tensor colours = matrix.defined() ? matrix.to(device) : matrix;
  const std::vector<int64_t> size{image.height, image.width};
  Generator out;
  out.name = "maco";
  out.latent = {image.channels, image.height, image.width / 2 + 1};
  out.image = image;
  out.decode = [magnitude, exact = magnitude.to(at::kDouble), colours, single = colours.defined() ? colours.to(at::kFloat) : colours, size,
                contrast = options.contrast, spread = options.spread](const Tensor& z) {
    const bool wide = z.scalar_type() == at::kDouble;
    const Tensor waves = at::polar((wide ? exact : magnitude).expand_as(z), spread * standardized(z));
    const Tensor channels = standardized(at::fft_irfft2(waves, size, {-2, -1}));
    return at::sigmoid(contrast * in_colours(wide ? colours : single, channels)).contiguous(at::MemoryFormat::ChannelsLast);
  };
  out.start = [shape = out.latent, deviation = options.deviation](Stream& stream) { return deviation * stream.normal(shape); };
  return out;
}

}  // namespace evoke
