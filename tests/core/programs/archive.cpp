// Archives: every bit of a network's file is covered by a check or without effect, and each lie is refused in its own sentence.
// needs: files
#include "core/programs/archive.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <numeric>

#include "core/error.h"
#include "core/programs/program.h"
#include "core/storage/files.h"
#include "tests/expect.h"
#include "tests/fuzz/zip.h"

namespace evoke {
namespace {

const std::string folder = std::string(EVOKE_BINARY) + "/archives" + std::to_string(getpid());
const std::string changed = folder + "/changed";

class Archives : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    const std::string command =
        "'" EVOKE_SOURCE "/.venv/bin/python' '" EVOKE_SOURCE "/tests/golden/programs.py' '" + folder + "' --bad 2>/dev/null";
    ASSERT_EQ(std::system(command.c_str()), 0);
  }
  static void TearDownTestSuite() { std::filesystem::remove_all(folder); }
};

void write(const std::string& bytes) { std::ofstream(changed, std::ios::binary) << bytes; }

std::string refusal_of(const std::string& bytes) {
  write(bytes);
  return refusal([] { load_program(changed, at::kCPU); }, Failure::input);
}
bool says(const std::string& sentence, const std::string& words) { return sentence.find(words) != std::string::npos; }

// What a program gives at every layer, as bytes and words; and what it says of itself.
std::string behaviour(const std::string& file, int64_t size) {
  const Program program = load_program(file, at::kCPU);
  std::string out = text(program.format, program.parameters);
  std::vector<std::string> taps;
  for (const Layer& layer : program.layers) {
    out += text(layer.name, layer.type, shape_text(layer.shape), layer.parameters, ";");
    taps.push_back(layer.name);
  }
  for (const Port& port : program.inputs) out += text(port.name, shape_text(port.shape), ";");
  const Tensor x = at::arange(3 * size * size, at::kFloat).mul(0.37).sin().reshape({1, 3, size, size});
  for (const auto& [name, tensor] : program.run({x}, taps))
    out += name + std::string(static_cast<const char*>(tensor.contiguous().data_ptr()), tensor.nbytes());
  return out;
}

// Flips single bits all over the file, `count` of them; each must be refused, or change nothing.
void flip(const std::string& file, int64_t size, size_t count) {
  const std::string whole = read_file(file), wanted = behaviour(file, size);
  const size_t bits = whole.size() * 8, step = std::max<size_t>(1, (bits / count - 1) | 1);  // odd: every bit of a byte takes its turn
  size_t refused = 0, without_effect = 0;
  for (size_t bit = 0; bit < bits; bit += step) {
    std::string bytes = whole;
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << (bit % 8)));
    write(bytes);
    try {
      EXPECT_EQ(behaviour(changed, size), wanted)
          << file << ": bit " << bit % 8 << " of byte " << bit / 8 << " changes the network unnoticed";
      ++without_effect;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), Failure::input) << error.what();
      ++refused;
    }
  }
  EXPECT_GE(refused + without_effect, count);
  EXPECT_GE(refused, count / 3);  // the rest are names of times and padding
  std::printf("%s: %zu flips refused, %zu without effect\n", file.c_str(), refused, without_effect);
}

TEST_F(Archives, AFlippedBitIsRefusedOrWithoutEffect) {
  flip(EVOKE_SOURCE "/tests/fuzz/corpus_pt2/small.pt2", 4, 1000);
  flip(folder + "/small.pt2", 8, 1000);
  flip(folder + "/script.pt", 8, 1000);
  flip(folder + "/trace.pt", 8, 500);
}

TEST_F(Archives, ADamagedWeightIsNamed) {
  for (const char* name : {"small.pt2", "script.pt"}) {
    const Archive archive(folder + "/" + name);
    const std::string record = archive.has("data/0") ? "data/0" : "data/weights/weight_0", content = archive.text(record);
    std::string bytes = read_file(archive.file());
    const size_t at = bytes.find(content);
    ASSERT_NE(at, std::string::npos);
    bytes[at + 100] = static_cast<char>(bytes[at + 100] ^ 4);
    const std::string sentence = refusal_of(bytes);
    EXPECT_TRUE(says(sentence, record + " is damaged") && says(sentence, "CRC32")) << sentence;
  }
}

TEST_F(Archives, ReadsRecordsStoredAndCompressed) {
  const Archive archive(folder + "/script.pt");
  EXPECT_EQ(archive.size("data/0"), 432u);
  EXPECT_TRUE(says(archive.text("code/__torch__.py"), "class Small"));
  EXPECT_EQ(archive.version(), 3u);
  EXPECT_FALSE(archive.has("data/nothing"));
  EXPECT_TRUE(says(refusal([&] { archive.text("data/nothing"); }, Failure::input), "it has no data/nothing"));
}

TEST_F(Archives, ADirectoryThatLies) {
  const std::string whole = packed({{"p/a", "one"}, {"p/b", "two"}});
  const auto sentence = [&](const std::string& bytes) {
    write(bytes);
    return refusal([] { Archive(changed).text("a"); }, Failure::input);
  };
  write(whole);
  EXPECT_EQ(Archive(changed).text("b"), "two");
  const size_t directory = whole.find("PK\1\2");
  std::string other = whole;
  other[other.find("p/a", directory)] = 'q';
  EXPECT_TRUE(says(sentence(other), "another record than the directory says")) << sentence(other);
  std::string far = whole;
  far[directory + 42] = 7;
  EXPECT_TRUE(says(sentence(far), "not where the directory says")) << sentence(far);
  std::string method = whole;
  method[directory + 10] = method[8] = 12;
  EXPECT_TRUE(says(sentence(method), "unknown way")) << sentence(method);
  EXPECT_TRUE(says(sentence(packed({{"p/a", "one"}, {"p/a", "two"}})), "there twice"));
  EXPECT_TRUE(says(sentence(packed({{"p/a", "one"}, {"q/b", "two"}})), "outside of the folder"));
  EXPECT_TRUE(says(sentence(whole.substr(0, whole.size() - 1)), "has no directory"));
  EXPECT_TRUE(says(sentence(""), "has no directory"));
}

}  // namespace
}  // namespace evoke
