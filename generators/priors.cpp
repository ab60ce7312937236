#include "generators/priors.h"

#include <ATen/ATen.h>
#include <ATen/ExpandUtils.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <optional>

#include "core/error.h"
#include "core/log.h"
#include "core/numbers/linear_algebra.h"

namespace evoke {

namespace {

// A lower triangular L and its inverse.
struct Factor {
  bool matrix;             // or one number for each of the code
  Tensor factor, inverse;  // float64: [S,S] of the whole code, [C,C] of its channels, or [latent…]
  double log_determinant;  // ln |L| over the whole code
};

// Once, in float64 on the host: a decoder's codes may differ in scale by many powers of ten.
Factor factor_of(const CodeStatistics& codes, int64_t size) {
  const Tensor exact = codes.covariance.detach().to(at::kCPU, at::kDouble);
  const bool matrix = exact.sizes() == at::IntArrayRef({codes.mean.numel(), codes.mean.numel()});
  const double repeats = static_cast<double>(size) / static_cast<double>(codes.mean.numel());  // by channel: the places
  const char* raised = "gaussian prior: found a covariance without full rank; its diagonal is raised by a millionth of its mean";
  const char* refused =
      "gaussian prior: found a covariance that is not positive definite, expected one that is; it was taken from too few codes, or "
      "holds values that are not finite";
  if (!matrix) {
    Tensor variances = exact;
    if (!(variances > 0).all().item<bool>()) {
      warn_once(raised);
      variances = variances + 1e-6 * variances.mean();
    }
    const Tensor deviation = variances.sqrt();
    require((at::isfinite(deviation) & (deviation > 0)).all().item<bool>(), Failure::input, refused);
    return {false, deviation, 1 / deviation, repeats * deviation.log().sum().item<double>()};
  }
  std::optional<Whitening> found = whitening(exact);
  if (!found) {
    warn_once(raised);
    found = whitening(exact + 1e-6 * exact.diagonal().mean() * at::eye(exact.size(0), exact.options()));
  }
  require(found.has_value(), Failure::input, refused);
  return {true, found->factor, found->inverse, repeats * found->log_determinant};
}

// M z for each code (and each place of it, where M is of the channels), or number by number where it is no matrix.
Tensor applied(const Tensor& m, bool matrix, const Tensor& z) {
  if (!matrix) return m * z;
  if (m.size(0) == z.numel() / std::max<int64_t>(z.size(0), 1)) return at::mm(z.flatten(1), m.t()).view_as(z);
  return at::matmul(m, z.flatten(2)).view_as(z);
}

constexpr int64_t most_turned = 512;  // rows of a covariance whose eigenvectors are taken

// E[clean | z] of N(mean, Σ) below noise of σ·d, d the deviations: with the correlations d⁻¹Σd⁻¹ = VΛVᵀ it is mean + d·VΛ(Λ + σ²)⁻¹Vᵀu.
std::optional<Diffusion> gaussian_diffusion(const CodeStatistics& codes, bool matrix, at::Device device) {
  const Tensor exact = codes.covariance.detach().to(at::kCPU, at::kDouble), wide = codes.deviation().to(at::kDouble);
  if ((matrix && exact.size(0) > most_turned) || !(wide > 0).all().item<bool>()) return std::nullopt;
  const auto single = [&](const Tensor& t) { return t.to(device, at::kFloat); };
  Diffusion out{single(codes.mean), single(wide), 0.01, 20.0, {}};
  Tensor turn, back, values = at::ones({1}, at::TensorOptions(at::kFloat).device(device));
  if (matrix) {
    const Tensor flat = wide.flatten();
    const auto [found, vectors] = at::linalg_eigh(exact / at::outer(flat, flat));
    turn = single(vectors.t().contiguous()), back = single(vectors.contiguous());
    values = single(found.clamp_min(0)).reshape(codes.mean.sizes());
  }
  out.denoise = [=, mean = out.mean, deviation = out.deviation](const Tensor& z, const Tensor& sigma) {
    Tensor u = (z - mean) / deviation;
    if (matrix) u = applied(turn, true, u.contiguous());
    u = u * (values / (values + broadcast_rows(sigma.square(), z.dim())));
    if (matrix) u = applied(back, true, u.contiguous());
    return mean + deviation * u;
  };
  return out;
}

}  // namespace

Prior gaussian(const CodeStatistics& codes, const std::vector<int64_t>& latent, at::Device device) {
  codes.require_fit(latent, "gaussian prior");
  int64_t size = 1;
  for (const int64_t n : latent) size *= n;
  const Factor found = factor_of(codes, size);
  const double constant = -found.log_determinant - 0.5 * static_cast<double>(size) * std::log(2 * std::numbers::pi);

  const auto single = [&](const Tensor& t) { return t.detach().to(device, at::kFloat); };
  const Tensor centre = single(codes.mean), lower = single(found.factor), whiten = single(found.inverse);
  const bool matrix = found.matrix;
  const Tensor transposed = matrix ? whiten.t() : whiten;
  Prior out;
  out.name = "gaussian";
  out.score = [centre, whiten, transposed, matrix](const Tensor& z) {
    const auto like = [&](const Tensor& t) { return t.to(z.scalar_type()); };
    return -applied(like(transposed), matrix, applied(like(whiten), matrix, z - centre));
  };
  out.log_density = [centre, whiten, matrix, constant](const Tensor& z) {
    return -0.5 * applied(whiten.to(z.scalar_type()), matrix, z - centre).flatten(1).square().sum(1) + constant;
  };
  out.draw = [centre, lower, matrix, latent](Stream& stream) { return centre + applied(lower, matrix, stream.normal(latent)); };
  out.diffusion = gaussian_diffusion(codes, matrix, device);
  return out;
}

Prior gaussian(const Tensor& mean, const Tensor& covariance, at::Device device) {
  require_shape(mean, {-1}, "gaussian prior: mean");
  return gaussian({mean, covariance, mean, mean}, {mean.size(0)}, device);
}

Prior standard_normal(const std::vector<int64_t>& latent) {
  double size = 1;
  for (const int64_t n : latent) size *= static_cast<double>(n);
  const double constant = -0.5 * size * std::log(2 * std::numbers::pi);
  Prior out;
  out.name = "gaussian";
  out.score = [](const Tensor& z) { return -z; };
  out.log_density = [constant](const Tensor& z) { return -0.5 * z.flatten(1).square().sum(1) + constant; };
  out.draw = [latent](Stream& stream) { return stream.normal(latent); };
  return out;
}

Prior box(const Tensor& low, const Tensor& high, at::Device device, const std::vector<int64_t>& latent) {
  require(low.defined() && high.defined() && low.sizes() == high.sizes(), Failure::input,
          "box prior: found bounds of different shapes, expected low and high of one shape");
  require(latent.empty() || at::is_expandable_to(low.sizes(), latent), Failure::input, "box prior: found bounds ", shape_text(low.sizes()),
          ", expected those of codes ", shape_text(latent));
  const at::IntArrayRef shape = latent.empty() ? low.sizes() : at::IntArrayRef(latent);
  require((low <= high).all().item<bool>(), Failure::input, "box prior: found low > high (or not a number), expected low ≤ high");
  Prior out;
  out.name = "box";
  out.low = low.detach().to(device, at::kFloat).expand(shape).contiguous();
  out.high = high.detach().to(device, at::kFloat).expand(shape).contiguous();
  out.score = [](const Tensor& z) { return at::zeros_like(z); };
  out.log_density = [low = out.low, high = out.high](const Tensor& z) {
    const Tensor inside = ((z >= low) & (z <= high)).flatten(1).all(1);
    const Tensor zero = at::zeros({z.size(0)}, z.options());
    return at::where(inside, zero, at::full_like(zero, -std::numeric_limits<double>::infinity()));
  };
  out.draw = [low = out.low, high = out.high](Stream& stream) { return low + (high - low) * stream.uniform(low.sizes()); };
  return out;
}

void require_pair(const Generator& generator, const Encoder& encoder) {
  const ImageSpec &drawn = generator.image, &seen = encoder.image;
  require(encoder.latent == generator.latent, Failure::input, "encoder ", encoder.name, ": makes codes ", shape_text(encoder.latent),
          ", generator ", generator.name, " takes codes ", shape_text(generator.latent),
          "; expected the same shape: take the encoder that was trained with this generator");
  require(seen.channels == drawn.channels && seen.height == drawn.height && seen.width == drawn.width, Failure::input, "encoder ",
          encoder.name, ": takes images ", shape_text({seen.channels, seen.height, seen.width}), ", generator ", generator.name,
          " draws images ", shape_text({drawn.channels, drawn.height, drawn.width}),
          "; expected the same shape: take the encoder that was trained with this generator");
}

Prior joint(const Generator& generator, const Encoder& encoder, double sigma) {
  require_pair(generator, encoder);
  require(sigma > 0 && std::isfinite(sigma), Failure::usage, "joint prior: found sigma ", sigma, ", expected a positive number");
  Prior out;
  out.name = "joint";
  out.reconstruct = [decode = generator.decode, encode = encoder.encode](const Tensor& z) {
    const c10::NoGradGuard no_gradient;
    return encode(decode(z));
  };
  out.score = [reconstruct = out.reconstruct, variance = sigma * sigma](const Tensor& z) {
    return (reconstruct(z) - z.detach()) / variance;
  };
  return out;
}

}  // namespace evoke
