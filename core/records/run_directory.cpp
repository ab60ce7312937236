#include "core/records/run_directory.h"

#include <ATen/ATen.h>
#include <fcntl.h>
#include <torch/version.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <ctime>
#include <filesystem>

#include "core/error.h"
#include "core/log.h"
#include "core/records/picture.h"
#include "core/storage/files.h"
#include "core/storage/hdf5.h"

namespace evoke {

namespace {

namespace fs = std::filesystem;
using json = nlohmann::json;

std::string now_text() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char buffer[32];
  std::strftime(buffer, sizeof(buffer), "%Y-%m-%dT%H:%M:%SZ", &parts);
  return buffer;
}

// What a folder holds, without the unfinished files that a killed process left (see write_file_with): those are deleted.
std::vector<std::string> contents(const std::string& path) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(path)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(".") && name.find(".part-") != std::string::npos)
      fs::remove(entry.path());
    else
      names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

// A kill may have cut the last line of metrics.jsonl.
void drop_torn_line(const std::string& file) {
  if (!fs::exists(file)) return;
  const std::string lines = read_file(file);
  if (!lines.empty() && lines.back() != '\n') write_file(file, lines.substr(0, lines.rfind('\n') + 1));
}

}  // namespace

RunDirectory RunDirectory::open(const std::string& path, const std::string& verb, const std::string& config) {
  require(!path.empty(), Failure::usage, "--out: found nothing, expected the name of a folder for the run");
  std::error_code trouble;
  for (fs::path part = fs::path(path).lexically_normal(); !part.empty(); part = part.parent_path()) {
    require(!fs::exists(part, trouble) || fs::is_directory(part, trouble), Failure::usage, path, ": found a file",
            part == fs::path(path).lexically_normal() ? "" : " at " + part.string(),
            ", expected a folder for the run; name another place with --out");
    if (part == part.parent_path()) break;
  }
  fs::create_directories(path, trouble);
  require(fs::is_directory(path, trouble), Failure::runtime, path, ": the folder cannot be made (", trouble.message(),
          "); name another place with --out");

  RunDirectory run;
  run.path_ = path;
  run.begun_ = seconds();
  const std::string config_file = run.file("config.toml"), manifest_file = run.file("manifest.json");
  const std::vector<std::string> found = contents(path);
  if (!found.empty()) {
    require(fs::exists(config_file), Failure::usage, path, ": found a folder that holds ", list_of(found, 5),
            ", expected an empty one or a run of this config; name another place with --out");
    require(read_file(config_file) == config, Failure::usage, path,
            ": found a run of another config, expected one of this config or an empty folder; name another place with --out");
    if (fs::exists(manifest_file)) {
      run.manifest_ = json::parse(read_file(manifest_file), nullptr, false);
      require(run.manifest_.is_object() && run.manifest_.value("format", json()) == "evoke run", Failure::input, manifest_file,
              ": found no manifest of a run; name another place with --out");
      require(run.manifest_.value("verb", json()) == verb, Failure::usage, path, ": found a run of evoke ",
              run.manifest_["verb"].is_string() ? run.manifest_["verb"].get<std::string>() : "something else", ", expected one of evoke ",
              verb, "; name another place with --out");
    }
    run.done_ = run.manifest_.is_object() && run.manifest_.value("status", json()) == "done";
    run.resumed_ = !run.done_;
    if (run.done_) return run;
    drop_torn_line(run.file("metrics.jsonl"));
  } else {
    write_file(config_file, config);
  }

  if (!run.manifest_.is_object())
    run.manifest_ = {{"format", "evoke run"}, {"version", 1}, {"verb", verb}, {"inputs", json::array()}, {"begun", now_text()}};
  run.manifest_["versions"] = {{"libtorch", TORCH_VERSION}, {"opencv", opencv_version()}, {"hdf5", hdf5_version()}};
  run.manifest_["status"] = "running";
  run.save_manifest();
  return run;
}

void RunDirectory::add_input(const std::string& input) {
  json entry{{"file", input}, {"sha256", sha256_of_file(input)}};
  for (json& known : manifest_["inputs"])
    if (known.is_object() && known.value("file", json()) == input) {
      known = std::move(entry);
      return;
    }
  manifest_["inputs"].push_back(std::move(entry));
}

