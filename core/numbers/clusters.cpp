#include "core/numbers/clusters.h"

#include <ATen/ATen.h>

#include "core/error.h"
#include "core/numbers/stream.h"

namespace evoke {

namespace {

// |row - centre|², [N,K].
Tensor squared_distances(const Tensor& rows, const Tensor& centres) { return (rows.unsqueeze(1) - centres.unsqueeze(0)).square().sum(2); }

}  // namespace

Clusters k_means(const Tensor& data, int64_t count, uint64_t seed, int64_t iterations) {
  require_shape(data, {-1, -1}, "k-means: data");
  const int64_t rows = data.size(0);
  require(count >= 1 && count <= rows, Failure::input, "k-means: found ", count, " groups for ", rows, " rows, expected 1 to as many");
  const Tensor points = data.to(at::kCPU, at::kDouble);
  require(points.isfinite().all().item<bool>(), Failure::input, "k-means: found numbers that are not finite");

  Stream stream = Stream::range(seed, 0, 1, at::kCPU, 0);
  const auto drawn = [&](const Tensor& weight) {
    const Tensor sums = weight.cumsum(0);
    const double place = stream.uniform({}).item<double>() * sums[rows - 1].item<double>();
    return std::min<int64_t>((sums <= place).sum().item<int64_t>(), rows - 1);
  };
  std::vector<Tensor> first{points[drawn(at::ones({rows}, at::kDouble))]};
  while (static_cast<int64_t>(first.size()) < count)
    first.push_back(points[drawn(std::get<0>(squared_distances(points, at::stack(first)).min(1)))]);

  Clusters out;
  out.centres = at::stack(first);
  for (int64_t i = 0; i < iterations; ++i) {
    const auto [distance, nearest] = squared_distances(points, out.centres).min(1);
    Tensor of = nearest.clone();
    for (int64_t k = 0; k < count; ++k) {
      if ((of == k).any().item<bool>()) continue;
      const Tensor shared = at::bincount(of, {}, count).index_select(0, of) > 1;  // whose group keeps a row without them
      of[at::where(shared, distance, -1.0).argmax().item<int64_t>()] = k;
    }
    if (out.of.defined() && at::equal(of, out.of)) break;
    out.of = of;
    for (int64_t k = 0; k < count; ++k) out.centres[k].copy_(points.index_select(0, (of == k).nonzero().squeeze(1)).mean(0));
  }
  const Tensor sizes = at::bincount(out.of, {}, count), order = sizes.argsort(/*stable=*/true, 0, /*descending=*/true);
  out.centres = out.centres.index_select(0, order);
  out.of = order.argsort().index_select(0, out.of);
  out.spread = (points - out.centres.index_select(0, out.of)).square().sum().item<double>();
  return out;
}

}  // namespace evoke
