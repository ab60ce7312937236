// needs: files
// The contract of a sampler, over the whole menu: a new row is tested by existing.
#include "samplers/menu.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <set>

#include "core/error.h"
#include "core/nouns/run.h"
#include "tests/expect.h"

namespace evoke {
namespace {

constexpr int64_t units = 3, chains = 2, rows = units * chains, steps = 24;

// A kernel and the shape of the codes that it moves.
struct Kind {
  std::string name;
  std::vector<int64_t> latent{5};
};

std::vector<int64_t> rows_of(const std::vector<int64_t>& latent) {
  std::vector<int64_t> out{rows};
  out.insert(out.end(), latent.begin(), latent.end());
  return out;
}

// Unit u is a bowl with its peak at u − 1; a row climbs unit row / chains. A transform's noise is in the value, so the stream counts.
Tensor bowls(const Tensor& z) {
  std::vector<Tensor> scores;
  for (int64_t unit = 0; unit < units; ++unit) scores.push_back(-0.5 * (z - static_cast<double>(unit - 1)).square().flatten(1).sum(1));
  return at::stack(scores, 1);
}

Target target_of(const Tensor& row_units, const std::vector<int64_t>& latent = {5}) {
  Target target;
  target.name = "bowls";
  target.comparable = false;  // its noise is in the scan and in the slope
  target.columns = {{"a"}, {"b"}, {"c"}};
  target.latent = latent;
  target.scan = [](const Tensor& z, Stream& stream) { return bowls(z) + 0.01 * stream.normal({units}); };
  target.evaluate = [row_units, latent](const Tensor& z, Stream& stream) {
    const Tensor noise = 0.01 * stream.normal(latent), peak = broadcast_rows((row_units - 1).to(at::kFloat), z.dim());
    const Tensor score = -0.5 * (z - peak).square().flatten(1).sum(1);
    return Evaluation{score, peak - z + noise, {{"objective", score}}};
  };
  return target;
}

Prior gaussian_prior(const std::vector<int64_t>& latent = {5}) {
  Prior prior;
  prior.name = "standard";
  prior.score = [](const Tensor& z) { return -z; };
  prior.log_density = [](const Tensor& z) { return -0.5 * z.square().flatten(1).sum(1); };
  prior.draw = [latent](Stream& stream) { return stream.normal(latent); };
  prior.diffusion = Diffusion{at::zeros({1}), at::ones({1}), 0.01, 20.0,
                              [](const Tensor& z, const Tensor& sigma) { return z / (1 + broadcast_rows(sigma.square(), z.dim())); }};
  prior.low = at::full(latent, -4.0);
  prior.high = at::full(latent, 4.0);
  return prior;
}

// What a run of the contract is made with: everything a shard would change.
struct Setting {
  Tensor which = at::arange(rows);  // the chains, of rows
  int threads = 1;
  int64_t pause = -1;  // resume from a packed state after this step
};

Recipe recipe_of(const std::string& kind) {
  for (const MenuEntry& entry : sampler_menu())
    if (entry.kind == kind) return Recipe::parse("[sampler]\nkind = \"" + kind + "\"\n" + entry.example, ".");
  return Recipe::parse("", ".");
}

State outcome(const Kind& kind, const Setting& setting = {}) {
  const int before = at::get_num_threads();
  at::set_num_threads(setting.threads);
  const Tensor row_units = setting.which.div(chains, "floor");
  const Target target = target_of(row_units, kind.latent);
  Recipe recipe = recipe_of(kind.name);
  const Sampler sampler =
      make_sampler(recipe, target, gaussian_prior(kind.latent), {.chains = chains, .steps = steps, .rows = row_units, .proposal = {}});
  RunOptions options;
  options.steps = steps;
  options.seed = 3;
  options.chains = setting.which;
  const std::vector<int64_t> all = rows_of(kind.latent);
  const Tensor start = broadcast_rows(5 - at::arange(rows, at::kFloat), static_cast<int64_t>(all.size()));
  const Tensor z0 = start.expand(all).index_select(0, setting.which);
  State state;
  if (setting.pause < 0) {
    state = run(sampler, target, z0, options);
  } else {
    RunOptions first = options;
    first.steps = setting.pause;
    Tensors saved = pack(run(sampler, target, z0, first));
    for (auto& [name, tensor] : saved) tensor = tensor.clone();
    options.first_step = setting.pause;
    state = run(sampler, target, unpack(saved), options);
  }
  at::set_num_threads(before);
  return state;
}

void expect_same(const State& a, const State& b, const std::string& what) {
  const Tensors one = pack(a), other = pack(b);
  ASSERT_EQ(one.size(), other.size()) << what;
  for (const auto& [name, tensor] : one) EXPECT_TRUE(at::equal(tensor, other.at(name))) << what << ": " << name;
}

class EachKind : public ::testing::TestWithParam<Kind> {};

TEST_P(EachKind, EveryTensorIsFiniteAndHasARowForEachChain) {
  const State end = outcome(GetParam());
  for (const auto& [name, tensor] : pack(end)) {
    ASSERT_GE(tensor.dim(), 1) << name;
    EXPECT_EQ(tensor.size(0), rows) << name;
    EXPECT_FALSE(tensor.requires_grad()) << name;
    EXPECT_TRUE(tensor.isfinite().all().item<bool>()) << name;
  }
  EXPECT_TRUE(end.at.terms.contains("objective"));
  EXPECT_EQ(chosen_codes(end).sizes(), at::IntArrayRef(rows_of(GetParam().latent)));
  EXPECT_EQ(chosen_values(end).sizes(), at::IntArrayRef({rows}));
}

TEST_P(EachKind, ResumedAnywhereItEndsInTheSameBits) {
  const State whole = outcome(GetParam());
  for (const int64_t pause : {1, 10, 12, 23}) expect_same(whole, outcome(GetParam(), {.pause = pause}), text("paused at ", pause));
}

TEST_P(EachKind, ThreadsDoNotMatter) { expect_same(outcome(GetParam()), outcome(GetParam(), {.threads = 2}), "2 threads"); }

TEST_P(EachKind, AChainAloneDoesWhatItDoesInTheBatch) {
  if (GetParam().name == "random_search") return;  // its rows are ranks, and one rank is no chain
  const Tensors batch = pack(outcome(GetParam()));
  for (const int64_t row : {0, 3}) {
    const Tensors alone = pack(outcome(GetParam(), {.which = at::full({1}, row, at::kLong)}));
    for (const auto& [name, tensor] : batch)
      EXPECT_TRUE(at::equal(tensor.slice(0, row, row + 1), alone.at(name))) << name << " of row " << row;
  }
}

TEST_P(EachKind, ItClimbs) {
  // Row 0 starts at 5, its peak is at -1: the value there is -18 for each number of the code.
  int64_t size = 1;
  for (const int64_t n : GetParam().latent) size *= n;
  EXPECT_GT(chosen_values(outcome(GetParam()))[0].item<float>(), 10.0f - 18.0f * static_cast<float>(size));
}

TEST_P(EachKind, ATargetThatIsNotFiniteIsNamed) {
  if (GetParam().name == "random_search") return;  // scores that are not finite are not kept; there is no chain to stop
  const Tensor row_units = at::arange(rows).div(chains, "floor");
  const Kind& kind = GetParam();
  Target target = target_of(row_units, kind.latent);
  target.evaluate = [plain = target.evaluate](const Tensor& z, Stream& stream) {
    Evaluation at = plain(z, stream);
    if (stream.step() >= 7) {
      at.value = at.value.clone();
      at.value[4] = NAN;
    }
    return at;
  };
  Recipe recipe = recipe_of(kind.name);
  const Sampler sampler =
      make_sampler(recipe, target, gaussian_prior(kind.latent), {.chains = chains, .steps = steps, .rows = row_units, .proposal = {}});
  RunOptions options;
  options.steps = steps;
  options.chains = at::arange(rows) + 100;
  try {
    run(sampler, target, at::zeros(rows_of(kind.latent)), options);
    ADD_FAILURE() << "it went on";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), Failure::runtime);
    EXPECT_NE(std::string(error.what()).find("chain 104 stopped being finite at step 7"), std::string::npos) << error.what();
  }
}

