#include "core/records/run_directory.h"

#include <ATen/ATen.h>
#include <torch/version.h>

#include <cmath>
#include <ctime>
#include <filesystem>

#include "core/error.h"
#include "core/log.h"
#include "core/records/pictures.h"
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

// What a folder holds, without locks and the unfinished files that a killed process left.
std::vector<std::string> contents(const std::string& path) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(path))
    if (const std::string name = entry.path().filename().string(); !is_working_file(name)) names.push_back(name);
  std::sort(names.begin(), names.end());
  return names;
}

std::string hash_of(const std::string& input) { return fs::is_directory(input) ? sha256_of_folder(input) : sha256_of_file(input); }

std::string signature_of(json manifest) {
  manifest.erase("sha256");
  return sha256(manifest.dump());
}

// A manifest that is there, whole.
json manifest_of(const std::string& run) {
  const std::string file = run + "/manifest.json";
  json manifest = json::parse(read_file(file), nullptr, false);
  require(manifest.is_object() && manifest.value("format", json()) == "evoke run", Failure::input, file,
          ": found no manifest of a run; name another place with --out");
  require(manifest.value("version", json()) == 2, Failure::input, file, ": found a manifest of version ",
          manifest.value("version", json()).dump(), ", expected 2; another evoke wrote it: name another place with --out");
  require(manifest.value("sha256", json()) == signature_of(manifest), Failure::input, file,
          ": its checksum does not fit its content: the file is damaged; name another place with --out");
  return manifest;
}

// The file of a run is as its manifest says.
void check_against(const json& manifest, const std::string& run, const std::string& name) {
  const json files = manifest.value("files", json::object());
  require(
      !files.contains(name) || files[name] == sha256_of_file(run + "/" + name), Failure::input, run, "/", name,
      ": found other content than the run wrote (its SHA-256 in manifest.json differs); the file is damaged or was edited: put it back, "
      "or copy it elsewhere to change it");
}

// What only an unfinished run needs: files, and a folder of finished parts.
const char* const working_files[] = {"checkpoint.safetensors", "trace.records",    "start.safetensors",     "codes_train.h5",
                                     "codes_validation.h5",    "answers_train.h5", "answers_validation.h5", "parts"};

}  // namespace

// Refuses a folder that holds anything but this very run, and tells how far it got. Nothing is changed.
void RunDirectory::look(const std::string& verb, const std::string& config, const std::vector<std::string>& inputs) {
  manifest_ = {};
  done_ = resumed_ = false;
  const std::vector<std::string> found = contents(path_);
  if (found.empty()) return;
  const std::string elsewhere = "; name another place with --out";
  require(fs::exists(file("config.toml")), Failure::usage, path_, ": found a folder that holds ", list_of(found, 5),
          ", expected an empty one or a run of this config", elsewhere);
  require(read_file(file("config.toml")) == config, Failure::usage, path_,
          ": found a run of another config, expected one of this config or an empty folder", elsewhere);
  resumed_ = true;
  if (!fs::exists(file("manifest.json"))) {  // killed as it began
    require(found.size() == 1, Failure::input, path_, ": found a run without its manifest.json, so what it was made from is not known",
            elsewhere);
    return;
  }
  json manifest = manifest_of(path_);
  const auto fact = [](const json& from, const char* key) {
    return from.contains(key) && from[key].is_string() ? from[key].get<std::string>() : std::string("something else");
  };
  require(fact(manifest, "verb") == verb, Failure::usage, path_, ": found a run of evoke ", fact(manifest, "verb"),
          ", expected one of evoke ", verb, elsewhere);

  // The same recipe is the same run only with the same program and the same inputs.
  const std::string remove = ", or remove this run to make it anew", version = fact(manifest["versions"], "evoke");
  require(version == EVOKE_VERSION, Failure::usage, path_, ": found a run of this config that evoke ", version,
          " began, this is evoke " EVOKE_VERSION, elsewhere, remove);
  std::map<std::string, std::string> known;
  for (const json& input : manifest["inputs"]) known[fact(input, "file")] = fact(input, "sha256");
  for (const auto& [input, hash] : hashed(inputs)) {
    require(known.contains(input), Failure::usage, path_, ": found a run of this config without the input ", input, elsewhere, remove);
    require(known[input] == hash, Failure::usage, path_, ": found a run of this config, but its input ", input,
            " has changed since (SHA-256 ", known[input].substr(0, 12), "… then, ", hash.substr(0, 12), "… now)", elsewhere, remove);
    known.erase(input);
  }
  require(known.empty(), Failure::usage, path_, ": found a run of this config that also read ", known.empty() ? "" : known.begin()->first,
          ", which is not there now", elsewhere, remove);

  done_ = manifest.value("status", json()) == "done";
  resumed_ = !done_;
  const json files = manifest.value("files", json::object());
  if (done_)
    for (const auto& [name, sum] : files.items()) check_against(manifest, path_, name);
  manifest_ = std::move(manifest);
}

