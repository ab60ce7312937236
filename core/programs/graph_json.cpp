#include "core/programs/graph_json.h"

#include <limits>
#include <map>
#include <stdexcept>

#include "core/error.h"

namespace evoke {

using nlohmann::json;

namespace {

// More than any network has, and few enough to be read in seconds: parsed, they are some twenty times as many.
constexpr uint64_t most_bytes = uint64_t{1} << 27;

}  // namespace

void torn(const std::string& file, const std::string& what) {
  fail(Failure::input, file, ": ", what, "; expected a program that torch.export.save wrote (torch 2.8 or later)");
}

json parsed_text(std::string_view content, const std::string& file, const std::string& name) {
  // The parser's values nest: so deep a file would exhaust the stack when it is walked.
  int depth = 0;
  bool quoted = false;
  for (size_t i = 0; i < content.size(); ++i) {
    const char c = content[i];
    if (quoted) {
      if (c == '\\')
        ++i;
      else if (c == '"')
        quoted = false;
    } else if (c == '"') {
      quoted = true;
    } else if (c == '{' || c == '[') {
      if (++depth > 200) torn(file, name + " nests deeper than any network does");
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return json::parse(content, nullptr, false);
}

json parsed_record(const Archive& archive, const std::string& name) {
  if (archive.size(name) > most_bytes) torn(archive.file(), name + " is larger than any network's");
  json out = parsed_text(archive.text(name), archive.file(), name);
  if (out.is_discarded()) torn(archive.file(), name + " is no JSON");
  return out;
}

void misread(const std::string& found, const std::string& expected) {
  throw std::invalid_argument("found " + found + " where " + expected + " belongs");
}

int64_t whole(const json& number) {
  if (!number.is_number_integer() ||
      (number.is_number_unsigned() && number.get<uint64_t>() > uint64_t(std::numeric_limits<int64_t>::max())))
    misread(number.is_number() ? "a number that is not whole or too large" : number.type_name(), "a whole number");
  return number.get<int64_t>();
}

double real(const json& number, const std::string& file) {
  if (number.is_number()) return number.get<double>();
  const std::string word = number.get<std::string>();
  if (word == "Infinity" || word == "inf") return std::numeric_limits<double>::infinity();
  if (word == "-Infinity" || word == "-inf") return -std::numeric_limits<double>::infinity();
  if (word == "NaN" || word == "nan") return std::numeric_limits<double>::quiet_NaN();
  torn(file, "'" + word + "' is no number");
}

std::pair<std::string, const json&> tagged(const json& given) {
  if (!given.is_object() || given.empty()) misread(given.is_object() ? "nothing" : given.type_name(), "an argument");
  return {given.begin().key(), *given.begin()};
}

std::string name_in(const json& given) {
  const json& content = tagged(given).second;
  return (content.contains("name") ? content.at("name") : content.at("as_name")).get<std::string>();
}

int64_t size_of(const json& size) {
  if (size.contains("as_int")) return whole(size.at("as_int"));
  const json& hint = size.at("as_expr").at("hint");
  return hint.is_null() ? 1 : whole(hint.at("as_int"));
}

bool is_free(const json& size) { return !size.contains("as_int"); }

std::string size_text(const json& size) {
  return is_free(size) ? size.at("as_expr").at("expr_str").get<std::string>() : std::to_string(whole(size.at("as_int")));
}

at::ScalarType type_numbered(int64_t number, const std::string& where) {
  static const std::map<int64_t, at::ScalarType> types{
      {1, at::kByte},           {2, at::kChar},  {3, at::kShort},    {4, at::kInt},         {5, at::kLong},
      {6, at::kHalf},           {7, at::kFloat}, {8, at::kDouble},   {9, at::kComplexHalf}, {10, at::kComplexFloat},
      {11, at::kComplexDouble}, {12, at::kBool}, {13, at::kBFloat16}};
  const auto found = types.find(number);
  require(found != types.end(), Failure::input, where, ": found numbers of type ", number,
          ", which evoke does not read; export the network in float32 (model.float())");
  return found->second;
}

}  // namespace evoke
