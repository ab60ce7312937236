// A .pt2 is a stored zip: models/NAME.json, a graph of ATen operators in the order they run, and the weights as raw little-endian numbers.
// Reading checks all of it and resolves every node to an operator of LibTorch, its arguments in the order of the operator's schema. What
// runs is core/programs/instructions.h.
#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/version.h>

#include <nlohmann/json.hpp>
#include <set>
#include <unordered_map>

#include "core/error.h"
#include "core/programs/allowlist.h"
#include "core/programs/arguments.h"
#include "core/programs/checks.h"
#include "core/programs/graph_json.h"
#include "core/programs/instructions.h"
#include "core/programs/program.h"
#include "core/programs/size_arithmetic.h"
#include "core/programs/taps.h"
#include "core/programs/weights.h"

namespace evoke {

namespace {

using c10::IValue;
using nlohmann::json;

constexpr size_t most_nodes = 1'000'000;  // more than any network has, and few enough to be read in seconds

// A tensor that the file knows of.
struct Described {
  std::vector<int64_t> shape;  // hints where a size is free
  std::string rows;            // the first size, as text
  at::ScalarType type = at::kFloat;
};

// Checks that exported networks carry for their own tracing; their outcome is never used.
bool is_check(const std::string& name) {
  return name.starts_with("_assert") || name.starts_with("sym_constrain_range") || name.starts_with("_check") ||
         name == "_functional_assert_async";
}

class Reader {
 public:
  Reader(const Archive& archive, Instructions& instructions, at::Device device, MemoryOrder order)
      : archive_(archive), instructions_(instructions), device_(device), order_(order) {}

  void read(const std::string& name, Program& program) {
    const json model = parsed_record(archive_, "models/" + name + ".json");
    const json& module = model.at("graph_module");
    const json& graph = module.at("graph");
    std::unordered_map<std::string, int> scope;
    describe_tensors(graph);
    read_inputs(name, module.at("signature"), graph, scope, program);
    read_nodes(graph, scope, true);
    read_outputs(module, scope, program);
    name_taps(program);
    note_memory();
  }

 private:
  using Scope = std::unordered_map<std::string, int>;

  int new_slot() { return instructions_.slots++; }

  int slot_of(const Scope& scope, const std::string& name, const std::string& where) const {
    const auto found = scope.find(name);
    if (found == scope.end()) torn(instructions_.file, where + " uses the value '" + name + "' before it is made");
    return found->second;
  }

  ArgumentContext context(const std::string& where, const Scope& scope) const {
    return {instructions_.file, where, device_, [this, where, &scope](const std::string& name) { return slot_of(scope, name, where); }};
  }

  void describe_tensors(const json& graph) {
    for (const auto& [name, meta] : graph.at("tensor_values").items()) {
      Described tensor;
      for (const json& size : meta.at("sizes")) {
        tensor.shape.push_back(size_of(size));
        if (tensor.shape.back() < 0 || tensor.shape.back() > most_numbers)
          torn(instructions_.file, "'" + name + "' has a size of " + size.dump());
      }
      if (!tensor.shape.empty()) tensor.rows = size_text(meta.at("sizes").at(0));
      const int64_t type = whole(meta.at("dtype"));
      tensor.type = type >= 1 && type <= 13 ? type_numbered(type, instructions_.file) : at::kFloat;
      described_[name] = tensor;
    }
  }

