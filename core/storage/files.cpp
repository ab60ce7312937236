#include "core/storage/files.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>
#include <vector>

#include "core/error.h"
#include "core/log.h"

namespace evoke {

namespace {

namespace fs = std::filesystem;

constexpr const char* lock_name = ".lock";

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

// A failed call leaves its reason in errno, which the next call may overwrite: the result is looked at first, the reason read right after.

// Hands the bytes of a file to `take`, a piece at a time.
void each_piece(const std::string& file, const std::function<void(std::string_view)>& take) {
  const Descriptor in(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  if (in.number < 0) fail(Failure::input, file, ": cannot be read (", std::strerror(errno), "); expected a file there");
  struct stat facts {};
  require(::fstat(in.number, &facts) == 0 && !S_ISDIR(facts.st_mode), Failure::input, file, ": found a folder, expected a file");
  std::string piece(1 << 20, '\0');
  for (;;) {
    const ssize_t got = ::read(in.number, piece.data(), piece.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail(Failure::input, file, ": cannot be read (", std::strerror(errno), ")");
    if (got == 0) return;
    take(std::string_view(piece).substr(0, static_cast<size_t>(got)));
  }
}

void write_all(int number, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t put = ::write(number, bytes.data(), bytes.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) fail(Failure::runtime, "cannot be written (", std::strerror(errno), ")");
    bytes.remove_prefix(static_cast<size_t>(put));
  }
}

void write_plainly(const std::string& file, std::string_view bytes) {
  const Descriptor out(::open(file.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  if (out.number < 0) fail(Failure::runtime, "cannot be made (", std::strerror(errno), ")");
  write_all(out.number, bytes);
}

// Has the disk keep a file, or a folder's list of names.
void keep(const std::string& path, int flags) {
  const Descriptor opened(::open(path.c_str(), flags | O_CLOEXEC));
  if (opened.number < 0 || (::fsync(opened.number) != 0 && errno != EINVAL))
    fail(Failure::runtime, "cannot be kept on disk (", std::strerror(errno), ")");
}

// A temporary file of `target` is called .STEM.part-PROCESS-COUNT.EXTENSION: hidden, and with the extension, by which some libraries
// choose the format.
constexpr std::string_view part_mark = ".part-";
bool is_part(const std::string& name) { return name.starts_with(".") && name.find(part_mark) != std::string::npos; }
bool is_part_of(const std::string& name, const fs::path& target) {
  return name.starts_with("." + target.stem().string() + std::string(part_mark)) && name.ends_with(target.extension().string());
}

fs::path folder_of(const fs::path& file) { return file.has_parent_path() ? file.parent_path() : fs::path("."); }

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
  const fs::path target(file), folder = folder_of(target);
  std::error_code none;
  require(fs::is_directory(folder, none), Failure::runtime, file, ": cannot be written: found no folder ", folder.string(),
          "; make it, or name another place");
  require(target.has_filename() && (!fs::exists(target, none) || fs::is_regular_file(target, none)), Failure::runtime, file,
          ": cannot be written: expected a file's name, found a folder or a device");

  const std::string temporary =
      (folder / text(".", target.stem().string(), part_mark, ::getpid(), "-", count++, target.extension().string())).string();
  try {
    writer(temporary);
    keep(temporary, O_RDONLY);
    if (::rename(temporary.c_str(), file.c_str()) != 0) fail(Failure::runtime, "cannot be renamed into place (", std::strerror(errno), ")");
  } catch (const std::exception& e) {
    ::unlink(temporary.c_str());
    const auto* ours = dynamic_cast<const Error*>(&e);
    if (ours && ours->kind() != Failure::runtime) throw;
    std::string reason = e.what();  // without the temporary name, which means nothing to a person
    if (reason.starts_with(temporary + ": ")) reason.erase(0, temporary.size() + 2);
    fail(Failure::runtime, file, ": ", reason, "; nothing was changed: look for space and permission in ", folder.string());
  }
  keep(folder.string(), O_RDONLY | O_DIRECTORY);
}

void write_file(const std::string& file, std::string_view bytes) {
  write_file_with(file, [&](const std::string& temporary) { write_plainly(temporary, bytes); });
}

void append_line(const std::string& file, std::string_view line) {
  const Descriptor out(::open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666));
  if (out.number < 0) fail(Failure::runtime, file, ": cannot be opened (", std::strerror(errno), ")");
  try {
    write_all(out.number, text(line, "\n"));
  } catch (const Error& e) {
    fail(Failure::runtime, file, ": ", e.what());
  }
  if (::fsync(out.number) != 0) fail(Failure::runtime, file, ": cannot be kept on disk (", std::strerror(errno), ")");
}

// ---- Sole use --------------------------------------------------------------------------------------------------------------------------

Lock::Lock(const std::string& lock_file, const std::string& what) : file_(lock_file) {
  for (;;) {
    number_ = ::open(file_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (number_ < 0) fail(Failure::runtime, what, ": ", file_, " cannot be made (", std::strerror(errno), ")");
    if (::flock(number_, LOCK_EX | LOCK_NB) != 0) {
      const int reason = errno;
      char holder[32] = {};
      const bool named = ::pread(number_, holder, sizeof(holder) - 1, 0) > 0;
      release();
      require(reason != EWOULDBLOCK, Failure::usage, what, ": another process", named ? text(" (", holder, ")") : "",
              " is at work there; wait for it, or name another place with --out");
      warn_once(text(what, ": this file system knows no locks (", std::strerror(reason), "); do not start the same work twice at a time"));
      return;
    }
    // Whoever held it before may have removed the file between the two calls: then this lock guards nothing that others can see.
    struct stat held {
    }, seen{};
    if (::fstat(number_, &held) == 0 && ::stat(file_.c_str(), &seen) == 0 && held.st_ino == seen.st_ino && held.st_dev == seen.st_dev)
      break;
    release();
  }
  held_ = true;
  // The number is for the other's sentence alone, which goes without it where it cannot be written.
  const std::string mine = std::to_string(::getpid());
  [[maybe_unused]] const bool named = ::ftruncate(number_, 0) == 0 && ::pwrite(number_, mine.data(), mine.size(), 0) > 0;
}

Lock::Lock(Lock&& other) noexcept
    : file_(std::move(other.file_)), number_(std::exchange(other.number_, -1)), held_(std::exchange(other.held_, false)) {}

Lock& Lock::operator=(Lock&& other) noexcept {
  if (this != &other) {
    release();
    file_ = std::move(other.file_);
    number_ = std::exchange(other.number_, -1);
    held_ = std::exchange(other.held_, false);
  }
  return *this;
}

void Lock::release() {
  if (std::exchange(held_, false)) ::unlink(file_.c_str());
  if (const int number = std::exchange(number_, -1); number >= 0) ::close(number);
}

Lock claim_file(const std::string& file) {
  const fs::path target(file), folder = folder_of(target);
  std::error_code none;
  require(fs::is_directory(folder, none), Failure::runtime, file, ": cannot be written: found no folder ", folder.string(),
          "; make it, or name another place");
  Lock lock((folder / text(".", target.filename().string(), ".lock")).string(), file);
  std::vector<fs::path> stale;
  for (const auto& entry : fs::directory_iterator(folder, none))
    if (is_part_of(entry.path().filename().string(), target)) stale.push_back(entry.path());
  for (const fs::path& part : stale) fs::remove(part, none);
  return lock;
}

Lock claim_folder(const std::string& folder) {
  Lock lock((fs::path(folder) / lock_name).string(), folder);
  std::error_code none;
  std::vector<fs::path> places{folder}, stale;
  for (const auto& entry : fs::directory_iterator(folder, none))
    if (entry.is_directory(none) && !fs::exists(entry.path() / lock_name, none)) places.push_back(entry.path());
  for (const fs::path& place : places)
    for (const auto& entry : fs::directory_iterator(place, none))
      if (is_part(entry.path().filename().string())) stale.push_back(entry.path());
  for (const fs::path& part : stale) fs::remove(part, none);
  return lock;
}

bool is_working_file(const std::string& name) { return name == lock_name || is_part(name); }

// ---- SHA-256 ---------------------------------------------------------------------------------------------------------------------------

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

std::string sha256_of_folder(const std::string& folder) {
  std::vector<std::string> files;
  std::error_code trouble;
  for (auto entry = fs::recursive_directory_iterator(folder, trouble); entry != fs::recursive_directory_iterator();
       entry.increment(trouble)) {
    const bool hidden = entry->path().filename().string().front() == '.';
    if (entry->is_directory()) {
      if (hidden) entry.disable_recursion_pending();
    } else if (!hidden && entry->is_regular_file()) {
      files.push_back(entry->path().string());
    }
  }
  if (trouble) fail(Failure::input, folder, ": cannot be read (", trouble.message(), "); expected a folder of files");
  std::sort(files.begin(), files.end());
  Sha256 sum;
  for (const std::string& file : files) sum.add(text(sha256_of_file(file), " ", file.substr(folder.size()), "\n"));
  return sum.hexadecimal();
}

}  // namespace evoke
