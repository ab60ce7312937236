// LibTorch's operators as files name them: which of them may run, what they trust of their arguments, and Python's arithmetic of sizes.
#pragma once
#include <ATen/core/ivalue.h>

#include <string>
#include <vector>

namespace evoke {

/// Whether programs may run the operator aten::name: those that compute, none that opens files or handles raw storage.
bool may_run(const std::string& space, const std::string& name);

/// Of an operator's arguments, in the order of its schema. Throws Failure::input for what the operator would trust and should not.
using Check = void (*)(const std::vector<c10::IValue>& given);

/// What is checked before aten::name is called; nullptr where LibTorch checks all itself.
Check check_for(const std::string& name);

/// The check of windows, paddings and enlargements. It looks at numbers only, so constants need it once.
void check_window(const std::vector<c10::IValue>& given);

/// The most numbers that one value may have: far more than a network's largest map.
#ifdef EVOKE_MOST_NUMBERS  // a fuzzer has less time
constexpr int64_t most_numbers = EVOKE_MOST_NUMBERS;
#else
constexpr int64_t most_numbers = int64_t{1} << 34;
#endif

/// Python's arithmetic of sizes ("add", "floordiv", "sym_max" …), on integers where all are, on floats otherwise; nullptr for an unknown
/// name. Throws Failure::input where a size is divided by zero or does not fit 64 bits.
using Arithmetic = c10::IValue (*)(const std::vector<c10::IValue>&);
Arithmetic arithmetic_named(const std::string& name);

/// A whole number or a truth value, as Python counts it.
int64_t integer(const c10::IValue&);

/// A number where an operator wants a tensor: of no dimension, and not deciding the result's type.
c10::IValue as_tensor(const c10::IValue&);

}  // namespace evoke
