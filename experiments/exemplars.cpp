// evoke exemplars: the real images that excite each unit most and least, and what values every unit takes.
#include "experiments/exemplars.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <iomanip>
#include <limits>
#include <memory>
#include <numeric>
#include <optional>
#include <set>

#include "classifiers/menu.h"
#include "core/error.h"
#include "core/log.h"
#include "core/records/contact_sheet.h"
#include "core/records/pictures.h"
#include "core/records/results.h"
#include "core/records/run_directory.h"
#include "core/storage/files.h"
#include "core/storage/hdf5.h"
#include "experiments/options.h"
#include "experiments/sample.h"
#include "experiments/verbs.h"
#include "training/datasets/dataset.h"

namespace evoke {

namespace fs = std::filesystem;

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

void UnitStatistics::see(const Tensor& values) {
  require_shape(values, {-1, units_}, "unit statistics");
  const int64_t rows = values.size(0);
  if (rows == 0) return;
  const Tensor v = values.detach().to(at::kDouble).t().contiguous();
  if (count_ == 0) {
    const Tensor zero = at::zeros({units_}, v.options());
    mean_ = zero.clone(), squares_from_mean_ = zero.clone(), sum_ = zero.clone(), squares_ = zero.clone();
    least_ = v.amin(1), most_ = v.amax(1);
    zeros_ = at::zeros({units_}, v.options().dtype(at::kLong)), positives_ = zeros_.clone();
    counts_ = at::zeros({units_, bins}, zeros_.options());
    width_ = width_for(least_, most_), start_ = (least_ / width_).floor();
  }

  // The grid grows where it has to: what was counted moves to the bins that its own merge into.
  least_ = at::minimum(least_, v.amin(1)), most_ = at::maximum(most_, v.amax(1));
  const Tensor width = width_for(least_, most_), start = (least_ / width).floor();
  if (const Tensor moved = ((width != width_) | (start != start_)).nonzero().squeeze(1); moved.numel() > 0) {
    const auto of_moved = [&](const Tensor& all) { return all.index_select(0, moved).unsqueeze(1); };
    const Tensor old_place = of_moved(start_) + at::arange(bins, v.options());
    const Tensor place = (old_place * of_moved(width_ / width)).floor() - of_moved(start);
    const Tensor old_counts = counts_.index_select(0, moved);  // bins that leave the grid are empty
    counts_.index_copy_(0, moved, at::zeros_like(old_counts).scatter_add_(1, place.clamp(0, bins - 1).to(at::kLong), old_counts));
  }
  width_ = width, start_ = start;
  const Tensor bin = ((v / width_.unsqueeze(1)).floor() - start_.unsqueeze(1)).to(at::kLong);
  counts_.scatter_add_(1, bin, at::ones_like(bin));

  // Mean and squares from it, batch joined to batch (Chan 1979).
  const Tensor mean = v.mean(1), apart = mean - mean_;
  const auto here = static_cast<double>(rows), before = static_cast<double>(count_), all = here + before;
  squares_from_mean_ += (v - mean.unsqueeze(1)).square().sum(1) + apart.square() * (before * here / all);
  mean_ += apart * (here / all);
  const Tensor response = v.clamp_min(0);
  sum_ += response.sum(1), squares_ += response.square().sum(1);
  zeros_ += (v == 0).sum(1), positives_ += (v > 0).sum(1);
  count_ += rows;
}

Tensor UnitStatistics::deviation() const { return (squares_from_mean_ / static_cast<double>(count_)).sqrt().cpu(); }
Tensor UnitStatistics::zero_share() const { return zeros_.to(at::kDouble).div(static_cast<double>(count_)).cpu(); }
Tensor UnitStatistics::positive_share() const { return positives_.to(at::kDouble).div(static_cast<double>(count_)).cpu(); }
Tensor UnitStatistics::treves_rolls() const { return (sum_.square() / squares_ / static_cast<double>(count_)).cpu(); }
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

namespace {

// ---- What is asked ---------------------------------------------------------------------------------------------------------------------

const std::vector<std::string> splits{"train", "validation", "test"};
const std::vector<double> shares{0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99};
constexpr int64_t most_rows = 64;                     // units on a sheet, unless they are named
constexpr int64_t most_named = 400;                   // and then: a PNG is at most 65535 pixels high
constexpr int64_t most_columns = 16;                  // pictures of each kind in a row of a sheet
constexpr int64_t most_side = 128, small_side = 112;  // pixels of a picture on a sheet: larger ones are shrunk

// What the flags say, and what the recipe that they stand for adds.
struct ExemplarsFlags {
  std::string split = "all", of = "max", beside;
  std::vector<std::string> layers, units;
  int64_t keep = 9, batch = 64;
  bool skip_broken = false;
};
void describe(Fields& f, ExemplarsFlags& o) {
  f("layers", o.layers, "layers (conv3), or units of them (conv3:0-7) to show only those; none: the last layer");
  f("units", o.units, "units on the contact sheets: layer:unit, layer:0-31, a label, @file; none: all, up to 64 a layer");
  f.choice("split", o.split, "which images of a dataset", {"all", "train", "validation", "test"});
  f.choice("of", o.of, "a unit's value where it has places: max (its place is kept), mean or centre (token 0)", {"max", "mean", "centre"});
  f("keep", o.keep, "images", "kept of each unit at either end", {1, 10000});
  f("batch", o.batch, "images", "looked at together; changes nothing but speed", {1, 65536});
  f.path("beside", o.beside, "a run directory: its pictures beside the exemplars of the same units");
  f("skip_broken", o.skip_broken, "leave out files that are torn or no images, with a warning each");
}
struct ExemplarsTable : ExemplarsFlags {
  std::string data, device = "auto";
  int64_t seed = 0, threads = 0;
};
void describe(Fields& f, ExemplarsTable& o) {
  f.path("data", o.data, "dataset (HDF5, made by evoke data) or folder of images");
  describe(f, static_cast<ExemplarsFlags&>(o));
  f("seed", o.seed, "", "of nothing: no number is drawn here", {0, 9e15});
  f("threads", o.threads, "threads", "of LibTorch on the CPU; 0: one a core", {0, 1024});
  f("device", o.device, "auto (CUDA if present), cpu, cuda or cuda:N");
}

// A layer that is looked at, and which of its units are shown.
struct Asked {
  Layer layer;
  std::vector<int64_t> shown;
};

// Layers by name ("conv3"), units ("conv3:0-7", labels, @file), or the last layer where nothing is said.
std::vector<Asked> asked_of(const ExemplarsTable& table, const Classifier& classifier, const std::optional<Results>& beside) {
  std::vector<std::string> names, words = table.units;
  for (const Layer& layer : classifier.layers) names.push_back(layer.name);
  std::set<std::string> wanted;
  for (const std::string& word : table.layers) {
    if (std::find(names.begin(), names.end(), word) != names.end()) {
      wanted.insert(word);
      continue;
    }
    const bool label = std::find(classifier.labels.begin(), classifier.labels.end(), word) != classifier.labels.end();
    require(label || word.starts_with('@') || word.find(':') != std::string::npos, Failure::usage, "--layers: classifier ", classifier.name,
            " has no layer '", word, "'", did_you_mean(word, names));
    words.push_back(word);
  }
  std::vector<Unit> units = words.empty() ? std::vector<Unit>() : parse_units(words, classifier);
  for (const Unit& unit : units)
    require(unit.y < 0, Failure::usage, "unit ", unit_text(unit), ": a place means nothing here; leave it out, and see --of");

  // A run's own units, where no others are named.
  if (beside && words.empty()) {
    for (const Column& column : beside->columns) {
      if (!column.unit) continue;
      const Unit unit{column.unit->layer, column.unit->index};
      if (std::find(units.begin(), units.end(), unit) == units.end()) units.push_back(unit);
    }
    std::erase_if(units, [&](const Unit& unit) {
      return std::find(names.begin(), names.end(), unit.layer) == names.end() || (!wanted.empty() && !wanted.contains(unit.layer));
    });
    require(!units.empty(), Failure::usage, "--beside ", table.beside, ": found no unit of ",
            wanted.empty() ? "classifier " + classifier.name : "the layers asked for", ", expected a run of units that are shown here");
  }
  for (const Unit& unit : units) wanted.insert(unit.layer);
  if (wanted.empty()) wanted.insert(names.back());

  std::vector<Asked> out;
  for (const Layer& layer : classifier.layers) {
    if (!wanted.contains(layer.name)) continue;
    layout_of(layer, "exemplars");
    Asked asked{layer, {}};
    for (const Unit& unit : units)
      if (unit.layer == layer.name && std::find(asked.shown.begin(), asked.shown.end(), unit.index) == asked.shown.end()) {
        require(unit.index < units_of(layer), Failure::usage, "unit ", unit_text(unit), ": layer ", layer.name, " has the units 0 to ",
                units_of(layer) - 1);
        asked.shown.push_back(unit.index);
      }
    require(static_cast<int64_t>(asked.shown.size()) <= most_named, Failure::usage, "--units: found ", asked.shown.size(), " of layer ",
            layer.name, ", expected at most ", most_named, " on a sheet; exemplars.h5 holds every unit whatever is shown");
    if (asked.shown.empty()) {
      asked.shown.resize(static_cast<size_t>(std::min(units_of(layer), most_rows)));
      std::iota(asked.shown.begin(), asked.shown.end(), 0);
      if (units_of(layer) > most_rows)
        say(text("layer ", layer.name, ": the sheet shows the first ", most_rows, " of ", units_of(layer),
                 " units; name others with --units"));
    }
    out.push_back(std::move(asked));
  }
  return out;
}

// ---- Where images come from ------------------------------------------------------------------------------------------------------------

struct Block {
  Tensor rows;    // int64 [N]
  Tensor images;  // uint8 [N,H,W,C]
};

// Images in the order of their rows, some at a time; and any of them again.
struct Source {
  int64_t images = 0;                                                           // how many there will be
  std::vector<std::string> paths;                                               // of a folder, by row
  std::function<std::optional<Block>()> next;                                   // nothing: the end
  std::function<std::map<int64_t, Tensor>(const std::set<int64_t>&)> pictures;  // uint8 [H,W,C] by row, small enough for a sheet
};

Tensor for_sheet(const Tensor& image) {
  const int64_t height = image.size(0), width = image.size(1), side = std::max(height, width);
  if (side <= most_side) return image.clone();
  return fit_image(image, std::max<int64_t>(1, height * small_side / side), std::max<int64_t>(1, width * small_side / side));
}

Source dataset_source(const std::string& name, const std::string& split, int64_t batch, const Classifier& classifier) {
  const Hdf5 file = Hdf5::open(name);
  require(file.has("/images"), Failure::input, name, ": found no /images, expected a dataset that evoke data wrote");
  const std::vector<int64_t> shape = file.shape("/images");
  require(shape.size() == 4 && shape[1] > 0 && shape[2] > 0, Failure::input, name, ": /images: found ", shape_text(shape),
          ", expected [N,H,W,C]");
  const ImageSpec& image = classifier.image;
  require(shape[3] == image.channels, Failure::input, name, ": found images of ", shape[3], " channels, classifier ", classifier.name,
          " expects ", image.channels, "; choose images of the kind that it was trained on");
  if (shape[1] != image.height || shape[2] != image.width)
    warn(text(name, " holds images of ", shape[2], "×", shape[1], ", classifier ", classifier.name, " looks at ", image.width, "×",
              image.height, ": they are resampled"));
  const auto wanted = std::find(splits.begin(), splits.end(), split) - splits.begin();
  const bool all = split == "all";

  // A split is found in pieces too, so that nothing grows with the number of images.
  Source out;
  const int64_t rows = shape[0], piece = 1 << 20;
  if (!all) {
    require(file.has("/split"), Failure::input, name, ": found no /split, expected one for --split ", split);
    require(file.shape("/split") == std::vector<int64_t>{rows}, Failure::input, name, ": /split: found ", shape_text(file.shape("/split")),
            ", expected [", rows, "], a number an image");
    for (int64_t first = 0; first < rows; first += piece)
      out.images += (file.read_rows("/split", first, std::min(piece, rows - first)) == wanted).sum().item<int64_t>();
  } else {
    out.images = rows;
  }
  require(out.images > 0, Failure::input, name, ": found no image", all ? "" : " of the split " + split, ", expected some");

  const int64_t bytes = shape[1] * shape[2] * shape[3];
  const int64_t block = std::max(batch, std::min<int64_t>(512, (int64_t{64} << 20) / bytes));
  out.next = [=, first = int64_t{0}]() mutable -> std::optional<Block> {
    while (first < rows) {
      const int64_t here = first, count = std::min(block, rows - first);
      first += count;
      Tensor chosen;
      if (!all) {
        chosen = (file.read_rows("/split", here, count) == wanted).nonzero().squeeze(1);
        if (chosen.numel() == 0) continue;
      }
      const Tensor images = file.read_rows("/images", here, count);
      require(images.scalar_type() == at::kByte, Failure::input, name, ": /images: expected bytes");
      if (all) return Block{at::arange(here, here + count), images};
      return Block{chosen + here, images.index_select(0, chosen)};
    }
    return std::nullopt;
  };
  out.pictures = [=](const std::set<int64_t>& wanted_rows) {
    // Neighbours are stored, and so read, together.
    std::map<int64_t, Tensor> found;
    Tensor images;
    int64_t begin = 0, end = 0;
    for (const int64_t row : wanted_rows) {
      if (row >= end) {
        begin = row - row % 64, end = std::min(begin + 64, rows);
        images = file.read_rows("/images", begin, end - begin);
      }
      found[row] = for_sheet(images[row - begin]);
    }
    return found;
  };
  return out;
}

Source folder_source(const std::string& folder, bool skip_broken, int64_t batch, const Classifier& classifier) {
  const ImageSpec image = classifier.image;
  require(image.channels == 1 || image.channels == 3, Failure::input, "classifier ", classifier.name, " expects images of ", image.channels,
          " channels, a folder holds images of 1 or 3; choose a dataset");
  Source out;
  for (auto entry = fs::recursive_directory_iterator(folder); entry != fs::recursive_directory_iterator(); ++entry) {
    const bool hidden = entry->path().filename().string().front() == '.';
    if (entry->is_directory()) {
      if (hidden) entry.disable_recursion_pending();
    } else if (!hidden) {
      out.paths.push_back(entry->path().string());
    }
  }
  require(!out.paths.empty(), Failure::input, folder, ": found no image in this folder or those within, expected some");
  std::sort(out.paths.begin(), out.paths.end());
  out.images = static_cast<int64_t>(out.paths.size());

  const std::vector<std::string> paths = out.paths;
  out.next = [=, row = int64_t{0}]() mutable -> std::optional<Block> {
    std::vector<int64_t> rows;
    std::vector<Tensor> images;
    for (; row < static_cast<int64_t>(paths.size()) && static_cast<int64_t>(rows.size()) < batch && !interrupted(); ++row) {
      try {
        images.push_back(fit_image(load_image(paths[static_cast<size_t>(row)], image.channels), image.height, image.width));
        rows.push_back(row);
      } catch (const Error& error) {
        require(error.kind() == Failure::input && skip_broken, error.kind(), error.what(),
                error.kind() == Failure::input ? "; or leave such files out with --skip-broken" : "");
        warn(text(error.what(), "; left out"));
      }
    }
    if (rows.empty()) return std::nullopt;
    return Block{at::tensor(rows, at::kLong), at::stack(images)};
  };
  out.pictures = [=](const std::set<int64_t>& wanted) {
    std::map<int64_t, Tensor> found;
    for (const int64_t row : wanted)
      found[row] = for_sheet(fit_image(load_image(paths[static_cast<size_t>(row)], image.channels), image.height, image.width));
    return found;
  };
  return out;
}

Source source_of(const ExemplarsTable& table, const Classifier& classifier) {
  if (!fs::is_directory(table.data)) return dataset_source(table.data, table.split, table.batch, classifier);
  require(table.split == "all", Failure::usage, "--split ", table.split, ": ", table.data,
          " is a folder, which has no splits; leave it out");
  return folder_source(table.data, table.skip_broken, table.batch, classifier);
}

// ---- The pass --------------------------------------------------------------------------------------------------------------------------

// What is known of a layer's units.
struct Gathered {
  UnitStatistics statistics;
  Extremes top, bottom;
};

// What the classifier says to images, uint8 [N,H,W,C] of any size.
Activations answers(const Tensor& images, const Classifier& classifier, at::Device device, const std::vector<Asked>& asked) {
  const ImageSpec& image = classifier.image;
  std::vector<std::string> taps;
  for (const Asked& one : asked) taps.push_back(one.layer.name);
  Tensor x = from_bytes(images.to(device));
  if (x.size(2) != image.height || x.size(3) != image.width) x = at::_upsample_bilinear2d_aa(x, {image.height, image.width}, false);
  return classifier.forward(x, taps);
}

// Names the first image and unit that is not finite.
[[noreturn]] void refuse_value(const Tensor& values, const Tensor& rows, const Layer& layer, const Source& source) {
  const Tensor first = at::isfinite(values).logical_not().nonzero()[0];
  const auto row = first[0].item<int64_t>(), unit = first[1].item<int64_t>(), image = rows[row].item<int64_t>();
  fail(Failure::runtime, "exemplars: unit ", layer.name, ":", unit, " answers ", values[row][unit].item<double>(), " to image ",
       source.paths.empty() ? text(image) : source.paths[static_cast<size_t>(image)],
       ", expected a finite number; look for NaN in the weights, or for a normalization that is not this network's");
}

// How many images were looked at; fewer than there are when interrupted.
int64_t look(Source& source, const Classifier& classifier, at::Device device, const std::vector<Asked>& asked, const ExemplarsTable& table,
             std::vector<Gathered>& gathered) {
  const c10::NoGradGuard no_gradient;
  Progress progress("exemplars", source.images, "image");
  int64_t seen = 0;
  while (const std::optional<Block> block = source.next()) {
    for (int64_t first = 0; first < block->rows.size(0) && !interrupted(); first += table.batch) {
      const Tensor rows = block->rows.slice(0, first, first + table.batch);
      const Activations activations = answers(block->images.slice(0, first, first + table.batch), classifier, device, asked);

      // One wait for the device, for all layers.
      std::vector<std::pair<Tensor, Tensor>> found;
      std::vector<Tensor> finite;
      for (const Asked& one : asked) {
        found.push_back(unit_values(activations.at(one.layer.name), one.layer, table.of));
        finite.push_back(at::isfinite(found.back().first).all());
      }
      if (!at::stack(finite).all().item<bool>())
        for (size_t i = 0; i < asked.size(); ++i)
          if (!finite[i].item<bool>()) refuse_value(found[i].first, rows, asked[i].layer, source);
      for (size_t i = 0; i < asked.size(); ++i) {
        gathered[i].statistics.see(found[i].first);
        gathered[i].top.see(found[i].first, rows, found[i].second);
        gathered[i].bottom.see(found[i].first, rows, found[i].second);
      }
      seen += rows.size(0);
      progress.at(seen);
    }
    if (interrupted()) break;
  }
  return seen;
}

// A run's pictures, measured as the real ones are, whatever its objective was: float64 [N], NaN for units of other layers.
Tensor values_beside(const Results& run, const Classifier& classifier, at::Device device, const std::vector<Asked>& asked,
                     const ExemplarsTable& table) {
  const c10::NoGradGuard no_gradient;
  const int64_t rows = run.images.size(0);
  Tensor out = at::full({rows}, std::numeric_limits<double>::quiet_NaN(), at::kDouble);
  for (int64_t first = 0; first < rows; first += table.batch) {
    const Activations activations = answers(run.images.slice(0, first, first + table.batch), classifier, device, asked);
    for (const Asked& one : asked) {
      const Tensor values = unit_values(activations.at(one.layer.name), one.layer, table.of).first.cpu();
      for (int64_t row = first; row < std::min(rows, first + table.batch); ++row)
        if (const auto& unit = run.columns[static_cast<size_t>(row)].unit;
            unit && unit->layer == one.layer.name && unit->index < units_of(one.layer))
          out[row] = values[row - first][unit->index];
    }
  }
  return out;
}

// ---- What is left behind ---------------------------------------------------------------------------------------------------------------

// Places as y and x: of a map, or token and -1.
std::pair<Tensor, Tensor> yx_of(const Tensor& places, const Layer& layer) {
  const Tensor nowhere = places < 0;
  const int64_t width = places_of(layer).second;
  const Tensor y = at::where(nowhere, places, places.div(width, "floor")), x = at::where(nowhere, places, places.remainder(width));
  return {y, layout_of(layer) == Layout::tokens ? at::full_like(x, -1) : x};
}

// Layout: root attributes format = "evoke exemplars", version = "1", data, split, of, images, quantile_error. For each layer
// /<layer>/{top,bottom}/{rows,activation,y,x} [U,K], the most extreme first (-1 and NaN where there were fewer images; y, x: of the value,
// a token and -1, or -1), /<layer>/{histogram [U,256], edges [U,257], quantiles [U,Q], bin_width, mean, deviation, min, max, zero_share,
// positive_share, treves_rolls, sparseness [U]}; /quantile_shares [Q]; of a folder /paths, by row; of a run beside
// /<layer>/beside/{rows,unit,activation}: its pictures of this layer's units and their values, measured as the real ones are.
void write_arrays(const std::string& name, const ExemplarsTable& table, int64_t seen, const Source& source, const std::vector<Asked>& asked,
                  const std::vector<Gathered>& gathered, const std::optional<Results>& beside, const Tensor& beside_values) {
  Hdf5 file = Hdf5::create(name);
  file.set_attribute("format", "evoke exemplars");
  file.set_attribute("version", "1");
  file.set_attribute("data", table.data);
  file.set_attribute("split", table.split);
  file.set_attribute("of", table.of);
  file.set_attribute("images", std::to_string(seen));
  file.set_attribute("quantile_error", "less than bin_width");
  file.write("/quantile_shares", at::tensor(shares, at::kDouble), {"quantile"});
  if (!source.paths.empty()) file.write_text("/paths", source.paths);
  for (size_t i = 0; i < asked.size(); ++i) {
    const Layer& layer = asked[i].layer;
    const UnitStatistics& s = gathered[i].statistics;
    const std::string group = "/" + layer.name + "/";
    for (const auto& [end, extremes] : {std::pair{"top/", &gathered[i].top}, std::pair{"bottom/", &gathered[i].bottom}}) {
      const auto [y, x] = yx_of(extremes->places(), layer);
      file.write(group + end + "rows", extremes->rows(), {"unit", "rank"});
      file.write(group + end + "activation", extremes->values().to(at::kFloat), {"unit", "rank"});
      file.write(group + end + "y", y, {"unit", "rank"});
      file.write(group + end + "x", x, {"unit", "rank"});
    }
    file.write(group + "count", at::full({units_of(layer)}, s.count(), at::kLong), {"unit"});
    file.write(group + "histogram", s.histogram(), {"unit", "bin"});
    file.write(group + "edges", s.edges(), {"unit", "edge"});
    file.write(group + "quantiles", s.quantiles(shares), {"unit", "quantile"});
    const std::pair<const char*, Tensor> columns[] = {{"bin_width", s.bin_width()},
                                                      {"mean", s.mean()},
                                                      {"deviation", s.deviation()},
                                                      {"min", s.least()},
                                                      {"max", s.most()},
                                                      {"zero_share", s.zero_share()},
                                                      {"positive_share", s.positive_share()},
                                                      {"treves_rolls", s.treves_rolls()},
                                                      {"sparseness", s.sparseness()}};
    for (const auto& [column, values] : columns) file.write(group + column, values, {"unit"});
    std::vector<int64_t> rows, units;
    for (size_t row = 0; beside && row < beside->columns.size(); ++row)
      if (const auto& unit = beside->columns[row].unit; unit && unit->layer == layer.name)
        rows.push_back(static_cast<int64_t>(row)), units.push_back(unit->index);
    if (rows.empty()) continue;
    const Tensor chosen = at::tensor(rows, at::kLong);
    file.write(group + "beside/rows", chosen, {"picture"});
    file.write(group + "beside/unit", at::tensor(units, at::kLong), {"picture"});
    file.write(group + "beside/activation", beside_values.index_select(0, chosen).to(at::kFloat), {"picture"});
  }
}

std::string number(double value) {
  std::ostringstream out;
  out << std::setprecision(3) << value;
  return out.str();
}

// Layer names hold dots and worse; two of them never share a file.
std::string sheet_name(const std::string& layer, std::set<std::string>& taken) {
  std::string name = layer;
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c)) && c != '.' && c != '-' && c != '_') c = '-';
  std::string unique = name + ".png";
  for (int more = 2; !taken.insert(unique).second; ++more) unique = text(name, "_", more, ".png");
  return unique;
}

