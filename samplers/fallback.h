// Fallback: climb by the gradient; where it leads nowhere, take the best of a random search and climb from there.
#pragma once
#include <ATen/ops/full_like.h>
#include <ATen/ops/stack.h>

#include "samplers/random_search.h"

namespace evoke {

struct FallbackOptions {
  double vanished = 1e-3;
  int64_t references = 8;
  int64_t patience = 20;
  double rise = 1e-3;
  int64_t candidates = 64;
  int64_t parts = 8;
};
inline void describe(Fields& f, FallbackOptions& o) {
  f("vanished", o.vanished, "share", "a gradient has vanished at or below this share of the median norm at random codes", share);
  f("references", o.references, "codes", "random codes for which each row's typical gradient is measured at the start", {1, 1024});
  f("patience", o.patience, "steps", "a row has stopped rising after so many without a rise; also how often rows are looked at", {1, 1e9});
  f("rise", o.rise, "objective units", "how much higher counts as a rise", non_negative);
  f("candidates", o.candidates, "codes", "random codes that each step scores for all rows", {1, 65536});
  f("parts", o.parts, "", "into how many the candidates are dealt by chain number, so that chains of one unit start apart", {1, 65536});
}

/// Runs the kernel `climb` and, beside it, a random search: each step scores `candidates` codes of the proposal with target.scan, and each
/// row keeps the best of its own unit (column rows[n] of scan; undefined: the first) among those dealt to it (index ≡ chain mod parts).
/// Every `patience` steps a row is handed over, once at most, when
///     its gradient has vanished: |g| ≤ vanished · (median of |g| at `references` random codes of its own), g being the objective's own
///     gradient (terms["slope"], which posterior gives), because the prior's never vanishes; or
///     it has stopped rising: its objective rose by no more than `rise` in the last `patience` steps,
/// and the search knows a better code: one whose score beats the best the row has had by more than `rise`. So a row that stopped because it
/// has arrived keeps its code. A row handed over takes that code, its climb is initialized there, and goes on from it: the polish.
/// Rows are compared by terms["objective"], which is what scan scores (by value where a target gives no terms). Nothing waits for the
/// device, so the search costs its passes whether it is needed or not. Meant for kernels that climb, whose carry has a row for each chain
/// [N,…]. Not for CUDA graphs: a step at which rows may be handed over does more than another. carry: the climb's own, and "searched" int64
/// [N] (the step at which the row was handed over, or -1; the caller announces it), "search_value" [N], "search_code" [N,…], "risen_value"
/// [N], "risen_step" int64 [N], "reference" [N]. Throws Failure::usage when there is no proposal, when the target cannot scan, or when a
/// row's score depends on its batch.
inline Sampler fallback(const FallbackOptions& options, Sampler climb, Proposal propose, Tensor rows = {}) {
  require(static_cast<bool>(propose), Failure::usage,
          "fallback: found nothing to draw codes from; add a [prior] that can draw (box, gaussian, or a denoiser over a range of σ)");
  Sampler sampler{.name = "fallback(" + climb.name + ")", .needs_exact_target = climb.needs_exact_target, .init = {}, .step = {}};
  sampler.capturable = false;
  const auto objective = [](const Evaluation& at) { return at.terms.contains("objective") ? at.terms.at("objective") : at.value; };
  const auto slope = [](const Evaluation& at) { return at.terms.contains("slope") ? at.terms.at("slope") : row_norm(at.gradient); };

  sampler.init = [options, climb, propose, objective, slope](const Tensor& z, const Target& target, Stream& stream) {
    require_search(target, "fallback");
    State state = climb.init(z, target, stream);
    std::vector<Tensor> norms;
    for (int64_t i = 0; i < options.references; ++i) norms.push_back(slope(target.evaluate(propose(stream), stream)));
    const Tensor score = objective(state.at), never = at::full_like(score, -1, score.options().dtype(at::kLong));
    state.carry["reference"] = std::get<0>(at::stack(norms).median(0));
    state.carry["searched"] = never;
    state.carry["search_value"] = at::full_like(score, -std::numeric_limits<float>::infinity());
    state.carry["search_code"] = z;
    state.carry["risen_value"] = score;
    state.carry["risen_step"] = never;
    return state;
  };

  sampler.step = [options, climb, propose, rows, objective, slope](const State& before, const Target& target, Stream& stream) {
    // Ours is kept apart from the climb's carry.
    State state = before;
    Tensors ours;
    for (const char* name : {"reference", "searched", "search_value", "search_code", "risen_value", "risen_step"})
      ours.insert(state.carry.extract(name));
    const int64_t step = stream.step();
    Tensor &searched = ours["searched"], &risen_value = ours["risen_value"], &risen_step = ours["risen_step"];
    Tensor &search_value = ours["search_value"], &search_code = ours["search_code"];

    // Hand over: the climb begins anew at the code found, in the rows that need it.
    if (step > 0 && step % options.patience == 0) {
      const Tensor vanished = slope(state.at) <= options.vanished * ours["reference"];
      const Tensor stopped = risen_step <= step - 1 - options.patience;
      const Tensor handed = (vanished | stopped) & (searched < 0) & (search_value > risen_value + options.rise);
      const State fresh = climb.init(choose_rows(handed, search_code, state.z), target, stream);
      const auto mix = [&](Tensors& into, const Tensors& from) {
        for (auto& [name, tensor] : into) tensor = choose_rows(handed, from.at(name), tensor);
      };
      state.z = fresh.z;
      state.at.value = choose_rows(handed, fresh.at.value, state.at.value);
      state.at.gradient = choose_rows(handed, fresh.at.gradient, state.at.gradient);
      mix(state.at.terms, fresh.at.terms);
      mix(state.carry, fresh.carry);
      searched = searched.masked_fill(handed, step);
      risen_value = at::where(handed, objective(state.at), risen_value);
      risen_step = risen_step.masked_fill(handed, step - 1);
    }

    Transition next = climb.step(state, target, stream);

    // Look at this step's candidates: each row at its unit's column, and at those dealt to its chain.
    Stream draws = candidate_stream(stream.seed(), step * options.candidates, options.candidates, state.z.device());
    const Tensor codes = propose(draws);
    Tensor scores = target.scan(codes, draws);
    scores = rows.defined() ? scores.index_select(1, rows) : scores.select(1, 0).unsqueeze(1).expand({-1, searched.size(0)});
    const Tensor dealt = (draws.chains().unsqueeze(1) - stream.chains().unsqueeze(0)).remainder(options.parts) == 0;
    scores = at::where(dealt & scores.isfinite(), scores, -std::numeric_limits<double>::infinity());
    const auto [best, which] = scores.max(0);
    const Tensor better = best > search_value;
    search_value = at::where(better, best, search_value);
    search_code = choose_rows(better, codes.index_select(0, which), search_code);

    const Tensor score = objective(next.state.at), rose = score > risen_value + options.rise;
    risen_value = at::where(rose, score, risen_value);
    risen_step = risen_step.masked_fill(rose, step);
    next.state.carry.merge(ours);
    return next;
  };
  return sampler;
}

}  // namespace evoke
