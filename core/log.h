// What a person is told on stderr, and whether the person has asked the program to stop.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace evoke {

enum class Verbosity { quiet, normal, verbose };
void set_verbosity(Verbosity);
Verbosity verbosity();

/// A line on stderr; `detail` only with -v. Nothing of them with -q except warnings.
void say(std::string_view line);
void detail(std::string_view line);
void warn(std::string_view line);
/// As warn, but the same line is said only once in a process.
void warn_once(const std::string& line);

/// Progress on stderr: a bar with rate and time left on a terminal; elsewhere a line with the size when it begins, one with rate and time
/// left after a second, and then one about every ten seconds; nothing when quiet.
class Progress {
 public:
  /// unit: what is counted ("step", "image").
  Progress(std::string title, int64_t total, std::string unit);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  /// `done` so far; `note` is shown at the end of the line ("loss 0.0021").
  void at(int64_t done, std::string_view note = {});

 private:
  void draw(bool last);
  std::string title_, unit_, note_;
  int64_t total_, done_ = 0, first_ = -1;  // first_: where the first call stood, so that a resumed run's rate is its own
  double begun_, drawn_ = 0;
  bool terminal_, shown_ = false, timed_ = false;  // shown_: a line was drawn; timed_: one with a rate
};

/// From here on SIGINT, SIGTERM and SIGHUP (unless it was ignored, as under nohup) set interrupted() instead of ending the process; a
/// second one ends it at once. A file that grows beyond `ulimit -f` no longer ends it either: writing it fails.
void catch_interrupts();
bool interrupted();

/// Seconds on a steady clock.
double seconds();

}  // namespace evoke