// A prior whose codes lie in a box, and a slope that pulls them out of it.
TEST_P(EachKind, CodesStayWithinTheBoundsOfABoundedPrior) {
  if (GetParam().name == "guided") return;  // refuses such a prior, which knows no noise scale
  const std::vector<int64_t> latent = GetParam().latent;
  const int64_t size = c10::multiply_integers(latent);
  const Tensor row_units = at::arange(rows).div(chains, "floor");
  Target target = target_of(row_units, GetParam().latent);
  target.evaluate = [](const Tensor& z, Stream&) {
    const Tensor score = z.flatten(1).sum(1);
    return Evaluation{score, at::full_like(z, 3), {{"objective", score}}};
  };
  Prior bounds;
  bounds.name = "box";
  bounds.low = at::linspace(-1, -0.2, size).view(latent);
  bounds.high = at::linspace(0.1, 2, size).view(latent);
  bounds.score = [](const Tensor& z) { return at::zeros_like(z); };
  bounds.draw = [bounds, latent](Stream& stream) { return bounds.low + (bounds.high - bounds.low) * stream.uniform(latent); };
  Recipe recipe = recipe_of(GetParam().name);
  const Sampler sampler = make_sampler(recipe, target, bounds, {.chains = chains, .steps = steps, .rows = row_units, .proposal = {}});
  RunOptions options;
  options.steps = steps;
  options.chains = at::arange(rows);
  int64_t outside = 0;
  run(sampler, target, at::zeros(rows_of(latent)), options, [&](int64_t, const State& state, const Info&) {
    outside += ((state.z < bounds.low).logical_or(state.z > bounds.high)).sum().item<int64_t>();
  });
  EXPECT_EQ(outside, 0);
}

