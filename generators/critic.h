// Critics: a network that foretells, from a code below noise, what the target will say of it.
#pragma once
#include "generators/denoiser.h"

namespace evoke {

struct CriticOptions {
  int64_t code = 32, code_height = 0, code_width = 0;
  int64_t hidden = 384, blocks = 3;
  int64_t base_channels = 64, sizes = 3;
  std::string layer;
  int64_t units = 0;
  bool classes = true;
  double beta = 2.0;
  double sigma_low = 0.01, sigma_high = 20.0;
};

inline void describe(Fields& f, CriticOptions& o) {
  f("code", o.code, "numbers", "size of a code, D; channels of a spatial one; a training takes the encoder's", {1, 65536});
  f("code_height", o.code_height, "places", "height of a spatial code; 0: a code is a row of numbers", {0, 65536});
  f("code_width", o.code_width, "places", "width of a spatial code; 0: a code is a row of numbers", {0, 65536});
  f("hidden", o.hidden, "units", "units of a residual block, on codes that are rows of numbers", {1, 65536});
  f("blocks", o.blocks, "blocks", "residual blocks; on spatial codes: at each size", {0, 1024});
  f("base_channels", o.base_channels, "channels", "channels at full size, on spatial codes; twice as many at each smaller one", {1, 4096});
  f("sizes", o.sizes, "sizes", "that spatial codes are looked at in: the full one, half, a quarter …", {1, 6});
  f("layer", o.layer, "of the target, whose units it speaks of; empty: the last one");
  f("units", o.units, "units", "of that layer; a training takes the target's", {0, 1e7});
  f("classes", o.classes, "the layer's units are classes that exclude one another: their softmax is foretold; false: exp(β·activation)");
  f("beta", o.beta, "1/deviation of the activation", "β, how much the strongest codes count, where units are no classes",
    more_than_zero(100));
  f("sigma_low", o.sigma_low, "deviations of the data", "smallest noise scale; a training takes the denoiser's", step_length);
  f("sigma_high", o.sigma_high, "deviations of the data", "largest noise scale; a training takes the denoiser's", step_length);
}

/// h(z, σ) [N,U]: of classes ln of their probabilities, of other units ln E[exp(β·(a - center)/spread) | z], given z = clean +
/// σ·deviation⊙ξ. Trained against what the target says of G(clean): its optimum is the expectation given z, so its exponential is the
/// function that turns draws of the prior into draws of p(z)·p_u(G(z)) (Doob's h-transform).
struct CriticNetwork {
  CriticOptions options;
  Network network;
  Tensor mean, deviation;  // of the codes, as the denoiser has them
  Tensor center, spread;   // [U], of the activations; of classes 0 and 1
};

/// An untrained one; a residual multilayer perceptron on [D], residual convolutions and a mean over places on [C,H,W], of any height and
/// width. Throws Failure::input where options.units is 0.
CriticNetwork untrained_critic(const CriticOptions&, uint64_t seed);
CriticNetwork frozen(const CriticNetwork&, at::Device device);
CriticNetwork trainable(const CriticNetwork&, at::Device device);

/// h(z, σ), differentiable.
Tensor criticize(const CriticNetwork&, const Tensor& z, const Tensor& sigma);

/// Of each row [N], for codes below noise, clean + σ·deviation⊙noise, and what the target says of the clean ones, `said` [N,U]: of classes
/// the cross-entropy -Σ_u p_u·h_u with their probabilities p; of others the mean over units of exp(h_u) - e_u·h_u with e_u = exp(β·(a_u -
/// center)/spread), at most e^8, from activations a. Both are least where exp(h) is the expectation of what was said.
Tensor critic_loss(const CriticNetwork&, const Tensor& clean, const Tensor& noise, const Tensor& sigma, const Tensor& said);

/// Written atomically, kind "critic". half: the network as float16.
void save_critic(const std::string& file, const CriticNetwork&, bool half = false);
/// On the CPU, float32. Throws Failure::input when the file is no critic or its weights do not fit its options.
CriticNetwork load_critic(const std::string& file);

/// As the noun, for codes of shape `latent`. Throws Failure::input for codes that it cannot take.
Critic as_critic(const CriticNetwork&, const std::vector<int64_t>& latent, at::Device device);

}  // namespace evoke
