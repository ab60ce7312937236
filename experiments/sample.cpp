#include "experiments/sample.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iomanip>
#include <iostream>

#include "classifiers/menu.h"
#include "core/error.h"
#include "core/storage/files.h"
#include "core/storage/hdf5.h"
#include "core/log.h"
#include "core/records/picture.h"
#include "core/nouns/posterior.h"
#include "core/nouns/run.h"
#include "experiments/options.h"
#include "experiments/verbs.h"
#include "generators/menu.h"
#include "samplers/menu.h"

namespace evoke {

namespace {

constexpr int64_t picture_batch = 64;            // pictures decoded and scored together
constexpr int64_t start_step = search_step - 1;  // the step number under which starting codes are drawn; no chain ever has it
constexpr double checkpoint_seconds = 20;
constexpr int64_t search_records = 256;

// Files named in a resolved recipe: values that are absolute paths of files.
std::vector<std::string> files_in(const std::string& config) {
  std::vector<std::string> out;
  std::istringstream lines(config);
  for (std::string line; std::getline(lines, line);) {
    const size_t begin = line.find(" = \"/");
    if (begin == std::string::npos || !line.ends_with('"')) continue;
    const std::string file = line.substr(begin + 4, line.size() - begin - 5);
    std::error_code ignored;
    if (std::filesystem::is_regular_file(file, ignored) && std::find(out.begin(), out.end(), file) == out.end()) out.push_back(file);
  }
  return out;
}

// A generator whose code is the image.
Generator bare_images(const ImageSpec& image) {
  Generator generator;
  generator.name = "images";
  generator.latent = {image.channels, image.height, image.width};
  generator.image = image;
  generator.decode = [](const Tensor& x) { return x; };
  return generator;
}

// The rows of a dataset's training split, int64 [M], at least one.
Tensor training_rows(const Hdf5& file, const std::string& name) {
  require(file.has("/images") && file.has("/split"), Failure::input, name,
          ": found no /images and /split, expected a dataset that evoke data wrote");
  const Tensor rows = (file.read("/split") == 0).nonzero().squeeze(1);
  require(rows.numel() > 0, Failure::input, name, ": its training split is empty; expected images");
  return rows;
}

// Refuses a start or a dataset that cannot serve, before anything is written.
void check_start(const Experiment& e) {
  const bool prior_draws = e.prior && e.prior->draw, examples = e.method == "dataset_examples";
  const std::string where = "[run] start = \"" + e.run.start + "\": ", &start = e.run.start;
  if (examples || start == "data") {
    require(!e.data.empty(), Failure::input, examples ? "[sampler] kind = \"dataset_examples\": " : where,
            "found no [data] file, expected a dataset of real images; name one: --set data.file=shapes.h5");
    training_rows(Hdf5::open(e.data), e.data);
  }
  if (examples || e.method == "random_search") return;
  require(start != "prior" || prior_draws, Failure::usage, where, e.prior ? "prior " + e.prior->name + " cannot draw" : "found no prior",
          "; set start = \"generator\", or add a [prior] that can");
  require(start != "data" || e.generator.encode, Failure::usage, where, "generator ", e.generator.name,
          " has no encoder; expected a pixel generator, an autoencoder or a vae");
  require(start == "prior" || start == "data" || prior_draws || e.generator.start, Failure::usage, where,
          "neither the prior nor generator ", e.generator.name, " can draw a starting code; add a [prior] that can");
  require(start != "generator" || e.generator.start, Failure::usage, where, "generator ", e.generator.name, " has no customary start");
  require(start != "search" || e.run.search_draws >= e.run.chains, Failure::input, "[run] search_draws: found ", e.run.search_draws,
          ", expected at least one a chain, ", e.run.chains);
}

}  // namespace

// ---- From a recipe to nouns ------------------------------------------------------------------------------------------------------------

Experiment assemble(Recipe& recipe) {
  Experiment e;
  e.run = recipe.read<RunTable>("run");
  set_threads(e.run.threads);
  e.device = device_named(e.run.device);
  e.data = recipe.read<DataTable>("data").file;
  e.classifier = make_classifier(recipe, e.device);
  e.generator = make_generator(recipe, e.classifier.image, e.device);
  const WeightedPrior prior = make_prior(recipe, e.generator, e.device);
  e.prior = prior.prior;
  const Transform transform = make_transform(recipe, e.classifier.image);

  // How many chains: a search has its own words for that.
  e.method = recipe.kind("sampler", "langevin");
  const bool examples = e.method == "dataset_examples";
  const SamplerPlan plan =
      examples ? SamplerPlan{.chains = e.run.chains, .steps = e.run.steps} : sampler_plan(recipe, e.run.chains, e.run.steps);
  e.run.chains = plan.chains;
  e.run.steps = plan.steps;
  e.most_images = plan.most_images;
  if (!plan.starts_at_codes) e.run.stride = std::max(e.run.stride, (e.run.steps + search_records - 1) / search_records);

  // Which column each row climbs. Pictures are scored by the units alone, without penalties.
  make_objective(recipe, e.classifier);
  Recipe alone = Recipe::parse(recipe.resolved(), "", {"objective.penalties=[]"});
  const Objective columns = make_objective(alone, e.classifier);
  e.row_by_row = columns.rows_independent;
  const auto units = static_cast<int64_t>(columns.units.size());
  e.rows = at::arange(units, at::TensorOptions(at::kLong).device(e.device)).repeat_interleave(e.run.chains);
  e.images_per_step = plan.images_per_row * e.rows.size(0) + plan.images_per_step;
  e.objective = make_objective(recipe, e.classifier, e.rows);
  for (const std::string& name : columns.units) e.places.push_back(unit_place(name));

  // The sentence: what is climbed, and what pictures are scored by.
  e.plain = posterior(e.generator, {}, e.classifier, columns, std::nullopt, {});
  PosteriorOptions options{.rows = e.rows, .prior_weight = prior.weight, .objective_weight = e.run.objective_weight};
  // Where a row's score depends on its batch, the results' scores are the run's own, and are to be float32.
  options.bfloat16 = columns.rows_independent && in_bfloat16(plan.precision, e.device);
  e.target = posterior(e.generator, transform, e.classifier, e.objective, plan.brings_prior ? std::nullopt : e.prior, options);
  if (examples) {
    e.examples = recipe.read<DatasetExamplesOptions>("sampler");
  } else {
    e.sampler = make_sampler(recipe, e.target, e.prior, {.chains = plan.chains, .steps = plan.steps, .rows = e.rows, .proposal = {}});
  }
  recipe.refuse_unread();
  check_start(e);
  e.config = recipe.resolved();
  e.files = files_in(e.config);
  return e;
}

UnitPlace unit_place(const std::string& unit) {
  UnitPlace place;
  const size_t colon = unit.rfind(':');
  place.layer = unit.substr(0, colon);
  if (colon == std::string::npos) return place;
  const std::string rest = unit.substr(colon + 1);
  if (std::sscanf(rest.c_str(), "%ld@%ld,%ld", &place.unit, &place.y, &place.x) < 1) place.layer = unit;
  return place;
}

std::string unit_caption(const Classifier& classifier, const std::string& unit) {
  const UnitPlace place = unit_place(unit);
  const bool logit = !classifier.layers.empty() && place.layer == classifier.layers.back().name && place.y < 0;
  if (!logit || place.unit < 0 || place.unit >= static_cast<int64_t>(classifier.labels.size())) return unit;
  return unit + " " + classifier.labels[static_cast<size_t>(place.unit)];
}

Tensor score_images(const Classifier& classifier, const Objective& objective, const Tensor& images, at::Device device) {
  ImageSpec image = classifier.image;
  image.channels = images.size(1), image.height = images.size(2), image.width = images.size(3);
  const Target target = posterior(bare_images(image), {}, classifier, objective, std::nullopt, {});
  std::vector<Tensor> scores;
  for (int64_t first = 0; first < images.size(0); first += picture_batch) {
    const Tensor part = images.slice(0, first, first + picture_batch).to(device);
    Stream unused = Stream::range(0, 0, part.size(0), device);
    scores.push_back(target.scan(part, unused).to(at::kFloat).cpu());
  }
  return scores.empty() ? at::zeros({0, static_cast<int64_t>(objective.units.size())}) : at::cat(scores);
}

namespace {

// ---- Where chains begin ----------------------------------------------------------------------------------------------------------------

// Any starting code: the prior's where it draws.
Tensor draws_of(const Experiment& e, Stream& stream) {
  return e.prior && e.prior->draw ? e.prior->draw(stream) : e.generator.start(stream);
}

Tensor zeros_of(const Experiment& e) {
  std::vector<int64_t> shape = e.generator.latent;
  shape.insert(shape.begin(), e.rows.size(0));
  return at::zeros(shape, at::TensorOptions(at::kFloat).device(e.device));
}

// The best `chains` of search_draws draws for every unit, best first.
Tensor searched_start(const Experiment& e) {
  RandomSearchOptions options;
  options.draws = e.run.search_draws;
  options.keep = e.run.chains;
  // Draws of a denoiser are cheaper together; large images would fill the memory.
  if (e.generator.image.height * e.generator.image.width <= int64_t{64} * 64) options.batch = 256;
  const Sampler search = random_search(options, [&e](Stream& stream) { return draws_of(e, stream); });
  RunOptions run_options;
  run_options.steps = search_steps(options);
  run_options.seed = static_cast<uint64_t>(e.run.seed);
  run_options.chains = at::arange(e.rows.size(0), e.rows.options());
  Progress progress("search for the start", run_options.steps, "batch");
  const Observer observer = [&](int64_t step, const State&, const Info&) { progress.at(step + 1); };
  return run(search, e.plain, zeros_of(e), run_options, observer).z;
}

// Codes of training images, drawn with replacement, one a row.
Tensor encoded_start(const Experiment& e, Stream& stream) {
  const Hdf5 file = Hdf5::open(e.data);
  const Tensor rows = training_rows(file, e.data), uniform = stream.uniform({}).cpu().to(at::kDouble);
  const Tensor chosen = rows.index_select(0, (uniform * static_cast<double>(rows.numel())).to(at::kLong).clamp_max(rows.numel() - 1));
  std::vector<Tensor> codes;
  for (int64_t row = 0; row < chosen.size(0); ++row)
    codes.push_back(e.generator.encode(from_bytes(file.read_rows("/images", chosen[row].item<int64_t>(), 1)).to(e.device)));
  return at::cat(codes);
}

Tensor starting_codes(const Experiment& e, const Tensor& chains) {
  if (e.method == "random_search") return zeros_of(e);
  if (e.run.start == "search") return searched_start(e);
  Stream stream(static_cast<uint64_t>(e.run.seed), chains, start_step);
  if (e.run.start == "data") return encoded_start(e, stream);
  if (e.run.start == "generator") return e.generator.start(stream);
  return draws_of(e, stream);
}

// ---- What is saved and taken up again --------------------------------------------------------------------------------------------------

struct Progressed {
  State state;
  Trace trace;
  std::vector<Tensor> snapshots;  // uint8 [N,H,W,C] each
  int64_t next_step = 0;
};

// Which of the tensors are channels_last: sums over a tensor are bit-identical only in the order they were taken in.
std::string channels_last_names(const Tensors& tensors) {
  std::string out;
  for (const auto& [name, tensor] : tensors)
    if (tensor.dim() == 4 && !tensor.is_contiguous() && tensor.is_contiguous(at::MemoryFormat::ChannelsLast)) out += name + ";";
  return out;
}

void save(const RunDirectory& directory, const Experiment& e, const State& state, const Progressed& at_step, int64_t next_step) {
  Checkpoint checkpoint;
  for (const auto& [name, tensor] : pack(state)) checkpoint.tensors["state/" + name] = tensor;
  for (const auto& [name, tensor] : at_step.trace.pack()) checkpoint.tensors["trace/" + name] = tensor;
  if (!at_step.snapshots.empty()) checkpoint.tensors["snapshots"] = at::stack(at_step.snapshots, 1);
  checkpoint.facts = {
      {"step", std::to_string(next_step)}, {"config", sha256(e.config)}, {"channels_last", channels_last_names(checkpoint.tensors)}};
  save_checkpoint(directory.file("checkpoint.safetensors"), checkpoint);
}

Progressed restored(const std::string& file, const Experiment& e) {
  const Checkpoint checkpoint = load_checkpoint(file);
  const auto fact = [&](const char* name) {
    const auto found = checkpoint.facts.find(name);
    require(found != checkpoint.facts.end(), Failure::input, file, ": found no '", name, "', expected a checkpoint of evoke sample");
    return found->second;
  };
  require(fact("config") == sha256(e.config), Failure::input, file, ": it belongs to another recipe; choose another --out");
  const std::string channels_last = ";" + fact("channels_last");
  Tensors state, trace;
  Progressed out{{}, Trace(e.run.stride), {}, std::stoll(fact("step"))};
  for (const auto& [name, saved] : checkpoint.tensors) {
    Tensor tensor = saved.to(e.device);
    if (channels_last.find(";" + name + ";") != std::string::npos) tensor = tensor.contiguous(at::MemoryFormat::ChannelsLast);
    if (name.starts_with("state/")) state[name.substr(6)] = tensor;
    if (name.starts_with("trace/")) trace[name.substr(6)] = tensor;
    if (name == "snapshots")
      for (const Tensor& part : saved.unbind(1)) out.snapshots.push_back(part.contiguous());
  }
  out.state = unpack(state);
  if (!trace.empty()) out.trace.unpack(trace);
  return out;
}

// ---- What is read out ------------------------------------------------------------------------------------------------------------------

// Pictures of codes, uint8 [N,H,W,C] on the CPU, a few at a time.
Tensor pictures_of(const Experiment& e, const Tensor& codes) {
  const c10::NoGradGuard no_gradient;
  std::vector<Tensor> out;
  for (int64_t first = 0; first < codes.size(0); first += picture_batch)
    out.push_back(to_bytes(e.generator.decode(codes.slice(0, first, first + picture_batch))));
  return at::cat(out);
}

// The objective of each row's own unit at these codes, float32 [N] on the CPU.
Tensor activations_of(const Experiment& e, const Tensor& codes) {
  std::vector<Tensor> out;
  for (int64_t first = 0; first < codes.size(0); first += picture_batch) {
    const Tensor part = codes.slice(0, first, first + picture_batch);
    Stream unused = Stream::range(0, 0, part.size(0), e.device);
    const Tensor column = e.rows.slice(0, first, first + picture_batch).unsqueeze(1);
    out.push_back(e.plain.scan(part, unused).gather(1, column).squeeze(1).to(at::kFloat).cpu());
  }
  return at::cat(out);
}

std::string number(double value) {
  std::ostringstream out;
  out << std::setprecision(3) << value;
  return out.str();
}

// Names, chains and captions of the rows; the pictures and activations are there already.
void name_rows(Sampled& sampled, const Experiment& e) {
  Results& results = sampled.results;
  const int64_t chains = e.run.chains, rows = results.images.size(0);
  const Tensor& activation = results.activation;
  for (int64_t row = 0; row < rows; ++row) {
    const auto unit = static_cast<size_t>(row / chains);
    results.units.push_back(e.places[unit]);
    sampled.captions.push_back(unit_caption(e.classifier, e.plain.units[unit]) + "  " + number(activation[row].item<double>()));
  }
  results.chain = at::arange(rows);
  results.seed = static_cast<uint64_t>(e.run.seed);
  if (results.status.empty()) results.status.assign(static_cast<size_t>(rows), "ok");
  sampled.units = e.plain.units;
}

// Rows that a fallback handed to its search say so, and rows that no gradient ever moved. trace: [N,S] of the value.
std::vector<std::string> status_of(const State& state, const Tensor& trace) {
  std::vector<std::string> out(static_cast<size_t>(state.z.size(0)), "ok");
  if (state.at.gradient.defined() && trace.defined() && trace.size(1) > 1) {
    const Tensor still = (state.at.gradient == 0).flatten(1).all(1).cpu() & (trace == trace.narrow(1, 0, 1)).all(1);
    for (int64_t row = 0; row < still.numel(); ++row)
      if (still[row].item<bool>()) out[static_cast<size_t>(row)] = "no gradient";
    if (const auto count = still.sum().item<int64_t>(); count > 0)
      warn_once(text(count, " of ", still.numel(),
                     " chains never felt a gradient: their units do not answer to anything near where they began; "
                     "[sampler] kind = \"fallback\" searches there, [run] start and seed begin elsewhere"));
  }
  const auto searched = state.carry.find("searched");
  if (searched == state.carry.end()) return out;
  const Tensor step = searched->second.cpu();
  int64_t handed = 0;
  for (int64_t row = 0; row < step.numel(); ++row)
    if (const auto at = step[row].item<int64_t>(); at >= 0) {
      out[static_cast<size_t>(row)] = text("searched at step ", at);
      ++handed;
    }
  if (handed > 0) say(text(handed, " of ", step.numel(), " chains got nowhere by gradient and went on from the best random code"));
  return out;
}

// ---- Real images -----------------------------------------------------------------------------------------------------------------------

// The training images that excite each unit most, in one pass over the file; codes hold their place in it.
Sampled dataset_examples(const Experiment& e, const SampleRequest& request) {
  const double begun = seconds();
  const Hdf5 file = Hdf5::open(e.data);
  Tensor rows = training_rows(file, e.data);
  if (e.examples.images > 0) rows = rows.slice(0, 0, e.examples.images);
  const auto units = static_cast<int64_t>(e.plain.units.size()), keep = e.run.chains;
  require(rows.numel() >= keep, Failure::input, e.data, ": found ", rows.numel(), " training images, expected at least chains = ", keep);

  Tensor best = at::zeros({units, 0}), place = at::zeros({units, 0}, at::kLong);
  Progress progress(request.title, rows.numel(), "image");
  Sampled sampled;
  for (int64_t first = 0; first < rows.numel(); first += 8 * picture_batch) {
    // The split's rows may be scattered over the file: read the span, take the rows.
    const Tensor part = rows.slice(0, first, first + 8 * picture_batch);
    const auto low = part[0].item<int64_t>(), high = part[-1].item<int64_t>();
    const Tensor images = file.read_rows("/images", low, high - low + 1).index_select(0, part - low);
    const Tensor scores = score_images(e.classifier, e.objective, from_bytes(images), e.device).t();
    const Tensor pool = at::cat({best, scores}, 1), places = at::cat({place, part.unsqueeze(0).expand({units, -1})}, 1);
    auto [value, order] = at::sort(pool, /*stable=*/std::optional<bool>(true), /*dim=*/1, /*descending=*/true);
    best = value.slice(1, 0, keep);
    place = places.gather(1, order.slice(1, 0, keep));
    sampled.images += part.numel();
    progress.at(sampled.images);
    if (interrupted()) {
      sampled.interrupted = true;
      return sampled;
    }
  }
  Results& results = sampled.results;
  const Tensor chosen = place.flatten();
  std::vector<Tensor> pictures;
  for (int64_t row = 0; row < chosen.numel(); ++row) pictures.push_back(file.read_rows("/images", chosen[row].item<int64_t>(), 1));
  results.images = at::cat(pictures);
  results.activation = best.flatten().contiguous();
  results.codes = chosen.to(at::kFloat).unsqueeze(1);
  name_rows(sampled, e);
  sampled.seconds = seconds() - begun;
  return sampled;
}

}  // namespace

// ---- The run ---------------------------------------------------------------------------------------------------------------------------

Sampled sample(const Experiment& e, const SampleRequest& request) {
  if (e.method == "dataset_examples") return dataset_examples(e, request);
  const double begun = seconds();
  RunOptions options;
  options.steps = e.run.steps;
  options.seed = static_cast<uint64_t>(e.run.seed);
  options.chains = at::arange(e.rows.size(0), e.rows.options());
  options.stop = interrupted;

  // Begin, or take up what an earlier process left.
  Progressed now{{}, Trace(e.run.stride), {}, 0};
  const std::string file = request.directory ? request.directory->file("checkpoint.safetensors") : "";
  if (!file.empty() && std::filesystem::exists(file)) {
    now = restored(file, e);
    say(text("going on from step ", now.next_step, " of ", options.steps));
  } else {
    now.state = begin(e.sampler, e.target, starting_codes(e, options.chains), options);
  }
  options.first_step = now.next_step;

  // Move, and watch: record, show, save.
  Progress progress(request.title, options.steps, "step");
  double saved = seconds();
  const Observer observer = [&](int64_t step, const State& state, const Info&) {
    now.trace.see(step, state);
    if (e.run.snapshots > 0 && step % e.run.snapshots == 0) now.snapshots.push_back(pictures_of(e, state.z));
    now.next_step = step + 1;
    progress.at(now.next_step);
  };
  if (request.directory) {
    options.save_due = [&](int64_t) {
      const bool due = seconds() - saved > checkpoint_seconds || (e.run.checkpoint > 0 && now.next_step % e.run.checkpoint == 0);
      return now.next_step < options.steps && (due || interrupted());
    };
    options.save = [&](int64_t, const State& state) {
      save(*request.directory, e, state, now, now.next_step);
      saved = seconds();
    };
  }
  now.state = run(e.sampler, e.target, std::move(now.state), options, observer);
  Sampled sampled;
  sampled.images = std::min((now.next_step - options.first_step) * e.images_per_step, e.most_images);
  if (interrupted() && now.next_step < options.steps) {
    sampled.interrupted = true;
    sampled.seconds = seconds() - begun;
    return sampled;
  }

  // Read out.
  Results& results = sampled.results;
  const Tensor codes = chosen_codes(now.state).detach();
  results.codes = codes.to(at::kFloat).cpu().contiguous();
  results.images = pictures_of(e, codes);
  results.activation = e.row_by_row ? activations_of(e, codes) : chosen_values(now.state).to(at::kFloat).cpu();
  now.trace.into(results);
  if (!now.snapshots.empty()) results.snapshots = at::stack(now.snapshots, 1);
  results.status = status_of(now.state, results.trace);
  name_rows(sampled, e);
  sampled.seconds = seconds() - begun;
  return sampled;
}

Sampled sample(Recipe& recipe, const SampleRequest& request) { return sample(assemble(recipe), request); }

}  // namespace evoke