// One row a unit: a run's pictures where there are some, the images with the largest values, a gap, those with the smallest.
Tensor sheet_of(const Asked& asked, const Gathered& gathered, const Source& source, const Classifier& classifier,
                const std::optional<Results>& beside, const Tensor& beside_values, const std::string& title) {
  const auto units = static_cast<int64_t>(asked.shown.size());
  const Tensor shown = at::tensor(asked.shown, at::kLong);
  struct Half {
    Tensor rows, values;
  };
  const auto half = [&](const Extremes& extremes) {
    return Half{extremes.rows().index_select(0, shown), extremes.values().index_select(0, shown)};
  };
  const Half top = half(gathered.top), bottom = half(gathered.bottom);
  const int64_t keep = std::min({top.rows.size(1), gathered.statistics.count(), most_columns});

  std::set<int64_t> rows;
  for (const Half* one : {&top, &bottom})
    for (int64_t u = 0; u < units; ++u)
      for (int64_t k = 0; k < keep; ++k) rows.insert(one->rows[u][k].item<int64_t>());
  const std::map<int64_t, Tensor> pictures = source.pictures(rows);

  // A run's rows by unit.
  std::vector<std::vector<int64_t>> made(asked.shown.size());
  size_t widest = 0;
  if (beside)
    for (size_t u = 0; u < made.size(); ++u) {
      for (size_t row = 0; row < beside->columns.size(); ++row)
        if (const auto& unit = beside->columns[row].unit;
            unit && unit->layer == asked.layer.name && unit->index == asked.shown[u] && static_cast<int64_t>(made[u].size()) < most_columns)
          made[u].push_back(static_cast<int64_t>(row));
      widest = std::max(widest, made[u].size());
    }

  std::vector<std::string> heads, names;
  if (widest > 0) {
    for (size_t i = 0; i < widest; ++i) heads.push_back(text("made ", i + 1));
    heads.emplace_back();
  }
  for (int64_t k = 0; k < keep; ++k) heads.push_back(text("most ", k + 1));
  heads.emplace_back();
  for (int64_t k = 0; k < keep; ++k) heads.push_back(text("least ", k + 1));

  const Tensor mean = gathered.statistics.mean();
  std::vector<Cell> cells;
  for (int64_t u = 0; u < units; ++u) {
    const int64_t unit = asked.shown[static_cast<size_t>(u)];
    names.push_back(text(caption_of(column_of({asked.layer.name, unit}), classifier), " mean ", number(mean[unit].item<double>())));
    if (widest > 0) {
      const std::vector<int64_t>& own = made[static_cast<size_t>(u)];
      for (size_t i = 0; i < widest; ++i)
        cells.push_back(i < own.size() ? Cell{for_sheet(beside->images[own[i]]), number(beside_values[own[i]].item<double>())} : Cell());
      cells.emplace_back();
    }
    const auto add = [&](const Half& one) {
      for (int64_t k = 0; k < keep; ++k)
        cells.push_back({pictures.at(one.rows[u][k].item<int64_t>()), number(one.values[u][k].item<double>())});
    };
    add(top);
    cells.emplace_back();
    add(bottom);
  }
  const Tensor& any = pictures.begin()->second;
  const int64_t side = std::max(any.size(0), any.size(1));
  return contact_sheet(cells, static_cast<int64_t>(heads.size()), names, heads, std::max<int64_t>(1, (96 + side / 2) / side), title);
}

