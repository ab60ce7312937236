#include "training/examples.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>

namespace evoke {

Examples examples_of(const Tensor& values, const Tensor& labels, at::Device device) {
  Examples out;
  out.count = values.size(0);
  out.size = values.numel() / std::max<int64_t>(1, values.size(0));
  const Tensor held = values.to(device);
  out.read = [held](const Tensor& rows) {
    const Tensor chosen = held.index_select(0, rows.to(held.device()));
    return held.scalar_type() == at::kByte ? as_images(chosen) : chosen;
  };
  if (labels.defined()) out.labels = [all = labels.to(device)](const Tensor& rows) { return all.index_select(0, rows.to(all.device())); };
  return out;
}

Tensor as_images(const Tensor& bytes) { return bytes.permute({0, 3, 1, 2}).to(at::kFloat).mul_(1.0 / 255.0); }

Tensor evenly_spaced(int64_t count, int64_t most) {
  return count <= most ? at::arange(count, at::kLong) : at::arange(most, at::kLong).mul(count).div(most, "floor");
}

void each_batch(const Examples& of, const std::function<void(const Tensor& rows)>& f) {
  const c10::NoGradGuard no_gradient;
  const int64_t together = std::clamp<int64_t>((int64_t{1} << 21) / std::max<int64_t>(1, of.size), 1, 256);
  for (int64_t first = 0; first < of.count; first += together) f(at::arange(first, std::min(first + together, of.count), at::kLong));
}

double mean_over(const Examples& of, const std::function<Tensor(const Tensor& rows)>& f) {
  double sum = 0;
  each_batch(of, [&](const Tensor& rows) { sum += f(rows).to(at::kDouble).sum().item<double>(); });
  return sum / static_cast<double>(of.count);
}

}  // namespace evoke
