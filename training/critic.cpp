// Critics learn to foretell what the target will say.
#include <ATen/ATen.h>

#include <cmath>

#include "core/error.h"
#include "training/kinds.h"

namespace evoke {

Training train_critic(CriticNetwork& critic, const Answers& train, const Answers& validation, const Tensor& some,
                      const CriticTraining& options, const LoopContext& context, at::Device device) {
  if (!critic.options.classes) {
    require(some.size(0) >= 2, Failure::input, "training: found ", some.size(0),
            " image for validation, expected at least two, whose answers have a mean and a deviation");
    critic.center = some.mean(0).cpu();
    critic.spread = some.std(0).clamp_min(1e-6).cpu();
  }
  CriticNetwork learner = trainable(critic, device);
  const double low = std::log(critic.options.sigma_low), high = std::log(critic.options.sigma_high);
  const auto loss = [&](const Answers& from, const Tensor& rows, Stream& noise) {
    const auto [codes, said] = from.read(rows, noise);
    const Tensor sigma = (noise.uniform({}) * (high - low) + low).exp();
    return critic_loss(learner, codes, noise.normal(codes.sizes().slice(1)), sigma, said);
  };

  Task task;
  task.rows = train.count;
  task.order = train.order;
  task.groups = {learner.network.weights};
  task.losses = [&](size_t, const Tensor& rows, Stream& noise) { return Tensors{{"loss", loss(train, rows, noise).mean()}}; };
  Examples all;
  all.count = validation.count;
  task.validate = [&] {
    // The same noise at every epoch, so that epochs compare.
    return std::map<std::string, double>{{"validation", mean_over(all, [&](const Tensor& rows) {
                                            Stream noise(12, rows.to(device), 0);
                                            return loss(validation, rows, noise);
                                          })}};
  };
  Training out{learn(task, options.loop, context), {}};
  if (out.loop.interrupted) return out;
  out.figures["validation"] = out.loop.validation.at("validation");
  critic = frozen(learner, at::kCPU);
  return out;
}

}  // namespace evoke
