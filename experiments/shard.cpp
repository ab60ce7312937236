#include "experiments/shard.h"

#include <charconv>
#include <map>

#include "core/error.h"
#include "core/storage/files.h"

namespace evoke {

Shard shard_named(const std::string& word) {
  Shard shard;
  const size_t slash = word.find('/');
  const auto number = [&](std::string_view digits, int64_t& into) {
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), into);
    return !digits.empty() && error == std::errc() && end == digits.data() + digits.size();
  };
  const bool read = slash != std::string::npos && number(std::string_view(word).substr(0, slash), shard.index) &&
                    number(std::string_view(word).substr(slash + 1), shard.count);
  require(read && shard.index >= 0 && shard.index < shard.count, Failure::usage, "--shard: found '", word,
          "', expected i/n with i from 0 to n - 1, such as 0/4");
  return shard;
}

void record_shard(RunDirectory& directory, const Shard& shard) {
  const std::string part = text(shard.index, "/", shard.count), found = directory.manifest().value("shard", part);
  require(found == part, Failure::usage, directory.path(), ": found shard ", found, " of this run, expected ", part,
          "; name another place with --out");
  directory.manifest()["shard"] = part;
}

std::vector<std::string> shards_in_order(const std::vector<std::string>& runs, const std::string& verb) {
  std::map<int64_t, std::string> by_index;
  int64_t count = 0;
  std::string config;
  nlohmann::json inputs;
  for (const std::string& run : runs) {
    const nlohmann::json manifest = nlohmann::json::parse(read_file(run + "/manifest.json"), nullptr, false);
    require(manifest.is_object() && manifest.value("format", "") == "evoke run" && manifest.value("verb", "") == verb, Failure::input, run,
            ": found no run of evoke ", verb, "; expected the runs of all shards");
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

}  // namespace evoke