void RunDirectory::save_manifest() { write_file(file("manifest.json"), manifest_.dump(2) + "\n"); }

void RunDirectory::finish(const std::string& status) {
  static const std::vector<std::string> known{"done", "interrupted", "failed"};
  require(std::find(known.begin(), known.end(), status) != known.end(), Failure::runtime, "run directory: found status '", status, "'",
          did_you_mean(status, known));
  // Seconds add up over the sittings of a run that was resumed.
  const double before = manifest_.contains("seconds") && manifest_["seconds"].is_number() ? manifest_["seconds"].get<double>() : 0;
  manifest_["seconds"] = before + seconds() - begun_;
  manifest_["ended"] = now_text();
  manifest_["peak_memory_mib"] = std::round(peak_memory_mib());
  manifest_["status"] = status;
  begun_ = seconds();
  save_manifest();
}

void RunDirectory::metric(const json& line) {
  const std::string name = file("metrics.jsonl"), bytes = line.dump() + "\n";
  const int out = ::open(name.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  require(out >= 0, Failure::runtime, name, ": cannot be opened (", std::strerror(errno), ")");
  const bool whole = ::write(out, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size());
  const int reason = errno;
  ::close(out);
  require(whole, Failure::runtime, name, ": cannot be written (", std::strerror(reason), ")");
}

// ---- Results ---------------------------------------------------------------------------------------------------------------------------

namespace {

std::vector<std::string> axes_of(const Tensor& array, const std::string& rest) {
  std::vector<std::string> axes{"row"};
  for (int64_t i = 1; i < array.dim(); ++i) axes.push_back(array.dim() == 2 ? rest : text(rest, "_", i - 1));
  return axes;
}

void check(const Results& results, size_t captions) {
  const std::string where = "results";
  require_shape(results.images, {-1, -1, -1, -1}, where + ": images");
  const int64_t rows = results.images.size(0);
  require(results.images.scalar_type() == at::kByte, Failure::runtime, where, ": found images of ",
          c10::toString(results.images.scalar_type()), ", expected bytes [N,H,W,C]");
  require(results.units.size() == static_cast<size_t>(rows) && (results.status.empty() || results.status.size() == results.units.size()) &&
              (captions == 0 || captions == results.units.size()),
          Failure::runtime, where, ": found ", results.units.size(), " units, ", results.status.size(), " statuses and ", captions,
          " captions for ", rows, " images; expected one each");
  require_shape(results.chain, {rows}, where + ": chain");
  require_shape(results.activation, {rows}, where + ": activation");
  for (const Tensor* rows_first : {&results.codes, &results.trace, &results.snapshots})
    require(!rows_first->defined() || (rows_first->dim() > 0 && rows_first->size(0) == rows), Failure::runtime, where, ": found ",
            rows_first->defined() ? shape_text(rows_first->sizes()) : "", ", expected ", rows, " rows, as there are images");
}

void write_arrays(const std::string& file, const Results& results) {
  Hdf5 out = Hdf5::create(file);
  out.set_attribute("format", "evoke results");
  out.set_attribute("version", "1");
  out.write("/images", results.images, {"row", "height", "width", "channel"});
  if (results.codes.defined()) out.write("/codes", results.codes.to(at::kFloat), axes_of(results.codes, "code"));

  std::vector<std::string> layers;
  std::vector<int64_t> unit, y, x;
  for (const UnitPlace& place : results.units) {
    layers.push_back(place.layer);
    unit.push_back(place.unit);
    y.push_back(place.y);
    x.push_back(place.x);
  }
  out.write_text("/units/layer", layers);
  const auto column = [&](const std::string& name, const std::vector<int64_t>& values) {
    out.write(name, at::tensor(values, at::kLong), {"row"});
  };
  column("/units/unit", unit);
  column("/units/y", y);
  column("/units/x", x);

  out.write("/chain", results.chain.to(at::kLong), {"row"});
  out.write("/seed", at::scalar_tensor(static_cast<int64_t>(results.seed), at::kLong));
  out.write("/activation/final", results.activation.to(at::kFloat), {"row"});
  if (results.trace.defined()) out.write("/activation/trace", results.trace.to(at::kFloat), {"row", "step"});
  for (const auto& [name, term] : results.terms) out.write("/terms/" + name, term.to(at::kFloat), {"row", "step"});
  if (results.steps.defined()) out.write("/steps", results.steps.to(at::kLong), {"step"});
  if (results.snapshots.defined()) out.write("/snapshots", results.snapshots, {"row", "snapshot", "height", "width", "channel"});
  std::vector<std::string> status = results.status;
  status.resize(results.units.size(), "ok");
  out.write_text("/status", status);
}

std::string picture_name(const UnitPlace& place, int64_t row, int64_t chain) {
  char number[24];
  std::snprintf(number, sizeof(number), "%04lld", static_cast<long long>(row));
  std::string layer = place.layer;
  for (char& c : layer)
    if (!std::isalnum(static_cast<unsigned char>(c)) && c != '.' && c != '-') c = '-';
  std::string name = text("images/", number, "_", layer, "_", place.unit);
  if (place.y >= 0) name += text("@", place.y);
  if (place.x >= 0) name += text("-", place.x);
  return text(name, "_", chain, ".png");
}

// One line of the sheet a unit where units have several pictures, a plain grid otherwise. A caption's part before two spaces names the
// unit.
Tensor sheet_of(const Results& results, const std::vector<std::string>& captions, const std::string& title) {
  const auto rows = static_cast<int64_t>(results.units.size());
  const auto same = [&](int64_t a, int64_t b) {
    const UnitPlace &u = results.units[a], &v = results.units[b];
    return u.layer == v.layer && u.unit == v.unit && u.y == v.y && u.x == v.x;
  };
  const auto caption = [&](int64_t row) { return captions.empty() ? std::string() : captions[row]; };
  std::vector<std::pair<int64_t, int64_t>> groups;  // [first, end)
  int64_t longest = 0;
  for (int64_t first = 0, end = 0; first < rows; first = end) {
    for (end = first + 1; end < rows && same(first, end); ++end) {
    }
    groups.emplace_back(first, end);
    longest = std::max(longest, end - first);
  }
  const int64_t side = std::max(results.images.size(1), results.images.size(2)), scale = std::max<int64_t>(1, (96 + side / 2) / side);

  std::vector<Cell> cells;
  if (longest == 1) {
    for (int64_t row = 0; row < rows; ++row) cells.push_back({results.images[row], caption(row)});
    return contact_sheet(cells, std::clamp<int64_t>(std::lround(std::ceil(std::sqrt(1.4 * static_cast<double>(rows)))), 1, 12), {}, {},
                         scale, title);
  }
  const int64_t columns = std::min<int64_t>(longest, 10);
  std::vector<std::string> names;
  for (const auto& [first, end] : groups) {
    const std::string head = caption(first);
    names.push_back(head.substr(0, head.find("  ")));
    for (int64_t row = first; row < end; ++row) {
      if (row > first && (row - first) % columns == 0) names.emplace_back();
      const std::string words = caption(row);
      const size_t split = words.find("  ");
      cells.push_back({results.images[row], split == std::string::npos ? "" : words.substr(split + 2)});
    }
    while (cells.size() % columns) cells.emplace_back();
  }
  return contact_sheet(cells, columns, names, {}, scale, title);
}

}  // namespace

void save_results(RunDirectory& run, const Results& results, const std::vector<std::string>& captions) {
  check(results, captions.size());
  write_file_with(run.file("results.h5"), [&](const std::string& temporary) { write_arrays(temporary, results); });
  std::error_code trouble;
  fs::create_directories(run.file("images"), trouble);
  for (int64_t row = 0; row < results.images.size(0); ++row)
    save_png(run.file(picture_name(results.units[row], row, results.chain[row].item<int64_t>())), results.images[row]);
  if (results.images.size(0) > 0)
    save_png(run.file("contact_sheet.png"), sheet_of(results, captions, fs::path(run.path()).filename().string()));
}

Results load_results(const std::string& run_directory) {
  const std::string name = run_directory + "/results.h5";
  const Hdf5 file = Hdf5::open(name);
  require(file.attribute("format") == "evoke results" && file.attribute("version") == "1", Failure::input, name, ": found format '",
          file.attribute("format"), "' version '", file.attribute("version"), "', expected 'evoke results' version '1'");
  Results results;
  results.images = file.read("/images");
  const auto optional = [&](const std::string& array) { return file.has(array) ? file.read(array) : Tensor(); };
  results.codes = optional("/codes");
  results.trace = optional("/activation/trace");
  results.steps = optional("/steps");
  results.snapshots = optional("/snapshots");
  results.chain = file.read("/chain");
  results.activation = file.read("/activation/final");
  results.seed = static_cast<uint64_t>(file.read("/seed").item<int64_t>());
  results.status = file.read_text("/status");
  if (file.has("/terms"))
    for (const std::string& term : file.names("/terms")) results.terms[term] = file.read("/terms/" + term);

  const std::vector<std::string> layers = file.read_text("/units/layer");
  const Tensor unit = file.read("/units/unit"), y = file.read("/units/y"), x = file.read("/units/x");
  const auto rows = static_cast<int64_t>(layers.size());
  for (const Tensor* column : {&unit, &y, &x}) require_shape(*column, {rows}, name + ": /units");
  for (int64_t row = 0; row < rows; ++row)
    results.units.push_back({layers[row], unit[row].item<int64_t>(), y[row].item<int64_t>(), x[row].item<int64_t>()});
  check(results, 0);
  return results;
}

// ---- Trace -----------------------------------------------------------------------------------------------------------------------------

namespace {

// [N] a step to [N,S]. What a checkpoint brought back is on the CPU, what came later perhaps not.
Tensor side_by_side(const std::vector<Tensor>& columns) {
  std::vector<Tensor> here;
  for (const Tensor& column : columns) here.push_back(column.to(columns.back().device()));
  return at::stack(here, 1);
}

}  // namespace

void Trace::see(int64_t step, const State& state) {
  if (step % stride_ != 0 || !state.at.value.defined()) return;
  values_.push_back(state.at.value.detach().clone());

  // A term that is missing at some step is NaN there.
  const Tensor missing = at::full_like(values_.back(), std::numeric_limits<double>::quiet_NaN());
  for (const auto& [name, term] : state.at.terms) terms_.try_emplace(name, steps_.size(), missing);
  for (auto& [name, columns] : terms_) {
    const auto term = state.at.terms.find(name);
    columns.push_back(term == state.at.terms.end() ? missing : term->second.detach().clone());
  }
  steps_.push_back(step);
}

Tensors Trace::pack() const {
  if (steps_.empty()) return {};
  Tensors out{{"steps", at::tensor(steps_, at::kLong)}, {"value", side_by_side(values_)}};
  for (const auto& [name, columns] : terms_) out["terms/" + name] = side_by_side(columns);
  return out;
}

void Trace::unpack(const Tensors& packed) {
  steps_.clear();
  values_.clear();
  terms_.clear();
  if (packed.empty()) return;
  require(packed.contains("steps") && packed.contains("value"), Failure::input, "checkpoint: found a trace without steps or values");
  const Tensor& steps = packed.at("steps");
  for (int64_t i = 0; i < steps.numel(); ++i) steps_.push_back(steps[i].item<int64_t>());
  for (const auto& [name, table] : packed) {
    if (name == "steps") continue;
    require_shape(table, {-1, steps.numel()}, "checkpoint: trace " + name);
    (name == "value" ? values_ : terms_[name.substr(name.find('/') + 1)]) = table.unbind(1);
  }
}

void Trace::into(Results& results) const {
  for (const auto& [name, table] : pack()) {
    if (name == "steps")
      results.steps = table;
    else if (name == "value")
      results.trace = table.cpu().to(at::kFloat);
    else
      results.terms[name.substr(name.find('/') + 1)] = table.cpu().to(at::kFloat);
  }
}

}  // namespace evoke
