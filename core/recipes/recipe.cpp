#include "core/recipes/recipe.h"

#include <toml++/toml.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <map>
#include <set>
#include <sstream>
#include <type_traits>

#include "core/error.h"
#include "core/log.h"
#include "core/storage/files.h"

namespace evoke {

namespace {

namespace fs = std::filesystem;
using Words = std::vector<std::string>;

// One value of a recipe, with what is needed to speak about it: where it was written, and the folder its paths start from.
struct Value {
  const toml::node* node = nullptr;
  std::string place, folder;
  std::string raw;                 // as typed in an override
  Failure fault = Failure::input;  // whose mistake a wrong value is: a file's, or (usage) that of who typed an override
  bool environment = false;
};
using Table = std::map<std::string, Value>;
// What one file, or the overrides of one source, say: tables by their dotted names. The items of a list of tables, [[a.b]], are the tables
// a.b.0, a.b.1 and so on.
struct Layer : std::map<std::string, Table> {
  std::set<std::string> lists;  // that were written as lists, and so stand in place of a parent's
};

std::string number_text(double value) {
  char buffer[40];
  std::string out(buffer, std::to_chars(buffer, buffer + sizeof(buffer), value).ptr);
  return out.find_first_of(".en") == std::string::npos ? out + ".0" : out;  // "5" would load as an integer
}

std::string toml_quoted(const std::string& value) {
  std::string out = "\"";
  for (const char c : value) {
    if (c == '"' || c == '\\')
      out += std::string("\\") + c;
    else if (c == '\n')
      out += "\\n";
    else if (c == '\t')
      out += "\\t";
    else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      char buffer[8];
      std::snprintf(buffer, sizeof(buffer), "\\u%04X", static_cast<unsigned>(c));
      out += buffer;
    } else
      out += c;
  }
  return out + "\"";
}

// Values as TOML.
std::string as_toml(double value) { return number_text(value); }
std::string as_toml(int64_t value) { return std::to_string(value); }
std::string as_toml(bool value) { return value ? "true" : "false"; }
std::string as_toml(const std::string& value) { return toml_quoted(value); }
template <class Item>
std::string as_toml(const std::vector<Item>& values) {
  std::string out = "[";
  for (size_t i = 0; i < values.size(); ++i) out += (i ? ", " : "") + as_toml(values[i]);
  return out + "]";
}

bool bare(const std::string& key) {
  return !key.empty() && key.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == std::string::npos;
}
std::string key_text(const std::string& key) { return bare(key) ? key : toml_quoted(key); }

// "a whole number (12)", for sentences about a wrong type.
std::string found_text(const toml::node& node) {
  if (const auto* value = node.as_boolean()) return text("a truth value (", as_toml(value->get()), ")");
  if (const auto* value = node.as_integer()) return text("a whole number (", value->get(), ")");
  if (const auto* value = node.as_floating_point()) return text("a number (", as_toml(value->get()), ")");
  if (const auto* value = node.as_string()) return "a string (" + toml_quoted(value->get()) + ")";
  return node.is_array() ? "a list" : "a date or time";
}

toml::table parse_toml(const std::string& content, const std::string& origin) {
  try {
    return toml::parse(content, origin);
  } catch (const toml::parse_error& e) {
    fail(Failure::input, origin, ", line ", e.source().begin.line, ", column ", e.source().begin.column, ": ", e.description(),
         "; expected TOML: [table], key = value, each key once");
  }
}

// Takes a table apart into tables by dotted name.
void flatten(const toml::table& table, const std::string& name, const std::string& origin, const std::string& folder, Layer& out) {
  Table& values = out[name];
  for (const auto& [toml_key, node] : table) {
    const std::string key(toml_key.str()), inner = name.empty() ? key : name + "." + key;
    const std::string place = text(origin, ", line ", node.source().begin.line);
    if (const auto* nested = node.as_table()) {
      flatten(*nested, inner, origin, folder, out);
    } else if (const auto* list = node.as_array(); list && !list->empty() && list->front().is_table()) {
      out.lists.insert(inner);
      for (size_t i = 0; i < list->size(); ++i) {
        require((*list)[i].is_table(), Failure::input, place, ": found ", found_text((*list)[i]), " in the list '", inner,
                "', expected tables alone");
        flatten(*(*list)[i].as_table(), text(inner, ".", i), origin, folder, out);
      }
    } else {
      values[key] = {&node, place, folder, "", Failure::input};
    }
  }
}

void erase_within(Layer& layer, const std::string& name) {
  std::erase_if(static_cast<std::map<std::string, Table>&>(layer), [&](const auto& item) { return item.first.starts_with(name + "."); });
}

// Lays a child over what its parents said.
void merge(Layer& below, Layer above) {
  for (const std::string& list : above.lists) erase_within(below, list);
  for (auto& [name, table] : above) {
    const auto old = below.find(name);
    const auto kind_of = [](const Table& t) {
      const auto it = t.find("kind");
      return it == t.end() ? std::string() : it->second.node->value_or(std::string());
    };
    if (old != below.end() && table.contains("kind") && old->second.contains("kind") && kind_of(table) != kind_of(old->second)) {
      old->second.clear();
      if (!name.empty()) erase_within(below, name);
    }
    Table& merged = below[name];
    for (auto& [key, value] : table) {
      // An empty list takes a parent's list of tables away.
      const std::string inner = name.empty() ? key : name + "." + key;
      const auto* list = value.node->as_array();
      if (list && list->empty() && below.contains(inner + ".0"))
        erase_within(below, inner);
      else
        merged.insert_or_assign(key, std::move(value));
    }
  }
}

}  // namespace

