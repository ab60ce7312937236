#include "core/programs/instructions.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <c10/core/InferenceMode.h>

#include <deque>
#include <set>

#include "core/error.h"
#include "core/numbers/relu.h"
#include "core/programs/recent.h"

namespace evoke {

namespace {

using c10::IValue;

// What a set of taps needs: instructions in order, and what is dead after each.
struct Plan {
  struct Step {
    const Instruction* instruction;
    std::vector<int> dead;
    std::vector<std::pair<std::string, int>> taps;  // made here
    bool clone = false;                             // a later step writes in place, perhaps over what is tapped here
  };
  std::vector<Step> steps;
  std::vector<std::pair<std::string, int>> given;  // taps that are inputs or weights
  std::deque<Instruction> folded;                  // convolutions with the norm behind them
};

// A batch norm in evaluation is a factor and an addend a channel, so it fits into the weights of the convolution before it: one pass over
// the map less, in both directions. Rounds otherwise than Python, so only where the caller has chosen speed.
std::optional<Instruction> fold(const Instructions& program, const Instruction& convolution, const Instruction& norm) {
  const auto weight_in = [&](const Argument& argument) {
    if (argument.kind == Argument::Kind::value)
      for (const auto& [slot, tensor] : program.weights)
        if (slot == argument.slots[0] && tensor.scalar_type() == at::kFloat) return tensor;
    return Tensor();
  };
  const auto& c = convolution.arguments;
  const auto& n = norm.arguments;
  const Tensor weight = weight_in(c.at(1)), mean = weight_in(n.at(3)), variance = weight_in(n.at(4));
  const bool biased = c.at(2).kind == Argument::Kind::value, scaled = n.at(1).kind == Argument::Kind::value,
             moved = n.at(2).kind == Argument::Kind::value;
  const Tensor bias = weight_in(c[2]), factor = weight_in(n[1]), addend = weight_in(n[2]);
  const bool known = weight.defined() && mean.defined() && variance.defined() && biased == bias.defined() && scaled == factor.defined() &&
                     moved == addend.defined();
  if (!known || weight.dim() != 4 || mean.numel() != weight.size(0) || !n.at(7).constant.isDouble()) return std::nullopt;
  Tensor scale = at::rsqrt(variance + n[7].constant.toDouble());
  if (scaled) scale = scale * factor;
  Tensor shift = (biased ? bias - mean : -mean) * scale;
  if (moved) shift = shift + addend;
  Instruction out = convolution;
  out.results = norm.results;
  out.arguments[1] = Argument();
  out.arguments[1].constant = (weight * scale.view({-1, 1, 1, 1})).contiguous(at::MemoryFormat::ChannelsLast);
  out.arguments[2] = Argument();
  out.arguments[2].constant = shift;
  return out;
}

// The norms that can be folded: place of the convolution -> the norm's, where nothing else uses what lies between them.
std::map<int, int> foldable(const Instructions& program, const std::vector<bool>& live, const std::vector<int>& maker,
                            const std::set<int>& tapped) {
  std::vector<int> uses(static_cast<size_t>(program.slots));
  for (size_t i = 0; i < live.size(); ++i)
    if (live[i])
      for (const Argument& argument : program.list[i].arguments)
        for (const int slot : argument.slots)
          if (slot >= 0) ++uses[static_cast<size_t>(slot)];
  const auto is = [](const Instruction& instruction, const char* name) {
    return instruction.operation && instruction.operation->schema().name() == name &&
           instruction.operation->schema().overload_name().empty();
  };
  std::map<int, int> out;
  for (size_t i = 0; i < live.size(); ++i) {
    const Instruction& norm = program.list[i];
    if (!live[i] || !is(norm, "aten::batch_norm") || norm.arguments[0].kind != Argument::Kind::value) continue;
    const int between = norm.arguments[0].slots[0], made = maker[static_cast<size_t>(between)];
    if (made >= 0 && uses[static_cast<size_t>(between)] == 1 && !tapped.contains(between) &&
        is(program.list[static_cast<size_t>(made)], "aten::conv2d"))
      out[made] = static_cast<int>(i);
  }
  return out;
}

Plan plan_for(const Instructions& program, const std::vector<std::string>& taps) {
  // A search, which needs no gradients, may be the first to ask; folded weights must serve those that do need them as well.
  const c10::InferenceMode ordinary(false);
  const c10::NoGradGuard no_gradient;
  std::vector<bool> needed(static_cast<size_t>(program.slots)), live(program.list.size());
  std::vector<int> maker(static_cast<size_t>(program.slots), -1);
  for (size_t i = 0; i < program.list.size(); ++i)
    for (const auto& result : program.list[i].results)
      for (const int slot : result)
        if (slot >= 0) maker[static_cast<size_t>(slot)] = static_cast<int>(i);
  int deepest = -1;
  std::multimap<int, std::pair<std::string, int>> made;
  for (const std::string& name : taps) {
    const auto found = program.tap_of.find(name);
    if (found == program.tap_of.end()) {
      std::vector<std::string> names;
      for (const Tap& tap : program.taps) names.push_back(tap.name);
      fail(Failure::usage, program.file, ": found no layer '", name, "'", did_you_mean(name, names), "; evoke inspect lists them");
    }
    const int slot = program.taps[found->second].slot, at = maker[static_cast<size_t>(slot)];
    needed[static_cast<size_t>(slot)] = true;
    deepest = std::max(deepest, at);
    made.emplace(at, std::pair{name, slot});
  }

  // Backwards from the deepest tap. What writes in place counts as needed: whose memory it writes to is not always written in its schema.
  for (int i = deepest; i >= 0; --i) {
    const Instruction& instruction = program.list[static_cast<size_t>(i)];
    bool wanted = !instruction.mutated.empty();
    for (const auto& result : instruction.results)
      for (const int slot : result) wanted = wanted || (slot >= 0 && needed[static_cast<size_t>(slot)]);
    if (!wanted) continue;
    live[static_cast<size_t>(i)] = true;
    for (const Argument& argument : instruction.arguments)
      for (const int slot : argument.slots)
        if (slot >= 0) needed[static_cast<size_t>(slot)] = true;
  }

  Plan plan;
  std::set<int> tapped;
  for (auto [at, tap] : made) {
    tapped.insert(tap.second);
    if (at < 0) plan.given.push_back(tap);
  }
  std::map<int, int> norms = program.fold ? foldable(program, live, maker, tapped) : std::map<int, int>();
  std::map<int, Instruction*> together;
  for (const auto& [convolution, norm] : norms)
    if (auto one = fold(program, program.list[static_cast<size_t>(convolution)], program.list[static_cast<size_t>(norm)])) {
      together[convolution] = &plan.folded.emplace_back(std::move(*one));
      live[static_cast<size_t>(norm)] = false;
    }
  std::vector<int> last(static_cast<size_t>(program.slots), -1);
  for (int i = 0; i <= deepest; ++i) {
    if (!live[static_cast<size_t>(i)]) continue;
    const bool with_norm = together.contains(i);
    const Instruction& instruction = with_norm ? *together.at(i) : program.list[static_cast<size_t>(i)];
    const int step = static_cast<int>(plan.steps.size());
    for (const Argument& argument : instruction.arguments)
      for (const int slot : argument.slots)
        if (slot >= 0) last[static_cast<size_t>(slot)] = step;
    for (const auto& result : instruction.results)
      for (const int slot : result)
        if (slot >= 0) last[static_cast<size_t>(slot)] = step;
    Plan::Step next{&instruction, {}, {}, false};
    for (auto [begin, end] = made.equal_range(with_norm ? norms.at(i) : i); begin != end; ++begin) next.taps.push_back(begin->second);
    plan.steps.push_back(std::move(next));
  }
  bool writes = false;
  for (auto step = plan.steps.rbegin(); step != plan.steps.rend(); ++step) {
    step->clone = writes;
    writes = writes || !step->instruction->mutated.empty();
  }
  for (int slot = 0; slot < program.slots; ++slot)
    if (last[static_cast<size_t>(slot)] >= 0) plan.steps[static_cast<size_t>(last[static_cast<size_t>(slot)])].dead.push_back(slot);
  return plan;
}

void put(const Argument& argument, const std::vector<IValue>& values, std::vector<IValue>& stack) {
  switch (argument.kind) {
    case Argument::Kind::constant:
      stack.push_back(argument.constant);
      return;
    case Argument::Kind::value: {
      const IValue& value = values[static_cast<size_t>(argument.slots[0])];
      stack.push_back(argument.number ? as_tensor(value) : value);
      return;
    }
    case Argument::Kind::numbers: {
      std::vector<int64_t> numbers = argument.numbers;
      for (size_t i = 0; i < numbers.size(); ++i)
        if (argument.slots[i] >= 0) numbers[i] = integer(values[static_cast<size_t>(argument.slots[i])]);
      stack.emplace_back(std::move(numbers));
      return;
    }
    case Argument::Kind::tensors:
      if (argument.optional) {
        c10::List<std::optional<Tensor>> list;
        list.reserve(argument.slots.size());
        for (const int slot : argument.slots)
          list.push_back(slot < 0 ? std::optional<Tensor>() : values[static_cast<size_t>(slot)].toTensor());
        stack.emplace_back(std::move(list));
      } else {
        c10::List<Tensor> list;
        list.reserve(argument.slots.size());
        for (const int slot : argument.slots) list.push_back(values[static_cast<size_t>(slot)].toTensor());
        stack.emplace_back(std::move(list));
      }
  }
}

// A picture on its way through a network never grows so large; a file that means harm doubles it until nothing is left. What takes memory
// was refused before (core/programs/memory_bound.h); a view takes none.
void check_size(const Instruction& instruction, const Tensor& tensor) {
  require(tensor.numel() <= most_numbers, Failure::input, instruction.where, " gave a value ", shape_text(tensor.sizes()),
          ", which is larger than any network's");
}

void take(const Instruction& instruction, std::vector<IValue>& stack, std::vector<IValue>& values) {
  for (IValue& result : stack) {
    // A tensor that an operator leaves out is none to the next.
    if (result.isTensor() && !result.toTensor().defined()) result = IValue();
    if (result.isTensor()) check_size(instruction, result.toTensor());
  }
  for (size_t r = 0; r < instruction.results.size(); ++r) {
    const std::vector<int>& slots = instruction.results[r];
    if (slots.size() == 1 && !(stack[r].isTensorList())) {
      if (slots[0] >= 0) values[static_cast<size_t>(slots[0])] = std::move(stack[r]);
      continue;
    }
    const std::vector<Tensor> list = stack[r].toTensorVector();
    require(list.size() == slots.size(), Failure::input, instruction.where, " gave ", list.size(), " tensors where the file says ",
            slots.size(), "; the file does not fit this LibTorch, or its sizes are fixed: export with dynamic_shapes");
    for (size_t i = 0; i < slots.size(); ++i)
      if (slots[i] >= 0) values[static_cast<size_t>(slots[i])] = list[i];
  }
}

// A rectifier with the redirected slope, in place of the operator that would be called; false where it is another operator. What wrote in
// place gives its values a new place.
bool redirect(const Instruction& instruction, std::vector<IValue>& stack, std::vector<IValue>& values) {
  if (!relus_are_redirected() || !instruction.gradient) return false;
  std::string name = instruction.operation->schema().name();
  if (name.ends_with('_')) name.pop_back();
  double low = 0, high = std::numeric_limits<double>::infinity();
  if (name == "aten::relu6") {
    high = 6;
  } else if (name == "aten::hardtanh") {
    low = stack.at(1).toScalar().toDouble();
    high = stack.at(2).toScalar().toDouble();
  } else if (name != "aten::relu") {
    return false;
  }
  const Tensor out = rectified(stack.at(0).toTensor(), low, high);
  for (const int slot : instruction.mutated) values[static_cast<size_t>(slot)] = out;
  stack = {out};
  return true;
}

void run_step(const Plan::Step& step, std::vector<IValue>& values, std::vector<IValue>& stack, Activations& out) {
  const Instruction& instruction = *step.instruction;
  stack.clear();
  for (const Argument& argument : instruction.arguments) put(argument, values, stack);
  if (instruction.operation) {
    if (instruction.check != nullptr) instruction.check(stack);
    std::optional<c10::AutoGradMode> off;
    if (!instruction.gradient) off.emplace(false);
    if (!redirect(instruction, stack, values)) instruction.operation->callBoxed(stack);
  } else {
    stack = {instruction.arithmetic(stack)};
  }
  require(stack.size() >= instruction.results.size(), Failure::input, instruction.where, " gave too few values");
  take(instruction, stack, values);
  for (const auto& [name, slot] : step.taps) {
    const Tensor& tapped = values[static_cast<size_t>(slot)].toTensor();
    out[name] = step.clone ? tapped.clone() : tapped;
  }
  for (const int slot : step.dead) values[static_cast<size_t>(slot)] = IValue();
}

Activations run_plan(const Instructions& program, const Plan& plan, const std::vector<Tensor>& inputs) {
  require(inputs.size() == program.inputs.size(), Failure::usage, program.file, ": found ", inputs.size(), " inputs, expected ",
          program.inputs.size());
  std::vector<IValue> values(static_cast<size_t>(program.slots));
  for (const auto& [slot, tensor] : program.weights) values[static_cast<size_t>(slot)] = tensor;
  for (size_t i = 0; i < program.inputs.size(); ++i) {
    require(inputs[i].defined() && inputs[i].dim() > 0, Failure::usage, program.file, ": found an input without rows");
    values[static_cast<size_t>(program.inputs[i])] = program.written_inputs[i] ? inputs[i].clone() : inputs[i];
  }

  Activations out;
  for (const auto& [name, slot] : plan.given) out[name] = values[static_cast<size_t>(slot)].toTensor();
  std::vector<IValue> stack;
  for (const Plan::Step& step : plan.steps) {
    const std::string& where = step.instruction->where;
    try {
      run_step(step, values, stack, out);
    } catch (const c10::OutOfMemoryError&) {
      throw;
    } catch (const Error& error) {
      const std::string sentence = error.what();
      throw Error(error.kind(), one_line(program.file + ": " + (sentence.starts_with(where) ? "" : where + ": ") + sentence));
    } catch (const c10::Error& error) {
      const std::string sentence = one_line(error.what_without_backtrace());
      if (sentence.find("can't allocate memory") != std::string::npos) throw;
      fail(Failure::input, program.file, ": ", one_line(where), ": ", sentence,
           inputs[0].dim() == 4 ? text("; the image was ", shape_text(inputs[0].sizes()), ": is it the size the network was exported for?")
                                : "");
    } catch (const std::bad_alloc&) {
      fail(Failure::device, program.file, ": ", one_line(where), ": there is not enough memory; take fewer rows at a time");
    } catch (const std::exception& error) {
      fail(Failure::input, program.file, ": ", one_line(where), ": ", one_line(error.what()),
           "; the file is torn, or does not fit this LibTorch");
    }
  }
  return out;
}

}  // namespace

std::function<Activations(const std::vector<Tensor>&, const std::vector<std::string>&)> runnable(
    std::shared_ptr<const Instructions> program) {
  auto plans = std::make_shared<Recent<std::vector<std::string>, Plan>>(most_plans);
  return [program = std::move(program), plans](const std::vector<Tensor>& inputs, const std::vector<std::string>& taps) {
    const std::shared_ptr<const Plan> plan = plans->get(taps, [&] { return plan_for(*program, taps); });
    Activations out = run_plan(*program, *plan, inputs);
    for (const auto& [name, tensor] : out)
      require(tensor.dim() > 0 && tensor.size(0) == inputs[0].size(0), Failure::input, program->file, ": '", name, "' gave ",
              shape_text(tensor.sizes()), " for ", inputs[0].size(0),
              " rows, where the file says a row an image; it does not fit this LibTorch");
    return out;
  };
}

}  // namespace evoke