std::vector<Kind> kinds() {
  std::vector<Kind> out;
  for (const MenuEntry& entry : sampler_menu())
    for (const std::vector<int64_t>& latent : std::vector<std::vector<int64_t>>{{5}, {2, 3, 2}}) out.push_back({entry.kind, latent});
  return out;
}
INSTANTIATE_TEST_SUITE_P(Menu, EachKind, ::testing::ValuesIn(kinds()),
                         [](const auto& info) { return info.param.name + (info.param.latent.size() == 1 ? "_dense" : "_spatial"); });

TEST(Contract, OfTheFallbackIsTestedWithRowsHandedOver) { EXPECT_GT(outcome({"fallback"}).carry.at("searched").max().item<int64_t>(), 0); }

TEST(Menu, EveryOptionSaysWhatItIs) {
  std::set<std::string> seen;
  for (const MenuEntry& entry : sampler_menu()) {
    EXPECT_TRUE(seen.insert(entry.kind).second) << entry.kind;
    EXPECT_FALSE(entry.sentence.empty()) << entry.kind;
    EXPECT_FALSE(entry.tables.at(0).options.empty()) << entry.kind;
    for (const OptionHelp& option : entry.tables.at(0).options) EXPECT_FALSE(option.sentence.empty()) << entry.kind << "." << option.key;
  }
}

TEST(Menu, ClimbTableNamesTheFallbacksKernel) {
  Recipe recipe = Recipe::parse("[sampler]\nkind = \"fallback\"\n[climb]\nkind = \"langevin\"\nstep_size = 0.125\n", ".");
  const Sampler sampler = make_sampler(recipe, target_of(at::zeros({1}, at::kLong)), gaussian_prior());
  EXPECT_EQ(sampler.name, "fallback(langevin)");
  EXPECT_NE(recipe.resolved().find("0.125"), std::string::npos);
  EXPECT_NO_THROW(recipe.refuse_unread());
}

TEST(Menu, Refusals) {
  const auto sentence = [](const std::string& toml, std::optional<Prior> prior, Failure kind) {
    try {
      Recipe recipe = Recipe::parse(toml, ".");
      make_sampler(recipe, target_of(at::zeros({1}, at::kLong)), prior);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), kind) << error.what();
      return std::string(error.what());
    }
    return std::string("nothing was refused");
  };
  EXPECT_NE(sentence("[sampler]\nkind = \"langvin\"\n", {}, Failure::input).find("did you mean 'langevin'"), std::string::npos);
  EXPECT_NE(sentence("[sampler]\nkind = \"langevin\"\nstepsize = 1.0\n", {}, Failure::input).find("step_size"), std::string::npos);
  EXPECT_NE(sentence("[sampler]\nkind = \"random_search\"\n", {}, Failure::usage).find("[prior]"), std::string::npos);
  EXPECT_NE(sentence("[sampler]\nkind = \"ppgn\"\n", {}, Failure::usage).find("epsilon1"), std::string::npos);
  EXPECT_NE(sentence("[sampler]\nkind = \"dgn_am\"\nas_released = true\n", {}, Failure::usage).find("mean + 3σ"), std::string::npos);
  EXPECT_NE(
      sentence("[sampler]\nkind = \"fallback\"\n[climb]\nkind = \"random_search\"\n", gaussian_prior(), Failure::input).find("[climb]"),
      std::string::npos);
}

