// Fuzzes the reader of TorchScript, and a run of what it read, with libFuzzer (scripts/fuzz torchscript). An input is a zip of stored
// records; the mutator takes it apart, changes a pickle or the code, and puts it together again with the checksums that then belong to it.
#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <random>

#include "core/programs/program.h"
#include "tests/fuzz/target.h"
#include "tests/fuzz/zip.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t most);

namespace {

using evoke::packed;
using evoke::Record;
using evoke::unpacked;

void read_and_run(const std::string& file, size_t choice) {
  const evoke::Program program = evoke::load_torchscript(
      evoke::Archive(file), at::kCPU, choice % 4 == 0 ? evoke::MemoryOrder::channels_last : evoke::MemoryOrder::as_exported);
  if (program.layers.empty() || program.inputs.size() != 1) return;
  at::Tensor x = at::arange(2 * 3 * 4 * 4, at::kFloat).mul(0.37).sin().reshape({2, 3, 4, 4});
  const bool gradient = choice % 2 == 0;
  const c10::AutoGradMode mode(gradient);
  if (gradient) x.requires_grad_();
  const evoke::Activations found = program.run({x}, {program.layers[(choice >> 4) % program.layers.size()].name});
  const at::Tensor& value = found.begin()->second;
  // What a sampler would ask for; of a network that has no gradient LibTorch says so.
  if (gradient && value.requires_grad() && value.is_floating_point()) try {
      torch::autograd::grad({value.sum()}, {x}, {}, {}, false, true);
    } catch (const std::exception&) {
    }
}

class Mutator {
 public:
  explicit Mutator(unsigned seed) : random_(seed) {}

  void change(std::vector<Record>& records) {
    std::vector<Record*> codes, pickles;
    for (Record& record : records) {
      if (record.name.ends_with(".py")) codes.push_back(&record);
      if (record.name.ends_with(".pkl")) pickles.push_back(&record);
    }
    const size_t what = below(100);
    if (what < 55 && !codes.empty()) {
      Record& record = *codes[below(codes.size())];
      for (size_t i = 0, times = 1 + below(3); i < times; ++i) record.content = code(record.content, *codes[below(codes.size())]);
    } else if (what < 90 && !pickles.empty()) {
      pickle(pickles[below(pickles.size())]->content);
    } else if (!records.empty()) {
      Record& record = records[below(records.size())];
      if (what < 93)
        record.content.resize(below(record.content.size() + 1));
      else if (what < 96)
        record.name = records[below(records.size())].name;
      else
        bytes(record.content);
    }
  }

 private:
  size_t below(size_t count) { return count == 0 ? 0 : random_() % count; }
  template <class T>
  const T& any(const std::vector<T>& choices) {
    return choices[below(choices.size())];
  }
  void bytes(std::string& content) {
    const size_t before = content.size();
    content.resize(before + 64);
    content.resize(LLVMFuzzerMutate(reinterpret_cast<uint8_t*>(content.data()), before, content.size()));
  }

