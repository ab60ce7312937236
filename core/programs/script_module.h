// TorchScript's modules from their archive, without running anything of the file.
#pragma once
#include <torch/csrc/jit/api/module.h>

#include "core/programs/archive.h"

namespace evoke {

/// What torch::jit::load gives, with every record's checksum compared, every tensor checked against its record, and values of the types
/// that the code declares. Classes that restore themselves by code of their own (__setstate__) are refused: such code would run before
/// anybody has seen which operators it uses. Throws Failure::input, or whatever LibTorch throws of a file that is none of its own.
torch::jit::Module load_module(const Archive&, at::Device device);

}  // namespace evoke
