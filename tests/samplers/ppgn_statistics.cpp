// PPGN with a linear denoiser and a quadratic condition is a linear chain: its law has a closed form.
#include "samplers/ppgn.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "core/nouns/run.h"

namespace evoke {
namespace {

constexpr int64_t dimensions = 6, chains = 1 << 14;

struct Problem {
  Tensor denoiser;   // A: R(z) = A·z
  Tensor curvature;  // B: log C = -½ (z − m)ᵀ B (z − m)
  Tensor peak;       // m
};

// What a mutant changes.
struct Mutant {
  double noise = 1, condition = 1, pull = 1;
};

Problem problem() {
  Stream stream = Stream::range(5, 0, dimensions);
  const Tensor a = stream.normal({dimensions}).to(at::kDouble), b = stream.normal({dimensions}).to(at::kDouble);
  const Tensor eye = at::eye(dimensions, at::kDouble);
  // A is neither symmetric nor commutes with B, so the closed form is tested in earnest.
  return {0.5 * eye + 0.05 * a, 0.5 * eye + 0.05 * b.matmul(b.t()), at::linspace(2, 4, dimensions, at::kDouble)};
}

struct Law {
  Tensor mean, covariance;
};

// z ← F·z + c + ε3·ξ with F = I + ε1(A − I) − ε2·B, c = ε2·B·m: mean (I − F)⁻¹c, covariance Σ_k F^k·ε3²·(F^k)ᵀ, summed by doubling.
Law closed_form(const Problem& p, const PpgnOptions& o) {
  const Tensor eye = at::eye(dimensions, at::kDouble);
  Tensor f = eye + o.epsilon1 * (p.denoiser - eye) - o.epsilon2 * p.curvature;
  const Tensor mean = at::linalg_solve(eye - f, o.epsilon2 * p.curvature.matmul(p.peak));
  Tensor covariance = o.epsilon3 * o.epsilon3 * eye;
  for (int k = 0; k < 20; ++k) {
    covariance = covariance + f.matmul(covariance).matmul(f.t());
    f = f.matmul(f);
  }
  return {mean, covariance};
}

struct Check {
  double mean = 0, variance = 0;              // greatest relative distance over the coordinates
  double mean_error = 0, variance_error = 0;  // greatest relative standard error
  bool finite = false;
  bool passes() const { return finite && mean < 0.005 && variance < 0.005 && 5 * mean_error < 0.005 && 5 * variance_error < 0.005; }
};

Check check(bool by_score, const Mutant& mutant = {}) {
  at::set_num_threads(1);
  const Problem p = problem();
  const PpgnOptions options{.epsilon1 = 0.6, .epsilon2 = 0.3, .epsilon3 = 0.5};
  const Law law = closed_form(p, options);

  Target target;
  target.name = "quadratic";
  target.evaluate = [b = p.curvature.to(at::kFloat), m = p.peak.to(at::kFloat), mutant](const Tensor& z, Stream&) {
    const Tensor pull = (z - m).matmul(b.t());
    return Evaluation{-0.5 * ((z - m) * pull).sum(1), -mutant.condition * pull, {}};
  };
  Prior prior;
  prior.name = "linear";
  const auto reconstruct = [a = p.denoiser.to(at::kFloat), mutant](const Tensor& z) { return z + mutant.pull * (z.matmul(a.t()) - z); };
  if (by_score)
    prior.score = [reconstruct](const Tensor& z) { return reconstruct(z) - z; };
  else
    prior.reconstruct = reconstruct;
  PpgnOptions mutated = options;
  mutated.epsilon3 *= mutant.noise;

  RunOptions run_options;
  run_options.steps = 430;
  run_options.chains = at::arange(chains);
  Tensor sum = at::zeros({chains, dimensions}, at::kDouble), squares = sum.clone();
  int64_t seen = 0;
  try {
    run(ppgn(mutated, prior), target, at::zeros({chains, dimensions}), run_options, [&](int64_t step, const State& state, const Info&) {
      if (step < 30) return;
      const Tensor away = state.z - law.mean;
      sum += away;
      squares += away.square();
      ++seen;
    });
  } catch (const Error&) {
    return {};
  }

  // Chains are independent, so their spread gives the standard errors.
  const double root = std::sqrt(static_cast<double>(chains));
  const Tensor variance = law.covariance.diagonal();
  const Tensor off = sum / static_cast<double>(seen) / law.mean, ratio = squares / static_cast<double>(seen) / variance;
  return {off.mean(0).abs().max().item<double>(), (ratio.mean(0) - 1).abs().max().item<double>(),
          (off.std(0) / root).abs().max().item<double>(), (ratio.std(0) / root).max().item<double>(), true};
}

TEST(Ppgn, ReachesTheClosedFormMeanAndVariance) {
  for (const bool by_score : {false, true}) {
    const Check c = check(by_score);
    EXPECT_TRUE(c.passes()) << (by_score ? "score: " : "reconstruct: ") << "mean off " << c.mean << " ± " << c.mean_error
                            << ", variance off " << c.variance << " ± " << c.variance_error;
  }
}

TEST(Ppgn, MutantsAreCaughtByTheSameCheck) {
  EXPECT_FALSE(check(false, {.noise = 1.1}).passes()) << "noise × 1.1";
  EXPECT_FALSE(check(false, {.noise = std::sqrt(0.5)}).passes()) << "√2 missing in the noise";
  EXPECT_FALSE(check(false, {.condition = -1}).passes()) << "down the condition";
  EXPECT_FALSE(check(false, {.pull = -1}).passes()) << "away from the prior";
}

}  // namespace
}  // namespace evoke
