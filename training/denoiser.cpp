// Denoisers learn to take noise off codes or images.
#include <ATen/ATen.h>

#include <cmath>

#include "core/error.h"
#include "training/kinds.h"

namespace evoke {

Training train_denoiser(Denoiser& denoiser, const Examples& train, const Examples& validation, const DenoiserTraining& options,
                        const LoopContext& context, at::Device device, const std::function<Tensor(const Tensor& images)>& encode) {
  Denoiser learner = trainable(denoiser, device);
  const DenoiserOptions& of = denoiser.options;
  const auto loss = [&](const Tensor& x, Stream& noise) {
    const Tensor log_sigma = noise.normal({}) * options.sigma_spread + options.sigma_mean;
    const Tensor sigma = of.sigma > 0 ? at::full({x.size(0)}, of.sigma, x.options())
                                      : log_sigma.clamp(std::log(of.sigma_low), std::log(of.sigma_high)).exp();
    return denoising_loss(learner, x, noise.normal(x.sizes().slice(1)), sigma);
  };

  Task task;
  task.rows = visits(options.images, train.count);
  task.order = in_epochs(train.order, train.count, task.rows);
  task.groups = {learner.network.weights};
  task.losses = [&](size_t, const Tensor& rows, Stream& noise) {
    const Tensor seen = augmented(train.read(rows), options.images, noise);
    return Tensors{{"loss", loss(encode ? encode(seen) : seen, noise).mean()}};
  };
  task.validate = [&] {
    // The same noise at every epoch, so that epochs compare.
    return std::map<std::string, double>{{"validation", mean_over(validation, [&](const Tensor& rows) {
                                            Stream noise(12, rows.to(device), 0);
                                            return loss(validation.read(rows), noise);
                                          })}};
  };
  Training out{learn(task, options.loop, context), {}};
  if (out.loop.interrupted) return out;
  out.figures["validation"] = out.loop.validation.at("validation");
  if (of.sigma == 0)
    for (const double sigma : {0.1, 0.2, 0.5, 1.0, 2.0, 5.0}) {
      const double gaussian = sigma * sigma / (1 + sigma * sigma);
      const double weighted = mean_over(validation, [&](const Tensor& rows) {
        Stream noise(13, rows.to(device), 0);
        const Tensor x = validation.read(rows);
        return denoising_loss(learner, x, noise.normal(x.sizes().slice(1)), at::full({x.size(0)}, sigma, x.options()));
      });
      out.figures[text("error_at_", sigma)] = weighted * gaussian;  // the loss is weighted by its inverse
      out.figures[text("gaussian_at_", sigma)] = gaussian;
    }
  denoiser = frozen(learner, at::kCPU);
  return out;
}

}  // namespace evoke
