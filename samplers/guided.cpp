#include "samplers/guided.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>

#include "core/error.h"

namespace evoke {

namespace {

// What one level of the descent needs.
struct Descent {
  GuidedOptions options;
  Diffusion diffusion;
  std::optional<Critic> critic;
  Tensor units;
  std::vector<double> scales{};

  // σ of level k; 0 behind the last.
  double sigma(int64_t k) const { return k < static_cast<int64_t>(scales.size()) ? scales[static_cast<size_t>(k)] : 0.0; }
  Tensor to_code(const Tensor& u) const { return diffusion.mean + diffusion.deviation * u; }
  Tensor from_code(const Tensor& z) const { return (z - diffusion.mean) / diffusion.deviation; }

  // E[clean | u]; with the graph of it where u wants a gradient.
  Tensor denoised(const Tensor& u, double at) const {
    const c10::AutoGradMode with_gradient(u.requires_grad());
    const Bfloat16Scope rounded(in_bfloat16(options.precision, u.device()), u.device());
    return from_code(diffusion.denoise(to_code(u), at::full({u.size(0)}, at, u.options())).to(u.scalar_type()));
  }

  // ln h of each row's own unit, and its slope in u; `wanted` int64 [rows].
  Evaluation foretold(const Tensor& u, double at, const Tensor& wanted) const {
    Evaluation out;
    const Tensor point = u.detach().clone().requires_grad_();
    {
      const c10::AutoGradMode with_gradient(true);
      const Bfloat16Scope rounded(in_bfloat16(options.precision, u.device()), u.device());
      const Tensor score = critic->score(to_code(point), at::full({u.size(0)}, at, u.options())).gather(1, wanted.unsqueeze(1)).squeeze(1);
      out.gradient = torch::autograd::grad({score.sum()}, {point})[0];
      out.value = score.detach();
    }
    out.terms = {{"objective", out.value}, {"slope", row_norm(out.gradient)}};
    return out;
  }