  // Parameters, buffers and constants are read; what is left is what the caller gives.
  void read_inputs(const std::string& name, const json& signature, const json& graph, Scope& scope, Program& program) {
    Weights weights(archive_, name);
    for (const json& spec : signature.at("input_specs")) {
      const auto [kind, inner] = tagged(spec);
      if (kind == "user_input") {
        const json& argument = inner.at("arg");
        if (argument.contains("as_none")) continue;
        require(argument.contains("as_tensor"), Failure::input, instructions_.file,
                ": takes an input that is no tensor; wrap the network in a module whose forward takes tensors only, and export that");
        const std::string value = argument.at("as_tensor").at("name").get<std::string>();
        const int slot = new_slot();
        scope[value] = slot;
        input_at_[slot] = instructions_.inputs.size();
        instructions_.inputs.push_back(slot);
        // Sizes that are free are said so, for whoever gives the input.
        Port port{one_line(value), {}, described_.at(value).type};
        for (const json& size : graph.at("tensor_values").at(value).at("sizes")) port.shape.push_back(is_free(size) ? -1 : size_of(size));
        require(std::all_of(port.shape.begin(), port.shape.end(),
                            [](int64_t size) { return size == -1 || (size > 0 && size <= most_numbers); }),
                Failure::input, instructions_.file, ": takes an input ", shape_text(port.shape),
                ", expected sizes of at least 1; export with a real picture");
        port.example = described_.at(value).shape;
        program.inputs.push_back(port);
        if (program.inputs.size() == 1) rows_ = described_.at(value).rows;
        continue;
      }
      require(kind == "parameter" || kind == "buffer" || kind == "tensor_constant", Failure::input, instructions_.file, ": takes a ", kind,
              ", which evoke does not run; wrap the network in a module that needs none, and export that");
      const std::string key = inner.at(kind == "parameter" ? "parameter_name" : kind == "buffer" ? "buffer_name" : "tensor_constant_name");
      // Sampling never asks for their gradients, and on a CPU convolutions are faster on channels-last weights.
      Tensor tensor = weights.read(key, kind == "tensor_constant").to(device_);
      if (order_ == MemoryOrder::channels_last && tensor.dim() == 4) tensor = tensor.contiguous(at::MemoryFormat::ChannelsLast);
      require(key.size() <= 4096, Failure::input, instructions_.file, ": a weight has a name of ", key.size(),
              " letters, expected at most 4096");
      if (kind == "parameter") {
        parameters_[key] = tensor.numel();
        program.parameters += tensor.numel();
      }
      const int slot = new_slot();
      weight_names_[slot] = key;
      scope[inner.at("arg").at("name").get<std::string>()] = slot;
      instructions_.weights.emplace_back(slot, tensor);
    }
    require(!program.inputs.empty(), Failure::input, instructions_.file, ": takes no input; expected a network of images or codes");
  }

  void read_nodes(const json& graph, Scope& scope, bool gradient) {
    const json& nodes = graph.at("nodes");
    require(nodes.is_array() && nodes.size() + static_cast<size_t>(nodes_) <= most_nodes, Failure::input, instructions_.file, ": found ",
            nodes.size(), " nodes, expected at most ", most_nodes);
    for (const json& node : nodes) {
      const std::string target = node.at("target").get<std::string>();
      const std::string where = text("node ", ++nodes_, " (", target, ")");
      if (target.starts_with("torch.ops.higher_order."))
        read_wrapped(node, target, where, scope, gradient);
      else
        read_node(node, target, where, scope, gradient);
    }
  }

