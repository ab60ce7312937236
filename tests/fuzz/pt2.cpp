// Fuzzes the reader of .pt2 files, and a run of what it read, with libFuzzer (scripts/fuzz pt2). An input is a .pt2 itself, so that what is
// found is a file; the mutator takes the zip apart, changes the graph, the weights' description or the weights, and puts it together again.
#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <random>

#include "core/programs/allowlist.h"
#include "core/programs/program.h"
#include "tests/fuzz/target.h"
#include "tests/fuzz/zip.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t most);

namespace {

using evoke::outcome;
using evoke::packed;
using evoke::Record;
using evoke::unpacked;
using evoke::written;
using nlohmann::json;

// ---- Mutations.

class Mutator {
 public:
  explicit Mutator(unsigned seed) : random_(seed) {}

  bool chance(int percent) { return below(100) < static_cast<size_t>(percent); }

  // One more operator, of a network that ran.
  void grow(std::vector<Record>& records) {
    for (Record& record : records)
      if (record.name.find("/models/") != std::string::npos) {
        json content = json::parse(record.content);
        add_operator(content.at("graph_module").at("graph"), chance(90));
        record.content = content.dump();
      }
  }

  void change(std::vector<Record>& records) {
    if (chance(10)) return change_records(records);
    const bool graph = !chance(15);
    for (Record& record : records) {
      const bool is_graph = record.name.find("/models/") != std::string::npos,
                 is_config = record.name.find("_config.json") != std::string::npos;
      if (!(graph ? is_graph : is_config)) continue;
      json content = json::parse(record.content, nullptr, false);
      if (content.is_discarded()) continue;
      try {
        const int times = 1 + static_cast<int>(below(5));
        for (int i = 0; i < times; ++i) graph ? change_graph(content) : change_config(content);
        record.content = content.dump();
      } catch (const json::exception&) {
        // What is no graph any more is changed as JSON.
        change_anything(content);
        record.content = content.dump(-1, ' ', false, json::error_handler_t::replace);
      }
    }
  }

 private:
  size_t below(size_t count) { return count == 0 ? 0 : random_() % count; }
  template <class T>
  const T& any(const std::vector<T>& choices) {
    return choices[below(choices.size())];
  }

  int64_t number() {
    static const std::vector<int64_t> small{0, 1, 2, 3, 4, -1, -2, 5, 8}, extreme{-3,
                                                                                  7,
                                                                                  13,
                                                                                  255,
                                                                                  4096,
                                                                                  65537,
                                                                                  int64_t{1} << 31,
                                                                                  -(int64_t{1} << 31),
                                                                                  (int64_t{1} << 31) - 1,
                                                                                  int64_t{1} << 40,
                                                                                  int64_t{1} << 60,
                                                                                  int64_t{1} << 62,
                                                                                  std::numeric_limits<int64_t>::min(),
                                                                                  std::numeric_limits<int64_t>::max(),
                                                                                  -(int64_t{1} << 62)};
    return chance(80) ? any(small) : any(extreme);
  }
  json real() {
    static const std::vector<json> some{0.0,    1.0,    -1.0,  0.5,        2.0,         1e-5, 0.1, 1e300,
                                        -1e300, 1e-300, "NaN", "Infinity", "-Infinity", 3,    1e18};
    return any(some);
  }

  void change_records(std::vector<Record>& records) {
    if (records.empty()) return;
    Record& record = records[below(records.size())];
    switch (below(6)) {
      case 0:
        record.content.resize(below(record.content.size() + 1));
        break;
      case 1:
        records.erase(records.begin() + static_cast<int64_t>(below(records.size())));
        break;
      case 2:
        records.push_back(record);
        break;
      case 3:
        record.name = records[below(records.size())].name;
        break;
      default: {
        std::string bytes = record.content;
        bytes.resize(record.content.size() + 64);
        bytes.resize(LLVMFuzzerMutate(reinterpret_cast<uint8_t*>(bytes.data()), record.content.size(), bytes.size()));
        record.content = bytes;
      }
    }
  }

