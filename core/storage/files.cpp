#include "core/storage/files.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>

#include "core/error.h"

namespace evoke {

namespace {

namespace fs = std::filesystem;

// A file descriptor that closes itself.
struct Descriptor {
  explicit Descriptor(int number) : number(number) {}
  ~Descriptor() {
    if (number >= 0) ::close(number);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int number;
};

// Hands the bytes of a file to `take`, a piece at a time.
void each_piece(const std::string& file, const std::function<void(std::string_view)>& take) {
  const Descriptor in(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  require(in.number >= 0, Failure::input, file, ": cannot be read (", std::strerror(errno), "); expected a file there");
  struct stat facts {};
  require(::fstat(in.number, &facts) == 0 && !S_ISDIR(facts.st_mode), Failure::input, file, ": found a folder, expected a file");
  std::string piece(1 << 20, '\0');
  for (;;) {
    const ssize_t got = ::read(in.number, piece.data(), piece.size());
    if (got < 0 && errno == EINTR) continue;
    require(got >= 0, Failure::input, file, ": cannot be read (", std::strerror(errno), ")");
    if (got == 0) return;
    take(std::string_view(piece).substr(0, static_cast<size_t>(got)));
  }
}

void write_plainly(const std::string& file, std::string_view bytes) {
  const Descriptor out(::open(file.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  require(out.number >= 0, Failure::runtime, "cannot be made (", std::strerror(errno), ")");
  while (!bytes.empty()) {
    const ssize_t put = ::write(out.number, bytes.data(), bytes.size());
    if (put < 0 && errno == EINTR) continue;
    require(put > 0, Failure::runtime, "cannot be written (", std::strerror(errno), ")");
    bytes.remove_prefix(static_cast<size_t>(put));
  }
}

// Has the disk keep a file, or a folder's list of names.
void keep(const std::string& path, int flags) {
  const Descriptor opened(::open(path.c_str(), flags | O_CLOEXEC));
  require(opened.number >= 0 && (::fsync(opened.number) == 0 || errno == EINVAL), Failure::runtime, "cannot be kept on disk (",
          std::strerror(errno), ")");
}

class Sha256 {
 public:
  Sha256() : context_(EVP_MD_CTX_new(), EVP_MD_CTX_free) {
    require(context_ && EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) == 1, Failure::runtime, "SHA-256 is not available");
  }
  void add(std::string_view bytes) { EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()); }
  std::string hexadecimal() {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int size = 0;
    EVP_DigestFinal_ex(context_.get(), digest, &size);
    std::string out;
    for (unsigned int i = 0; i < size; ++i) {
      out += "0123456789abcdef"[digest[i] >> 4];
      out += "0123456789abcdef"[digest[i] & 15];
    }
    return out;
  }

 private:
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context_;
};

}  // namespace

std::string read_file(const std::string& file) {
  std::string out;
  each_piece(file, [&](std::string_view piece) { out += piece; });
  return out;
}

void write_file_with(const std::string& file, const std::function<void(const std::string& temporary)>& writer) {
  static std::atomic<int> count{0};
  const fs::path target(file), folder = target.has_parent_path() ? target.parent_path() : fs::path(".");
  std::error_code none;
  require(fs::is_directory(folder, none), Failure::runtime, file, ": cannot be written: found no folder ", folder.string(),
          "; make it, or name another place");
  require(target.has_filename() && (!fs::exists(target, none) || fs::is_regular_file(target, none)), Failure::runtime, file,
          ": cannot be written: expected a file's name, found a folder or a device");

  // The temporary name keeps the extension, by which some libraries choose the format.
  const std::string temporary =
      (folder / text(".", target.stem().string(), ".part-", ::getpid(), "-", count++, target.extension().string())).string();
  try {
    writer(temporary);
    keep(temporary, O_RDONLY);
    require(::rename(temporary.c_str(), file.c_str()) == 0, Failure::runtime, "cannot be renamed into place (", std::strerror(errno), ")");
  } catch (const std::exception& e) {
    ::unlink(temporary.c_str());
    const auto* ours = dynamic_cast<const Error*>(&e);
    if (ours && ours->kind() != Failure::runtime) throw;
    fail(Failure::runtime, file, ": ", e.what(), "; nothing was changed: look for space and permission in ", folder.string());
  }
  keep(folder.string(), O_RDONLY | O_DIRECTORY);
}

void write_file(const std::string& file, std::string_view bytes) {
  write_file_with(file, [&](const std::string& temporary) { write_plainly(temporary, bytes); });
}

std::string sha256(std::string_view bytes) {
  Sha256 sum;
  sum.add(bytes);
  return sum.hexadecimal();
}

std::string sha256_of_file(const std::string& file) {
  Sha256 sum;
  each_piece(file, [&](std::string_view piece) { sum.add(piece); });
  return sum.hexadecimal();
}

}  // namespace evoke