  // A wrapper around a subgraph is its nodes, in place.
  void read_wrapped(const json& node, const std::string& target, const std::string& where, Scope& scope, bool gradient) {
    const std::string kind = target.substr(std::string("torch.ops.higher_order.").size());
    const json& inputs = node.at("inputs");
    if (!inputs.is_array()) misread(inputs.type_name(), "a list of inputs");
    size_t graph_at = inputs.size();
    for (size_t i = 0; i < inputs.size(); ++i)
      if (inputs[i].at("arg").contains("as_graph")) {
        graph_at = i;
        break;
      }
    const bool of_gradients = kind == "wrap_with_set_grad_enabled", of_precision = kind == "wrap_with_autocast";
    require((of_gradients || of_precision) && graph_at < inputs.size(), Failure::input, instructions_.file, ": ", where, ": ",
            kind == "cond" || kind == "while_loop" || kind == "map_impl" || kind == "scan"
                ? "the network branches or loops on its data, which evoke does not run; export a part without control flow, or script it "
                  "(torch.jit.script)"
                : "evoke does not run this operator; export a network without it");
    if (of_gradients) gradient = gradient && inputs.at(0).at("arg").at("as_bool").get<bool>();
    if (of_precision)
      for (size_t i = 0; i < graph_at; ++i)
        if (inputs[i].at("arg").contains("as_bool"))
          require(i > 2 || !inputs[i].at("arg").at("as_bool").get<bool>(), Failure::input, instructions_.file, ": ", where,
                  ": the network turns autocast on; export it without autocast, in float32");
    const json& inner = inputs[graph_at].at("arg").at("as_graph").at("graph");
    require(++nested_ < 16, Failure::input, instructions_.file, ": ", where, " nests too deep");
    describe_tensors(inner);
    Scope inside;
    size_t next = graph_at + 1;
    for (const json& input : inner.at("inputs")) {
      if (next >= inputs.size()) torn(instructions_.file, where + " gives its subgraph too few values");
      const json& given = inputs[next++].at("arg");
      for (const auto& [form, content] : given.items())
        if (content.is_object())
          inside[name_in(input)] =
              slot_of(scope, (content.contains("name") ? content.at("name") : content.at("as_name")).get<std::string>(), where);
    }
    read_nodes(inner, inside, gradient);
    --nested_;

    // Its outputs under the names outside.
    std::vector<std::string> outside;
    for (const json& output : node.at("outputs")) {
      if (output.contains("as_tensors"))
        for (const json& one : output.at("as_tensors")) outside.push_back(one.at("name"));
      else
        outside.push_back(name_in(output));
    }
    const json& results = inner.at("outputs");
    if (outside.size() != results.size()) torn(instructions_.file, where + " and its subgraph disagree on how many values come out");
    for (size_t i = 0; i < outside.size(); ++i) scope[outside[i]] = slot_of(inside, name_in(results.at(i)), where);
  }

  void read_node(const json& node, const std::string& target, const std::string& where, Scope& scope, bool gradient) {
    Instruction instruction;
    instruction.where = where;
    instruction.gradient = gradient;

    // torch.ops.SPACE.NAME.OVERLOAD, or arithmetic of sizes.
    if (target.starts_with("torch.ops.")) {
      std::vector<std::string> parts;
      std::istringstream words(target.substr(10));
      for (std::string part; std::getline(words, part, '.');) parts.push_back(part);
      if (parts.size() < 2 || parts.size() > 3) torn(instructions_.file, where + " names no operator");
      const std::string overload = parts.size() == 3 && parts[2] != "default" ? parts[2] : "";
      if (parts[0] == "aten" && is_check(parts[1])) return;
      require(may_run(parts[0], parts[1]), Failure::input, instructions_.file, ": ", where,
              ": evoke does not run this operator, only those of aten that "
              "networks are made of; export the network without it",
              parts[0].starts_with("quant") ? " (before it is quantized)" : "");
      instruction.operation = c10::Dispatcher::singleton().findSchema({parts[0] + "::" + parts[1], overload});
      require(instruction.operation.has_value(), Failure::input, instructions_.file, ": ", where,
              ": this LibTorch has no such operator; export with torch ", TORCH_VERSION, " or a close one");
      read_arguments(node, context(where, scope), instruction);
      instruction.check = check_for(parts[1]);
      check_now(instruction);
    } else {
      const std::string name = target.substr(target.rfind('.') + 1);
      instruction.arithmetic = arithmetic_named(name.starts_with("_sym_") ? name.substr(5) : name);
      require(instruction.arithmetic != nullptr &&
                  (target.starts_with("_operator.") || target.starts_with("torch.") || target.starts_with("math.")),
              Failure::input, instructions_.file, ": ", where, ": evoke does not run this function; export the network without it");
      for (const json& input : node.at("inputs"))
        instruction.arguments.push_back(read_argument(input.at("arg"), c10::NumberType::get(), context(where, scope)));
    }
    refuse_training(node, target, where, instruction);

    const int made = static_cast<int>(instructions_.list.size());
    for (const json& output : node.at("outputs")) {
      std::vector<int> slots;
      const auto take = [&](const std::string& name) {
        slots.push_back(new_slot());
        scope[name] = slots.back();
        slot_names_[slots.back()] = name;
      };
      const auto [form, content] = tagged(output);
      if (form == "as_tensors") {
        for (const json& one : content) take(one.at("name"));
        lists_.insert(made);
      } else if (form == "as_optional_tensors") {
        for (const json& one : content) take(name_in(one));
        lists_.insert(made);
      } else if (form == "as_none") {
        slots.push_back(-1);
      } else if (content.is_object() && content.contains("name")) {
        take(content.at("name"));
      } else if (content.is_object() && content.contains("as_name")) {
        take(content.at("as_name"));
      } else {
        slots.push_back(-1);
      }
      instruction.results.push_back(slots);
    }
    follow_aliases(instruction);
    instructions_.list.push_back(std::move(instruction));
    note_modules(node, made);
  }

