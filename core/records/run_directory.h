// What a run leaves behind: one directory.
#pragma once
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/storage/files.h"

namespace evoke {

/// A run directory: config.toml, manifest.json, results.h5, images/*.png, contact_sheet.png, metrics.jsonl; while the run is not done also
/// checkpoint.safetensors, trace.records, finished parts and a lock. manifest.json holds format, version, verb, status ("running",
/// "interrupted", "done", "failed"), seed, device, threads, versions (evoke's own among them), inputs with their SHA-256, timings, what the
/// verb adds, the SHA-256 of the text files of the run ("files") and one of itself. config.toml is written before work starts.
///
/// A run is its recipe, the content of its inputs and the program's version: where one of them changed, it is another run.
class RunDirectory {
 public:
  /// Makes `path`, or takes it up again: an empty or missing folder is made; one that holds this very run (same verb, config.toml equal
  /// byte for byte, same version of evoke, inputs of the same SHA-256) that is not done is resumed; anything else is refused with
  /// Failure::usage, naming what changed, and nothing is touched. inputs: files, or folders of files; they are hashed here, each time.
  /// Until it is finished or gone, this object has sole use of the folder: another process is refused.
  static RunDirectory open(const std::string& path, const std::string& verb, const std::string& config,
                           const std::vector<std::string>& inputs = {});

  const std::string& path() const { return path_; }
  std::string file(const std::string& name) const { return path_ + "/" + name; }
  bool resumed() const { return resumed_; }  // there was an unfinished run of this identity
  bool done() const { return done_; }        // there was a finished run of this identity; the verb may return at once

  nlohmann::json& manifest() { return manifest_; }
  void save_manifest();  // atomically
  /// Sets status and seconds and saves; "done" also removes what only a resume needs. The folder is given back.
  void finish(const std::string& status);
  /// Appends a line to metrics.jsonl, which the disk keeps.
  void metric(const nlohmann::json& line);
  /// Keeps the first `lines` lines of metrics.jsonl: a resumed run writes those again that came after its checkpoint. Throws Failure::input
  /// when there are fewer.
  void keep_metrics(int64_t lines);

 private:
  void look(const std::string& verb, const std::string& config, const std::vector<std::string>& inputs);
  const std::map<std::string, std::string>& hashed(const std::vector<std::string>& inputs);
  bool left_over() const;
  void remove_working_files() const;

  std::string path_;
  nlohmann::json manifest_;
  std::map<std::string, std::string> hashes_;  // of the inputs
  Lock lock_;
  bool resumed_ = false, done_ = false;
  double begun_ = 0;
};

/// Throws Failure::input when a text file of a run (config.toml, metrics.jsonl…) is not what the run wrote, by the manifest's SHA-256 of
/// it, or when the manifest is damaged.
void check_run_file(const std::string& run_directory, const std::string& name);

}  // namespace evoke
