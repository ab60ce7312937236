// A .pt2 is a stored zip: models/NAME.json, a graph of ATen operators in the order they run, and the weights as raw little-endian numbers.
// Reading checks all of it and resolves every node to an operator of LibTorch, its arguments in the order of the operator's schema. What
// runs is core/instructions.h.
#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <caffe2/serialize/inline_container.h>
#include <torch/version.h>

#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <unordered_map>

#include "core/error.h"
#include "core/log.h"
#include "core/programs/instructions.h"
#include "core/programs/program.h"

namespace evoke {

namespace {

using c10::IValue;
using nlohmann::json;

// A tensor that the file knows of.
struct Described {
  std::vector<int64_t> shape;  // hints where a size is free
  std::string rows;            // the first size, as text
  at::ScalarType type = at::kFloat;
};

// ---- Reading the archive.

[[noreturn]] void torn(const std::string& file, const std::string& what) {
  fail(Failure::input, file, ": ", what, "; expected a program that torch.export.save wrote (torch 2.8 or later)");
}

// More than any network has, and few enough to be read in seconds.
constexpr size_t most_nodes = 1'000'000;
constexpr uint64_t most_json = uint64_t{1} << 27;  // bytes; parsed, they are some twenty times as many

// Discarded where it is no JSON.
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

struct Archive {
  const std::string& file;
  caffe2::serialize::PyTorchStreamReader reader;
  uint64_t bytes;
  // Weights may share their records, and a record may stand for many equal numbers: not without end.
  int64_t room = (int64_t{1} << 28) + 16 * static_cast<int64_t>(bytes);

  std::pair<at::DataPtr, size_t> record(const std::string& name) {
    if (!reader.hasRecord(name)) torn(file, "it has no " + name);
    // Records are stored, so none is larger than the file: what claims to be is torn or compressed to exhaust memory.
    if (reader.getRecordSize(name) > bytes) torn(file, name + " claims to be larger than the file");
    auto [data, size] = reader.getRecord(name);
    return {std::move(data), size};
  }

  json parsed(const std::string& name) {
    const auto [data, size] = record(name);
    if (size > most_json) torn(file, name + " is larger than any network's");
    json out = parsed_text({static_cast<const char*>(data.get()), size}, file, name);
    if (out.is_discarded()) torn(file, name + " is no JSON");
    return out;
  }
};

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

// What the readers below throw, and load_pt2 makes a sentence of.
[[noreturn]] void misread(const std::string& found, const std::string& expected) {
  throw std::invalid_argument("found " + found + " where " + expected + " belongs");
}

int64_t whole(const json& number) {
  if (!number.is_number_integer() ||
      (number.is_number_unsigned() && number.get<uint64_t>() > uint64_t(std::numeric_limits<int64_t>::max())))
    misread(number.is_number() ? "a number that is not whole or too large" : number.type_name(), "a whole number");
  return number.get<int64_t>();
}
// {"as_tensor": …}: the form, and the content.
std::pair<std::string, const json&> tagged(const json& given) {
  if (!given.is_object() || given.empty()) misread(given.is_object() ? "nothing" : given.type_name(), "an argument");
  return {given.begin().key(), *given.begin()};
}
// The name in {"as_tensor": {"name": …}} and {"as_sym_int": {"as_name": …}}.
std::string name_in(const json& given) {
  const json& content = tagged(given).second;
  return (content.contains("name") ? content.at("name") : content.at("as_name")).get<std::string>();
}

// A size that is a number, or the hint of one that is free.
int64_t size_of(const json& size) {
  if (size.contains("as_int")) return whole(size.at("as_int"));
  const json& hint = size.at("as_expr").at("hint");
  return hint.is_null() ? 1 : whole(hint.at("as_int"));
}
bool is_free(const json& size) { return !size.contains("as_int"); }
std::string size_text(const json& size) {
  return is_free(size) ? size.at("as_expr").at("expr_str").get<std::string>() : std::to_string(whole(size.at("as_int")));
}

// A tensor of the file: its storage checked against what its shape needs before it is wrapped.
Tensor stored_tensor(Archive& archive, const std::string& name, const json& meta) {
  const std::string where = archive.file + ": " + name;
  std::vector<int64_t> sizes, strides;
  for (const json& size : meta.at("sizes")) sizes.push_back(size_of(size));
  for (const json& stride : meta.at("strides")) strides.push_back(size_of(stride));
  const int64_t offset = size_of(meta.at("storage_offset"));
  const at::ScalarType type = type_numbered(whole(meta.at("dtype")), where);
  const auto bytes_each = static_cast<int64_t>(c10::elementSize(type));
  require(whole(meta.at("layout")) == 7, Failure::input, where, ": found a sparse tensor, expected a dense one; densify it in Python");

  auto [data, size] = archive.record(name);
  // The last element's place, in steps that cannot overflow.
  const auto most = static_cast<int64_t>(size) / bytes_each;
  bool fits = sizes.size() == strides.size() && sizes.size() <= 64 && offset >= 0 && offset <= most;
  int64_t last = offset, count = 1;
  for (size_t i = 0; fits && i < sizes.size(); ++i) {
    fits = sizes[i] >= 0 && strides[i] >= 0;
    if (!fits || sizes[i] == 0) {
      count = 0;
      continue;
    }
    fits = strides[i] == 0 || sizes[i] - 1 <= most / strides[i];
    if (fits) last += (sizes[i] - 1) * strides[i];
    fits = fits && last <= most && count <= archive.room / sizes[i];
    if (fits) count *= sizes[i];
  }
  fits = fits && (count == 0 || (last < most && count <= archive.room / bytes_each));
  require(fits, Failure::input, where, ": found ", size, " bytes, expected enough for a tensor ", shape_text(sizes), " of ",
          c10::toString(type), " with strides ", shape_text(strides), " from element ", offset, "; the file is torn or forged");

  archive.room -= count * bytes_each;
  if (count == 0) return at::empty(sizes, type);
  // Views of a storage that several tensors share are copied: nobody writes to weights here.
  auto holder = std::make_shared<at::DataPtr>(std::move(data));
  Tensor storage = at::from_blob(
      holder->get(), {most}, [holder](void*) {}, at::TensorOptions(type));
  return storage.as_strided(sizes, strides, offset).clone(at::MemoryFormat::Preserve);
}

// ---- From nodes to instructions.

// Checks that exported networks carry for their own tracing; their outcome is never used.
bool is_check(const std::string& name) {
  return name.starts_with("_assert") || name.starts_with("sym_constrain_range") || name.starts_with("_check") ||
         name == "_functional_assert_async";
}

class Reader {
 public:
  Reader(Archive& archive, Instructions& instructions, at::Device device, MemoryOrder order)
      : archive_(archive), instructions_(instructions), device_(device), order_(order) {}