  // Any value of a tree, the deeper the likelier.
  json& somewhere(json& root) {
    json* at = &root;
    while (at->is_structured() && !at->empty() && !chance(6)) {
      auto next = at->begin();
      std::advance(next, static_cast<int64_t>(below(at->size())));
      at = &*next;
    }
    return *at;
  }

  void change_anything(json& root) {
    json& place = somewhere(root);
    switch (below(9)) {
      case 0:
        place = number();
        break;
      case 1:
        place = real();
        break;
      case 2:
        place = json();
        break;
      case 3:
        place = chance(50) ? json::object() : json::array();
        break;
      case 4: {
        const json copy = somewhere(root);
        if (copy.dump().size() < 3000) somewhere(root) = copy;
        break;
      }
      case 5: {
        json inner = place;
        for (size_t i = 0, depth = 1 + below(chance(10) ? 300 : 4); i < depth; ++i)
          inner = chance(90) ? json::array({inner}) : json{{"as_graph", inner}};
        place = inner;
        break;
      }
      case 6:
        if (place.is_structured() && !place.empty()) {
          auto next = place.begin();
          std::advance(next, static_cast<int64_t>(below(place.size())));
          place.erase(next);
        }
        break;
      case 7:
        if (place.is_array() && !place.empty())
          place.push_back(place[below(place.size())]);
        else if (place.is_boolean())
          place = !place.get<bool>();
        else if (place.is_number())
          place = number();
        break;
      default:
        place = chance(50) ? json("\n\x1b[31m../../etc") : json(chance(50));
        break;
    }
  }

  void change_config(json& content) {
    json& config = content.at("config");
    if (config.empty() || chance(20)) return change_anything(content);
    auto entry = config.begin();
    std::advance(entry, static_cast<int64_t>(below(config.size())));
    json& meta = entry->at("tensor_meta");
    json& list = meta.at(chance(50) ? "sizes" : "strides");
    switch (below(6)) {
      case 0:
        meta["dtype"] = chance(90) ? static_cast<int64_t>(1 + below(14)) : number();
        break;
      case 1:
        if (!list.empty()) list[below(list.size())] = {{"as_int", number()}};
        break;
      case 2:
        meta["storage_offset"] = {{"as_int", number()}};
        break;
      case 3:
        meta["sizes"].push_back({{"as_int", number()}});
        meta["strides"].push_back({{"as_int", number()}});
        break;
      case 4:
        (*entry)["path_name"] = text("weight_", below(8));
        break;
      default:
        meta["sizes"] = json::array();
        meta["strides"] = json::array();
        for (size_t i = 0, count = below(6); i < count; ++i) {
          meta["sizes"].push_back({{"as_int", below(4)}});
          meta["strides"].push_back({{"as_int", below(4)}});
        }
    }
  }

  static std::string text(const char* begin, size_t number) { return begin + std::to_string(number); }

  // Every name of a tensor that is there before node `end`.
  std::vector<std::string> tensors(const json& graph, size_t end, bool own = true) {
    std::vector<std::string> out;
    for (const json& input : graph.at("inputs"))
      if (own && input.contains("as_tensor")) out.push_back(input.at("as_tensor").at("name"));
    const json& nodes = graph.at("nodes");
    for (size_t i = 0; i < end && i < nodes.size(); ++i)
      for (const json& output : nodes[i].at("outputs")) {
        if (output.contains("as_tensor")) out.push_back(output.at("as_tensor").at("name"));
        if (output.contains("as_tensors"))
          for (const json& one : output.at("as_tensors")) out.push_back(one.at("name"));
      }
    if (out.empty()) out.emplace_back("nothing");
    return out;
  }

