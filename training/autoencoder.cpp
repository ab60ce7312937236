// Decoders that give an image back: of autoencoders and variational ones, learned with the encoder that makes their codes, and of any
// other encoder (inverters).
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>

#include "classifiers/objectives.h"
#include "core/error.h"
#include "training/kinds.h"

namespace evoke {

namespace {

// How far apart a network finds two images, [N]: f of training/kinds.h.
class FeatureDistance {
 public:
  FeatureDistance(const Classifier& network, const std::vector<std::string>& layers) : network_(network), names_(layers) {
    for (const std::string& name : layers)
      layouts_.push_back(layout_of(layer_named(network, name, "[training] feature_layers"), "[training] feature_layers"));
  }

  Tensor operator()(const Tensor& x, const Tensor& y) const {
    const std::vector<Tensor> of_x = directions(x), of_y = directions(y);
    Tensor sum = at::zeros({x.size(0)}, x.options());
    for (size_t i = 0; i < of_x.size(); ++i) sum = sum + (of_x[i] - of_y[i]).square().sum(2).mean(1);
    return sum / static_cast<double>(of_x.size());
  }

 private:
  // Of each layer [N,P,C], of length 1 at every place.
  std::vector<Tensor> directions(Tensor x) const {
    const ImageSpec& own = network_.image;
    if (x.size(2) != own.height || x.size(3) != own.width) x = at::_upsample_bilinear2d_aa(x, {own.height, own.width}, false);
    const Activations all = network_.forward(x, names_);
    std::vector<Tensor> out;
    for (size_t i = 0; i < names_.size(); ++i) {
      const Tensor a = by_place(all.at(names_[i]).to(at::kFloat), layouts_[i]);
      out.push_back(a / at::linalg_vector_norm(a, 2, {2}, /*keepdim=*/true).clamp_min(1e-6));
    }
    return out;
  }