struct Recipe::Tables {
  std::vector<std::unique_ptr<toml::table>> documents;  // what the values point into
  Layer tables;
  std::map<std::string, std::set<std::string>> known;                              // by table: keys that somebody asked for
  std::set<std::string> finished;                                                  // tables read in full
  std::vector<std::string> order;                                                  // tables as they were first read
  std::map<std::string, std::vector<std::pair<std::string, std::string>>> record;  // by table: key, value as TOML

  const toml::table& keep(toml::table document) {
    documents.push_back(std::make_unique<toml::table>(std::move(document)));
    return *documents.back();
  }

  // A document, after its parents. `trail`: the files that led here.
  void add(const std::string& content, const std::string& origin, const fs::path& folder, std::vector<fs::path> trail) {
    const toml::table& document = keep(parse_toml(content, origin));
    Layer layer;
    flatten(document, "", origin, folder.string(), layer);
    if (const auto it = layer[""].find("parent"); it != layer[""].end()) {
      const std::string place = it->second.place;
      const auto name = it->second.node->value<std::string>();
      require(it->second.node->is_string() && !name->empty(), Failure::input, place, ": parent: found ", found_text(*it->second.node),
              ", expected a recipe's file name in quotes");
      add_file(folder / *name, place + ": parent", std::move(trail));
      layer[""].erase("parent");
    }
    merge(tables, std::move(layer));
  }

  void add_file(const fs::path& file, const std::string& asked_by, std::vector<fs::path> trail) {
    std::error_code none;
    const fs::path real = fs::weakly_canonical(file, none);
    require(fs::exists(file, none), Failure::input, asked_by, ": found no file '", file.lexically_normal().string(),
            "'; expected a recipe (TOML) there");
    if (std::find(trail.begin(), trail.end(), real) != trail.end()) {
      std::string way;
      for (const auto& step : trail) way += step.filename().string() + " → ";
      fail(Failure::input, asked_by, ": the recipe's parents lead back to itself (", way, real.filename().string(),
           "); take one `parent` out");
    }
    trail.push_back(real);
    const fs::path shown = file.lexically_normal();
    add(read_file(shown.string()), shown.string(), fs::absolute(shown).parent_path(), std::move(trail));
  }

