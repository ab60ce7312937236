// Decoders and encoders: codes to images and back, and the networks that do it.
#pragma once
#include <optional>

#include "core/networks/network.h"
#include "core/recipes/recipe.h"
#include "generators/codes.h"

namespace evoke {

struct DecoderOptions {
  int64_t code = 32;
  int64_t filters = 32;
  int64_t encoder_filters = 32;
  int64_t hidden = 0;
  bool spatial = false;
  int64_t blocks = 0;
  int64_t channels = 3;
  int64_t height = 48, width = 48;
};

inline void describe(Fields& f, DecoderOptions& o) {
  f("code", o.code, "numbers", "size of a code, D; channels of a spatial one", {1, 65536});
  f("filters", o.filters, "channels", "channels of the decoder at half size; twice as many at an eighth, half as many at full size",
    {1, 4096});
  f("encoder_filters", o.encoder_filters, "channels", "channels of the encoder (or discriminator) at half size; twice as many below",
    {1, 4096});
  f("hidden", o.hidden, "units",
    "of two dense layers (the decoder's second has twice as many) between code and convolutions; 0: none, and 256 in the encoder",
    {0, 65536});
  f("spatial", o.spatial,
    "the code is a small image [code, height/8, width/8] and nothing is dense (hidden = 0): once trained, such networks take any size "
    "divisible by 8");
  f("blocks", o.blocks, "blocks",
    "residual blocks of a spatial code's networks at an eighth of the size, one fewer above; for photographs. 0: plain convolutions",
    {0, 64});
  f("channels", o.channels, "channels", "colours of an image; a training takes the dataset's, as it does height and width", {1, 1024});
  f("height", o.height, "px", "height of an image, divisible by 8", {8, 65536});
  f("width", o.width, "px", "width of an image, divisible by 8", {8, 65536});
}

/// Shape of a code: [D], or [code, H/8, W/8] of a spatial one. Throws Failure::input as decoder_network.
std::vector<int64_t> code_shape(const DecoderOptions& options);

/// Code to image: z [N,D] → dense → [N,2w,H/8,W/8] → relu → three times [upsample ×2, convolution 3×3, relu] → convolution → sigmoid →
/// [N,C,H,W] in [0,1]; channels 2w → 2w → w → w/2 → C, where w = filters. 28 M multiply-adds an image at w = 32 and 48×48.
/// A spatial code [N,D,H/8,W/8] enters through a convolution 3×3 in place of the dense layers.
/// With blocks = b > 0 (spatial): mix, a convolution 1×1 of the code's channels, then [3w,H/8,W/8] and b residual blocks, pixel shuffle to
/// [2w,H/4,W/4] and b-1 (at least 1) blocks, the same at [w,H/2,W/2], and a convolution with pixel shuffle to [C,H,W], which is not
/// bounded. 0.5 G multiply-adds an image at w = 32, b = 2 and 224×224. Steps: (hidden1, hidden_silu1, hidden2, hidden_silu2,) dense, grid,
/// relu0 (spatial: code, relu0), upsample1, conv1, relu1 … relu3, conv4, sigmoid. Throws Failure::input when the image's height or width is
/// not divisible by 8, or hidden layers are asked of a spatial code.
Network decoder_network(const DecoderOptions& options, uint64_t seed);

/// Image to code: x [N,C,H,W] → three strided convolutions and a plain one, channels v → 2v → 2v → 2v (v = encoder_filters) → dense →
/// [N,outputs]; to a spatial code a convolution 1×1 → [N,outputs,H/8,W/8]. outputs: D of an autoencoder, 2·D of a VAE: mean, then log
/// variance. With blocks = b > 0: strided convolutions 4×4 to v, 2v, 3v channels, each followed by residual blocks as in the decoder.
/// Steps: conv1, relu1 … relu4, flatten, hidden1, hidden_silu1, (hidden2, hidden_silu2,) dense (spatial: conv1 … relu4, code).
/// Throws as decoder_network.
Network encoder_network(const DecoderOptions& options, int64_t outputs, uint64_t seed);

/// Image to one number a row [N,1], larger is more real: as the encoder, with leaky relus of slope 0.2. Throws as decoder_network.
Network discriminator_network(const DecoderOptions& options, uint64_t seed);
/// Image to a number for each patch of it, [N,C,H,W] → [N,1,H/4,W/4], larger is more real, for images of any size (Isola 2017, §3.2.2):
/// strided convolutions 4×4 to v and 2v channels, a plain one 3×3, leaky relus of slope 0.2, and one to 1 channel. Each number sees 26 px.
Network patch_discriminator_network(const DecoderOptions& options, uint64_t seed);

/// How a decoder can have been trained.
inline const std::vector<std::string> decoder_kinds{"autoencoder", "vae", "gan", "inverter"};

/// A trained decoder with what was trained beside it.
struct Decoder {
  std::string kind;  // one of decoder_kinds
  DecoderOptions options;
  Network decoder;
  Network encoder;       // no steps where there is none (GAN, inverter)
  CodeStatistics codes;  // of the training images' codes; of N(0,1) draws for a GAN
};

/// Whitens the codes by channel, in the weights: the encoder's last layer and the decoder's `mix` take in a matrix W and its inverse, so
/// that codes have mean 0 and covariance 1 between their channels over images and places, while every image is decoded as before. W = L⁻¹,
/// the covariance being LLᵀ (its diagonal raised by 1e-6 of its mean where that is not positive definite). Replaces decoder.codes. Throws
/// Failure::runtime unless the networks have blocks and decoder.codes are by channel.
void whiten(Decoder&);

/// Writes atomically, as weights of this kind (core/safetensors.h): "decoder.…", "encoder.…", "codes.mean" ….
/// half: networks as float16, half the file; the code statistics stay float32.
void save_decoder(const std::string& file, const Decoder&, bool half = false);
/// On the CPU, float32. Throws Failure::input when the file is no decoder, or its weights do not fit its options.
Decoder load_decoder(const std::string& file);

/// The same decoder for images of another size. Throws Failure::input where its codes are not spatial, or the size is not divisible by 8.
Decoder resized(Decoder, int64_t height, int64_t width);

/// z to image through a decoder: decode [N,latent…] → [N,C,H,W], channels_last, clipped to [0,1]. start: "codes": N(mean, covariance) of
/// the training images' codes; "normal": N(0, 1). Weights are frozen on `device`. The name is the decoder's kind.
Generator as_generator(const Decoder&, at::Device device, const std::string& start = "codes");

/// Image to code (of a VAE: the mean) through the encoder that was trained beside it; none where there is none (GAN, inverter).
std::optional<Encoder> as_encoder(const Decoder&, at::Device device);

}  // namespace evoke