// The shown units, for stdout and the manifest. What is undefined is null.
nlohmann::json units_json(const std::vector<Asked>& asked, const std::vector<Gathered>& gathered, const Classifier& classifier) {
  nlohmann::json out = nlohmann::json::array();
  const auto defined = [](double value) { return std::isfinite(value) ? nlohmann::json(value) : nlohmann::json(); };
  for (size_t i = 0; i < asked.size(); ++i) {
    const UnitStatistics& s = gathered[i].statistics;
    const Tensor quantiles = s.quantiles(shares), top = gathered[i].top.rows(), bottom = gathered[i].bottom.rows();
    const std::pair<const char*, Tensor> columns[] = {{"mean", s.mean()},
                                                      {"deviation", s.deviation()},
                                                      {"min", s.least()},
                                                      {"max", s.most()},
                                                      {"zero_share", s.zero_share()},
                                                      {"positive_share", s.positive_share()},
                                                      {"sparseness", s.sparseness()}};
    for (const int64_t unit : asked[i].shown) {
      const std::string name = unit_text({asked[i].layer.name, unit});
      nlohmann::json one{{"unit", name},
                         {"caption", caption_of(column_of({asked[i].layer.name, unit}), classifier)},
                         {"median", quantiles[unit][3].item<double>()}};
      for (const auto& [column, values] : columns) one[column] = defined(values[unit].item<double>());
      for (const auto& [end, rows] : {std::pair{"top", top}, std::pair{"bottom", bottom}}) {
        one[end] = nlohmann::json::array();
        for (int64_t k = 0; k < rows.size(1); ++k)
          if (const auto row = rows[unit][k].item<int64_t>(); row >= 0) one[end].push_back(row);
      }
      out.push_back(std::move(one));
    }
  }
  return out;
}

