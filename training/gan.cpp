// Generative adversarial decoders.
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>

#include "training/kinds.h"

namespace evoke {

namespace {

// The batch's own spread as one more channel, a number for each group of four images (Karras 2018, §3).
Tensor with_spread(const Tensor& x) {
  const int64_t rows = x.size(0), group = rows % 4 == 0 ? 4 : rows;
  const Tensor groups = x.reshape({group, rows / group, x.size(1), x.size(2), x.size(3)});
  const Tensor spread = (groups.var(0, /*unbiased=*/false) + 1e-8).sqrt().mean({1, 2, 3});
  return at::cat({x, spread.repeat({group}).view({rows, 1, 1, 1}).expand({rows, 1, x.size(2), x.size(3)})}, 1)
      .contiguous(at::MemoryFormat::ChannelsLast);
}

// What images look like at a quarter of their size, a row each.
Tensor pooled(const Tensor& x) { return at::avg_pool2d(x, {4, 4}).flatten(1); }

// Mean distance of the sorted projections of two equally large sets of rows onto random directions.
double sliced_distance(const Tensor& x, const Tensor& y) {
  Tensor directions = Stream::range(7, 0, 64, x.device()).normal({x.size(1)}).t();
  directions = directions / directions.norm(2, 0, true);
  const auto sorted = [&](const Tensor& t) { return std::get<0>(at::sort(t.mm(directions), 0)); };
  return (sorted(x) - sorted(y)).abs().mean().item<double>();
}

}  // namespace

Training train_gan(Decoder& decoder, const Splits& data, const GanTraining& options, const LoopContext& context, at::Device device) {
  const std::vector<int64_t> latent = code_shape(decoder.options);
  Network generator = decoder.decoder.trainable(device);
  DecoderOptions judge_options = decoder.options;
  judge_options.channels += 1;
  Network judge = discriminator_network(judge_options, static_cast<uint64_t>(options.loop.seed) + 1000).trainable(device);

  Task task;
  task.rows = data.train.count;
  task.order = data.train.order;
  task.groups = {generator.weights, judge.weights};
  task.rates = {1.0, options.discriminator_rate};
  task.losses = [&](size_t group, const Tensor& rows, Stream& noise) {
    const Tensor z = noise.normal(latent);
    if (group == 0) return Tensors{{"loss", at::softplus(-judge(with_spread(generator(z)))).mean()}};
    const Tensor fake = generator(z).detach();
    Tensor real = data.train.read(rows).requires_grad_();
    const Tensor on_real = judge(with_spread(real)), on_fake = judge(with_spread(fake));
    const Tensor slope = torch::autograd::grad({on_real.sum()}, {real}, {}, true, /*create_graph=*/true)[0];
    const Tensor penalty = slope.square().sum({1, 2, 3}).mean();
    return Tensors{{"loss", at::softplus(-on_real).mean() + at::softplus(on_fake).mean() + 0.5 * options.gradient_penalty * penalty},
                   {"real", on_real.mean()},
                   {"fake", on_fake.mean()},
                   {"penalty", penalty}};
  };
  // 1,024 draws against as many real images.
  const auto distance = [&](const Examples& from) {
    Examples chosen = from;
    const Tensor rows = evenly_spaced(from.count, 1024);
    chosen.count = rows.size(0);
    Stream stream = Stream::range(11, 0, chosen.count, device);
    const Tensor z = stream.normal(latent);
    std::vector<Tensor> draws, real;
    each_batch(chosen, [&](const Tensor& at) {
      draws.push_back(pooled(generator(z.index_select(0, at.to(device)))));
      real.push_back(pooled(from.read(rows.index_select(0, at))));
    });
    return sliced_distance(at::cat(draws), at::cat(real));
  };
  task.validate = [&] { return std::map<std::string, double>{{"validation", distance(data.validation)}}; };

  Training out{learn(task, options.loop, context), {}};
  if (out.loop.interrupted) return out;
  const c10::NoGradGuard no_gradient;
  out.figures["sliced_distance"] = distance(data.test);
  decoder.decoder = generator.frozen(at::kCPU);
  decoder.encoder = {};
  decoder.codes = standard_statistics(latent);
  return out;
}

}  // namespace evoke
