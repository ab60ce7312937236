#include "experiments/report/run_pictures.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>

#include "core/error.h"
#include "core/records/results.h"
#include "core/records/run_directory.h"
#include "core/storage/files.h"
#include "core/storage/hdf5.h"
#include "experiments/judging/figures.h"
#include "experiments/judging/judges.h"

namespace evoke {

namespace {

namespace fs = std::filesystem;

constexpr uint64_t bootstrap_seed = 1;
constexpr const char* own_score = "score";

// The manifest of a folder that `evoke sample` or `evoke compare` wrote, with its text files unchanged.
nlohmann::json manifest_of(const std::string& run) {
  std::error_code none;
  require(fs::is_directory(run, none), Failure::input, run, ": found no folder, expected a run directory that evoke sample wrote");
  require(fs::exists(run + "/manifest.json", none), Failure::input, run,
          ": found a folder without a manifest.json, expected a run directory that evoke sample wrote");
  check_run_file(run, "config.toml");
  nlohmann::json manifest = nlohmann::json::parse(read_file(run + "/manifest.json"));
  const std::string verb = manifest.value("verb", "");
  require(verb == "sample" || verb == "compare", Failure::input, run, ": found a run of evoke ", verb,
          ", expected one of evoke sample or evoke compare");
  return manifest;
}

nlohmann::json json_of(const Interval& i) {
  const auto number = [](double value) { return std::isfinite(value) ? nlohmann::json(value) : nlohmann::json(); };
  return {{"value", number(i.value)}, {"low", number(i.low)}, {"high", number(i.high)}};
}

}  // namespace

// ---- A run -----------------------------------------------------------------------------------------------------------------------------

RunPictures RunPictures::open(const std::string& run) {
  RunPictures out;
  out.folder = run;
  out.manifest = manifest_of(run);
  require(out.manifest["verb"] == "sample", Failure::input, run, ": found a comparison, expected a run of evoke sample");
  out.config = read_file(run + "/config.toml");
  const std::string status = out.manifest.value("status", "");
  if (status != "done") out.unfinished = status;

  // A run that goes on has its pictures in the parts that are finished.
  std::vector<std::string> files;
  std::error_code none;
  if (fs::exists(run + "/results.h5", none)) {
    files.push_back(run + "/results.h5");
  } else {
    for (const auto& entry : fs::directory_iterator(run + "/parts", none))
      if (entry.path().extension() == ".h5" && !is_working_file(entry.path().filename().string())) files.push_back(entry.path().string());
    std::sort(files.begin(), files.end());
    require(!files.empty(), Failure::input, run, ": found a run that is not finished (", status,
            ") and has no finished picture yet; repeat its command, which goes on from there, then report it");
  }

  for (const std::string& file : files) {
    const int64_t count = rows_of_results(file);
    constexpr int64_t together = 64;
    for (int64_t first = 0; first < count; first += together) {
      Results part = read_results(file, first, std::min(together, count - first), /*codes=*/false);
      for (int64_t row = 0; row < part.chain.size(0); ++row) {
        out.chain.push_back(part.chain[row].item<int64_t>());
        out.activation.push_back(part.activation[row].item<double>());
      }
      std::move(part.columns.begin(), part.columns.end(), std::back_inserter(out.columns));
      std::move(part.labels.begin(), part.labels.end(), std::back_inserter(out.labels));
      std::move(part.status.begin(), part.status.end(), std::back_inserter(out.status));
    }
    out.parts_.push_back({Hdf5::open(file), out.rows() - count, count});
  }
  require(out.rows() > 0, Failure::input, run, ": found a run without any picture, expected some");

  const Hdf5& first = out.parts_.front().file;
  const std::vector<int64_t> shape = first.shape("/images");
  out.height = shape.at(1), out.width = shape.at(2);
  if (first.has("/steps")) {
    out.steps = first.read("/steps");
    if (first.has("/activation/trace")) out.terms.emplace_back(own_score);
    if (first.has("/terms"))
      for (const std::string& term : first.names("/terms")) out.terms.push_back(term);
  }
  if (first.has("/snapshots")) {
    const std::string key = "\nsnapshots = ";  // of [run]: the steps between two of them
    const size_t at = out.config.find(key);
    const int64_t every = at == std::string::npos ? 1 : std::max(1LL, std::atoll(out.config.c_str() + at + key.size()));
    const int64_t count = first.shape("/snapshots").at(1);
    for (int64_t i = 0; i < count; ++i) out.moments.push_back(i * every);
  }
  if (files.front() == run + "/results.h5") std::tie(out.judges, out.findings) = stored_judgement(run);
  out.name_files();
  return out;
}

// images/NNNN_….png, NNNN being the row.
void RunPictures::name_files() {
  files.resize(columns.size());
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(folder + "/images", none)) {
    const std::string name = entry.path().filename().string();
    const size_t digits = name.find('_');
    if (digits == std::string::npos || digits < 4 || digits > 12 || name.find_first_not_of("0123456789") != digits || is_working_file(name))
      continue;
    const auto row = static_cast<size_t>(std::atoll(name.c_str()));
    if (row < files.size()) files[row] = name;
  }
}

