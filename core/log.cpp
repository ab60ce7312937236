#include "core/log.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <set>

#include "core/error.h"

namespace evoke {

namespace {

Verbosity chosen = Verbosity::normal;
std::mutex guard;      // stderr has one line at a time
std::string bar_line;  // the bar on the terminal's last line, to be drawn again below a message

void line_out(std::string_view line) {
  const std::scoped_lock lock(guard);
  if (!bar_line.empty()) std::fputs("\r\033[K", stderr);
  std::fputs(text(line, "\n").c_str(), stderr);
  if (!bar_line.empty()) std::fputs(bar_line.c_str(), stderr);
  std::fflush(stderr);
}

std::string duration(double seconds) {
  const auto whole = static_cast<int64_t>(std::ceil(seconds));
  if (whole < 60) return text(whole, " s");
  const auto two = [](int64_t n) { return (n < 10 ? "0" : "") + std::to_string(n); };
  if (whole < 3600) return text(whole / 60, ":", two(whole % 60), " min");
  return text(whole / 3600, ":", two(whole / 60 % 60), " h");
}

std::string three_digits(double value) {
  char buffer[32];
  std::snprintf(buffer, sizeof(buffer), value >= 100 ? "%.0f" : value >= 10 ? "%.1f" : "%.2f", value);
  return buffer;
}

std::string plural(const std::string& unit) {
  return unit + (unit.ends_with("ch") || unit.ends_with("x") || unit.ends_with("s") ? "es" : "s");
}

size_t terminal_width() {
  winsize size{};
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

// Columns on the screen: bytes that do not continue a UTF-8 character.
size_t columns(const std::string& line) {
  return static_cast<size_t>(std::count_if(line.begin(), line.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

volatile std::sig_atomic_t stop_asked = 0;
void on_signal(int number) {
  if (stop_asked) {  // asked twice: go at once
    std::signal(number, SIG_DFL);
    std::raise(number);
  }
  stop_asked = 1;
}

}  // namespace

void set_verbosity(Verbosity verbosity) { chosen = verbosity; }
Verbosity verbosity() { return chosen; }

void say(std::string_view line) {
  if (chosen != Verbosity::quiet) line_out(line);
}
void detail(std::string_view line) {
  if (chosen == Verbosity::verbose) line_out(line);
}
void warn(std::string_view line) { line_out(text("warning: ", line)); }
void warn_once(const std::string& line) {
  static std::mutex once;
  static std::set<std::string> said;
  {
    const std::scoped_lock lock(once);
    if (!said.insert(line).second) return;
  }
  warn(line);
}

Progress::Progress(std::string title, int64_t total, std::string unit)
    : title_(std::move(title)), unit_(std::move(unit)), total_(total), begun_(seconds()), drawn_(begun_) {
  const char* kind = std::getenv("TERM");
  terminal_ = isatty(STDERR_FILENO) && kind && std::string_view(kind) != "dumb";
  if (!terminal_) say(text(title_, ": ", total_, " ", total_ == 1 ? unit_ : plural(unit_)));
}

Progress::~Progress() {
  if (shown_) draw(true);
}

void Progress::at(int64_t done, std::string_view note) {
  const double now = seconds();
  if (first_ < 0) {
    first_ = done;
    begun_ = now;
  }
  done_ = done;
  note_ = note;
  const double pause = terminal_ ? 0.1 : timed_ ? 10.0 : 1.0;
  if (chosen == Verbosity::quiet || now - drawn_ < pause) return;
  drawn_ = now;
  timed_ = done_ > first_;
  draw(false);
}

void Progress::draw(bool last) {
  shown_ = true;
  const double elapsed = seconds() - begun_, rate = elapsed > 0 ? static_cast<double>(done_ - first_) / elapsed : 0;
  const double done = total_ > 0 ? std::clamp(static_cast<double>(done_) / static_cast<double>(total_), 0.0, 1.0) : 1;
  std::string facts = text(done_, "/", total_, " ", plural(unit_));
  if (rate > 0) facts += text(", ", three_digits(rate), " ", plural(unit_), "/s");
  if (last)
    facts += ", took " + duration(elapsed);
  else if (rate > 0)
    facts += ", " + duration(static_cast<double>(total_ - done_) / rate) + " left";
  if (!note_.empty()) facts += ", " + note_;

  if (!terminal_) {
    line_out(text(title_, ": ", static_cast<int>(100 * done), " %, ", facts));
    return;
  }
  // The bar takes what the words leave, in eighths of a column.
  const size_t width = terminal_width(), words = columns(title_) + columns(facts) + 12;
  std::string bar;
  if (width > words + 4) {
    const size_t cells = std::min<size_t>(width - words, 32);
    const auto eighths = static_cast<size_t>(std::lround(done * 8.0 * static_cast<double>(cells)));
    static const char* const parts[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
    for (size_t i = 0; i < eighths / 8; ++i) bar += "█";
    bar += parts[eighths % 8];
    bar += std::string(cells - eighths / 8 - (eighths % 8 > 0), ' ');
    bar = "▕" + bar + "▏";
  }
  std::string line = text(title_, " ", bar, " ", static_cast<int>(100 * done), " % ", facts);
  while (columns(line) >= width) {  // cut whole characters
    while (!line.empty() && (line.back() & 0xc0) == 0x80) line.pop_back();
    line.pop_back();
  }

  const std::scoped_lock lock(guard);
  bar_line = last ? "" : line;
  std::fputs(("\r\033[K" + line + (last ? "\n" : "")).c_str(), stderr);
  std::fflush(stderr);
}

void catch_interrupts() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  struct sigaction before {};
  sigaction(SIGHUP, nullptr, &before);
  if (before.sa_handler != SIG_IGN) sigaction(SIGHUP, &action, nullptr);
  std::signal(SIGXFSZ, SIG_IGN);
}

bool interrupted() { return stop_asked != 0; }

double seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

}  // namespace evoke
