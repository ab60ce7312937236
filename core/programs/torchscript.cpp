// TorchScript: deprecated, and everywhere. A module's calls are inlined one by one; the value that a call gives is that module's output,
// and a clone of it, put right behind the call, is its tap.
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/passes/dead_code_elimination.h>
#include <torch/csrc/jit/passes/inliner.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/csrc/jit/runtime/operator.h>

#include <algorithm>
#include <set>
#include <unordered_map>

#include "core/error.h"
#include "core/numbers/relu.h"
#include "core/programs/allowlist.h"
#include "core/programs/checks.h"
#include "core/programs/program.h"
#include "core/programs/recent.h"
#include "core/programs/script_module.h"

namespace evoke {

namespace {

namespace jit = torch::jit;

struct Script {
  std::string file;
  jit::Module module;
  std::shared_ptr<jit::Graph> graph;            // inlined, with a clone behind every module's call
  std::map<std::string, std::string> clone_of;  // tap -> the unique name of its clone, kept by copies of the graph
  std::vector<std::string> order;               // taps as they are made
  Recent<std::vector<std::string>, jit::GraphExecutor> executors{most_plans};
};

// Where in the module tree a value that is a module lies: "" for the root, nothing for values that are no modules.
std::optional<std::string> path_of(const jit::Value* value, const jit::Value* self) {
  if (value == self) return "";
  if (value->node()->kind() != c10::prim::GetAttr) return std::nullopt;
  const auto above = path_of(value->node()->input(0), self);
  if (!above) return std::nullopt;
  const std::string name = value->node()->s(c10::attr::name);
  return above->empty() ? name : *above + "." + name;
}

std::string type_of_module(const jit::Value* value) {
  const auto type = value->type()->cast<c10::ClassType>();
  if (!type || !type->name()) return "module";
  const std::string name = type->name()->name();
  return name;
}

void for_every_node(jit::Block* block, const std::function<void(jit::Node*)>& visit) {
  for (jit::Node* node : block->nodes()) {
    for (jit::Block* inner : node->blocks()) for_every_node(inner, visit);
    visit(node);
  }
}

jit::Node* next_call(jit::Graph& graph) {
  for (jit::Node* node : graph.nodes())
    if (node->kind() == c10::prim::CallMethod) return node;
  return nullptr;
}

// What scripts do between tensors: numbers, strings and lists, and what a tensor tells of itself. No tensor is made here.
bool is_plumbing(jit::Node* node, const std::string& name) {
  static const std::set<std::string> asking{"Int", "Float", "Bool", "IntImplicit", "FloatImplicit", "ScalarImplicit", "item", "size", "dim",
                                            "numel", "len", "append", "extend", "list", "stride", "is_floating_point", "is_contiguous",
                                            "_set_item", "__getitem__", "__is__", "__isnot__", "__contains__", "keys", "values", "items",
                                            // The branches that transformers' modules take where nothing needs a gradient.
                                            "_native_multi_head_attention", "_transformer_encoder_layer_fwd", "_nested_tensor_from_mask",
                                            "_nested_tensor_from_mask_left_aligned", "to_padded_tensor"};
  if (asking.contains(name)) return true;
  const auto of_tensors = [](const c10::TypePtr& type) { return type->str().find("Tensor") != std::string::npos; };
  return std::none_of(node->inputs().begin(), node->inputs().end(), [&](jit::Value* v) { return of_tensors(v->type()); }) &&
         std::none_of(node->outputs().begin(), node->outputs().end(), [&](jit::Value* v) { return of_tensors(v->type()); });
}

// Constant devices become the run's; what must not run is refused.
void check_and_move(const std::string& file, jit::Graph& graph, at::Device device) {
  std::vector<jit::Node*> warnings;
  for_every_node(graph.block(), [&](jit::Node* node) {
    const std::string name = node->kind().toUnqualString();
    const std::string space = std::string(node->kind().ns().toUnqualString());
    if (node->kind() == c10::prim::Constant && node->output()->type()->kind() == c10::TypeKind::DeviceObjType &&
        node->hasAttribute(c10::attr::value))
      node->s_(c10::attr::value, device.str());
    if (node->kind() == c10::prim::Constant && node->hasAttribute(c10::attr::value) &&
        node->kindOf(c10::attr::value) == jit::AttributeKind::t)
      node->t_(c10::attr::value, node->t(c10::attr::value).to(device));
    if (name == "warn") {
      warnings.push_back(node);
      return;
    }
    const bool control = space == "prim" && name != "PythonOp" && name != "CallMethod" && !name.starts_with("rpc") && name != "fork";
    require(control || (space == "aten" && (may_run("aten", name) || is_plumbing(node, name))), Failure::input, file,
            ": evoke does not run the operator ", node->kind().toQualString(),
            "; expected a network of ATen's operators that compute, not quantized; script it without");
    // Traces have their modes baked in; scripts ask, in branches that may never be taken.
    if (!node->maybeSchema() || node->owningBlock() != graph.block()) return;
    const auto& arguments = node->schema().arguments();
    for (size_t i = 0; i < arguments.size() && i < node->inputs().size(); ++i) {
      const bool norm = name.find("batch_norm") != std::string::npos && arguments[i].name() == "training",
                 drop = name.find("dropout") != std::string::npos && arguments[i].name() == "train";
      const auto constant = norm || drop ? jit::toIValue(node->input(i)) : std::nullopt;
      require(!constant || !constant->isBool() || !constant->toBool(), Failure::input, file, ": was traced in training mode (", name,
              "); call model.eval() before torch.jit.trace");
    }
  });
  for (jit::Node* node : warnings)
    if (!node->hasUses()) node->destroy();
}

// The channels of the images that a graph takes, where a convolution sees them as they are: [-1,C,-1,-1], empty where none does.
std::vector<int64_t> image_shape(const jit::Value* image, const jit::Value* self, const jit::Module& module) {
  for (const jit::Use& use : image->uses()) {
    const jit::Node* node = use.user;
    const bool written = node->kind() == c10::aten::conv2d, traced = node->kind() == c10::aten::_convolution;
    if (use.offset != 0 || (!written && !traced) || node->inputs().size() < (written ? 7 : 9)) continue;
    const jit::Node* weight = node->input(1)->node();
    const auto groups = jit::toIValue(node->input(written ? 6 : 8)), backwards = traced ? jit::toIValue(node->input(6)) : std::nullopt;
    const auto path = weight->kind() == c10::prim::GetAttr ? path_of(weight->input(0), self) : std::nullopt;
    if (!path || !groups || !groups->isInt() || (traced && (!backwards || !backwards->isBool() || backwards->toBool()))) continue;
    const std::string wanted = (path->empty() ? "" : *path + ".") + weight->s(c10::attr::name);
    for (const auto& parameter : module.named_parameters())
      if (parameter.name == wanted && parameter.value.dim() == 4 && groups->toInt() > 0 && groups->toInt() <= parameter.value.size(0))
        return {-1, parameter.value.size(1) * groups->toInt(), -1, -1};
  }
  return {};
}

int64_t parameters_of(const jit::Module& module) {
  int64_t sum = 0;
  for (const Tensor& parameter : module.parameters()) sum += parameter.numel();
  return sum;
}

// Turns of loops that one run may take: a network's are as many as its layers, steps or tokens.
constexpr int64_t most_turns = 100'000;
thread_local int64_t turns = 0;

// What evoke::look does at a node of the name that it bears: an operator's check (core/programs/checks.h), or a count of a loop's turns.
jit::Operation look_at(const jit::Node* node) {
  if (node->s(c10::attr::name) == "loop")
    return [](jit::Stack&) { require(++turns <= most_turns, Failure::input, "found loops of more than ", most_turns, " turns"); };
  return [check = check_for(node->s(c10::attr::name)), count = node->inputs().size()](jit::Stack& stack) {
    const std::vector<c10::IValue> given(stack.end() - static_cast<int64_t>(count), stack.end());
    jit::drop(stack, count);
    check(given);
  };
}

// Puts a look before each operator that trusts its arguments and should not, and into each loop.
void insert_looks(jit::Graph& graph) {
  static const c10::Symbol look = [] {
    const auto kind = c10::Symbol::fromQualString("evoke::look");
    jit::registerOperator(jit::Operator(kind, look_at, c10::AliasAnalysisKind::CONSERVATIVE));
    return kind;
  }();
  std::vector<jit::Node*> trusting, loops;
  for_every_node(graph.block(), [&](jit::Node* node) {
    if (node->kind().is_aten() && check_for(node->kind().toUnqualString()) != nullptr) trusting.push_back(node);
    if (node->kind() == c10::prim::Loop) loops.push_back(node);
  });
  for (jit::Node* node : trusting) {
    jit::Node* added = graph.create(look, node->inputs(), 0);
    added->s_(c10::attr::name, node->kind().toUnqualString());
    added->insertBefore(node);
  }
  for (jit::Node* loop : loops) loop->blocks().at(0)->prependNode(graph.create(look, 0))->s_(c10::attr::name, "loop");
}

// Nodes of a graph once all that it calls is written out in place.
constexpr int64_t most_nodes = 1'000'000;
int64_t written_out(jit::Block* block, std::unordered_map<const jit::Function*, int64_t>& known) {
  int64_t out = 0;
  for_every_node(block, [&](jit::Node* node) {
    ++out;
    jit::Function* called = nullptr;
    if (node->kind() == c10::prim::CallMethod) {
      if (const auto type = node->input(0)->type()->cast<c10::ClassType>()) called = type->findMethod(node->s(c10::attr::name));
    } else if (node->kind() == c10::prim::CallFunction) {
      if (const auto type = node->input(0)->type()->cast<c10::FunctionType>()) called = type->function();
    }
    const auto* graph = called == nullptr ? nullptr : jit::tryToGraphFunction(*called);
    if (graph == nullptr) return;
    const bool is_new = known.emplace(called, most_nodes + 1).second;  // what calls itself never ends
    if (is_new) known[called] = written_out(jit::toGraphFunction(*called).graph()->block(), known);
    out = std::min(out + known.at(called), most_nodes + 1);
  });
  return out;
}

// The graph again, with the taps for outputs, and nothing that no tap needs.
jit::GraphExecutor executor_for(const Script& script, const std::vector<std::string>& taps) {
  const std::shared_ptr<jit::Graph> graph = script.graph->copy();
  std::unordered_map<std::string, jit::Value*> values;
  for (jit::Node* node : graph->nodes())
    for (jit::Value* output : node->outputs()) values[output->debugName()] = output;
  while (!graph->outputs().empty()) graph->eraseOutput(graph->outputs().size() - 1);
  for (const std::string& tap : taps) {
    const auto found = script.clone_of.find(tap);
    if (found == script.clone_of.end())
      fail(Failure::usage, script.file, ": found no layer '", tap, "'", did_you_mean(tap, script.order), "; evoke inspect lists them");
    graph->registerOutput(values.at(found->second));
  }
  jit::EliminateDeadCode(graph);
  insert_looks(*graph);
  return jit::GraphExecutor(graph, "forward", jit::ExecutorExecutionMode::SIMPLE);
}

Activations run_script(Script& script, const std::vector<Tensor>& inputs, const std::vector<std::string>& taps) {
  const auto executor = script.executors.get(taps, [&] { return executor_for(script, taps); });
  jit::Stack stack{script.module._ivalue()};
  for (const Tensor& input : inputs) stack.emplace_back(input);
  turns = 0;
  try {
    executor->run(stack);
  } catch (const c10::OutOfMemoryError&) {
    throw;
  } catch (const std::exception& error) {
    // The last line of a TorchScript error says what went wrong; those before say where in the Python source.
    std::string words = error.what();
    while (!words.empty() && words.back() == '\n') words.pop_back();
    words = one_line(words.substr(words.rfind('\n') == std::string::npos ? 0 : words.rfind('\n') + 1));
    // The interpreter keeps the words and loses the kind.
    for (const char* short_of : {"not enough memory", "out of memory", "can't allocate memory"})
      require(words.find(short_of) == std::string::npos, Failure::device, script.file, ": ", words);
    fail(Failure::input, script.file, ": ", words,
         inputs[0].dim() == 4 ? text("; the image was ", shape_text(inputs[0].sizes()), ": is it the size the network was made for?") : "");
  }
  Activations out;
  for (size_t i = 0; i < taps.size(); ++i) out[taps[i]] = stack.at(i).toTensor();
  return out;
}

}  // namespace

Program load_torchscript(const Archive& archive, at::Device device, MemoryOrder order) {
  const std::string& file = archive.file();
  auto script = std::make_shared<Script>();
  script->file = file;
  try {
    script->module = load_module(archive, device);
  } catch (const Error& error) {
    throw Error(error.kind(), one_line(error.what()));
  } catch (const std::exception& error) {
    const std::string sentence = error.what();
    fail(Failure::input, file, ": is no TorchScript that this LibTorch reads (", one_line(sentence),
         "); save it again with torch.jit.script(model).save(…)");
  }
  jit::Module& module = script->module;
  require(module.find_method("forward").has_value(), Failure::input, file, ": has no forward; expected a network");
  module.eval();
  for (Tensor parameter : module.parameters()) {
    parameter.requires_grad_(false);
    if (order == MemoryOrder::channels_last && parameter.dim() == 4)
      parameter.set_data(parameter.contiguous(at::MemoryFormat::ChannelsLast));
  }
  const std::shared_ptr<jit::Graph> graph = module.get_method("forward").graph()->copy();
  script->graph = graph;
  std::unordered_map<const jit::Function*, int64_t> known;
  require(written_out(graph->block(), known) <= most_nodes, Failure::input, file, ": has more than ", most_nodes,
          " nodes once its functions are written out; the file is forged");
  bool baked = false;
  for_every_node(graph->block(), [&](jit::Node* node) {
    baked = baked || (node->kind() == c10::prim::Constant && node->hasAttribute(c10::attr::value) &&
                      node->kindOf(c10::attr::value) == jit::AttributeKind::t && node->t(c10::attr::value).numel() > 1);
  });
  require(!(baked && module.named_children().size() == 0 && parameters_of(module) == 0), Failure::input, file,
          ": is frozen, so its layers have lost their names; save the module as it was before torch.jit.freeze");

  Program program;
  program.file = file;
  program.format = "TorchScript";
  program.parameters = parameters_of(module);
  std::map<std::string, int64_t> parameters;
  for (const auto& [name, child] : [&] {
         std::map<std::string, int64_t> found;
         for (const auto& named : module.named_modules()) found[named.name] = parameters_of(named.value);
         return found;
       }())
    parameters[name] = child;

  // Inline the calls of modules, outermost first; what a call gave, its clone follows through every later replacement.
  struct Called {
    std::string path, type;
    jit::Node* clone;
  };
  std::vector<Called> calls;
  jit::Value* self = graph->inputs().at(0);
  while (jit::Node* call = next_call(*graph)) {
    const auto path = path_of(call->input(0), self);
    const auto type = call->input(0)->type()->cast<c10::ClassType>();
    require(type != nullptr, Failure::input, file, ": calls a method of a value that is no module; script the network without interfaces");
    jit::Function& function = type->getMethod(call->s(c10::attr::name));
    // Traces name a module's later calls forward1, forward2 …, and overloads are forward__0.
    const std::string method = call->s(c10::attr::name);
    const bool forward = method.starts_with("forward") && method.find_first_not_of("_0123456789", 7) == std::string::npos;
    if (path && !path->empty() && forward && call->outputs().size() == 1 && call->output()->type()->kind() == c10::TypeKind::TensorType) {
      jit::WithInsertPoint after(call->next());
      jit::Value* clone = graph->insert(c10::aten::clone, {call->output()});
      calls.push_back({*path, type_of_module(call->input(0)), clone->node()});
    }
    jit::GraphFunction& callee = jit::toGraphFunction(function);
    jit::inlineCallTo(call, &callee, callee.graph().get());
  }
  jit::Inline(*graph);
  check_and_move(file, *graph, device);

  // Names in the order in which the values are made, the earlier calls of a module numbered.
  std::unordered_map<const jit::Node*, size_t> place;
  for (jit::Node* node : graph->nodes()) place.emplace(node, place.size());
  std::stable_sort(calls.begin(), calls.end(), [&](const Called& a, const Called& b) { return place.at(a.clone) < place.at(b.clone); });
  std::map<std::string, int64_t> total, seen;
  for (const Called& call : calls) ++total[call.path];
  const auto add = [&](const std::string& name, const std::string& type, jit::Value* clone, int64_t count) {
    clone->setDebugName("tap_" + std::to_string(script->order.size()));
    script->clone_of[name] = clone->debugName();
    script->order.push_back(name);
    program.layers.push_back({name, type, {}, count});
  };
  for (const Called& call : calls) {
    const int64_t number = ++seen[call.path];
    add(number == total[call.path] ? call.path : text(call.path, "#", number), call.type, call.clone->output(),
        parameters.contains(call.path) ? parameters.at(call.path) : 0);
  }

  // The outputs: a tensor, or a tuple of them.
  std::vector<jit::Value*> outputs(graph->outputs().begin(), graph->outputs().end());
  if (outputs.size() == 1 && outputs[0]->node()->kind() == c10::prim::TupleConstruct) {
    jit::Node* tuple = outputs[0]->node();
    outputs.assign(tuple->inputs().begin(), tuple->inputs().end());
  }
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (outputs[i]->type()->kind() != c10::TypeKind::TensorType) continue;
    const std::string name = outputs.size() == 1 ? "output" : text("output.", i);
    jit::WithInsertPoint at_end(graph->return_node());
    add(name, "output", graph->insert(c10::aten::clone, {outputs[i]}), 0);
    program.outputs.push_back({name, {}, at::kFloat});
  }
  require(!program.outputs.empty(), Failure::input, file,
          ": gives no tensor (a dict?); wrap the network in a module that returns tensors, and script that");
  for (size_t i = 1; i < graph->inputs().size(); ++i) {
    const jit::Value* input = graph->inputs()[i];
    require(input->type()->kind() == c10::TypeKind::TensorType, Failure::input, file, ": takes an input that is no tensor (",
            input->debugName(), "); wrap the network in a module whose forward takes tensors only, and script that");
    program.inputs.push_back({input->debugName(), image_shape(input, self, module), at::kFloat});
  }
  program.run = [script](const std::vector<Tensor>& inputs, const std::vector<std::string>& taps) {
    require(!relus_are_redirected(), Failure::usage, script->file,
            ": slopes of TorchScript's ReLUs cannot be redirected; export the network (.pt2), or set [run] redirected = 0");
    return run_script(*script, inputs, taps);
  };
  return program;
}

}  // namespace evoke