  // Words and numbers of the code, exchanged for others; lines moved, repeated and left out.
  std::string code(const std::string& content, const Record& other) {
    static const std::vector<std::string> calls{"torch.relu(x)",
                                                "torch.conv2d(x, w, None, [1, 1], [0, 0], [1, 1])",
                                                "torch.batch_norm(x, b, b, b, b, False, 0.1, 1e-5, True)",
                                                "torch.reshape(x, [2, -1])",
                                                "torch.slice(x, 1, 0, 9223372036854775807)",
                                                "torch.as_strided(x, [4, 4], [1, 1], 0)",
                                                "torch.index(x, [torch.zeros([2], dtype=4)])",
                                                "torch.max_pool2d(x, [2, 2], [2, 2], [0, 0], [1, 1])",
                                                "torch.cat([x, x], 1)",
                                                "torch.split(x, 1, 1)[0]",
                                                "torch.to(x, 6)",
                                                "torch.to(x, 4)",
                                                "torch.view(x, [-1])",
                                                "torch.floor_divide(torch.to(x, 4), -1)",
                                                "torch.upsample_nearest2d(x, [8, 8], None)",
                                                "torch.matmul(x, x)",
                                                "torch.gather(x, 1, torch.zeros_like(x, dtype=4))",
                                                "torch.layer_norm(x, [4], None, None, 1e-5, True)",
                                                "torch.group_norm(x, 3, None, None, 1e-5, True)",
                                                "torch.embedding(x, x)",
                                                "torch.one_hot(torch.to(x, 4), 5)",
                                                "torch.constant_pad_nd(x, [1, 1, 1, 1], 0)",
                                                "torch.scatter(x, 1, torch.to(x, 4), 1.)",
                                                "torch.lstm_cell(x, [x, x], x, x, None, None)",
                                                "torch.expand(x, [4, 2, 3, 4, 4])",
                                                "ops.prim.NumToTensor(3)",
                                                "torch.unfold(x, 2, 2, 1)",
                                                "torch.einsum(\"nchw->n\", [x])",
                                                "torch.adaptive_avg_pool2d(x, [1, 1])",
                                                "torch.pixel_shuffle(x, 1)"};
    static const std::vector<std::string> words{"x",
                                                "w",
                                                "b",
                                                "self.weight",
                                                "self.bias",
                                                "self.running_mean",
                                                "input",
                                                "None",
                                                "True",
                                                "0",
                                                "-1",
                                                "2",
                                                "4",
                                                "1000000007",
                                                "9223372036854775807",
                                                "-9223372036854775808",
                                                "0.",
                                                "1e300",
                                                "[]",
                                                "[0, 0]",
                                                "[1, 1]",
                                                "\"mean\"",
                                                "Tensor",
                                                "int",
                                                "Optional[Tensor]",
                                                "List[int]",
                                                "unchecked_cast(Tensor, x)",
                                                "annotate(List[int], [])",
                                                "float(x)",
                                                "int(x)"};
    std::vector<std::string> lines;
    std::string line;
    for (const char c : content + (content.ends_with('\n') ? "" : "\n"))
      if (c == '\n')
        lines.push_back(line), line.clear();
      else
        line += c;
    if (lines.empty()) return content;
    const size_t at = below(lines.size());
    std::string& chosen = lines[at];
    switch (below(8)) {
      case 0:
        lines.erase(lines.begin() + static_cast<int64_t>(at));
        break;
      case 1: {
        const std::string copy = chosen;
        lines.insert(lines.begin() + static_cast<int64_t>(below(lines.size() + 1)), copy);
        break;
      }
      case 2: {
        // A line of another class.
        const size_t begin = below(other.content.size()), end = other.content.find('\n', begin);
        if (end == std::string::npos) break;
        const size_t start = other.content.rfind('\n', begin);
        lines.insert(lines.begin() + static_cast<int64_t>(at),
                     other.content.substr(start == std::string::npos ? 0 : start + 1, end - start - 1));
        break;
      }
      case 3:
        bytes(chosen);
        break;
      default: {
        // A word, from one separator to the next.
        std::vector<std::pair<size_t, size_t>> spans;
        for (size_t i = 0; i < chosen.size();) {
          const size_t begin = chosen.find_first_not_of(" ,()[]=:", i);
          if (begin == std::string::npos) break;
          const size_t end = std::min(chosen.find_first_of(" ,()[]=:", begin), chosen.size());
          spans.emplace_back(begin, end - begin);
          i = end;
        }
        if (spans.empty()) break;
        const auto [begin, length] = any(spans);
        const std::string whole = chosen.substr(begin, length);
        chosen.replace(begin, length, below(3) == 0 ? any(calls) : below(8) == 0 ? any(words) + "." + whole : any(words));
        break;
      }
    }
    std::string out;
    for (const std::string& one : lines) out += one + "\n";
    return out;
  }

  // Numbers and opcodes of a pickle.
  void pickle(std::string& content) {
    if (content.size() < 4) return bytes(content);
    static const std::string opcodes(
        "().]}tquhbRQNKJMXc\x85\x86\x87\x88\x89\x81\x8a"
        "ea",
        26);
    for (size_t i = 0, times = 1 + below(4); i < times; ++i) {
      const size_t at = below(content.size());
      switch (below(6)) {
        case 0:
          content[at] = opcodes[below(opcodes.size())];
          break;
        case 1:
          content.insert(at, 1, opcodes[below(opcodes.size())]);
          break;
        case 2:
          content.erase(at, 1 + below(4));
          break;
        case 3: {
          // A number of one byte for another, or for one of four.
          const size_t number = content.find('K', at);
          if (number == std::string::npos || number + 1 >= content.size()) break;
          if (below(2) == 0)
            content[number + 1] = static_cast<char>(below(256));
          else
            content.replace(
                number, 2,
                std::string("J") + any(std::vector<std::string>{std::string("\xff\xff\xff\xff"), std::string("\xff\xff\xff\x7f"),
                                                                std::string("\0\0\0\x80", 4)}));
          break;
        }
        case 4: {
          const std::string part = content.substr(at, 1 + below(40));
          content.insert(below(content.size()), part);
          break;
        }
        default:
          bytes(content);
      }
    }
  }

  std::mt19937 random_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string file = evoke::written(data, size);
  size_t choice = 14695981039346656037U;
  for (size_t i = 0; i < size; ++i) choice = (choice ^ data[i]) * 1099511628211U;
  evoke::outcome([&] { read_and_run(file, choice >> 20); });
  return 0;
}

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t most, unsigned seed) {
  std::vector<Record> records = unpacked(std::string(reinterpret_cast<const char*>(data), size));
  if (records.empty() || seed % 16 == 0) return LLVMFuzzerMutate(data, size, most);
  Mutator(seed).change(records);
  const std::string out = packed(records);
  if (out.size() > most) return LLVMFuzzerMutate(data, size, most);
  std::copy(out.begin(), out.end(), data);
  return out.size();
}
