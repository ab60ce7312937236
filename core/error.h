// The one error type, and the checks that throw it.
#pragma once
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace evoke {

/// What went wrong, as the program's exit code (0 is success, 130 interrupted after saving).
enum class Failure { runtime = 1, usage = 2, input = 3, device = 4 };

/// One sentence: where, what was found, what was expected, what to do.
class Error : public std::runtime_error {
 public:
  Error(Failure kind, const std::string& sentence) : std::runtime_error(sentence), kind_(kind) {}
  Failure kind() const { return kind_; }
  int exit_code() const { return static_cast<int>(kind_); }

 private:
  Failure kind_;
};

/// Joins its arguments into one string, as `<<` would print them.
template <class... Parts>
std::string text(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

/// Throws an Error of the given kind.
template <class... Parts>
[[noreturn]] void fail(Failure kind, const Parts&... parts) {
  throw Error(kind, text(parts...));
}

/// Throws an Error of the given kind unless `ok`. The sentence is put together only when it is needed.
template <class... Parts>
void require(bool ok, Failure kind, const Parts&... parts) {
  if (!ok) [[unlikely]]
    fail(kind, parts...);
}

/// The candidate closest to `word` by edit distance, capital letters or not; else the shortest that holds every word of it ("rainbow
/// triangle": "rainbow double triangle"); empty when there is none.
std::string nearest(std::string_view word, const std::vector<std::string>& candidates);

/// " (did you mean 'x'?)", or nothing; and the list of what exists: "; expected one of a, b, c".
std::string did_you_mean(std::string_view word, const std::vector<std::string>& candidates);

/// "a, b, c", at most `most` of them, then "… (N in all)".
std::string list_of(const std::vector<std::string>& words, size_t most = 20);

/// A sentence that came from a file or a library as one line of at most 1,000 bytes: without control characters, the stack that LibTorch
/// appends to it, and the place in LibTorch's source that it puts before it.
std::string one_line(std::string sentence);

}  // namespace evoke
