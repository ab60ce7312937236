#include "generators/priors.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cmath>
#include <limits>
#include <numbers>
#include <tuple>

#include "core/error.h"
#include "core/log.h"

namespace evoke {

Prior gaussian(const Tensor& mean, const Tensor& covariance, at::Device device) {
  require_shape(mean, {-1}, "gaussian prior: mean");
  const int64_t size = mean.size(0);
  require_shape(covariance, {size, size}, "gaussian prior: covariance");

  // Σ = LLᵀ and L⁻¹ once, in float64 on the host: a decoder's codes may differ in scale by many powers of ten.
  Tensor exact = covariance.detach().to(at::kCPU, at::kDouble);
  exact = 0.5 * (exact + exact.t());
  auto [factor, failed] = at::linalg_cholesky_ex(exact);
  if (failed.item<int64_t>() != 0) {
    warn_once("gaussian prior: found a covariance without full rank; its diagonal is raised by a millionth of its mean");
    std::tie(factor, failed) = at::linalg_cholesky_ex(exact + 1e-6 * exact.diagonal().mean() * at::eye(size, exact.options()));
  }
  require(failed.item<int64_t>() == 0 && at::isfinite(factor).all().item<bool>(), Failure::input,
          "gaussian prior: found a covariance that is not positive definite, expected one that is; it was taken from too few codes, or "
          "holds values that are not finite");
  const Tensor inverse = at::linalg_solve_triangular(factor, at::eye(size, exact.options()), /*upper=*/false);
  const double constant =
      -at::log(factor.diagonal()).sum().item<double>() - 0.5 * static_cast<double>(size) * std::log(2 * std::numbers::pi);

  const auto single = [&](const Tensor& t) { return t.detach().to(device, at::kFloat); };
  const Tensor centre = single(mean), lower = single(factor), whiten = single(inverse);
  Prior out;
  out.name = "gaussian";
  out.score = [centre, whiten](const Tensor& z) {
    const Tensor w = whiten.to(z.scalar_type());
    return -at::mm(at::mm(z - centre, w.t()), w);
  };
  out.log_density = [centre, whiten, constant](const Tensor& z) {
    const Tensor u = at::mm(z - centre, whiten.to(z.scalar_type()).t());
    return -0.5 * u.square().sum(1) + constant;
  };
  out.draw = [centre, lower, size](Stream& stream) { return centre + at::mm(stream.normal({size}), lower.t()); };
  return out;
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

Prior box(const Tensor& low, const Tensor& high, at::Device device) {
  require(low.defined() && high.defined() && low.sizes() == high.sizes(), Failure::input,
          "box prior: found bounds of different shapes, expected low and high of one shape");
  require((low <= high).all().item<bool>(), Failure::input, "box prior: found low > high (or not a number), expected low ≤ high");
  Prior out;
  out.name = "box";
  out.low = low.detach().to(device, at::kFloat);
  out.high = high.detach().to(device, at::kFloat);
  out.bounded = true;
  out.score = [](const Tensor& z) { return at::zeros_like(z); };
  out.log_density = [low = out.low, high = out.high](const Tensor& z) {
    const Tensor inside = ((z >= low) & (z <= high)).flatten(1).all(1);
    const Tensor zero = at::zeros({z.size(0)}, z.options());
    return at::where(inside, zero, at::full_like(zero, -std::numeric_limits<double>::infinity()));
  };
  out.draw = [low = out.low, high = out.high](Stream& stream) { return low + (high - low) * stream.uniform(low.sizes()); };
  return out;
}

Prior joint(const Generator& generator, double sigma) {
  require(static_cast<bool>(generator.encode), Failure::usage, "joint prior: found generator '", generator.name,
          "' without an encoder, expected one with; take an autoencoder or a vae");
  require(sigma > 0 && std::isfinite(sigma), Failure::usage, "joint prior: found sigma ", sigma, ", expected a positive number");
  Prior out;
  out.name = "joint";
  out.reconstruct = [decode = generator.decode, encode = generator.encode](const Tensor& z) {
    const c10::NoGradGuard no_gradient;
    return encode(decode(z));
  };
  out.score = [reconstruct = out.reconstruct, variance = sigma * sigma](const Tensor& z) {
    return (reconstruct(z) - z.detach()) / variance;
  };
  return out;
}

}  // namespace evoke
