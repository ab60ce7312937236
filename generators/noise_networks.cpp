#include "generators/noise_networks.h"

#include <ATen/ATen.h>

#include <cmath>
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

// h [N,W], with the embedding of σ beside it where there are many: [N, W + embedding_size]. Steps pass one tensor on.
Tensor beside(const Tensor& h, const Tensor& embedding) { return embedding.defined() ? at::cat({h, embedding}, 1) : h; }

}  // namespace

Tensor below_noise(const Tensor& u, const Tensor& sigma) {
  const Tensor scale = broadcast_rows(sigma, u.dim());
  std::vector<int64_t> one_more = u.sizes().vec();
  one_more[1] = 1;
  return at::cat({u / at::sqrt(1 + scale.square()), (0.25 * at::log(scale)).expand(one_more)}, 1);
}

Network noise_perceptron(int64_t size, int64_t outputs, int64_t width, int64_t blocks, bool told, uint64_t seed) {
  NetworkBuilder builder(seed);
  Draws draw{seed};

  builder.step("in", "dense", {{"in.weight", draw({width, size}, 1)}, {"in.bias", at::zeros({width})}},
               [=](const Tensor& x, const Tensors& weights) {
                 const Tensor h = at::linear(x.narrow(1, 0, size), weights.at("in.weight"), weights.at("in.bias"));
                 return beside(h, told ? embed(x.narrow(1, size, 1)) : Tensor());
               });

  // h + dense2(silu(dense1(silu(norm(h))) + sigma(embedding))).
  for (int64_t i = 1; i <= blocks; ++i) {
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
             {"out.weight", at::zeros({outputs, width})},
             {"out.bias", at::zeros({outputs})}},
            [=](const Tensor& x, const Tensors& weights) {
              const Tensor h = at::layer_norm(x.narrow(1, 0, width), {width}, weights.at("out.norm.weight"), weights.at("out.norm.bias"));
              return at::linear(at::silu(h), weights.at("out.weight"), weights.at("out.bias"));
            })
      .build();
}

namespace {

constexpr int64_t told_size = 128;  // of what convolutions are told of σ

int64_t groups_of(int64_t channels) { return channels % 8 == 0 ? 8 : 1; }

// The weights of the convolutions, as they begin.
struct ConvolutionWeights {
  const NoiseConvolutions& of;
  Draws draw;
  Tensors weights{};

  int64_t width(int64_t size) const { return of.width << size; }
  void add(const std::string& name, std::vector<int64_t> shape, double gain) {
    weights[name + ".bias"] = at::zeros({shape[0]});
    weights[name + ".weight"] = draw(shape, gain);
  }
  void add_blocks(const std::string& way, int64_t size) {
    const int64_t c = width(size);
    for (int64_t i = 1; i <= of.blocks; ++i) {
      const std::string name = text(way, size, ".block", i);
      for (const char* norm : {".norm1", ".norm2"}) {
        weights[name + norm + ".weight"] = at::ones({c});
        weights[name + norm + ".bias"] = at::zeros({c});
      }
      add(name + ".conv1", {c, c, 3, 3}, 1.4);
      add(name + ".conv2", {c, c, 3, 3}, 0.1);
      if (of.told) add(name + ".sigma", {2 * c, told_size}, 0.5);
    }
  }
  void add_way_down() {
    if (of.told) {
      add("sigma1", {told_size, embedding_size}, 1.4);
      add("sigma2", {told_size, told_size}, 1.4);
    }
    add("in", {of.width, of.channels, 3, 3}, 1);
    for (int64_t size = 0; size < of.sizes; ++size) {
      if (size > 0) add(text("down", size), {width(size), width(size - 1), 2, 2}, 1);
      add_blocks("down", size);
    }
  }
};

// The convolutions at work on one batch.
struct Convolving {
  const NoiseConvolutions& of;
  const Tensors& weights;
  Tensor embedding{};  // of σ

