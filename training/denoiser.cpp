// Denoisers learn to take noise off codes or images.
#include <ATen/ATen.h>

#include <cmath>

#include "training/kinds.h"

namespace evoke {

Training train_denoiser(Denoiser& denoiser, const Tensor& train, const Tensor& validation, const DenoiserTraining& options,
                        const LoopContext& context, at::Device device) {
  Denoiser learner = trainable(denoiser, device);
  const DenoiserOptions& of = denoiser.options;
  const Tensor data = train.to(device), held_out = validation.to(device);
  const auto clean = [](const Tensor& from, const Tensor& rows) {
    return from.scalar_type() == at::kByte ? images_at(from, rows) : from.index_select(0, rows);
  };
  const auto loss = [&](const Tensor& x, Stream& noise) {
    const Tensor log_sigma = noise.normal({}) * options.sigma_spread + options.sigma_mean;
    const Tensor sigma = of.sigma > 0 ? at::full({x.size(0)}, of.sigma, x.options())
                                      : log_sigma.clamp(std::log(of.sigma_low), std::log(of.sigma_high)).exp();
    return denoising_loss(learner, x, noise.normal(x.sizes().slice(1)), sigma);
  };

  Lesson lesson;
  lesson.rows = data.size(0);
  lesson.groups = {learner.network.weights};
  lesson.losses = [&](size_t, const Tensor& rows, Stream& noise) { return Tensors{{"loss", loss(clean(data, rows), noise).mean()}}; };
  lesson.validate = [&] {
    // The same noise at every epoch, so that epochs compare.
    return std::map<std::string, double>{{"validation", mean_over(held_out.size(0), device, [&](const Tensor& rows) {
                                            Stream noise(12, rows, 0);
                                            return loss(clean(held_out, rows), noise);
                                          })}};
  };
  Training out{learn(lesson, options.loop, context), {}};
  out.figures["validation"] = out.loop.validation.at("validation");
  denoiser = frozen(learner, at::kCPU);
  return out;
}

}  // namespace evoke