  // One "table.key" and its value as typed, into a layer.
  void set(Layer& layer, const std::string& dotted, const std::string& raw, const std::string& place, bool environment) {
    const size_t dot = dotted.rfind('.');
    const std::string table = dot == std::string::npos ? "" : dotted.substr(0, dot);
    const std::string key = dot == std::string::npos ? dotted : dotted.substr(dot + 1);
    require(!key.empty() && (dot == std::string::npos || !table.empty()), Failure::usage, place, ": found '", dotted,
            "', expected table.key=value");
    require(!table.empty() || key != "parent", Failure::usage, place, ": a parent cannot be set from outside; write it in the recipe");

    // A value that is no TOML is a bare word, unless it set out to be a list, a table or a quoted string.
    toml::table document;
    try {
      document = toml::parse("value = " + raw);
    } catch (const toml::parse_error& e) {
      require(raw.find_first_of("[{\"'") != 0, Failure::usage, place, ": found '", raw, "', which is not TOML (", e.description(),
              "); expected a value such as 3, 0.5, true, word, \"text\" or [\"a\", \"b\"]");
    }
    if (document.size() != 1) {
      document.clear();
      document.insert("value", raw);
    }
    const toml::node& node = *keep(std::move(document)).get("value");
    require(!node.is_table(), Failure::usage, place, ": found a table, expected one value; set its keys one by one");
    if (const auto* list = node.as_array(); list && !list->empty() && list->front().is_table()) {
      // A whole list of tables: sampler.after=[{kind = "blur"}].
      Layer items;
      for (size_t i = 0; i < list->size(); ++i) {
        require((*list)[i].is_table(), Failure::usage, place, ": found ", found_text((*list)[i]), " in the list, expected tables alone");
        flatten(*(*list)[i].as_table(), text(dotted, ".", i), place, fs::current_path().string(), items);
      }
      for (auto& [name, values] : items)
        for (auto& [inner, value] : values)
          layer[name].insert_or_assign(inner, Value{value.node, place, value.folder, "", Failure::usage, environment});
      layer.lists.insert(dotted);
      return;
    }
    layer[table].insert_or_assign(key, Value{&node, place, fs::current_path().string(), raw, Failure::usage, environment});
  }

  // The environment's overrides lie below the others.
  void add_overrides(const std::vector<Override>& overrides) {
    for (const bool environment : {true, false}) {
      Layer layer;
      for (const Override& item : overrides) {
        if (item.environment != environment) continue;
        const size_t equals = item.assignment.find('=');
        require(equals != std::string::npos && equals > 0, Failure::usage, item.place.empty() ? "--set" : item.place, ": found '",
                item.assignment, "', expected table.key=value");
        const std::string name = item.assignment.substr(0, equals);
        set(layer, name, item.assignment.substr(equals + 1), item.place.empty() ? "--set " + name : item.place, environment);
      }
      merge(tables, std::move(layer));
    }
  }

  const Value* find(const std::string& table, const std::string& key) const {
    const auto it = tables.find(table);
    if (it == tables.end()) return nullptr;
    const auto value = it->second.find(key);
    return value == it->second.end() ? nullptr : &value->second;
  }

  void note(const std::string& table, const std::string& key, const std::string& value) {
    if (std::find(order.begin(), order.end(), table) == order.end()) order.push_back(table);
    auto& lines = record[table];
    const auto it = std::find_if(lines.begin(), lines.end(), [&](const auto& line) { return line.first == key; });
    if (it == lines.end())
      lines.emplace_back(key, value);
    else
      it->second = value;
  }
};

namespace {

// Is there a table inside this one?
bool holds_others(const Layer& tables, const std::string& name) {
  const auto next = tables.lower_bound(name + ".");
  return next != tables.end() && next->first.starts_with(name + ".");
}

std::string table_text(const std::string& table) { return table.empty() ? "top level" : "[" + table + "]"; }

// Common to reading and help: each overload turns into one call that knows the key, the value and what to check.
class Reader : public Fields {
 public:
  using Find = std::function<const Value*(const std::string& key)>;
  using Note = std::function<void(const std::string& key, const std::string& value)>;
  Reader(std::string table, Find find, Note note) : table(std::move(table)), find_(std::move(find)), note_(std::move(note)) {}

