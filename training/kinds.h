// The kinds of net that are trained, each from examples to a noun.
#pragma once
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "classifiers/networks.h"
#include "generators/critic.h"
#include "generators/decoder.h"
#include "generators/denoiser.h"
#include "training/examples.h"
#include "training/loop.h"

namespace evoke {

/// What a training gives beside the weights. One that was interrupted ends at once: no figures, and weights that are not to be kept.
struct Training {
  LoopResult loop;
  std::map<std::string, double> figures;  // of the test split
};

struct ClassifierTraining {
  LoopOptions loop;
  Augmentation images;
};
inline void describe(Fields& f, ClassifierTraining& o) {
  describe(f, o.loop);
  describe(f, o.images);
}
/// Cross-entropy. figures: "test_accuracy", "test_cross_entropy".
Training train_classifier(Network&, const ImageSpec&, const Splits&, const ClassifierTraining&, const LoopContext&, at::Device);

struct AutoencoderTraining {
  LoopOptions loop;
  Augmentation images;
  double kl_weight = 0.07, code_noise = 0.0, code_weight = 0.0, absolute_weight = 0.0;
  double feature_weight = 0.0, adversarial_weight = 0.0, gradient_penalty = 0.1, discriminator_rate = 2.0;
  std::vector<std::string> feature_layers;
};
inline void describe(Fields& f, AutoencoderTraining& o) {
  describe(f, o.loop);
  describe(f, o.images);
  f("code_noise", o.code_noise, "units of the code", "standard deviation of noise on the codes that are decoded, but a vae's; 0: none",
    non_negative);
  f("code_weight", o.code_weight, "", "of an autoencoder's mean squared code in the loss, which keeps the codes' scale above the noise",
    non_negative);
  f("absolute_weight", o.absolute_weight, "", "of the mean absolute error beside the squared one", non_negative);
  f("kl_weight", o.kl_weight, "", "β before the divergence of the code's posterior from N(0, 1); a vae has it", non_negative);
  f("feature_weight", o.feature_weight, "",
    "of how far apart [classifier] finds image and reconstruction, which makes them sharper; 0: not asked", non_negative);
  f("feature_layers", o.feature_layers, "the layers of [classifier] that are compared, from edges to parts");
  f("adversarial_weight", o.adversarial_weight, "", "of what a discriminator of patches, trained beside, says of reconstructions; 0: none",
    non_negative);
  f("gradient_penalty", o.gradient_penalty, "", "γ of R1, where there is a discriminator", non_negative);
  f("discriminator_rate", o.discriminator_rate, "share of learning_rate", "the discriminator's rate", more_than_zero(1e4));
}
/// What a reconstruction is trained with, beside the images.
struct Reconstruction {
  std::optional<Encoder> encoder;      // whose codes are decoded, never changed (an inverter); none: one is learned
  std::optional<Encoder> of_crops;     // the same for crops, where they are of another size
  std::optional<Classifier> features;  // whose layers feature_layers are compared; images of another size are resampled to its own
};
/// Autoencoder, ξ ~ N(0, 1), with its codes whitened by channel at the end where the networks have blocks (generators/decoder.h):
///
///     d(x, G(z)) + code_weight·mean E(x)²,   z = E(x) + code_noise·ξ
///     d(x, y) = mean (x - y)² + absolute_weight·mean |x - y| + feature_weight·f(x, y) + adversarial_weight·mean softplus(-D(y))
///
/// f: the mean over layers and places of |φ(x)/|φ(x)| - φ(y)/|φ(y)||², φ a layer's channels at a place (Zhang 2018, Eq. 1, with even
/// weights); of the whole training crop, of the centre of whole images. D: patch_discriminator_network, which learns beside, with R1
/// (Mescheder 2018, Eq. 9) on a quarter of the rows:
///
///     mean softplus(-D(x)) + mean softplus(D(G(z))) + γ/2·|∂ mean D/∂x|²
///
/// VAE (Kingma & Welling 2014), decoder.kind = "vae":
///
///     d(x, G(z)) + β·KL( N(μ, s²) ‖ N(0, 1) )/pixels,   z = μ + s·ξ,  (μ, ln s²) = E(x)
///
/// Inverter (Dosovitskiy & Brox 2016), of `encoder`: d alone, and only the decoder learns.
///
/// What decides between epochs is mean (x - G(μ))² + feature_weight·f; with a discriminator the last epoch is kept.
/// Trains decoder.decoder and decoder.encoder and sets decoder.codes. figures: "test_error" (mean squared error over pixels in [0,1] of
/// G(μ)), "test_error_median", "test_psnr" (dB, the mean over images of -10·log10 of their error), "test_features" (f).
Training train_autoencoder(Decoder&, const Splits&, const AutoencoderTraining&, const LoopContext&, at::Device, const Reconstruction& = {});
/// Throws Failure::input where there are no feature_layers, the network has not one of them, or it takes images of other channels.
void require_features(const Classifier&, const std::vector<std::string>& feature_layers, int64_t channels);

struct GanTraining {
  LoopOptions loop;
  double gradient_penalty = 1.0, discriminator_rate = 1.0;
};
inline void describe(Fields& f, GanTraining& o) {
  describe(f, o.loop);
  f("gradient_penalty", o.gradient_penalty, "", "γ of R1", non_negative);
  f("discriminator_rate", o.discriminator_rate, "share of learning_rate", "the discriminator's rate", more_than_zero(1e4));
}
/// A GAN with the non-saturating loss (Goodfellow 2014) and R1 (Mescheder 2018, Eq. 9); D looks at x, and at how much the batch differs
/// within itself (Karras 2018, §3), which holds collapse off:
///
///     D: softplus(-D(x)) + softplus(D(G(z))) + γ/2·|∂D/∂x|²      G: softplus(-D(G(z))),  z ~ N(0, 1)
///
/// What decides between epochs is the sliced Wasserstein distance of 1,024 draws to validation images (64 directions, images pooled to
/// 12×12). Sets decoder.codes to those of N(0, 1). figures: "sliced_distance".
Training train_gan(Decoder&, const Splits&, const GanTraining&, const LoopContext&, at::Device);

struct CodesTraining {
  std::string form = "auto";
  int64_t threads = 0;
  std::string device = "auto";
};
inline void describe(Fields& f, CodesTraining& o) {
  f.choice("form", o.form,
           "what is kept of the covariance: full, of every two numbers of a code; channel, of every two channels of a spatial code, the "
           "same at every place and for any size; diagonal, the variances; auto: channel of spatial codes, else full up to 4096 numbers",
           code_forms);
  f("threads", o.threads, "threads", "of LibTorch on the CPU; 0: one a core", {0, 1024});
  f("device", o.device, "auto (CUDA if present), cpu, cuda or cuda:N");
}
/// The statistics of the codes of images, at least two; nothing where stop asked for an end before the last.
std::optional<CodeStatistics> codes_of(const Encoder&, const Examples& images, const std::string& form = "auto",
                                       const std::function<bool()>& stop = {});

struct DenoiserTraining {
  LoopOptions loop;
  Augmentation images;
  double sigma_mean = -1.0, sigma_spread = 1.4;
};
inline void describe(Fields& f, DenoiserTraining& o) {
  describe(f, o.loop);
  describe(f, o.images);
  f("sigma_mean", o.sigma_mean, "", "mean of ln σ of the noise it is trained with, when it learns many σ", {-100.0, 100.0});
  f("sigma_spread", o.sigma_spread, "", "standard deviation of ln σ", more_than_zero(100));
}
/// The weighted denoising loss of generators/denoiser.h on codes [M,D] or [M,C,H,W] or images, σ fixed or ln σ ~ N(sigma_mean,
/// sigma_spread²) cut to the range. encode: makes codes of the images of `train`, after they were changed as options.images says; empty:
/// they are learned as they are. validation: of what is learned. figures: "validation" (the loss), and of one that learns many σ, for some
/// of them, "error_at_σ" (the mean squared error in whitened units) and "gaussian_at_σ", that of the best guess for Gaussian data,
/// σ²/(1+σ²).
Training train_denoiser(Denoiser&, const Examples& train, const Examples& validation, const DenoiserTraining&, const LoopContext&,
                        at::Device, const std::function<Tensor(const Tensor& images)>& encode = {});

struct CriticTraining {
  LoopOptions loop;
  Augmentation images;
};
inline void describe(Fields& f, CriticTraining& o) {
  describe(f, o.loop);
  describe(f, o.images);
}
/// Codes with what the target says of the images that they decode to: rows int64 [B] -> codes [B,…] and answers [B,U].
struct Answers {
  int64_t count = 0;
  std::function<std::pair<Tensor, Tensor>(const Tensor& rows, Stream& noise)> read;
  std::function<Tensor(uint64_t seed, int64_t epoch)> order;
};
/// The loss of generators/critic.h with ln σ uniform over the critic's range. Of units that are no classes, `center` and `spread` are taken
/// from `some` answers [M,U] first. figures: "validation" (the loss).
Training train_critic(CriticNetwork&, const Answers& train, const Answers& validation, const Tensor& some, const CriticTraining&,
                      const LoopContext&, at::Device);

}  // namespace evoke
