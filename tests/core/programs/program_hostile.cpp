// needs: files
// Files that mean harm: what the fuzzer starts from and what it found (tests/fuzz), and some made by hand. All give a sentence, or run.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/numbers/tensor.h"
#include "core/programs/program.h"
#include "core/storage/files.h"
#include "tests/fuzz/zip.h"

namespace evoke {
namespace {

using nlohmann::json;

const std::string fuzz = EVOKE_SOURCE "/tests/fuzz/";
const std::string hostile = EVOKE_BINARY "/hostile" + std::to_string(getpid()) + ".pt2";

// The sentence with which a file is refused, or with which its run ends; empty where it runs. Gradients are asked for too.
std::string outcome(const std::string& bytes) {
  std::ofstream(hostile, std::ios::binary) << bytes;
  try {
    const Program program = load_program(hostile, at::kCPU);
    if (program.layers.empty()) return "";
    std::vector<Tensor> inputs;
    for (const Port& port : program.inputs) {
      std::vector<int64_t> shape = port.shape;
      if (shape.empty()) shape = {2, 3, 8, 8};  // TorchScript does not say
      for (size_t d = 0; d < shape.size(); ++d)
        if (shape[d] < 0) shape[d] = d < 2 ? 2 : 8;
      inputs.push_back(at::full(shape, 0.5));
    }
    inputs[0].requires_grad_();
    const Activations found = program.run(inputs, {program.layers.back().name});
    const Tensor& value = found.begin()->second;
    if (value.requires_grad()) try {
        torch::autograd::grad({value.sum()}, {inputs[0]}, {}, {}, false, true);
      } catch (const std::exception&) {
      }
  } catch (const Error& error) {
    const std::string sentence = error.what();
    EXPECT_EQ(sentence.find('\n'), std::string::npos) << sentence;
    EXPECT_FALSE(sentence.empty());
    return sentence;
  } catch (const c10::Error& error) {
    // Memory that runs out is told apart by who calls.
    const std::string sentence = error.what_without_backtrace();
    EXPECT_NE(sentence.find("can't allocate memory"), std::string::npos) << sentence;
    return sentence;
  }
  return "";
}

// Every file of a folder; each must end in a sentence or run.
int replayed(const std::string& folder) {
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(fuzz + folder)) {
    SCOPED_TRACE(entry.path().filename().string());
    outcome(read_file(entry.path().string()));
    ++files;
  }
  return files;
}

// The smallest seed, with its graph or its weights' description changed.
class Changed {
 public:
  Changed() : records_(unpacked(read_file(fuzz + "corpus_pt2/small.pt2"))) {}
  std::vector<Record>& records() { return records_; }
  Record& record(const std::string& end) {
    for (Record& record : records_)
      if (record.name.ends_with(end)) return record;
    throw std::runtime_error("no record " + end);
  }
  std::string with_graph(const std::function<void(json& graph)>& change) {
    json model = json::parse(record("model.json").content);
    change(model.at("graph_module").at("graph"));
    record("model.json").content = model.dump();
    return outcome(packed(records_));
  }
  std::string with_weights(const std::function<void(json& weight)>& change) {
    json content = json::parse(record("weights_config.json").content);
    change(content.at("config").at("conv.weight"));
    record("weights_config.json").content = content.dump();
    return outcome(packed(records_));
  }

