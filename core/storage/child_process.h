#pragma once

#include <functional>

namespace evoke {

// How an action ended that was run in a process of its own.
enum class Ending { well, crashed, endless };

// Runs the action in a forked child and waits for it: for calls into libraries that may crash, or go round in a circle, on damaged input.
// Nothing that the child does or prints reaches this process: its stdout and stderr are closed to it (a C library that finds its heap
// damaged writes a line of its own before it aborts), and so is its memory. `endless`: it used more than the seconds of processor time.
// An exception that leaves the action counts as a crash. Throws Error(runtime) where no process can be begun.
Ending run_in_child(const std::function<void()>& act, int seconds);

}  // namespace evoke
