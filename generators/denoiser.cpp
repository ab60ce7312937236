#include "generators/denoiser.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "core/error.h"
#include "generators/noise_networks.h"

namespace evoke {

namespace {

bool many(const DenoiserOptions& options) { return options.sigma == 0; }

// D(u; σ) in whitened units.
Tensor denoise_whitened(const Denoiser& denoiser, const Tensor& u, const Tensor& sigma) {
  const Tensor scale = broadcast_rows(sigma, u.dim());
  const Tensor spread = at::sqrt(1 + scale.square());
  const Tensor said = denoiser.network(many(denoiser.options) ? below_noise(u, sigma) : u / spread);
  return u / spread.square() + (scale / spread) * said;
}

Denoiser with_network(const Denoiser& denoiser, Network network, at::Device device) {
  return {denoiser.options, std::move(network), denoiser.mean.to(device), denoiser.deviation.to(device)};
}

}  // namespace

std::vector<int64_t> row_shape(const DenoiserOptions& options) {
  if (options.space == "image") return {options.channels, options.height, options.width};
  if (options.code_height == 0 && options.code_width == 0) return {options.code};
  return {options.code, options.code_height, options.code_width};
}

Network denoiser_network(const DenoiserOptions& options, uint64_t seed) {
  require(options.space == "code" || options.space == "image", Failure::input, "denoiser: found space '", options.space,
          "', expected code or image");
  require(!many(options) || options.sigma_low < options.sigma_high, Failure::usage, "denoiser: found sigma_low ", options.sigma_low,
          " and sigma_high ", options.sigma_high, ", expected sigma_low < sigma_high");
  const std::vector<int64_t> shape = row_shape(options);
  require(std::all_of(shape.begin(), shape.end(), [](int64_t size) { return size > 0; }), Failure::input, "denoiser: found data of shape ",
          shape_text(shape), ", expected no size to be 0; give code_height and code_width, or neither");
  if (shape.size() == 1) return noise_perceptron(options.code, options.code, options.hidden, options.blocks, many(options), seed);
  return noise_unet({shape[0], options.base_channels, options.sizes, options.blocks, many(options)}, seed);
}

Denoiser make_denoiser(const DenoiserOptions& options, const Tensor& data, uint64_t seed) {
  Denoiser out{options, denoiser_network(options, seed), {}, {}};
  std::vector<int64_t> shape = row_shape(options);
  shape.insert(shape.begin(), -1);
  require_shape(data, shape, "denoiser: data");
  require(data.size(0) >= 2, Failure::input, "denoiser: found ", data.size(0), " rows of data, expected at least 2");

  const Tensor exact = data.detach().to(at::kCPU, at::kDouble);
  const bool keep = data.dim() == 4;
  const std::vector<int64_t> over = keep ? std::vector<int64_t>{0, 2, 3} : std::vector<int64_t>{0};
  const Tensor mean = exact.mean(over, keep), deviation = exact.std(over, /*unbiased=*/true, keep);
  const double largest = deviation.max().item<double>();
  require(largest > 0 && std::isfinite(largest), Failure::input,
          "denoiser: found data that never vary or are not finite, expected data that do");
  out.mean = (keep ? mean.squeeze(0) : mean).to(at::kFloat);
  out.deviation = (keep ? deviation.squeeze(0) : deviation).clamp_min(1e-4 * largest).to(at::kFloat);
  return out;
}

Denoiser frozen(const Denoiser& denoiser, at::Device device) { return with_network(denoiser, denoiser.network.frozen(device), device); }
Denoiser trainable(const Denoiser& denoiser, at::Device device) {
  return with_network(denoiser, denoiser.network.trainable(device), device);
}

Tensor denoise(const Denoiser& denoiser, const Tensor& z, const Tensor& sigma) {
  const Tensor u = (z - denoiser.mean) / denoiser.deviation;
  return denoiser.mean + denoiser.deviation * denoise_whitened(denoiser, u, sigma);
}

Tensor denoising_loss(const Denoiser& denoiser, const Tensor& clean, const Tensor& noise, const Tensor& sigma) {
  const Tensor u = (clean - denoiser.mean) / denoiser.deviation;
  const Tensor guess = denoise_whitened(denoiser, u + broadcast_rows(sigma, u.dim()) * noise, sigma);
  const Tensor weight = (1 + sigma.square()) / sigma.square();
  return weight * (guess - u).square().flatten(1).mean(1);
}

Tensor probability_flow(const std::function<Tensor(const Tensor& z, const Tensor& sigma)>& reconstruct, const std::vector<int64_t>& shape,
                        double sigma_low, double sigma_high, Stream& stream, const DrawOptions& options) {
  const c10::NoGradGuard no_gradient;
  require(options.draw_steps >= 2 && sigma_low > 0 && sigma_low < sigma_high, Failure::usage, "denoiser: found ", options.draw_steps,
          " draw steps from sigma ", sigma_high, " to ", sigma_low, ", expected at least 2, downwards and above 0");
  const double last = static_cast<double>(options.draw_steps - 1);
  const auto scale = [&](int64_t i) {
    if (i == options.draw_steps) return 0.0;
    const double high = std::pow(sigma_high, 1 / options.rho), low = std::pow(sigma_low, 1 / options.rho);
    return std::pow(high + static_cast<double>(i) / last * (low - high), options.rho);
  };
  const auto slope = [&](const Tensor& z, double sigma) { return (z - reconstruct(z, at::full({z.size(0)}, sigma, z.options()))) / sigma; };

  Tensor z = stream.normal(shape) * sigma_high;
  const double churn = std::min(options.churn / static_cast<double>(options.draw_steps), std::numbers::sqrt2 - 1);
  for (int64_t i = 0; i < options.draw_steps; ++i) {
    // A little noise back, then one Euler step down, corrected by the slope found there.
    const double sigma = scale(i) * (1 + churn), next = scale(i + 1);
    if (churn > 0) z = z + std::sqrt(sigma * sigma - scale(i) * scale(i)) * stream.normal(shape);
    const Tensor here = slope(z, sigma);
    const Tensor guess = z + (next - sigma) * here;
    z = next > 0 ? z + (next - sigma) * 0.5 * (here + slope(guess, next)) : guess;
  }
  return z;
}

Prior denoiser_prior(const Denoiser& given, double sigma, at::Device device, const DrawOptions& options,
                     const std::vector<int64_t>& latent) {
  const Denoiser denoiser = frozen(given, device);
  const DenoiserOptions& trained = denoiser.options;
  const std::vector<int64_t> own = row_shape(trained), shape = latent.empty() ? own : latent;
  require(shape == own || (own.size() == 3 && shape.size() == 3 && shape[0] == own[0]), Failure::input,
          "denoiser prior: found a denoiser of ", shape_text(own), " for codes ", shape_text(shape),
          ", expected one trained on such codes");
  if (many(trained)) {
    if (sigma == 0) sigma = 0.15;
    require(sigma >= trained.sigma_low && sigma <= trained.sigma_high, Failure::usage, "denoiser prior: found sigma ", sigma,
            ", expected one it was trained at, between ", trained.sigma_low, " and ", trained.sigma_high);
  } else {
    require(sigma == 0 || std::abs(sigma - trained.sigma) <= 1e-6 * trained.sigma, Failure::usage, "denoiser prior: found sigma ", sigma,
            ", expected ", trained.sigma, ", the one it was trained at, or 0 to take that one");
    sigma = trained.sigma;
  }

  Prior out;
  out.name = "denoiser";
  out.reconstruct = [denoiser, sigma](const Tensor& z) {
    const c10::NoGradGuard no_gradient;
    return denoise(denoiser, z, at::full({z.size(0)}, sigma, z.options()));
  };
  // The slope is known in whitened units, ∂log p/∂u = (D - u)/σ²; ∂u/∂z = 1/deviation.
  out.score = [denoiser, sigma](const Tensor& z) {
    const c10::NoGradGuard no_gradient;
    const Tensor u = (z - denoiser.mean) / denoiser.deviation;
    const Tensor guess = denoise_whitened(denoiser, u, at::full({z.size(0)}, sigma, z.options()));
    return (guess - u) / (sigma * sigma * denoiser.deviation);
  };
  if (many(trained)) {
    out.diffusion = Diffusion{denoiser.mean, denoiser.deviation, trained.sigma_low, trained.sigma_high,
                              [denoiser](const Tensor& z, const Tensor& scale) { return denoise(denoiser, z, scale); }};
    out.draw = [denoiser, options, shape](Stream& stream) {
      const auto reconstruct = [&](const Tensor& u, const Tensor& scale) { return denoise_whitened(denoiser, u, scale); };
      const Tensor u = probability_flow(reconstruct, shape, denoiser.options.sigma_low, denoiser.options.sigma_high, stream, options);
      return denoiser.mean + denoiser.deviation * u;
    };
  }
  return out;
}

}  // namespace evoke