 private:
  std::vector<Record> records_;
};

json tensor(const std::string& name) { return {{"as_tensor", {{"name", name}}}}; }

// A node name = aten.operation(arguments), which takes the place of the network after its convolution.
std::string operation(const std::string& target, const json& arguments) {
  return Changed().with_graph([&](json& graph) {
    json node{
        {"target", "torch.ops.aten." + target}, {"inputs", json::array()}, {"outputs", {tensor("odd")}}, {"metadata", json::object()}};
    for (const auto& [name, argument] : arguments.items()) node["inputs"].push_back({{"name", name}, {"arg", argument}});
    graph["nodes"] = json::array({graph.at("nodes")[0], node});
    graph["tensor_values"]["odd"] = graph.at("tensor_values").at("conv2d");
    graph["outputs"] = json::array({tensor("odd")});
  });
}

testing::AssertionResult says(const std::string& sentence, const std::string& words) {
  if (sentence.find(words) != std::string::npos) return testing::AssertionSuccess();
  return testing::AssertionFailure() << "found \"" << sentence << "\", expected it to say \"" << words << "\"";
}

constexpr int64_t huge = int64_t{1} << 60, least = std::numeric_limits<int64_t>::min(), largest = std::numeric_limits<int64_t>::max();

TEST(Hostile, WhatTheFuzzerStartsFromRuns) {
  EXPECT_GE(replayed("corpus_pt2"), 8);
  EXPECT_GE(replayed("corpus_torchscript"), 3);
  for (const auto& entry : std::filesystem::directory_iterator(fuzz + "corpus_torchscript"))
    EXPECT_EQ(outcome(read_file(entry.path().string())), "") << entry.path();
  for (const char* name : {"small", "decomposed", "pair", "two", "writing", "fixed", "shelf", "attending", "attending_decomposed"})
    EXPECT_EQ(outcome(read_file(fuzz + "corpus_pt2/" + name + ".pt2")), "") << name;
}

TEST(Hostile, WhatTheFuzzerFoundGivesASentence) { EXPECT_GE(replayed("crashes_pt2"), 1); }

TEST(Hostile, ZipsThatLie) {
  EXPECT_TRUE(says(outcome(read_file(fuzz + "crashes_pt2/deflated_bomb.pt2")), "larger than the file"));
  Changed twice;
  twice.records().push_back(twice.record("model.json"));
  EXPECT_TRUE(says(outcome(packed(twice.records())), "holds 2 programs"));
  Changed odd;
  odd.record("model.json").name = "p/models/a\nb\x1b[31m\xff/../c.json";
  EXPECT_NE(outcome(packed(odd.records())), "");
  for (const uint64_t claim : {uint64_t{1} << 60, uint64_t{1} << 33, uint64_t{1} << 63, ~uint64_t{0}}) {
    Changed large;
    large.record("weight_0").claims = claim;
    EXPECT_NE(outcome(packed(large.records())), "") << claim;
  }
  Changed text;
  text.record("/.data/version").content = "99999999999999999999999";
  EXPECT_TRUE(says(outcome(packed(text.records())), "torn"));
  text.record("/.data/version").content = "six";
  EXPECT_TRUE(says(outcome(packed(text.records())), "torn"));
}

TEST(Hostile, WeightsThatAreNotThere) {
  const auto with = [](const char* key, const json& value) {
    return Changed().with_weights([&](json& weight) { (weight.contains(key) ? weight : weight.at("tensor_meta"))[key] = value; });
  };
  const auto sizes = [](std::initializer_list<int64_t> numbers) {
    json out = json::array();
    for (const int64_t number : numbers) out.push_back({{"as_int", number}});
    return out;
  };
  EXPECT_TRUE(says(with("path_name", "../../../../etc/passwd"), "it has no data/weights/../"));
  EXPECT_TRUE(says(with("use_pickle", true), "pickled"));
  EXPECT_TRUE(says(with("layout", 1), "sparse"));
  EXPECT_TRUE(says(with("dtype", 99), "does not read"));
  EXPECT_TRUE(says(with("dtype", 1e300), "whole number"));
  for (const int64_t offset : {huge, largest, int64_t{-1}, least, int64_t{108}})
    EXPECT_TRUE(says(with("storage_offset", {{"as_int", offset}}), "torn or forged")) << offset;
  for (const int64_t stride : {huge, largest, int64_t{-1}, least, int64_t{100}})
    EXPECT_TRUE(says(with("strides", sizes({stride, 9, 3, 1})), "torn or forged")) << stride;
  for (const int64_t size : {huge, largest, int64_t{-1}, least, int64_t{5}})
    EXPECT_TRUE(says(with("sizes", sizes({size, 3, 3, 3})), "torn or forged")) << size;
  // One number that stands for many.
  EXPECT_TRUE(says(Changed().with_weights([&](json& weight) {
    weight["tensor_meta"]["sizes"] = sizes({1 << 20, 1 << 20, 1 << 20, 1 << 20});
    weight["tensor_meta"]["strides"] = sizes({0, 0, 0, 0});
  }),
                   "torn or forged"));
  EXPECT_NE(Changed().with_weights([&](json& weight) { weight["tensor_meta"]["sizes"] = sizes({0, largest, largest, 3}); }), "");
}

TEST(Hostile, GraphsThatAreNone) {
  for (const std::string& deep : {std::string(100000, '['), std::string(100000, '[') + std::string(100000, ']')}) {
    Changed whole, hidden;
    whole.record("model.json").content = deep;
    EXPECT_TRUE(says(outcome(packed(whole.records())), "nests deeper"));
    json model = json::parse(hidden.record("model.json").content);
    model["graph_module"]["module_call_graph"][0]["signature"]["out_spec"] =
        json::array({1, json{{"type", "d"}, {"context", deep}}}).dump();
    hidden.record("model.json").content = model.dump();
    EXPECT_TRUE(says(outcome(packed(hidden.records())), "nests deeper"));
  }
  EXPECT_TRUE(says(Changed().with_graph([](json& graph) { graph["nodes"] = std::vector<json>(1000001, json::object()); }),
                   "expected at most 1000000"));
  EXPECT_TRUE(says(Changed().with_graph([](json& graph) { std::swap(graph["nodes"][0], graph["nodes"][1]); }), "before it is made"));
  for (const json& none : {json(), json(1), json("x"), json::array(), json::object(), json::array({json::object()})})
    for (const char* part : {"nodes", "inputs", "outputs", "tensor_values"}) Changed().with_graph([&](json& graph) { graph[part] = none; });
  for (const char* part : {"target", "inputs", "outputs", "metadata"})
    for (const json& none : {json(), json(1), json("x"), json::array({json::object()}), json::array({json()})})
      Changed().with_graph([&](json& graph) { graph["nodes"][1][part] = none; });
  for (const char* form :
       {"as_int", "as_float", "as_string", "as_ints", "as_bools", "as_tensors", "as_sym_int", "as_sym_ints", "as_optional_tensor",
        "as_optional_tensors", "as_scalar_type", "as_memory_format", "as_layout", "as_device", "as_graph", "as_none", "as_nothing"})
    for (const json& content : {json(), json(1), json("x"), json::array(), json::object(), json::array({1, 2}), json(true)})
      for (const size_t argument : {0, 2})
        Changed().with_graph([&](json& graph) { graph["nodes"][0]["inputs"][argument]["arg"] = {{form, content}}; });
}

TEST(Hostile, ManyNodesAreReadInTime) {
  // Each writes in place through the one before, in a call of its own.
  EXPECT_EQ(Changed().with_graph([](json& graph) {
    json nodes = json::array({graph.at("nodes")[0]});
    for (int i = 0; i < 10000; ++i) {
      const std::string before = i == 0 ? "conv2d" : "r" + std::to_string(i - 1), name = "r" + std::to_string(i);
      nodes.push_back({{"target", "torch.ops.aten.relu_.default"},
                       {"inputs", {{{"name", "self"}, {"arg", tensor(before)}}}},
                       {"outputs", {tensor(name)}},
                       {"metadata", {{"nn_module_stack", "k" + std::to_string(i) + ",m,torch.M"}}}});
    }
    graph["nodes"] = nodes;
    graph["tensor_values"]["r9999"] = graph.at("tensor_values").at("conv2d");
    graph["outputs"] = json::array({tensor("r9999")});
  }),
            "");
  // A module's name of dots alone.
  Changed dots;
  json config = json::parse(dots.record("weights_config.json").content), model = json::parse(dots.record("model.json").content);
  const std::string name(1 << 16, '.');
  config["config"][name] = config["config"]["conv.weight"];
  dots.record("weights_config.json").content = config.dump();
  model["graph_module"]["signature"]["input_specs"][0]["parameter"]["parameter_name"] = name;
  dots.record("model.json").content = model.dump();
  EXPECT_TRUE(says(outcome(packed(dots.records())), "at most 4096"));
}

TEST(Hostile, NamesAreOneLine) {
  Changed odd;
  std::string& content = odd.record("model.json").content;
  for (const char* word : {"L__self__conv,conv,", "L__self__relu,relu,"}) {
    const size_t at = content.find(word);
    ASSERT_NE(at, std::string::npos);
    content.replace(at, std::string(word).size(), "k,co\\nnv\\u001b[31m,");
  }
  std::ofstream(hostile, std::ios::binary) << packed(odd.records());
  for (const Layer& layer : load_program(hostile, at::kCPU).layers)
    for (const char c : layer.name) EXPECT_GE(static_cast<unsigned char>(c), 32) << layer.name;
  std::filesystem::remove(hostile);
}

TEST(Hostile, OperatorsThatNetworksAreNotMadeOf) {
  const json x = tensor("x");
  EXPECT_TRUE(says(operation("from_file.default", {{"filename", {{"as_string", "/etc/passwd"}}}}), "does not run this operator"));
  for (const char* target :
       {"set_.source_Tensor", "resize_.default", "embedding_bag.default", "_embedding_bag.default", "_reshape_alias.default",
        "_cudnn_rnn.default", "segment_reduce.default", "to_sparse.default", "_index_put_impl_.default", "_fft_r2c.out",
        "native_batch_norm_backward.default", "quantize_per_tensor.default", "record_stream.default", "save.default", "_stack.default"})
    EXPECT_NE(operation(target, {{"self", x}}), "") << target;
  EXPECT_TRUE(says(operation("add.out", {{"self", x}, {"other", x}, {"out", tensor("conv2d")}}), "out="));
  EXPECT_TRUE(says(operation("no_such_thing.default", json::object()), "does not run this operator"));
  EXPECT_TRUE(says(operation("relu.no_such_overload", {{"self", x}}), "has no such operator"));
}

TEST(Hostile, ArgumentsThatOperatorsTrust) {
  const json x = tensor("conv2d"), image = tensor("x");
  const auto number = [](int64_t value) { return json{{"as_int", value}}; };
  const auto numbers = [](const std::vector<int64_t>& values) { return json{{"as_ints", values}}; };
  // Found: a norm's weights without room for its channels, paddings that are too few, a power that recurses without end.
  EXPECT_TRUE(says(operation("batch_norm.default", {{"input", x},
                                                    {"weight", tensor("p_head_bias")},
                                                    {"bias", tensor("p_norm_bias")},
                                                    {"running_mean", tensor("b_norm_running_mean")},
                                                    {"running_var", tensor("b_norm_running_var")},
                                                    {"training", {{"as_bool", false}}},
                                                    {"momentum", {{"as_float", 0.1}}},
                                                    {"eps", {{"as_float", 1e-5}}},
                                                    {"cudnn_enabled", {{"as_bool", false}}}}),
                   "for 4 channels"));
  EXPECT_TRUE(says(operation("native_batch_norm.default", {{"input", x},
                                                           {"weight", {{"as_none", true}}},
                                                           {"bias", {{"as_none", true}}},
                                                           {"running_mean", {{"as_none", true}}},
                                                           {"running_var", {{"as_none", true}}},
                                                           {"training", {{"as_bool", false}}},
                                                           {"momentum", {{"as_float", 0.1}}},
                                                           {"eps", {{"as_float", 1e-5}}}}),
                   "without statistics"));
  for (const int64_t dim : {0, 3, 7})
    EXPECT_TRUE(says(operation("_weight_norm.default", {{"v", x}, {"g", tensor("p_head_bias")}, {"dim", number(dim)}}), "do not fit"));
  EXPECT_TRUE(says(operation("reflection_pad3d.default", {{"self", x}, {"padding", numbers({})}}), "where 6 belong"));
  EXPECT_TRUE(says(operation("replication_pad2d.default", {{"self", x}, {"padding", numbers({1})}}), "where 4 belong"));
  EXPECT_TRUE(says(operation("matrix_power.default", {{"self", x}, {"n", number(least)}}), "that no network has"));
  EXPECT_TRUE(says(operation("combinations.default", {{"self", tensor("p_head_bias")}, {"r", number(largest)}}), "more pieces"));
  EXPECT_TRUE(says(operation("tensor_split.sections", {{"self", x}, {"sections", number(huge)}}), "more pieces"));
  for (const double scale : {1e-300, 1e300, 1e-7})
    EXPECT_TRUE(
        says(operation(
                 "upsample_nearest2d.default",
                 {{"self", x}, {"output_size", numbers({4, 4})}, {"scales_h", {{"as_float", scale}}}, {"scales_w", {{"as_float", scale}}}}),
             "that no network has"));
  EXPECT_TRUE(
      says(operation(
               "_upsample_bicubic2d_aa.default",
               {{"self", x}, {"output_size", numbers({2, 8})}, {"align_corners", {{"as_bool", false}}}, {"scales_w", {{"as_float", 0.1}}}}),
           "a size of 8 for 2 pixels"));
  for (const int64_t padding : {huge, largest, least, int64_t{1} << 31})
    EXPECT_TRUE(
        says(operation("conv2d.default", {{"input", image}, {"weight", tensor("p_conv_weight")}, {"padding", numbers({padding, padding})}}),
             "that no network has"));
  EXPECT_TRUE(
      says(operation("arange.start_step",
                     {{"start", number(5)}, {"end", number(6)}, {"step", {{"as_float", 1e-300}}}, {"dtype", {{"as_scalar_type", 5}}}}),
           "a step of 1e-300"));
  // A type, layout or memory format that is a number.
  EXPECT_TRUE(says(operation("_to_copy.default", {{"self", x}, {"dtype", number(12345)}}), "belongs"));
  EXPECT_TRUE(says(operation("clone.default", {{"self", x}, {"memory_format", number(12345)}}), "belongs"));
  EXPECT_TRUE(says(operation("zeros_like.default", {{"self", x}, {"layout", number(12345)}}), "belongs"));
  // The smallest number has no opposite.
  Changed smallest;
  smallest.record("weight_8").content = std::string(7, '\0') + '\x80';
  EXPECT_TRUE(says(smallest.with_graph([&](json& graph) {
    graph["nodes"] = json::array(
        {{{"target", "torch.ops.aten.floor_divide.Scalar"},
          {"outputs", {tensor("odd")}},
          {"metadata", json::object()},
          {"inputs", {{{"name", "self"}, {"arg", tensor("b_norm_num_batches_tracked")}}, {{"name", "other"}, {"arg", number(-1)}}}}}});
    graph["tensor_values"]["odd"] = graph.at("tensor_values").at("conv2d");
    graph["outputs"] = json::array({tensor("odd")});
  }),
                   "divided by -1"));
  for (const char* target : {"as_strided.default", "as_strided_copy.default"})
    for (const int64_t bad : {huge, least, int64_t{-1}}) {
      EXPECT_NE(operation(target, {{"self", x}, {"size", numbers({2, 4})}, {"stride", numbers({bad, 1})}}), "") << target << bad;
      EXPECT_NE(operation(target, {{"self", x}, {"size", numbers({2, 4})}, {"stride", numbers({1, 1})}, {"storage_offset", number(bad)}}),
                "")
          << target;
    }
}

TEST(Hostile, MoreThanThereIsMemory) {
  const auto numbers = [](const std::vector<int64_t>& values) { return json{{"as_ints", values}}; };
  EXPECT_NE(operation("full.default", {{"size", numbers({huge})}, {"fill_value", {{"as_float", 1.0}}}}), "");
  EXPECT_NE(operation("full.default", {{"size", numbers({huge, huge, huge})}, {"fill_value", {{"as_float", 1.0}}}}), "");
  EXPECT_NE(operation("arange.default", {{"end", {{"as_int", huge}}}}), "");
  EXPECT_NE(operation("repeat.default", {{"self", tensor("conv2d")}, {"repeats", numbers({huge, 1, 1, 1})}}), "");
  EXPECT_TRUE(says(operation("expand.default", {{"self", tensor("conv2d")}, {"size", numbers({1 << 20, 1 << 20, 2, 4, 2, 2})}}),
                   "larger than any network's"));
  // Refused before it is taken: the process does not grow. LibTorch alone would take three quarters of the memory, fill it, and then be
  // asked.
  EXPECT_TRUE(says(operation("full.default", {{"size", numbers({int64_t{1} << 38})}, {"fill_value", {{"as_float", 1.0}}}}),
                   "more than any network's values take"));
  std::ifstream lines("/proc/meminfo");
  int64_t kibibytes = 0;
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with("MemAvailable:")) kibibytes = std::stoll(line.substr(13));
  const double before = peak_memory_mib();
  EXPECT_TRUE(says(operation("full.default", {{"size", numbers({kibibytes * 3 / 4 * 256})}, {"fill_value", {{"as_float", 1.0}}}}),
                   "not enough memory left"));
  EXPECT_LT(peak_memory_mib(), before + 200);
}

