// Priors in closed form: Gaussian and box; and the one through an encoder.
#pragma once
#include "core/nouns/nouns.h"

namespace evoke {

/// N(μ, Σ) over codes [N,D]: score = -Σ⁻¹(z - μ), log p = -½|L⁻¹(z - μ)|² - Σ log L_ii - (D/2) log 2π, draw = μ + Lξ, Σ = LLᵀ.
/// mean [D], covariance [D,D]. Where Σ has not full rank (a code that never varies), its diagonal is raised by 1e-6 of its mean, said
/// aloud. Throws Failure::input for other shapes and for a Σ that is not positive definite.
Prior gaussian(const Tensor& mean, const Tensor& covariance, at::Device device);

/// N(0, 1) of any latent shape: score = -z.
Prior standard_normal(const std::vector<int64_t>& latent);

/// Uniform between low and high, both [latent…]: score 0, log p = 0 inside (up to its constant) and -∞ outside. Sets low and high.
/// Throws Failure::input when their shapes differ or low > high somewhere.
Prior box(const Tensor& low, const Tensor& high, at::Device device);

/// Through the encoder that made the codes: reconstruct = E(G(z)), score = (E(G(z)) - z)/σ² (Nguyen et al. 2017, Joint PPGN-h).
/// sigma: in units of the code. Only the slope is known. Throws Failure::usage when the generator has no encoder or sigma is not positive.
Prior joint(const Generator& generator, double sigma);

}  // namespace evoke
