// The sentence that joins the nouns:
//     log π(z) = objective( classifier( transform( G(z) ) ), G(z) ) + w · log p(z)
#pragma once
#include <optional>

#include "core/nouns/nouns.h"

namespace evoke {

struct PosteriorOptions {
  Tensor rows;                // int64 [N]: which column of the objective each row climbs; undefined: all rows the first
  double prior_weight = 1.0;  // w ≥ 0
  double objective_weight = 1.0;
  int64_t views = 1;       // V ≥ 1: how often the transform is drawn at each look; the objective is the mean over these images
  int64_t redirected = 0;  // steps, from the first on, in which the classifier's ReLUs have the redirected slope (see RedirectedReluScope)
  bool bfloat16 = false;   // evaluate rounds what goes into the networks' products to bfloat16 (see in_bfloat16, Bfloat16Scope)
};

/// Joins them. `transform` may be empty. Weights are frozen by whoever built the nouns; only ∂/∂z is computed.
/// terms: "objective" [N] (unweighted), "slope" [N] (the Euclidean norm of its own ∂/∂z, without weight and prior), and "prior" [N] where
/// log p is known. value leaves the prior out where only its slope is known.
/// With V views the classifier looks at V·N images, the transform being drawn anew from the row's stream for each; every view of the N rows
/// is scored by itself, so an objective that compares rows sees the N of one view, and the mean over the V scores is what counts.
/// Two codes are comparable by value when there is no transform and the prior, if any, knows its log density; the target is exact when
/// moreover nothing is rounded to bfloat16. With bfloat16, evaluate gives scores to about two digits and gradients to some 8 % (relative
/// L2, cosine .998, on the shipped decoder and classifier); z and the sums stay float32, and scan is float32 as ever: take final scores
/// from it. A generator of another image size than the classifier's is resampled (bilinear, antialiased), which is said aloud once, before
/// the transform: a pixel that a transform speaks of is one of the classifier's. Throws Failure::input when channels differ, Failure::usage
/// when a row's column does not exist, and for several views without a transform. A target with redirected slopes is not for CUDA graphs.
Target posterior(Generator, Transform, Classifier, Objective, std::optional<Prior>, PosteriorOptions);

}  // namespace evoke
