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

struct Row {
  std::string kind, sentence;
  bool brings_prior;
  Sampler (*make)(const Order&);
  std::vector<OptionHelp> (*help)();
};

Sampler make_of(const Order&);

Sampler make_dgn_am(const Order& order) {
  DgnAmOptions options = order.recipe.read<DgnAmOptions>(order.table);
  options.steps = order.context.steps;
  return dgn_am(options, order.prior_or_none());
}

Sampler make_fallback(const Order& order) {
  const auto options = order.recipe.read<FallbackOptions>(order.table);
  const std::string kind = order.recipe.kind("climb", "ascent");
  require(kind != "fallback" && kind != "random_search", Failure::input, "[climb]: found kind '", kind,
          "', expected a kernel that follows the gradient: ascent, dgn_am, langevin or ppgn");
  return fallback(options, make_of({order.recipe, "climb", order.target, order.prior, order.context}), order.proposal(),
                  order.context.rows);
}

const std::vector<Row>& table() {
  static const std::vector<Row> rows{
      {"ascent", "gradient ascent (Adam, plain or normalized steps), best code kept", false,
       [](const Order& o) { return ascent(o.recipe.read<AscentOptions>(o.table)); }, [] { return help_of<AscentOptions>(); }},
      {"dgn_am", "normalized ascent through a decoder, codes kept in their range (Nguyen 2016)", true, make_dgn_am,
       [] { return help_of<DgnAmOptions>(); }},
      {"langevin", "a step uphill and exact noise: wanders in proportion to the density", false,
       [](const Order& o) { return langevin(o.recipe.read<LangevinOptions>(o.table)); }, [] { return help_of<LangevinOptions>(); }},
      {"ppgn", "reconstruction, condition and noise, each with its weight (Nguyen 2017)", true,
       [](const Order& o) { return ppgn(o.recipe.read<PpgnOptions>(o.table), o.prior_or_none()); }, [] { return help_of<PpgnOptions>(); }},
      {"random_search", "draws codes and keeps the best of every unit in one pass", false,
       [](const Order& o) { return random_search(o.recipe.read<RandomSearchOptions>(o.table), o.proposal()); },
       [] { return help_of<RandomSearchOptions>(); }},
      {"fallback", "climbs by the kernel in [climb]; rows that get nowhere go on from the best random code", false, make_fallback,
       [] { return help_of<FallbackOptions>(); }},
  };
  return rows;
}

const Row& row_named(const std::string& kind, const std::string& where) {
  std::vector<std::string> kinds;
  for (const Row& row : table()) {
    if (row.kind == kind) return row;
    kinds.push_back(row.kind);
  }
  fail(Failure::input, where, ": found no sampler of kind '", kind, "'", did_you_mean(kind, kinds));
}

Sampler make_of(const Order& order) {
  const std::string kind = order.recipe.kind(order.table, order.table == "climb" ? "ascent" : "langevin");
  return row_named(kind, "[" + order.table + "]").make(order);
}

}  // namespace

std::vector<SamplerEntry> sampler_menu() {
  std::vector<SamplerEntry> menu;
  for (const Row& row : table()) menu.push_back({row.kind, row.sentence, row.brings_prior, row.help()});
  return menu;
}

Sampler make_sampler(Recipe& recipe, const Target& target, const std::optional<Prior>& prior, const SamplerContext& context) {
  return make_of({recipe, "sampler", target, prior, context});
}

bool sampler_brings_prior(const std::string& kind) { return row_named(kind, "sampler").brings_prior; }

const Tensor& chosen_codes(const State& state) {
  const auto best = state.carry.find("best_code");
  return best == state.carry.end() ? state.z : best->second;
}

const Tensor& chosen_values(const State& state) {
  const auto best = state.carry.find("best_value");
  return best == state.carry.end() ? state.at.value : best->second;
}

}  // namespace evoke
