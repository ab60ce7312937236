// Programs: what is refused and in which sentence, odd networks, TorchScript, torn and hostile files.
// needs: files
#include "core/programs/program.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "core/error.h"
#include "core/programs/allowlist.h"
#include "core/programs/recent.h"
#include "core/storage/files.h"
#include "core/storage/safetensors.h"
#include "tests/expect.h"
#include "tests/fuzz/zip.h"

namespace evoke {
namespace {

const std::string folder = std::string(EVOKE_BINARY) + "/bad_programs";

std::string file(const std::string& name) {
  static const bool made = [] {
    const std::string command =
        "'" EVOKE_SOURCE "/.venv/bin/python' '" EVOKE_SOURCE "/tests/golden/programs.py' '" + folder + "' --bad 2>/dev/null";
    return std::system(command.c_str()) == 0;
  }();
  EXPECT_TRUE(made);
  return folder + "/" + name;
}

const Tensors& python() {
  static const Tensors found = load_safetensors(file("small.check.safetensors")).tensors;
  return found;
}

std::string refusal_of(const std::string& name) {
  return refusal([&] { load_program(file(name), at::kCPU); }, Failure::input);
}
testing::AssertionResult says(const std::string& sentence, const std::string& words) {
  if (sentence.find(words) != std::string::npos) return testing::AssertionSuccess();
  return testing::AssertionFailure() << "found \"" << sentence << "\", expected it to say \"" << words << "\"";
}

std::vector<std::string> names_of(const Program& program) {
  std::vector<std::string> out;
  for (const Layer& layer : program.layers) out.push_back(layer.name);
  return out;
}

TEST(Program, LayersInTheirOrderWithTypesAndShapes) {
  const Program program = load_program(file("small.pt2"), at::kCPU);
  EXPECT_EQ(program.format, "pt2");
  EXPECT_EQ(names_of(program), (std::vector<std::string>{"conv", "norm", "relu", "head", "output"}));
  EXPECT_EQ(program.layers[0].type, "Conv2d");
  EXPECT_EQ(program.layers[0].shape, (std::vector<int64_t>{4, 6, 6}));
  EXPECT_EQ(program.layers[0].parameters, 4 * 27 + 4);
  EXPECT_EQ(program.parameters, 4 * 27 + 4 + 8 + 25);
  EXPECT_EQ(program.inputs.at(0).shape, (std::vector<int64_t>{-1, 3, 8, 8}));
}

TEST(Program, ADictComesOutByItsKeysAndNoGradientFlowsWherePythonStopsIt) {
  const Program program = load_program(file("pair.pt2"), at::kCPU);
  Tensor x = python().at("input").clone().requires_grad_();
  const Activations found = program.run({x}, {"output.first", "output.second"});
  EXPECT_TRUE(at::equal(found.at("output.first"), python().at("pair:first")));
  EXPECT_TRUE(at::equal(found.at("output.second"), python().at("pair:second")));
  const Tensor gradient = torch::autograd::grad({found.at("output.first").pow(2).sum() + found.at("output.second").pow(2).sum()}, {x})[0];
  EXPECT_TRUE(at::equal(gradient, python().at("pair:gradient")));
  // "relu" is its last call, on one half; "relu#1" the first, on the whole.
  EXPECT_EQ(program.run({x}, {"relu"}).at("relu").size(1), 2);
  EXPECT_EQ(program.run({x}, {"relu#1"}).at("relu#1").size(1), 4);
}

TEST(Program, WritingIntoItsInputLeavesTheCallersImageAlone) {
  const Program program = load_program(file("writing.pt2"), at::kCPU);
  Tensor x = python().at("input").clone().requires_grad_();
  EXPECT_TRUE(at::equal(program.run({x}, {"output"}).at("output"), python().at("writing")));
  EXPECT_TRUE(at::equal(x, python().at("input")));
}

TEST(Program, AFixedBatchServesAnyNumberOfRows) {
  const Program program = load_program(file("fixed.pt2"), at::kCPU);
  Tensor x = python().at("input").clone().requires_grad_();  // 3 rows through a network of 2
  const Tensor output = program.run({x}, {"output"}).at("output");
  EXPECT_TRUE(at::allclose(output, python().at("output"), 1e-5, 1e-6));
  EXPECT_TRUE(at::allclose(torch::autograd::grad({output.sum()}, {x})[0], python().at("gradient"), 1e-5, 1e-6));
}

TEST(Program, AGradientAfterASearchIsThatOfAFreshProgram) {
  // A search runs in inference mode and is the first to ask for these taps; a climb asks for the same taps afterwards.
  for (const char* name : {"small.pt2", "script.pt", "trace.pt"})
    for (const MemoryOrder order : {MemoryOrder::as_exported, MemoryOrder::channels_last}) {
      const Program searched = load_program(file(name), at::kCPU, order), fresh = load_program(file(name), at::kCPU, order);
      {
        const c10::InferenceMode search;
        searched.run({python().at("input")}, {"output"});
      }
      Tensor x = python().at("input").clone().requires_grad_();
      const auto gradient = [&](const Program& program) {
        return torch::autograd::grad({program.run({x}, {"output"}).at("output").sum()}, {x})[0];
      };
      EXPECT_TRUE(at::equal(gradient(searched), gradient(fresh))) << name;
    }
}

TEST(Program, HalfAndDoubleTakeFloatsAndGiveFloats) {
  for (const char* name : {"half.pt2", "double.pt2"}) {
    const Tensor output = load_program(file(name), at::kCPU).run({python().at("input")}, {"output"}).at("output");
    EXPECT_EQ(output.scalar_type(), at::kFloat);
    EXPECT_TRUE(output.isfinite().all().item<bool>());
  }
}

TEST(Program, SeveralInputsRunButAreNoClassifier) {
  const Program two = load_program(file("two.pt2"), at::kCPU);
  const Tensor x = python().at("input");
  const Tensor once = two.run({x, at::ones({3, 5})}, {"output"}).at("output"),
               twice = two.run({x, at::full({3, 5}, 2)}, {"output"}).at("output");
  EXPECT_TRUE(at::equal(once * 2, twice));
  EXPECT_TRUE(says(refusal([&] { image_of(two); }, Failure::input), "expected one image"));
  EXPECT_TRUE(says(refusal([&] { two.run({x}, {"output"}); }, Failure::usage), "found 1 inputs, expected 2"));
}

TEST(Program, RefusesInASentenceThatSaysWhatToDo) {
  EXPECT_TRUE(says(refusal_of("training.pt2"), "model.eval()"));
  EXPECT_TRUE(says(refusal_of("random.pt2"), "model.eval()"));
  EXPECT_TRUE(says(refusal_of("random_trace.pt"), "model.eval()"));
  EXPECT_TRUE(says(refusal_of("counting.pt2"), "'seen'"));
  EXPECT_TRUE(says(refusal_of("branching.pt2"), "control flow"));
  EXPECT_TRUE(says(refusal_of("whole.pt2"), "no gradient"));
  EXPECT_TRUE(says(refusal_of("frozen.pt"), "before torch.jit.freeze"));
  EXPECT_TRUE(says(refusal_of("restoring.pt"), "__setstate__"));
  EXPECT_TRUE(says(refusal_of("pickled.pth"), "pickled"));
  EXPECT_TRUE(says(refusal_of("pickled_model.pth"), "pickled"));
  EXPECT_TRUE(says(refusal_of("absent.pt2"), "cannot be read"));
  EXPECT_TRUE(says(refusal_of("small.check.safetensors"), "no network that evoke reads"));
}

TEST(Program, RefusesLayersAndSizesThatDoNotExist) {
  const Program program = load_program(file("small.pt2"), at::kCPU);
  EXPECT_TRUE(says(refusal([&] { program.run({at::rand({1, 3, 8, 8})}, {"rel"}); }, Failure::usage), "did you mean 'relu'"));
  EXPECT_TRUE(says(refusal([&] { program.run({at::rand({1, 3, 9, 8})}, {"relu"}); }, Failure::input), "expected 'x' [-1,3,8,8]"));
  EXPECT_TRUE(says(refusal([&] { as_classifier(program, {.channels = 3, .height = 16, .width = 16}, {}, at::kCPU); }, Failure::input),
                   "was exported"));
  const Classifier gray = as_classifier(load_program(file("gray.pt2"), at::kCPU), {.channels = 1, .height = 8, .width = 8}, {}, at::kCPU);
  EXPECT_EQ(gray.forward(at::rand({2, 1, 8, 8}), {"output"}).at("output").size(1), 4);
}

TEST(Program, SizesComeFromTheFileWhereItTells) {
  const auto sizes = [](const ImageSpec& image) { return std::vector<int64_t>{image.channels, image.height, image.width}; };
  using Sizes = std::vector<int64_t>;
  EXPECT_EQ(sizes(image_of(load_program(file("small.pt2"), at::kCPU), ImageOptions{})), (Sizes{3, 8, 8}));
  // Free, but it was exported with a picture of 8 × 8; another size may be asked for.
  const Program free = load_program(file("free_size.pt2"), at::kCPU);
  EXPECT_EQ(free.inputs.at(0).shape, (Sizes{-1, 3, -1, -1}));
  EXPECT_EQ(sizes(image_of(free, ImageOptions{})), (Sizes{3, 8, 8}));
  const Classifier wide = as_classifier(free, {.channels = 3, .height = 12, .width = 16}, {}, at::kCPU);
  EXPECT_EQ(wide.forward(at::rand({2, 3, 12, 16}), {"relu"}).at("relu").sizes().vec(), (Sizes{2, 4, 10, 14}));
  // TorchScript does not say; its first convolution tells the channels.
  testing::internal::CaptureStderr();
  EXPECT_EQ(sizes(image_of(load_program(file("gray.pt"), at::kCPU), ImageOptions{})), (Sizes{1, 224, 224}));
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_TRUE(says(said, "found no size of its images") && says(said, "224 × 224")) << said;
  testing::internal::CaptureStderr();
  ImageOptions given;
  given.height = 9, given.width = 8;
  EXPECT_EQ(sizes(image_of(load_program(file("trace.pt"), at::kCPU), given)), (Sizes{3, 9, 8}));
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

TEST(Program, TorchScriptHasTheSameLayersAndNumbers) {
  const ImageSpec image{.channels = 3, .height = 8, .width = 8};
  for (const char* name : {"script.pt", "trace.pt"}) {
    const Program program = load_program(file(name), at::kCPU);
    EXPECT_EQ(program.format, "TorchScript");
    EXPECT_EQ(program.parameters, 4 * 27 + 4 + 8 + 25);
    const Classifier classifier = as_classifier(program, image, {}, at::kCPU);
    ASSERT_EQ(classifier.layers.size(), 5u);
    EXPECT_EQ(classifier.layers[2].name, "relu");
    EXPECT_EQ(classifier.layers[2].shape, (std::vector<int64_t>{4, 6, 6}));
    Tensor x = python().at("input").clone().requires_grad_();
    const Activations found = classifier.forward(x, {"relu", "output"});
    EXPECT_TRUE(at::equal(found.at("relu"), python().at("tap:relu"))) << name;
    EXPECT_TRUE(at::equal(found.at("output"), python().at("output"))) << name;
    EXPECT_TRUE(at::equal(torch::autograd::grad({found.at("output").sum()}, {x})[0], python().at("gradient"))) << name;
    EXPECT_TRUE(says(refusal([&] { program.run({x}, {"rel"}); }, Failure::usage), "did you mean 'relu'"));
  }
}

// Any file that is cut or changed gives a sentence, or a network: never a crash, never another exception.
void survives(const std::string& bytes) {
  const std::string torn = folder + "/torn.pt2";
  std::ofstream(torn, std::ios::binary) << bytes;
  try {
    const Program program = load_program(torn, at::kCPU);
    program.run({at::zeros({1, 3, 8, 8})}, {program.layers.back().name});
  } catch (const Error&) {
  }
}

TEST(Program, TornFilesGiveASentence) {
  const std::string whole = read_file(file("small.pt2"));
  for (size_t length = 0; length < whole.size(); length += whole.size() / 60) survives(whole.substr(0, length));
  EXPECT_TRUE(says(refusal(
                       [&] {
                         std::ofstream(folder + "/torn.pt2", std::ios::binary) << whole.substr(0, whole.size() / 2);
                         load_program(folder + "/torn.pt2", at::kCPU);
                       },
                       Failure::input),
                   "torn"));
}

TEST(Program, ChangedFilesGiveASentenceOrRun) {
  // The record whose name ends so, with its first `from` behind `after` replaced; the checksum is that of what it then holds.
  const auto replaced = [&](const char* end, const std::string& after, const std::string& from, const std::string& to) {
    std::vector<Record> records = records_of(file("small.pt2"));
    for (Record& record : records)
      if (record.name.ends_with(end)) {
        const size_t at = record.content.find(from, record.content.find(after));
        EXPECT_NE(at, std::string::npos) << from;
        record.content.replace(at, from.size(), to);
      }
    return packed(records);
  };
  const auto sentence = [&](const std::string& from, const std::string& to, const char* end = "model.json", const std::string& after = "") {
    std::ofstream(folder + "/torn.pt2", std::ios::binary) << replaced(end, after, from, to);
    return refusal([&] { load_program(folder + "/torn.pt2", at::kCPU).run({at::zeros({1, 3, 8, 8})}, {"output"}); }, Failure::input);
  };
  EXPECT_TRUE(says(sentence("torch.ops.aten.relu.default", "torch.ops.evil.relu.default"), "does not run this operator"));
  EXPECT_TRUE(says(sentence("torch.ops.aten.relu.default", "torch.ops.aten._elu.default"), "does not run this operator"));
  EXPECT_TRUE(says(sentence("\"name\": \"weight\"", "\"name\": \"weigth\""), "lacks its argument 'weight'"));
  EXPECT_TRUE(says(sentence("\"as_tensor\": {\"name\": \"conv2d\"}", "\"as_tensor\": {\"name\": \"convXd\"}"), "before it is made"));
  // A weight that claims to be larger than its bytes.
  EXPECT_TRUE(says(sentence("{\"as_int\": 4}", "{\"as_int\": 9}", "weights_config.json", "\"conv.weight\""), "torn or forged"));
}

// The first use of each of many sets of taps prepares the program for it; what was prepared long ago is let go and made again.
TEST(Program, ManySetsOfTapsGiveWhatOneGives) {
  for (const char* name : {"small.pt2", "script.pt"}) {
    const Program program = load_program(file(name), at::kCPU, MemoryOrder::channels_last);
    const std::vector<std::string> all = names_of(program);
    const Tensor x = python().at("input"), output = program.run({x}, {"output"}).at("output").clone();
    for (int round = 0; round < 2; ++round)
      for (size_t set = 1; set < (size_t{1} << all.size()); ++set) {
        std::vector<std::string> taps;
        for (size_t i = 0; i < all.size(); ++i)
          if ((set >> i & 1) != 0) taps.push_back(all[i]);
        const Activations found = program.run({x}, taps);
        ASSERT_EQ(found.size(), taps.size());
        if (found.contains("output")) {
          EXPECT_TRUE(at::allclose(found.at("output"), output, 1e-5, 1e-6));
        }
      }
  }
}

TEST(Recent, KeepsWhatWasUsedLast) {
  Recent<int, int> squares(2);
  int made = 0;
  const auto square = [&](int of) {
    return squares.get(of, [&] {
      ++made;
      return of * of;
    });
  };
  const auto held = square(3);
  square(4);
  square(3);  // kept
  EXPECT_EQ(made, 2);
  square(5);  // 4 is let go
  square(3);
  EXPECT_EQ(made, 3);
  EXPECT_EQ(*square(4), 16);
  EXPECT_EQ(made, 4);
  square(5);  // let go when 4 was made again, and 3 is what was used before
  EXPECT_EQ(*held, 9);
}

TEST(Program, RunsNothingThatOpensFiles) {
  EXPECT_FALSE(may_run("aten", "from_file"));
  EXPECT_FALSE(may_run("aten", "set_"));
  EXPECT_FALSE(may_run("aten", "_cudnn_init_dropout_state"));
  EXPECT_FALSE(may_run("quantized", "conv2d"));
  EXPECT_FALSE(may_run("profiler", "_record_function_enter"));
  EXPECT_TRUE(may_run("aten", "conv2d"));
  EXPECT_TRUE(may_run("aten", "_softmax"));
}

}  // namespace
}  // namespace evoke
