// Priors in closed form, Gaussian and box, over codes of any shape; and the one through an encoder.
#pragma once
#include "core/nouns/nouns.h"
#include "generators/codes.h"

namespace evoke {

/// N(μ, Σ) over codes [N,latent…]: score = -Σ⁻¹(z - μ), log p = -½|L⁻¹(z - μ)|² - ln|L| - (S/2) ln 2π, draw = μ + Lξ, Σ = LLᵀ. Σ is of the
/// whole code, of its channels and the same and independent at every place, or diagonal, as the statistics are (generators/codes.h). Where
/// Σ has not full rank (a code that never varies), its diagonal is raised by 1e-6 of its mean, said aloud.
/// Knows all noise scales (diffusion, exact) where Σ is diagonal or has at most 512 rows.
/// Throws Failure::input for statistics that do not fit `latent` and for a Σ that is not positive definite.
Prior gaussian(const CodeStatistics&, const std::vector<int64_t>& latent, at::Device device);
/// Of codes [N,D]: mean [D], covariance [D,D].
Prior gaussian(const Tensor& mean, const Tensor& covariance, at::Device device);

/// N(0, 1) of any latent shape: score = -z.
Prior standard_normal(const std::vector<int64_t>& latent);

/// Uniform between low and high, which broadcast to [latent…] (empty: they have its shape): score 0, log p = 0 inside (up to its constant)
/// and -∞ outside. Sets low and high, [latent…]. Throws Failure::input when their shapes differ or low > high somewhere.
Prior box(const Tensor& low, const Tensor& high, at::Device device, const std::vector<int64_t>& latent = {});

/// Through the encoder that made the codes: reconstruct = E(G(z)), score = (E(G(z)) - z)/σ² (Nguyen et al. 2017, Joint PPGN-h).
/// sigma: in units of the code. Only the slope is known. Throws Failure::usage when sigma is not positive, Failure::input when encoder and
/// generator do not fit (require_pair).
Prior joint(const Generator&, const Encoder&, double sigma);

/// Throws Failure::input unless the encoder makes codes of the generator's shape from images of the generator's size.
void require_pair(const Generator&, const Encoder&);

}  // namespace evoke