const std::map<std::string, std::string>& RunDirectory::hashed(const std::vector<std::string>& inputs) {
  for (const std::string& input : inputs)
    if (!hashes_.contains(input)) hashes_[input] = hash_of(input);
  return hashes_;
}

RunDirectory RunDirectory::open(const std::string& path, const std::string& verb, const std::string& config,
                                const std::vector<std::string>& inputs) {
  require(!path.empty(), Failure::usage, "--out: found nothing, expected the name of a folder for the run");
  std::error_code trouble;
  for (fs::path part = fs::path(path).lexically_normal(); !part.empty(); part = part.parent_path()) {
    require(!fs::exists(part, trouble) || fs::is_directory(part, trouble), Failure::usage, path, ": found a file",
            part == fs::path(path).lexically_normal() ? "" : " at " + part.string(),
            ", expected a folder for the run; name another place with --out");
    if (part == part.parent_path()) break;
  }
  fs::create_directories(path, trouble);
  if (trouble) fail(Failure::runtime, path, ": the folder cannot be made (", trouble.message(), "); name another place with --out");

  RunDirectory run;
  run.path_ = path;
  run.begun_ = seconds();
  run.look(verb, config, inputs);

  // Alone from here on; what was seen before the lock may have changed.
  if (!run.done_ || run.left_over()) {
    try {
      run.lock_ = claim_folder(path);
    } catch (const Error& error) {
      if (run.done_ && error.kind() == Failure::usage) return run;  // whoever is at work there clears up
      throw;
    }
    run.look(verb, config, inputs);
  }
  if (run.done_) {
    run.remove_working_files();
    run.lock_.release();
    return run;
  }
  if (!run.resumed_) write_file(run.file("config.toml"), config);
  if (!run.manifest_.is_object()) {
    run.manifest_ = {{"format", "evoke run"}, {"version", 2}, {"verb", verb}, {"begun", now_text()}};
    run.manifest_["versions"] = {
        {"evoke", EVOKE_VERSION}, {"libtorch", TORCH_VERSION}, {"opencv", opencv_version()}, {"hdf5", hdf5_version()}};
    run.manifest_["inputs"] = json::array();
    for (const auto& [input, hash] : run.hashed(inputs)) run.manifest_["inputs"].push_back({{"file", input}, {"sha256", hash}});
    run.manifest_["files"] = {{"config.toml", sha256(config)}};
  }
  run.manifest_["status"] = "running";
  run.save_manifest();
  return run;
}

// Did a process die after the manifest said that the run is done, and before all was cleared up?
bool RunDirectory::left_over() const {
  for (const auto& entry : fs::directory_iterator(path_))
    if (is_working_file(entry.path().filename().string())) return true;
  return std::any_of(std::begin(working_files), std::end(working_files), [&](const char* name) { return fs::exists(file(name)); });
}

void RunDirectory::remove_working_files() const {
  std::error_code none;
  for (const char* name : working_files) fs::remove_all(file(name), none);
}

void RunDirectory::save_manifest() {
  manifest_["sha256"] = signature_of(manifest_);
  write_file(file("manifest.json"), manifest_.dump(2) + "\n");
}

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

  // What is text has no checksum of its own.
  if (status == "done")
    for (const std::string& name : contents(path_))
      if (name != "manifest.json" &&
          (name.ends_with(".toml") || name.ends_with(".jsonl") || name.ends_with(".json") || name.ends_with(".md")))
        manifest_["files"][name] = sha256_of_file(file(name));
  try {
    save_manifest();
  } catch (const Error&) {
    if (status != "failed") throw;  // where a run failed, its own reason is to be said
  }
  if (status == "done") remove_working_files();
  lock_.release();
}

void RunDirectory::metric(const json& line) { append_line(file("metrics.jsonl"), line.dump()); }

void RunDirectory::keep_metrics(int64_t lines) {
  const std::string name = file("metrics.jsonl"), held = fs::exists(name) ? read_file(name) : "";
  size_t end = 0;
  for (int64_t line = 0; line < lines; ++line) {
    const size_t next = held.find('\n', end);
    require(next != std::string::npos, Failure::input, name, ": found ", line, " lines, expected at least the ", lines,
            " that the checkpoint counts; remove ", path_, " to begin anew");
    end = next + 1;
  }
  if (end < held.size()) write_file(name, held.substr(0, end));
}

void check_run_file(const std::string& run, const std::string& name) { check_against(manifest_of(run), run, name); }

}  // namespace evoke