  void operator()(std::string_view key, double& value, std::string_view, std::string_view, Range range) override {
    take(key, value, [&](const Value& v) { return number(key, *v.node, v.place); });
    require(std::isfinite(value) && value >= range.low && value <= range.high, fault(key), where(key), ": found ", number_text(value),
            ", expected ", range_text(range));
  }
  void operator()(std::string_view key, int64_t& value, std::string_view, std::string_view, Range range) override {
    take(key, value, [&](const Value& v) {
      require(v.node->is_integer(), fault(key), where(key), ": found ", found_text(*v.node), ", expected a whole number");
      return v.node->as_integer()->get();
    });
    require(static_cast<double>(value) >= range.low && static_cast<double>(value) <= range.high, fault(key), where(key), ": found ", value,
            ", expected ", range_text(range));
  }
  void operator()(std::string_view key, bool& value, std::string_view) override {
    take(key, value, [&](const Value& v) {
      require(v.node->is_boolean(), fault(key), where(key), ": found ", found_text(*v.node), ", expected true or false");
      return v.node->as_boolean()->get();
    });
  }
  void operator()(std::string_view key, std::string& value, std::string_view) override {
    take(key, value, [&](const Value& v) { return word(key, v); });
  }
  void operator()(std::string_view key, std::vector<std::string>& value, std::string_view) override {
    take(key, value, [&](const Value& v) {
      if (!v.node->is_array()) return Words{word(key, v)};  // one word is a list of one
      Words words;
      for (const auto& item : *v.node->as_array()) {
        require(item.is_string(), fault(key), where(key), ": found ", found_text(item), " in the list, expected strings");
        words.push_back(item.as_string()->get());
      }
      return words;
    });
  }
  void operator()(std::string_view key, std::vector<double>& value, std::string_view, std::string_view) override {
    take(key, value, [&](const Value& v) {
      if (!v.node->is_array()) return std::vector<double>{number(key, *v.node, v.place)};
      std::vector<double> numbers;
      for (const auto& item : *v.node->as_array()) numbers.push_back(number(key, item, v.place));
      return numbers;
    });
    const Range range;
    for (const double item : value)
      require(item >= range.low && item <= range.high, fault(key), where(key), ": found ", number_text(item), ", expected numbers, ",
              range_text(range));
  }
  void choice(std::string_view key, std::string& value, std::string_view, const std::vector<std::string>& words) override {
    take(key, value, [&](const Value& v) { return word(key, v); });
    require(std::find(words.begin(), words.end(), value) != words.end(), fault(key), where(key), ": found '", value, "'",
            did_you_mean(value, words));
  }
  void path(std::string_view key, std::string& value, std::string_view) override {
    std::string folder = fs::current_path().string();
    if (const Value* given = find_(std::string(key))) folder = given->folder;
    take(
        key, value, [&](const Value& v) { return word(key, v); },
        [&](std::string& file) {
          if (!file.empty()) file = (fs::path(folder) / file).lexically_normal().string();
        });
  }

  std::string table;
  std::vector<std::string> declared;

 private:
  // Reads the value if the recipe has it, puts it into its final form, and records it.
  template <class T, class Read>
  void take(std::string_view key, T& value, const Read& read, const std::type_identity_t<std::function<void(T&)>>& settle = {}) {
    declared.emplace_back(key);
    if (const Value* given = find_(declared.back())) value = read(*given);
    if (settle) settle(value);
    note_(declared.back(), as_toml(value));
  }
  Failure fault(std::string_view key) const {
    const Value* given = find_(std::string(key));
    return given ? given->fault : Failure::input;
  }
  std::string where(std::string_view key) const {
    const Value* given = find_(std::string(key));
    return text(given ? given->place : "default", ": ", table.empty() ? "" : "[" + table + "] ", key);
  }
  double number(std::string_view key, const toml::node& node, const std::string&) const {
    require(node.is_number(), fault(key), where(key), ": found ", found_text(node), ", expected a number");
    return node.is_integer() ? static_cast<double>(node.as_integer()->get()) : node.as_floating_point()->get();
  }
  std::string word(std::string_view key, const Value& value) const {
    if (value.node->is_string()) return value.node->as_string()->get();
    if (!value.raw.empty() && !value.node->is_array()) return value.raw;  // --set a.name=12 means the word 12
    fail(fault(key), where(key), ": found ", found_text(*value.node), ", expected a string in quotes");
  }

