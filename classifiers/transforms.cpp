#include "classifiers/transforms.h"

#include <ATen/ATen.h>

#include <cmath>
#include <numbers>

#include "core/error.h"
#include "core/numbers/filters.h"

namespace evoke {

namespace {

// [N] numbers in [low, high]: any, or one of `values` evenly spaced ones with both ends among them.
Tensor between(Stream& stream, double low, double high, int64_t values) {
  const Tensor u = stream.uniform({});
  if (values == 0) return u * (high - low) + low;
  const double step = values == 1 ? 0.0 : (high - low) / static_cast<double>(values - 1);
  return at::floor(u * static_cast<double>(values)) * step + low;
}

// A map of the plane for each row, the identity to begin with.
Tensor identity(const Tensor& like) { return at::eye(3, like.options()).expand({like.size(0), 3, 3}).clone(); }
Tensor entry(const Tensor& maps, int64_t row, int64_t column) { return maps.select(1, row).select(1, column); }

// The maps that turn pictures clockwise by these degrees [N]: rows run downwards, so from new to old it is (cos, sin; -sin, cos).
Tensor turned(const Tensor& degrees) {
  const Tensor angle = degrees * (std::numbers::pi / 180.0);
  Tensor maps = identity(angle);
  const Tensor c = at::cos(angle), s = at::sin(angle);
  entry(maps, 0, 0).copy_(c);
  entry(maps, 0, 1).copy_(s);
  entry(maps, 1, 0).copy_(-s);
  entry(maps, 1, 1).copy_(c);
  return maps;
}

void require_between(const char* where, double low, double high, double least) {
  require(low <= high && low >= least, Failure::input, where, ": found the range ", low, " to ", high, ", expected ", least,
          " or more, low end first");
}

}  // namespace

Placement jitter_placement(int64_t pixels) {
  require(pixels >= 0, Failure::input, "jitter: found ", pixels, " pixels, expected 0 or more");
  return [pixels](Stream& stream, int64_t, int64_t) {
    const Tensor move = at::floor(stream.uniform({2}) * static_cast<double>(pixels + 1)) - static_cast<double>(pixels / 2);
    Tensor maps = identity(move);
    entry(maps, 0, 2).copy_(-move.select(1, 0));
    entry(maps, 1, 2).copy_(-move.select(1, 1));
    return maps;
  };
}

Placement scale_placement(double low, double high, int64_t values) {
  require_between("scale", low, high, 1e-3);
  return [=](Stream& stream, int64_t, int64_t) {
    const Tensor shrink = at::reciprocal(between(stream, low, high, values));
    Tensor maps = identity(shrink);
    entry(maps, 0, 0).copy_(shrink);
    entry(maps, 1, 1).copy_(shrink);
    return maps;
  };
}

Placement rotate_placement(double low, double high, int64_t values) {
  require_between("rotate", low, high, -1e6);
  return [=](Stream& stream, int64_t, int64_t) { return turned(between(stream, low, high, values)); };
}

Placement flip_placement() {
  return [](Stream& stream, int64_t, int64_t) {
    const Tensor side = at::floor(stream.uniform({}) * 2.0) * 2.0 - 1.0;
    Tensor maps = identity(side);
    entry(maps, 0, 0).copy_(side);
    return maps;
  };
}

Placement crop_placement(double low, double high) { return shrinking_crop_placement({low, high}, {low, high}, 1); }

Placement shrinking_crop_placement(CropSides first, CropSides last, int64_t steps) {
  for (const CropSides& sides : {first, last}) {
    require_between("crop", sides.low, sides.high, 1e-3);
    require(sides.high <= 1.0, Failure::input, "crop: found a share up to ", sides.high, ", expected at most 1, the whole image");
  }
  const bool moves = first.low != last.low || first.high != last.high;
  return [=](Stream& stream, int64_t height, int64_t width) {
    Tensor side;
    if (moves) {
      const Tensor way = (stream.step_tensor().to(at::kFloat) / static_cast<double>(std::max<int64_t>(steps - 1, 1))).clamp(0.0, 1.0);
      const Tensor low = first.low + (last.low - first.low) * way, high = first.high + (last.high - first.high) * way;
      side = low + (high - low) * stream.uniform({});
    } else {
      side = between(stream, first.low, first.high, 0);
    }
    // The window's middle lies within half of what the window leaves free.
    const Tensor middle = (stream.uniform({2}) - 0.5) * (1.0 - side).unsqueeze(1);
    Tensor maps = identity(side);
    entry(maps, 0, 0).copy_(side);
    entry(maps, 1, 1).copy_(side);
    entry(maps, 0, 2).copy_(middle.select(1, 0) * static_cast<double>(width));
    entry(maps, 1, 2).copy_(middle.select(1, 1) * static_cast<double>(height));
    return maps;
  };
}

Transform resample(std::vector<Placement> placements, Ground ground) {
  require(!placements.empty(), Failure::runtime, "resample: found no placement, expected one or more");
  return [placements, ground](const Tensor& x, Stream& stream) {
    const int64_t height = x.size(2), width = x.size(3);
    require(stream.rows() == x.size(0), Failure::runtime, "resample: found ", x.size(0), " images and a stream of ", stream.rows(),
            " rows");

    // New to old is the product of the placements' own, the first outermost: old = P1 · P2 · … · new.
    Tensor maps = placements.front()(stream, height, width);
    for (size_t i = 1; i < placements.size(); ++i) maps = at::matmul(maps, placements[i](stream, height, width));

    // From pixels about the middle to the sampler's own -1 … 1, edge to edge.
    Tensor theta = maps.slice(1, 0, 2).to(x.scalar_type()).clone();
    theta.select(1, 0).mul_(1.0 / static_cast<double>(width));
    theta.select(1, 1).mul_(1.0 / static_cast<double>(height));
    theta.select(2, 0).mul_(static_cast<double>(width));
    theta.select(2, 1).mul_(static_cast<double>(height));
    theta.select(2, 2).mul_(2.0);
    const Tensor grid = at::affine_grid_generator(theta, {x.size(0), x.size(1), height, width}, false);

    // Bilinear; the sampler knows zeros outside, so a ground of another value is subtracted first and added after.
    if (!ground) return at::grid_sampler_2d(x, grid, 0, 1, false);
    if (*ground == 0.0) return at::grid_sampler_2d(x, grid, 0, 0, false);
    return at::grid_sampler_2d(x - *ground, grid, 0, 0, false) + *ground;
  };
}

Transform jitter(int64_t pixels, Ground ground) { return resample({jitter_placement(pixels)}, ground); }
Transform scale(double low, double high, int64_t values, Ground ground) { return resample({scale_placement(low, high, values)}, ground); }
Transform rotate(double low, double high, int64_t values, Ground ground) { return resample({rotate_placement(low, high, values)}, ground); }
Transform flip() { return resample({flip_placement()}, std::nullopt); }
Transform crop(double low, double high) { return resample({crop_placement(low, high)}, std::nullopt); }

Transform noise(double deviation) {
  require(deviation >= 0, Failure::input, "noise: found a deviation of ", deviation, ", expected 0 or more");
  return [=](const Tensor& x, Stream& stream) { return x + stream.normal(x.sizes().slice(1)) * deviation; };
}

Transform gaussian_blur(double deviation) {
  require(deviation > 0, Failure::input, "gaussian blur: found a deviation of ", deviation, " pixels, expected more than 0");
  return [=](const Tensor& x, Stream&) { return gaussian_blurred(x, deviation, Border::repeated); };
}

Transform compose(std::vector<Transform> transforms) {
  std::erase_if(transforms, [](const Transform& transform) { return !transform; });
  if (transforms.empty()) return {};
  if (transforms.size() == 1) return transforms.front();
  return [transforms](const Tensor& x, Stream& stream) {
    Tensor out = x;
    for (const Transform& transform : transforms) out = transform(out, stream);
    return out;
  };
}

Transform lucid_transform() {
  const Placement rotation = [](Stream& stream, int64_t, int64_t) {
    const Tensor which = at::floor(stream.uniform({}) * 26.0);
    return turned(at::where(which < 21, which - 10, 0.0));
  };
  return resample({jitter_placement(8), scale_placement(0.9, 1.1, 11), rotation, jitter_placement(4)}, grey);
}

Transform shapes_transform() { return resample({jitter_placement(20), rotate_placement(0, 360)}, black); }

}  // namespace evoke
