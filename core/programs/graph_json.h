// The JSON of a .pt2, as torch.export writes it: arguments, sizes and types, each checked before it is used.
// What does not fit throws std::invalid_argument or the JSON library's exception; load_pt2 (core/programs/reader.cpp) makes a sentence of
// it.
#pragma once
#include <c10/core/ScalarType.h>

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>

#include "core/programs/archive.h"

namespace evoke {

/// Throws Failure::input: "FILE: WHAT; expected a program that torch.export.save wrote …".
[[noreturn]] void torn(const std::string& file, const std::string& what);

/// The JSON of a text, discarded where it is none. Throws Failure::input where it nests deeper than any network does.
nlohmann::json parsed_text(std::string_view content, const std::string& file, const std::string& name);

/// The JSON of a record. Throws Failure::input where it is none or larger than any network's.
nlohmann::json parsed_record(const Archive&, const std::string& name);

/// Throws std::invalid_argument: "found FOUND where EXPECTED belongs".
[[noreturn]] void misread(const std::string& found, const std::string& expected);

/// A whole number of 64 bits.
int64_t whole(const nlohmann::json& number);

/// A number, or one of the words that stand for what JSON cannot write: "Infinity", "-Infinity", "NaN".
double real(const nlohmann::json& number, const std::string& file);

/// {"as_tensor": …}: the form, and the content.
std::pair<std::string, const nlohmann::json&> tagged(const nlohmann::json& given);

/// The name in {"as_tensor": {"name": …}} and {"as_sym_int": {"as_name": …}}.
std::string name_in(const nlohmann::json& given);

/// A size that is a number, or the hint of one that is free (the size of the example that the network was exported with; 1 without).
int64_t size_of(const nlohmann::json& size);
bool is_free(const nlohmann::json& size);
/// "3", or the expression of a free size: "s77".
std::string size_text(const nlohmann::json& size);

/// The type of numbers that torch.export gives this number. Throws Failure::input, `where` first, for those that evoke does not read.
at::ScalarType type_numbered(int64_t number, const std::string& where);

}  // namespace evoke
