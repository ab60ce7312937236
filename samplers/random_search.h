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

#include "core/error.h"
#include "core/recipes/recipe.h"
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

/// The step number under which searches draw: no chain's step ever has it, so a candidate shares no number with a chain.
inline constexpr int64_t search_step = 0xFFFFFFFE;

/// The stream of candidates first … first + rows - 1: chain number = the index of the draw. Which batch it came in does not matter.
inline Stream candidate_stream(uint64_t seed, int64_t first, int64_t rows, at::Device device) {
  return Stream::range(seed, first, rows, device, search_step);
}

/// Throws Failure::usage unless a search can score codes of a target: every unit of one code, whatever the other codes of its batch.
inline void require_search(const Target& target, const char* where) {
  require(static_cast<bool>(target.scan) && !target.columns.empty(), Failure::usage, where, ": target ", target.name,
          " cannot score several units of one code; expected a target with scan and units");
  require(target.rows_independent, Failure::usage, where, ": in target ", target.name,
          " a code's score depends on the other codes of its batch (interpolation, diversity), so a search would rank codes by where they "
          "stand in it; take a sampler that follows the gradient, or another objective");
}

/// How many steps a search takes: ⌈draws / batch⌉. The run must have as many.
inline int64_t search_steps(const RandomSearchOptions& options) {
  const int64_t batch = std::min(options.batch, options.draws);
  return (options.draws + batch - 1) / batch;
}

/// How many draws a first look in bfloat16 goes on with one bar and one reach; see random_search.
inline constexpr int64_t look_block = 256;

/// Merges scores [M,U] of codes [M,…], whose draws have the numbers `draws` [M], into the best k of each unit: `into` has the rows and the
/// carry "draw" of random_search. Of equal scores the earlier draw stays before the later; a score that is not finite is never kept.
inline void merge_best(State& into, int64_t k, const Tensor& codes, const Tensor& scores, const Tensor& draws) {
  const int64_t units = into.z.size(0) / k;
  const Tensor found = at::where(scores.isfinite(), scores, -std::numeric_limits<double>::infinity()).t().to(into.at.value.scalar_type());

  // Kept ones stand before new ones, which stand in the order of their draw: a stable sort prefers the earlier of equals.
  const Tensor pool = at::cat({into.at.value.view({units, k}), found}, 1);
  auto [value, place] = at::sort(pool, /*stable=*/std::optional<bool>(true), /*dim=*/1, /*descending=*/true);
  place = place.slice(1, 0, k);

  // A place below k is a row of the state; from k on it is a candidate.
  const Tensor offset = at::arange(units, place.options()).unsqueeze(1) * k;
  const Tensor source = at::where(place < k, place + offset, place - k + units * k).flatten();
  into.z = at::cat({into.z, codes}).index_select(0, source);
  into.at.value = value.slice(1, 0, k).flatten();
  into.carry["draw"] = at::cat({into.carry.at("draw"), draws}).index_select(0, source);
}

/// Looks at codes [M,…] in bfloat16 first, and merges into the best k of each unit what is scored again in float32. `stream` is that of the
/// codes, as the proposal left it, so that both looks draw the same transforms. Waits for the device once in each block of draws.
inline void merge_looked_twice(State& into, int64_t k, const Target& target, const Tensor& codes, const Stream& stream, int64_t first) {
  const auto scan = [&](const Tensor& z, Stream at) { return target.scan(z, at).to(into.at.value.scalar_type()); };
  const Tensor rough = [&] {
    const Bfloat16Scope rounded(true, codes.device());
    return scan(codes, stream);
  }();
  const int64_t units = into.z.size(0) / k, count = codes.size(0);
  Tensor &bar = into.carry["bar"], &reach = into.carry["reach"], &error = into.carry["error"];
  const auto of_units = [&](const Tensor& t) { return t.view({units, k}).select(1, 0); };
  const auto of_rows = [&](const Tensor& t) { return t.repeat_interleave(k); };

  for (int64_t begin = 0, end; begin < count; begin = end) {
    end = std::min(count, begin + look_block - (first + begin) % look_block);
    if ((first + begin) % look_block == 0) {
      // A block begins: what the last one found tells how far a first look may be off.
      reach = at::where(error < 0, reach, at::where(reach.isinf(), 2 * error, at::maximum(2 * error, 0.9 * reach)));
      error = at::full_like(error, -1);
      const Tensor kept = into.at.value.view({units, k}), last = kept.select(1, -1);
      bar = of_rows(at::where(kept.select(1, 0) == last, last, last - of_units(reach)));
    }
    // Written so that a score that is no number is looked at again.
    const Tensor part = rough.slice(0, begin, end), near = (part <= of_units(bar)).logical_not();
    const Tensor rows = near.any(1).nonzero().squeeze(1), there = rows + begin;
    if (rows.size(0) == 0) continue;
    const Tensor again = codes.index_select(0, there), draws = stream.chains().index_select(0, there);
    const Tensor exact = scan(again, stream.of_chains(draws)), looked = near.index_select(0, rows);
    const Tensor off = (exact - part.index_select(0, rows)).abs().nan_to_num(0.0, 0.0, 0.0).masked_fill(looked.logical_not(), -1.0);
    error = at::maximum(error, of_rows(off.amax(0)));
    merge_best(into, k, again, exact, draws);
  }
}