// ---- TorchScript.

// A scripted network's records, changed: its pickle by opcodes, its code as text.
class Scripted {
 public:
  Scripted() : records_(original()) {}
  std::string& record(const std::string& end) {
    for (Record& record : records_)
      if (record.name.ends_with(end)) return record.content;
    throw std::runtime_error("no record " + end);
  }
  Scripted& replaced(const std::string& end, const std::string& from, const std::string& to) {
    std::string& content = record(end);
    const size_t at = content.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    content.replace(at, from.size(), to);
    return *this;
  }
  // The network gives `expression`, of x.
  Scripted& giving(const std::string& expression) {
    return replaced("code/__torch__/programs.py", "return (head).forward(_1, )", "return " + expression);
  }
  std::string outcome() const { return evoke::outcome(packed(records_)); }

 private:
  static std::vector<Record> original() { return records_of(EVOKE_SOURCE "/tests/fuzz/corpus_torchscript/script.pt"); }
  std::vector<Record> records_;
};

TEST(HostileScript, RunsAsItIs) {
  EXPECT_EQ(Scripted().outcome(), "");
  EXPECT_EQ(Scripted().giving("torch.relu(_1)").outcome(), "");
}

TEST(HostileScript, PicklesThatLie) {
  const std::string weight("(K\4K\3K\3K\3t(K\x1bK\x09K\3K\1t", 20), wide("(K\x7fK\3K\3K\3t(K\x1bK\x09K\3K\1t", 20),
      far("(K\4K\3K\3K\3t(K\x7fK\x09K\3K\1t", 20), backwards("(K\4K\3K\3K\3t(J\xff\xff\xff\xffK\x09K\3K\1t", 23);
  for (const std::string& other : {wide, far})
    EXPECT_TRUE(says(Scripted().replaced("data.pkl", weight, other).outcome(), "torn or forged"));
  EXPECT_EQ(Scripted().replaced("data.pkl", weight, backwards).outcome(), "");  // LibTorch takes a stride below 0 for the customary one
  // The pickle's word for how many numbers a record holds is not taken.
  EXPECT_EQ(Scripted().replaced("data.pkl", std::string("KltQ", 4), std::string("J\xff\xff\xff\x7ftQ", 7)).outcome(), "");
  Scripted small;
  small.record("data/0").resize(16);
  EXPECT_TRUE(says(small.outcome(), "torn or forged"));
  for (const char* global :
       {"torch._utils\n_rebuild_qtensor\n", "torch._utils\n_rebuild_sparse_tensor\n", "os\nsystem\n", "builtins\neval\n"})
    EXPECT_TRUE(says(Scripted().replaced("data.pkl", "torch._utils\n_rebuild_tensor_v2\n", global).outcome(), "which evoke does not run"));
  const auto pickle = [](const std::string& bytes) {
    Scripted out;
    out.record("data.pkl") = bytes;
    return out.outcome();
  };
  std::string deep = "\x80\2";
  for (int i = 0; i < 100000; ++i) deep += ']';
  for (int i = 0; i < 99999; ++i) deep += 'a';
  EXPECT_TRUE(says(pickle(deep + "."), "nest deeper"));
  std::string wide_and_shared = "\x80\2]q" + std::string(1, '\0');  // lists of twice the list before: small to write down
  for (char i = 0; i < 60; ++i) wide_and_shared += std::string("](h") + i + "h" + i + "eq" + static_cast<char>(i + 1);
  EXPECT_TRUE(says(pickle(wide_and_shared + "."), "torn or forged"));
  EXPECT_TRUE(says(pickle(std::string("\x80\2]q\0h\0a.", 9)), "that is in use"));  // a list that holds itself
  EXPECT_TRUE(says(pickle("\x80\2t."), "that is not there"));
  EXPECT_TRUE(says(pickle("\x80\2(K\1K\1u."), "that is not there"));
  EXPECT_TRUE(says(pickle("\x80\2}(K\1u."), "a key without a value"));
  EXPECT_TRUE(says(pickle("\x80\2Nr\xff\xff\xff\x7f."), "remembers what is not there"));
  EXPECT_TRUE(says(pickle("\x80\2X\xff\xff\xff\x7fx."), "ends too early"));
  EXPECT_TRUE(says(pickle(""), "ends too early"));
  EXPECT_TRUE(says(pickle("\x80\2N."), "holds no module"));
  // A value of another type than the code says.
  EXPECT_TRUE(says(Scripted().replaced("data.pkl", "_is_full_backward_hook", "_is_full_backward_hoop").outcome(), "lacks its"));
  EXPECT_TRUE(says(Scripted()
                       .replaced("data.pkl", std::string("X\6\0\0\0weightq\5c", 14), std::string("X\6\0\0\0weightq\5NX\5\0\0\0otherc", 25))
                       .outcome(),
                   "torn or forged"));
}