  void read(const std::string& name, Program& program) {
    const json model = archive_.parsed("models/" + name + ".json");
    const json& module = model.at("graph_module");
    const json& graph = module.at("graph");
    std::unordered_map<std::string, int> scope;
    describe_tensors(graph);
    read_inputs(name, module.at("signature"), graph, scope, program);
    read_nodes(graph, scope, true);
    read_outputs(module, scope, program);
    name_taps(program);
  }

 private:
  using Scope = std::unordered_map<std::string, int>;

  int new_slot() { return instructions_.slots++; }

  int slot_of(const Scope& scope, const std::string& name, const std::string& where) const {
    const auto found = scope.find(name);
    if (found == scope.end()) torn(instructions_.file, where + " uses the value '" + name + "' before it is made");
    return found->second;
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
    const json weights = archive_.parsed("data/weights/" + name + "_weights_config.json").at("config");
    const std::string constants_name = "data/constants/" + name + "_constants_config.json";
    const json constants = archive_.reader.hasRecord(constants_name) ? archive_.parsed(constants_name).at("config") : json::object();
    const auto stored = [&](const json& config, const std::string& folder, const std::string& key) {
      const auto found = config.find(key);
      if (found == config.end()) torn(instructions_.file, "the weight '" + key + "' is missing");
      require(!found->at("use_pickle").get<bool>(), Failure::input, instructions_.file, ": the weight '", key,
              "' is pickled (a tensor of a special class), which evoke does not execute; turn it into a plain tensor in Python and export "
              "again");
      Tensor tensor = stored_tensor(archive_, folder + found->at("path_name").get<std::string>(), found->at("tensor_meta"));
      // Sampling never asks for their gradients, and on a CPU convolutions are faster on channels-last weights.
      tensor = tensor.to(device_);
      if (order_ == MemoryOrder::channels_last && tensor.dim() == 4) tensor = tensor.contiguous(at::MemoryFormat::ChannelsLast);
      return tensor;
    };

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
        program.inputs.push_back(port);
        if (program.inputs.size() == 1) rows_ = described_.at(value).rows;
        continue;
      }
      require(kind == "parameter" || kind == "buffer" || kind == "tensor_constant", Failure::input, instructions_.file, ": takes a ", kind,
              ", which evoke does not run; wrap the network in a module that needs none, and export that");
      const std::string key = inner.at(kind == "parameter" ? "parameter_name" : kind == "buffer" ? "buffer_name" : "tensor_constant_name");
      // Buffers that are not part of the state dict lie with the constants.
      const bool among_weights = kind != "tensor_constant" && weights.contains(key);
      const Tensor tensor = stored(among_weights ? weights : constants, among_weights ? "data/weights/" : "data/constants/", key);
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
      resolve_arguments(node, where, scope, instruction);
      instruction.check = check_for(parts[1]);
      check_now(instruction);
    } else {
      const std::string name = target.substr(target.rfind('.') + 1);
      instruction.arithmetic = arithmetic_named(name.starts_with("_sym_") ? name.substr(5) : name);
      require(instruction.arithmetic != nullptr &&
                  (target.starts_with("_operator.") || target.starts_with("torch.") || target.starts_with("math.")),
              Failure::input, instructions_.file, ": ", where, ": evoke does not run this function; export the network without it");
      for (const json& input : node.at("inputs"))
        instruction.arguments.push_back(argument(input.at("arg"), c10::NumberType::get(), where, scope));
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

  // Arguments in the order of the schema, defaults filled in.
  void resolve_arguments(const json& node, const std::string& where, const Scope& scope, Instruction& instruction) {
    std::map<std::string, const json*> given;
    for (const json& input : node.at("inputs")) given[input.at("name").get<std::string>()] = &input.at("arg");
    const c10::FunctionSchema& schema = instruction.operation->schema();
    size_t used = 0;
    for (const c10::Argument& expected : schema.arguments()) {
      require(!expected.is_out(), Failure::input, instructions_.file, ": ", where,
              ": evoke does not run operators that write where they are told (out=); "
              "export the network with torch.export.export");
      const auto found = given.find(expected.name());
      if (found == given.end()) {
        if (!expected.default_value()) torn(instructions_.file, where + " lacks its argument '" + expected.name() + "'");
        Argument filled;
        filled.constant = *expected.default_value();
        instruction.arguments.push_back(filled);
        continue;
      }
      ++used;
      const std::string here = where + ", argument '" + expected.name() + "'";
      instruction.arguments.push_back(argument(*found->second, expected.type(), here, scope));
      check_disguised(expected, tagged(*found->second).first, here);
      check_length(expected, instruction, here);
      if (expected.alias_info() && expected.alias_info()->isWrite())
        for (const int slot : instruction.arguments.back().slots)
          if (slot >= 0) instruction.mutated.push_back(slot);
    }
    if (used != given.size()) torn(instructions_.file, where + " has arguments that the operator does not take");
  }

  // Types, layouts and memory formats are numbers to LibTorch, which it trusts.
  void check_disguised(const c10::Argument& expected, const std::string& form, const std::string& where) const {
    c10::TypePtr type = expected.real_type();
    if (auto inner = type->cast<c10::OptionalType>()) type = inner->getElementType();
    const char* wanted = type->kind() == c10::TypeKind::ScalarTypeType     ? "as_scalar_type"
                         : type->kind() == c10::TypeKind::LayoutType       ? "as_layout"
                         : type->kind() == c10::TypeKind::MemoryFormatType ? "as_memory_format"
                                                                           : nullptr;
    if (wanted != nullptr && form != "as_none" && form != wanted)
      torn(instructions_.file, where + " is " + form + " where " + wanted + " belongs");
  }

  // A schema says how long a list is; kernels read so many. One number may stand for all, but not of paddings.
  void check_length(const c10::Argument& expected, const Instruction& instruction, const std::string& where) const {
    const Argument& last = instruction.arguments.back();
    if (!expected.N() || *expected.N() < 2 || (last.kind == Argument::Kind::constant && !last.constant.isList())) return;
    const size_t wanted = static_cast<size_t>(*expected.N());
    const size_t found = last.kind == Argument::Kind::constant ? last.constant.toListRef().size() : last.slots.size();
    const bool all = instruction.operation->schema().name().find("_pad") != std::string::npos;
    if (found != wanted && (all || (found != 1 && !(found == 0 && expected.default_value()))))
      torn(instructions_.file, text(where, " has ", found, " numbers where ", wanted, " belong"));
  }

  Argument argument(const json& given, c10::TypePtr type, const std::string& where, const Scope& scope) {
    if (auto inner = type->cast<c10::OptionalType>()) type = inner->getElementType();
    const auto [form, content] = tagged(given);
    Argument out;
    const bool wants_tensor = type->kind() == c10::TypeKind::TensorType, wants_float = type->kind() == c10::TypeKind::FloatType,
               wants_list = type->kind() == c10::TypeKind::ListType;
    const auto element = [&] { return type->castRaw<c10::ListType>()->getElementType()->kind(); };
    const auto constant = [&](IValue value) {
      if (wants_tensor && (value.isInt() || value.isDouble() || value.isBool())) value = as_tensor(value);
      if (wants_float && value.isInt()) value = static_cast<double>(value.toInt());
      if (wants_list && value.isInt())
        value = element() == c10::TypeKind::FloatType ? IValue(std::vector<double>{double(value.toInt())})
                                                      : IValue(std::vector<int64_t>{value.toInt()});
      if (wants_list && value.isDouble()) value = IValue(std::vector<double>{value.toDouble()});
      if (wants_list && value.isIntList() && element() == c10::TypeKind::FloatType) {
        std::vector<double> reals;
        for (const int64_t number : value.toIntVector()) reals.push_back(static_cast<double>(number));
        value = IValue(reals);
      }
      out.constant = std::move(value);
      return out;
    };
    const auto value_named = [&](const std::string& name) {
      out.kind = Argument::Kind::value;
      out.slots = {slot_of(scope, name, where)};
      return out;
    };

    if (form == "as_none") return constant(IValue());
    if (form == "as_tensor") return value_named(content.at("name"));
    if (form == "as_int") return constant(whole(content));
    if (form == "as_bool") return constant(content.get<bool>());
    if (form == "as_float") return constant(real_of(content));
    if (form == "as_string") return constant(content.get<std::string>());
    if (form == "as_ints") {
      if (wants_list && content.empty() && element() == c10::TypeKind::FloatType) return constant(IValue(std::vector<double>{}));
      if (wants_list && content.empty() && element() == c10::TypeKind::TensorType) return constant(IValue(std::vector<Tensor>{}));
      std::vector<int64_t> numbers;
      for (const json& one : content) numbers.push_back(whole(one));
      return constant(std::move(numbers));
    }
    if (form == "as_floats") {
      std::vector<double> reals;
      for (const json& number : content) reals.push_back(real_of(number));
      return constant(IValue(reals));
    }
    if (form == "as_bools") {
      c10::List<bool> bools;
      for (const json& one : content) bools.push_back(one.get<bool>());
      return constant(IValue(bools));
    }
    if (form == "as_scalar_type") return constant(static_cast<int64_t>(type_numbered(whole(content), instructions_.file + ": " + where)));
    if (form == "as_device") return constant(IValue(device_));
    if (form == "as_layout") {
      require(whole(content) == 7, Failure::input, instructions_.file, ": ", where, ": found a sparse layout, expected a dense one");
      return constant(static_cast<int64_t>(at::kStrided));
    }
    if (form == "as_memory_format") {
      static const std::map<int64_t, at::MemoryFormat> formats{{1, at::MemoryFormat::Contiguous},
                                                               {2, at::MemoryFormat::ChannelsLast},
                                                               {3, at::MemoryFormat::ChannelsLast3d},
                                                               {4, at::MemoryFormat::Preserve}};
      const auto found = formats.find(whole(content));
      if (found == formats.end()) torn(instructions_.file, where + " has an unknown memory format");
      return constant(static_cast<int64_t>(found->second));
    }
    if (form == "as_sym_int" || form == "as_sym_float" || form == "as_sym_bool") {
      out.number = wants_tensor;
      if (content.contains("as_name")) return value_named(content.at("as_name"));
      if (content.contains("as_int")) return constant(whole(content.at("as_int")));
      if (content.contains("as_bool")) return constant(content.at("as_bool").get<bool>());
      return constant(real_of(content.at("as_float")));
    }
    if (form == "as_sym_ints") {
      out.kind = Argument::Kind::numbers;
      for (const json& one : content) {
        const bool named = one.contains("as_name");
        out.slots.push_back(named ? slot_of(scope, one.at("as_name"), where) : -1);
        out.numbers.push_back(named ? 0 : whole(one.at("as_int")));
      }
      return out;
    }
    if (form == "as_tensors") {
      out.kind = Argument::Kind::tensors;
      out.optional = wants_list && element() == c10::TypeKind::OptionalType;
      for (const json& one : content) out.slots.push_back(slot_of(scope, one.at("name"), where));
      return out;
    }
    if (form == "as_optional_tensor") {
      if (content.contains("as_none")) return constant(IValue());
      return value_named(content.at("as_tensor").at("name"));
    }
    if (form == "as_optional_tensors") {
      out.kind = Argument::Kind::tensors;
      out.optional = true;
      for (const json& one : content)
        out.slots.push_back(one.contains("as_tensor") ? slot_of(scope, one.at("as_tensor").at("name"), where) : -1);
      return out;
    }
    fail(Failure::input, instructions_.file, ": ", where, ": found an argument of form ", form,
         ", which evoke does not read; export the network without it");
  }

  // Numbers that JSON cannot write come as words.
  double real_of(const json& number) const {
    if (number.is_number()) return number.get<double>();
    const std::string word = number.get<std::string>();
    if (word == "Infinity" || word == "inf") return std::numeric_limits<double>::infinity();
    if (word == "-Infinity" || word == "-inf") return -std::numeric_limits<double>::infinity();
    if (word == "NaN" || word == "nan") return std::numeric_limits<double>::quiet_NaN();
    torn(instructions_.file, "'" + word + "' is no number");
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

  // Every module on a node's stack has, so far, this node's result as its output.
  void note_modules(const json& node, int made) {
    if (lists_.contains(made) || !node.contains("metadata")) return;
    const Instruction& instruction = instructions_.list[static_cast<size_t>(made)];
    if (instruction.results.empty() || instruction.results[0].size() != 1 || instruction.results[0][0] < 0) return;
    const int slot = instruction.results[0][0];
    if (!described_.contains(slot_names_[slot])) return;  // a size
    const auto stack = node.at("metadata").find("nn_module_stack");
    if (stack == node.at("metadata").end()) return;
    std::istringstream entries(stack->get<std::string>());
    for (std::string entry; std::getline(entries, entry, ';');) {
      const size_t first = entry.find(','), second = first == std::string::npos ? first : entry.find(',', first + 1);
      if (second == std::string::npos) continue;
      const std::string key = entry.substr(0, first), path = one_line(entry.substr(first + 1, second - first - 1));
      std::string type = entry.substr(second + 1);
      type = one_line(type.substr(type.rfind('.') + 1));
      if (path.empty()) continue;
      auto& [calls, call_of] = calls_[path];
      const auto [call, first_seen] = call_of.emplace(key, calls.size());
      if (first_seen) calls.push_back({type, slot, made});
      calls[call->second].slot = slot, calls[call->second].made = made;
    }
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

    std::vector<Tap> all;
    for (const auto& [path, all_calls] : calls_) {
      const std::vector<Call>& calls = all_calls.in_order;
      for (size_t i = 0; i < calls.size(); ++i) {
        const bool last = i + 1 == calls.size();
        all.push_back({last ? path : text(path, "#", i + 1), calls[i].type, calls[i].slot, calls[i].made});
      }
    }
    // In the order in which they are made; where a module and its last part give the same value, the part first.
    std::stable_sort(all.begin(), all.end(),
                     [](const Tap& a, const Tap& b) { return a.made != b.made ? a.made < b.made : a.name.size() > b.name.size(); });
    all.insert(all.end(), outputs_.begin(), outputs_.end());
    for (Tap& tap : all) {
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

  struct Call {
    std::string type;
    int slot, made;
  };
  struct Calls {
    std::vector<Call> in_order;
    std::unordered_map<std::string, size_t> of_key;
  };
  Archive& archive_;
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
  std::map<std::string, Calls> calls_;
  std::vector<Tap> outputs_;
};

}  // namespace

Program load_pt2(const std::string& file, at::Device device, MemoryOrder order) {
  auto instructions = std::make_shared<Instructions>();
  instructions->file = file;
  Program program;
  program.file = file;
  program.format = "pt2";
  std::ifstream stream(file, std::ios::binary | std::ios::ate);
  require(bool(stream), Failure::input, file, ": cannot be read; expected a program that torch.export.save wrote");
  try {
    Archive archive{file, caffe2::serialize::PyTorchStreamReader(file), static_cast<uint64_t>(stream.tellg())};
    std::vector<std::string> names;
    for (const std::string& record : archive.reader.getAllRecords())
      if (record.starts_with("models/") && record.ends_with(".json")) names.push_back(record.substr(7, record.size() - 12));
    require(names.size() == 1, Failure::input, file, ": holds ", names.size(), " programs (", list_of(names),
            "), expected one; save one alone");
    Reader(archive, *instructions, device, order).read(names[0], program);
  } catch (const Error& error) {
    throw Error(error.kind(), one_line(error.what()));
  } catch (const c10::Error& error) {
    detail(one_line(error.what_without_backtrace()));
    torn(file, "the archive is torn");
  } catch (const std::bad_alloc&) {
    torn(file, "it asks for more memory than there is");
  } catch (const std::exception& error) {
    torn(file, "its graph is torn or of another version (" + one_line(error.what()) + ")");
  }

  program.run = runnable(instructions);
  return program;
}

}  // namespace evoke
