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
#include "core/storage/files.h"
#include "core/records/results.h"
#include "core/storage/hdf5.h"
#include "core/log.h"
#include "core/records/picture.h"

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
  std::error_code trouble;
  require(!fs::exists(path, trouble) || fs::is_directory(path, trouble), Failure::usage, path,
          ": found a file, expected a folder for the run; name another place with --out");
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
    else
      results.terms[name.substr(name.find('/') + 1)] = table.cpu().to(at::kFloat);
  }
  // The score itself stands by its own name; a search has nothing else to climb.
  if (const auto objective = results.terms.find("objective"); objective != results.terms.end()) {
    results.trace = objective->second;
    results.terms.erase(objective);
  } else if (results.terms.contains("value")) {
    results.trace = results.terms.at("value");
  }
}

}  // namespace evoke
