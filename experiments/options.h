// What the verbs have in common: flags, recipes by name, refusals, and how results are said.
#pragma once
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/recipes/recipe.h"

namespace evoke {

/// Flags that many verbs take. Empty or negative: not given.
struct CommonOptions {
  std::string out, device;
  int64_t seed = -1, threads = -1;
  std::vector<std::string> set;
  bool quiet = false, verbose = false, json = false;
};
enum class Takes { nothing, computing, writing };

/// Adds -q, -v and --json; for `computing` also --device, --seed, --threads, --set; for `writing` --out as well.
/// default_out: shown in --help; empty makes --out required.
void add_common(CLI::App&, CommonOptions&, Takes, const std::string& default_out = {});

/// Sets verbosity, catches SIGINT and keeps memory. Called by every verb first.
void begin_verb(const CommonOptions&);

/// The overrides of a recipe, weakest first: EVOKE_DEVICE, EVOKE_SEED and EVOKE_THREADS, then --set, then --device, --seed and --threads,
/// as keys of `table`.
std::vector<std::string> overrides(const CommonOptions&, const std::string& table = "run");
/// The device that flag, environment or default name, where no recipe is read.
std::string device_of(const CommonOptions&);

/// Where recipes and weights lie: EVOKE_SHARE of the environment, else the source folder the program was built from.
std::string share_folder();
/// A path as it is; a bare name "ppgn" as share_folder()/recipes/ppgn.toml. Throws Failure::input with the names there are.
std::string recipe_file(const std::string& name_or_path);

/// A help section: "[table] kind = name" and a line a key with default, unit and sentence.
std::string help_section(const std::string& title, const std::vector<OptionHelp>&);

/// Results on stdout: the line, or with --json the object, each ended by a newline.
void answer(const CommonOptions&, const std::string& line, const nlohmann::json&);

}  // namespace evoke
