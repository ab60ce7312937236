// Recipes: TOML with a parent, overrides and environment; options that are declared once.
#pragma once
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace evoke {

/// The values a number may take, inclusive.
struct Range {
  double low = -std::numeric_limits<double>::infinity(), high = std::numeric_limits<double>::infinity();
};
inline constexpr Range positive{std::numeric_limits<double>::min(), std::numeric_limits<double>::max()};
inline constexpr Range non_negative{0.0, std::numeric_limits<double>::max()};
inline constexpr Range share{0.0, 1.0};

/// Visits the options of one table. An options struct declares each option once, in a function found beside it:
///
///     struct LangevinOptions { double step_size = 0.05; };
///     inline void describe(Fields& f, LangevinOptions& o) {
///       f("step_size", o.step_size, "code units", "τ, standard deviation of a step's noise", positive);
///     }
///
/// Reading, the resolved config, --help and the refusal of unknown keys, wrong types, NaN and values out of range all follow from it.
/// A recipe's value beats the default that the member holds.
class Fields {
 public:
  virtual ~Fields() = default;
  virtual void operator()(std::string_view key, double& value, std::string_view unit, std::string_view sentence, Range = {}) = 0;
  virtual void operator()(std::string_view key, int64_t& value, std::string_view unit, std::string_view sentence, Range = {}) = 0;
  virtual void operator()(std::string_view key, bool& value, std::string_view sentence) = 0;
  virtual void operator()(std::string_view key, std::string& value, std::string_view sentence) = 0;
  virtual void operator()(std::string_view key, std::vector<std::string>& value, std::string_view sentence) = 0;
  virtual void operator()(std::string_view key, std::vector<double>& value, std::string_view unit, std::string_view sentence) = 0;
  /// One of a few words.
  virtual void choice(std::string_view key, std::string& value, std::string_view sentence, const std::vector<std::string>& words) = 0;
  /// A file: read relative to the folder of the recipe that names it. Empty: none.
  virtual void path(std::string_view key, std::string& value, std::string_view sentence) = 0;
};

/// An option as --help prints it.
struct OptionHelp {
  std::string key, value, unit, sentence;
};

/// A recipe: tables of options, merged from parents (outermost first), then EVOKE_<TABLE>__<KEY> of the environment, then overrides.
/// A child's table that names another `kind` than its parent's replaces that table (and the tables inside it) instead of merging into it;
/// so do the environment and the overrides, each of which counts as one child. An inline or nested table is a table named "outer.inner".
/// One reader has to know a whole table: each read refuses every key that it does not declare itself, whatever another read declared
/// (`kind` is known once kind() has asked for it). Reading a table twice is fine; options in two parts are declared by one describe that
/// calls the other.
class Recipe {
 public:
  /// overrides: "table.key=value", value as TOML (a bare word is a string). Throws Failure::input for a file that is missing, torn or not
  /// TOML (with line and column), for a duplicate key and for a parent that leads back to itself; Failure::usage for an override that
  /// is not of that form. `origin` names it in errors. A name without a dot is a key of the top level; EVOKE_A__B__KEY is a.b.key.
  static Recipe load(const std::string& file, const std::vector<std::string>& overrides = {});
  static Recipe parse(const std::string& toml, const std::string& folder, const std::vector<std::string>& overrides = {},
                      const std::string& origin = "recipe");

  bool has(const std::string& table) const;
  /// `kind` of a table, `otherwise` where the table or the key is missing. Recorded in resolved().
  std::string kind(const std::string& table, const std::string& otherwise = "");

  /// Reads one table into options, refusing unknown keys with "did you mean". The table "" is the recipe's top level.
  template <class Options>
  Options read(const std::string& table, Options options = {}) {
    const std::unique_ptr<Fields> fields = reader(table);
    describe(*fields, options);
    finish(*fields);
    return options;
  }
  /// Throws Failure::input when the recipe holds tables that nobody has read.
  void refuse_unread() const;
  /// Everything that was read, defaults included, as TOML that loads to the same values; paths are absolute.
  std::string resolved() const;

  Recipe(Recipe&&) noexcept;
  Recipe& operator=(Recipe&&) noexcept;
  ~Recipe();

 private:
  struct Tables;
  explicit Recipe(std::unique_ptr<Tables>);
  std::unique_ptr<Fields> reader(const std::string& table);
  void finish(Fields&);
  std::unique_ptr<Tables> tables_;
};

/// What `describe` declares, for --help.
std::unique_ptr<Fields> help_collector(std::vector<OptionHelp>& out);
template <class Options>
std::vector<OptionHelp> help_of(Options options = {}) {
  std::vector<OptionHelp> out;
  const std::unique_ptr<Fields> fields = help_collector(out);
  describe(*fields, options);
  return out;
}

}  // namespace evoke
