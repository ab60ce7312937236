// The nouns: values that hold functions. Everything is maximized; everything is per row [N].
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/nouns/unit.h"
#include "core/numbers/stream.h"
#include "core/numbers/tensor.h"

namespace evoke {

/// What an image is to a network. Inside evoke images are RGB, float [N,C,H,W] in [0,1]; a network's own range lives here
/// (core/image_spec.h): it sees (low + x·(high - low) - mean) / deviation, its channels in reverse where it wants BGR.
struct ImageSpec {
  int64_t channels = 3, height = 48, width = 48;
  std::vector<double> mean{}, deviation{};  // per channel, in the network's own range and order; empty: none
  double low = 0, high = 1;                 // the network's own black and white
  bool bgr = false;
};

/// What the taps of one pass gave, by the name of the tap.
using Activations = Tensors;

/// A layer that can be tapped.
struct Layer {
  std::string name, type;
  std::vector<int64_t> shape;  // of one row's output: [C,H,W], [H,W,C], [T,D] (tokens) or [C]
  int64_t parameters = 0;
};

/// The target and its slope at z.
struct Evaluation {
  Tensor value;     // [N] log density up to a constant, or whatever is maximized
  Tensor gradient;  // like z
  Tensors terms;    // name -> [N], for the record: "objective", without weight and prior, is always among them
};

/// Where a sampler climbs or wanders.
struct Target {
  std::string name;
  bool exact = false;      // differences of value are log-density ratios, so a Metropolis test means something
  bool comparable = true;  // the higher value is the better code: nothing in it is drawn, and it holds all that the gradient climbs
  std::function<Evaluation(const Tensor& z, Stream&)> evaluate;
  std::vector<Column> columns;                           // what scan scores, U of them
  std::function<Tensor(const Tensor& z, Stream&)> scan;  // [M,…] -> [M,U], every column of every row, no gradient
  std::vector<int64_t> latent;                           // shape of one row of z
  bool rows_independent = true;                          // a row's scores do not depend on the other rows of its batch
  bool capturable = true;                                // the same kernels at each call, and none waits for the host (CUDA graphs)
};

/// z to image.
struct Generator {
  std::string name;
  std::vector<int64_t> latent;  // shape of one row of z: [D], or [C,H,W] of a code that is a small image
  ImageSpec image;
  std::function<Tensor(const Tensor& z)> decode;  // [N,latent…] -> [N,C,H,W] in [0,1]
  std::function<Tensor(Stream&)> start;           // the customary starting point, [N,latent…]
  bool identity = false;                          // z is the image itself: decode clips it to [0,1] and does nothing else
  bool capturable = true;                         // as in Target
};

/// Image to z: the network that was trained beside a decoder, or any other that makes such codes.
struct Encoder {
  std::string name;
  ImageSpec image;                                // of the images it takes
  std::vector<int64_t> latent;                    // shape of one code: [D] or [C,H,W]
  std::function<Tensor(const Tensor& x)> encode;  // [N,C,H,W] in [0,1] -> [N,latent…]
};

/// What is known of data at every noise scale σ, which counts in the data's own deviations: enough to come down from pure noise to a code.
struct Diffusion {
  Tensor mean, deviation;  // of the data; they broadcast to z
  double sigma_low = 0.01, sigma_high = 20.0;
  // E[clean | clean + σ·deviation⊙ξ = z]; z [N,…], sigma [N]; differentiable.
  std::function<Tensor(const Tensor& z, const Tensor& sigma)> denoise;
};

/// What a target will say of a code, foretold from the code below noise. For a layer of classes the logarithm of each class's probability,
/// ln E[p_u(G(clean)) | z]; for any other ln E[exp(β·a_u(G(clean))) | z], a_u in its own deviations.
struct Critic {
  std::string name;
  std::string layer;                                                  // whose units u it speaks of
  int64_t units = 0;                                                  // U
  std::function<Tensor(const Tensor& z, const Tensor& sigma)> score;  // z = clean + σ·deviation⊙ξ [N,…], sigma [N] -> [N,U], differentiable
};

/// Where z lives.
struct Prior {
  std::string name;
  std::function<Tensor(const Tensor& z)> score;        // d log p / dz, like z
  std::function<Tensor(const Tensor& z)> log_density;  // [N]; empty where only the slope is known
  std::function<Tensor(Stream&)> draw;                 // [N,latent…]; empty where it cannot draw
  int64_t count = 0;                                   // how many different draws there are, by the number of the chain; 0: no end
  std::function<Tensor(const Tensor& z)> reconstruct;  // R(z) of an autoencoder prior, like z; empty for the others
  std::optional<Diffusion> diffusion;                  // none: known at one noise scale, or at none
  Tensor low, high;        // [latent…], the support: p is 0 outside, and kernels keep codes within; undefined: p > 0 everywhere
  bool capturable = true;  // as in Target
};

/// Image to activations.
struct Classifier {
  std::string name;
  ImageSpec image;
  std::vector<Layer> layers;                                                                  // in the order of the forward pass
  std::vector<std::string> labels;                                                            // of the last layer's units; may be empty
  std::function<Activations(const Tensor& x, const std::vector<std::string>& taps)> forward;  // x in [0,1]
  bool capturable = true;                                                                     // as in Target
};

/// The layer of that name, as long as the classifier lives. Throws an Error of that kind, naming `where` it was asked for, if there is
/// none.
const Layer& layer_named(const Classifier&, const std::string& name, std::string_view where = "units", Failure = Failure::usage);

/// What is asked of the activations. One function serves chains (each row takes its own column) and search (all columns).
struct Objective {
  std::string name;
  std::vector<std::string> taps;
  std::vector<Column> columns;                                       // what the scores are about, U of them
  std::function<Tensor(const Tensor& x, const Activations&)> score;  // [N,U], larger is better
  bool rows_independent = true;                                      // a row's score does not depend on the other rows of its batch
};

/// Between G and C, drawn afresh at each step, one draw a row. [N,C,H,W] -> the same shape, that of the images which the classifier looks
/// at.
using Transform = std::function<Tensor(const Tensor& x, Stream&)>;

/// Where the chains are: nothing but tensors, so one routine checkpoints every sampler.
struct State {
  Tensor z;       // [N,…]
  Evaluation at;  // the target at z
  Tensors carry;  // momentum, best so far, archive…
};

/// What a step did, for the record; never read back.
struct Info {
  Tensor acceptance;  // [N] in [0,1]; undefined where nothing is rejected
  Tensor moved;       // [N] Euclidean length of the step; undefined where it means nothing
};

struct Transition {
  State state;
  Info info;
};

/// A kernel, pure: the next state is a function of this state, the target and the stream.
struct Sampler {
  std::string name;
  bool needs_exact_target = false;
  std::function<State(const Tensor& z, const Target&, Stream&)> init;
  std::function<Transition(const State&, const Target&, Stream&)> step;
  bool capturable = true;  // as in Target
};

}  // namespace evoke
