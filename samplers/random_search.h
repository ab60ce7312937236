// Random search: draw codes, score every unit of each, keep the best k of every unit.
#pragma once
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/sort.h>
#include <ATen/ops/where.h>

#include <algorithm>
#include <limits>

#include "core/config.h"
#include "core/error.h"
#include "samplers/step.h"

namespace evoke {

/// Draws a batch of codes, one a chain of the stream: [M,latent…]. A prior's `draw` is one.
using Proposal = std::function<Tensor(Stream&)>;

struct RandomSearchOptions {
  int64_t draws = 500000;
  int64_t batch = 64;
  int64_t keep = 8;
};
inline void describe(Fields& f, RandomSearchOptions& o) {
  f("draws", o.draws, "codes", "how many are drawn in all", {1, 4294967296.0});
  f("batch", o.batch, "codes", "how many are scored together; the codes drawn do not depend on it", {1, 65536});
  f("keep", o.keep, "codes", "how many of the best are kept for each unit", {1, 100000});
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
/// -∞ there, and the code the starting one).
/// Of equal scores the earlier draw is kept, so the result does not depend on `batch`, as far as the networks' own results do not. A score
/// that is not finite is never kept. Steps after the last draw change nothing.
/// Throws Failure::usage in init when the rows are not units × k, when the target cannot scan, or when there is no proposal.
inline Sampler random_search(const RandomSearchOptions& options, Proposal propose) {
  require(static_cast<bool>(propose), Failure::usage,
          "random_search: found nothing to draw codes from; add a [prior] that can draw (box, gaussian, or a denoiser over a range of σ)");
  Sampler sampler{.name = "random_search", .needs_exact_target = false, .init = {}, .step = {}};
  sampler.init = [options](const Tensor& z, const Target& target, Stream&) {
    const auto units = static_cast<int64_t>(target.units.size());
    require(static_cast<bool>(target.scan) && units > 0, Failure::usage, "random_search: target ", target.name,
            " cannot score several units of one code; expected a target with scan and units");
    require(z.size(0) == units * options.keep, Failure::usage, "random_search: found ", z.size(0), " rows, expected ", units,
            " units × keep ", options.keep, " = ", units * options.keep);
    State state{z, {}, {}};
    state.at.value = at::full({z.size(0)}, -std::numeric_limits<float>::infinity(), z.options());
    state.carry["draw"] = at::full({z.size(0)}, -1, z.options().dtype(at::kLong));
    return state;
  };
  sampler.step = [options, propose = std::move(propose)](const State& state, const Target& target, Stream& stream) {
    const int64_t first = stream.step() * options.batch, candidates = std::min(options.batch, options.draws - first);
    if (candidates <= 0) return Transition{state, {}};
    Stream draws = candidate_stream(stream.seed(), first, candidates, state.z.device());
    const Tensor codes = propose(draws);
    Tensor scores = target.scan(codes, draws);
    scores = at::where(scores.isfinite(), scores, -std::numeric_limits<double>::infinity());

    // Kept ones stand before new ones, which stand in the order of their draw: a stable sort prefers the earlier of equals.
    const int64_t k = options.keep, units = state.z.size(0) / k;
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
    return Transition{std::move(next), {}};
  };
  return sampler;
}

}  // namespace evoke
