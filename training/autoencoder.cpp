// Autoencoders and variational ones: a decoder learned with the encoder that makes its codes.
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "training/kinds.h"

namespace evoke {

Training train_autoencoder(Decoder& decoder, const Splits& data, const AutoencoderTraining& options, const LoopContext& context,
                           at::Device device) {
  const bool variational = decoder.kind == "vae";
  const int64_t code = decoder.options.code;
  const std::vector<int64_t> latent = code_shape(decoder.options);
  Network encoder = decoder.encoder.trainable(device), generator = decoder.decoder.trainable(device);
  const auto pixels = static_cast<double>(decoder.options.channels * decoder.options.height * decoder.options.width);

  // Of G(μ) against x, a number a row.
  const auto error = [&](const Examples& from, const Tensor& rows) {
    const Tensor x = from.read(rows);
    return (generator(encoder(x).narrow(1, 0, code)) - x).square().mean({1, 2, 3});
  };

  Task task;
  task.rows = data.train.count;
  task.order = data.train.order;
  task.groups = {{}};
  for (const auto& [name, tensor] : encoder.weights) task.groups[0]["encoder." + name] = tensor;
  for (const auto& [name, tensor] : generator.weights) task.groups[0]["decoder." + name] = tensor;
  task.losses = [&](size_t, const Tensor& rows, Stream& noise) {
    const Tensor x = data.train.read(rows), encoded = encoder(x);
    if (!variational) return Tensors{{"loss", (generator(encoded) - x).square().mean()}};
    const Tensor mean = encoded.narrow(1, 0, code), log_variance = encoded.narrow(1, code, code).clamp(-20.0, 10.0);
    const Tensor z = mean + (0.5 * log_variance).exp() * noise.normal(latent);
    const Tensor squared = (generator(z) - x).square().mean();
    const Tensor divergence = (0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance)).flatten(1).sum(1).mean();
    return Tensors{{"loss", squared + (options.kl_weight / pixels) * divergence}, {"squared", squared}, {"divergence", divergence}};
  };
  task.validate = [&] {
    return std::map<std::string, double>{
        {"validation", mean_over(data.validation, [&](const Tensor& at) { return error(data.validation, at); })}};
  };

  Training out{learn(task, options.loop, context), {}};
  const c10::NoGradGuard no_gradient;
  std::vector<Tensor> errors;
  each_batch(data.test, [&](const Tensor& at) { errors.push_back(error(data.test, at)); });
  out.figures["test_error"] = at::cat(errors).mean().item<double>();
  out.figures["test_error_median"] = at::cat(errors).median().item<double>();
  decoder.encoder = encoder.frozen(at::kCPU);
  decoder.decoder = generator.frozen(at::kCPU);
  decoder.codes = *codes_of(*as_encoder(decoder, device), data.train);
  return out;
}

}  // namespace evoke
