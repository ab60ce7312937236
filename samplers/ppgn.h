// PPGN: a step towards where codes are dense, a step towards the condition, and noise.
#pragma once
#include <ATen/ops/full.h>
#include <ATen/ops/where.h>

#include "core/error.h"
#include "core/recipes/recipe.h"
#include "samplers/step.h"

namespace evoke {

struct PpgnOptions {
  double epsilon1 = 1e-5, epsilon2 = 1.0, epsilon3 = 1e-17;
  bool as_released = false;
  double step_size = 1.0, low = 0.0, high = 30.0;
  int64_t reset_every = 0;
  std::string precision = "auto";
};
inline void describe(Fields& f, PpgnOptions& o) {
  f("epsilon1", o.epsilon1, "", "weight of R(z) − z, the pull of the prior", non_negative);
  f("epsilon2", o.epsilon2, "", "weight of the gradient of the condition", non_negative);
  f("epsilon3", o.epsilon3, "code units", "standard deviation of a step's noise", non_negative);
  f("as_released", o.as_released, "normalize the step by its mean magnitude after the noise is added, clip codes to low … high, reset");
  f("step_size", o.step_size, "code units", "mean magnitude of a step's coordinates, as_released only", positive);
  f("low", o.low, "code units", "least value of a coordinate, as_released only");
  f("high", o.high, "code units", "greatest value of a coordinate, as_released only");
  f("reset_every", o.reset_every, "steps", "start anew from N(0, 1) with ε1 ~ U(1e-6, 1e-2) after so many, as_released only; 0: never",
    {0, 1e9});
  describe_precision(f, o.precision);
}

/// Plug and play generative network (Nguyen 2017, Eq. 5), for a target without a prior, whose value is log C_y(G(z)), ξ ~ N(0, 1):
///
///     z ← z + ε1·(R(z) − z) + ε2·∂log C_y(G(z))/∂z + ε3·ξ
///
/// The paper's five are settings of it:
///     PPGN-x               G the identity (z are pixels), R a denoiser of pixels
///     DGN-AM               ε1 = ε3 = 0
///     PPGN-h               G a decoder, R a denoiser of its codes
///     Joint PPGN-h         R = E∘G, through the encoder that made the codes, trained with noise
///     Noiseless Joint      the same, trained without noise
/// R is the prior's `reconstruct`. Where the prior has none, its score ∂log p/∂z stands for R(z) − z, and ε1 then carries a denoiser's σ²
/// too. With ε1 = 0 no prior is needed; otherwise one without both throws Failure::usage, as does low ≥ high with as_released. For π = p·C
/// it samples only where ε1 = σ²·τ²/2, ε2 = τ²/2, ε3 = τ; other weights give other laws. At the bounds of a bounded prior (a box) codes are
/// mirrored, as langevin does.
///
/// as_released, d being the three terms together:  z ← clip(z + step_size·d/mean|d|, low, high), and where reset_every is k, after the
/// steps k, 2k, … the code is drawn from N(0, 1) and ε1 (if it is not 0) from U(1e-6, 1e-2), row by row. Differs: the authors' code does
/// that, the paper does not. Divided by its mean magnitude, and with noise of 1e-17 far below one unit in the last place, that chain is
/// deterministic in effect: it climbs with steps of one size, and is not a sampler. carry: "epsilon1" [N], where reset_every is used.
inline Sampler ppgn(const PpgnOptions& options, const Prior& prior = {}) {
  require(options.epsilon1 == 0 || prior.reconstruct || prior.score, Failure::usage, "ppgn: found epsilon1 = ", options.epsilon1,
          " and no prior that reconstructs codes or knows its slope; add a [prior] (denoiser, joint, gaussian), or set epsilon1 = 0");
  require(!options.as_released || options.low < options.high, Failure::usage, "ppgn: found low = ", options.low,
          " and high = ", options.high, "; expected low below high");
  Sampler sampler{.name = "ppgn", .needs_exact_target = false, .init = {}, .step = {}};
  const bool resets = options.as_released && options.reset_every > 0;
  sampler.init = [options, resets](const Tensor& z, const Target& target, Stream& stream) {
    State state{z, target.evaluate(z, stream), {}};
    if (resets) state.carry["epsilon1"] = at::full({z.size(0)}, options.epsilon1, z.options());
    return state;
  };
  sampler.step = [options, prior, resets](const State& state, const Target& target, Stream& stream) {
    Tensors carry = state.carry;
    const Tensor& z = state.z;
    const at::IntArrayRef latent = z.sizes().slice(1);

    // The three terms.
    Tensor d = options.epsilon2 * state.at.gradient;
    if (options.epsilon1 > 0) {
      const Tensor pull = prior.reconstruct ? prior.reconstruct(z) - z : prior.score(z);
      d = d + (resets ? broadcast_rows(carry["epsilon1"], z.dim()) * pull : options.epsilon1 * pull);
    }
    if (options.epsilon3 > 0) d = d + options.epsilon3 * stream.normal(latent);
    if (!options.as_released) return arrive(state, mirrored(z + d, prior), std::move(carry), target, stream);

    Tensor next = (z + options.step_size * over_mean_magnitude(d)).clamp(options.low, options.high);
    if (resets) {
      const Tensor step = stream.step_tensor(), now = (step > 0).logical_and(step.remainder(options.reset_every) == 0);
      next = at::where(now, stream.normal(latent), next);
      if (options.epsilon1 > 0) carry["epsilon1"] = at::where(now, 1e-6 + (1e-2 - 1e-6) * stream.uniform({}), carry["epsilon1"]);
    }
    return arrive(state, std::move(next), std::move(carry), target, stream);
  };
  return sampler;
}

}  // namespace evoke
