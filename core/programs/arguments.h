// From a node's arguments in a .pt2's JSON to an instruction's, in the order of the operator's schema.
#pragma once
#include <c10/core/Device.h>

#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "core/programs/instructions.h"

namespace evoke {

/// What reading an argument needs to know besides it.
struct ArgumentContext {
  std::string file, where;  // for errors
  at::Device device;        // what devices that the file names become
  std::function<int(const std::string& value)> slot_of;
};

/// One argument where the operator takes `type`. Throws Failure::input for a form that evoke does not read.
Argument read_argument(const nlohmann::json& given, c10::TypePtr type, const ArgumentContext&);

/// All arguments of a node, defaults filled in, and which of them are written to: `instruction.operation` is known. Throws Failure::input
/// where one is missing or of a kind or length that the operator would trust and should not.
void read_arguments(const nlohmann::json& node, const ArgumentContext&, Instruction& instruction);

}  // namespace evoke