std::string table_of(const nlohmann::json& units) {
  std::ostringstream out;
  size_t width = 6;
  for (const auto& unit : units) width = std::max(width, unit["caption"].get<std::string>().size() + 2);
  const std::vector<std::string> columns{"mean", "deviation", "min", "median", "max", "zero_share", "sparseness"};
  out << std::left << std::setw(static_cast<int>(width)) << "unit" << std::right;
  for (const std::string& column : columns) out << std::setw(12) << column;
  out << "  first of the top\n" << std::setprecision(4);
  for (const auto& unit : units) {
    out << std::left << std::setw(static_cast<int>(width)) << unit["caption"].get<std::string>() << std::right;
    for (const std::string& column : columns)
      if (unit[column].is_null())
        out << std::setw(12) << "-";
      else
        out << std::setw(12) << unit[column].get<double>();
    out << "  " << (unit["top"].empty() ? "-" : unit["top"][0].dump()) << "\n";
  }
  return out.str();
}

int answer_of(const CommonOptions& options, RunDirectory& directory) {
  const nlohmann::json& manifest = directory.manifest();
  nlohmann::json sheets = nlohmann::json::array();
  std::string lines = table_of(manifest.at("units"));
  for (const nlohmann::json& sheet : manifest.at("sheets")) {
    sheets.push_back(directory.file(sheet.get<std::string>()));
    lines += sheets.back().get<std::string>() + "\n";
  }
  const nlohmann::json object{{"run", directory.path()},
                              {"exemplars", directory.file("exemplars.h5")},
                              {"sheets", sheets},
                              {"images", manifest.at("images_seen")},
                              {"units", manifest.at("units")},
                              {"quantile_error", "less than a unit's bin_width"}};
  answer(options, lines + directory.file("exemplars.h5"), object);
  return 0;
}