  // Windows are numbers, and mostly constant: looked at once, here, and not at every pass.
  void check_now(Instruction& instruction) const {
    if (instruction.check != check_window) return;
    const auto& expected = instruction.operation->schema().arguments();
    std::vector<IValue> constants;
    for (size_t i = 0; i < instruction.arguments.size(); ++i) {
      const Argument& argument = instruction.arguments[i];
      const bool tensors = expected[i].type()->str().find("Tensor") != std::string::npos;
      if (argument.kind != Argument::Kind::constant && !tensors) return;
      constants.push_back(argument.kind == Argument::Kind::constant ? argument.constant : IValue());
    }
    try {
      check_window(constants);
    } catch (const Error& error) {
      fail(Failure::input, instructions_.file, ": ", instruction.where, ": ", error.what());
    }
    instruction.check = nullptr;
  }

  // Norms that would take their statistics from the batch, and dropout that would drop.
  void refuse_training(const json& node, const std::string& target, const std::string& where, const Instruction& instruction) const {
    if (!instruction.operation) return;
    const std::string& name = instruction.operation->schema().name();
    const bool norm = name.find("batch_norm") != std::string::npos || name == "aten::instance_norm",
               drop = name.find("dropout") != std::string::npos;
    bool training =
        name == "aten::_native_batch_norm_legit" || name == "aten::bernoulli" || target.find("batch_norm_with_update") != std::string::npos;
    const auto& arguments = instruction.operation->schema().arguments();
    for (size_t i = 0; i < arguments.size(); ++i) {
      const std::string& key = arguments[i].name();
      const IValue& value = instruction.arguments[i].constant;
      if (((norm && key == "training") || (drop && (key == "train" || key == "training"))) && value.isBool())
        training = training || value.toBool();
    }
    require(
        !training, Failure::input, instructions_.file, ": ", where, module_text(node),
        ": the network was exported in training mode, where a picture's activations depend on the others in its batch or on chance; call "
        "model.eval() before torch.export.export");
  }

  static std::string module_text(const json& node) {
    if (!node.contains("metadata") || !node.at("metadata").contains("nn_module_stack")) return "";
    const std::string stack = node.at("metadata").at("nn_module_stack");
    const size_t first = stack.find(',', stack.rfind(';') == std::string::npos ? 0 : stack.rfind(';'));
    if (first == std::string::npos) return "";
    const std::string path = stack.substr(first + 1, stack.find(',', first + 1) - first - 1);
    return path.empty() ? "" : " in " + path;
  }

