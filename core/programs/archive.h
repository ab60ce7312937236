// The zip that a network's file is, .pt2 and TorchScript alike: named records, read with every check that a zip offers.
#pragma once
#include <cstdint>
#include <fstream>
#include <map>
#include <string>
#include <vector>

namespace evoke {

/// The records of a zip, named without the folder that all of them lie in. Opening compares the directory with what stands before each
/// record; reading compares the record's CRC32. Throws Failure::input for whatever is torn, encrypted or larger than it can be.
class Archive {
 public:
  explicit Archive(const std::string& file);

  const std::string& file() const { return file_; }
  /// In the order of the directory; a name that is there twice is listed twice.
  const std::vector<std::string>& names() const { return names_; }
  bool has(const std::string& name) const { return records_.contains(name); }
  /// Bytes of the record once read. At most the file's own size, 32 times that where the record is compressed.
  uint64_t size(const std::string& name) const;
  /// Reads the whole record to where size(name) bytes have room.
  void read(const std::string& name, void* to) const;
  std::string text(const std::string& name) const;
  /// Of the whole file.
  uint64_t bytes() const { return bytes_; }
  /// The version of the format, of the record "version" or ".data/version".
  uint64_t version() const;

 private:
  struct Record {
    uint64_t size = 0, stored = 0, begin = 0;  // bytes once read, bytes in the file, place of the first of them
    uint32_t crc = 0;
    bool deflated = false, twice = false;
  };
  [[noreturn]] void torn(const std::string& what) const;
  const Record& record(const std::string& name) const;
  std::string bytes_at(uint64_t begin, uint64_t count) const;
  void read_directory();

  std::string file_;
  mutable std::ifstream stream_;
  uint64_t bytes_ = 0;
  std::vector<std::string> names_;
  std::map<std::string, Record> records_;
};

}  // namespace evoke
