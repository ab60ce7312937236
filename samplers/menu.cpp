#include "samplers/menu.h"

#include <algorithm>

#include "core/error.h"
#include "samplers/ascent.h"
#include "samplers/dgn_am.h"
#include "samplers/fallback.h"
#include "samplers/guided.h"
#include "samplers/langevin.h"
#include "samplers/octaves.h"
#include "samplers/operators.h"
#include "samplers/ppgn.h"

namespace evoke {

namespace {

// Everything that a row of the table may build from.
struct Order {
  Recipe& recipe;
  std::string table;
  const Target& target;
  const std::optional<Prior>& prior;
  const SamplerNeeds& needs;

  Prior prior_or_none() const { return prior.value_or(Prior{}); }
  Proposal proposal() const { return needs.proposal ? needs.proposal : prior_or_none().draw; }
};

// What is known of a kind before it is made.
struct Traits {
  void (*plan)(SamplerPlan&, Recipe&, const std::string& table) = nullptr;  // what is not as SamplerPlan has it by default
  bool climbs = true;                                                       // by the gradient alone: may stand in [climb]
};
using Samplers = Menu<Sampler, Order, Traits>;

Sampler make_of(const Order&);
SamplerPlan plan_of(SamplerPlan, Recipe&, const std::string& table);

// ---- What each kind makes, and asks for ------------------------------------------------------------------------------------------------

template <class Options, bool brings_prior>
void plan_climb(SamplerPlan& plan, Recipe& recipe, const std::string& table) {
  plan.precision = recipe.read<Options>(table).precision;
  plan.brings_prior = brings_prior;
}

Sampler make_guided(const GuidedOptions& options, const Order& order) {
  const auto& [critic, rows] = std::tie(order.needs.critic, order.needs.rows);
  const int64_t count = rows.defined() ? rows.size(0) : order.needs.chains;
  return guided(options, order.needs.steps, order.prior_or_none(), critic,
                critic ? critic_units(*critic, order.target, rows, count) : Tensor());
}

void plan_guided(SamplerPlan& plan, Recipe& recipe, const std::string& table) {
  const auto options = recipe.read<GuidedOptions>(table);
  plan.precision = options.precision;
  plan.brings_prior = true;
  plan.needs_start = options.sigma_start > 0;
  plan.images_per_row = options.particles;
  const double from = options.sigma_start > 0 ? options.sigma_start : options.sigma_high > 0 ? options.sigma_high : plan.sigma_high;
  const std::vector<double> scales = noise_scales(from, std::max(options.sigma_low, plan.sigma_low), options.rho, plan.steps);
  const double below = plan.critic ? std::min(options.critic_until, options.guide_below) : options.guide_below;
  plan.looks = std::count_if(scales.begin(), scales.end(), [&](double sigma) { return sigma < below; });
  // Where neither the target nor a critic steers at first, the target is looked at once, for the record.
  if (!scales.empty() && scales[0] >= below && !(plan.critic && scales[0] >= options.critic_until)) ++plan.looks;
  if (options.particles > 1) plan.looks = 1;
}

Sampler make_ascent(const AscentOptions& options, const Order& order) {
  const Canvas& canvas = order.needs.canvas;
  const AscentOperators operators{make_operators(order.recipe, order.table + ".gradient", canvas),
                                  make_operators(order.recipe, order.table + ".after", canvas), canvas};
  Sampler climb = ascent(options, order.prior_or_none(), operators);
  if (options.octaves == 1) return climb;
  order.recipe.about(order.table, {"octaves"}, [&] {
    require(canvas.pixels, Failure::usage, "found ", options.octaves,
            " octaves of images, where z is none; take [generator] kind = \"pixel\"");
    require(order.table == "sampler", Failure::usage, "found ", options.octaves,
            " octaves of a climb that may begin anew elsewhere, expected 1");
    require(!order.prior_or_none().low.defined(), Failure::usage, "found ", options.octaves,
            " octaves beside a prior that keeps images in a range, expected 1; take the operator range");
    require(options.octaves <= order.needs.steps, Failure::usage, "found ", options.octaves, " octaves for ", order.needs.steps,
            " steps, expected at least a step each");
    for (const Operator& one : operators.after)
      require(one.any_size, Failure::usage, "found octaves beside the operator ", one.name,
              ", whose image is the start's; take one of them");
  });
  return octaves(std::move(climb), options.octaves, options.octave_scale, order.needs.steps);
}

Sampler make_dgn_am(DgnAmOptions options, const Order& order) {
  options.steps = order.needs.steps;
  return dgn_am(options, order.prior_or_none());
}

// available: how many different codes there are to draw; 0: no end.
RandomSearchOptions search_options(Recipe& recipe, int64_t chains, int64_t available) {
  RandomSearchOptions options;
  options.keep = chains;
  options = recipe.read<RandomSearchOptions>("sampler", options);
  if (available > 0) options.draws = std::min(options.draws, available);
  require(options.draws >= options.keep, Failure::input, "[sampler] draws: found ", options.draws,
          ", expected at least keep = ", options.keep);
  return options;
}

Sampler make_search(const Order& order) {
  const RandomSearchOptions options = search_options(order.recipe, order.needs.chains, order.prior_or_none().count);
  require_search(order.target, "random_search");
  return random_search(options, order.proposal());
}

void plan_search(SamplerPlan& plan, Recipe& recipe, const std::string&) {
  const RandomSearchOptions options = search_options(recipe, plan.chains, plan.available);
  plan.needs_proposal = true;
  plan.starts_at_codes = false;
  plan.chains = options.keep;
  plan.steps = search_steps(options);
  plan.images_per_row = 0;
  plan.images_per_step = options.batch;
  plan.most_images = options.draws;
}

Sampler make_fallback(const FallbackOptions& options, const Order& order) {
  require_search(order.target, "fallback");
  return fallback(options, make_of({order.recipe, "climb", order.target, order.prior, order.needs}), order.proposal(), order.needs.rows);
}

void plan_fallback(SamplerPlan& plan, Recipe& recipe, const std::string& table) {
  plan = plan_of(plan, recipe, "climb");
  plan.needs_proposal = true;
  plan.images_per_step += recipe.read<FallbackOptions>(table).candidates;
}

const Samplers& samplers() {
  using O = const Order&;
  static const Samplers menu(
      "sampler", "langevin",
      {Samplers::row<AscentOptions>(
           "ascent", "gradient ascent (Adam, Nadam, steps in proportion to the slope, or steps of one length), best code kept", "",
           make_ascent, {plan_climb<AscentOptions, false>}),
       Samplers::row<DgnAmOptions>("dgn_am", "normalized ascent through a decoder, codes kept in their range (Nguyen 2016)", "",
                                   make_dgn_am, {plan_climb<DgnAmOptions, true>}),
       Samplers::row<LangevinOptions>("langevin", "a step uphill and exact noise: wanders in proportion to the density", "step_size = 0.3",
                                      [](const LangevinOptions& o, O order) { return langevin(o, order.prior_or_none()); },
                                      {plan_climb<LangevinOptions, false>}),
       Samplers::row<PpgnOptions>("ppgn", "reconstruction, condition and noise, each with its weight (Nguyen 2017)",
                                  "epsilon1 = 0.1\nepsilon2 = 0.1\nepsilon3 = 0.1",
                                  [](const PpgnOptions& o, O order) { return ppgn(o, order.prior_or_none()); },
                                  {plan_climb<PpgnOptions, true>}),
       Samplers::row<GuidedOptions>("guided", "from noise down to a code, steered at each noise scale by a critic or the target's gradient",
                                    "", make_guided, {plan_guided, false}),
       // Its default for `keep` is the run's, so it reads its options by itself.
       {{"",
         "random_search",
         "draws codes and keeps the best of every unit in one pass",
         "draws = 700\nbatch = 32",
         {{"", help_of<RandomSearchOptions>()}}},
        make_search,
        {plan_search, false}},
       Samplers::row<FallbackOptions>("fallback", "climbs by the kernel in [climb]; rows that get nowhere go on from the best random code",
                                      "patience = 5\ncandidates = 16\nparts = 2\nrise = 10.0", make_fallback, {plan_fallback, false})});
  return menu;
}

const Samplers::Row& row_of(Recipe& recipe, const std::string& table) {
  const bool climb = table == "climb";
  const Samplers::Row& row = samplers().chosen(recipe, table, climb ? "ascent" : "langevin");
  require(!climb || row.traits.climbs, Failure::input, "[climb]: found kind '", row.entry.kind,
          "', expected a kernel that follows the gradient alone: ascent, dgn_am, langevin or ppgn");
  return row;
}

Sampler make_of(const Order& order) {
  Sampler sampler = row_of(order.recipe, order.table).make(order);
  sampler.capturable = sampler.capturable && (!order.prior || order.prior->capturable);
  return sampler;
}

SamplerPlan plan_of(SamplerPlan plan, Recipe& recipe, const std::string& table) {
  row_of(recipe, table).traits.plan(plan, recipe, table);
  return plan;
}

}  // namespace

std::vector<MenuEntry> sampler_menu() { return samplers().entries(); }

Sampler make_sampler(Recipe& recipe, const Target& target, const std::optional<Prior>& prior, const SamplerNeeds& needs) {
  return make_of({recipe, "sampler", target, prior, needs});
}

SamplerPlan sampler_plan(Recipe& recipe, int64_t chains, int64_t steps, const std::optional<Prior>& prior, bool critic) {
  SamplerPlan plan;
  plan.critic = critic;
  plan.chains = chains;
  plan.steps = steps;
  if (prior) plan.available = prior->count;
  if (prior && prior->diffusion) plan.sigma_low = prior->diffusion->sigma_low, plan.sigma_high = prior->diffusion->sigma_high;
  return plan_of(plan, recipe, "sampler");
}

const Tensor& chosen_codes(const State& state) {
  const auto best = state.carry.find("best_code");
  return best == state.carry.end() ? state.z : best->second;
}

const Tensor& chosen_values(const State& state) {
  const auto best = state.carry.find("best_value");
  return best == state.carry.end() ? state.at.value : best->second;
}

}  // namespace evoke
