// Guided sampling: from noise down to a code, steered at each noise scale towards what the target wants.
#pragma once
#include <optional>

#include "core/nouns/nouns.h"
#include "core/recipes/recipe.h"
#include "samplers/step.h"

namespace evoke {

struct GuidedOptions {
  double strength = 12.0, guide_below = 10.0;
  bool through_denoiser = false;
  bool rescale = true;
  double critic_weight = 3.0, critic_until = 0.0;
  double churn = 0.5;
  bool ancestral = false;
  double sigma_start = 0.0, sigma_high = 0.0, sigma_low = 0.05, rho = 5.0;
  int64_t particles = 1;
  std::string precision = "auto";
};
inline void describe(Fields& f, GuidedOptions& o) {
  f("strength", o.strength, "tenths of the data's deviation",
    "s, how far the target's gradient moves the denoised estimate at σ far above 1", non_negative);
  f("guide_below", o.guide_below, "deviations of the data", "σ below which the target's gradient steers", non_negative);
  f("through_denoiser", o.through_denoiser,
    "take the target's gradient in the noisy code, through the denoiser, so that what the prior holds to belong together moves together; a "
    "tenth slower on photographs");
  f("rescale", o.rescale,
    "shrink an estimate that the gradient moved to the data's deviation where it exceeds it (spatial codes and pixels; a dense code has "
    "too "
    "few numbers to have one); colours saturate otherwise");
  f("critic_weight", o.critic_weight, "", "w, of the critic's slope: 1 is Bayes' rule, 2 to 4 give surer and less varied pictures",
    non_negative);
  f("critic_until", o.critic_until, "deviations of the data",
    "σ below which the gradient steers in place of the critic; 0: the critic to the end", non_negative);
  f("churn", o.churn, "", "c, share of fresh noise at each noise scale: 0 none, 1 all of it", share);
  f("ancestral", o.ancestral, "fresh noise as the exact reverse process has it, c² = 1 - σ'²/σ², in place of churn");
  f("sigma_start", o.sigma_start, "deviations of the data",
    "begin at the run's starting codes below noise of this σ: changes a given picture, the more the larger; 0: begin at noise alone",
    non_negative);
  f("sigma_high", o.sigma_high, "deviations of the data", "largest noise scale; 0: the denoiser's", non_negative);
  f("sigma_low", o.sigma_low, "deviations of the data", "smallest noise scale; never below the denoiser's", step_length);
  f("rho", o.rho, "", "how much the noise scales crowd at the small end", {1, 100});
  f("particles", o.particles, "particles",
    "of each chain, weighted by the target and resampled (needs a critic and no random transform): the exact law; 1: the picture as it "
    "comes",
    {1, 4096});
  describe_precision(f, o.precision);
}

/// Comes down the noise scales σ_0 > … > σ_{K-1} > 0 of a prior that knows all of them (Karras et al. 2022, Eq. 5), K the run's steps. With
/// u = (z - mean)/deviation, R the denoiser, h the critic and ξ ~ N(0, 1), at each of them:
///
///     x̂ = R(u, σ)                                              the denoised estimate
///     x̂ ← x̂ + w·σ²·∂ln h_y(u, σ)/∂u                           where there is a critic and σ ≥ critic_until
///     x̂ ← x̂ + s·(σ/√(1+σ²))·0.1·√D·g/|g|,  x̂ ← x̂·min(1, 1/sd(x̂))   otherwise, where σ < guide_below; g = ∂target/∂x̂,
///                                                               or ∂target/∂u, through R, with through_denoiser
///     u ← x̂ + σ'·(√(1-c²)·(u - x̂)/σ + c·ξ)                    σ' the next scale, 0 after the last
///
/// The law. With an ideal critic and w = 1 the middle line is Bayes' rule for E[clean | u, y] (Dhariwal & Nichol 2021, Eq. 10), so with
/// c = 0 or `ancestral` and many scales the chain draws from p(z)·p_y(G(z)). Any other w, a critic that errs, and c above the ancestral one
/// (which replaces a draw of the clean code by its mean and so narrows the law) draw surer and less varied codes than that. The gradient at
/// the estimate follows no law: it takes the target at the mean of what may be for its mean, and steps of its direction alone; it serves
/// where the target's answer to a blur means something. Through the denoiser it is the gradient of Chung et al. 2023, whose
/// Jacobian, the covariance of what may be over σ², leaves directions that the prior holds impossible out. s needs no tuning by unit.
///
/// particles = P > 1: P codes for each chain come down by the ancestral step with the critic as a twist (Wu et al. 2023, Alg. 1). Their
/// weights carry what the steered step and the critic were wrong by, and at the end the target's own value, so that with many particles a
/// chain's code, one of them drawn by its weight, has the law p(z)·exp(target(z)) of the discretized reverse process, whatever the critic.
///
/// For a target without the prior. Works for dense codes, spatial ones and pixels, and any objective where the gradient steers; a critic
/// steers units of its own layer alone. State: z below noise until the last step. at: where the critic steered, its ln h and slope.
/// Throws Failure::usage for a prior without diffusion, noise scales that are not in order, and particles without a critic or on a target
/// whose values are drawn at random.
/// units: int64 [N], each row's unit in the critic's layer; undefined without a critic.
Sampler guided(const GuidedOptions&, int64_t steps, const Prior&, const std::optional<Critic>& critic = {}, const Tensor& units = {});

/// σ_k = (high^(1/ρ) + k/(K-1)·(low^(1/ρ) - high^(1/ρ)))^ρ for k of 0 … K-1.
std::vector<double> noise_scales(double high, double low, double rho, int64_t count);

/// Those units: throws Failure::usage where a row's column is no unit of the critic's layer.
Tensor critic_units(const Critic&, const Target&, const Tensor& rows, int64_t count);

}  // namespace evoke
