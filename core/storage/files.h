// Files written whole or not at all, and checkpoints.
#pragma once
#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "core/numbers/tensor.h"

namespace evoke {

/// The whole file. Throws Failure::input when it cannot be read.
std::string read_file(const std::string& file);
/// Writes to a temporary file beside it, fsyncs, renames over `file`, fsyncs the folder: after a crash either the old file or the new one
/// is there. Throws Failure::runtime (no space, no permission) with the temporary file removed and the old one untouched.
void write_file(const std::string& file, std::string_view bytes);
/// The same for a library that writes a path itself (HDF5, OpenCV): `writer` is given the temporary path.
void write_file_with(const std::string& file, const std::function<void(const std::string& temporary)>& writer);
/// SHA-256 in hexadecimal.
std::string sha256(std::string_view bytes);
std::string sha256_of_file(const std::string& file);

/// What a sampler's or a training's progress is: tensors, and a few numbers as text.
struct Checkpoint {
  Tensors tensors;
  std::map<std::string, std::string> facts;  // "step", "seed", the hash of the config…
};
/// Saves atomically, as safetensors with a SHA-256 of the content in the metadata.
void save_checkpoint(const std::string& file, const Checkpoint&);
/// Throws Failure::input when the file is torn or its checksum does not fit.
Checkpoint load_checkpoint(const std::string& file);

}  // namespace evoke