  json argument(const c10::Argument& expected, const std::vector<std::string>& names) {
    c10::TypePtr type = expected.real_type();
    if (const auto inner = type->cast<c10::OptionalType>()) {
      if (chance(40)) return {{"as_none", true}};
      type = inner->getElementType();
    }
    const auto tensor = [&] { return json{{"name", any(names)}}; };
    switch (type->kind()) {
      case c10::TypeKind::TensorType:
        return {{"as_tensor", tensor()}};
      case c10::TypeKind::SymIntType:
      case c10::TypeKind::IntType:
        return {{"as_int", number()}};
      case c10::TypeKind::FloatType:
        return {{"as_float", real()}};
      case c10::TypeKind::NumberType:
        return chance(50) ? json{{"as_int", number()}} : json{{"as_float", real()}};
      case c10::TypeKind::BoolType:
        return {{"as_bool", chance(50)}};
      case c10::TypeKind::ScalarTypeType:
        return {{"as_scalar_type", chance(50) ? 7 : static_cast<int>(1 + below(13))}};
      case c10::TypeKind::LayoutType:
        return {{"as_layout", 7}};
      case c10::TypeKind::MemoryFormatType:
        return {{"as_memory_format", 1 + below(4)}};
      case c10::TypeKind::DeviceObjType:
        return {{"as_device", {{"type", "cpu"}, {"index", nullptr}}}};
      case c10::TypeKind::StringType: {
        static const std::vector<json> words{"none",     "mean",      "sum",    "floor", "trunc", "zeros", "constant",  "reflect",
                                             "circular", "replicate", "tanh",   "ij",    "amax",  "prod",  "ij,jk->ik", "...a,...b->...ab",
                                             "fro",      "nuc",       "linear", "left",  "",      "ortho", "xy"};
        return {{"as_string", any(words)}};
      }
      case c10::TypeKind::ListType: {
        const auto element = type->castRaw<c10::ListType>()->getElementType();
        const size_t count = expected.N() && chance(85) ? static_cast<size_t>(*expected.N()) : below(6);
        json list = json::array();
        if (element->kind() == c10::TypeKind::TensorType) {
          for (size_t i = 0, some = 1 + below(4); i < some; ++i) list.push_back(tensor());
          return {{"as_tensors", list}};
        }
        if (element->kind() == c10::TypeKind::OptionalType) {
          for (size_t i = 0, some = 1 + below(4); i < some; ++i)
            list.push_back(chance(30) ? json{{"as_none", true}} : json{{"as_tensor", tensor()}});
          return {{"as_optional_tensors", list}};
        }
        if (element->kind() == c10::TypeKind::BoolType) {
          for (size_t i = 0; i < count; ++i) list.push_back(chance(50));
          return {{"as_bools", list}};
        }
        if (element->kind() == c10::TypeKind::FloatType || element->kind() == c10::TypeKind::NumberType) {
          for (size_t i = 0; i < count; ++i) list.push_back(real());
          return {{"as_floats", list}};
        }
        for (size_t i = 0; i < count; ++i) list.push_back(number());
        return {{"as_ints", list}};
      }
      default:
        return {{"as_none", true}};
    }
  }

  // An operator with arguments of the kinds that it takes.
  json operator_node(const json& graph, size_t at, const std::string& name) {
    static const std::vector<c10::OperatorHandle> operators = [] {
      std::vector<c10::OperatorHandle> out;
      for (const c10::OperatorName& each : c10::Dispatcher::singleton().getAllOpNames())
        if (each.name.starts_with("aten::") && evoke::may_run("aten", each.name.substr(6)))
          if (const auto found = c10::Dispatcher::singleton().findSchema(each)) {
            const auto& arguments = found->schema().arguments();
            if (std::none_of(arguments.begin(), arguments.end(), [](const c10::Argument& one) { return one.is_out(); }))
              out.push_back(*found);
          }
      std::sort(out.begin(), out.end(),
                [](const auto& a, const auto& b) { return toString(a.operator_name()) < toString(b.operator_name()); });
      if (const char* only = std::getenv("EVOKE_FUZZ_OPERATOR"); only != nullptr)
        std::erase_if(out, [&](const auto& each) { return each.operator_name().name.find(only) == std::string::npos; });
      return out;
    }();
    const c10::OperatorHandle& chosen = any(operators);
    const c10::FunctionSchema& schema = chosen.schema();
    const std::vector<std::string> names = tensors(graph, at), made = tensors(graph, at, false);
    json node{{"target",
               "torch.ops.aten." + schema.name().substr(6) + "." + (schema.overload_name().empty() ? "default" : schema.overload_name())},
              {"inputs", json::array()},
              {"outputs", json::array()},
              {"metadata", {{"nn_module_stack", "L__self__,,M;" + name + "," + name + ",torch.nn.M"}}}};
    for (const c10::Argument& expected : schema.arguments()) {
      if (expected.default_value() && chance(30)) continue;
      node["inputs"].push_back({{"name", expected.name()},
                                {"arg", argument(expected, expected.alias_info() && expected.alias_info()->isWrite() ? made : names)}});
    }
    for (size_t i = 0; i < std::max<size_t>(1, schema.returns().size()); ++i) {
      const std::string out = i == 0 ? name : text("u", below(1000));
      if (i < schema.returns().size() && schema.returns()[i].type()->kind() == c10::TypeKind::ListType) {
        json list = json::array();
        for (size_t k = 0, count = 1 + below(3); k < count; ++k) list.push_back({{"name", k == 0 ? out : text("u", below(1000))}});
        node["outputs"].push_back({{"as_tensors", list}});
      } else {
        node["outputs"].push_back({{"as_tensor", {{"name", out}}}});
      }
    }
    return node;
  }

