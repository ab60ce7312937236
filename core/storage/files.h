// Files written whole or not at all by one process at a time, and checkpoints.
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
/// Appends the line and a newline, and has the disk keep them. Throws Failure::runtime with the reason.
void append_line(const std::string& file, std::string_view line);

/// Sole use of something: an flock on a small file, which holds the process's number and is removed when the lock goes. The kernel lets go
/// of it when the process dies, however it dies.
class Lock {
 public:
  Lock() = default;  // of nothing
  /// Throws Failure::usage at once while another process holds it. what: the first word of the sentence.
  Lock(const std::string& lock_file, const std::string& what);
  Lock(Lock&&) noexcept;
  Lock& operator=(Lock&&) noexcept;
  ~Lock() { release(); }
  void release();

 private:
  std::string file_;
  int number_ = -1;
  bool held_ = false;
};
/// Sole use of a file that is about to be written, by a lock beside it. The temporary files of this file that dead processes left are
/// removed. Throws Failure::usage while another process holds it, and Failure::runtime where there is no such folder.
Lock claim_file(const std::string& file);
/// The same of a folder and all that is written into it and the folders directly within, but for those that are claimed themselves.
Lock claim_folder(const std::string& folder);
/// Is this the name of a lock or of a temporary file, which are not part of what a folder holds?
bool is_working_file(const std::string& name);

/// SHA-256 in hexadecimal. Of a folder: of the names and contents of all files in it and in folders within, without hidden ones.
std::string sha256(std::string_view bytes);
std::string sha256_of_file(const std::string& file);
std::string sha256_of_folder(const std::string& folder);

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
