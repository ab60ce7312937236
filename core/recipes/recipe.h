// Recipes: TOML with a parent and overrides; options that are declared once.
#pragma once
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"

namespace evoke {

/// The values a number may take, inclusive. Beyond a billion nothing here means anything, and float32 soon overflows.
struct Range {
  double low = -1e9, high = 1e9;
};
constexpr Range more_than_zero(double high) { return {std::numeric_limits<double>::min(), high}; }
inline constexpr Range positive = more_than_zero(1e9);
inline constexpr Range non_negative{0.0, 1e9};
inline constexpr Range share{0.0, 1.0};
/// Of a step, or of noise, beside codes and pixels of about 1.
inline constexpr Range step_length = more_than_zero(1e6);
/// "0 to 1024", "more than 0 and at most 1e+06".
std::string range_text(const Range&);

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
  std::vector<std::string> words = {};  // all that it may be, as typed in TOML without quotes; empty: no few words
};

/// A value that stands in the place of a recipe's: typed on the command line, or found in the environment.
struct Override {
  Override(std::string assignment, std::string place = {}, bool environment = false)
      : assignment(std::move(assignment)), place(std::move(place)), environment(environment) {}
  Override(const char* assignment) : Override(std::string(assignment)) {}
  std::string assignment;  // "table.key=value", the value as TOML; a bare word is a string. Without a dot: a key of the top level
  std::string place;       // what errors call it, such as "--threads"; empty: "--set table.key"
  bool environment;        // weaker than every override that is not of the environment
};

/// A recipe: tables of options, merged from parents (outermost first), then overrides: those of the environment, then the others. It reads
/// no environment by itself: only the command line's recipe is given any (overrides() in experiments/options.h).
/// A child's table that names another `kind` than its parent's replaces that table (and the tables inside it) instead of merging into it;
/// so do the overrides, of which the environment's count as one child and the others as one. An inline or nested table is a table named
/// "outer.inner". The items of a list of tables, [[outer.inner]], are tables named "outer.inner.0", "outer.inner.1" and so on. A child's
/// list takes the place of its parent's, and so does that of an override (outer.inner=[{kind = "a"}]); an empty one takes it away, and an
/// override may change one item (outer.inner.0.key=value). What a file says wrongly is Failure::input, what an override says wrongly
/// Failure::usage.
/// One reader has to know a whole table: each read refuses every key that it does not declare itself, whatever another read declared
/// (`kind` is known once kind() has asked for it). Reading a table twice is fine; options in two parts are declared by one describe that
/// calls the other.
class Recipe {
 public:
  /// Throws Failure::input for a file that is missing, torn or not TOML (with line and column), for a duplicate key and for a parent that
  /// leads back to itself; Failure::usage for an override that is not of its form. `origin` names the recipe in errors.
  static Recipe load(const std::string& file, const std::vector<Override>& overrides = {});
  static Recipe parse(const std::string& toml, const std::string& folder, const std::vector<Override>& overrides = {},
                      const std::string& origin = "recipe");

  bool has(const std::string& table) const;
  /// How many items a list of tables has, which are the tables list.0 to list.(count - 1).
  int64_t count(const std::string& list) const;
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
  /// Runs `body`, which makes something of a value that was read from `table`. What it refuses as usage is refused with the place of the
  /// first of `keys` that the recipe holds, and as Failure::input where that place is a file.
  template <class Body>
  decltype(auto) about(const std::string& table, const std::vector<std::string>& keys, const Body& body) const {
    try {
      return body();
    } catch (const Error& error) {
      if (error.kind() == Failure::usage) refuse(table, keys, error.what());
      throw;
    }
  }
  /// Throws when the recipe holds tables that nobody has read.
  void refuse_unread() const;
  /// Everything that was read, defaults included, as TOML that loads to the same values; paths are absolute.
  std::string resolved() const;
  /// The files that its values name and that are there.
  std::vector<std::string> files() const;

  Recipe(Recipe&&) noexcept;
  Recipe& operator=(Recipe&&) noexcept;
  ~Recipe();

 private:
  struct Tables;
  explicit Recipe(std::unique_ptr<Tables>);
  std::unique_ptr<Fields> reader(const std::string& table);
  void finish(Fields&);
  [[noreturn]] void refuse(const std::string& table, const std::vector<std::string>& keys, const std::string& sentence) const;
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
