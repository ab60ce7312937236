// What a run leaves behind: one directory.
#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/nouns/nouns.h"
#include "core/records/results.h"

namespace evoke {

/// A run directory: config.toml, manifest.json, results.h5, images/*.png, contact_sheet.png, metrics.jsonl, checkpoint.safetensors.
/// manifest.json holds format, version, verb, status ("running", "interrupted", "done", "failed"), seed, device, threads, versions, inputs
/// with their SHA-256, timings, and what the verb adds. config.toml is written before work starts.
class RunDirectory {
 public:
  /// Makes `path`, or takes it up again: an empty or missing folder is made; one that holds a run of this very config (config.toml equal
  /// byte for byte) that is not done is resumed; anything else is refused with Failure::usage.
  static RunDirectory open(const std::string& path, const std::string& verb, const std::string& config);

  const std::string& path() const { return path_; }
  std::string file(const std::string& name) const { return path_ + "/" + name; }
  bool resumed() const { return resumed_; }  // there was an unfinished run of this config
  bool done() const { return done_; }        // there was a finished run of this config; the verb may return at once

  nlohmann::json& manifest() { return manifest_; }
  void add_input(const std::string& file);  // name and SHA-256 into the manifest
  void save_manifest();                     // atomically
  void finish(const std::string& status);   // sets status and seconds, saves
  /// Appends a line to metrics.jsonl, flushed.
  void metric(const nlohmann::json& line);

 private:
  std::string path_;
  nlohmann::json manifest_;
  bool resumed_ = false, done_ = false;
  double begun_ = 0;
};

/// Collects, as an observer's body, the value and terms of a run every `stride` steps, on the device; tensors leave it only at the end.
class Trace {
 public:
  explicit Trace(int64_t stride = 1) : stride_(stride) {}
  void see(int64_t step, const State& state);
  void into(Results& results) const;  // trace, terms, steps
  Tensors pack() const;               // for a checkpoint
  void unpack(const Tensors&);

 private:
  int64_t stride_;
  std::vector<int64_t> steps_;
  std::vector<Tensor> values_;
  std::map<std::string, std::vector<Tensor>> terms_;
};

}  // namespace evoke
