// Zips of stored records, as .pt2 files are: taken apart and put together by the fuzzer and by the tests of hostile files.
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "core/programs/archive.h"

namespace evoke {

struct Record {
  std::string name, content;
  uint64_t claims = 0;  // bytes that the directory says it has; 0: the truth
};

inline uint32_t crc_of(const std::string& content) {
  static const std::array<uint32_t, 256> table = [] {
    std::array<uint32_t, 256> out{};
    for (uint32_t i = 0; i < 256; ++i) {
      uint32_t c = i;
      for (int k = 0; k < 8; ++k) c = (c & 1) != 0 ? 0xedb88320U ^ (c >> 1) : c >> 1;
      out[i] = c;
    }
    return out;
  }();
  uint32_t crc = 0xffffffffU;
  for (const char c : content) crc = table[(crc ^ static_cast<uint8_t>(c)) & 255] ^ (crc >> 8);
  return ~crc;
}

inline void put(std::string& out, uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) out += static_cast<char>(value >> (8 * i));
}
inline uint32_t number_at(const std::string& bytes, size_t at, int count) {
  uint32_t out = 0;
  for (int i = 0; i < count; ++i) out |= static_cast<uint32_t>(static_cast<uint8_t>(bytes[at + static_cast<size_t>(i)])) << (8 * i);
  return out;
}

/// The bytes of a zip.
inline std::string packed(const std::vector<Record>& records) {
  std::string out, directory;
  for (const Record& record : records) {
    // Sizes that 32 bits do not hold stand in an extra field (zip64).
    std::string common, extra;
    if (record.claims != 0) put(extra, 1, 2), put(extra, 16, 2), put(extra, record.claims, 8), put(extra, record.claims, 8);
    const uint64_t size = record.claims != 0 ? 0xffffffffU : record.content.size();
    put(common, 10, 2), put(common, 0, 2), put(common, 0, 2), put(common, 0x28210000, 4), put(common, crc_of(record.content), 4);
    put(common, size, 4), put(common, size, 4), put(common, record.name.size(), 2), put(common, extra.size(), 2);
    put(directory, 0x02014b50, 4), put(directory, 10, 2);
    directory += common;
    put(directory, 0, 2), put(directory, 0, 2), put(directory, 0, 2), put(directory, 0, 4), put(directory, out.size(), 4);
    directory += record.name + extra;
    put(out, 0x04034b50, 4);
    out += common + record.name + extra + record.content;
  }
  const size_t start = out.size();
  out += directory;
  put(out, 0x06054b50, 4), put(out, 0, 4), put(out, records.size(), 2), put(out, records.size(), 2), put(out, directory.size(), 4);
  put(out, start, 4), put(out, 0, 2);
  return out;
}

/// The records of a file, compressed or not; those that nobody reads are left out.
inline std::vector<Record> records_of(const std::string& file) {
  const Archive archive(file);
  std::vector<Record> out;
  for (const std::string& name : archive.names())
    if (!name.ends_with(".debug_pkl") && name.find("sample_inputs") == std::string::npos) out.push_back({"p/" + name, archive.text(name)});
  return out;
}

/// Empty where the bytes are no zip of stored records.
inline std::vector<Record> unpacked(const std::string& bytes) {
  std::vector<Record> out;
  for (size_t at = 0; at + 30 <= bytes.size() && number_at(bytes, at, 4) == 0x04034b50;) {
    const size_t size = number_at(bytes, at + 18, 4), name = number_at(bytes, at + 26, 2), extra = number_at(bytes, at + 28, 2);
    if (number_at(bytes, at + 8, 2) != 0 || at + 30 + name + extra > bytes.size() || size > bytes.size() - (at + 30 + name + extra))
      return {};
    out.push_back({bytes.substr(at + 30, name), bytes.substr(at + 30 + name + extra, size)});
    at += 30 + name + extra + size;
  }
  return out;
}

}  // namespace evoke
