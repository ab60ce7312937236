#include "generators/denoiser.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "core/error.h"

namespace evoke {

namespace {

constexpr int64_t frequencies = 8;
constexpr int64_t embedding_size = 2 * frequencies + 1;

// c_noise [N,1] to [N, embedding_size]: itself, and cosines and sines at frequencies ¼·2^(k/2).
Tensor embed(const Tensor& noise) {
  const Tensor rates = at::exp2(0.5 * at::arange(frequencies, noise.options())) * (0.5 * std::numbers::pi);
  const Tensor phase = noise * rates;
  return at::cat({noise, at::cos(phase), at::sin(phase)}, 1);
}

// Initial weights of custom steps; one a call, each from a chain of its own.
struct Draws {
  uint64_t seed;
  int64_t next = 0;
  Tensor operator()(at::IntArrayRef shape, double gain) {
    double fan_in = 1;
    for (const int64_t n : shape.slice(1)) fan_in *= static_cast<double>(n);
    return Stream::range(seed, next++, 1, at::kCPU, 2).normal(shape).squeeze(0) * (gain / std::sqrt(fan_in));
  }
};

// The values of a layer by the end of its name.
struct Part {
  const Tensors& weights;
  const std::string& name;
  const Tensor& operator()(const char* end) const { return weights.at(name + end); }
};

bool many(const DenoiserOptions& options) { return options.sigma == 0; }

// h [N,W], with the embedding of σ beside it where there are many: [N, W + embedding_size]. Steps pass one tensor on.
Tensor beside(const Tensor& h, const Tensor& embedding) { return embedding.defined() ? at::cat({h, embedding}, 1) : h; }

Network code_network(const DenoiserOptions& options, uint64_t seed) {
  const int64_t size = options.code, width = options.hidden;
  const bool told = many(options);
  NetworkBuilder builder(seed);
  Draws draw{seed};

  builder.step("in", "dense", {{"in.weight", draw({width, size}, 1)}, {"in.bias", at::zeros({width})}},
               [=](const Tensor& x, const Tensors& weights) {
                 const Tensor h = at::linear(x.narrow(1, 0, size), weights.at("in.weight"), weights.at("in.bias"));
                 return beside(h, told ? embed(x.narrow(1, size, 1)) : Tensor());
               });

  // h + dense2(silu(dense1(silu(norm(h))) + sigma(embedding))).
  for (int64_t i = 1; i <= options.blocks; ++i) {
    const std::string name = "block" + std::to_string(i);
    Tensors weights{{name + ".norm.weight", at::ones({width})},           {name + ".norm.bias", at::zeros({width})},
                    {name + ".dense1.weight", draw({width, width}, 1.4)}, {name + ".dense1.bias", at::zeros({width})},
                    {name + ".dense2.weight", draw({width, width}, 0.5)}, {name + ".dense2.bias", at::zeros({width})}};
    if (told) weights[name + ".sigma.weight"] = draw({width, embedding_size}, 1);
    builder.step(name, "residual", weights, [=](const Tensor& x, const Tensors& all) {
      const Part part{all, name};
      const Tensor h = x.narrow(1, 0, width);
      const Tensor embedding = told ? x.narrow(1, width, embedding_size) : Tensor();
      Tensor y = at::silu(at::layer_norm(h, {width}, part(".norm.weight"), part(".norm.bias")));
      y = at::linear(y, part(".dense1.weight"), part(".dense1.bias"));
      if (told) y = y + at::linear(embedding, part(".sigma.weight"));
      return beside(h + at::linear(at::silu(y), part(".dense2.weight"), part(".dense2.bias")), embedding);
    });
  }

  return builder
      .step("out", "dense",
            {{"out.norm.weight", at::ones({width})},
             {"out.norm.bias", at::zeros({width})},
             {"out.weight", at::zeros({size, width})},
             {"out.bias", at::zeros({size})}},
            [=](const Tensor& x, const Tensors& weights) {
              const Tensor h = at::layer_norm(x.narrow(1, 0, width), {width}, weights.at("out.norm.weight"), weights.at("out.norm.bias"));
              return at::linear(at::silu(h), weights.at("out.weight"), weights.at("out.bias"));
            })
      .build();
}

// Three sizes, w → 2w → 4w channels, blocks at the smallest, and back up with what was seen on the way down.
Network spatial_network(const DenoiserOptions& options, uint64_t seed) {
  const int64_t channels = row_shape(options)[0], w = options.base_channels, groups = w % 8 == 0 ? w / 8 : 1;
  const bool told = many(options);
  NetworkBuilder builder(seed);
  Draws draw{seed};

  Tensors weights;
  const auto add = [&](const std::string& name, int64_t in, int64_t out) {
    weights[name + ".weight"] = draw({out, in, 3, 3}, 1.4);
    weights[name + ".norm.weight"] = at::ones({out});
    weights[name + ".norm.bias"] = at::zeros({out});
    if (told) weights[name + ".sigma.weight"] = draw({out, embedding_size}, 1);
  };
  add("full", channels, w);
  add("down1", w, 2 * w);
  add("down2", 2 * w, 4 * w);
  for (int64_t i = 1; i <= options.blocks; ++i) add("block" + std::to_string(i), 4 * w, 4 * w);
  add("up1", 6 * w, 2 * w);
  add("up2", 3 * w, w);

  builder.step("unet", "unet", weights, [=, blocks = options.blocks](const Tensor& x, const Tensors& all) {
    const Tensor embedding = told ? embed(x.select(1, channels).select(1, 0).narrow(1, 0, 1)) : Tensor();
    // silu(norm(convolution(x)) + sigma(embedding))
    const auto layer = [&](const std::string& name, const Tensor& in, int64_t stride) {
      const Part part{all, name};
      Tensor y = at::conv2d(in, part(".weight"), {}, {stride, stride}, {1, 1});
      y = at::group_norm(y, groups, part(".norm.weight"), part(".norm.bias"));
      if (told) y = y + at::linear(embedding, part(".sigma.weight")).unsqueeze(2).unsqueeze(3);
      return at::silu(y);
    };
    const auto as_large_as = [](const Tensor& in, const Tensor& other) {
      return at::upsample_nearest2d(in, {other.size(2), other.size(3)});
    };

    const Tensor full = layer("full", x.narrow(1, 0, channels).contiguous(at::MemoryFormat::ChannelsLast), 1);
    const Tensor half = layer("down1", full, 2);
    Tensor y = layer("down2", half, 2);
    for (int64_t i = 1; i <= blocks; ++i) y = y + layer("block" + std::to_string(i), y, 1);
    y = layer("up1", at::cat({as_large_as(y, half), half}, 1), 1);
    return layer("up2", at::cat({as_large_as(y, full), full}, 1), 1);
  });
  return builder
      .step("out", "convolution", {{"out.weight", at::zeros({channels, w, 3, 3})}, {"out.bias", at::zeros({channels})}},
            [](const Tensor& x, const Tensors& all) {
              return at::conv2d(x, all.at("out.weight"), all.at("out.bias"), {1, 1}, {1, 1});
            })
      .build();
}

// D(u; σ) in whitened units.
Tensor denoise_whitened(const Denoiser& denoiser, const Tensor& u, const Tensor& sigma) {
  const Tensor scale = broadcast_rows(sigma, u.dim());
  const Tensor spread = at::sqrt(1 + scale.square());
  Tensor input = u / spread;
  if (many(denoiser.options)) {
    std::vector<int64_t> one_more = u.sizes().vec();
    one_more[1] = 1;
    input = at::cat({input, (0.25 * at::log(scale)).expand(one_more)}, 1);
  }
  return u / spread.square() + (scale / spread) * denoiser.network(input);
}

Denoiser with_network(const Denoiser& denoiser, Network network, at::Device device) {
  return {denoiser.options, std::move(network), denoiser.mean.to(device), denoiser.deviation.to(device)};
}

}  // namespace

std::vector<int64_t> row_shape(const DenoiserOptions& options) {
  if (options.space == "image") return {options.channels, options.height, options.width};
  if (options.code_height == 0 && options.code_width == 0) return {options.code};
  return {options.code, options.code_height, options.code_width};
}

Network denoiser_network(const DenoiserOptions& options, uint64_t seed) {
  require(options.space == "code" || options.space == "image", Failure::input, "denoiser: found space '", options.space,
          "', expected code or image");
  require(!many(options) || options.sigma_low < options.sigma_high, Failure::usage, "denoiser: found sigma_low ", options.sigma_low,
          " and sigma_high ", options.sigma_high, ", expected sigma_low < sigma_high");
  const std::vector<int64_t> shape = row_shape(options);
  require(std::all_of(shape.begin(), shape.end(), [](int64_t size) { return size > 0; }), Failure::input, "denoiser: found data of shape ",
          shape_text(shape), ", expected no size to be 0; give code_height and code_width, or neither");
  return shape.size() == 1 ? code_network(options, seed) : spatial_network(options, seed);
}

Denoiser make_denoiser(const DenoiserOptions& options, const Tensor& data, uint64_t seed) {
  Denoiser out{options, denoiser_network(options, seed), {}, {}};
  std::vector<int64_t> shape = row_shape(options);
  shape.insert(shape.begin(), -1);
  require_shape(data, shape, "denoiser: data");
  require(data.size(0) >= 2, Failure::input, "denoiser: found ", data.size(0), " rows of data, expected at least 2");

  const Tensor exact = data.detach().to(at::kCPU, at::kDouble);
  const bool keep = data.dim() == 4;
  const std::vector<int64_t> over = keep ? std::vector<int64_t>{0, 2, 3} : std::vector<int64_t>{0};
  const Tensor mean = exact.mean(over, keep), deviation = exact.std(over, /*unbiased=*/true, keep);
  const double largest = deviation.max().item<double>();
  require(largest > 0 && std::isfinite(largest), Failure::input,
          "denoiser: found data that never vary or are not finite, expected data that do");
  out.mean = (keep ? mean.squeeze(0) : mean).to(at::kFloat);
  out.deviation = (keep ? deviation.squeeze(0) : deviation).clamp_min(1e-4 * largest).to(at::kFloat);
  return out;
}

Denoiser frozen(const Denoiser& denoiser, at::Device device) { return with_network(denoiser, denoiser.network.frozen(device), device); }
Denoiser trainable(const Denoiser& denoiser, at::Device device) {
  return with_network(denoiser, denoiser.network.trainable(device), device);
}

Tensor denoise(const Denoiser& denoiser, const Tensor& z, const Tensor& sigma) {
  const Tensor u = (z - denoiser.mean) / denoiser.deviation;
  return denoiser.mean + denoiser.deviation * denoise_whitened(denoiser, u, sigma);
}

Tensor denoising_loss(const Denoiser& denoiser, const Tensor& clean, const Tensor& noise, const Tensor& sigma) {
  const Tensor u = (clean - denoiser.mean) / denoiser.deviation;
  const Tensor guess = denoise_whitened(denoiser, u + broadcast_rows(sigma, u.dim()) * noise, sigma);
  const Tensor weight = (1 + sigma.square()) / sigma.square();
  return weight * (guess - u).square().flatten(1).mean(1);
}

Tensor probability_flow(const std::function<Tensor(const Tensor& z, const Tensor& sigma)>& reconstruct, const std::vector<int64_t>& shape,
                        double sigma_low, double sigma_high, Stream& stream, const DrawOptions& options) {
  const c10::NoGradGuard no_gradient;
  require(options.draw_steps >= 2 && sigma_low > 0 && sigma_low < sigma_high, Failure::usage, "denoiser: found ", options.draw_steps,
          " draw steps from sigma ", sigma_high, " to ", sigma_low, ", expected at least 2, downwards and above 0");
  const double last = static_cast<double>(options.draw_steps - 1);
  const auto scale = [&](int64_t i) {
    if (i == options.draw_steps) return 0.0;
    const double high = std::pow(sigma_high, 1 / options.rho), low = std::pow(sigma_low, 1 / options.rho);
    return std::pow(high + static_cast<double>(i) / last * (low - high), options.rho);
  };
  const auto slope = [&](const Tensor& z, double sigma) { return (z - reconstruct(z, at::full({z.size(0)}, sigma, z.options()))) / sigma; };

  Tensor z = stream.normal(shape) * sigma_high;
  const double churn = std::min(options.churn / static_cast<double>(options.draw_steps), std::numbers::sqrt2 - 1);
  for (int64_t i = 0; i < options.draw_steps; ++i) {
    // A little noise back, then one Euler step down, corrected by the slope found there.
    const double sigma = scale(i) * (1 + churn), next = scale(i + 1);
    if (churn > 0) z = z + std::sqrt(sigma * sigma - scale(i) * scale(i)) * stream.normal(shape);
    const Tensor here = slope(z, sigma);
    const Tensor guess = z + (next - sigma) * here;
    z = next > 0 ? z + (next - sigma) * 0.5 * (here + slope(guess, next)) : guess;
  }
  return z;
}

Prior denoiser_prior(const Denoiser& given, double sigma, at::Device device, const DrawOptions& options,
                     const std::vector<int64_t>& latent) {
  const Denoiser denoiser = frozen(given, device);
  const DenoiserOptions& trained = denoiser.options;
  const std::vector<int64_t> own = row_shape(trained), shape = latent.empty() ? own : latent;
  require(shape == own || (own.size() == 3 && shape.size() == 3 && shape[0] == own[0]), Failure::input,
          "denoiser prior: found a denoiser of ", shape_text(own), " for codes ", shape_text(shape),
          ", expected one trained on such codes");
  if (many(trained)) {
    if (sigma == 0) sigma = 0.15;
    require(sigma >= trained.sigma_low && sigma <= trained.sigma_high, Failure::usage, "denoiser prior: found sigma ", sigma,
            ", expected one it was trained at, between ", trained.sigma_low, " and ", trained.sigma_high);
  } else {
    require(sigma == 0 || std::abs(sigma - trained.sigma) <= 1e-6 * trained.sigma, Failure::usage, "denoiser prior: found sigma ", sigma,
            ", expected ", trained.sigma, ", the one it was trained at, or 0 to take that one");
    sigma = trained.sigma;
  }

  Prior out;
  out.name = "denoiser";
  out.reconstruct = [denoiser, sigma](const Tensor& z) {
    const c10::NoGradGuard no_gradient;
    return denoise(denoiser, z, at::full({z.size(0)}, sigma, z.options()));
  };
  // The slope is known in whitened units, ∂log p/∂u = (D - u)/σ²; ∂u/∂z = 1/deviation.
  out.score = [denoiser, sigma](const Tensor& z) {
    const c10::NoGradGuard no_gradient;
    const Tensor u = (z - denoiser.mean) / denoiser.deviation;
    const Tensor guess = denoise_whitened(denoiser, u, at::full({z.size(0)}, sigma, z.options()));
    return (guess - u) / (sigma * sigma * denoiser.deviation);
  };
  if (many(trained)) {
    out.draw = [denoiser, options, shape](Stream& stream) {
      const auto reconstruct = [&](const Tensor& u, const Tensor& scale) { return denoise_whitened(denoiser, u, scale); };
      const Tensor u = probability_flow(reconstruct, shape, denoiser.options.sigma_low, denoiser.options.sigma_high, stream, options);
      return denoiser.mean + denoiser.deviation * u;
    };
  }
  return out;
}

}  // namespace evoke
