// HDF5 files: named arrays of numbers and text with attributes. The one place that speaks to HDF5.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/numbers/tensor.h"

namespace evoke {

/// "1.10.8".
std::string hdf5_version();

/// An HDF5 file. Arrays are chunked along the first dimension (where a row is longer than 16 MiB, along the next ones, too) and stored with
/// shuffle, gzip and fletcher32; headers carry checksums of their own, so that no single flipped bit of what is read goes unnoticed.
/// Dimension scales name the axes.
/// Tensors of uint8, int32, int64, float32, float64. All errors are Failure::input (reading) or Failure::runtime (writing), in a sentence;
/// the library's own error stack is kept off stderr.
class Hdf5 {
 public:
  /// Opens to read. Throws when it is missing, truncated or no HDF5 file.
  static Hdf5 open(const std::string& file);
  /// Opens to read and write what exists.
  static Hdf5 edit(const std::string& file);
  /// A new file; the caller writes through write_file_with, so that it appears whole.
  static Hdf5 create(const std::string& file);

  bool has(const std::string& name) const;
  std::vector<std::string> names(const std::string& group = "/") const;  // children of a group
  std::vector<int64_t> shape(const std::string& name) const;
  bool is_axis(const std::string& name) const;  // 0, 1, … that only name the axes of arrays

  /// The whole array, or rows [first, first + rows).
  Tensor read(const std::string& name) const;
  Tensor read_rows(const std::string& name, int64_t first, int64_t rows) const;
  std::vector<std::string> read_text(const std::string& name) const;
  std::vector<std::string> read_lines(const std::string& name, int64_t first, int64_t lines) const;  // some of them

  /// Writes an array; groups in its name are made. axes: a name a dimension ("row", "height"…), attached as dimension scales.
  void write(const std::string& name, const Tensor& array, const std::vector<std::string>& axes = {});
  void write_text(const std::string& name, const std::vector<std::string>& lines);
  /// Makes an array of `rows` rows to be filled by write_rows.
  void reserve(const std::string& name, std::vector<int64_t> shape, at::ScalarType, const std::vector<std::string>& axes = {});
  void write_rows(const std::string& name, int64_t first, const Tensor& rows);
  /// Leaves the first rows of an array that reserve made, and of the scale of its first axis.
  void keep_rows(const std::string& name, int64_t rows);
  /// Writes any part of such an array: `values` from the indices `start` on, one a dimension.
  void write_part(const std::string& name, std::vector<int64_t> start, const Tensor& values);
  /// The shape of the pieces an array is stored in: who writes whole pieces writes each once.
  std::vector<int64_t> chunk(const std::string& name) const;
  void remove(const std::string& name);

  std::string attribute(const std::string& name, const std::string& otherwise = {}) const;  // of the root, as text
  void set_attribute(const std::string& name, const std::string& value);

 private:
  explicit Hdf5(const std::string& file, int64_t handle);
  std::string file_;
  std::shared_ptr<void> handle_;
};

}  // namespace evoke
