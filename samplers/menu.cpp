#include "samplers/menu.h"

#include "core/error.h"
#include "samplers/ascent.h"
#include "samplers/dgn_am.h"
#include "samplers/fallback.h"
#include "samplers/langevin.h"
#include "samplers/ppgn.h"

namespace evoke {

namespace {

// Everything that a row of the table may build from.
struct Order {
  Recipe& recipe;
  std::string table;
  const Target& target;
  const std::optional<Prior>& prior;
  const SamplerContext& context;

  Prior prior_or_none() const { return prior.value_or(Prior{}); }
  Proposal proposal() const { return context.proposal ? context.proposal : prior_or_none().draw; }
};

// What is known of a kind before it is made.
struct Traits {
  bool brings_prior = false;  // it moves by the prior itself
  bool has_climb = false;     // it hands its rows to the kernel of table [climb]
};
using Samplers = Menu<Sampler, Order, Traits>;
const Samplers& samplers();

Sampler make_dgn_am(DgnAmOptions options, const Order& order) {
  options.steps = order.context.steps;
  return dgn_am(options, order.prior_or_none());
}

Sampler make_fallback(const FallbackOptions& options, const Order& order) {
  const Samplers::Row& climb = samplers().chosen(order.recipe, "climb", "ascent");
  const std::string& kind = climb.entry.kind;
  require(kind != "fallback" && kind != "random_search", Failure::input, "[climb]: found kind '", kind,
          "', expected a kernel that follows the gradient: ascent, dgn_am, langevin or ppgn");
  return fallback(options, climb.make({order.recipe, "climb", order.target, order.prior, order.context}), order.proposal(),
                  order.context.rows);
}

const Samplers& samplers() {
  using O = const Order&;
  static const Samplers menu(
      "sampler", "langevin",
      {Samplers::row<AscentOptions>("ascent", "gradient ascent (Adam, plain or normalized steps), best code kept", "",
                                    [](const AscentOptions& o, O) { return ascent(o); }),
       Samplers::row<DgnAmOptions>("dgn_am", "normalized ascent through a decoder, codes kept in their range (Nguyen 2016)", "",
                                   make_dgn_am, {.brings_prior = true}),
       Samplers::row<LangevinOptions>("langevin", "a step uphill and exact noise: wanders in proportion to the density", "step_size = 0.3",
                                      [](const LangevinOptions& o, O) { return langevin(o); }),
       Samplers::row<PpgnOptions>("ppgn", "reconstruction, condition and noise, each with its weight (Nguyen 2017)",
                                  "epsilon1 = 0.1\nepsilon2 = 0.1\nepsilon3 = 0.1",
                                  [](const PpgnOptions& o, O order) { return ppgn(o, order.prior_or_none()); }, {.brings_prior = true}),
       Samplers::row<RandomSearchOptions>("random_search", "draws codes and keeps the best of every unit in one pass",
                                          "draws = 700\nbatch = 32\nkeep = 2",
                                          [](const RandomSearchOptions& o, O order) { return random_search(o, order.proposal()); }),
       Samplers::row<FallbackOptions>("fallback", "climbs by the kernel in [climb]; rows that get nowhere go on from the best random code",
                                      "patience = 5\ncandidates = 16\nparts = 2\nrise = 10.0", make_fallback, {.has_climb = true})});
  return menu;
}

}  // namespace

std::vector<MenuEntry> sampler_menu() { return samplers().entries(); }

Sampler make_sampler(Recipe& recipe, const Target& target, const std::optional<Prior>& prior, const SamplerContext& context) {
  return samplers().chosen(recipe).make({recipe, "sampler", target, prior, context});
}

bool sampler_brings_prior(Recipe& recipe) {
  const Samplers::Row& row = samplers().chosen(recipe);
  return (row.traits.has_climb ? samplers().chosen(recipe, "climb", "ascent") : row).traits.brings_prior;
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
