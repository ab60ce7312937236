#include "experiments/experiment.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <filesystem>
#include <memory>

#include "classifiers/menu.h"
#include "core/error.h"
#include "core/nouns/posterior.h"
#include "core/records/pictures.h"
#include "core/storage/hdf5.h"
#include "core/storage/safetensors.h"
#include "experiments/options.h"
#include "generators/menu.h"
#include "samplers/captured.h"
#include "samplers/menu.h"

namespace evoke {

void describe(Fields& f, RunTable& o) {
  f("chains", o.chains, "chains", "for each unit; random_search keeps so many pictures of each unit unless it has a keep", {1, 1e6});
  f("steps", o.steps, "steps", "length of each chain; random_search needs none", {0, 1e9});
  f("seed", o.seed, "", "of every random stream of the run", {0, 9e15});
  f.choice("start", o.start,
           "where chains begin: at draws of the prior, the generator's customary point, the best of search_draws draws of the prior, or "
           "real images of [data] through the encoder, or the images of starts through it; auto: prior where it can draw, else generator",
           {"auto", "prior", "generator", "search", "data", "images"});
  f.path(
      "starts", o.starts,
      "for start = \"images\": safetensors (of evoke exemplars --facets) with a tensor [K,C,H,W] in [0,1] for each unit, by its name, or "
      "one for all, 'images'; chain c begins at image c modulo K");
  f.path("exemplars", o.exemplars,
         "exemplars.h5 of evoke exemplars, for the units' layers: a unit that no image there excites, and that feels no gradient, is dead");
  f("search_draws", o.search_draws, "draws", "how many codes start = \"search\" looks at; one pass serves all units", {1, 1e9});
  f("stride", o.stride, "steps", "between two records of the trace; a search keeps at most 256", {1, 1e9});
  f("snapshots", o.snapshots, "steps", "between two pictures of every chain; 0 keeps only the last", {0, 1e9});
  f("checkpoint", o.checkpoint, "steps", "between two checkpoints, beside one every 20 s; 0: only those", {0, 1e9});
  f("objective_weight", o.objective_weight, "", "the objective's factor beside [prior] weight; 0 samples the prior alone", {0, 1e9});
  f("redirected", o.redirected, "steps",
    "in which the classifier's ReLUs let slopes through that would end there (Lucid has 16): for units that are off where chains begin",
    {0, 1e9});
  f("batch", o.batch, "chains",
    "that go through the networks together; the others wait for their turn. 0: as many as memory allows, on a CPU at most 64, where more "
    "are "
    "no faster. Results do not depend on it where each chain has a score of its own",
    {0, 1e6});
  f("memory", o.memory, "GiB", "how much of it one block of chains may need, where batch = 0", {1e-6, 1e6});
  f("threads", o.threads, "threads", "of LibTorch on the CPU; 0: one a core", {0, 1024});
  f("device", o.device, "auto (CUDA if present), cpu, cuda or cuda:N");
}

void describe(Fields& f, DataTable& o) { f.path("file", o.file, "dataset of real images (HDF5, made by evoke data)"); }

namespace {

constexpr int64_t search_records = 256;  // at most so many records of a search's trace

// Refuses a file of starts without images for each column, of the encoder's size.
void check_start_images(const std::string& file, const std::vector<Column>& columns, const ImageSpec& image) {
  const Tensors images = load_safetensors(file).tensors;
  for (const Column& column : columns) {
    const auto own = images.contains(column.name) ? images.find(column.name) : images.find("images");
    require(own != images.end(), Failure::input, file, ": found no images for ", column.name,
            ", expected a tensor of that name, or 'images'");
    require_shape(own->second, {-1, image.channels, image.height, image.width}, file + ": " + own->first);
    require(own->second.size(0) > 0, Failure::input, file, ": found no image in ", own->first, ", expected one or more");
  }
}

// Refuses a start that cannot serve, before anything is written.
void check_start(const Experiment& e) {
  if (e.searches) return;
  if (!e.needs_start) {
    require(e.run.start == "auto", Failure::usage, "found \"", e.run.start, "\", but the sampler ", e.method,
            " begins at noise by itself; leave start out, or set [sampler] sigma_start, the noise that starting codes are put below");
    return;
  }
  const bool prior_draws = e.prior && e.prior->draw;
  const std::string where = "found \"" + e.run.start + "\", but ", &start = e.run.start;
  if (start == "data") {
    require(!e.data.empty(), Failure::usage, where,
            "no [data] file, expected a dataset of real images; name one: --set data.file=shapes.h5");
    training_rows(e.data);
  }
  require(start != "prior" || prior_draws, Failure::usage, where, e.prior ? "prior " + e.prior->name + " cannot draw" : "no prior",
          "; set start = \"generator\", or add a [prior] that can");
  require(start != "images" || !e.run.starts.empty(), Failure::usage, where,
          "no file of images; name one: --set run.starts=facets.safetensors");
  require((start != "data" && start != "images") || e.encoder, Failure::usage, where, "generator ", e.generator.name,
          " has no encoder; expected a pixel generator, an autoencoder or a vae, or an encoder of its own: [encoder] weights = \"file\"");
  if (start == "images") check_start_images(e.run.starts, e.columns, e.encoder->image);
  require(start == "prior" || start == "data" || start == "images" || prior_draws || e.generator.start, Failure::usage, where,
          "neither the prior nor generator ", e.generator.name, " can draw a starting code; add a [prior] that can");
  require(start != "generator" || e.generator.start, Failure::usage, where, "generator ", e.generator.name, " has no customary start");
  require(start != "search" || e.rows_independent, Failure::usage, where,
          "a search scores one code at a time, but this objective's score of a picture depends on the others; set another start");
  require(start != "search" || e.run.search_draws >= e.run.chains, Failure::input, "[run] search_draws: found ", e.run.search_draws,
          ", expected at least one a chain, ", e.run.chains);
}

}  // namespace

Tensor training_rows(const std::string& name) {
  const Hdf5 file = Hdf5::open(name);
  require(file.has("/images") && file.has("/split"), Failure::input, name,
          ": found no /images and /split, expected a dataset that evoke data wrote");
  const Tensor rows = (file.read("/split") == 0).nonzero().squeeze(1);
  require(rows.numel() > 0, Failure::input, name, ": its training split is empty; expected images");
  return rows;
}

std::string caption_of(const Column& column, const Classifier& classifier) {
  return caption_of(column, classifier.layers.empty() ? "" : classifier.layers.back().name, classifier.labels);
}

namespace {

// Which columns are units that no image of the exemplars' dataset excites: none has a value above 0, or all have the same.
std::vector<bool> silent_columns(const std::string& name, const std::vector<Column>& columns) {
  if (name.empty()) return {};
  const Hdf5 file = Hdf5::open(name);
  std::vector<bool> out;
  for (const Column& column : columns) {
    if (!column.unit) {
      out.push_back(false);
      continue;
    }
    const std::string layer = "/" + column.unit->layer;
    require(file.has(layer + "/max") && file.has(layer + "/min"), Failure::input, name, ": found no values of layer ", column.unit->layer,
            ", expected an exemplars.h5 that has them: evoke exemplars NET DATA --layers ", column.unit->layer);
    const Tensor most = file.read(layer + "/max"), least = file.read(layer + "/min");
    require(column.unit->index < most.numel() && most.sizes() == least.sizes(), Failure::input, name, ": found ", most.numel(),
            " units of layer ", column.unit->layer, ", expected the classifier's");
    const auto value = [&](const Tensor& of) { return of[column.unit->index].item<double>(); };
    out.push_back(value(most) <= 0 || value(most) == value(least));
  }
  return out;
}

// What a sampler's operators on images are told.
Canvas canvas_of(const Generator& generator) {
  const ImageSpec& image = generator.image;
  Canvas out;
  out.image = image;
  out.pixels = generator.latent == std::vector<int64_t>{image.channels, image.height, image.width};
  out.identity = generator.identity;
  out.read = load_picture;
  return out;
}

}  // namespace

Experiment assemble(Recipe& recipe) {
  Experiment e;
  e.run = recipe.read<RunTable>("run");
  set_threads(e.run.threads);
  e.device = recipe.about("run", {"device"}, [&] { return device_named(e.run.device); });
  e.data = recipe.read<DataTable>("data").file;
  e.classifier = make_classifier(recipe, e.device);
  const Codec codec = make_codec(recipe, e.classifier.image, e.device, &e.classifier);
  e.generator = codec.generator;
  e.encoder = codec.encoder;
  const WeightedPrior prior = make_prior(recipe, codec, e.device);
  e.prior = prior.prior;

  // What is climbed may hold penalties; pictures are scored without.
  e.rows_independent = make_objective(recipe, e.classifier).rows_independent;
  e.objective = make_objective(recipe, e.classifier, {}, /*penalties=*/false);
  e.columns = e.objective.columns;
  e.silent = recipe.about("run", {"exemplars"}, [&] { return silent_columns(e.run.exemplars, e.columns); });
  e.scores = posterior(e.generator, {}, e.classifier, e.objective, std::nullopt, {});

  // A search has its own words for how long it is and how much it keeps.
  e.method = recipe.kind("sampler", "langevin");
  const std::optional<Critic> critic = make_critic(recipe, codec, e.device);
  if (critic) {
    const int64_t units =
        units_of(layer_named(e.classifier, critic->layer, "[critic] weights, a critic of another classifier", Failure::input));
    require(units == critic->units, Failure::input, "[critic] weights: found a critic of ", critic->units, " units of layer ",
            critic->layer, ", of which classifier ", e.classifier.name, " has ", units,
            "; expected one trained for this classifier (evoke train, kind = \"critic\")");
  }
  const SamplerPlan plan = sampler_plan(recipe, e.run.chains, e.run.steps, e.prior, critic.has_value());
  e.searches = !plan.starts_at_codes;
  e.needs_start = plan.starts_at_codes && plan.needs_start;
  e.run.chains = plan.chains;
  e.run.steps = plan.steps;
  if (e.searches) e.run.stride = std::max(e.run.stride, (e.run.steps + search_records - 1) / search_records);
  const RepeatedTransform seen = make_transform(recipe, e.run.steps);
  e.views = seen.views;
  e.images_seen =
      std::min(plan.most_images, (plan.images_per_row * e.rows() + plan.images_per_step) * (plan.looks < 0 ? e.run.steps : plan.looks)) *
      e.views;
  if (e.needs_start && e.run.start == "search") e.images_seen += e.run.search_draws;

  // The sentence, for some of the chains: those of a block have their own rows, and so their own target. Where a picture's score depends on
  // its batch, penalties apart, the results' scores are the run's own, and are to be float32.
  e.bfloat16 = e.objective.rows_independent && in_bfloat16(plan.precision, e.device);
  const auto block_of = [=, weight = prior.weight, bfloat16 = e.bfloat16, columns = e.columns, objective_weight = e.run.objective_weight,
                         redirected = e.run.redirected, device = e.device, generator = e.generator, classifier = e.classifier,
                         own_prior = e.prior, alone = e.objective](Recipe& read, int64_t first, int64_t count, int64_t least) {
    std::vector<int64_t> column, chain;
    for (int64_t i = 0; i < std::max(count, least); ++i) {
      const int64_t row = first + std::min(i, count - 1);
      column.push_back(row / plan.chains);
      chain.push_back(chain_number(columns[static_cast<size_t>(row / plan.chains)], row % plan.chains));
    }
    Block block;
    block.columns = at::tensor(column, at::kLong).to(device);
    block.chains = at::tensor(chain, at::kLong).to(device);
    const PosteriorOptions options{.rows = block.columns,
                                   .prior_weight = weight,
                                   .objective_weight = objective_weight,
                                   .views = seen.views,
                                   .redirected = redirected,
                                   .bfloat16 = bfloat16};
    block.target = posterior(generator, seen.transform, classifier, make_objective(read, classifier, block.columns),
                             plan.brings_prior ? std::nullopt : own_prior, options);
    Canvas canvas = canvas_of(generator);
    canvas.unit = posterior(generator, {}, classifier, alone, std::nullopt, {.rows = block.columns});
    block.sampler = captured(make_sampler(
        read, block.target, own_prior,
        {.chains = plan.chains, .steps = plan.steps, .rows = block.columns, .proposal = {}, .critic = critic, .canvas = canvas}));
    return block;
  };
  block_of(recipe, 0, e.rows(), 0);  // reads every option, and refuses here what cannot be
  recipe.refuse_unread();
  recipe.about("run", {"start"}, [&] { check_start(e); });
  e.config = recipe.resolved();
  e.files = recipe.files();
  e.block = [block_of, again = std::make_shared<Recipe>(Recipe::parse(e.config, ""))](int64_t first, int64_t count, int64_t least) {
    return block_of(*again, first, count, least);
  };
  return e;
}

std::vector<std::string> budget_overrides(const Experiment& e, int64_t budget) {
  if (e.searches) return {text("sampler.draws=", budget / e.views)};
  const int64_t searched = e.run.start == "search" ? e.run.search_draws : 0, left = budget - searched;
  // A step shows the classifier each chain's picture, and what else the sampler draws at it (fallback).
  const int64_t step = std::max(e.rows() * e.views, (e.images_seen - searched) / std::max<int64_t>(e.run.steps, 1));
  require(left >= step, Failure::usage, "a budget of ", budget, " pictures leaves ", e.method, " no step for ", e.rows(), " chains",
          e.views > 1 ? text(" of ", e.views, " views") : "", "; expected at least ", budget - left + step);
  return {text("run.steps=", left / step)};
}

}  // namespace evoke
