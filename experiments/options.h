// What the verbs have in common: flags, recipes by name, refusals, and how results are said.
#pragma once
#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
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

/// Flags that are declared as the options of a recipe's table are, by `describe`: `skip_broken` becomes --skip-broken. --help shows default
/// and unit; a number out of its range and a word that is no choice are refused. A default outside its range means "not given" and is not
/// shown. The options have to outlive the parsing.
class Flags {
 public:
  template <class Options>
  Flags(CLI::App& command, Options& options) {
    describe(*fields(command), options);
  }
  /// Those that were typed, as overrides of a recipe's table.
  std::vector<Override> typed(const std::string& table) const;

 private:
  friend class FlagFields;
  struct Flag {
    CLI::Option* option;
    std::string key;
    std::function<std::string()> toml;
  };
  std::unique_ptr<Fields> fields(CLI::App&);
  std::vector<Flag> flags_;
};

/// Adds -q, -v and --json; for `computing` also --device, --seed, --threads, --set; for `writing` --out as well.
/// default_out: shown in --help; empty makes --out required.
void add_common(CLI::App&, CommonOptions&, Takes, const std::string& default_out = {});

/// --no-report, of the verbs that write report.html into a run by themselves.
void add_no_report(CLI::App&, bool& no_report);

/// Sets verbosity, catches signals and keeps memory. Called by every verb first.
void begin_verb(const CommonOptions&);

/// Everything that beats a recipe, weakest first: EVOKE_<TABLE>__<KEY>, EVOKE_DEVICE, EVOKE_SEED and EVOKE_THREADS of the environment, then
/// --set, then --device, --seed and --threads. Names without a table are keys of `table`.
std::vector<Override> overrides(const CommonOptions&, const std::string& table = "run");
/// --set alone, for files that the environment has no say in.
std::vector<Override> set_overrides(const CommonOptions&);
/// The device that flag, environment or default name, where no recipe is read.
std::string device_of(const CommonOptions&);

/// The threads that flag or environment name, where no recipe is read; 0: one a core. Throws Failure::usage for what is no such number.
int64_t threads_of(const CommonOptions&);

/// Where recipes and weights lie: EVOKE_SHARE of the environment, else the source folder the program was built from.
std::string share_folder();
inline constexpr const char* studies_folder = "recipes/studies";
/// The names of the recipes in a folder of share_folder().
std::vector<std::string> recipe_names(const std::string& folder = "recipes");
/// A path as it is; a bare name "ppgn" as share_folder()/recipes/ppgn.toml. Throws Failure::input with the names there are.
std::string recipe_file(const std::string& name_or_path);

/// A help section: "[table] kind = name" and a line a key with default, unit and sentence.
std::string help_section(const std::string& title, const std::vector<OptionHelp>&);

/// Results on stdout: the line, or with --json the object, each ended by a newline. Throws Failure::runtime where stdout cannot be written.
void answer(const CommonOptions&, const std::string& line, const nlohmann::json&);
/// Throws Failure::runtime where what was sent to stdout could not be written.
void flush_answers();

}  // namespace evoke