TEST(Menu, APlanSaysWhatASamplerAsksOfItsRun) {
  const auto plan = [](const std::string& toml) {
    Recipe recipe = Recipe::parse("[sampler]\n" + toml, ".");
    const SamplerPlan found = sampler_plan(recipe, 8, 200);
    EXPECT_NO_THROW(recipe.refuse_unread()) << toml;
    return found;
  };
  for (const char* kind : {"langevin", "ascent"}) {
    const SamplerPlan climbs = plan(text("kind = \"", kind, "\"\n"));
    EXPECT_FALSE(climbs.brings_prior || climbs.needs_proposal) << kind;
    EXPECT_TRUE(climbs.starts_at_codes) << kind;
    EXPECT_EQ(climbs.chains, 8);
    EXPECT_EQ(climbs.steps, 200);
    EXPECT_EQ(climbs.images_per_row, 1);
    EXPECT_EQ(climbs.images_per_step, 0);
    EXPECT_EQ(climbs.precision, "auto");
    EXPECT_EQ(plan(text("kind = \"", kind, "\"\nprecision = \"float32\"\n")).precision, "float32");
  }
  EXPECT_TRUE(plan("kind = \"ppgn\"\n").brings_prior);
  EXPECT_TRUE(plan("kind = \"dgn_am\"\n").brings_prior);

  const SamplerPlan search = plan("kind = \"random_search\"\ndraws = 1000\nbatch = 64\n");
  EXPECT_TRUE(search.needs_proposal);
  EXPECT_FALSE(search.starts_at_codes || search.brings_prior);
  EXPECT_EQ(search.chains, 8);
  EXPECT_EQ(search.steps, 16);
  EXPECT_EQ(search.images_per_row, 0);
  EXPECT_EQ(search.images_per_step, 64);
  EXPECT_EQ(search.most_images, 1000);
  EXPECT_EQ(search.precision, "float32");  // its first look is its own affair
  EXPECT_EQ(plan("kind = \"random_search\"\nkeep = 3\n").chains, 3);

  const SamplerPlan fallback = plan("kind = \"fallback\"\ncandidates = 32\n[climb]\nkind = \"ppgn\"\n");
  EXPECT_TRUE(fallback.brings_prior && fallback.needs_proposal && fallback.starts_at_codes);
  EXPECT_EQ(fallback.images_per_row, 1);
  EXPECT_EQ(fallback.precision, "auto");
  EXPECT_EQ(fallback.images_per_step, 32);

  // Guided looks at the target where the target steers, and once where nothing does at first; between the noise scales that its prior
  // knows.
  const auto looks = [](const std::string& toml, double high, bool critic) {
    Recipe recipe = Recipe::parse("[sampler]\nkind = \"guided\"\nrho = 1.0\nsigma_low = 0.5\n" + toml, ".");
    Prior prior;
    prior.diffusion = Diffusion{at::zeros({1}), at::ones({1}), 1.0, high, {}};
    return sampler_plan(recipe, 8, 10, prior, critic).looks;  // noise scales 10, 9 … 1, or 19, 17 … 1
  };
  EXPECT_EQ(looks("guide_below = 20.0\n", 10, false), 10);
  EXPECT_EQ(looks("guide_below = 5.5\n", 10, false), 5 + 1);
  EXPECT_EQ(looks("guide_below = 5.5\n", 19, false), 3 + 1);
  EXPECT_EQ(looks("guide_below = 5.5\ncritic_until = 3.5\n", 10, true), 3);
  EXPECT_EQ(looks("guide_below = 2.5\ncritic_until = 3.5\n", 10, true), 2);
  EXPECT_EQ(looks("guide_below = 2.5\ncritic_until = 20.0\n", 10, true), 2 + 1);

  Recipe few = Recipe::parse("[sampler]\nkind = \"random_search\"\ndraws = 7\n", ".");
  EXPECT_NE(refusal([&] { sampler_plan(few, 8, 200); }, Failure::input).find("at least keep = 8"), std::string::npos);
  Recipe unknown = Recipe::parse("[sampler]\nkind = \"langvin\"\n", ".");
  EXPECT_NE(refusal([&] { sampler_plan(unknown, 8, 200); }, Failure::input).find("langevin"), std::string::npos);
}

TEST(Menu, ASearchRefusesAScoreThatDependsOnTheBatch) {
  Target target = target_of(at::zeros({1}, at::kLong));
  target.rows_independent = false;
  for (const char* kind : {"random_search", "fallback"}) {
    Recipe recipe = Recipe::parse(text("[sampler]\nkind = \"", kind, "\"\n"), ".");
    expect_in("depends on the other codes of its batch", refusal([&] { make_sampler(recipe, target, gaussian_prior()); }));
  }
  Recipe climb = Recipe::parse("[sampler]\nkind = \"langevin\"\n", ".");
  EXPECT_NO_THROW(make_sampler(climb, target, gaussian_prior()));
}

}  // namespace
}  // namespace evoke
