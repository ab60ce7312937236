#include "generators/critic.h"

#include <ATen/ATen.h>

#include "core/error.h"
#include "generators/noise_networks.h"

namespace evoke {

namespace {

constexpr double most_exponent = 8.0;  // of exp(β·a): beyond it a few codes would be all that is learned

bool spatial(const CriticOptions& options) { return options.code_height > 0 || options.code_width > 0; }

CriticNetwork with_network(const CriticNetwork& critic, Network network, at::Device device) {
  return {critic.options,           std::move(network),      critic.mean.to(device), critic.deviation.to(device),
          critic.center.to(device), critic.spread.to(device)};
}

}  // namespace

CriticNetwork untrained_critic(const CriticOptions& options, uint64_t seed) {
  require(options.units > 0, Failure::input, "critic: found units = 0, expected those of the target's layer");
  CriticNetwork out;
  out.options = options;
  out.network = spatial(options)
                    ? noise_funnel({options.code, options.base_channels, options.sizes, options.blocks, true}, options.units, seed)
                    : noise_perceptron(options.code, options.units, options.hidden, options.blocks, true, seed);
  const std::vector<int64_t> shape = spatial(options) ? std::vector<int64_t>{options.code, 1, 1} : std::vector<int64_t>{options.code};
  out.mean = at::zeros(shape);
  out.deviation = at::ones(shape);
  out.center = at::zeros({options.units});
  out.spread = at::ones({options.units});
  return out;
}

CriticNetwork frozen(const CriticNetwork& critic, at::Device device) { return with_network(critic, critic.network.frozen(device), device); }
CriticNetwork trainable(const CriticNetwork& critic, at::Device device) {
  return with_network(critic, critic.network.trainable(device), device);
}

Tensor criticize(const CriticNetwork& critic, const Tensor& z, const Tensor& sigma) {
  const Tensor said = critic.network(below_noise((z - critic.mean) / critic.deviation, sigma)).to(z.scalar_type());
  return critic.options.classes ? at::log_softmax(said, 1) : said;
}

Tensor critic_loss(const CriticNetwork& critic, const Tensor& clean, const Tensor& noise, const Tensor& sigma, const Tensor& said) {
  const Tensor z = clean + broadcast_rows(sigma, clean.dim()) * critic.deviation * noise, h = criticize(critic, z, sigma);
  if (critic.options.classes) return -(said * h).sum(1);
  const Tensor wanted = (critic.options.beta * (said - critic.center) / critic.spread).clamp_max(most_exponent).exp();
  return (h.exp() - wanted * h).mean(1);
}

Critic as_critic(const CriticNetwork& given, const std::vector<int64_t>& latent, at::Device device) {
  const CriticOptions& options = given.options;
  const bool fits = spatial(options) ? latent.size() == 3 && latent[0] == options.code : latent == std::vector<int64_t>{options.code};
  require(fits, Failure::input, "critic: found one of codes ",
          spatial(options) ? text("[", options.code, ",H,W]") : text("[", options.code, "]"), " for codes ", shape_text(latent),
          "; expected one trained on such codes (evoke train, kind = \"critic\")");
  Critic out{"critic", options.layer, options.units, {}};
  out.score = [critic = frozen(given, device)](const Tensor& z, const Tensor& sigma) { return criticize(critic, z, sigma); };
  return out;
}

}  // namespace evoke
