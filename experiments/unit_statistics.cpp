#include "experiments/unit_statistics.h"

#include <ATen/ATen.h>

#include <bit>
#include <cmath>
#include <limits>
#include <optional>

#include "classifiers/objectives.h"
#include "core/error.h"

namespace evoke {

// ---- What values units take ------------------------------------------------------------------------------------------------------------

namespace {

// The smallest power of two above x > 0, exactly.
Tensor power_above(const Tensor& x) { return x / std::get<0>(at::frexp(x)); }

// The width of the narrowest grid on which 256 bins hold everything from `low` to `high`. It only ever grows as the two move apart.
Tensor width_for(const Tensor& low, const Tensor& high) {
  const Tensor magnitude = at::maximum(low.abs(), high.abs()).clamp_min(1e-30);
  Tensor width = at::maximum(power_above((high - low).clamp_min(1e-290)) / 1024, power_above(magnitude) / std::exp2(30));
  for (int doubling = 0; doubling < 3; ++doubling) {
    const Tensor holds = (high / width).floor() - (low / width).floor() < UnitStatistics::bins;
    width = at::where(holds, width, width * 2);
  }
  return width;
}

}  // namespace

// What was counted moves to the bins that its own merge into.
void UnitStatistics::cover(const Tensor& low, const Tensor& high) {
  least_ = at::minimum(least_, low), most_ = at::maximum(most_, high);
  const Tensor width = width_for(least_, most_), start = (least_ / width).floor();
  if (const Tensor moved = ((width != width_) | (start != start_)).nonzero().squeeze(1); moved.numel() > 0) {
    const auto of_moved = [&](const Tensor& all) { return all.index_select(0, moved).unsqueeze(1); };
    const Tensor old_place = of_moved(start_) + at::arange(bins, least_.options());
    const Tensor place = (old_place * of_moved(width_ / width)).floor() - of_moved(start);
    const Tensor old_counts = counts_.index_select(0, moved);  // bins that leave the grid are empty
    counts_ = counts_.index_copy(0, moved, at::zeros_like(old_counts).scatter_add_(1, place.clamp(0, bins - 1).to(at::kLong), old_counts));
  }
  width_ = width, start_ = start;
}

void UnitStatistics::see(const Tensor& values, const Tensor& rows) {
  require_shape(values, {-1, units_}, "unit statistics");
  require_shape(rows, {values.size(0)}, "unit statistics: rows");
  const int64_t images = values.size(0);
  if (images == 0) return;
  const Tensor exact = values.detach().to(at::kDouble), v = exact.t().contiguous();
  if (count_ == 0) {
    least_ = v.amin(1), most_ = v.amax(1);
    zeros_ = at::zeros({units_}, v.options().dtype(at::kLong)), positives_ = zeros_.clone();
    counts_ = at::zeros({units_, bins}, zeros_.options());
    width_ = width_for(least_, most_), start_ = (least_ / width_).floor();
    first_ = rows[0].item<int64_t>() / leaf_rows;
  }

  cover(v.amin(1), v.amax(1));
  const Tensor bin = ((v / width_.unsqueeze(1)).floor() - start_.unsqueeze(1)).to(at::kLong);
  counts_.scatter_add_(1, bin, at::ones_like(bin));
  zeros_ += (v == 0).sum(1), positives_ += (v > 0).sum(1);
  count_ += images;

  // Moments, leaf by leaf.
  const Tensor leaves = rows.to(at::kCPU, at::kLong).div(leaf_rows, "floor").contiguous();
  const int64_t* leaf = leaves.const_data_ptr<int64_t>();
  for (int64_t first = 0, end = 0; first < images; first = end) {
    while (end < images && leaf[end] == leaf[first]) ++end;
    if (leaf[first] != leaf_) close_leaf();
    leaf_ = leaf[first];
    unfinished_.push_back(exact.slice(0, first, end).clone());
  }
}

// Chan 1979: means and squares from them of two parts make those of both.
UnitStatistics::Node UnitStatistics::joined(const Node& a, const Node& b) {
  const auto n = static_cast<double>(a.count), m = static_cast<double>(b.count);
  const Tensor apart = b.sums.select(0, 0) - a.sums.select(0, 0);
  Tensor sums = a.sums + b.sums;
  sums.select(0, 0).copy_(a.sums.select(0, 0) + apart * (m / (n + m)));
  sums.select(0, 1).add_(apart.square() * (n * m / (n + m)));
  return {b.leaf, a.count + b.count, sums};
}

namespace {

// How high above two leaves the node is that holds both.
int height_of_both(int64_t a, int64_t b) { return std::bit_width(static_cast<uint64_t>(a ^ b)); }

}  // namespace

void UnitStatistics::push(Node node) {
  // Two subtrees join when the new leaf lies outside the one that holds both, and no leaf before the first lies inside.
  while (nodes_.size() >= 2) {
    const Node &before = nodes_[nodes_.size() - 2], &last = nodes_.back();
    const int height = height_of_both(before.leaf, last.leaf);
    if (height > height_of_both(last.leaf, node.leaf) || (last.leaf >> height) << height < first_) break;
    Node both = joined(before, last);
    nodes_.pop_back();
    nodes_.back() = std::move(both);
  }
  nodes_.push_back(std::move(node));
}

void UnitStatistics::close_leaf() {
  if (unfinished_.empty()) return;
  const Tensor v = at::cat(unfinished_).t().contiguous(), mean = v.mean(1), response = v.clamp_min(0);
  push({leaf_, v.size(1), at::stack({mean, (v - mean.unsqueeze(1)).square().sum(1), response.sum(1), response.square().sum(1)})});
  unfinished_.clear();
}

Tensor UnitStatistics::whole() const {
  UnitStatistics all(*this);
  all.close_leaf();
  require(!all.nodes_.empty(), Failure::runtime, "unit statistics: found no image, expected at least one");
  // Nothing comes before: what waited for that is joined now.
  const std::vector<Node> nodes = std::move(all.nodes_);
  all.nodes_.clear(), all.first_ = 0;
  for (const Node& node : nodes) all.push(node);
  Node sum = all.nodes_.back();
  for (size_t i = all.nodes_.size() - 1; i-- > 0;) sum = joined(all.nodes_[i], sum);
  return sum.sums;
}

void UnitStatistics::join(const UnitStatistics& after) {
  if (after.count_ == 0) return;
  if (count_ == 0) {
    *this = after;
    return;
  }
  require(units_ == after.units_ && leaf_ < after.first_, Failure::runtime, "unit statistics: found ", after.units_, " units from leaf ",
          after.first_, " on, expected ", units_, " from a leaf behind ", leaf_);
  UnitStatistics more(after);
  more.close_leaf(), close_leaf();
  more.cover(least_, most_), cover(more.least_, more.most_);
  counts_ = counts_ + more.counts_, zeros_ = zeros_ + more.zeros_, positives_ = positives_ + more.positives_, count_ += more.count_;
  for (const Node& node : more.nodes_) push(node);
  leaf_ = more.leaf_;
}

Tensors UnitStatistics::pack() const {
  Tensors out{{"count", at::tensor({count_, leaf_, first_}, at::kLong)}};
  if (count_ == 0) return out;
  for (const auto& [name, tensor] : {std::pair{"least", least_},
                                     {"most", most_},
                                     {"zeros", zeros_},
                                     {"positives", positives_},
                                     {"counts", counts_},
                                     {"start", start_},
                                     {"width", width_}})
    out[name] = tensor;
  if (!unfinished_.empty()) out["unfinished"] = at::cat(unfinished_);
  std::vector<int64_t> leaves, counts;
  std::vector<Tensor> sums;
  for (const Node& node : nodes_) leaves.push_back(node.leaf), counts.push_back(node.count), sums.push_back(node.sums);
  if (sums.empty()) return out;
  out["nodes/leaf"] = at::tensor(leaves, at::kLong);
  out["nodes/count"] = at::tensor(counts, at::kLong);
  out["nodes/sums"] = at::stack(sums);
  return out;
}

void UnitStatistics::unpack(const Tensors& from, at::Device device) {
  count_ = from.at("count")[0].item<int64_t>(), leaf_ = from.at("count")[1].item<int64_t>();
  first_ = from.at("count")[2].item<int64_t>();
  nodes_.clear(), unfinished_.clear();
  if (count_ == 0) return;
  for (const auto& [name, tensor] : {std::pair{"least", &least_},
                                     {"most", &most_},
                                     {"zeros", &zeros_},
                                     {"positives", &positives_},
                                     {"counts", &counts_},
                                     {"start", &start_},
                                     {"width", &width_}})
    *tensor = from.at(name).to(device);
  if (from.contains("unfinished")) unfinished_.push_back(from.at("unfinished").to(device));
  if (!from.contains("nodes/sums")) return;
  const Tensor sums = from.at("nodes/sums").to(device);
  for (int64_t i = 0; i < sums.size(0); ++i)
    nodes_.push_back({from.at("nodes/leaf")[i].item<int64_t>(), from.at("nodes/count")[i].item<int64_t>(), sums[i].clone()});
}

Tensor UnitStatistics::deviation() const { return (whole().select(0, 1) / static_cast<double>(count_)).sqrt().cpu(); }
Tensor UnitStatistics::zero_share() const { return zeros_.to(at::kDouble).div(static_cast<double>(count_)).cpu(); }
Tensor UnitStatistics::positive_share() const { return positives_.to(at::kDouble).div(static_cast<double>(count_)).cpu(); }
Tensor UnitStatistics::treves_rolls() const {
  const Tensor sums = whole();
  return (sums.select(0, 2).square() / sums.select(0, 3) / static_cast<double>(count_)).cpu();
}
Tensor UnitStatistics::sparseness() const { return (1 - treves_rolls()) / (1 - 1 / static_cast<double>(count_)); }
Tensor UnitStatistics::edges() const {
  return ((start_.unsqueeze(1) + at::arange(bins + 1, start_.options())) * width_.unsqueeze(1)).cpu();
}

Tensor UnitStatistics::value_of_rank(int64_t rank) const {
  if (rank <= 0) return least_;
  if (rank >= count_ - 1) return most_;
  const Tensor up_to = counts_.cumsum(1), bin = (up_to <= rank).sum(1, true);
  const Tensor within = counts_.gather(1, bin).squeeze(1), below = rank - (up_to.gather(1, bin).squeeze(1) - within);
  const Tensor low = (start_ + bin.squeeze(1)) * width_;

  // Zeros are the first of the bin that begins at 0, and known to be zeros.
  const Tensor zeros = at::where(low == 0, zeros_, at::zeros_like(zeros_));
  const Tensor evenly = low + width_ * ((below - zeros).to(at::kDouble) + 0.5) / (within - zeros).clamp_min(1);
  return at::minimum(at::maximum(at::where(below < zeros, at::zeros_like(low), evenly), least_), most_);
}

Tensor UnitStatistics::quantiles(const std::vector<double>& shares) const {
  std::vector<Tensor> out;
  for (const double share : shares) {
    const double rank = share * static_cast<double>(count_ - 1), down = std::floor(rank);
    const Tensor low = value_of_rank(static_cast<int64_t>(down));
    out.push_back(rank == down ? low : at::lerp(low, value_of_rank(static_cast<int64_t>(down) + 1), rank - down));
  }
  return at::stack(out, 1).cpu();
}

// ---- Which images ----------------------------------------------------------------------------------------------------------------------

void Extremes::see(const Tensor& values, const Tensor& rows, const Tensor& places) {
  require_shape(values, {-1, units_}, "extremes");
  require_shape(rows, {values.size(0)}, "extremes");
  if (values.size(0) == 0) return;
  const Tensor v = values.detach().to(at::kDouble).mul(sign_).t();
  if (!best_.defined()) {
    best_ = at::full({units_, keep_}, -std::numeric_limits<double>::infinity(), v.options());
    rows_ = at::full({units_, keep_}, -1, rows.options().device(v.device()));
    places_ = rows_.clone();
  }

  // Only the units for which this batch has something better; the sort is stable, so of equals the earlier stays.
  const Tensor better = (v.amax(1) > best_.select(1, keep_ - 1)).nonzero().squeeze(1);
  if (better.numel() == 0) return;
  const auto joined = [&](const Tensor& kept, const Tensor& here) {
    return at::cat({kept.index_select(0, better), here.index_select(0, better)}, 1);
  };
  const Tensor of_rows = rows.to(v.device()).unsqueeze(0).expand({units_, -1});
  const Tensor of_places = places.defined() ? places.t() : at::full({1, 1}, -1, rows_.options()).expand_as(of_rows);
  auto [value, order] = at::sort(joined(best_, v), /*stable=*/std::optional<bool>(true), /*dim=*/1, /*descending=*/true);
  order = order.slice(1, 0, keep_);
  rows_.index_copy_(0, better, joined(rows_, of_rows).gather(1, order));
  places_.index_copy_(0, better, joined(places_, of_places).gather(1, order));
  best_.index_copy_(0, better, value.slice(1, 0, keep_));
}

void Extremes::join(const Extremes& after) {
  if (!after.best_.defined()) return;
  if (!best_.defined()) {
    *this = after;
    return;
  }
  auto [value, order] = at::sort(at::cat({best_, after.best_}, 1), /*stable=*/std::optional<bool>(true), /*dim=*/1, /*descending=*/true);
  order = order.slice(1, 0, keep_);
  rows_ = at::cat({rows_, after.rows_}, 1).gather(1, order);
  places_ = at::cat({places_, after.places_}, 1).gather(1, order);
  best_ = value.slice(1, 0, keep_).contiguous();
}

Tensors Extremes::pack() const { return best_.defined() ? Tensors{{"best", best_}, {"rows", rows_}, {"places", places_}} : Tensors(); }

void Extremes::unpack(const Tensors& from, at::Device device) {
  if (!from.contains("best")) return;
  best_ = from.at("best").to(device), rows_ = from.at("rows").to(device), places_ = from.at("places").to(device);
}

Tensor Extremes::values() const {
  return at::where(rows_ < 0, at::full_like(best_, std::numeric_limits<double>::quiet_NaN()), best_ * sign_).cpu();
}

std::pair<Tensor, Tensor> unit_values(const Tensor& a, const Layer& layer, const std::string& of) {
  const Layout layout = layout_of(layer);
  const Tensor by = by_place(a, layout);
  if (layout == Layout::dense) return {by.squeeze(1).to(at::kDouble), {}};
  if (of == "mean") return {by.to(at::kDouble).mean(1), {}};
  if (of == "centre") {
    const int64_t place = usual_place(layer);
    return {by.select(1, place).to(at::kDouble), at::full({by.size(0), by.size(2)}, place, a.options().dtype(at::kLong))};
  }
  const auto [value, place] = by.max(1);
  return {value.to(at::kDouble), place};
}

}  // namespace evoke
