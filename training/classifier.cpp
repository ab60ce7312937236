// Classifiers learn by cross-entropy.
#include <ATen/ATen.h>

#include "training/kinds.h"

namespace evoke {

Training train_classifier(Network& network, const ImageSpec& image, const Splits& data, const ClassifierTraining& options,
                          const LoopContext& context, at::Device device) {
  Network learner = network.trainable(device);
  const auto normalized = [&](const Tensor& x) {
    if (image.mean.empty()) return x;
    const auto per_channel = [&](const std::vector<double>& v) { return at::tensor(v, x.options()).view({1, -1, 1, 1}); };
    return (x - per_channel(image.mean)) / per_channel(image.deviation);
  };
  const auto logits = [&](const Examples& from, const Tensor& rows) { return learner(normalized(from.read(rows))); };
  const auto cross_entropy = [&](const Examples& from, const Tensor& rows) {
    return at::cross_entropy_loss(logits(from, rows), from.labels(rows), {}, at::Reduction::None);
  };
  const auto correct = [&](const Examples& from, const Tensor& rows) { return logits(from, rows).argmax(1).eq(from.labels(rows)); };

  Task task;
  task.rows = visits(options.images, data.train.count);
  task.order = in_epochs(data.train.order, data.train.count, task.rows);
  task.groups = {learner.weights};
  task.losses = [&](size_t, const Tensor& rows, Stream& noise) {
    const Tensor seen = augmented(data.train.read(rows), options.images, noise);
    return Tensors{{"loss", at::cross_entropy_loss(learner(normalized(seen)), data.train.labels(rows), {}, at::Reduction::None).mean()}};
  };
  task.validate = [&] {
    return std::map<std::string, double>{
        {"validation", mean_over(data.validation, [&](const Tensor& at) { return cross_entropy(data.validation, at); })},
        {"validation_accuracy", mean_over(data.validation, [&](const Tensor& at) { return correct(data.validation, at); })}};
  };

  Training out{learn(task, options.loop, context), {}};
  if (out.loop.interrupted) return out;
  out.figures["test_accuracy"] = mean_over(data.test, [&](const Tensor& at) { return correct(data.test, at); });
  out.figures["test_cross_entropy"] = mean_over(data.test, [&](const Tensor& at) { return cross_entropy(data.test, at); });
  network = learner.frozen(at::kCPU);
  return out;
}

}  // namespace evoke