TEST(HostileScript, CodeThatNestsOrNeverEnds) {
  const std::string many(100000, '(');
  EXPECT_TRUE(says(Scripted().giving(many + "x" + std::string(100000, ')')).outcome(), "nests deeper"));
  EXPECT_TRUE(says(Scripted().giving(std::string(100000, '-') + "x").outcome(), "nests deeper"));
  std::string sum = "x", attributes = "self";
  for (int i = 0; i < 20000; ++i) sum += "+x", attributes += ".a";
  EXPECT_TRUE(says(Scripted().giving(sum).outcome(), "nests deeper"));
  EXPECT_TRUE(says(Scripted().giving(attributes).outcome(), "nests deeper"));
  // Each function calls the one before it twice.
  std::string doubling = "def f0(x: Tensor) -> Tensor:\n  return torch.relu(x)\n";
  for (int i = 1; i < 40; ++i)
    doubling += text("def f", i, "(x: Tensor) -> Tensor:\n  return __torch__.programs.f", i - 1, "(__torch__.programs.f", i - 1, "(x, ), )\n");
  Scripted functions;
  functions.giving("__torch__.programs.f39(_1, )");
  functions.record("code/__torch__/programs.py") += doubling;
  EXPECT_TRUE(says(functions.outcome(), "nodes once its functions are written out"));
  Scripted loop;
  loop.giving("x0").replaced("code/__torch__/programs.py", "    _1 = torch.mean",
                             "    x0 = x\n    while True:\n      x0 = torch.relu(x0)\n    _1 = torch.mean");
  EXPECT_TRUE(says(loop.outcome(), "more than 100000 turns"));
}

TEST(HostileScript, OperatorsAreSeenBeforeTheyRun) {
  EXPECT_TRUE(says(Scripted().giving("torch.from_file(\"/etc/passwd\", None, 8, dtype=1)").outcome(), "does not run the operator"));
  EXPECT_TRUE(says(Scripted().giving("torch.zeros([274877906944])").outcome(), "more than any network's values take"));
  // A norm's statistics for fewer channels than there are: LibTorch would read on behind them.
  EXPECT_TRUE(
      says(Scripted().replaced("data.pkl", std::string("5q#h\nK\4tQq$K\0(K\4t", 17), std::string("5q#h\nK\4tQq$K\0(K\1t", 17)).outcome(),
           "for 4 channels"));
}

}  // namespace
}  // namespace evoke
