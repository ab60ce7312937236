#include "training/examples.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>

#include "core/error.h"

namespace evoke {

Tensor augmented(const Tensor& images, const Augmentation& how, Stream& stream) {
  if (how.crop == 0 && how.shift == 0 && !how.flip) return images;
  const int64_t height = images.size(2), width = images.size(3);
  const int64_t rows = how.crop > 0 ? how.crop : height, columns = how.crop > 0 ? how.crop : width;
  require(rows <= height && columns <= width, Failure::input, "[training] crop: found ", how.crop, " px, expected at most the images' ",
          std::min(height, width));
  require(how.shift < height && how.shift < width, Failure::input, "[training] shift: found ", how.shift,
          " px, expected less than the images' ", std::min(height, width));

  // Where each window lies among those that fit, and whether it is mirrored.
  const Tensor from = how.shift > 0 ? at::reflection_pad2d(images, {how.shift, how.shift, how.shift, how.shift}) : images;
  const Tensor uniform = stream.uniform({3}).cpu();
  std::vector<Tensor> out;
  for (int64_t i = 0; i < images.size(0); ++i) {
    const auto within = [&](int64_t which, int64_t places) {
      return std::min(places - 1, static_cast<int64_t>(uniform[i][which].item<double>() * static_cast<double>(places)));
    };
    const int64_t y = within(0, from.size(2) - rows + 1), x = within(1, from.size(3) - columns + 1);
    const Tensor window = from[i].narrow(1, y, rows).narrow(2, x, columns);
    out.push_back(how.flip && uniform[i][2].item<double>() < 0.5 ? window.flip({2}) : window);
  }
  return at::stack(out).contiguous(at::MemoryFormat::ChannelsLast);
}

int64_t visits(const Augmentation& how, int64_t count) { return how.epoch_images > 0 && count > 0 ? how.epoch_images : count; }

Order in_epochs(const Order& order, int64_t count, int64_t visits) {
  if (visits == count) return order;
  return [order, count, visits](uint64_t seed, int64_t epoch) {
    const int64_t first = epoch * visits, end = first + visits, first_pass = first / count;
    std::vector<Tensor> passes;
    for (int64_t pass = first_pass; pass * count < end; ++pass)
      passes.push_back(order ? order(seed, pass) : Stream::range(seed, 0, 1, at::kCPU, pass).uniform({count}).squeeze(0).argsort(true));
    return at::cat(passes).slice(0, first - first_pass * count, end - first_pass * count);
  };
}

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
