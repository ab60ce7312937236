// evoke merge: the runs of all shards into the run directory that one machine would have written.
#include <algorithm>
#include <filesystem>
#include <map>

#include "core/error.h"
#include "core/storage/files.h"
#include "experiments/judging/judges.h"
#include "experiments/options.h"
#include "experiments/sample.h"
#include "experiments/verbs.h"

namespace evoke {

namespace {

// The runs in the order of their shards. Throws unless they are all the shards of one run, each of them finished.
std::vector<std::string> in_order(const std::vector<std::string>& runs) {
  std::map<int64_t, std::string> by_index;
  int64_t count = 0;
  std::string config;
  nlohmann::json inputs;
  for (const std::string& run : runs) {
    const nlohmann::json manifest = nlohmann::json::parse(read_file(run + "/manifest.json"), nullptr, false);
    require(manifest.is_object() && manifest.value("format", "") == "evoke run" && manifest.value("verb", "") == "sample", Failure::input,
            run, ": found no run of evoke sample; expected the runs of all shards");
    require(manifest.value("status", "") == "done", Failure::input, run, ": found a run that is ",
            manifest.value("status", std::string("not finished")), ", expected one that is done; run its command again");
    const Shard shard = shard_named(manifest.value("shard", "0/1"));
    const std::string own = read_file(run + "/config.toml");
    if (by_index.empty()) {
      count = shard.count;
      config = own;
      inputs = manifest["inputs"];
    }
    require(own == config && manifest["inputs"] == inputs, Failure::input, run, ": found another recipe or other input files than in ",
            by_index.begin()->second, ", expected shards of one run");
    require(shard.count == count, Failure::input, run, ": found shard ", shard.index, "/", shard.count, ", expected one of ", count);
    const auto [before, fresh] = by_index.try_emplace(shard.index, run);
    require(fresh, Failure::input, run, ": found shard ", shard.index, " twice, also in ", before->second);
  }
  std::vector<std::string> out, missing;
  for (int64_t i = 0; i < count; ++i) {
    if (by_index.contains(i))
      out.push_back(by_index.at(i));
    else
      missing.push_back(text(i, "/", count));
  }
  require(missing.empty(), Failure::input, "merge: found no run of shard ", list_of(missing), "; expected all ", count);
  return out;
}

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

int merge(const std::vector<std::string>& given, const CommonOptions& options) {
  const std::vector<std::string> runs = in_order(given);
  const nlohmann::json first = nlohmann::json::parse(read_file(runs.front() + "/manifest.json"));
  // The inputs need not be on this machine: the shards' hashes of them are taken over, once all is there.
  const std::string held = options.out + "/manifest.json";
  const nlohmann::json before =
      std::filesystem::exists(held) ? nlohmann::json::parse(read_file(held), nullptr, false) : nlohmann::json::object();
  const bool merged = before.is_object() && before.value("status", "") == "done" && before["inputs"] == first["inputs"] &&
                      read_file(options.out + "/config.toml") == read_file(runs.front() + "/config.toml");
  if (!merged) {
    RunDirectory directory = RunDirectory::open(options.out, "sample", read_file(runs.front() + "/config.toml"));
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
  answer(options, options.out, {{"run", options.out}, {"shards", runs.size()}});
  return 0;
}

}  // namespace

Action merge_verb(CLI::App& command) {
  struct Options : CommonOptions {
    std::vector<std::string> runs;
  };
  auto options = std::make_shared<Options>();
  command.add_option("RUN", options->runs, "run directories of evoke sample --shard, all of them, in any order")->required();
  command.add_option("--out", options->out, "run directory to write")->required()->type_name("FILE");
  add_common(command, *options, Takes::nothing);
  return [options] {
    begin_verb(*options);
    return merge(options->runs, *options);
  };
}

}  // namespace evoke