// ---- The verb --------------------------------------------------------------------------------------------------------------------------

int exemplars(const std::vector<Override>& words, const std::string& out, const CommonOptions& options) {
  // Everything that can be refused is refused before anything is written.
  Recipe recipe = Recipe::parse("", fs::current_path().string(), words, "exemplars");
  const auto table = recipe.read<ExemplarsTable>("exemplars");
  set_threads(table.threads);
  const at::Device device = device_named(table.device);
  require(!table.data.empty() && fs::exists(table.data), Failure::input, "exemplars: found no file or folder '", table.data,
          "', expected a dataset or a folder of images");
  const Classifier classifier = make_classifier(recipe, device);
  recipe.refuse_unread();
  std::optional<Results> beside;
  if (!table.beside.empty()) {
    beside = load_results(table.beside);
    require(beside->images.size(3) == classifier.image.channels, Failure::input, "--beside ", table.beside, ": found pictures of ",
            beside->images.size(3), " channels, classifier ", classifier.name, " expects ", classifier.image.channels);
  }
  const std::vector<Asked> asked = asked_of(table, classifier, beside);
  Source source = source_of(table, classifier);

  std::vector<std::string> inputs{classifier_file(recipe), table.data};
  if (beside) inputs.push_back(table.beside + "/results.h5");
  RunDirectory directory = RunDirectory::open(out, "exemplars", recipe.resolved(), inputs);
  if (directory.done()) {
    say("exemplars: " + out + " holds this very run, finished; nothing to do");
    return answer_of(options, directory);
  }
  std::vector<std::string> sheets;
  const auto stopped = [&] {
    for (const std::string& sheet : sheets) std::remove(directory.file(sheet).c_str());
    directory.finish("interrupted");
    say("exemplars: interrupted; no exemplars were written, and the same command begins again");
    return 130;
  };
  try {
    directory.manifest()["seed"] = table.seed;
    directory.manifest()["device"] = device.str();
    directory.manifest()["threads"] = table.threads;
    directory.save_manifest();

    std::vector<Gathered> gathered;
    for (const Asked& one : asked) {
      const int64_t units = units_of(one.layer);
      gathered.push_back(
          {UnitStatistics(units), Extremes(units, table.keep, Extremes::End::most), Extremes(units, table.keep, Extremes::End::least)});
    }
    const int64_t seen = look(source, classifier, device, asked, table, gathered);
    if (interrupted()) return stopped();
    require(seen > 0, Failure::input, table.data, ": found no image that can be read, expected some");
    if (seen < table.keep) say(text("exemplars: there are ", seen, " images, fewer than --keep ", table.keep, "; all of them are kept"));
    if (table.keep > most_columns)
      say(text("exemplars: the sheets show ", most_columns, " images at either end, exemplars.h5 all ", table.keep));

    Tensor beside_values;
    if (beside) beside_values = values_beside(*beside, classifier, device, asked, table);
    std::set<std::string> taken;
    for (size_t i = 0; i < asked.size(); ++i) {
      const std::string what = layout_of(asked[i].layer) == Layout::dense ? "values"
                               : table.of == "max"                        ? "maxima over places"
                               : table.of == "mean"                       ? "means over places"
                                                                          : "values at the usual place";
      const std::string title = text(asked[i].layer.name, ": ", what, ", ", seen, " images of ", fs::path(table.data).filename().string());
      const Tensor sheet = sheet_of(asked[i], gathered[i], source, classifier, beside, beside_values, title);
      if (interrupted()) return stopped();
      sheets.push_back(sheet_name(asked[i].layer.name, taken));
      save_png(directory.file(sheets.back()), sheet);
    }
    write_file_with(directory.file("exemplars.h5"), [&](const std::string& temporary) {
      write_arrays(temporary, table, seen, source, asked, gathered, beside, beside_values);
    });
    directory.manifest()["images_seen"] = seen;
    directory.manifest()["sheets"] = sheets;
    directory.manifest()["units"] = units_json(asked, gathered, classifier);
    directory.finish("done");
    return answer_of(options, directory);
  } catch (...) {
    for (const std::string& sheet : sheets) std::remove(directory.file(sheet).c_str());
    directory.finish("failed");
    throw;
  }
}

