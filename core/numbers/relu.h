// Rectifiers whose gradient can be redirected: what a network's ReLUs are while a run looks for its way out of a place where nothing is
// active.
#pragma once
#include <limits>

#include "core/numbers/tensor.h"

namespace evoke {

/// clamp(x, low, high), x [N,…]: ReLU, with low 0 and high ∞. Within a RedirectedReluScope its slope is (Olah, Mordvintsev & Schubert 2017;
/// Lucid's redirected_relu), g being the slope of what is maximized:
///
///     in rows where low < x < high leaves any of g: g there, 0 elsewhere, as ever;
///     in rows where it leaves nothing: g, but 0 where x ≤ low and g < 0, or x ≥ high and g > 0: where it would push x further out.
///
/// So a unit that is off for an image, and whose gradient would end here, pulls the image towards where it is on.
Tensor rectified(const Tensor& x, double low = 0, double high = std::numeric_limits<double>::infinity());

/// While it lives and `on`, rectified has the redirected slope, on this thread. Slopes are those of the time when x went through.
class RedirectedReluScope {
 public:
  explicit RedirectedReluScope(bool on);
  ~RedirectedReluScope();
  RedirectedReluScope(const RedirectedReluScope&) = delete;
  RedirectedReluScope& operator=(const RedirectedReluScope&) = delete;

 private:
  bool before_;
};
bool relus_are_redirected();

}  // namespace evoke
