// Python's arithmetic of sizes, which graphs do between tensors.
#pragma once
#include <ATen/core/ivalue.h>

#include <string>
#include <vector>

namespace evoke {

/// "add", "floordiv", "sym_max" …, on integers where all are, on floats otherwise. Throws Failure::input where a size is divided by zero or
/// does not fit 64 bits.
using Arithmetic = c10::IValue (*)(const std::vector<c10::IValue>&);
/// nullptr for an unknown name.
Arithmetic arithmetic_named(const std::string& name);

/// A whole number or a truth value, as Python counts it.
int64_t integer(const c10::IValue&);

/// A number where an operator wants a tensor: of no dimension, and not deciding the result's type.
c10::IValue as_tensor(const c10::IValue&);

}  // namespace evoke