/// Step t draws candidates t·batch … from the proposal, scores them with target.scan [M,U] and merges them into the best k of each unit:
/// memory does not grow with the number of draws. The state's rows are units × k, row = unit·k + rank, best first; at.value [U·k] and
/// terms["objective"] hold the scores, at.gradient stays undefined; carry: "draw" int64 [U·k], the index of the draw, -1 where nothing was
/// found yet (the value is -∞ there, and the code the starting one).
///
/// Where the first look is in bfloat16, a code is scored again in float32 when it comes within reach of the k-th best of any unit, or, on a
/// plateau where the best and the k-th best are equal, looks better than it. Only what is scored again is kept, so the scores are
/// float32's; a code that rounding moved by more than `reach` may be missed. reach is twice the largest difference that scoring again has
/// found of late for that unit, +∞ before the first. Both the bar and the reach change only every look_block draws, so what is kept does
/// not depend on `batch`. carry: "bar", "reach" and "error" (the largest difference in this block, -1: none yet), one number of each unit,
/// k times.
///
/// Of equal scores the earlier draw is kept, so the result does not depend on `batch`, as far as the networks' own results do not. A score
/// that is not finite is never kept. Steps after the last draw change nothing.
/// Throws Failure::usage in init when the rows are not units × k, when the target cannot scan, when a row's score depends on its batch, or
/// when there is no proposal.
inline Sampler random_search(const RandomSearchOptions& options, Proposal propose) {
  require(static_cast<bool>(propose), Failure::usage,
          "random_search: found nothing to draw codes from; add a [prior] that can draw (box, gaussian, or a denoiser over a range of σ)");
  Sampler sampler{.name = "random_search", .needs_exact_target = false, .init = {}, .step = {}};
  // A GPU would wait for the host at every step.
  const auto rough = [options](const Tensor& z) {
    return (options.precision != "auto" || z.is_cpu()) && in_bfloat16(options.precision, z.device());
  };
  sampler.capturable = options.precision != "bfloat16";
  sampler.init = [options, rough](const Tensor& z, const Target& target, Stream&) {
    const auto units = static_cast<int64_t>(target.columns.size());
    require_search(target, "random_search");
    require(z.size(0) == units * options.keep, Failure::usage, "random_search: found ", z.size(0), " rows, expected ", units,
            " units × keep ", options.keep, " = ", units * options.keep);
    State state{z, {}, {}};
    state.at.value = at::full({z.size(0)}, -std::numeric_limits<float>::infinity(), z.options());
    state.at.terms["objective"] = state.at.value;
    state.carry["draw"] = at::full({z.size(0)}, -1, z.options().dtype(at::kLong));
    if (rough(z)) {
      state.carry["bar"] = state.at.value;
      state.carry["reach"] = at::full_like(state.at.value, std::numeric_limits<float>::infinity());
      state.carry["error"] = at::full_like(state.at.value, -1);
    }
    return state;
  };
  sampler.step = [options, rough, propose = std::move(propose)](const State& state, const Target& target, Stream& stream) {
    // The last batch is cut where the host knows the step; a CUDA graph draws it whole, and what is beyond the last draw is not kept.
    const int64_t batch = std::min(options.batch, options.draws);
    const int64_t count = stream.knows_step() ? std::min(batch, options.draws - stream.step() * batch) : batch;
    if (count <= 0) return Transition{state, {}};
    Stream draws(stream.seed(), stream.step_tensor() * batch + at::arange(count, stream.chains().options()), search_step);
    const Tensor codes = propose(draws);
    State next = state;
    if (rough(state.z)) {
      merge_looked_twice(next, options.keep, target, codes, draws, stream.step() * batch);
    } else {
      const Tensor chains = draws.chains();
      Tensor scores = target.scan(codes, draws);
      if (!stream.knows_step())
        scores = scores.masked_fill((chains >= options.draws).unsqueeze(1), -std::numeric_limits<double>::infinity());
      merge_best(next, options.keep, codes, scores, chains);
    }
    next.at.terms["objective"] = next.at.value;
    return Transition{std::move(next), {}};
  };
  return sampler;
}

}  // namespace evoke
