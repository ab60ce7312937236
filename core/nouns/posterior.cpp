#include "core/nouns/posterior.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <c10/core/InferenceMode.h>
#include <torch/csrc/autograd/autograd.h>

#include "core/error.h"
#include "core/log.h"
#include "core/numbers/relu.h"

namespace evoke {

namespace {

// The image at the size that the classifier wants: resampled where it differs.
Tensor fit(const Tensor& x, const ImageSpec& wanted) {
  if (x.size(2) == wanted.height && x.size(3) == wanted.width) return x;
  return at::_upsample_bilinear2d_aa(x, {wanted.height, wanted.width}, false);
}

}  // namespace

Target posterior(Generator generator, Transform transform, Classifier classifier, Objective objective, std::optional<Prior> prior,
                 PosteriorOptions options) {
  require(generator.image.channels == classifier.image.channels, Failure::input, "posterior: generator ", generator.name, " makes ",
          generator.image.channels, " channels, classifier ", classifier.name, " expects ", classifier.image.channels,
          "; choose a generator trained on such images");
  require(!objective.columns.empty(), Failure::usage, "posterior: objective ", objective.name, " has no unit; name at least one");
  require(options.views == 1 || (options.views > 1 && transform), Failure::usage, "posterior: found ", options.views, " views",
          transform ? "" : " and no transform", ", expected 1, or more of a random transform");
  if (options.rows.defined() && options.rows.numel() > 0) {
    const auto columns = static_cast<int64_t>(objective.columns.size());
    require(options.rows.min().item<int64_t>() >= 0 && options.rows.max().item<int64_t>() < columns, Failure::usage,
            "posterior: found a row that asks for a unit outside 0 to ", columns - 1);
  }
  if (generator.image.height != classifier.image.height || generator.image.width != classifier.image.width)
    warn_once(text("generator ", generator.name, " draws ", generator.image.width, "×", generator.image.height, ", classifier ",
                   classifier.name, " looks at ", classifier.image.width, "×", classifier.image.height,
                   ": images are resampled in between"));

  Target target;
  target.name = text(objective.name, "(", classifier.name, "(", generator.name, "))");
  target.comparable = !transform && (!prior || prior->log_density || options.prior_weight == 0);
  target.exact = target.comparable && !options.bfloat16;
  target.columns = objective.columns;
  target.latent = generator.latent;
  target.rows_independent = objective.rows_independent;
  target.capturable = generator.capturable && classifier.capturable && (!prior || prior->capturable) && options.redirected == 0;

  const int64_t views = objective.taps.empty() ? 1 : options.views;
  const auto scores = [generator, transform, classifier, objective, views](const Tensor& z, Stream& stream, bool bfloat16,
                                                                           bool redirected) {
    Tensor x;
    Activations activations;
    {
      const Bfloat16Scope rounded(bfloat16, z.device());
      x = generator.decode(z);
      if (bfloat16) x = x.to(z.scalar_type());
      if (!objective.taps.empty()) {
        Tensor seen = fit(x, classifier.image);
        if (views > 1) {
          std::vector<Tensor> drawn;
          for (int64_t view = 0; view < views; ++view) drawn.push_back(transform(seen, stream));
          seen = at::cat(drawn);
        } else if (transform) {
          seen = transform(seen, stream);
        }
        const RedirectedReluScope slopes(redirected);
        activations = classifier.forward(seen, objective.taps);
      }
    }
    if (bfloat16)
      for (auto& [name, activation] : activations) activation = activation.to(z.scalar_type());
    if (views == 1) return objective.score(x, activations);

    Tensor sum;
    for (int64_t view = 0; view < views; ++view) {
      Activations own;
      for (const auto& [name, activation] : activations) own[name] = activation.narrow(0, view * x.size(0), x.size(0));
      const Tensor score = objective.score(x, own);
      sum = sum.defined() ? sum + score : score;
    }
    return sum / static_cast<double>(views);
  };

  target.scan = [scores](const Tensor& z, Stream& stream) {
    const c10::InferenceMode no_gradient;
    return scores(z, stream, false, false);
  };

  target.evaluate = [scores, prior, options](const Tensor& z, Stream& stream) {
    Evaluation out;
    Tensor point = z.detach().clone().requires_grad_();
    {
      const c10::AutoGradMode with_gradient(true);
      const bool redirected = options.redirected > 0 && stream.step() < options.redirected;
      Tensor score = scores(point, stream, options.bfloat16, redirected);
      score = options.rows.defined() ? score.gather(1, options.rows.unsqueeze(1)).squeeze(1) : score.select(1, 0);
      out.gradient = torch::autograd::grad({score.sum()}, {point}, {}, {}, false, true)[0];
      out.terms["objective"] = score.detach();
    }
    const c10::NoGradGuard no_gradient;
    if (!out.gradient.defined()) out.gradient = at::zeros_like(z);
    out.terms["slope"] = at::linalg_vector_norm(out.gradient.flatten(1), 2, at::IntArrayRef{1});
    out.value = out.terms["objective"];
    if (options.objective_weight != 1.0) {
      out.value = out.value * options.objective_weight;
      out.gradient = out.gradient * options.objective_weight;
    }
    if (prior && options.prior_weight != 0) {
      out.gradient = out.gradient + options.prior_weight * prior->score(z);
      if (prior->log_density) {
        out.terms["prior"] = prior->log_density(z);
        out.value = out.value + options.prior_weight * out.terms["prior"];
      }
    }
    return out;
  };
  return target;
}

}  // namespace evoke