  Find find_;
  Note note_;
};

// Collects what is declared.
class Help : public Fields {
 public:
  explicit Help(std::vector<OptionHelp>& out) : out_(out) {}
  void operator()(std::string_view key, double& value, std::string_view unit, std::string_view sentence, Range) override {
    add(key, as_toml(value), unit, sentence);
  }
  void operator()(std::string_view key, int64_t& value, std::string_view unit, std::string_view sentence, Range) override {
    add(key, as_toml(value), unit, sentence);
  }
  void operator()(std::string_view key, bool& value, std::string_view sentence) override {
    add(key, as_toml(value), "", sentence);
    out_.back().words = {"true", "false"};
  }
  void operator()(std::string_view key, std::string& value, std::string_view sentence) override { add(key, as_toml(value), "", sentence); }
  void operator()(std::string_view key, std::vector<std::string>& value, std::string_view sentence) override {
    add(key, as_toml(value), "", sentence);
  }
  void operator()(std::string_view key, std::vector<double>& value, std::string_view unit, std::string_view sentence) override {
    add(key, as_toml(value), unit, sentence);
  }
  void choice(std::string_view key, std::string& value, std::string_view sentence, const std::vector<std::string>& words) override {
    add(key, as_toml(value), "", text(sentence, " (one of ", list_of(words), ")"));
    out_.back().words = words;
  }
  void path(std::string_view key, std::string& value, std::string_view sentence) override { add(key, as_toml(value), "", sentence); }

 private:
  void add(std::string_view key, const std::string& value, std::string_view unit, std::string_view sentence) {
    out_.push_back({std::string(key), value, std::string(unit), std::string(sentence), {}});
  }
  std::vector<OptionHelp>& out_;
};

}  // namespace

std::string range_text(const Range& range) {
  const auto plain = [](double value) {
    char buffer[40];
    const bool whole = value == std::floor(value) && std::abs(value) < 1e6;
    return std::string(buffer, whole ? std::to_chars(buffer, buffer + sizeof(buffer), static_cast<int64_t>(value)).ptr
                                     : std::to_chars(buffer, buffer + sizeof(buffer), value).ptr);
  };
  if (range.low == std::numeric_limits<double>::min()) return "more than 0 and at most " + plain(range.high);
  return plain(range.low) + " to " + plain(range.high);
}

Recipe::Recipe(std::unique_ptr<Tables> tables) : tables_(std::move(tables)) {}
Recipe::Recipe(Recipe&&) noexcept = default;
Recipe& Recipe::operator=(Recipe&&) noexcept = default;
Recipe::~Recipe() = default;

Recipe Recipe::load(const std::string& file, const std::vector<Override>& overrides) {
  auto tables = std::make_unique<Tables>();
  tables->add_file(file, "recipe", {});
  tables->add_overrides(overrides);
  return Recipe(std::move(tables));
}

Recipe Recipe::parse(const std::string& toml, const std::string& folder, const std::vector<Override>& overrides,
                     const std::string& origin) {
  auto tables = std::make_unique<Tables>();
  tables->add(toml, origin, fs::absolute(folder.empty() ? "." : folder), {});
  tables->add_overrides(overrides);
  return Recipe(std::move(tables));
}

bool Recipe::has(const std::string& table) const { return tables_->tables.contains(table); }

int64_t Recipe::count(const std::string& list) const {
  int64_t items = 0;
  while (has(text(list, ".", items))) ++items;
  return items;
}

std::string Recipe::kind(const std::string& table, const std::string& otherwise) {
  tables_->known[table].insert("kind");
  std::string kind = otherwise;
  if (const Value* value = tables_->find(table, "kind")) {
    require(value->node->is_string(), value->fault, value->place, ": ", table.empty() ? "" : "[" + table + "] ", "kind: found ",
            found_text(*value->node), ", expected a string in quotes");
    kind = value->node->as_string()->get();
  }
  if (!kind.empty()) tables_->note(table, "kind", toml_quoted(kind));
  return kind;
}

std::unique_ptr<Fields> Recipe::reader(const std::string& table) {
  Tables* tables = tables_.get();
  tables->known[table];
  return std::make_unique<Reader>(
      table, [tables, table](const std::string& key) { return tables->find(table, key); },
      [tables, table](const std::string& key, const std::string& value) { tables->note(table, key, value); });
}

