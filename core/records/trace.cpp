#include "core/records/trace.h"

#include <ATen/ATen.h>
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/storage/files.h"

namespace evoke {

namespace {

using json = nlohmann::json;

constexpr int64_t most_together = 256, most_bytes = int64_t{1} << 24;  // of the steps that are written together
constexpr size_t sum_size = 64, longest_line = 4096;
constexpr const char *steps_name = "steps", *value_name = "value", *picture_name = "snapshot", *term_prefix = "terms/";

at::ScalarType type_of(const std::string& name) { return name == steps_name ? at::kLong : name == picture_name ? at::kByte : at::kFloat; }

// Reads as many bytes as there are, at most `size`.
size_t read_at(int number, char* into, size_t size, int64_t offset, const std::string& file) {
  size_t done = 0;
  while (done < size) {
    const ssize_t got = ::pread(number, into + done, size - done, offset + static_cast<int64_t>(done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail(Failure::input, file, ": cannot be read (", std::strerror(errno), ")");
    if (got == 0) break;
    done += static_cast<size_t>(got);
  }
  return done;
}

void write_at(int number, std::string_view bytes, int64_t offset, const std::string& file) {
  while (!bytes.empty()) {
    const ssize_t put = ::pwrite(number, bytes.data(), bytes.size(), offset);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) fail(Failure::runtime, file, ": cannot be written (", std::strerror(errno), ")");
    bytes.remove_prefix(static_cast<size_t>(put));
    offset += put;
  }
}

std::string_view bytes_of(const Tensor& tensor) { return {static_cast<const char*>(tensor.data_ptr()), tensor.nbytes()}; }

// Writes an array piece by piece, each a whole chunk, so that the bytes do not depend on how it was recorded.
void write_pieces(Hdf5& out, const std::string& name, const std::vector<int64_t>& shape, at::ScalarType type,
                  const std::vector<std::string>& axes,
                  const std::function<Tensor(int64_t row, int64_t rows, int64_t column, int64_t columns)>& part) {
  out.reserve(name, shape, type, axes);
  const std::vector<int64_t> chunk = out.chunk(name);
  for (int64_t row = 0; row < shape[0]; row += chunk[0])
    for (int64_t column = 0; column < shape[1]; column += chunk[1]) {
      std::vector<int64_t> start(shape.size(), 0);
      start[0] = row;
      start[1] = column;
      out.write_part(name, start, part(row, std::min(chunk[0], shape[0] - row), column, std::min(chunk[1], shape[1] - column)));
    }
}

}  // namespace

Trace::Trace(int64_t stride, const std::string& file, int64_t length) : file_(file), stride_(stride) {
  if (file.empty()) {
    file_ = (std::filesystem::temp_directory_path() / "evoke-trace-XXXXXX").string();
    number_ = ::mkstemp(file_.data());
    if (number_ < 0) fail(Failure::runtime, file_, ": cannot be made (", std::strerror(errno), "); look for space, or set TMPDIR");
    ::unlink(file_.c_str());
  } else {
    number_ = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (number_ < 0) fail(Failure::runtime, file, ": cannot be made (", std::strerror(errno), ")");
  }
  try {
    take_up(length);
  } catch (...) {
    ::close(number_);
    throw;
  }
}

Trace::Trace(Trace&& other) noexcept
    : file_(std::move(other.file_)),
      number_(std::exchange(other.number_, -1)),
      stride_(other.stride_),
      end_(other.end_),
      rows_(other.rows_),
      recorded_(other.recorded_),
      pictured_(other.pictured_),
      image_(std::move(other.image_)),
      pieces_(std::move(other.pieces_)),
      steps_(std::move(other.steps_)),
      values_(std::move(other.values_)),
      terms_(std::move(other.terms_)) {}

Trace::~Trace() {
  if (number_ >= 0) ::close(number_);
}

void Trace::damaged(const std::string& what) const {
  fail(Failure::input, file_, ": ", what, "; the file is damaged: remove the run's folder to begin anew");
}

// Reads every record up to `length`, compares its checksum, and forgets what lies behind.
void Trace::take_up(int64_t length) {
  std::string bytes;
  while (end_ < length) {
    std::string head(std::min<size_t>(longest_line, static_cast<size_t>(length - end_)), '\0');
    head.resize(read_at(number_, head.data(), head.size(), end_, file_));
    const size_t line_end = head.find('\n');
    if (line_end == std::string::npos || line_end <= sum_size) damaged(text("found no record at byte ", end_));
    const std::string line = head.substr(sum_size, line_end - sum_size);
    const json record = json::parse(line, nullptr, false);
    std::string name;
    std::vector<int64_t> shape;
    int64_t first = 0, size = 1;
    try {
      name = record.at("name").get<std::string>();
      shape = record.at("shape").get<std::vector<int64_t>>();
      first = record.at("first").get<int64_t>();
    } catch (const json::exception&) {
      damaged(text("found no record at byte ", end_));
    }
    bool sound = !shape.empty();
    for (const int64_t n : shape) sound = sound && n >= 0 && !__builtin_mul_overflow(size, n, &size);
    size *= static_cast<int64_t>(c10::elementSize(type_of(name)));
    const int64_t begin = end_ + static_cast<int64_t>(line_end) + 1;
    if (!sound || size > length - begin) damaged(text("found a record at byte ", end_, " that reaches beyond the end"));
    bytes.assign(static_cast<size_t>(size), '\0');
    if (read_at(number_, bytes.data(), bytes.size(), begin, file_) < bytes.size()) damaged("its end is missing");
    if (sha256(line + "\n" + bytes) != head.substr(0, sum_size))
      damaged(text("found a record at byte ", end_, " that does not fit its checksum"));

    pieces_[name].push_back({first, shape.back(), begin});
    if (name == steps_name) recorded_ += shape[0];
    if (name == value_name) rows_ = shape[0];
    if (name == picture_name) {
      ++pictured_;
      rows_ = shape[0];
      image_.assign(shape.begin() + 1, shape.end());
    }
    end_ = begin + size;
  }
  if (::ftruncate(number_, end_) != 0) fail(Failure::runtime, file_, ": cannot be shortened (", std::strerror(errno), ")");
}

void Trace::append(const std::string& name, int64_t first, const Tensor& values) {
  const Tensor held = values.cpu().contiguous();
  std::string rest = " " + json{{"name", name}, {"first", first}, {"shape", held.sizes().vec()}}.dump() + "\n";
  const auto begin = end_ + static_cast<int64_t>(sum_size + rest.size());
  rest += bytes_of(held);
  write_at(number_, sha256(rest) + rest, end_, file_);
  pieces_[name].push_back({first, held.size(-1), begin});
  end_ += static_cast<int64_t>(sum_size + rest.size());
}

void Trace::flush() {
  if (steps_.empty()) return;
  append(steps_name, recorded_, at::tensor(steps_, at::kLong));
  append(value_name, recorded_, at::stack(values_, 1).to(at::kFloat));
  for (const auto& [name, columns] : terms_) append(term_prefix + name, recorded_, at::stack(columns, 1).to(at::kFloat));
  recorded_ += static_cast<int64_t>(steps_.size());
  steps_.clear();
  values_.clear();
  terms_.clear();
}

void Trace::see(int64_t step, const State& state) {
  if (step % stride_ != 0 || !state.at.value.defined()) return;
  values_.push_back(state.at.value.detach().clone());
  rows_ = values_.back().size(0);
  const Tensor missing = at::full_like(values_.back(), std::numeric_limits<double>::quiet_NaN());
  for (const auto& [name, term] : state.at.terms) terms_.try_emplace(name, steps_.size(), missing);
  for (auto& [name, columns] : terms_) {
    const auto term = state.at.terms.find(name);
    columns.push_back(term == state.at.terms.end() ? missing : term->second.detach().clone());
  }
  steps_.push_back(step);
  const auto together = static_cast<int64_t>(steps_.size());
  if (together >= most_together || together * rows_ * 4 >= most_bytes) flush();
}

void Trace::see_pictures(const Tensor& images) {
  require_shape(images, {-1, -1, -1, -1}, "trace: pictures");
  rows_ = images.size(0);
  image_ = images.sizes().slice(1).vec();
  append(picture_name, pictured_++, images);
}

int64_t Trace::keep() {
  flush();
  if (::fsync(number_) != 0) fail(Failure::runtime, file_, ": cannot be kept on disk (", std::strerror(errno), ")");
  return end_;
}

// ---- Reading ---------------------------------------------------------------------------------------------------------------------------

Tensor Trace::read(const Piece& piece, at::ScalarType type, std::vector<int64_t> shape, int64_t skipped_bytes) const {
  const Tensor out = at::empty(shape, type);
  if (read_at(number_, static_cast<char*>(out.data_ptr()), out.nbytes(), piece.offset + skipped_bytes, file_) < out.nbytes())
    damaged("its end is missing");
  return out;
}

// Rows and columns of a table [N,S]: from every piece that has a share in them.
Tensor Trace::part(const std::string& name, int64_t row, int64_t rows, int64_t column, int64_t columns) const {
  const Tensor out = at::full({rows, columns}, std::numeric_limits<double>::quiet_NaN(), at::kFloat);
  for (const Piece& piece : pieces_.at(name)) {
    const int64_t begin = std::max(column, piece.first), end = std::min(column + columns, piece.first + piece.columns);
    if (begin >= end) continue;
    const Tensor found = read(piece, at::kFloat, {rows, piece.columns}, row * piece.columns * 4);
    out.narrow(1, begin - column, end - begin).copy_(found.narrow(1, begin - piece.first, end - begin));
  }
  return out;
}

Tensor Trace::pictures(int64_t row, int64_t rows, int64_t first, int64_t count) const {
  std::vector<int64_t> shape{rows};
  shape.insert(shape.end(), image_.begin(), image_.end());
  const int64_t bytes = image_[0] * image_[1] * image_[2];
  std::vector<Tensor> found;
  for (int64_t i = first; i < first + count; ++i)
    found.push_back(read(pieces_.at(picture_name)[static_cast<size_t>(i)], at::kByte, shape, row * bytes));
  return at::stack(found, 1);
}

Tensor Trace::unmoved() {
  flush();
  if (recorded_ < 2) return {};
  Tensor first, same = at::ones({rows_}, at::kBool);
  const std::string score = std::string(term_prefix) + "objective";
  for (const Piece& piece : pieces_.at(pieces_.contains(score) ? score : value_name)) {
    const Tensor values = read(piece, at::kFloat, {rows_, piece.columns}, 0);
    if (!first.defined()) first = values.narrow(1, 0, 1).clone();
    same &= (values == first).all(1);
  }
  return same;
}

void Trace::write(Hdf5& out) {
  flush();
  if (recorded_ > 0) {
    std::vector<Tensor> steps;
    for (const Piece& piece : pieces_.at(steps_name)) steps.push_back(read(piece, at::kLong, {piece.columns}, 0));
    const auto table = [&](const std::string& array, const std::string& name) {
      write_pieces(out, array, {rows_, recorded_}, at::kFloat, {"row", "step"},
                   [&](int64_t row, int64_t rows, int64_t column, int64_t columns) { return part(name, row, rows, column, columns); });
    };
    // The score stands by its own name where there is one; a search has nothing else to climb.
    const std::string score = std::string(term_prefix) + "objective";
    const bool scored = pieces_.contains(score);
    table("/activation/trace", scored ? score : value_name);
    for (const auto& [name, pieces] : pieces_)
      if (name.starts_with(term_prefix) && name != score) table("/" + name, name);
    if (scored) table("/" + std::string(term_prefix) + "value", value_name);
    out.write("/steps", at::cat(steps), {"step"});
  }
  if (pictured_ > 0)
    write_pieces(out, "/snapshots", {rows_, pictured_, image_[0], image_[1], image_[2]}, at::kByte,
                 {"row", "snapshot", "height", "width", "channel"},
                 [&](int64_t row, int64_t rows, int64_t first, int64_t count) { return pictures(row, rows, first, count); });
}

}  // namespace evoke
