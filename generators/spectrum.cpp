#include "generators/spectrum.h"

#include <ATen/ATen.h>

#include <cmath>

#include "core/error.h"
#include "core/numbers/linear_algebra.h"
#include "core/storage/safetensors.h"

namespace evoke {

namespace {

// Where a grid of `wanted` frequencies falls on one of `have`, in cycles per pixel: the frequency below, the one above, and the share of
// the latter. A whole axis is periodic; half of one ends at the highest frequency.
struct Between {
  Tensor below, above, share;
};
Between between(int64_t have, int64_t wanted, bool half) {
  const Tensor cycles = half ? at::fft_rfftfreq(wanted, 1.0, at::kDouble) : at::fft_fftfreq(wanted, 1.0, at::kDouble);
  const Tensor place = cycles * static_cast<double>(have), floor = place.floor();
  const Tensor below = floor.to(at::kLong), above = below + 1;
  if (half) return {below.clamp_max(have / 2), above.clamp_max(have / 2), place - floor};
  return {below.remainder(have), above.remainder(have), place - floor};
}

Tensor interpolated(const Tensor& x, int64_t dimension, const Between& b) {
  std::vector<int64_t> shape(static_cast<size_t>(x.dim()), 1);
  shape[static_cast<size_t>(dimension)] = -1;
  const Tensor share = b.share.to(x.scalar_type()).reshape(shape);
  return x.index_select(dimension, b.below) * (1 - share) + x.index_select(dimension, b.above) * share;
}

}  // namespace

Spectrum measure_spectrum(const std::function<void(const std::function<void(const Tensor&)>&)>& each, const std::string& where) {
  Moments colours;
  each([&](const Tensor& images) { colours.add(images.permute({0, 2, 3, 1}).reshape({-1, images.size(1)})); });
  require(colours.count() > 1, Failure::input, where, ": found ", colours.count(), " pixels, expected images");

  const auto found = whitening(colours.covariance());
  const bool varies = found && (found->factor.diagonal().min() > 1e-3 * found->factor.diagonal().max()).item<bool>();
  require(varies, Failure::input, where,
          ": found images whose channels do not vary each by itself, expected photographs in colour; are these grey ones?");

  Spectrum out;
  out.mean = colours.mean().to(at::kFloat);
  out.factor = found->factor.to(at::kFloat);
  const Tensor inverse = found->inverse.to(at::kFloat);
  Tensor sum;
  int64_t count = 0;
  each([&](const Tensor& images) {
    out.height = images.size(2);
    out.width = images.size(3);
    const Tensor decorrelated = in_colours(inverse, images - out.mean.view({-1, 1, 1}));
    const Tensor part = at::fft_rfft2(decorrelated, c10::nullopt, {-2, -1}, "ortho").abs().to(at::kDouble).sum(0);
    sum = sum.defined() ? sum + part : part;
    count += images.size(0);
  });
  out.magnitude = (sum / static_cast<double>(count)).to(at::kFloat);
  return out;
}

Spectrum resized(const Spectrum& spectrum, int64_t height, int64_t width) {
  if (height == spectrum.height && width == spectrum.width) return spectrum;
  Spectrum out = spectrum;
  out.magnitude = interpolated(spectrum.magnitude, 1, between(spectrum.height, height, false));
  out.magnitude = interpolated(out.magnitude, 2, between(spectrum.width, width, true)).contiguous();
  out.height = height;
  out.width = width;
  return out;
}

void save_spectrum(const std::string& file, const Spectrum& spectrum, const std::string& dataset) {
  save_weights(file, "spectrum", "",
               {{"magnitude", spectrum.magnitude.to(at::kHalf)},
                {"mean", spectrum.mean},
                {"factor", spectrum.factor},
                {"size", at::tensor(std::vector<int64_t>{spectrum.height, spectrum.width})}},
               {{"evoke.dataset", dataset}});
}

Spectrum load_spectrum(const std::string& file) {
  const Tensors found = load_weights(file, {"spectrum"}).tensors;
  for (const char* name : {"magnitude", "mean", "factor", "size"})
    require(found.contains(name), Failure::input, file, ": found no tensor '", name, "', expected one; measure it again");
  require_shape(found.at("size"), {2}, file + ": size");
  const Tensor size = found.at("size").to(at::kLong);
  Spectrum out{found.at("magnitude").to(at::kFloat), found.at("mean").to(at::kFloat), found.at("factor").to(at::kFloat),
               size[0].item<int64_t>(), size[1].item<int64_t>()};
  const int64_t channels = out.mean.numel();
  require_shape(out.mean, {channels}, file + ": mean");
  require_shape(out.factor, {channels, channels}, file + ": factor");
  require(channels > 0 && out.height > 0 && out.width > 0, Failure::input, file, ": found images of ", channels, " × ", out.height, " × ",
          out.width, ", expected some");
  require_shape(out.magnitude, {channels, out.height, out.width / 2 + 1}, file + ": magnitude");
  const bool sound = (out.magnitude >= 0).all().item<bool>() && out.magnitude.isfinite().all().item<bool>() &&
                     out.factor.isfinite().all().item<bool>() && (out.factor.diagonal() > 0).all().item<bool>();
  require(sound, Failure::input, file, ": found magnitudes or colours that are no numbers or below 0; measure it again");
  return out;
}

Tensor colour_matrix(const std::string& colour, const Spectrum* measured, int64_t channels, const std::string& where) {
  if (colour == "none" || (colour == "auto" && channels != 3)) return {};
  Tensor factor;
  if (colour == "spectrum") {
    require(measured != nullptr, Failure::input, where,
            ": found no spectrum for colour = \"spectrum\", expected a file of evoke data spectrum: spectrum = \"file\"");
    require(measured->mean.numel() == channels, Failure::input, where, ": found a spectrum of ", measured->mean.numel(),
            " channels, expected one of ", channels, " as the classifier sees them; measure it on such images, or set colour = \"none\"");
    factor = measured->factor;
  } else {
    require(channels == 3, Failure::input, where, ": found colour = \"imagenet\" for images of ", channels,
            " channels, expected 3; set colour = \"none\"");
    factor = at::tensor({0.26, 0.09, 0.02, 0.27, 0.0, -0.05, 0.27, -0.09, 0.03}, at::kDouble).view({3, 3});
  }
  factor = factor.to(at::kDouble);
  return factor / at::linalg_vector_norm(factor, 2, at::IntArrayRef{0}).max();
}

Tensor in_colours(const Tensor& matrix, const Tensor& x) {
  if (!matrix.defined()) return x;
  // Not a matrix product, which Bfloat16Scope would round.
  return (matrix.unsqueeze(2).unsqueeze(3) * x.unsqueeze(1)).sum(2);
}

}  // namespace evoke
