#include "experiments/sample.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <new>

#include "core/error.h"
#include "core/log.h"
#include "core/nouns/posterior.h"
#include "core/nouns/run.h"
#include "core/numbers/memory.h"
#include "core/records/contact_sheet.h"
#include "core/records/pictures.h"
#include "core/storage/files.h"
#include "core/storage/hdf5.h"
#include "core/storage/safetensors.h"
#include "samplers/menu.h"
#include "samplers/random_search.h"

namespace evoke {

namespace {

namespace fs = std::filesystem;

constexpr int64_t picture_batch = 64;            // pictures decoded and scored together
constexpr int64_t start_step = search_step - 1;  // the step number under which starting codes are drawn; no chain ever has it
constexpr double checkpoint_seconds = 20;
constexpr int64_t most_on_cpu = 64, most_on_cuda = 256;  // chains in a block, where more are no faster

// A generator whose code is the image.
Generator bare_images(const ImageSpec& image) {
  Generator generator;
  generator.name = "images";
  generator.latent = {image.channels, image.height, image.width};
  generator.image = image;
  generator.decode = [](const Tensor& x) { return x; };
  return generator;
}

// The least number of rows whose products have the bits that any larger multiple of `even` rows gives: with fewer, the libraries under
// LibTorch take other paths. On CUDA no such number is known, and nothing is promised.
constexpr int64_t even = 8;
int64_t least_rows(at::Device device) { return device.is_cpu() ? even * at::get_num_threads() : 1; }

// ---- Blocks ----------------------------------------------------------------------------------------------------------------------------

// How the chains of a run, or of its shard, are cut into blocks.
struct Plan {
  int64_t first = 0, end = 0;       // the chains of this shard
  int64_t together = 1;             // chains that may not be parted
  bool filled_up = false;           // are blocks filled up with copies of their last chain, which are left out of the results?
  int64_t least = 1, multiple = 1;  // to these sizes

