// Have the chains mixed, and how many independent draws are they worth?
#pragma once
#include "core/numbers/tensor.h"

namespace evoke {

/// Split R̂ (Gelman 2013, Eq. 11.4) of one quantity, draws [S,N] (S steps of N chains, S ≥ 4). Each chain is cut in two halves; with W the
/// mean variance within halves, B/n the variance of their means and n their length, R̂ = √(((n−1)/n·W + B/n) / W). Near 1 when the chains
/// agree and none drifts; NaN where nothing varies. The first half leaves out the middle draw of an odd S. Throws Failure::usage for
/// another shape. Waits for the device.
double split_r_hat(const Tensor& draws);

/// Effective sample size of all N chains together for the mean of one quantity, draws [S,N], S ≥ 4: S·N / (1 + 2·Σ ρ_t), with the
/// autocorrelations ρ_t of the split chains combined as in (Vehtari 2021, Eq. 10) and summed over Geyer's initial monotone sequence of
/// pairs ρ_2k + ρ_2k+1 (Geyer 1992, §3.3). At most S·N·log10(S·N); NaN where nothing varies. Throws Failure::usage for another shape. Waits
/// for the device.
double effective_sample_size(const Tensor& draws);

}  // namespace evoke