  // Which slots share memory, as far as the schemas say: what writes to a view writes to its base.
  void follow_aliases(Instruction& instruction) {
    if (!instruction.operation) return;
    const c10::FunctionSchema& schema = instruction.operation->schema();
    for (size_t r = 0; r < instruction.results.size() && r < schema.returns().size(); ++r) {
      const auto* alias = schema.returns()[r].alias_info();
      if (!alias) continue;
      for (size_t a = 0; a < schema.arguments().size(); ++a) {
        const auto* source = schema.arguments()[a].alias_info();
        if (!source || source->beforeSets() != alias->beforeSets() || instruction.arguments[a].slots.empty()) continue;
        const int viewed = instruction.arguments[a].slots[0];
        const bool reshaped = schema.name() == "aten::view" || schema.name() == "aten::reshape" || schema.name() == "aten::flatten";
        for (const int slot : instruction.results[r])
          if (slot >= 0) {
            base_[slot] = base_of(viewed);
            if (reshaped || reshaped_.contains(viewed)) reshaped_.insert(slot);
          }
      }
    }
    for (const int written : instruction.mutated) {
      const int base = base_of(written);
      if (reshaped_.contains(written)) writes_through_reshape_ = true;
      const auto weight = weight_names_.find(base);
      require(weight == weight_names_.end(), Failure::input, instructions_.file, ": ", instruction.where, " changes the network's own '",
              weight == weight_names_.end() ? "" : weight->second,
              "', so one picture would depend on those before it; call model.eval() before "
              "torch.export.export");
      if (const auto input = input_at_.find(base); input != input_at_.end()) written_.insert(input->second);
    }
  }

  // What a view is of, in the end.
  int base_of(int slot) const {
    const auto found = base_.find(slot);
    return found == base_.end() ? slot : found->second;
  }

  void note_modules(const json& node, int made) {
    if (lists_.contains(made) || !node.contains("metadata")) return;
    const Instruction& instruction = instructions_.list[static_cast<size_t>(made)];
    if (instruction.results.empty() || instruction.results[0].size() != 1 || instruction.results[0][0] < 0) return;
    const int slot = instruction.results[0][0];
    if (!described_.contains(slot_names_[slot])) return;  // a size
    const auto stack = node.at("metadata").find("nn_module_stack");
    if (stack != node.at("metadata").end()) taps_.note(stack->get<std::string>(), slot, made);
  }

  void read_outputs(const json& module, const Scope& scope, Program& program) {
    for (const json& spec : module.at("signature").at("output_specs"))
      require(spec.contains("user_output") || spec.contains("token"), Failure::input, instructions_.file, ": has a ", tagged(spec).first,
              ", so one picture would depend on those before it; call model.eval() before torch.export.export");

    // Names of a dict's entries, where the output is one.
    std::vector<std::string> keys;
    for (const json& entry : module.at("module_call_graph")) {
      if (entry.at("fqn") != "" || entry.at("signature").is_null()) continue;
      const json tree = parsed_text(entry.at("signature").at("out_spec").get<std::string>(), instructions_.file, "the form of its output");
      if (tree.is_array() && tree.size() == 2 && tree[1].is_object() && tree[1].value("type", json()).is_string() &&
          tree[1].contains("context") && tree[1]["context"].is_string()) {
        const json context = parsed_text(tree[1]["context"].get<std::string>(), instructions_.file, "the form of its output");
        if (context.is_array())
          for (const json& key : context) keys.push_back(one_line(key.is_string() ? key.get<std::string>() : key.dump()));
      }
    }
    const json& outputs = module.at("graph").at("outputs");
    if (!outputs.is_array()) misread(outputs.type_name(), "a list of outputs");
    for (size_t i = 0; i < outputs.size(); ++i) {
      if (!outputs[i].contains("as_tensor")) continue;
      const std::string value = outputs[i].at("as_tensor").at("name");
      const std::string name = outputs.size() == 1 ? "output" : "output." + (keys.size() == outputs.size() ? keys[i] : std::to_string(i));
      const int slot = slot_of(scope, value, "the output");
      slot_names_.try_emplace(slot, value);
      program.outputs.push_back({name, described_.at(value).shape, described_.at(value).type});
      outputs_.push_back({name, "output", slot, static_cast<int>(instructions_.list.size())});
    }
    require(!program.outputs.empty(), Failure::input, instructions_.file,
            ": gives no tensor; wrap the network in a module that returns one, and export that");
  }