  Classifier network_;
  std::vector<std::string> names_;
  std::vector<Layout> layouts_;
};

// The square in the middle that a training crop is as large as.
Tensor centre(const Tensor& x, int64_t side) {
  if (side == 0) return x;
  return x.narrow(2, (x.size(2) - side) / 2, side).narrow(3, (x.size(3) - side) / 2, side);
}

}  // namespace

void require_features(const Classifier& network, const std::vector<std::string>& layers, int64_t channels) {
  require(network.image.channels == channels, Failure::input, "[training] feature_layers: found images of ", channels,
          " channels, expected ", network.image.channels, ", which network ", network.name, " takes");
  require(!layers.empty(), Failure::input, "[training] feature_layers: found none, expected layers of ", network.name,
          "; evoke inspect lists them");
  for (const std::string& name : layers)
    layout_of(layer_named(network, name, "[training] feature_layers", Failure::input), "[training] feature_layers");
}

Training train_autoencoder(Decoder& decoder, const Splits& data, const AutoencoderTraining& options, const LoopContext& context,
                           at::Device device, const Reconstruction& with) {
  const bool learns_codes = !with.encoder.has_value(), variational = learns_codes && decoder.kind == "vae",
             contested = options.adversarial_weight > 0;
  require(data.train.count >= 2, Failure::input, "training: found ", data.train.count,
          " image to learn from, expected at least two, whose codes have a mean and a deviation");
  const int64_t code = decoder.options.code;
  const bool unbounded = decoder.options.blocks > 0;
  Network generator = decoder.decoder.trainable(device), encoder, judge;
  if (learns_codes) encoder = decoder.encoder.trainable(device);
  if (contested) judge = patch_discriminator_network(decoder.options, static_cast<uint64_t>(options.loop.seed) + 1000).trainable(device);
  std::optional<FeatureDistance> features;
  if (options.feature_weight > 0) {
    require_features(with.features.value(), options.feature_layers, decoder.options.channels);
    features.emplace(*with.features, options.feature_layers);
  }
  // What is looked at many rows at a time is as large as the larger of the two networks' images.
  const auto in_parts = [&](Examples of) {
    if (features) of.size = std::max(of.size, with.features->image.channels * with.features->image.height * with.features->image.width);
    return of;
  };

  // What the encoder gives; a VAE's log variances are behind its means.
  const auto encoded = [&](const Tensor& x) {
    if (learns_codes) return encoder(x);
    const bool whole = x.size(2) == with.encoder->image.height && x.size(3) == with.encoder->image.width;
    return (whole ? *with.encoder : with.of_crops.value()).encode(x);
  };
  // Of x and G(μ), a number a row: the squared error, and what decides between epochs.
  struct Errors {
    Tensor squared, features, all;
  };
  const auto errors = [&](const Examples& from, const Tensor& rows) {
    const Tensor x = from.read(rows), drawn = generator(encoded(x).narrow(1, 0, code));
    const Tensor seen = unbounded ? drawn.clamp(0, 1) : drawn;
    Errors out{(seen - x).square().mean({1, 2, 3}), {}, {}};
    out.all = out.squared;
    if (features) {
      out.features = (*features)(centre(x, options.images.crop), centre(seen, options.images.crop));
      out.all = out.squared + options.feature_weight * out.features;
    }
    return out;
  };

  Task task;
  task.rows = visits(options.images, data.train.count);
  task.order = in_epochs(data.train.order, data.train.count, task.rows);
  task.keep_last = contested;
  task.groups = {{}};
  for (const auto& [name, tensor] : encoder.weights) task.groups[0]["encoder." + name] = tensor;
  for (const auto& [name, tensor] : generator.weights) task.groups[0]["decoder." + name] = tensor;
  if (contested) {
    task.groups.push_back(judge.weights);
    task.rates = {1.0, options.discriminator_rate};
  }
  Tensor real, fake;  // of this step, for the discriminator behind the decoder
  task.losses = [&](size_t group, const Tensor& rows, Stream& noise) {
    if (group == 1) {
      const Tensor on_real = judge(real), on_fake = judge(fake);
      const Tensor some = real.narrow(0, 0, std::max<int64_t>(1, real.size(0) / 4)).detach().clone().requires_grad_();
      const Tensor slope = torch::autograd::grad({judge(some).mean({1, 2, 3}).sum()}, {some}, {}, true, /*create_graph=*/true)[0];
      const Tensor penalty = slope.square().sum({1, 2, 3}).mean();
      return Tensors{{"loss", at::softplus(-on_real).mean() + at::softplus(on_fake).mean() + 0.5 * options.gradient_penalty * penalty},
                     {"real", on_real.mean()},
                     {"fake", on_fake.mean()},
                     {"penalty", penalty}};
    }
    const Tensor x = augmented(data.train.read(rows), options.images, noise), given = encoded(x);
    Tensor z = given;
    if (variational)
      z = given.narrow(1, 0, code);
    else if (options.code_noise > 0)
      z = given + options.code_noise * noise.normal(given.sizes().slice(1));
    const Tensor log_variance = variational ? given.narrow(1, code, code).clamp(-20.0, 10.0) : Tensor();
    const Tensor drawn = generator(variational ? z + (0.5 * log_variance).exp() * noise.normal(z.sizes().slice(1)) : z);

    const Tensor apart = drawn - x, squared = apart.square().mean();
    Tensors out{{"loss", squared}};
    const auto add = [&](const char* name, double weight, const Tensor& part) {
      out["loss"] = out["loss"] + weight * part;
      if (name != nullptr) out["squared"] = squared, out[name] = part;
    };
    if (options.absolute_weight > 0) add(nullptr, options.absolute_weight, apart.abs().mean());
    if (features) add("features", options.feature_weight, (*features)(x, drawn).mean());
    if (contested) add("adversarial", options.adversarial_weight, at::softplus(-judge(drawn)).mean());
    if (learns_codes && !variational && options.code_weight > 0) add(nullptr, options.code_weight, given.square().mean());
    if (variational) {
      const Tensor divergence = (0.5 * (z.square() + log_variance.exp() - 1.0 - log_variance)).flatten(1).sum(1).mean();
      add("divergence", options.kl_weight / static_cast<double>(x.numel() / x.size(0)), divergence);
    }
    if (contested) real = x, fake = drawn.detach();
    return out;
  };
  task.validate = [&] {
    return std::map<std::string, double>{
        {"validation", mean_over(in_parts(data.validation), [&](const Tensor& at) { return errors(data.validation, at).all; })}};
  };

  Training out{learn(task, options.loop, context), {}};
  if (out.loop.interrupted) return out;
  const c10::NoGradGuard no_gradient;
  std::vector<Tensor> squared, apart;
  each_batch(in_parts(data.test), [&](const Tensor& at) {
    const Errors found = errors(data.test, at);
    squared.push_back(found.squared);
    if (features) apart.push_back(found.features);
  });
  const Tensor all = at::cat(squared).to(at::kDouble);
  out.figures["test_error"] = all.mean().item<double>();
  out.figures["test_error_median"] = all.median().item<double>();
  out.figures["test_psnr"] = (all.clamp_min(1e-12).log10() * -10.0).mean().item<double>();
  if (features) out.figures["test_features"] = at::cat(apart).to(at::kDouble).mean().item<double>();
  if (learns_codes) decoder.encoder = encoder.frozen(at::kCPU);
  decoder.decoder = generator.frozen(at::kCPU);
  const auto codes = codes_of(learns_codes ? *as_encoder(decoder, device) : *with.encoder, data.train, "auto", context.stop);
  if (!codes) {
    out.loop.interrupted = true;
    out.figures.clear();
    return out;
  }
  decoder.codes = *codes;
  if (unbounded && learns_codes && !variational) whiten(decoder);
  return out;
}

}  // namespace evoke
