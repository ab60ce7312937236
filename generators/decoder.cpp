#include "generators/decoder.h"

#include <ATen/ATen.h>

#include <cmath>

#include "core/error.h"
#include "core/numbers/linear_algebra.h"
#include "generators/priors.h"

namespace evoke {

namespace {

struct Grid {
  int64_t height, width;
};

// The size at which convolutions begin and end: an eighth of the image's.
Grid grid_of(const DecoderOptions& options, std::string_view where) {
  require(options.height % 8 == 0 && options.width % 8 == 0 && options.height > 0 && options.width > 0, Failure::input, where,
          ": found images of ", options.height, " x ", options.width,
          " px, expected a height and a width divisible by 8; fit the dataset to such a size");
  return {options.height / 8, options.width / 8};
}

void require_spatial(const DecoderOptions& options, std::string_view where) {
  require(options.spatial, Failure::input, where, ": found blocks = ", options.blocks,
          " with spatial = false, expected spatial = true: residual blocks belong to a spatial code");
  require(options.hidden == 0, Failure::input, where, ": found hidden = ", options.hidden,
          " with spatial = true, expected hidden = 0: a spatial code passes through convolutions alone");
}

// x + convolution2(silu(convolution1(silu(x)))), 3×3.
void add_residual(NetworkBuilder& builder, const std::string& name, int64_t channels) {
  const double deviation = std::sqrt(2.0 / static_cast<double>(9 * channels));
  const Tensor first = builder.initial({channels, channels, 3, 3}, deviation),
               second = builder.initial({channels, channels, 3, 3}, 0.5 * deviation);
  builder.step(
      name, "residual",
      {{name + ".conv1.weight", first},
       {name + ".conv1.bias", at::zeros({channels})},
       {name + ".conv2.weight", second},
       {name + ".conv2.bias", at::zeros({channels})}},
      [name](const Tensor& x, const Tensors& weights) {
        const auto convolved = [&](const Tensor& in, const std::string& layer) {
          return at::conv2d(at::silu(in), weights.at(name + layer + ".weight"), weights.at(name + layer + ".bias"), {1, 1}, {1, 1});
        };
        return x + convolved(convolved(x, ".conv1"), ".conv2");
      });
}
void add_residuals(NetworkBuilder& builder, const std::string& name, int64_t channels, int64_t count) {
  for (int64_t i = 1; i <= count; ++i) add_residual(builder, name + std::to_string(i), channels);
}

// [N,4C,H,W] → [N,C,2H,2W].
void add_shuffle(NetworkBuilder& builder, const std::string& name) {
  builder.step(name, "pixel shuffle", {},
               [](const Tensor& x, const Tensors&) { return at::pixel_shuffle(x, 2).contiguous(at::MemoryFormat::ChannelsLast); });
}

// Image to [N,2v,H/8,W/8]; says how many numbers that is.
int64_t add_trunk(NetworkBuilder& builder, const DecoderOptions& options, bool leaky, std::string_view where) {
  const Grid grid = grid_of(options, where);
  const int64_t v = options.encoder_filters;
  const int64_t channels[] = {options.channels, v, 2 * v, 2 * v, 2 * v};
  for (int i = 1; i <= 4; ++i) {
    builder.convolution("conv" + std::to_string(i), channels[i - 1], channels[i], 3, i < 4 ? 2 : 1);
    const std::string relu = "relu" + std::to_string(i);
    leaky ? builder.leaky_relu(relu) : builder.relu(relu);
  }
  return 2 * v * grid.height * grid.width;
}

}  // namespace

std::vector<int64_t> code_shape(const DecoderOptions& options) {
  if (!options.spatial) return {options.code};
  const Grid grid = grid_of(options, "decoder");
  return {options.code, grid.height, grid.width};
}

Network decoder_network(const DecoderOptions& options, uint64_t seed) {
  const Grid grid = grid_of(options, "decoder");
  const int64_t w = options.filters;
  NetworkBuilder builder(seed);
  int64_t in = options.code;
  if (options.blocks > 0) {
    require_spatial(options, "decoder");
    const int64_t above = std::max<int64_t>(1, options.blocks - 1);
    builder.convolution("mix", in, in, 1).convolution("code", in, 3 * w, 3);
    add_residuals(builder, "eighth", 3 * w, options.blocks);
    builder.convolution("up1", 3 * w, 8 * w, 1);
    add_shuffle(builder, "shuffle1");
    add_residuals(builder, "quarter", 2 * w, above);
    builder.convolution("up2", 2 * w, 4 * w, 1);
    add_shuffle(builder, "shuffle2");
    add_residuals(builder, "half", w, above);
    builder.convolution("up3", w, 4 * options.channels, 3);
    add_shuffle(builder, "shuffle3");
    Network network = builder.build();
    network.weights["up3.weight"].mul_(0.2);
    network.weights["up3.bias"].fill_(0.5);  // grey, to begin with
    return network;
  }
  if (options.spatial) {
    require_spatial(options, "decoder");
    builder.convolution("code", in, 2 * w, 3);
  } else if (options.hidden > 0) {
    builder.dense("hidden1", in, options.hidden)
        .silu("hidden_silu1")
        .dense("hidden2", options.hidden, 2 * options.hidden)
        .silu("hidden_silu2");
    in = 2 * options.hidden;
  }
  if (!options.spatial) builder.dense("dense", in, 2 * w * grid.height * grid.width).unflatten("grid", 2 * w, grid.height, grid.width);
  builder.relu("relu0");

  const int64_t last = std::max<int64_t>(w / 2, 1), channels[] = {2 * w, 2 * w, w, last};
  for (int i = 1; i <= 3; ++i) {
    const std::string number = std::to_string(i);
    builder.upsample("upsample" + number).convolution("conv" + number, channels[i - 1], channels[i], 3).relu("relu" + number);
  }
  Network network = builder.convolution("conv4", last, options.channels, 3).sigmoid("sigmoid").build();
  // Starts dark and nearly uniform: from grey, training falls into an all-black image on data that are mostly black, and stays there.
  network.weights["conv4.weight"].mul_(0.2);
  network.weights["conv4.bias"].fill_(-3.0);
  return network;
}

Network encoder_network(const DecoderOptions& options, int64_t outputs, uint64_t seed) {
  NetworkBuilder builder(seed);
  if (options.blocks > 0) {
    grid_of(options, "encoder");
    require_spatial(options, "encoder");
    const int64_t v = options.encoder_filters, above = std::max<int64_t>(1, options.blocks - 1);
    builder.convolution("down1", options.channels, v, 4, 2, 1);
    add_residuals(builder, "half", v, above);
    builder.convolution("down2", v, 2 * v, 4, 2, 1);
    add_residuals(builder, "quarter", 2 * v, above);
    builder.convolution("down3", 2 * v, 3 * v, 4, 2, 1);
    add_residuals(builder, "eighth", 3 * v, options.blocks);
    Network network = builder.convolution("code", 3 * v, outputs, 3).build();
    network.weights["code.weight"].mul_(std::sqrt(0.5));
    return network;
  }
  int64_t in = add_trunk(builder, options, false, "encoder");
  if (options.spatial) {
    require_spatial(options, "encoder");
    Network network = builder.convolution("code", 2 * options.encoder_filters, outputs, 1).build();
    network.weights["code.weight"].mul_(std::sqrt(0.5));  // as of the dense layer below
    return network;
  }
  builder.flatten("flatten");
  const int64_t hidden = options.hidden > 0 ? options.hidden : 256;
  builder.dense("hidden1", in, hidden).silu("hidden_silu1");
  if (options.hidden > 0) builder.dense("hidden2", hidden, hidden).silu("hidden_silu2");
  in = hidden;
  // Half of He's deviation squared: nothing rectifies what the last layer gives.
  return builder.dense("dense", in, outputs, std::sqrt(0.5)).build();
}

Network discriminator_network(const DecoderOptions& options, uint64_t seed) {
  NetworkBuilder builder(seed);
  const int64_t in = add_trunk(builder, options, true, "discriminator");
  return builder.flatten("flatten").dense("dense", in, 1, std::sqrt(0.5)).build();
}

Network patch_discriminator_network(const DecoderOptions& options, uint64_t seed) {
  const int64_t v = options.encoder_filters;
  NetworkBuilder builder(seed);
  builder.convolution("conv1", options.channels, v, 4, 2, 1).leaky_relu("relu1");
  builder.convolution("conv2", v, 2 * v, 4, 2, 1).leaky_relu("relu2");
  builder.convolution("conv3", 2 * v, 2 * v, 3).leaky_relu("relu3");
  Network network = builder.convolution("conv4", 2 * v, 1, 3).build();
  network.weights["conv4.weight"].mul_(0.1);  // undecided, to begin with
  return network;
}

void whiten(Decoder& decoder) {
  const int64_t code = decoder.options.code;
  const CodeStatistics& codes = decoder.codes;
  require(decoder.options.blocks > 0 && codes.covariance.sizes() == at::IntArrayRef({code, code}) && codes.mean.numel() == code,
          Failure::runtime, "whiten: found networks without blocks, or codes whose statistics are not by channel; expected both");
  const Tensor covariance = codes.covariance.to(at::kDouble);
  std::optional<Whitening> factors = whitening(covariance);
  if (!factors) factors = whitening(covariance + at::eye(code, covariance.options()) * (1e-6 * covariance.diagonal().mean()));
  require(factors.has_value(), Failure::runtime, "whiten: the codes' covariance is not positive definite; they hardly vary");
  const Tensor &white = factors->inverse, &back = factors->factor;
  const Tensor mean = codes.mean.to(at::kDouble).reshape({code});

  // Encoder: W·(E - m); decoder: mix(W⁻¹·u + m).
  Tensors& encoder = decoder.encoder.weights;
  const auto changed = [](Tensor& into, const Tensor& value) { into = value.to(at::kFloat).contiguous(into.suggest_memory_format()); };
  const Tensor weight = encoder.at("code.weight").to(at::kDouble);
  changed(encoder["code.weight"], white.matmul(weight.flatten(1)).reshape(weight.sizes()));
  changed(encoder["code.bias"], white.mv(encoder.at("code.bias").to(at::kDouble) - mean));
  Tensors& generator = decoder.decoder.weights;
  const Tensor mix = generator.at("mix.weight").to(at::kDouble).flatten(1);
  changed(generator["mix.bias"], generator.at("mix.bias").to(at::kDouble) + mix.mv(mean));
  changed(generator["mix.weight"], mix.matmul(back).reshape({code, code, 1, 1}));

  // What is known of the codes: exact but for their range, which a mixture does not keep.
  decoder.codes.mean = at::zeros_like(codes.mean);
  decoder.codes.covariance = white.matmul(covariance).matmul(white.t()).to(at::kFloat);
  const Tensor middle = (0.5 * (codes.low + codes.high)).to(at::kDouble).reshape({code}) - mean,
               half = (0.5 * (codes.high - codes.low)).to(at::kDouble).reshape({code});
  const Tensor centre = white.mv(middle), reach = white.abs().mv(half);
  decoder.codes.low = (centre - reach).to(at::kFloat).reshape(codes.low.sizes());
  decoder.codes.high = (centre + reach).to(at::kFloat).reshape(codes.high.sizes());
}

Decoder resized(Decoder decoder, int64_t height, int64_t width) {
  DecoderOptions& options = decoder.options;
  require(options.spatial || (height == options.height && width == options.width), Failure::input, "decoder: found images of ", height,
          " x ", width, " px asked for, expected ", options.height, " x ", options.width,
          ", for which it was trained: its codes are no small images (spatial = false)");
  options.height = height;
  options.width = width;
  grid_of(options, "decoder");
  return decoder;
}

Generator as_generator(const Decoder& decoder, at::Device device, const std::string& start) {
  const DecoderOptions& options = decoder.options;
  Generator out;
  out.name = decoder.kind;
  out.latent = code_shape(options);
  out.image = {options.channels, options.height, options.width, {}, {}};

  std::vector<int64_t> rows = out.latent;
  rows.insert(rows.begin(), -1);
  out.decode = [network = decoder.decoder.frozen(device), rows, unbounded = options.blocks > 0](const Tensor& z) {
    require_shape(z, rows, "decoder: codes");
    return unbounded ? network(z.contiguous(at::MemoryFormat::ChannelsLast)).clamp(0, 1) : network(z);
  };
  require(start == "codes" || start == "normal", Failure::usage, "decoder: found start '", start, "', expected codes or normal");
  out.start = start == "codes" ? gaussian(decoder.codes, out.latent, device).draw : standard_normal(out.latent).draw;
  return out;
}

std::optional<Encoder> as_encoder(const Decoder& decoder, at::Device device) {
  if (decoder.encoder.steps.empty()) return std::nullopt;
  const DecoderOptions& options = decoder.options;
  Encoder out{decoder.kind, {options.channels, options.height, options.width, {}, {}}, code_shape(options), {}};
  out.encode = [network = decoder.encoder.frozen(device), options](const Tensor& x) {
    require_shape(x, {-1, options.channels, options.height, options.width}, "encoder: images");
    return network(x.contiguous(at::MemoryFormat::ChannelsLast)).narrow(1, 0, options.code);
  };
  return out;
}

}  // namespace evoke
