#include "core/numbers/filters.h"

#include <ATen/ATen.h>

#include <cmath>

#include "core/error.h"

namespace evoke {

namespace {

const std::vector<int64_t> one{1, 1}, none{0, 0};

// A kernel [1,1,h,w] for each of the image's channels.
Tensor for_channels(const Tensor& kernel, const Tensor& image) {
  return kernel.expand({image.size(1), 1, kernel.size(2), kernel.size(3)}).contiguous();
}

// The part of an image whose pixels have a neighbour `down` rows below and `right` columns to the right, and those neighbours.
std::pair<Tensor, Tensor> neighbours(const Tensor& image, int64_t down, int64_t right) {
  const auto cut = [&](const Tensor& t, int64_t dimension, int64_t shift) {
    const int64_t size = std::max<int64_t>(t.size(dimension) - std::abs(shift), 0);
    return std::pair{t.narrow(dimension, std::min(std::max<int64_t>(-shift, 0), t.size(dimension)), size),
                     t.narrow(dimension, std::min(std::max<int64_t>(shift, 0), t.size(dimension)), size)};
  };
  const auto [here, there] = cut(image, 2, down);
  return {cut(here, 3, right).first, cut(there, 3, right).second};
}

}  // namespace

Tensor gaussian_blurred(const Tensor& image, double deviation, Border border) {
  // A row's and a column's kernel in turn.
  const auto reach = static_cast<int64_t>(std::ceil(4.0 * deviation));
  const int64_t channels = image.size(1);
  Tensor kernel = at::arange(-reach, reach + 1, image.options());
  kernel = at::exp(kernel.square() * (-0.5 / (deviation * deviation)));
  kernel = kernel / kernel.sum();
  const Tensor across = kernel.view({1, 1, 1, -1}).expand({channels, 1, 1, -1});
  const Tensor down = kernel.view({1, 1, -1, 1}).expand({channels, 1, -1, 1});
  const std::vector<int64_t> wide{0, reach}, tall{reach, 0};
  if (border == Border::zeros)
    return at::conv2d(at::conv2d(image, across, {}, one, wide, one, channels), down, {}, one, tall, one, channels);
  const Tensor padded = at::replication_pad2d(image, {reach, reach, reach, reach});
  return at::conv2d(at::conv2d(padded, across, {}, one, none, one, channels), down, {}, one, none, one, channels);
}

Tensor bilateral_filtered(const Tensor& image, double deviation, double colour) {
  const auto reach = static_cast<int64_t>(std::ceil(2.0 * deviation));
  Tensor sum, weight;
  for (int64_t down = -reach; down <= reach; ++down)
    for (int64_t right = -reach; right <= reach; ++right) {
      const auto [here, there] = neighbours(image, down, right);
      if (here.numel() == 0) continue;
      const double near = -0.5 * static_cast<double>(down * down + right * right) / (deviation * deviation);
      const Tensor alike = ((here - there).square().sum(1, true) * (-0.5 / (colour * colour)) + near).exp();

      // Back to the whole image: zeros where the neighbour would lie outside.
      const std::vector<int64_t> rest{std::max<int64_t>(-right, 0), std::max<int64_t>(right, 0), std::max<int64_t>(-down, 0),
                                      std::max<int64_t>(down, 0)};
      const Tensor part = at::constant_pad_nd(alike * there, rest), own = at::constant_pad_nd(alike, rest);
      sum = sum.defined() ? sum + part : part;
      weight = weight.defined() ? weight + own : own;
    }
  return sum / weight;
}

Tensor total_variation_proximal(const Tensor& image, double weight, int64_t iterations) {
  if (weight == 0) return image;
  // Differences to the next row and column, 0 in the last; and minus their transpose.
  const auto slope = [](const Tensor& u, int64_t dimension) {
    const std::vector<int64_t> last = dimension == 2 ? std::vector<int64_t>{0, 0, 0, 1} : std::vector<int64_t>{0, 1, 0, 0};
    return at::constant_pad_nd(u.diff(1, dimension), last);
  };
  const auto divergence = [](const Tensor& p, int64_t dimension) {
    // The last row of p is always 0.
    const std::vector<int64_t> first = dimension == 2 ? std::vector<int64_t>{0, 0, 1, 0} : std::vector<int64_t>{1, 0, 0, 0};
    return p - at::constant_pad_nd(p.narrow(dimension, 0, p.size(dimension) - 1), first);
  };
  constexpr double step = 0.25;
  Tensor down = at::zeros_like(image), right = at::zeros_like(image);
  for (int64_t i = 0; i < iterations; ++i) {
    const Tensor rest = divergence(down, 2) + divergence(right, 3) - image / weight;
    const Tensor y = slope(rest, 2), x = slope(rest, 3), scale = 1 + step * (y.square() + x.square()).sqrt();
    down = (down + step * y) / scale;
    right = (right + step * x) / scale;
  }
  return image - weight * (divergence(down, 2) + divergence(right, 3));
}

Tensor nearest_colours(const Tensor& image, const Tensor& colours) {
  const Tensor own = colours.to(image.options());
  const Tensor pixels = image.permute({0, 2, 3, 1});
  const Tensor distance = (pixels.unsqueeze(3) - own).square().sum(4);
  return own.index_select(0, distance.argmin(3).flatten()).view_as(pixels).permute({0, 3, 1, 2}).contiguous();
}

Tensor nearest_mixtures(const Tensor& image, const Tensor& colours) {
  const Tensor pixels = image.permute({0, 2, 3, 1}).reshape({-1, image.size(1)}), own = colours.to(at::kCPU, at::kDouble);
  const int64_t count = own.size(0);
  Tensor best, distance;
  for (int64_t which = 1; which < int64_t{1} << count; ++which) {
    std::vector<int64_t> corners;
    for (int64_t i = 0; i < count; ++i)
      if (which >> i & 1) corners.push_back(i);
    if (corners.size() > 4) continue;

    // Coordinates t of the projection onto the plane through these corners, x ≈ c0 + E·t; corners that span less are covered by others.
    const Tensor corner = own.index_select(0, at::tensor(corners, at::kLong)), origin = corner[0].to(image.options());
    Tensor shares = at::ones({pixels.size(0), 1}, image.options());
    if (corners.size() > 1) {
      const Tensor edges = corner.slice(0, 1) - corner[0], gram = edges.matmul(edges.t());
      const double determinant = at::linalg_det(gram).item<double>(), size = gram.diagonal().prod().item<double>();
      if (!(determinant > 1e-9 * size) || size == 0) continue;
      const Tensor t = (pixels - origin).matmul(at::linalg_solve(gram, edges).t().to(image.options()));
      shares = at::cat({1 - t.sum(1, true), t}, 1);
    }
    const Tensor point = shares.matmul(corner.to(image.options()));
    const Tensor inside = (shares >= -1e-6).all(1);
    const Tensor far = at::where(inside, (point - pixels).square().sum(1), std::numeric_limits<double>::infinity());
    if (!best.defined()) {
      best = point, distance = far;
      continue;
    }
    const Tensor nearer = far < distance;
    best = at::where(nearer.unsqueeze(1), point, best);
    distance = at::where(nearer, far, distance);
  }
  return best.view({image.size(0), image.size(2), image.size(3), image.size(1)}).permute({0, 3, 1, 2}).contiguous();
}

Tensor laplacian_normalized(const Tensor& image, int64_t levels) {
  require(std::min(image.size(2), image.size(3)) >> levels >= 1, Failure::usage, "laplacian: found ", levels, " levels for images of ",
          image.size(3), "×", image.size(2), ", expected fewer: each halves the image");
  const Tensor row = at::tensor({1.0, 4.0, 6.0, 4.0, 1.0}, image.options()) / 16;
  const Tensor kernel = for_channels((row.unsqueeze(1) * row).view({1, 1, 5, 5}), image);
  const std::vector<int64_t> two{2, 2};
  const auto halved = [&](const Tensor& x) { return at::conv2d(x, kernel, {}, two, two, one, x.size(1)); };
  const auto doubled = [&](const Tensor& x, const Tensor& like) {
    // An odd size gives the same half as the even one above it.
    const std::vector<int64_t> rest{1 - like.size(2) % 2, 1 - like.size(3) % 2};
    return at::conv_transpose2d(x, kernel * 4, {}, two, two, rest, x.size(1));
  };
  const auto normalized = [](const Tensor& x) { return x / x.square().mean(at::IntArrayRef({1, 2, 3}), true).sqrt().clamp_min(1e-10); };

  std::vector<Tensor> parts;
  Tensor rest = image;
  for (int64_t level = 0; level < levels; ++level) {
    const Tensor half = halved(rest);
    parts.push_back(normalized(rest - doubled(half, rest)));
    rest = half;
  }
  Tensor out = normalized(rest);
  for (auto part = parts.rbegin(); part != parts.rend(); ++part) out = doubled(out, *part) + *part;
  return out;
}

}  // namespace evoke
