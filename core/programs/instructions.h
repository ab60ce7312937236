// A program as a list of LibTorch's operators: what a .pt2 is read into (core/programs/reader.cpp), and what runs.
#pragma once
#include <ATen/core/dispatch/Dispatcher.h>

#include <functional>
#include <map>
#include <memory>
#include <optional>

#include "core/nouns/nouns.h"
#include "core/programs/checks.h"
#include "core/programs/size_arithmetic.h"

namespace evoke {

/// One argument of an operator. Slots are where values lie while the program runs.
struct Argument {
  enum class Kind { constant, value, numbers, tensors } kind = Kind::constant;
  c10::IValue constant;
  std::vector<int> slots;        // value: one; lists: one an element, -1 where the element is a number (or no tensor)
  std::vector<int64_t> numbers;  // of a list of integers
  bool optional = false;         // a list whose tensors may be missing
  bool number = false;           // a size where the operator wants a tensor
};

/// One operator, or arithmetic of sizes where there is no operation.
struct Instruction {
  std::optional<c10::OperatorHandle> operation;
  Arithmetic arithmetic = nullptr;
  std::vector<Argument> arguments;        // in the order of the schema
  std::vector<std::vector<int>> results;  // slots; more than one in an entry: the operator gives a list
  std::vector<int> mutated;               // slots that it writes to
  Check check = nullptr;                  // before every call
  bool gradient = true;                   // off inside of torch.no_grad
  std::string where;                      // for errors
};

/// A value that callers may ask for.
struct Tap {
  std::string name, type;
  int slot = -1, made = -1;  // made: the instruction, -1 for what is given
};

/// All of a program, in the order in which it runs.
struct Instructions {
  std::string file;
  std::vector<Instruction> list;
  std::vector<std::pair<int, Tensor>> weights;  // slot, value
  std::vector<int> inputs;
  std::vector<bool> written_inputs;  // the program writes into what it is given
  int slots = 0;
  bool fold = false;  // batch norms may go into the convolutions before them: faster, and rounded otherwise
  std::vector<Tap> taps;
  std::map<std::string, size_t> tap_of;  // name -> taps
};

/// A function from inputs and the names of taps to activations. For the sets of taps that were asked for last it keeps a plan: no
/// instruction that the taps do not need, and every value freed after its last use. Throws Failure::usage for a tap that does not exist,
/// Failure::input, with the instruction, where LibTorch refuses a value, Failure::device where memory would not suffice.
std::function<Activations(const std::vector<Tensor>& inputs, const std::vector<std::string>& taps)> runnable(
    std::shared_ptr<const Instructions>);

}  // namespace evoke
