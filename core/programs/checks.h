// What LibTorch's operators trust of their arguments and should not, where a file says what they are.
#pragma once
#include <ATen/core/ivalue.h>

#include <string>
#include <vector>

namespace evoke {

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

}  // namespace evoke
