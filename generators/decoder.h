// Decoders: codes to images, the networks that make them, and what is known of the codes.
#pragma once
#include "core/networks/network.h"
#include "core/recipes/recipe.h"

namespace evoke {

struct DecoderOptions {
  int64_t code = 32;
  int64_t filters = 32;
  int64_t encoder_filters = 32;
  int64_t hidden = 0;
  int64_t channels = 3;
  int64_t height = 48, width = 48;
};

inline void describe(Fields& f, DecoderOptions& o) {
  f("code", o.code, "numbers", "size of a code, D", {1, 65536});
  f("filters", o.filters, "channels", "channels of the decoder at half size; twice as many at an eighth, half as many at full size",
    {1, 4096});
  f("encoder_filters", o.encoder_filters, "channels", "channels of the encoder (or discriminator) at half size; twice as many below",
    {1, 4096});
  f("hidden", o.hidden, "units",
    "of two dense layers (the decoder's second has twice as many) between code and convolutions; 0: none, and 256 in the encoder",
    {0, 65536});
  f("channels", o.channels, "channels", "colours of an image; a training takes the dataset's, as it does height and width", {1, 1024});
  f("height", o.height, "px", "height of an image, divisible by 8", {8, 65536});
  f("width", o.width, "px", "width of an image, divisible by 8", {8, 65536});
}

/// Code to image: z [N,D] → dense → [N,2w,H/8,W/8] → relu → three times [upsample ×2, convolution 3×3, relu] → convolution → sigmoid →
/// [N,C,H,W] in [0,1]; channels 2w → 2w → w → w/2 → C, where w = filters. 28 M multiply-adds an image at w = 32 and 48×48.
/// Steps: (hidden1, hidden_silu1, hidden2, hidden_silu2,) dense, grid, relu0, upsample1, conv1, relu1 … relu3, conv4, sigmoid.
/// Throws Failure::input when the image's height or width is not divisible by 8.
Network decoder_network(const DecoderOptions& options, uint64_t seed);

/// Image to code: x [N,C,H,W] → three strided convolutions and a plain one, channels v → 2v → 2v → 2v (v = encoder_filters) → dense →
/// [N,outputs]. outputs: D of an autoencoder, 2·D of a VAE: mean, then log variance.
/// Steps: conv1, relu1 … relu4, flatten, hidden1, hidden_silu1, (hidden2, hidden_silu2,) dense. Throws as decoder_network.
Network encoder_network(const DecoderOptions& options, int64_t outputs, uint64_t seed);

/// Image to one number a row [N,1], larger is more real: as the encoder, with leaky relus of slope 0.2. Throws as decoder_network.
Network discriminator_network(const DecoderOptions& options, uint64_t seed);

/// What is known of the codes of the training images; float32.
struct CodeStatistics {
  Tensor mean;        // [D]
  Tensor covariance;  // [D,D], divided by N - 1
  Tensor low, high;   // [D], the range
};

/// Of codes [N,D], N ≥ 2; sums are taken in float64, on the device of the codes.
CodeStatistics code_statistics(const Tensor& codes);

/// A trained decoder with what was trained beside it.
struct Decoder {
  std::string kind;  // "autoencoder", "vae" or "gan"
  DecoderOptions options;
  Network decoder;
  Network encoder;       // no steps where there is none (GAN)
  CodeStatistics codes;  // of the training images' codes; of N(0,1) draws for a GAN
};

/// Writes atomically, as weights of this kind (core/safetensors.h): "decoder.…", "encoder.…", "codes.mean" ….
/// half: networks as float16, half the file; the code statistics stay float32.
void save_decoder(const std::string& file, const Decoder&, bool half = false);
/// On the CPU, float32. Throws Failure::input when the file is no decoder, or its weights do not fit its options.
Decoder load_decoder(const std::string& file);

/// z to image through a decoder: decode [N,D] → [N,C,H,W], channels_last; encode, where there is an encoder, gives the code (of a VAE:
/// the mean). start: "codes": N(mean, covariance) of the training images' codes; "normal": N(0, 1).
/// Weights are frozen on `device`. The name is the decoder's kind.
Generator as_generator(const Decoder&, at::Device device, const std::string& start = "codes");

}  // namespace evoke