  int64_t fill(int64_t rows) const { return std::max(least, (rows + multiple - 1) / multiple * multiple); }
};

Plan plan_of(const Experiment& e, const Shard& shard) {
  Plan plan;
  plan.together = e.searches || !e.rows_independent ? e.run.chains : 1;
  const int64_t groups = e.rows() / plan.together;
  require(shard.count <= groups, Failure::usage, "--shard: found ", shard.count, " parts, expected at most ", groups,
          plan.together == 1 ? ", the number of chains" : ", the number of units, because the chains of a unit are moved together");
  plan.first = shard.begin(groups) * plan.together;
  plan.end = shard.end(groups) * plan.together;
  // A search sorts its rows by unit: none may be added.
  plan.filled_up = plan.together == 1 && !e.searches;
  if (plan.filled_up && e.device.is_cpu()) {
    plan.least = std::min(e.rows(), least_rows(e.device));
    if (plan.least < e.rows()) plan.multiple = even;
  }
  return plan;
}

// Chains that go through the networks together: as many as the recipe says, else as fit. The same for every shard of a run.
int64_t block_size(const Experiment& e, const Plan& plan) {
  const int64_t rows = e.rows();
  if (e.searches) return plan.end - plan.first;
  const auto whole = [&](int64_t size) { return std::max(plan.together, size / plan.together * plan.together); };
  if (e.run.batch > 0) return whole(std::min(rows, e.run.batch));
  if (!e.device.is_cpu()) return whole(std::min(rows, most_on_cuda));
  // Fewer than plan.least would be filled up to it.
  const int64_t most = std::max(std::min(rows, most_on_cpu), plan.least);
  if (rows <= least_rows(e.device)) return whole(rows);

  // The first step of a few chains and their last, and the same of more chains, measured (guided, for one, looks through other networks in
  // the end than at the beginning): what they differ by is what the chains between need. Beside it the states that samplers keep, each of
  // the size of the code, some twelve at a time. A sampler that begins with smaller images is measured on the target at the full size.
  const int64_t few = std::max<int64_t>(plan.together, 2), more = whole(std::min(rows, std::max<int64_t>(2 * plan.together, 6)));
  if (more <= few) return whole(rows);
  const auto needs = [&](int64_t count) {
    const Block block = e.block(0, count, 0);
    std::vector<int64_t> shape = e.generator.latent;
    shape.insert(shape.begin(), count);
    return memory_during([&] {
      const auto at = [&](int64_t step) { return Stream(0, block.chains, step); };
      Stream start = at(-1), first = at(0), last = at(e.run.steps - 1);
      State state = block.sampler.init(at::zeros(shape), block.target, start);
      if (e.run.steps < 1) return;
      state = block.sampler.step(state, block.target, first).state;
      if (state.z.sizes() == shape)
        block.sampler.step(state, block.target, last);
      else
        block.target.evaluate(at::zeros(shape), last);
    });
  };
  needs(few);  // what a first step makes once and for all
  const int64_t low = needs(few), high = needs(more);
  if (high == 0) return whole(std::max(plan.least, even));  // the system does not tell
  const double each = static_cast<double>(std::max<int64_t>(high - low, 4096)) / static_cast<double>(more - few) +
                      12 * static_cast<double>(at::zeros(e.generator.latent).nbytes()),
               gibibyte = static_cast<double>(int64_t{1} << 30);
  int64_t fitting = static_cast<int64_t>(std::min(static_cast<double>(most), e.run.memory * gibibyte / each + 1e-9));
  fitting = whole(std::max({fitting >= even ? fitting / even * even : fitting, plan.least, int64_t{1}}));
  const double needed = static_cast<double>(fitting) * each / gibibyte;
  if (needed > e.run.memory)
    say(text("chains go through the networks ", fitting, " at a time, ",
             plan.together > 1 ? "which move together" : text("the fewest with ", at::get_num_threads(), " threads (--threads)"),
             ", and need about ", needed, " GiB, more than [run] memory = ", e.run.memory));
  else if (fitting < most)
    say(text("chains go through the networks ", fitting, " at a time, which need about ", needed, " GiB ([run] memory; batch sets it)"));
  return fitting;
}

// Repeats the last row until there are `wanted`.
Tensor filled(const Tensor& rows, int64_t wanted) {
  if (rows.size(0) >= wanted || rows.size(0) == 0) return rows;
  const int64_t missing = wanted - rows.size(0);
  std::vector<int64_t> shape(static_cast<size_t>(rows.dim()), 1);
  shape[0] = missing;
  return at::cat({rows, rows.narrow(0, rows.size(0) - 1, 1).repeat(shape)});
}

// f over the rows of z, some at a time and filled up as blocks are; joined.
Tensor in_batches(const Tensor& z, const Plan& plan, const std::function<Tensor(const Tensor& part, int64_t first)>& f) {
  std::vector<Tensor> out;
  for (int64_t first = 0; first < z.size(0); first += picture_batch) {
    const Tensor part = z.slice(0, first, first + picture_batch);
    out.push_back(f(filled(part, plan.fill(part.size(0))), first).narrow(0, 0, part.size(0)));
  }
  return at::cat(out);
}

// ---- Where chains begin ----------------------------------------------------------------------------------------------------------------

// Any starting code: the prior's where it draws.
Tensor draws_of(const Experiment& e, Stream& stream) {
  return e.prior && e.prior->draw ? e.prior->draw(stream) : e.generator.start(stream);
}

Tensor zeros_of(const Experiment& e, int64_t rows) {
  std::vector<int64_t> shape = e.generator.latent;
  shape.insert(shape.begin(), rows);
  return at::zeros(shape, at::TensorOptions(at::kFloat).device(e.device));
}

// Codes of training images, drawn with replacement, one a row.
Tensor encoded_start(const Experiment& e, Stream& stream) {
  const Hdf5 file = Hdf5::open(e.data);
  const Tensor rows = training_rows(e.data), uniform = stream.uniform({}).cpu().to(at::kDouble);
  const Tensor chosen = rows.index_select(0, (uniform * static_cast<double>(rows.numel())).to(at::kLong).clamp_max(rows.numel() - 1));
  // One at a time: a code then does not depend on the others.
  std::vector<Tensor> codes;
  for (int64_t row = 0; row < chosen.size(0); ++row)
    codes.push_back(e.encoder->encode(from_bytes(file.read_rows("/images", chosen[row].item<int64_t>(), 1)).to(e.device)));
  return at::cat(codes);
}

// Codes of the images of run.starts: those of each row's own column, one after another. columns: int64 [N]; first: the number of the first
// row's chain among all.
Tensor given_start(const Experiment& e, const Tensor& columns, int64_t first) {
  const Tensors images = load_safetensors(e.run.starts).tensors;
  const Tensor column = columns.cpu();
  std::vector<Tensor> codes;
  for (int64_t row = 0; row < column.size(0); ++row) {
    const std::string& name = e.columns[static_cast<size_t>(column[row].item<int64_t>())].name;
    const Tensor& own = images.contains(name) ? images.at(name) : images.at("images");  // looked at when the recipe was read
    const int64_t which = (first + row) % e.run.chains % own.size(0);
    codes.push_back(e.encoder->encode(own.narrow(0, which, 1).to(at::kFloat).to(e.device)));
  }
  return at::cat(codes);
}

// Where the chains of a block begin, but for a start that was searched; `first` is the first one's number among all.
Tensor starting_codes(const Experiment& e, const Block& block, int64_t first) {
  const Tensor& chains = block.chains;
  if (!e.needs_start) return zeros_of(e, chains.size(0));
  if (e.run.start == "images") return given_start(e, block.columns, first);
  Stream stream(static_cast<uint64_t>(e.run.seed), chains, start_step);
  if (e.run.start == "data") return encoded_start(e, stream);
  if (e.run.start == "generator") return e.generator.start(stream);
  return draws_of(e, stream);
}

// ---- What is saved and taken up again --------------------------------------------------------------------------------------------------

struct Progressed {
  State state;
  std::shared_ptr<Trace> trace;  // none of the search for a start
  int64_t next_step = 0;
};

// Which of the tensors are channels_last: sums over a tensor are bit-identical only in the order they were taken in.
std::string channels_last_names(const Tensors& tensors) {
  std::string out;
  for (const auto& [name, tensor] : tensors)
    if (tensor.dim() == 4 && !tensor.is_contiguous() && tensor.is_contiguous(at::MemoryFormat::ChannelsLast)) out += name + ";";
  return out;
}

// `what` says which part of the run it is: the search for the start, or a block.
void save(const std::string& file, const Experiment& e, const std::string& what, const State& state, Progressed& now) {
  Checkpoint checkpoint;
  for (const auto& [name, tensor] : pack(state)) checkpoint.tensors["state/" + name] = tensor;
  checkpoint.facts = {{"step", std::to_string(now.next_step)},
                      {"what", what},
                      {"config", sha256(e.config)},
                      {"trace", std::to_string(now.trace ? now.trace->keep() : 0)},
                      {"channels_last", channels_last_names(checkpoint.tensors)}};
  save_checkpoint(file, checkpoint);
}

// What a checkpoint holds of `what`; nothing where there is none, or where it is of another part of the run.
std::optional<Progressed> restored(const std::string& file, const std::string& trace_file, const Experiment& e, const std::string& what) {
  if (file.empty() || !fs::exists(file)) return std::nullopt;
  const Checkpoint checkpoint = load_checkpoint(file);
  const auto fact = [&](const char* name) {
    const auto found = checkpoint.facts.find(name);
    require(found != checkpoint.facts.end(), Failure::input, file, ": found no '", name, "', expected a checkpoint of evoke sample");
    return found->second;
  };
  require(fact("config") == sha256(e.config), Failure::input, file, ": it belongs to another recipe; choose another --out");
  if (fact("what") != what) return std::nullopt;
  const std::string channels_last = ";" + fact("channels_last");
  Tensors state;
  Progressed out{{}, nullptr, std::stoll(fact("step"))};
  if (!trace_file.empty()) out.trace = std::make_shared<Trace>(e.run.stride, trace_file, std::stoll(fact("trace")));
  for (const auto& [name, saved] : checkpoint.tensors) {
    Tensor tensor = saved.to(e.device);
    if (channels_last.find(";" + name + ";") != std::string::npos) tensor = tensor.contiguous(at::MemoryFormat::ChannelsLast);
    if (name.starts_with("state/")) state[name.substr(6)] = tensor;
  }
  out.state = unpack(state);
  return out;
}

// Moves chains from `now`, recording and saving; false where it was interrupted (and saved).
bool move(const Experiment& e, const Sampler& sampler, const Target& target, const RunOptions& given, const std::string& file,
          const std::string& what, Progressed& now, const std::function<void(int64_t step, const State&)>& watch) {
  RunOptions options = given;
  options.first_step = now.next_step;
  options.stop = interrupted;
  double saved = seconds();
  const Observer observer = [&](int64_t step, const State& state, const Info&) {
    watch(step, state);
    now.next_step = step + 1;
  };
  if (!file.empty()) {
    options.save_due = [&](int64_t) {
      const bool due = seconds() - saved > checkpoint_seconds || (e.run.checkpoint > 0 && now.next_step % e.run.checkpoint == 0);
      return now.next_step < options.steps && (due || interrupted());
    };
    options.save = [&](int64_t, const State& state) {
      save(file, e, what, state, now);
      saved = seconds();
    };
  }
  now.state = run(sampler, target, std::move(now.state), options, observer);
  return now.next_step >= options.steps;
}

// The best `chains` of search_draws draws for every column, best first, kept in start.safetensors; nothing where it was interrupted.
std::optional<Tensor> searched_start(const Experiment& e, const RunDirectory* directory) {
  const std::string file = directory ? directory->file("checkpoint.safetensors") : "",
                    found = directory ? directory->file("start.safetensors") : "";
  if (!found.empty() && fs::exists(found)) return load_checkpoint(found).tensors.at("z").to(e.device);
  RandomSearchOptions options;
  options.draws = e.run.search_draws;
  options.keep = e.run.chains;
  // Draws of a denoiser are cheaper together; large images would fill the memory.
  if (e.generator.image.height * e.generator.image.width <= int64_t{64} * 64) options.batch = 256;
  const Sampler search = random_search(options, [&e](Stream& stream) { return draws_of(e, stream); });
  RunOptions run_options;
  run_options.steps = search_steps(options);
  run_options.seed = static_cast<uint64_t>(e.run.seed);
  run_options.chains = at::arange(e.rows(), at::TensorOptions(at::kLong).device(e.device));
  Progressed now;
  if (auto earlier = restored(file, "", e, "start"))
    now = std::move(*earlier);
  else
    now.state = begin(search, e.scores, zeros_of(e, e.rows()), run_options);
  Progress progress("search for the start", run_options.steps, "batch");
  if (!move(e, search, e.scores, run_options, file, "start", now, [&](int64_t step, const State&) { progress.at(step + 1); }))
    return std::nullopt;
  if (!found.empty()) save_checkpoint(found, {{{"z", now.state.z}}, {}});
  return now.state.z;
}

// ---- What is read out ------------------------------------------------------------------------------------------------------------------

// Pictures of codes, uint8 [N,H,W,C] on the CPU, a few at a time.
Tensor pictures_of(const Experiment& e, const Tensor& codes, const Plan& plan) {
  const c10::NoGradGuard no_gradient;
  return in_batches(codes, plan, [&](const Tensor& part, int64_t) { return to_bytes(e.generator.decode(part)); });
}

// The score of each row's own column at these codes, float32 [N] on the CPU.
Tensor activations_of(const Experiment& e, const Tensor& codes, const Tensor& columns, const Plan& plan) {
  return in_batches(codes, plan, [&](const Tensor& part, int64_t first) {
    Stream unused = Stream::range(0, 0, part.size(0), e.device);
    const Tensor column = filled(columns.slice(0, first, first + picture_batch), part.size(0)).unsqueeze(1);
    return e.scores.scan(part, unused).gather(1, column).squeeze(1).to(at::kFloat).cpu();
  });
}

// Rows that a fallback handed to its search say so, and rows that no gradient ever moved. unmoved: bool [rows], of the score; may be
// undefined.
std::vector<std::string> status_of(const State& state, const Tensor& unmoved, int64_t rows) {
  std::vector<std::string> out(static_cast<size_t>(rows), "ok");
  if (state.at.gradient.defined() && unmoved.defined()) {
    // Nothing at all, or nothing of the objective's own: what the prior pulls says nothing about the unit.
    Tensor none = (state.at.gradient == 0).flatten(1).all(1);
    if (const auto slope = state.at.terms.find("slope"); slope != state.at.terms.end()) none = none | (slope->second == 0);
    const Tensor still = none.cpu().narrow(0, 0, rows) & unmoved;
    for (int64_t row = 0; row < rows; ++row)
      if (still[row].item<bool>()) out[static_cast<size_t>(row)] = "no gradient";
  }
  const auto searched = state.carry.find("searched");
  if (searched == state.carry.end()) return out;
  const Tensor step = searched->second.cpu();
  for (int64_t row = 0; row < rows; ++row)
    if (const auto at = step[row].item<int64_t>(); at >= 0) out[static_cast<size_t>(row)] = text("searched at step ", at);
  return out;
}

constexpr const char* dead = "dead: no gradient, and no real image excites it";

// What befell the chains of the whole run, said once.
void say_status(const Results& results) {
  const std::vector<std::string>& status = results.status;
  const auto all = static_cast<int64_t>(status.size());

  // Units all of whose chains are dead.
  std::map<std::string, bool> units;
  for (size_t row = 0; row < status.size(); ++row) {
    const auto [unit, first] = units.emplace(results.columns[row].name, true);
    unit->second = unit->second && status[row] == dead;
  }
  std::vector<std::string> names;
  for (const auto& [name, all_dead] : units)
    if (all_dead) names.push_back(name);
  if (!names.empty())
    warn_once(text(list_of(names), names.size() == 1 ? " is dead: it feels" : " are dead: they feel",
                   " no gradient where any chain went, and no image of the exemplars excites ", names.size() == 1 ? "it" : "them"));

  const auto still = std::count(status.begin(), status.end(), "no gradient"),
             searched = std::count_if(status.begin(), status.end(), [](const std::string&one) { return one.starts_with("searched"); });
  if (still > 0)
    warn_once(text(still, " of ", all,
                   " chains never felt a gradient: their units do not answer to anything near where they began; "
                   "[sampler] kind = \"fallback\" searches there, [run] start and seed begin elsewhere"));
  if (searched > 0) say(text(searched, " of ", all, " chains got nowhere by gradient and went on from the best random code"));
}

// What a trace records of the first rows of a state: those that do not only fill up a block.
State first_rows(const State& state, int64_t rows) {
  State out;
  if (state.at.value.defined()) out.at.value = state.at.value.narrow(0, 0, rows);
  for (const auto& [name, term] : state.at.terms) out.at.terms[name] = term.narrow(0, 0, rows);
  return out;
}

// The results of a block that has come to its end; rows past `count` only filled it up.
Results read_out(const Experiment& e, const Block& block, const Progressed& now, int64_t first, int64_t count, const Plan& plan) {
  Results out;
  const Tensor codes = chosen_codes(now.state).detach();
  const auto own = [count](const Tensor& rows) { return rows.narrow(0, 0, count); };
  out.codes = own(codes).to(at::kFloat).cpu().contiguous();
  out.images = own(pictures_of(e, codes, plan));
  const bool alone = e.objective.rows_independent;
  out.activation = own(alone ? activations_of(e, codes, block.columns, plan) : chosen_values(now.state).to(at::kFloat).cpu());
  out.trace = now.trace;
  out.status = status_of(now.state, now.trace->unmoved(), count);
  for (int64_t row = 0; row < count && !e.silent.empty(); ++row)
    if (std::string& status = out.status[static_cast<size_t>(row)];
        status == "no gradient" && e.silent[static_cast<size_t>((first + row) / e.run.chains)])
      status = dead;
  std::vector<int64_t> chain;
  for (int64_t row = first; row < first + count; ++row) {
    const Column& column = e.columns[static_cast<size_t>(row / e.run.chains)];
    const std::string caption = caption_of(column, e.classifier);
    out.columns.push_back(column);
    out.labels.push_back(caption == column.name ? "" : caption.substr(column.name.size() + 1));
    chain.push_back(row % e.run.chains);
  }
  out.chain = at::tensor(chain, at::kLong);
  out.seed = static_cast<uint64_t>(e.run.seed);
  return out;
}

void add_rows(Tensor& into, const Tensor& rows) { into = into.defined() && rows.defined() ? at::cat({into, rows}) : rows; }

// Rows of `more` behind those of `all`; of what a directory will hold on disk, only a summary.
void append(Results& all, const Results& more, bool brief) {
  append_summary(all, more);
  if (brief) return;
  const auto add = add_rows;
  add(all.images, more.images);
  add(all.codes, more.codes);
}

std::string part_name(int64_t first) {
  char name[40];
  std::snprintf(name, sizeof name, "%012lld.h5", static_cast<long long>(first));
  return name;
}

// The parts that earlier processes finished, in the order of their rows.
std::vector<std::string> finished_parts(const RunDirectory& directory) {
  std::vector<std::string> out;
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(directory.file("parts"), none))
    if (entry.path().extension() == ".h5" && !entry.path().filename().string().starts_with(".")) out.push_back(entry.path().string());
  std::sort(out.begin(), out.end());
  return out;
}

// LibTorch's own words, or those of a program that would have taken more than there is (core/programs/memory_bound.h).
bool memory_ran_out(const std::exception& error) {
  if (const auto* own = dynamic_cast<const Error*>(&error)) return own->kind() == Failure::device && speaks_of_memory(error.what());
  return dynamic_cast<const c10::OutOfMemoryError*>(&error) || dynamic_cast<const std::bad_alloc*>(&error) ||
         speaks_of_memory(error.what());
}

}  // namespace