  // A new operator, at the end or anywhere; most often its result becomes the output, with a row an image.
  void add_operator(json& graph, bool last) {
    json& nodes = graph.at("nodes");
    if (nodes.size() > 14) {
      nodes.erase(nodes.begin() + static_cast<int64_t>(below(nodes.size())));
      return;
    }
    const size_t at = last ? nodes.size() : below(nodes.size() + 1);
    const std::string name = text("v", below(1000));
    json node = operator_node(graph, at, name);
    if (!last && chance(25) && at < nodes.size())
      nodes[at] = node;
    else
      nodes.insert(nodes.begin() + static_cast<int64_t>(at), node);
    const json& inputs = graph.at("inputs");
    json like;
    for (const auto& [known, meta] : graph.at("tensor_values").items())
      if (!inputs.empty() && inputs.back().contains("as_tensor") && known == inputs.back().at("as_tensor").at("name")) like = meta;
    if (!like.is_null()) graph["tensor_values"][name] = like;
    if (chance(75)) graph["outputs"] = json::array({json{{"as_tensor", {{"name", name}}}}});
  }

  void change_graph(json& content) {
    json& graph = content.at("graph_module").at("graph");
    json& nodes = graph.at("nodes");
    const size_t at = below(nodes.size() + 1);
    const size_t what = below(100);
    if (what < 60) {
      add_operator(graph, false);
    } else if (what < 66 && !nodes.empty()) {
      nodes.erase(nodes.begin() + static_cast<int64_t>(below(nodes.size())));
    } else if (what < 70 && nodes.size() > 1) {
      std::swap(nodes[below(nodes.size())], nodes[below(nodes.size())]);
    } else if (what < 74 && !nodes.empty()) {
      const json copy = nodes[below(nodes.size())];
      nodes.insert(nodes.begin() + static_cast<int64_t>(at), copy);
    } else if (what < 84 && !nodes.empty()) {
      json& inputs = nodes[below(nodes.size())].at("inputs");
      if (inputs.empty()) return;
      json& place = inputs[below(inputs.size())].at("arg");
      const std::vector<std::string> names = tensors(graph, nodes.size());
      static const std::vector<std::string> forms{
          "as_int",         "as_float",         "as_bool",    "as_string",          "as_ints",   "as_sym_int", "as_sym_ints",
          "as_scalar_type", "as_memory_format", "as_tensors", "as_optional_tensor", "as_floats", "as_bools",   "as_none",
          "as_layout"};
      if (names.empty() || chance(40)) {
        place = json{{any(forms), chance(50) ? json(number()) : json(json::array({number(), number()}))}};
      } else if (chance(70)) {
        place = {{"as_tensor", {{"name", any(names)}}}};
      } else {
        place = {{"as_sym_int", {{"as_name", any(names)}}}};
      }
    } else if (what < 88 && !nodes.empty()) {
      // A part of the graph becomes a subgraph.
      json& node = nodes[below(nodes.size())];
      const json outputs = node.at("outputs");
      json inner{{"inputs", json::array()}, {"outputs", outputs}, {"nodes", json::array({node})}, {"tensor_values", json::object()}};
      json wrapped{{"target", "torch.ops.higher_order.wrap_with_set_grad_enabled"}, {"outputs", outputs}, {"inputs", json::array()}};
      std::vector<std::string> names;
      for (const json& input : node.at("inputs"))
        if (input.at("arg").contains("as_tensor")) names.push_back(input.at("arg").at("as_tensor").at("name"));
      wrapped["inputs"].push_back({{"name", ""}, {"arg", {{"as_bool", chance(50)}}}});
      for (const std::string& name : names) inner["inputs"].push_back({{"as_tensor", {{"name", name}}}});
      wrapped["inputs"].push_back({{"name", ""}, {"arg", {{"as_graph", {{"name", "s"}, {"graph", inner}}}}}});
      for (const std::string& name : names) wrapped["inputs"].push_back({{"name", ""}, {"arg", {{"as_tensor", {{"name", name}}}}}});
      node = wrapped;
    } else {
      change_anything(content);
    }
  }