  // The estimate x̂ moved along g, the target's gradient in whitened units.
  Tensor steered(const Tensor& estimate, double at, const Tensor& g) const {
    const double length = options.strength * at / std::sqrt(1 + at * at) * 0.1 * std::sqrt(static_cast<double>(estimate[0].numel()));
    Tensor out = estimate + g * broadcast_rows(length / row_norm(g).clamp_min(1e-30), g.dim());
    if (options.rescale && out.dim() > 2) out = out * broadcast_rows((1 / out.flatten(1).std(1)).clamp_max(1.0), out.dim());
    return out;
  }
};

Transition one_step(const Descent& d, const State& state, const Target& target, Stream& stream) {
  const int64_t k = stream.step();
  const double sigma = d.sigma(k), next = d.sigma(k + 1);
  const bool by_critic = d.critic && sigma >= d.options.critic_until;
  // Above guide_below the target is looked at only once, for the record.
  const bool steers = !by_critic && sigma < d.options.guide_below, through = steers && d.options.through_denoiser;
  const Tensor u = d.from_code(state.z), point = through ? u.detach().clone().requires_grad_() : u, reached = d.denoised(point, sigma);
  Tensor estimate = reached.detach();
  Evaluation at;
  if (by_critic) {
    at = d.foretold(u, sigma, d.units);
    estimate = estimate + d.options.critic_weight * sigma * sigma * at.gradient;
    at.gradient = at.gradient / d.diffusion.deviation;
  } else {
    if (steers || !state.at.value.defined()) at = target.evaluate(d.to_code(estimate), stream);
    if (steers) {
      Tensor g = at.gradient * d.diffusion.deviation;
      if (through) g = torch::autograd::grad({reached}, {point}, {g})[0];
      estimate = d.steered(estimate, sigma, g);
    }
    if (!at.value.defined()) at = state.at;
  }

  const double churn = d.options.ancestral ? std::sqrt(1 - (next * next) / (sigma * sigma)) : d.options.churn;
  Tensor moved = estimate;
  if (next > 0) {
    moved = moved + (next * std::sqrt(1 - churn * churn) / sigma) * (u - estimate);
    if (churn > 0) moved = moved + (next * churn) * stream.normal(u.sizes().slice(1));
  }
  Info info;
  const Tensor z = d.to_code(moved);
  info.moved = row_norm(z - state.z);
  return {{z, std::move(at), state.carry}, std::move(info)};
}

// Particles of [N,P,…] chosen by index [N,K]: [N,K,…].
Tensor chosen_particles(const Tensor& from, const Tensor& index) {
  std::vector<int64_t> one = index.sizes().vec(), all = from.sizes().vec();
  one.resize(all.size(), 1);
  all[1] = index.size(1);
  return from.gather(1, index.view(one).expand(all));
}

// One step of all particles of all chains. carry: "particles" u [N,P,…], "log_weights" [N,P].
Transition particle_step(const Descent& d, const State& state, const Target& target, Stream& stream) {
  const int64_t k = stream.step(), chains = state.z.size(0), particles = d.options.particles;
  const double sigma = d.sigma(k), next = d.sigma(k + 1);
  const Tensor wanted = d.units.repeat_interleave(particles);
  const auto apart = [&](const Tensor& rows) { return rows.view(state.carry.at("particles").sizes()); };
  const auto of_particles = [&](const Tensor& rows) { return rows.view({chains, particles}); };

  Tensor u = state.carry.at("particles"), weights = state.carry.at("log_weights");
  Evaluation at = d.foretold(u.flatten(0, 1), sigma, wanted);
  Tensor twist = of_particles(at.value), slope = apart(at.gradient), estimate = apart(d.denoised(u.flatten(0, 1), sigma));
  weights = weights + twist;

  // Systematic resampling (Kitagawa 1996) of the chains whose weights are worth fewer than half of their particles.
  const Tensor shares = weights.softmax(1), worth = 1 / shares.square().sum(1);
  const Tensor places = (at::arange(particles, weights.options()) + stream.uniform({1})) / static_cast<double>(particles);
  const Tensor drawn = at::searchsorted(shares.cumsum(1).contiguous(), places.contiguous()).clamp_max(particles - 1);
  const Tensor poor = (worth < 0.5 * static_cast<double>(particles)).unsqueeze(1);
  const Tensor index = at::where(poor, drawn, at::arange(particles, drawn.options()).expand_as(drawn));
  u = chosen_particles(u, index), slope = chosen_particles(slope, index), estimate = chosen_particles(estimate, index);
  twist = twist.gather(1, index);
  // A mean weight stays a mean weight, so that the sum over all levels is the normalizing constant.
  weights = at::where(poor, weights.logsumexp(1, true) - std::log(static_cast<double>(particles)), weights);

  Tensors carry = state.carry;
  const auto squared = [](const Tensor& t) { return t.flatten(2).square().sum(2); };
  Info info;
  if (next > 0) {
    const double keep = next * next / (sigma * sigma), variance = next * next * (1 - keep);
    const Tensor noise = stream.normal(u.sizes().slice(1)), steer = (1 - keep) * d.options.critic_weight * sigma * sigma * slope;
    const Tensor moved = (1 - keep) * estimate + keep * u + steer + std::sqrt(variance) * noise;
    weights = weights - twist + 0.5 * squared(noise) - squared(steer + std::sqrt(variance) * noise) / (2 * variance);
    carry["particles"] = moved;
    carry["log_weights"] = weights;
    const Tensor z = d.to_code(moved.select(1, 0));
    info.moved = row_norm(z - state.z);
    at.value = of_particles(at.value).logsumexp(1) - std::log(static_cast<double>(particles));
    at.gradient = Tensor();
    at.terms = {{"objective", at.value}};
    return {{z, std::move(at), std::move(carry)}, std::move(info)};
  }

  // The end: the estimates themselves, weighed by the target, and one of them by its weight.
  std::vector<Tensor> values;
  for (int64_t p = 0; p < particles; ++p) values.push_back(target.evaluate(d.to_code(estimate.select(1, p)), stream).value);
  const Tensor value = at::stack(values, 1);
  weights = weights - twist + value;
  const Tensor one = at::searchsorted(weights.softmax(1).cumsum(1).contiguous(), stream.uniform({1})).clamp_max(particles - 1);
  const Tensor z = d.to_code(chosen_particles(estimate, one).squeeze(1));
  info.moved = row_norm(z - state.z);
  at.value = value.gather(1, one).squeeze(1);
  at.gradient = Tensor();
  at.terms = {{"objective", at.value}};
  carry["particles"] = estimate;
  carry["log_weights"] = weights;
  return {{z, std::move(at), std::move(carry)}, std::move(info)};
}

}  // namespace

std::vector<double> noise_scales(double high, double low, double rho, int64_t count) {
  std::vector<double> out;
  const double from = std::pow(high, 1 / rho), to = std::pow(low, 1 / rho);
  for (int64_t k = 0; k < count; ++k)
    out.push_back(count == 1 ? high : std::pow(from + static_cast<double>(k) / static_cast<double>(count - 1) * (to - from), rho));
  return out;
}

Tensor critic_units(const Critic& critic, const Target& target, const Tensor& rows, int64_t count) {
  std::vector<int64_t> units;
  for (const Column& column : target.columns) {
    require(column.unit && column.unit->layer == critic.layer && column.unit->index < critic.units, Failure::usage, "guided: found '",
            column.name, "' and a critic of layer ", critic.layer, " with ", critic.units,
            " units; expected one of them, or take the critic out ([critic] weights = \"\"), and the target's gradient steers");
    units.push_back(column.unit->index);
  }
  const Tensor all = at::tensor(units, at::kLong);
  return rows.defined() ? all.to(rows.device()).index_select(0, rows) : all.slice(0, 0, 1).expand({count}).contiguous();
}

Sampler guided(const GuidedOptions& options, int64_t steps, const Prior& prior, const std::optional<Critic>& critic, const Tensor& units) {
  require(prior.diffusion.has_value(), Failure::usage, "guided: found ", prior.name.empty() ? "no prior" : "prior " + prior.name,
          ", expected one that knows all noise scales: [prior] kind = \"denoiser\" with weights trained over a range of them, or gaussian");
  Descent d{options, *prior.diffusion, critic, units};
  const double high = options.sigma_start > 0 ? options.sigma_start : options.sigma_high > 0 ? options.sigma_high : d.diffusion.sigma_high;
  const double low = std::max(options.sigma_low, d.diffusion.sigma_low);
  require(low < high && high <= d.diffusion.sigma_high, Failure::usage, "guided: found noise scales from ", high, " down to ", low,
          ", expected them downwards and within the prior's, ", d.diffusion.sigma_low, " to ", d.diffusion.sigma_high);
  d.scales = noise_scales(high, low, options.rho, steps);
  const bool particles = options.particles > 1;
  require(!particles || critic, Failure::usage, "guided: found ", options.particles,
          " particles and no critic, which they need as a twist; name one ([critic] weights), or set particles = 1");

  Sampler sampler{.name = "guided", .needs_exact_target = false, .init = {}, .step = {}};
  sampler.capturable = false;  // what a level does depends on its number
  sampler.init = [d, particles](const Tensor& z, const Target& target, Stream& stream) {
    require(!particles || target.comparable, Failure::usage, "guided: found particles on target ", target.name,
            ", whose values are drawn at random; leave the transform out, or set particles = 1");
    std::vector<int64_t> shape = z.sizes().slice(1).vec();
    if (particles) shape.insert(shape.begin(), d.options.particles);
    Tensor u = d.sigma(0) * stream.normal(shape);
    if (d.options.sigma_start > 0) u = u + (particles ? d.from_code(z).unsqueeze(1) : d.from_code(z));
    if (!particles) return State{d.to_code(u), {}, {}};
    return State{d.to_code(u.select(1, 0)), {}, {{"log_weights", at::zeros(u.sizes().slice(0, 2), u.options())}, {"particles", u}}};
  };
  sampler.step = [d, particles](const State& state, const Target& target, Stream& stream) {
    return particles ? particle_step(d, state, target, stream) : one_step(d, state, target, stream);
  };
  return sampler;
}

}  // namespace evoke
