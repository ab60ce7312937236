// What to ask of the activations: [N,U], one column a unit, larger is better.
#pragma once
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/nouns/nouns.h"

namespace evoke {

/// How a row of a layer's output is laid out: units alone; tokens of units; a map of units, whose channels come first or last.
enum class Layout { dense, tokens, map, map_last };

/// By the shape of a row, which is all that a network says of itself:
///
/// | shape   | layout   | when                                                                                   |
/// |---------|----------|----------------------------------------------------------------------------------------|
/// | [C]     | dense    |                                                                                        |
/// | [T,D]   | tokens   | T tokens of D units                                                                    |
/// | [H,W,C] | map_last | the first two sizes are equal and the third is another: a square map, channels last    |
/// | [C,H,W] | map      | every other shape of three                                                             |
///
/// So a channels-last map that is not square, and a map of C = H channels that is not square itself, are taken for the other kind.
/// Throws Failure::usage for a layer of any other shape; `where` begins the sentence.
Layout layout_of(const Layer&, std::string_view where = "units");
/// How many units a layer has: C of maps and dense layers, D of tokens.
int64_t units_of(const Layer&);
/// {height, width} of a map, {T, 1} of tokens, {1, 1} of a dense layer.
std::pair<int64_t, int64_t> places_of(const Layer&);
/// A batch of a layer's output as [N,P,C]: places (row by row of a map; tokens; 1) of units. A view wherever the memory allows it.
Tensor by_place(const Tensor& a, Layout);
/// Those of `names` that hold other layers, as "layer1.0" does where there is "layer1.0.conv1": a network's blocks.
std::vector<std::string> blocks_among(const std::vector<std::string>& names, const std::vector<Layer>&);
/// A layer where a network knows what is in an image, and has not yet forgotten what is beside it: of the blocks (of a network
/// without them, of the layers) whose map is as small as the last one's, the one after a third. Throws Failure::usage
/// for a classifier without places.
std::string scene_layer(const Classifier&, std::string_view where = "units");
/// The place that a unit has unless another is named: the centre of a map, (H/2, W/2) rounded down; token 0, the class token; y·W + x.
int64_t usual_place(const Layer&);

/// Reads units: "logits:54", "conv3:0-7" (both ends), "conv3:*", "conv3:5@12,9" (y,x of a map), "block2:5@7" (a token), "logits:red filled
/// square" (a label; also on its own), "@file" (one a line, '#' at the beginning or after a blank begins a comment; relative to `folder`).
/// In that order, repetitions kept out. Throws Failure::usage for a layer, unit, label or place that does not exist, naming what does.
std::vector<Unit> parse_units(const std::vector<std::string>& words, const Classifier&, const std::string& folder = "");
// Of units: a column each.

/// a[y] at the unit's place, by default the usual one (see usual_place); a dense layer's unit itself.
Objective unit_objective(const std::vector<Unit>&, const Classifier&);
/// The mean of a channel over its map, or of a unit over the tokens. Throws Failure::usage for a unit with a place.
Objective channel_objective(const std::vector<Unit>&, const Classifier&);
/// A logit of the last layer. Throws Failure::usage for units of other layers.
Objective logit_objective(const std::vector<Unit>&, const Classifier&);
/// p_y = exp(log_softmax(a)_y) over the units' own layer, which must be [C].
Objective softmax_objective(const std::vector<Unit>&, const Classifier&);
/// log p_y = a_y - log Σ exp a, whose slope is onehot(y) - p. as_released: the same value, with the slope (1 - p_y) at y and 0 elsewhere,
/// as the code released with (Nguyen 2017) has it; no density has that slope.
Objective log_softmax_objective(const std::vector<Unit>&, const Classifier&, bool as_released = false);

// Of layers: a column.

/// mean a² over a whole layer (DeepDream; Mordvintsev 2015).
Objective layer_objective(const std::string& layer, const Classifier&);
/// (a·v) · max(0.1, cos(a, v))^power, averaged over the places of the map or the tokens (Olah 2017; Carter 2019, with power 2 or 4).
/// directions: float [U,C], a column each. Throws Failure::input when C is not the layer's.
Objective direction_objective(const std::string& layer, const Tensor& directions, const Classifier&, double power = 2.0);
/// -½ Σ_{j≠i} cos(Gram_i, Gram_j) in row i, so that the rows sum to -Σ_{i<j} cos (Olah 2017). Gram = a aᵀ over the places of the map or the
/// tokens. groups: int64 [N], only rows of the same group are kept apart (their column of another objective, say); undefined: all rows.
Objective diversity_objective(const std::string& layer, const Classifier&, const Tensor& groups = {});

/// -|a(x) - a0|²/|a0|², a the layer's whole output and a0 that of an image (inversion; Mahendran & Vedaldi 2015, Eq. 1 and 2): 0 at an
/// image that the layer takes for this one. image: [C,H,W] in [0,1], of the size that the classifier looks at; the first score looks at it.
/// Throws Failure::input there where the layer gives zeros alone.
Objective inversion_objective(const std::string& layer, const Tensor& image, const Classifier&);
/// (a(x)·a0) · max(0.1, cos(a(x), a0))^power over the layer's whole output (caricature; Lucid's dot_compare): what the layer sees in an
/// image, and more of it. Differs: Lucid's cosine is not divided by |a0| and may be negative.
Objective caricature_objective(const std::string& layer, const Tensor& image, const Classifier&, double power = 2.0);

// Of the image: the priors that are written as penalties.

/// What counts as variation from pixel to pixel, dx and dy being the differences to the next column and row, 0 in the last.
enum class Variation { sum, length };  // |dx| + |dy|; √(dx² + dy²)
/// -Σ of it over channels and places (Mahendran & Vedaldi 2015; Finzi has the length).
Objective total_variation_objective(Variation = Variation::sum);
/// -Σ (x - ground)² and -Σ |x - ground|.
Objective l2_objective(double ground = 0.0);
Objective l1_objective(double ground = 0.0);
/// -Σ (x - blur(x))², the Gaussian blur with the border repeated.
Objective blur_objective(double deviation);
/// -Σ (x - bilateral(x))² (see bilateral_filtered).
Objective bilateral_objective(double deviation, double colour);
/// -Σ w·(x - ground)², w = 1 - exp(-r²/(2·radius²)), r being the distance from the middle where half of the longer side is 1: things in the
/// middle cost nothing (after the centre-biased regularization of Nguyen 2016).
Objective centre_objective(double radius, double ground = 0.5);

/// What the patches of images are like: [D] and [D,D] of D = C·side·side numbers in the order C,H,W, and some patches themselves.
struct Patches {
  int64_t channels = 0, side = 0;
  Tensor mean, covariance;  // [D], [D,D], over many patches
  Tensor examples;          // [K,C,side,side]
};
/// Safetensors, kind "patches". `dataset`: SHA-256 of what they were measured on. Load throws Failure::input for any other file.
void save_patches(const std::string& file, const Patches&, const std::string& dataset);
Patches load_patches(const std::string& file);
/// Σ log N(p; μ, Σ + noise²·1) over every patch p of the image, at every place (the expected patch log-likelihood of Zoran & Weiss 2011
/// with one Gaussian). Throws Failure::input where it is not positive definite.
Objective patch_gaussian_objective(const Patches&, double noise);
/// -Σ min_k |p - q_k|² over the patches p at every `stride`-th place, q_k the examples (after Wei et al. 2015, whose patches are nearest
/// ones of a dictionary, too).
Objective nearest_patch_objective(const Patches&, int64_t stride);

// Of objectives.

Objective negative(Objective);
/// Σ weight · score. Each has U columns or one, which then counts for all.
Objective weighted_sum(std::vector<std::pair<Objective, double>>);
/// Σ_u weight_u · score_u, one column out of the U of an objective. Throws Failure::usage unless there is a weight a column.
Objective combined(Objective, const std::vector<double>& weights);
/// One column out of two: (1 - t) · first + t · second, t from 0 in the first row of the batch to 1 in its last.
Objective interpolation(Objective of_two);

}  // namespace evoke