void append_summary(Results& all, const Results& more) {
  add_rows(all.activation, more.activation);
  add_rows(all.chain, more.chain);
  all.columns.insert(all.columns.end(), more.columns.begin(), more.columns.end());
  all.labels.insert(all.labels.end(), more.labels.begin(), more.labels.end());
  all.status.insert(all.status.end(), more.status.begin(), more.status.end());
  all.seed = more.seed;
}

// ---- The run ---------------------------------------------------------------------------------------------------------------------------

Sampled sample(const Experiment& e, const SampleRequest& request) {
  const double begun = seconds();
  RunDirectory* directory = request.directory;
  const std::string file = directory ? directory->file("checkpoint.safetensors") : "";
  const std::string trace_file = directory ? directory->file("trace.records") : "";
  Plan plan = plan_of(e, request.shard);
  Sampled sampled;
  sampled.images = e.images_seen;
  const auto stopped = [&] {
    sampled.interrupted = true;
    sampled.seconds = seconds() - begun;
    return sampled;
  };

  // What earlier processes finished.
  std::vector<std::string> parts;
  int64_t next = plan.first;
  if (directory) {
    parts = finished_parts(*directory);
    for (const std::string& part : parts) {
      const Results held = read_results(part, 0, -1, /*codes=*/false);
      next += held.images.size(0);
      append(sampled.results, held, true);
    }
    if (next > plan.first) say(text("going on behind the ", next - plan.first, " of ", plan.end - plan.first, " chains that are finished"));
  }

  // Block by block.
  std::optional<Tensor> start;
  if (e.run.start == "search" && e.needs_start && next < plan.end && !(start = searched_start(e, directory))) return stopped();
  int64_t size = next < plan.end ? block_size(e, plan) : 0;
  const int64_t rows_steps = (plan.end - plan.first) * std::max<int64_t>(e.run.steps, 1);
  Progress progress(request.title, e.searches ? e.run.steps : rows_steps, e.searches ? "batch" : "chain-step");
  while (next < plan.end) {
    const int64_t count = std::min(size, plan.end - next);
    const std::string what = text("chains ", next, " to ", next + count - 1);
    try {
      // In bfloat16 even larger batches may differ in a last bit: every block is filled up to the full one.
      const Block block = e.block(next, count, plan.fill(e.bfloat16 && plan.filled_up ? size : count));
      RunOptions options;
      options.steps = e.run.steps;
      options.seed = static_cast<uint64_t>(e.run.seed);
      options.chains = block.chains;
      Progressed now;
      if (auto earlier = restored(file, trace_file, e, what)) {
        now = std::move(*earlier);
        say(text("going on from step ", now.next_step, " of ", options.steps, " of ", what));
      } else {
        const Tensor z = start ? filled(start->narrow(0, next, count), block.chains.size(0)) : starting_codes(e, block, next);
        now.trace = std::make_shared<Trace>(e.run.stride, trace_file);
        now.state = begin(block.sampler, block.target, z, options);
      }
      const auto watch = [&](int64_t step, const State& state) {
        now.trace->see(step, first_rows(state, count));
        if (e.run.snapshots > 0 && step % e.run.snapshots == 0) now.trace->see_pictures(pictures_of(e, state.z, plan).narrow(0, 0, count));
        progress.at(e.searches ? step + 1 : (next - plan.first) * e.run.steps + (step + 1) * count);
      };
      if (!move(e, block.sampler, block.target, options, file, what, now, watch)) return stopped();
      Results results = read_out(e, block, now, next, count, plan);
      if (directory) {
        fs::create_directories(directory->file("parts"));
        parts.push_back(directory->file("parts/" + part_name(next)));
        save_pictures(directory->path(), results, next);  // before the part, which says that its chains are finished
        write_results(parts.back(), results);
        std::remove(file.c_str());
        results.trace = nullptr;
      }
      append(sampled.results, results, directory != nullptr);
      next += count;
    } catch (const std::exception& error) {
      if (!memory_ran_out(error) || count <= plan.together || e.searches) throw;
      size = std::max(plan.together, count / 2 / plan.together * plan.together);
      if (size < plan.least) plan.least = size, plan.multiple = 1;  // a last bit may differ now, which is better than no picture
      say(text("memory ran out with ", count, " chains at a time; going on with ", size));
    }
  }

  if (directory) {
    join_results(parts, directory->file("results.h5"));
    save_contact_sheet(directory->path());
  }
  say_status(sampled.results);
  sampled.seconds = seconds() - begun;
  return sampled;
}

