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
};

/// Joins them. `transform` may be empty. Weights are frozen by whoever built the nouns; only ∂/∂z is computed.
/// terms: "objective" [N] (unweighted), and "prior" [N] where log p is known. The target is exact when there is no transform and the
/// prior, if any, knows its log density. value leaves the prior out where only its slope is known.
/// A generator of another image size than the classifier's is resampled (bilinear, antialiased), which is said aloud once.
/// Throws Failure::input when channels differ, Failure::usage when a row's column does not exist.
Target posterior(Generator, Transform, Classifier, Objective, std::optional<Prior>, PosteriorOptions);

}  // namespace evoke
