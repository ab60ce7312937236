// The kernels by name.
#pragma once
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "core/nouns/nouns.h"
#include "core/recipes/menu.h"
#include "samplers/operators.h"
#include "samplers/random_search.h"

namespace evoke {

/// What a recipe's sampler can and asks of its run, known before there is a target.
struct SamplerPlan {
  bool brings_prior = false;    // it moves by the prior itself: give it a target without one
  bool needs_proposal = false;  // it draws codes: from SamplerNeeds::proposal, or by a prior that can draw
  bool starts_at_codes = true;  // its rows are chains that go on from starting codes; false: they are the best `chains` codes of each unit,
                                // best first, which it finds by itself, and the starting codes (zeros, say) only fill the rows
  bool needs_start = true;      // false: it begins by itself, and the starting codes only fill the rows
  std::string precision = "float32";           // of the target's gradient: PosteriorOptions::bfloat16 is in_bfloat16(precision, device)
  int64_t chains = 8;                          // rows of each unit: what the run asks for, or what the sampler's options say
  int64_t steps = 200;                         // of the run, likewise
  bool critic = false;                         // a critic is there
  int64_t available = 0;                       // how many different codes there are to draw (Prior::count); 0: no end
  double sigma_low = 0.01, sigma_high = 20.0;  // the noise scales that the prior knows (Diffusion)
  int64_t images_per_row = 1, images_per_step = 0;  // the classifier looks at images_per_row · rows + images_per_step pictures a step
  int64_t most_images = std::numeric_limits<int64_t>::max();  // and at so many in all
  int64_t looks = -1;                                         // at so many of the steps; -1: at all of them
};

/// What a sampler is given by the run it will serve.
struct SamplerNeeds {
  int64_t chains = 8;   // rows of each unit
  int64_t steps = 200;  // of the run, for schedules
  Tensor rows;          // int64 [N]: which column of target.scan each row climbs; undefined: all rows the first
  Proposal proposal;    // where random codes come from; empty: the prior's draw
  std::optional<Critic> critic{};
  Canvas canvas{};  // what z is of an image, for operators and octaves
};

/// Every kind of sampler with its options as --help prints them.
std::vector<MenuEntry> sampler_menu();

/// What the sampler of table [sampler] asks of a run that has so many chains of each unit and so many steps, unless the sampler's own
/// options say otherwise: random_search keeps as many codes of each unit as there are chains where it has no `keep`, and takes the steps
/// that its draws need. Throws Failure::input for an unknown kind, and for a search of fewer draws than it keeps.
SamplerPlan sampler_plan(Recipe&, int64_t chains, int64_t steps, const std::optional<Prior>& prior = {}, bool critic = false);

/// The kernel that table [sampler] describes: kind = ascent, dgn_am, langevin, ppgn, guided, random_search or fallback, "langevin" where
/// none is named. ascent also reads the operators of [[sampler.after]] and [[sampler.gradient]]. fallback reads the kernel that climbs from
/// table [climb] (kind ascent where none is named; ascent, dgn_am, langevin or ppgn). For kinds that bring the prior (see SamplerPlan) the
/// target must have been built without it. Throws Failure::input for an unknown kind or option, Failure::usage for a kernel that lacks what
/// it needs: random codes, a prior, a range, a target whose codes can be scored one by one.
Sampler make_sampler(Recipe&, const Target&, const std::optional<Prior>&, const SamplerNeeds& = {});

/// The codes and values [N] to draw and report: the best that the kernel kept, or where the chains are now.
const Tensor& chosen_codes(const State&);
const Tensor& chosen_values(const State&);

}  // namespace evoke