Tensor RunPictures::read(const std::string& array, int64_t first, int64_t count) const {
  constexpr int64_t most_bytes = int64_t{32} << 20, most_rows = 64;
  std::vector<Tensor> pieces;
  for (const Part& part : parts_) {
    const int64_t part_end = std::min(first + count, part.first + part.count);
    for (int64_t begin = std::max(first, part.first); begin < part_end;) {
      Block& block = blocks_[array];
      if (!block.rows.defined() || begin < block.first || begin >= block.first + block.rows.size(0)) {
        const Tensor one = part.file.read_rows(array, begin - part.first, 1);
        const int64_t together = std::clamp<int64_t>(most_bytes / std::max<int64_t>(1, static_cast<int64_t>(one.nbytes())), 1, most_rows);
        const int64_t rows = std::min(together, part.first + part.count - begin);
        block = {begin, rows == 1 ? one : part.file.read_rows(array, begin - part.first, rows)};
      }
      const int64_t end = std::min(part_end, block.first + block.rows.size(0));
      pieces.push_back(block.rows.slice(0, begin - block.first, end - block.first));
      begin = end;
    }
  }
  return pieces.size() == 1 ? pieces.front() : at::cat(pieces);
}

Tensor RunPictures::images(int64_t first, int64_t count) const { return read("/images", first, count); }
Tensor RunPictures::trace(const std::string& term, int64_t first, int64_t count) const {
  return read(term == own_score ? "/activation/trace" : "/terms/" + term, first, count);
}
Tensor RunPictures::snapshots(int64_t row) const { return read("/snapshots", row, 1)[0]; }

std::vector<std::string> runs_of(const std::vector<std::string>& folders) {
  std::vector<std::string> out;
  for (const std::string& folder : folders) {
    if (manifest_of(folder)["verb"] != "compare") {
      out.push_back(folder);
      continue;
    }
    require(fs::exists(folder + "/table.json"), Failure::input, folder,
            ": found a comparison that is not finished; repeat its command, which goes on from there, or report the runs in it one by one");
    const size_t before = out.size();
    for (const nlohmann::json& line : nlohmann::json::parse(read_file(folder + "/table.json"))) {
      const std::string run = folder + "/" + line.value("name", "");
      if (fs::exists(run + "/manifest.json")) out.push_back(run);
    }
    require(out.size() > before, Failure::input, folder,
            ": found a comparison without the runs of its methods, expected a folder for each");
  }
  return out;
}

// ---- What judges found -----------------------------------------------------------------------------------------------------------------

std::vector<std::string> readers_in(const Tensors& findings) {
  std::vector<std::string> out;
  if (!findings.contains("wanted")) return out;
  const std::string ending = "_class";
  for (const auto& [name, values] : findings)
    if (name.ends_with(ending) && name != "witness_class") out.push_back(name.substr(0, name.size() - ending.size()));
  if (findings.contains("witness_rank") && findings.at("witness_rank").ge(0).any().item<bool>()) out.emplace_back("witness");
  std::sort(out.begin(), out.end());
  // The target first: the others are asked whether they agree with it.
  std::stable_partition(out.begin(), out.end(), [](const std::string& name) { return name == "target"; });
  return out;
}

Tensor reads(const Tensors& findings, const std::string& judge) {
  if (judge == "witness") return findings.at("witness_rank").eq(0);
  return findings.at(judge + "_class").eq(findings.at("wanted"));
}

nlohmann::json figures_of_findings(const Tensors& findings, const std::string& name, const Tensor& rows) {
  if (!findings.contains("wanted")) return {};
  const Tensor wanted = findings.at("wanted"), all = rows.defined() ? rows : at::arange(wanted.size(0), at::kLong);
  const Tensor of_class = all.index({wanted.index({all}).ge(0)});
  nlohmann::json line{{"name", name}, {"pictures", all.size(0)}};
  const auto share = [](const Tensor& held) { return json_of(wilson(held.sum().item<int64_t>(), held.size(0))); };
  const std::vector<std::string> readers = readers_in(findings);
  for (const std::string& judge : readers) {
    const nlohmann::json found = share(reads(findings, judge).index({of_class}));
    if (judge == "witness")
      line["witness"]["top1"] = found;
    else
      line["agreement_" + judge] = found;
  }
  if (findings.contains("oracle_class")) line["alike"] = share(findings.at("oracle_class").eq(findings.at("target_class")).index({all}));
  if (findings.contains("shape_rmse"))
    line["shape_rmse"] = json_of(bootstrap_median(findings.at("shape_rmse").index({of_class}), bootstrap_seed));
  if (findings.contains("percentile"))
    line["percentile"] = json_of(bootstrap_median(findings.at("percentile").index({all}), bootstrap_seed));
  if (findings.contains("spectrum")) line["spectrum"] = json_of(bootstrap_median(findings.at("spectrum").index({all}), bootstrap_seed));
  return line;
}

}  // namespace evoke
