// Denoisers: a network that takes noise off codes or images, and the prior whose slope it knows.
#pragma once
#include "core/networks/network.h"
#include "core/recipes/recipe.h"

namespace evoke {

struct DenoiserOptions {
  std::string space = "code";
  double sigma = 0.0;
  double sigma_low = 0.01, sigma_high = 20.0;
  int64_t code = 32, code_height = 0, code_width = 0;
  int64_t hidden = 512, blocks = 4;
  int64_t base_channels = 24, sizes = 2;
  int64_t channels = 3, height = 48, width = 48;
};

inline void describe(Fields& f, DenoiserOptions& o) {
  f.choice("space", o.space, "what is denoised: codes of a decoder, or images", {"code", "image"});
  f("sigma", o.sigma, "deviations of the data", "the one noise scale σ it is trained at; 0: all between sigma_low and sigma_high",
    {0.0, 1e6});
  f("sigma_low", o.sigma_low, "deviations of the data", "smallest noise scale, where draws end", step_length);
  f("sigma_high", o.sigma_high, "deviations of the data", "largest noise scale, where draws begin", step_length);
  f("code", o.code, "numbers", "size of a code, D; channels of a spatial one", {1, 65536});
  f("code_height", o.code_height, "places", "height of a spatial code; 0: a code is a row of numbers", {0, 65536});
  f("code_width", o.code_width, "places", "width of a spatial code; 0: a code is a row of numbers", {0, 65536});
  f("hidden", o.hidden, "units", "units of a residual block, on codes that are rows of numbers", {1, 65536});
  f("blocks", o.blocks, "blocks", "residual blocks; on images and spatial codes: at each size, on the way down and on the way up",
    {0, 1024});
  f("base_channels", o.base_channels, "channels", "channels at full size, on images and spatial codes; twice as many at each smaller one",
    {1, 4096});
  f("sizes", o.sizes, "sizes", "that images and spatial codes are looked at in: the full one, half, a quarter …", {1, 6});
  f("channels", o.channels, "channels", "colours of an image; a training takes the dataset's, as it does height and width", {1, 1024});
  f("height", o.height, "px", "height of an image", {4, 65536});
  f("width", o.width, "px", "width of an image", {4, 65536});
}

/// Shape of what is denoised: [D] for codes, [C,H,W] for spatial codes and images.
std::vector<int64_t> row_shape(const DenoiserOptions&);

/// R(z, σ), the expected clean value given z = clean + σ · deviation ⊙ ξ. Data are whitened inside, u = (z - mean)/deviation, so σ is in
/// units of the data's own deviation, whatever the decoder's scale. One for [C,H,W] is convolutional and takes any height and width.
struct Denoiser {
  DenoiserOptions options;
  Network network;
  Tensor mean, deviation;  // [D], or [C,1,1] by channel
};

/// An untrained one for data [M,D] or [M,C,H,W], from whose mean and deviation the whitening is taken (deviation at least 1e-4 of the
/// largest). Network: on [D] a residual multilayer perceptron, each block given an embedding of σ; on [C,H,W] a U-Net of residual blocks,
/// each scaled and shifted by an embedding of σ (Dhariwal & Nichol 2021, without attention). Its last layer starts at 0, so R(z, σ) starts
/// as the best guess for Gaussian data.
/// Throws Failure::input when the data do not fit the options, Failure::usage when sigma_low ≥ sigma_high.
Denoiser make_denoiser(const DenoiserOptions& options, const Tensor& data, uint64_t seed);
/// The network alone: input c_in·u, with c_noise as one more column or channel when there are many σ.
Network denoiser_network(const DenoiserOptions& options, uint64_t seed);

/// The same with the network frozen, or trainable, on `device`.
Denoiser frozen(const Denoiser&, at::Device device);
Denoiser trainable(const Denoiser&, at::Device device);

/// R(z, σ): in whitened units D(u; σ) = c_skip·u + c_out·F(c_in·u, c_noise), with c_skip = 1/(1+σ²), c_out = σ/√(1+σ²), c_in = 1/√(1+σ²),
/// c_noise = ln(σ)/4 (Karras et al. 2022, Table 1, σ_data = 1). z [N,…], sigma [N]; differentiable. One trained at a single noise scale is
/// not told σ: pass its own.
Tensor denoise(const Denoiser&, const Tensor& z, const Tensor& sigma);

/// The training loss of each row, [N]: mean over the elements of λ·((R(z + σ·deviation⊙noise, σ) - z)/deviation)², λ = (1+σ²)/σ² (Karras et
/// al. 2022, Eq. 2 and Table 1). clean and noise [N,…], noise standard normal, sigma [N].
Tensor denoising_loss(const Denoiser&, const Tensor& clean, const Tensor& noise, const Tensor& sigma);

/// Written atomically, kind "denoiser". half: the network as float16.
void save_denoiser(const std::string& file, const Denoiser&, bool half = false);
/// On the CPU, float32. Throws Failure::input when the file is no denoiser or its weights do not fit its options.
Denoiser load_denoiser(const std::string& file);

struct DrawOptions {
  int64_t draw_steps = 32;
  double rho = 7.0;
  double churn = 0.0;
};

inline void describe(Fields& f, DrawOptions& o) {
  f("draw_steps", o.draw_steps, "steps", "noise scales on the way from sigma_high to sigma_low, two passes each", {2, 10000});
  f("rho", o.rho, "", "how much the noise scales crowd at the small end", {1, 100});
  f("churn", o.churn, "", "fresh noise on the way, S_churn; 0: none", {0.0, 1e6});
}

/// Draws from the data whose ideal denoiser is `reconstruct`, by Heun's method on the probability flow dz/dσ = (z - R(z, σ))/σ from
/// z = σ_high·ξ down to σ = 0 (Karras et al. 2022, Algorithm 2 with S_noise = 1 and S_churn at all scales; Algorithm 1 at churn 0).
/// Noise scales: σ_i = (σ_high^(1/ρ) + i/(steps-1)·(σ_low^(1/ρ) - σ_high^(1/ρ)))^ρ, then 0. reconstruct: (z [N,shape…], sigma [N]) → like
/// z.
Tensor probability_flow(const std::function<Tensor(const Tensor& z, const Tensor& sigma)>& reconstruct, const std::vector<int64_t>& shape,
                        double sigma_low, double sigma_high, Stream& stream, const DrawOptions& options = {});

/// The slope that a denoiser knows (Alain & Bengio 2014): score = (R(z, σ) - z)/(σ·deviation)², the exact score of the data blurred by
/// noise of σ·deviation when R is ideal; reconstruct = R(z, σ). No gradient is taken through the network. draw: probability_flow, for the
/// one trained over a range of noise scales; else empty. sigma: in deviations of the data; 0 takes the single one, or 0.15 of a range.
/// 32 steps from 20 to 0.01 draw a Gaussian 0.6 % too wide (24: 1.1 %, 64: 0.1 %). latent: shape of the codes, where it is another height
/// and width than it was trained at. Throws Failure::usage when sigma is not one it was trained at, Failure::input for codes of another
/// shape than it can take.
Prior denoiser_prior(const Denoiser&, double sigma, at::Device device, const DrawOptions& options = {},
                     const std::vector<int64_t>& latent = {});

}  // namespace evoke
