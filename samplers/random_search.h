// Random search: draw codes, score every unit of each, keep the best k of every unit.
#pragma once
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/sort.h>
#include <ATen/ops/where.h>

#include <algorithm>
#include <limits>

#include "core/recipes/recipe.h"
#include "core/error.h"
#include "samplers/step.h"

namespace evoke {

/// Draws a batch of codes, one a chain of the stream: [M,latent…]. A prior's `draw` is one.
using Proposal = std::function<Tensor(Stream&)>;

struct RandomSearchOptions {
  int64_t draws = 500000;
  int64_t batch = 64;
  int64_t keep = 8;
  std::string precision = "auto";
};
inline void describe(Fields& f, RandomSearchOptions& o) {
  f("draws", o.draws, "codes", "how many are drawn in all", {1, 4294967296.0});
  f("batch", o.batch, "codes", "how many are scored together; the codes drawn do not depend on it", {1, 65536});
  f("keep", o.keep, "codes", "how many of the best are kept for each unit", {1, 100000});
  f.choice(
      "precision", o.precision,
      "of the first look at a code; after one in bfloat16, what may be among the best is scored again in float32; auto: bfloat16 on a CPU "
      "that multiplies it itself, where it is about twice as fast, float32 otherwise",
      {"auto", "float32", "bfloat16"});
}

/// Scores [M,U] of codes whose first look is in bfloat16. What comes within reach of the k-th best of any unit (`kept` [U,k], best first)
/// is scored again in float32, on a plateau, where the best and the k-th best are equal, what looks better than it. The rest, -∞, would not
/// have been kept, unless rounding moved it further than `reach` [U]: twice the largest difference that rescoring has found of late for
/// that unit, +∞ before the first. Waits for the device once.
inline Tensor scores_in_reach(const Target& target, const Tensor& codes, const Stream& draws, const Tensor& kept, Tensor& reach) {
  const auto scan = [&](const Tensor& z, const Tensor& chains) {
    Stream stream(draws.seed(), chains, draws.step());
    return target.scan(z, stream).to(kept.scalar_type());
  };
  const Tensor rough = [&] {
    const Bfloat16Scope rounded(true, codes.device());
    return scan(codes, draws.chains());
  }();
  // Written so that a score that is no number is looked at again.
  const Tensor last = kept.select(1, -1), bar = at::where(kept.select(1, 0) == last, last, last - reach);
  const Tensor near = (rough <= bar).logical_not(), rows = near.any(1).nonzero().squeeze(1);
  Tensor out = at::full_like(rough, -std::numeric_limits<double>::infinity());
  if (rows.size(0) == 0) return out;
  const Tensor exact = scan(codes.index_select(0, rows), draws.chains().index_select(0, rows));
  const Tensor looked = near.index_select(0, rows), difference = (exact - rough.index_select(0, rows)).abs();
  const Tensor largest = 2 * difference.nan_to_num(0.0, 0.0, 0.0).masked_fill(looked.logical_not(), 0.0).amax(0);
  reach = at::where(looked.any(0), at::where(reach.isinf(), largest, at::maximum(largest, 0.9 * reach)), reach);
  return out.index_copy(0, rows, exact);
}

/// The step number under which searches draw: no chain's step ever has it, so a candidate shares no number with a chain.
inline constexpr int64_t search_step = 0xFFFFFFFE;

/// The stream of candidates first … first + rows - 1: chain number = the index of the draw. Which batch it came in does not matter.
inline Stream candidate_stream(uint64_t seed, int64_t first, int64_t rows, at::Device device) {
  return Stream::range(seed, first, rows, device, search_step);
}

/// How many steps a search takes: ⌈draws / batch⌉. The run must have as many.
inline int64_t search_steps(const RandomSearchOptions& options) { return (options.draws + options.batch - 1) / options.batch; }

/// Step t draws candidates t·batch … from the proposal, scores them with target.scan [M,U] and merges them into the best k of each unit:
/// memory does not grow with the number of draws. The state's rows are units × k, row = unit·k + rank, best first; at.value [U·k] holds the
/// scores, at.gradient stays undefined; carry: "draw" int64 [U·k], the index of the draw, -1 where nothing was found yet (the value is
/// -∞ there, and the code the starting one), and "reach" [U·k] of scores_in_reach where the first look is in bfloat16.
/// Of equal scores the earlier draw is kept, so the result does not depend on `batch`, as far as the networks' own results do not. A score
/// that is not finite is never kept. Steps after the last draw change nothing.
/// Throws Failure::usage in init when the rows are not units × k, when the target cannot scan, or when there is no proposal.
inline Sampler random_search(const RandomSearchOptions& options, Proposal propose) {
  require(static_cast<bool>(propose), Failure::usage,
          "random_search: found nothing to draw codes from; add a [prior] that can draw (box, gaussian, or a denoiser over a range of σ)");
  Sampler sampler{.name = "random_search", .needs_exact_target = false, .init = {}, .step = {}};
  // A GPU would wait for the host at every step.
  const auto rough = [options](const Tensor& z) {
    return (options.precision != "auto" || z.is_cpu()) && in_bfloat16(options.precision, z.device());
  };
  sampler.init = [options, rough](const Tensor& z, const Target& target, Stream&) {
    const auto units = static_cast<int64_t>(target.columns.size());
    require(static_cast<bool>(target.scan) && units > 0, Failure::usage, "random_search: target ", target.name,
            " cannot score several units of one code; expected a target with scan and columns");
    require(z.size(0) == units * options.keep, Failure::usage, "random_search: found ", z.size(0), " rows, expected ", units,
            " units × keep ", options.keep, " = ", units * options.keep);
    State state{z, {}, {}};
    state.at.value = at::full({z.size(0)}, -std::numeric_limits<float>::infinity(), z.options());
    state.carry["draw"] = at::full({z.size(0)}, -1, z.options().dtype(at::kLong));
    if (rough(z)) state.carry["reach"] = at::full_like(state.at.value, std::numeric_limits<float>::infinity());
    return state;
  };
  sampler.step = [options, rough, propose = std::move(propose)](const State& state, const Target& target, Stream& stream) {
    const int64_t first = stream.step() * options.batch, candidates = std::min(options.batch, options.draws - first);
    if (candidates <= 0) return Transition{state, {}};
    Stream draws = candidate_stream(stream.seed(), first, candidates, state.z.device());
    const Tensor codes = propose(draws);
    const int64_t k = options.keep, units = state.z.size(0) / k;
    Tensor scores, reach;
    if (rough(state.z)) {
      reach = state.carry.at("reach").view({units, k}).select(1, 0);
      scores = scores_in_reach(target, codes, draws, state.at.value.view({units, k}), reach);
    } else {
      scores = target.scan(codes, draws);
    }
    scores = at::where(scores.isfinite(), scores, -std::numeric_limits<double>::infinity());

    // Kept ones stand before new ones, which stand in the order of their draw: a stable sort prefers the earlier of equals.
    const Tensor pool = at::cat({state.at.value.view({units, k}), scores.t().to(state.at.value.scalar_type())}, 1);
    auto [value, place] = at::sort(pool, /*stable=*/std::optional<bool>(true), /*dim=*/1, /*descending=*/true);
    place = place.slice(1, 0, k);

    // A place below k is a row of the state; from k on it is a candidate.
    const Tensor offset = at::arange(units, place.options()).unsqueeze(1) * k;
    const Tensor source = at::where(place < k, place + offset, place - k + units * k).flatten();
    State next;
    next.z = at::cat({state.z, codes}).index_select(0, source);
    next.at.value = value.slice(1, 0, k).flatten();
    next.carry["draw"] = at::cat({state.carry.at("draw"), draws.chains()}).index_select(0, source);
    if (reach.defined()) next.carry["reach"] = reach.repeat_interleave(k);
    return Transition{std::move(next), {}};
  };
  return sampler;
}

}  // namespace evoke
