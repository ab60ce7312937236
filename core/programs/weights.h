// The weights of a .pt2: records of raw little-endian numbers, and the JSON that says which tensor is where in which.
#pragma once
#include <nlohmann/json.hpp>

#include "core/numbers/tensor.h"
#include "core/programs/archive.h"

namespace evoke {

class Weights {
 public:
  /// The weights of the program of this name.
  Weights(const Archive&, const std::string& program);

  /// A parameter or buffer by its name in Python; buffers that are no part of the state dict lie with the constants, and so do constants.
  /// Checks the record against what the tensor needs before it takes memory. Throws Failure::input for what is missing, pickled, sparse or
  /// larger than its record.
  Tensor read(const std::string& key, bool constant);

 private:
  Tensor stored(const std::string& record, const nlohmann::json& meta);

  const Archive& archive_;
  nlohmann::json weights_, constants_;
  int64_t room_;  // bytes that may still be taken
};

}  // namespace evoke
