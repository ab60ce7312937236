// Fuzzes the reader of safetensors with libFuzzer (scripts/fuzz safetensors). The mutator changes the header, whose length then fits, or
// the bytes.
#include <ATen/ATen.h>

#include <algorithm>

#include "core/storage/safetensors.h"
#include "tests/fuzz/target.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t most);

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string file = evoke::written(data, size);
  evoke::outcome([&] {
    for (const auto& [name, tensor] : evoke::load_safetensors(file).tensors)
      if (tensor.numel() > 0) tensor.to(at::kDouble).sum();
  });
  evoke::outcome([&] { evoke::load_weights(file, {"classifier", "vae"}); });
  return 0;
}

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t most, unsigned seed) {
  uint64_t header = 0;
  if (size >= 8) std::copy_n(data, 8, reinterpret_cast<uint8_t*>(&header));
  if (size < 8 || header > size - 8 || seed % 8 == 0) return LLVMFuzzerMutate(data, size, most);
  std::string text(reinterpret_cast<const char*>(data) + 8, header),
      behind(reinterpret_cast<const char*>(data) + 8 + header, size - 8 - header);
  std::string& changed = seed % 8 < 6 ? text : behind;
  const size_t before = changed.size();
  changed.resize(before + 64);
  changed.resize(LLVMFuzzerMutate(reinterpret_cast<uint8_t*>(changed.data()), before, changed.size()));
  if (8 + text.size() + behind.size() > most) return size;
  header = text.size();
  std::copy_n(reinterpret_cast<const uint8_t*>(&header), 8, data);
  std::copy(text.begin(), text.end(), data + 8);
  std::copy(behind.begin(), behind.end(), data + 8 + text.size());
  return 8 + text.size() + behind.size();
}
