#include "core/programs/archive.h"

#include <caffe2/serialize/versions.h>
#include <zlib.h>

#include <algorithm>
#include <limits>
#include <memory>

#include "core/error.h"

namespace evoke {

namespace {

// The parts of a zip (PKWARE APPNOTE 6.3.9, Sections 4.3 and 4.5): their first four bytes, and their length without what varies.
constexpr uint64_t local_mark = 0x04034b50, local_bytes = 30;
constexpr uint64_t entry_mark = 0x02014b50, entry_bytes = 46;
constexpr uint64_t end_mark = 0x06054b50, end_bytes = 22;
constexpr uint64_t locator_mark = 0x07064b50, locator_bytes = 20;
constexpr uint64_t large_end_mark = 0x06064b50, large_end_bytes = 56;
constexpr uint64_t in_16_bits = 0xffff, in_32_bits = 0xffffffff;  // a number that does not fit stands elsewhere, in 64 bits
constexpr uint64_t largest_directory = uint64_t{1} << 28;         // bytes; a million records with long names

// A little-endian number of `count` bytes; the caller has checked that they are there.
uint64_t number_at(const std::string& bytes, uint64_t at, int count) {
  uint64_t out = 0;
  for (int i = count - 1; i >= 0; --i) out = out << 8 | static_cast<unsigned char>(bytes[at + static_cast<uint64_t>(i)]);
  return out;
}

}  // namespace

Archive::Archive(const std::string& file) : file_(file), stream_(file, std::ios::binary | std::ios::ate) {
  const std::streamoff length = stream_ ? static_cast<std::streamoff>(stream_.tellg()) : -1;
  require(length >= 0 && length < std::numeric_limits<std::streamoff>::max(), Failure::input, file_,
          ": cannot be read; expected a network (.pt2 or TorchScript)");
  bytes_ = static_cast<uint64_t>(length);
  read_directory();
}

void Archive::torn(const std::string& what) const {
  fail(Failure::input, file_, ": the archive is torn (", one_line(what), "); save it again");
}

std::string Archive::bytes_at(uint64_t begin, uint64_t count) const {
  if (begin > bytes_ || count > bytes_ - begin) torn("it ends too early");
  std::string out(count, '\0');
  stream_.clear();
  stream_.seekg(static_cast<std::streamoff>(begin));
  stream_.read(out.data(), static_cast<std::streamsize>(count));
  if (!stream_) torn("it cannot be read");
  return out;
}

void Archive::read_directory() {
  // The end of the directory closes the file, behind it at most a comment.
  const uint64_t tail_bytes = std::min(bytes_, end_bytes + in_16_bits);
  const std::string tail = bytes_at(bytes_ - tail_bytes, tail_bytes);
  uint64_t end = tail_bytes;
  for (uint64_t at = tail_bytes + 1; at-- > 0 && end == tail_bytes;)
    if (at + end_bytes <= tail_bytes && number_at(tail, at, 4) == end_mark && at + end_bytes + number_at(tail, at + 20, 2) == tail_bytes)
      end = at;
  if (end == tail_bytes) torn("it has no directory");
  uint64_t count = number_at(tail, end + 10, 2), size = number_at(tail, end + 12, 4), begin = number_at(tail, end + 16, 4);
  const bool one_disk = number_at(tail, end + 4, 2) == 0 && number_at(tail, end + 6, 2) == 0 && number_at(tail, end + 8, 2) == count;
  uint64_t directory_end = bytes_ - tail_bytes + end;
  if (count == in_16_bits || size == in_32_bits || begin == in_32_bits) {
    if (directory_end < locator_bytes) torn("it has no directory");
    const std::string locator = bytes_at(directory_end - locator_bytes, locator_bytes);
    if (number_at(locator, 0, 4) != locator_mark) torn("it has no directory");
    directory_end = number_at(locator, 8, 8);
    const std::string large = bytes_at(directory_end, large_end_bytes);
    if (number_at(large, 0, 4) != large_end_mark) torn("it has no directory");
    count = number_at(large, 32, 8), size = number_at(large, 40, 8), begin = number_at(large, 48, 8);
  }
  if (!one_disk) torn("it is one part of several");
  if (begin > directory_end || size > directory_end - begin || size > largest_directory || count > size / entry_bytes)
    torn("its directory is not where it should be");

  const std::string directory = bytes_at(begin, size);
  std::string folder;
  uint64_t at = 0;
  for (uint64_t i = 0; i < count; ++i) {
    if (size - at < entry_bytes || number_at(directory, at, 4) != entry_mark) torn("its directory is damaged");
    const uint64_t flags = number_at(directory, at + 8, 2), method = number_at(directory, at + 10, 2);
    const uint64_t name_bytes = number_at(directory, at + 28, 2), extra = number_at(directory, at + 30, 2),
                   comment = number_at(directory, at + 32, 2);
    Record record;
    record.crc = static_cast<uint32_t>(number_at(directory, at + 16, 4));
    record.stored = number_at(directory, at + 20, 4), record.size = number_at(directory, at + 24, 4);
    uint64_t local = number_at(directory, at + 42, 4);
    if (size - at - entry_bytes < name_bytes + extra + comment) torn("its directory is damaged");
    const std::string whole = directory.substr(at + entry_bytes, name_bytes);
    // Numbers that 32 bits do not hold stand in the extra field of kind 1, in this order.
    const uint64_t extra_end = at + entry_bytes + name_bytes + extra;
    for (uint64_t field = at + entry_bytes + name_bytes; field + 4 <= extra_end;) {
      const uint64_t kind = number_at(directory, field, 2), field_end = field + 4 + number_at(directory, field + 2, 2);
      if (field_end > extra_end) torn("its directory is damaged");
      uint64_t next = field + 4;
      if (kind == 1)
        for (uint64_t* value : {&record.size, &record.stored, &local})
          if (*value == in_32_bits) {
            if (next + 8 > field_end) torn("its directory is damaged");
            *value = number_at(directory, next, 8);
            next += 8;
          }
      field = field_end;
    }
    at = extra_end + comment;

    // What stands before the record says the same.
    const std::string header = bytes_at(local, local_bytes);
    if (number_at(header, 0, 4) != local_mark) torn("'" + whole + "' is not where the directory says");
    const uint64_t local_flags = number_at(header, 6, 2), local_name = number_at(header, 26, 2), local_extra = number_at(header, 28, 2);
    const bool sizes_follow = (local_flags & 8) != 0;  // they stand behind the record instead
    const auto same = [&](uint64_t place, uint64_t value) {
      const uint64_t found = number_at(header, place, 4);
      return sizes_follow || found == in_32_bits || found == value;
    };
    if (bytes_at(local + local_bytes, local_name) != whole || number_at(header, 8, 2) != method || local_flags != flags ||
        !same(14, record.crc) || !same(18, record.stored) || !same(22, record.size))
      torn("'" + whole + "' is another record than the directory says");
    record.begin = local + local_bytes + local_name + local_extra;
    record.deflated = method == 8;
    if ((flags & 1) != 0 || (method != 0 && method != 8)) torn("'" + whole + "' is encrypted or compressed in an unknown way");
    if (record.begin > begin || record.stored > begin - record.begin || (method == 0 && record.size != record.stored)) {
      // Sizes that lie are said so when the record is asked for: much of a file is never read.
      record.stored = std::min(record.stored, record.begin > begin ? 0 : begin - record.begin);
      record.size = std::max(record.size, bytes_ + 1);
    }

    // All lie in one folder, named after the file that was saved.
    if (whole.ends_with('/')) continue;
    if (folder.empty()) folder = whole.substr(0, whole.find('/') + 1);
    if (folder.empty() || !whole.starts_with(folder)) torn("'" + whole + "' lies outside of the folder '" + folder + "'");
    names_.push_back(whole.substr(folder.size()));
    const auto [kept, is_new] = records_.emplace(names_.back(), record);
    kept->second.twice = !is_new;
  }
  if (at != size) torn("its directory is damaged");
}

const Archive::Record& Archive::record(const std::string& name) const {
  const auto found = records_.find(name);
  require(found != records_.end(), Failure::input, file_, ": it has no ", one_line(name),
          "; expected a program that torch.export.save or torch.jit.save wrote");
  if (found->second.twice) torn(name + " is there twice");
  return found->second;
}

uint64_t Archive::size(const std::string& name) const {
  const Record& found = record(name);
  // What claims to be larger is torn, or compressed to exhaust memory; code, which TorchScript compresses, is three times as long.
  require(found.size <= (found.deflated ? 32 * bytes_ : bytes_), Failure::input, file_, ": ", one_line(name),
          " claims to be larger than the file; it is torn or forged");
  return found.size;
}

void Archive::read(const std::string& name, void* to) const {
  const uint64_t bytes = size(name);
  const Record& found = record(name);
  auto* out = static_cast<Bytef*>(to);
  stream_.clear();
  stream_.seekg(static_cast<std::streamoff>(found.begin));
  if (found.deflated) {
    const std::string stored = bytes_at(found.begin, found.stored);
    z_stream state{};
    if (inflateInit2(&state, -MAX_WBITS) != Z_OK) torn(name + " cannot be uncompressed");
    const std::unique_ptr<z_stream, int (*)(z_stream*)> closed(&state, inflateEnd);
    state.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(stored.data()));
    state.avail_in = static_cast<uInt>(stored.size());
    state.next_out = out;
    state.avail_out = static_cast<uInt>(bytes);
    const bool fits = stored.size() <= std::numeric_limits<uInt>::max() && bytes <= std::numeric_limits<uInt>::max();
    if (!fits || inflate(&state, Z_FINISH) != Z_STREAM_END || state.total_out != bytes) torn(name + " cannot be uncompressed");
  } else {
    stream_.read(reinterpret_cast<char*>(out), static_cast<std::streamsize>(bytes));
    if (!stream_) torn(name + " ends too early");
  }
  require(crc32_z(crc32_z(0, nullptr, 0), out, bytes) == found.crc, Failure::input, file_, ": ", one_line(name),
          " is damaged: its bytes do not give the checksum that was saved with them (CRC32); copy or save the file again");
}

std::string Archive::text(const std::string& name) const {
  std::string out(size(name), '\0');
  read(name, out.data());
  return out;
}

uint64_t Archive::version() const {
  const std::string written = text(has(".data/version") ? ".data/version" : "version");
  const std::string digits = written.substr(0, written.find_last_not_of(" \r\n") + 1);
  if (digits.empty() || digits.size() > 9 || digits.find_first_not_of("0123456789") != std::string::npos)
    torn("its version is '" + written + "'");
  const uint64_t found = std::stoull(digits);
  require(found >= caffe2::serialize::kMinSupportedFileFormatVersion && found <= caffe2::serialize::kMaxSupportedFileFormatVersion,
          Failure::input, file_, ": found a file of version ", found, ", expected ", caffe2::serialize::kMinSupportedFileFormatVersion,
          " to ", caffe2::serialize::kMaxSupportedFileFormatVersion, "; save it with another torch");
  return found;
}

}  // namespace evoke