namespace {

// A line a unit, with the spread of its pictures.
nlohmann::json summary_of(const Results& results) {
  nlohmann::json units = nlohmann::json::array();
  const auto rows = static_cast<int64_t>(results.columns.size());
  for (int64_t first = 0, end = 0; first < rows; first = end) {
    const std::string name = unit_caption(results, first);
    for (end = first + 1; end < rows && unit_caption(results, end) == name; ++end) {
    }
    const Tensor own = results.activation.slice(0, first, end);
    units.push_back(
        {{"unit", name}, {"lowest", own.min().item<double>()}, {"mean", own.mean().item<double>()}, {"highest", own.max().item<double>()}});
  }
  return units;
}

}  // namespace

nlohmann::json record_run(RunDirectory& directory, const Results& results) {
  const nlohmann::json units = summary_of(results);
  directory.keep_metrics(0);  // what a process that was killed here may have begun
  for (const nlohmann::json& unit : units) directory.metric(unit);
  directory.manifest()["units"] = units;
  directory.finish("done");
  return units;
}

std::optional<nlohmann::json> sample_into(const Experiment& e, const std::string& out, SampleRequest request) {
  plan_of(e, request.shard);  // refuses a shard without chains before anything is written
  RunDirectory directory = RunDirectory::open(out, "sample", e.config, e.files);
  record_shard(directory, request.shard);
  if (directory.done()) {
    say(out + " holds this very run, finished; nothing to do");
    return directory.manifest().value("units", nlohmann::json::array());
  }
  try {
    directory.manifest()["seed"] = e.run.seed;
    directory.manifest()["device"] = e.device.str();
    directory.save_manifest();
    detail(request.title + ": " + e.scores.name);
    say(text(request.title, ": ", e.columns.size(), " units × ", e.run.chains, " chains by ", e.method));

    request.title += " " + e.method;
    request.directory = &directory;
    const Sampled sampled = sample(e, request);
    const double before = directory.manifest().value("sampling_seconds", 0.0);
    directory.manifest()["sampling_seconds"] = before + sampled.seconds;
    if (sampled.interrupted) {
      directory.finish("interrupted");
      say(request.title + ": interrupted and saved; the same command goes on from here");
      return std::nullopt;
    }
    directory.manifest()["images_seen"] = sampled.images;
    return record_run(directory, sampled.results);
  } catch (...) {
    directory.finish("failed");
    throw;
  }
}

Sampled sample(Recipe& recipe, const SampleRequest& request) { return sample(assemble(recipe), request); }

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
  return scores.empty() ? at::zeros({0, static_cast<int64_t>(objective.columns.size())}) : at::cat(scores);
}

}  // namespace evoke