std::string as_toml(const nlohmann::json& value) { return value.dump(); }

}  // namespace

Action exemplars_verb(CLI::App& command) {
  struct Options : CommonOptions, ExemplarsTable {
    std::string net;
    using CommonOptions::device, CommonOptions::seed, CommonOptions::threads;
  };
  auto options = std::make_shared<Options>();
  command.add_option("NET", options->net, "a network, or a classifier's weights")->required();
  command.add_option("DATA", options->data, "a dataset (HDF5), or a folder of images in any format, folders within included")->required();
  auto flags = std::make_shared<Flags>(command, static_cast<ExemplarsFlags&>(*options));
  add_common(command, *options, Takes::writing);
  command.footer(
      "Writes exemplars.h5 (top and bottom images of every unit, mean, deviation, quantiles, histogram, sparseness), a contact sheet a\n"
      "layer, config.toml and manifest.json. One pass over the images; memory does not depend on their number.");

  return [options, flags] {
    begin_verb(*options);
    // The recipe that the words stand for: defaults, environment, --set, then what was said outright.
    std::vector<Override> words{{"classifier.weights=" + as_toml(options->net), "NET"}};
    for (const std::vector<Override>& more : {overrides(*options, "exemplars"), flags->typed("exemplars")})
      words.insert(words.end(), more.begin(), more.end());
    words.emplace_back("exemplars.data=" + as_toml(options->data), "DATA");
    return exemplars(words, options->out, *options);
  };
}

}  // namespace evoke
