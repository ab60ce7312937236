// Autoencoders and variational ones: a decoder learned with the encoder that makes its codes.
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "training/kinds.h"

namespace evoke {

Training train_autoencoder(Decoder& decoder, const Splits& data, const AutoencoderTraining& options, const LoopContext& context,
                           at::Device device) {
  const bool variational = decoder.kind == "vae";
  const int64_t code = decoder.options.code;
  const bool unbounded = decoder.options.blocks > 0;
  Network encoder = decoder.encoder.trainable(device), generator = decoder.decoder.trainable(device);

  // Of G(μ) against x, a number a row.
  const auto error = [&](const Examples& from, const Tensor& rows) {
    const Tensor x = from.read(rows), drawn = generator(encoder(x).narrow(1, 0, code));
    return ((unbounded ? drawn.clamp(0, 1) : drawn) - x).square().mean({1, 2, 3});
  };

  Task task;
  task.rows = data.train.count * options.images.repeats;
  task.order = repeated(data.train.order, data.train.count, options.images.repeats);
  task.groups = {{}};
  for (const auto& [name, tensor] : encoder.weights) task.groups[0]["encoder." + name] = tensor;
  for (const auto& [name, tensor] : generator.weights) task.groups[0]["decoder." + name] = tensor;
  task.losses = [&](size_t, const Tensor& rows, Stream& noise) {
    const Tensor x = augmented(data.train.read(rows), options.images, noise), encoded = encoder(x);
    const auto distance = [&](const Tensor& drawn) {
      const Tensor apart = drawn - x, squared = apart.square().mean();
      return options.absolute_weight > 0 ? squared + options.absolute_weight * apart.abs().mean() : squared;
    };
    if (!variational) {
      const Tensor z = options.code_noise > 0 ? encoded + options.code_noise * noise.normal(encoded.sizes().slice(1)) : encoded;
      Tensor loss = distance(generator(z));
      if (options.code_weight > 0) loss = loss + options.code_weight * encoded.square().mean();
      return Tensors{{"loss", loss}};
    }
    const Tensor mean = encoded.narrow(1, 0, code), log_variance = encoded.narrow(1, code, code).clamp(-20.0, 10.0);
    const Tensor z = mean + (0.5 * log_variance).exp() * noise.normal(mean.sizes().slice(1));
    const Tensor squared = distance(generator(z));
    const Tensor divergence = (0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance)).flatten(1).sum(1).mean();
    const auto pixels = static_cast<double>(x.numel() / x.size(0));
    return Tensors{{"loss", squared + (options.kl_weight / pixels) * divergence}, {"squared", squared}, {"divergence", divergence}};
  };
  task.validate = [&] {
    return std::map<std::string, double>{
        {"validation", mean_over(data.validation, [&](const Tensor& at) { return error(data.validation, at); })}};
  };

  Training out{learn(task, options.loop, context), {}};
  if (out.loop.interrupted) return out;
  const c10::NoGradGuard no_gradient;
  std::vector<Tensor> errors;
  each_batch(data.test, [&](const Tensor& at) { errors.push_back(error(data.test, at)); });
  const Tensor all = at::cat(errors).to(at::kDouble);
  out.figures["test_error"] = all.mean().item<double>();
  out.figures["test_error_median"] = all.median().item<double>();
  out.figures["test_psnr"] = (all.clamp_min(1e-12).log10() * -10.0).mean().item<double>();
  decoder.encoder = encoder.frozen(at::kCPU);
  decoder.decoder = generator.frozen(at::kCPU);
  decoder.codes = *codes_of(*as_encoder(decoder, device), data.train);
  if (unbounded && !variational) whiten(decoder);
  return out;
}

}  // namespace evoke