  void name_taps(Program& program) {
    std::map<std::string, int64_t> parameters;
    for (const auto& [name, count] : parameters_)
      for (size_t dot = name.find('.'); dot != std::string::npos; dot = name.find('.', dot + 1)) parameters[name.substr(0, dot)] += count;

    std::vector<Tap> all = taps_.in_order();
    all.insert(all.end(), outputs_.begin(), outputs_.end());
    for (const Tap& tap : all) {
      const Described& tensor = described_.at(slot_names_.at(tap.slot));
      const std::string path = tap.name.substr(0, tap.name.find('#'));
      Layer layer{tap.name, tap.type, tensor.shape, parameters.contains(path) ? parameters.at(path) : 0};
      const bool rowed = !tensor.shape.empty() && tensor.rows == rows_;
      if (rowed) layer.shape.erase(layer.shape.begin());
      (rowed ? program.layers : program.unrowed).push_back(layer);
      if (rowed) {
        instructions_.tap_of[tap.name] = instructions_.taps.size();
        instructions_.taps.push_back(tap);
      }
    }
  }

  // What was learnt of views and writes while the nodes were read.
  void note_memory() {
    instructions_.written_inputs.resize(instructions_.inputs.size());
    for (const size_t input : written_) instructions_.written_inputs[input] = true;
    if (order_ == MemoryOrder::as_exported) return;
    instructions_.fold = true;
    // A view of channels-last memory may not exist where one of NCHW does: then the numbers are copied, which a write through it would
    // miss.
    if (writes_through_reshape_) return;
    const auto reshape = c10::Dispatcher::singleton().findSchemaOrThrow("aten::reshape", "");
    for (Instruction& instruction : instructions_.list)
      if (instruction.operation && instruction.operation->schema().name() == "aten::view" &&
          instruction.operation->schema().overload_name().empty())
        instruction.operation = reshape;
  }

  const Archive& archive_;
  Instructions& instructions_;
  at::Device device_;
  MemoryOrder order_;
  int64_t nodes_ = 0, nested_ = 0;
  std::string rows_;  // the first input's number of rows, as the file writes it
  std::unordered_map<std::string, Described> described_;
  std::map<std::string, int64_t> parameters_;
  std::unordered_map<int, std::string> weight_names_, slot_names_;
  std::unordered_map<int, int> base_;
  std::unordered_map<int, size_t> input_at_;
  std::set<int> reshaped_, lists_;
  std::set<size_t> written_;
  bool writes_through_reshape_ = false;
  Taps taps_;
  std::vector<Tap> outputs_;
};

}  // namespace

Program load_pt2(const Archive& archive, at::Device device, MemoryOrder order) {
  auto instructions = std::make_shared<Instructions>();
  const std::string& file = archive.file();
  instructions->file = file;
  Program program;
  program.file = file;
  program.format = "pt2";
  try {
    archive.version();
    std::vector<std::string> names;
    for (const std::string& record : archive.names())
      if (record.starts_with("models/") && record.ends_with(".json")) names.push_back(record.substr(7, record.size() - 12));
    require(names.size() == 1, Failure::input, file, ": holds ", names.size(), " programs (", list_of(names),
            "), expected one; save one alone");
    Reader(archive, *instructions, device, order).read(names[0], program);
  } catch (const Error& error) {
    throw Error(error.kind(), one_line(error.what()));
  } catch (const c10::Error& error) {
    torn(file, "the archive is torn (" + one_line(error.what_without_backtrace()) + ")");
  } catch (const std::bad_alloc&) {
    torn(file, "it asks for more memory than there is");
  } catch (const std::exception& error) {
    torn(file, "its graph is torn or of another version (" + one_line(error.what()) + ")");
  }

  program.run = runnable(instructions);
  return program;
}

}  // namespace evoke
