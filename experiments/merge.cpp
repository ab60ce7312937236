// evoke merge: the runs of all shards into the run directory that one machine would have written.
#include <algorithm>
#include <filesystem>

#include "core/error.h"
#include "core/log.h"
#include "core/storage/files.h"
#include "experiments/exemplars.h"
#include "experiments/judging/judges.h"
#include "experiments/options.h"
#include "experiments/report/report.h"
#include "experiments/sample.h"
#include "experiments/verbs.h"

namespace evoke {

namespace {

// What judges found of every shard is what they find of the merged run, where they were the same.
void join_judgements(const std::vector<std::string>& runs, const std::string& merged) {
  std::string judges;
  std::vector<Tensors> found;
  for (const std::string& run : runs) {
    auto [names, findings] = stored_judgement(run);
    if (findings.empty() || (!found.empty() && names != judges)) return;
    judges = names;
    found.push_back(std::move(findings));
  }
  store_findings(merged, judges, joined(found));
}

int merge_samples(const std::vector<std::string>& runs, bool no_report, const CommonOptions& options) {
  const bool was_reported = is_reported(options.out);
  const nlohmann::json first = nlohmann::json::parse(read_file(runs.front() + "/manifest.json"));
  // The inputs need not be on this machine: the shards' hashes of them are taken over, once all is there.
  const std::string held = options.out + "/manifest.json";
  const nlohmann::json before =
      std::filesystem::exists(held) ? nlohmann::json::parse(read_file(held), nullptr, false) : nlohmann::json::object();
  const bool merged = before.is_object() && before.value("status", "") == "done" && before["inputs"] == first["inputs"] &&
                      read_file(options.out + "/config.toml") == read_file(runs.front() + "/config.toml");
  if (!merged) {
    RunDirectory directory = RunDirectory::open(options.out, "sample", read_file(runs.front() + "/config.toml"));
    record_shard(directory, {});
    for (const char* same : {"seed", "device", "images_seen"})
      if (first.contains(same)) directory.manifest()[same] = first[same];
    std::vector<std::string> files;
    int64_t rows = 0;
    Results all;
    for (const std::string& run : runs) {
      files.push_back(run + "/results.h5");
      const int64_t own = rows_of_results(files.back());
      constexpr int64_t together = 256;
      for (int64_t first = 0; first < own; first += together) {
        const Results part = read_results(files.back(), first, std::min(together, own - first), /*codes=*/false);
        save_pictures(directory.path(), part, rows + first);
        append_summary(all, part);
      }
      rows += own;
    }
    join_results(files, directory.file("results.h5"));
    join_judgements(runs, directory.path());
    save_contact_sheet(directory.path());
    directory.manifest()["inputs"] = first["inputs"];
    record_run(directory, all);
  }
  if (!no_report && !was_reported) report_run(options.out);
  if (interrupted()) return 130;
  answer(options, options.out, {{"run", options.out}, {"shards", runs.size()}});
  return 0;
}

int merge(const std::vector<std::string>& given, bool no_report, const CommonOptions& options) {
  const nlohmann::json manifest = nlohmann::json::parse(read_file(given.front() + "/manifest.json"), nullptr, false);
  if (manifest.is_object() && manifest.value("verb", "") == "exemplars")
    return merge_exemplars(shards_in_order(given, "exemplars"), options);
  return merge_samples(shards_in_order(given, "sample"), no_report, options);
}

}  // namespace

Action merge_verb(CLI::App& command) {
  struct Options : CommonOptions {
    std::vector<std::string> runs;
    bool no_report = false;
  };
  auto options = std::make_shared<Options>();
  command.add_option("RUN", options->runs, "run directories of evoke sample or exemplars --shard, all of them, in any order")->required();
  command.add_option("--out", options->out, "run directory to write")->required()->type_name("FILE");
  add_no_report(command, options->no_report);
  add_common(command, *options, Takes::nothing);
  return [options] {
    begin_verb(*options);
    return merge(options->runs, options->no_report, *options);
  };
}

}  // namespace evoke
