// Small dense linear algebra on the host, in double precision: moments, factors, eigenvalues, principal components.
//
// Tensors go in and come out; inside it is Eigen over the same memory. Inputs may be of any floating type and on any device (they are
// brought to the CPU as float64); results are float64 on the CPU. What runs at every step, on the device, is LibTorch's and not here.
#pragma once
#include <optional>

#include "core/numbers/tensor.h"

namespace evoke {

/// Mean and covariance of rows that arrive in parts, so that no more than one part is held:
///
///     n = n_a + n_b,  δ = μ_b - μ_a,  μ = μ_a + δ·n_b/n,  S = S_a + S_b + δδᵀ·n_a·n_b/n        (Chan, Golub & LeVeque 1983, Eq. 1.5)
///
/// with S the sum of (x - μ)(x - μ)ᵀ, which does not cancel where the mean is large against the deviation.
class Moments {
 public:
  /// rows [M,D], M ≥ 1, the same D at every call. Throws Failure::input otherwise.
  void add(const Tensor& rows);
  int64_t count() const { return count_; }  // rows so far
  Tensor mean() const { return mean_; }     // [D]; undefined before the first row
  /// [D,D], S/(n - 1). Throws Failure::input where n < 2.
  Tensor covariance() const;

 private:
  int64_t count_ = 0;
  Tensor mean_, scatter_;  // μ [D] and S [D,D]
};

/// What makes N(μ, Σ) of N(0, 1) and back, Σ = LLᵀ.
struct Whitening {
  Tensor factor;               // L [D,D], lower triangular
  Tensor inverse;              // L⁻¹ [D,D], lower triangular
  double log_determinant = 0;  // ln |L| = Σ ln L_ii, half of ln |Σ|
};
/// Of a covariance [D,D], of which the symmetric part counts; none where that is not positive definite, or not finite.
std::optional<Whitening> whitening(const Tensor& covariance);

/// The eigenvalues [D] of a symmetric matrix [D,D], in rising order. Throws Failure::runtime where they do not converge (values that are
/// not finite).
Tensor symmetric_eigenvalues(const Tensor& matrix);

/// The symmetric R with R·R = `matrix`, which is symmetric and positive semidefinite [D,D]; eigenvalues below 0 count as 0 (rounding).
/// Throws as symmetric_eigenvalues.
Tensor symmetric_square_root(const Tensor& matrix);

/// The Fréchet distance of two Gaussians, squared as it is customary (Dowson & Landau 1982; Heusel et al. 2017, Eq. 6):
///
///     d² = |μ₁ - μ₂|² + tr(Σ₁ + Σ₂ - 2·(Σ₁^½ Σ₂ Σ₁^½)^½)
///
/// means [D], covariances [D,D]; never below 0. Throws Failure::input where shapes differ.
double frechet_distance(const Tensor& mean1, const Tensor& covariance1, const Tensor& mean2, const Tensor& covariance2);

/// The directions along which data vary most.
struct PrincipalComponents {
  Tensor mean;        // [D]
  Tensor directions;  // [K,D], of length 1, orthogonal, the widest first; the largest coordinate of each is positive
  Tensor variances;   // [K], along each, divided by N - 1
};
/// The first `count` ≤ min(N - 1, D) of data [N,D]: eigenvectors of the covariance where N > D, else of the N × N products of rows, which
/// has the same ones. Throws Failure::input for another count or fewer than two rows.
PrincipalComponents principal_components(const Tensor& data, int64_t count);

}  // namespace evoke
