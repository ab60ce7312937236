// Denoisers learn to take noise off codes or images.
#include <ATen/ATen.h>

#include <cmath>

#include "training/kinds.h"

namespace evoke {

Training train_denoiser(Denoiser& denoiser, const Examples& train, const Examples& validation, const DenoiserTraining& options,
                        const LoopContext& context, at::Device device) {
  Denoiser learner = trainable(denoiser, device);
  const DenoiserOptions& of = denoiser.options;
  const auto loss = [&](const Tensor& x, Stream& noise) {
    const Tensor log_sigma = noise.normal({}) * options.sigma_spread + options.sigma_mean;
    const Tensor sigma = of.sigma > 0 ? at::full({x.size(0)}, of.sigma, x.options())
                                      : log_sigma.clamp(std::log(of.sigma_low), std::log(of.sigma_high)).exp();
    return denoising_loss(learner, x, noise.normal(x.sizes().slice(1)), sigma);
  };

  Task task;
  task.rows = train.count;
  task.order = train.order;
  task.groups = {learner.network.weights};
  task.losses = [&](size_t, const Tensor& rows, Stream& noise) { return Tensors{{"loss", loss(train.read(rows), noise).mean()}}; };
  task.validate = [&] {
    // The same noise at every epoch, so that epochs compare.
    return std::map<std::string, double>{{"validation", mean_over(validation, [&](const Tensor& rows) {
                                            Stream noise(12, rows.to(device), 0);
                                            return loss(validation.read(rows), noise);
                                          })}};
  };
  Training out{learn(task, options.loop, context), {}};
  out.figures["validation"] = out.loop.validation.at("validation");
  denoiser = frozen(learner, at::kCPU);
  return out;
}

}  // namespace evoke