void Recipe::finish(Fields& fields) {
  const auto& reader = dynamic_cast<Reader&>(fields);
  std::set<std::string>& known = tables_->known[reader.table];
  std::vector<std::string> expected = reader.declared;
  if (known.contains("kind")) expected.insert(expected.begin(), "kind");

  // Every key of the table has to be one that this reader declares.
  if (const auto it = tables_->tables.find(reader.table); it != tables_->tables.end())
    for (const auto& [key, value] : it->second)
      require(std::find(expected.begin(), expected.end(), key) != expected.end(), value.fault, value.place, ": ", table_text(reader.table),
              ": found unknown key '", key, "'", did_you_mean(key, expected));
  known.insert(expected.begin(), expected.end());
  tables_->finished.insert(reader.table);
}

void Recipe::refuse(const std::string& table, const std::vector<std::string>& keys, const std::string& sentence) const {
  for (const std::string& key : keys)
    if (const Value* value = tables_->find(table, key))
      fail(value->fault, value->place, ": ", table.empty() ? "" : "[" + table + "] ", key, ": ", sentence);
  fail(Failure::input, "recipe: ", table.empty() ? "" : "[" + table + "] ", keys.empty() ? "" : keys.front(), ": ", sentence);
}

void Recipe::refuse_unread() const {
  std::vector<std::string> tables;
  for (const auto& [name, keys] : tables_->known)
    if (!name.empty()) tables.push_back(name);
  for (const auto& [name, table] : tables_->tables) {
    const auto known = tables_->known.find(name);
    const auto unread = std::find_if(
        table.begin(), table.end(), [&](const auto& item) { return known == tables_->known.end() || !known->second.contains(item.first); });
    // The environment is there for every command, also for those that have no such table.
    const bool surroundings =
        !table.empty() && std::all_of(table.begin(), table.end(), [](const auto& item) { return item.second.environment; });
    if (known == tables_->known.end() && !name.empty() && surroundings) {
      warn_once(text(table.begin()->second.place, ": nothing here reads a table [", name, "]; it is passed over"));
      continue;
    }
    // A table nobody looked at is misspelled; one whose kind alone was looked at takes no options.
    if (known == tables_->known.end() && !name.empty() && !(table.empty() && holds_others(tables_->tables, name)))
      fail(table.empty() ? Failure::input : unread->second.fault, table.empty() ? "recipe" : unread->second.place, ": found table [", name,
           "], which nothing here reads", did_you_mean(name, tables));
    if (unread != table.end())
      fail(unread->second.fault, unread->second.place, ": ", table_text(name), ": found key '", unread->first, "', which ",
           name.empty() ? "nothing here reads at the top level" : "its kind does not take", "; take it out");
  }
}

std::vector<std::string> Recipe::files() const {
  std::vector<std::string> out;
  std::istringstream lines(resolved());
  for (std::string line; std::getline(lines, line);) {
    const size_t begin = line.find(" = \"/");
    if (begin == std::string::npos || !line.ends_with('"')) continue;
    const std::string file = line.substr(begin + 4, line.size() - begin - 5);
    std::error_code ignored;
    if (std::filesystem::is_regular_file(file, ignored) && std::find(out.begin(), out.end(), file) == out.end()) out.push_back(file);
  }
  return out;
}

std::string Recipe::resolved() const {
  std::string out;
  const auto write = [&](const std::string& table) {
    if (!table.empty()) {
      std::string name;
      for (size_t begin = 0; begin <= table.size();) {
        const size_t end = std::min(table.find('.', begin), table.size());
        name += (begin ? "." : "") + key_text(table.substr(begin, end - begin));
        begin = end + 1;
      }
      out += (out.empty() ? "[" : "\n[") + name + "]\n";
    }
    for (const auto& [key, value] : tables_->record.at(table)) out += text(key_text(key), " = ", value, "\n");
  };
  // The top level comes first, or TOML would put its keys into the table before.
  if (tables_->record.contains("")) write("");
  for (const auto& table : tables_->order)
    if (!table.empty()) write(table);
  return out;
}

std::unique_ptr<Fields> help_collector(std::vector<OptionHelp>& out) { return std::make_unique<Help>(out); }

}  // namespace evoke
