// What is recorded while a run goes on: appended to a file, so that memory does not grow with the steps.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "core/nouns/nouns.h"
#include "core/storage/hdf5.h"

namespace evoke {

/// The value and terms of N chains every `stride` steps, and pictures of them where they are asked for.
///
/// The file is a sequence of records, each the SHA-256 of the rest, a line of JSON (name, index of the first step or picture, shape) and
/// raw bytes: "steps" int64 [S], "value" and "terms/<name>" float32 [N,S] for some steps together, "snapshot" uint8 [N,H,W,C] one by one.
class Trace {
 public:
  /// Appends to `file`, of which the first `length` bytes are kept (see keep); an empty name stands for a temporary file that goes with
  /// this object. Throws Failure::input when the file is shorter or damaged, Failure::runtime when it cannot be written.
  explicit Trace(int64_t stride = 1, const std::string& file = {}, int64_t length = 0);
  Trace(Trace&&) noexcept;
  Trace& operator=(Trace&&) = delete;
  ~Trace();

  /// Takes value and terms of this step, where it is a multiple of the stride; on the device, which is waited for every 256 records only. A
  /// term that is missing at some step is NaN there.
  void see(int64_t step, const State&);
  /// images: uint8 [N,H,W,C], as they stand after some step.
  void see_pictures(const Tensor& images);
  /// Has the disk keep everything seen so far; the length of the file in bytes, for a checkpoint.
  int64_t keep();

  /// bool [N] on the CPU: the chains whose score (the term "objective", or the value where there is none) was the same at every record;
  /// undefined with fewer than two.
  Tensor unmoved();
  /// Writes /steps, /activation/trace, /terms/<name> and /snapshots, a piece at a time; what was never seen is left out.
  void write(Hdf5& out);

 private:
  struct Piece {
    int64_t first, columns, offset;  // offset: of the raw bytes in the file
  };
  void take_up(int64_t length);
  void append(const std::string& name, int64_t first, const Tensor& values);
  void flush();
  Tensor read(const Piece&, at::ScalarType, std::vector<int64_t> shape, int64_t skipped_bytes) const;
  Tensor part(const std::string& name, int64_t row, int64_t rows, int64_t column, int64_t columns) const;
  Tensor pictures(int64_t row, int64_t rows, int64_t first, int64_t count) const;
  [[noreturn]] void damaged(const std::string& what) const;

  std::string file_;
  int number_ = -1;
  int64_t stride_, end_ = 0, rows_ = 0, recorded_ = 0, pictured_ = 0;  // end_: length of the file; recorded_: steps in it
  std::vector<int64_t> image_;                                         // H, W, C of the pictures
  std::map<std::string, std::vector<Piece>> pieces_;
  // Seen, and not yet in the file.
  std::vector<int64_t> steps_;
  std::vector<Tensor> values_;
  std::map<std::string, std::vector<Tensor>> terms_;
};

}  // namespace evoke