  Tensor convolve(const Tensor& x, const std::string& name, int64_t stride, int64_t padding) const {
    return at::conv2d(x, weights.at(name + ".weight"), weights.at(name + ".bias"), {stride, stride}, {padding, padding});
  }
  // x + conv2(silu(norm2(conv1(silu(norm1(x))))·(1 + scale(σ)) + shift(σ)))
  Tensor blocks(Tensor x, const std::string& way) const {
    for (int64_t i = 1; i <= of.blocks; ++i) {
      const std::string name = text(way, ".block", i);
      const Part part{weights, name};
      const int64_t c = x.size(1);
      Tensor y = at::group_norm(x, groups_of(c), part(".norm1.weight"), part(".norm1.bias"));
      y = convolve(at::silu(y), name + ".conv1", 1, 1);
      y = at::group_norm(y, groups_of(c), part(".norm2.weight"), part(".norm2.bias"));
      if (of.told) {
        const Tensor both = at::linear(embedding, part(".sigma.weight"), part(".sigma.bias")).unsqueeze(2).unsqueeze(3);
        y = y * (1 + both.narrow(1, 0, c)) + both.narrow(1, c, c);
      }
      x = x + convolve(at::silu(y), name + ".conv2", 1, 1);
    }
    return x;
  }
  // What is seen at each size, the full one first.
  std::vector<Tensor> way_down(const Tensor& x) {
    if (of.told) {
      const auto dense = [&](const Tensor& in, const char* name) {
        return at::silu(at::linear(in, weights.at(std::string(name) + ".weight"), weights.at(std::string(name) + ".bias")));
      };
      embedding = dense(dense(embed(x.select(1, of.channels).select(1, 0).narrow(1, 0, 1)), "sigma1"), "sigma2");
    }
    Tensor y = convolve(x.narrow(1, 0, of.channels).contiguous(at::MemoryFormat::ChannelsLast), "in", 1, 1);
    std::vector<Tensor> seen;
    for (int64_t size = 0; size < of.sizes; ++size) {
      if (size > 0) {
        // Where a side is odd, its last row or column is repeated.
        if (y.size(2) % 2 != 0 || y.size(3) % 2 != 0) y = at::replication_pad2d(y, {0, y.size(3) % 2, 0, y.size(2) % 2});
        y = convolve(y, text("down", size), 2, 0);
      }
      y = blocks(y, text("down", size));
      seen.push_back(y);
    }
    return seen;
  }
};

}  // namespace

Network noise_unet(const NoiseConvolutions& of, uint64_t seed) {
  ConvolutionWeights begun{of, Draws{seed}};
  begun.add_way_down();
  for (int64_t size = 0; size < of.sizes; ++size) {
    begun.add_blocks("up", size);
    if (size > 0) begun.add(text("up", size), {begun.width(size - 1), begun.width(size), 1, 1}, 1);
  }
  NetworkBuilder builder(seed);
  builder.step("unet", "unet", begun.weights, [of](const Tensor& x, const Tensors& all) {
    Convolving here{of, all};
    const std::vector<Tensor> seen = here.way_down(x);
    Tensor y = seen.back();
    for (int64_t size = of.sizes; size-- > 0;) {
      y = here.blocks(y, text("up", size));
      if (size == 0) break;
      const Tensor& above = seen[static_cast<size_t>(size - 1)];
      const Tensor grown = at::upsample_nearest2d(here.convolve(y, text("up", size), 1, 0), {2 * y.size(2), 2 * y.size(3)});
      y = above + grown.narrow(2, 0, above.size(2)).narrow(3, 0, above.size(3));
    }
    return y;
  });
  const int64_t w = of.width;
  return builder
      .step("out", "convolution",
            {{"out.norm.weight", at::ones({w})},
             {"out.norm.bias", at::zeros({w})},
             {"out.weight", at::zeros({of.channels, w, 3, 3})},
             {"out.bias", at::zeros({of.channels})}},
            [w](const Tensor& x, const Tensors& all) {
              const Tensor y = at::group_norm(x, groups_of(w), all.at("out.norm.weight"), all.at("out.norm.bias"));
              return at::conv2d(at::silu(y), all.at("out.weight"), all.at("out.bias"), {1, 1}, {1, 1});
            })
      .build();
}

Network noise_funnel(const NoiseConvolutions& of, int64_t outputs, uint64_t seed) {
  ConvolutionWeights begun{of, Draws{seed}};
  begun.add_way_down();
  const int64_t last = begun.width(of.sizes - 1);
  NetworkBuilder builder(seed);
  builder.step("funnel", "funnel", begun.weights, [of](const Tensor& x, const Tensors& all) {
    return Convolving{of, all}.way_down(x).back();
  });
  return builder
      .step("out", "dense",
            {{"out.norm.weight", at::ones({last})},
             {"out.norm.bias", at::zeros({last})},
             {"out.weight", at::zeros({outputs, last})},
             {"out.bias", at::zeros({outputs})}},
            [last](const Tensor& x, const Tensors& all) {
              const Tensor y = at::group_norm(x, groups_of(last), all.at("out.norm.weight"), all.at("out.norm.bias"));
              return at::linear(at::silu(y).mean({2, 3}), all.at("out.weight"), all.at("out.bias"));
            })
      .build();
}

}  // namespace evoke
