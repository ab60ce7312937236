// The kernels by name.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "core/nouns/nouns.h"
#include "core/recipes/menu.h"
#include "samplers/random_search.h"

namespace evoke {

/// What a kernel needs to know of the run it will serve.
struct SamplerContext {
  int64_t steps = 200;  // of the run, for schedules
  Tensor rows;          // int64 [N]: which column of target.scan each row climbs; undefined: all rows the first
  Proposal proposal;    // where random codes come from; empty: the prior's draw
};

/// Every kind of sampler with its options as --help prints them.
std::vector<MenuEntry> sampler_menu();

/// The kernel that table [sampler] describes: kind = ascent, dgn_am, langevin, ppgn, random_search or fallback, "langevin" where none is
/// named. fallback reads the kernel that climbs from table [climb] (kind ascent where none is named; ascent, dgn_am, langevin or ppgn).
/// For kinds that bring the prior (see sampler_brings_prior) the target must have been built without it.
/// Throws Failure::input for an unknown kind or option, Failure::usage for a kernel that lacks what it needs: random codes, a prior, a
/// range, a target that scans.
Sampler make_sampler(Recipe&, const Target&, const std::optional<Prior>&, const SamplerContext& = {});

/// Does the recipe's sampler (of a fallback: the kernel that climbs) move by the prior itself, as dgn_am and ppgn do? Throws for an unknown
/// kind.
bool sampler_brings_prior(Recipe&);

/// The codes and values [N] to draw and report: the best that the kernel kept, or where the chains are now.
const Tensor& chosen_codes(const State&);
const Tensor& chosen_values(const State&);

}  // namespace evoke