  std::mt19937 random_;
};

// ---- One file.

// Networks that ran: what is broken once stays broken, so most mutations begin here.
std::vector<std::string>& sound() {
  static std::vector<std::string> files;
  return files;
}

void read_and_run(const std::string& file, size_t choice) {
  const evoke::Program program =
      evoke::load_program(file, at::kCPU, choice % 4 == 0 ? evoke::MemoryOrder::channels_last : evoke::MemoryOrder::as_exported);
  if (program.layers.empty()) return;
  std::vector<at::Tensor> inputs;
  int64_t rows = choice % 3 == 0 ? 2 : 1;
  for (const evoke::Port& port : program.inputs) {
    std::vector<int64_t> shape = port.shape;
    double count = 1;
    for (size_t d = 0; d < shape.size(); ++d) {
      if (shape[d] < 0) shape[d] = d == 0 ? rows : 4;
      count *= static_cast<double>(shape[d]);
    }
    if (count > 65536) return;
    inputs.push_back(at::arange(static_cast<int64_t>(count), at::kFloat).mul(0.37).sin().reshape(shape));
  }
  const bool gradient = choice % 2 == 0;
  const c10::AutoGradMode mode(gradient);
  if (gradient) inputs[0].requires_grad_();
  const evoke::Activations found = program.run(inputs, {program.layers.back().name});
  const at::Tensor& value = found.begin()->second;
  // What a sampler would ask for; of a network that has no gradient LibTorch says so.
  if (gradient && value.requires_grad() && value.is_floating_point()) try {
      torch::autograd::grad({value.sum()}, {inputs[0]}, {}, {}, false, true);
    } catch (const std::exception&) {
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string file = written(data, size);
  static const std::string_view graphs = "models/";
  size_t choice = 14695981039346656037U;
  for (size_t i = 0; i < size; ++i) choice = (choice ^ data[i]) * 1099511628211U;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  outcome([&] {
    // Files without a graph could be TorchScript, which is another reader's.
    if (bytes.find(graphs) == std::string_view::npos)
      evoke::load_pt2(evoke::Archive(file), at::kCPU, evoke::MemoryOrder::as_exported);
    else
      read_and_run(file, choice >> 20);
    if (sound().size() < 400)
      sound().emplace_back(bytes);
    else if (choice % 16 == 0)
      sound()[(choice >> 8) % sound().size()] = bytes;
  });
  return 0;
}

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t most, unsigned seed) {
  Mutator mutator(seed);
  const bool growing = !sound().empty() && mutator.chance(70);
  std::vector<Record> records =
      unpacked(growing ? sound()[(seed >> 8) % sound().size()] : std::string(reinterpret_cast<const char*>(data), size));
  if (records.empty() || (!growing && mutator.chance(6))) return LLVMFuzzerMutate(data, size, most);
  try {
    if (growing && mutator.chance(85))
      mutator.grow(records);
    else
      mutator.change(records);
  } catch (const json::exception&) {
  }
  const std::string out = packed(records);
  if (out.size() > most) return LLVMFuzzerMutate(data, size, most);
  std::copy(out.begin(), out.end(), data);
  return out.size();
}
