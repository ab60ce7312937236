// Weights on disk: safetensors, read with every size checked first, written whole or not at all.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "core/numbers/tensor.h"

namespace evoke {

struct SafeTensors {
  Tensors tensors;                              // on the CPU; float32, float64, float16, bfloat16, int64, int32, uint8, bool
  std::map<std::string, std::string> metadata;  // __metadata__, without the checksum
  bool checked = false;                         // the file carried a checksum, as all that evoke writes do, and it fits
};

/// Reads a safetensors file. Header length, offsets, shapes and dtypes are checked against the file before anything is allocated.
/// A checksum that the file carries is compared; files of other programs have none.
/// Throws Failure::input when it is missing, truncated, damaged, foreign, or holds overlapping or misfitting tensors.
SafeTensors load_safetensors(const std::string& file);
/// Writes atomically (see write_file). Tensors are saved contiguous, in the order of their names; the metadata hold a SHA-256 of all
/// tensors and of the rest of the metadata under "evoke.sha256".
void save_safetensors(const std::string& file, const SafeTensors&);

/// A network's weights with what is needed to build it again: metadata "evoke.format" = "weights", "evoke.version" = "1",
/// "evoke.kind" = kind, "evoke.options" = the options as TOML. Anything else passes through.
void save_weights(const std::string& file, const std::string& kind, const std::string& options, const Tensors&,
                  std::map<std::string, std::string> more = {});
/// Throws Failure::input when the file is no such file, carries no checksum, or its kind is not one of `kinds`.
SafeTensors load_weights(const std::string& file, const std::vector<std::string>& kinds);

}  // namespace evoke
