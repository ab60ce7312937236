// What evoke exemplars asks of which images, and its pass over them.
#include "experiments/exemplars.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <filesystem>
#include <limits>
#include <numeric>

#include "classifiers/menu.h"
#include "core/error.h"
#include "core/log.h"
#include "core/records/pictures.h"
#include "core/storage/files.h"
#include "core/storage/hdf5.h"
#include "training/datasets/folder.h"

namespace evoke {

namespace fs = std::filesystem;

namespace {

const std::vector<std::string> splits{"train", "validation", "test"};
constexpr int64_t most_rows = 64;                     // units on a sheet, unless they are named
constexpr int64_t most_named = 400;                   // and then: a PNG is at most 65535 pixels high
constexpr int64_t most_side = 128, small_side = 112;  // pixels of a picture on a sheet: larger ones are shrunk

}  // namespace

// ---- What is asked ---------------------------------------------------------------------------------------------------------------------

std::vector<Asked> asked_of(const ExemplarsTable& table, const Classifier& classifier, const std::optional<Results>& beside) {
  std::vector<std::string> names, words = table.units;
  for (const Layer& layer : classifier.layers) names.push_back(layer.name);
  std::set<std::string> wanted;
  for (const std::string& word : table.layers) {
    const bool layer = std::find(names.begin(), names.end(), word) != names.end();
    const bool label = std::find(classifier.labels.begin(), classifier.labels.end(), word) != classifier.labels.end();
    if (!layer && (label || word.starts_with('@') || word.find(':') != std::string::npos))
      words.push_back(word);
    else
      wanted.insert(layer_named(classifier, word, "--layers").name);
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

Tensor for_sheet(const Tensor& image) {
  const int64_t height = image.size(0), width = image.size(1), side = std::max(height, width);
  if (side <= most_side) return image.clone();
  return fit_image(image, std::max<int64_t>(1, height * small_side / side), std::max<int64_t>(1, width * small_side / side));
}

namespace {

// The rows of a shard, of `rows` that are read `block` at a time. Batches end where blocks do, and moments are joined in leaves
// (unit_statistics.h): a shard begins where both do, so that no bit depends on it.
std::pair<int64_t, int64_t> rows_of(const Shard& shard, int64_t rows, int64_t block) {
  const int64_t together = std::lcm(block, UnitStatistics::leaf_rows), groups = (rows + together - 1) / together;
  require(shard.count == 1 || shard.count <= groups, Failure::usage, "--shard: found ", shard.count, " parts, expected at most ", groups,
          ": images are dealt out ", together, " at a time, a multiple of --batch and of ", UnitStatistics::leaf_rows);
  return {shard.begin(groups) * together, std::min(rows, shard.end(groups) * together)};
}

ImageSource dataset_source(const ExemplarsTable& table, const Classifier& classifier, const Shard& shard) {
  const std::string &name = table.data, &split = table.split;
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

  // Some 64 MiB at a time, in whole batches.
  const int64_t bytes = shape[1] * shape[2] * shape[3];
  const int64_t block = table.batch * std::max<int64_t>(1, std::min<int64_t>(512, (int64_t{64} << 20) / bytes) / table.batch);
  ImageSource out;
  const auto [begin, end] = rows_of(shard, shape[0], block);
  out.first = begin;

  // A split is found in pieces too, so that nothing grows with the number of images.
  const int64_t piece = 1 << 20, rows = shape[0], last = end;
  if (!all) {
    require(file.has("/split"), Failure::input, name, ": found no /split, expected one for --split ", split);
    require(file.shape("/split") == std::vector<int64_t>{rows}, Failure::input, name, ": /split: found ", shape_text(file.shape("/split")),
            ", expected [", rows, "], a number an image");
    for (int64_t first = begin; first < last; first += piece)
      out.images += (file.read_rows("/split", first, std::min(piece, last - first)) == wanted).sum().item<int64_t>();
  } else {
    out.images = last - begin;
  }
  require(out.images > 0 || shard.count > 1, Failure::input, name, ": found no image", all ? "" : " of the split " + split,
          ", expected some");

  out.block = [=](int64_t first) -> std::optional<ImageBlock> {
    while (first < last && !interrupted()) {
      const int64_t here = first, count = std::min(block, last - first);
      first += count;
      Tensor chosen;
      if (!all) {
        chosen = (file.read_rows("/split", here, count) == wanted).nonzero().squeeze(1);
        if (chosen.numel() == 0) continue;
      }
      const Tensor images = file.read_rows("/images", here, count);
      require(images.scalar_type() == at::kByte, Failure::input, name, ": /images: expected bytes");
      if (all) return ImageBlock{at::arange(here, here + count), images, first};
      return ImageBlock{chosen + here, images.index_select(0, chosen), first};
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
  out.image = [=](int64_t row) { return file.read_rows("/images", row, 1)[0]; };
  if (!file.has("/files")) return out;
  require(file.shape("/files") == std::vector<int64_t>{rows}, Failure::input, name, ": /files: found ", shape_text(file.shape("/files")),
          ", expected [", rows, "], a name an image");
  out.names = [=](const std::set<int64_t>& wanted_rows) {
    std::map<int64_t, std::string> found;
    std::vector<std::string> names;
    int64_t begin = 0, end = 0;
    for (const int64_t row : wanted_rows) {
      if (row >= end) {
        begin = row - row % 1024, end = std::min(begin + 1024, rows);
        names = file.read_lines("/files", begin, end - begin);
      }
      found[row] = names[static_cast<size_t>(row - begin)];
    }
    return found;
  };
  return out;
}

ImageSource folder_source(const ExemplarsTable& table, const Classifier& classifier, const Shard& shard) {
  const std::string& folder = table.data;
  const ImageSpec image = classifier.image;
  require(image.channels == 1 || image.channels == 3, Failure::input, "classifier ", classifier.name, " expects images of ", image.channels,
          " channels, a folder holds images of 1 or 3; choose a dataset");
  ImageSource out;
  ImageFiles files = image_files(folder);
  say_passed_over("exemplars", files);
  require(!files.images.empty(), Failure::input, folder, ": found no image in this folder or those within, expected some");
  for (const std::string& name : files.images) out.paths.push_back((fs::path(folder) / name).string());
  const auto [begin, end] = rows_of(shard, static_cast<int64_t>(out.paths.size()), table.batch);
  out.first = begin, out.images = end - begin;

  const std::vector<std::string> paths = out.paths;
  const int64_t batch = table.batch, last = end;
  const bool skip_broken = table.skip_broken;
  out.block = [=](int64_t row) -> std::optional<ImageBlock> {
    while (row < last && !interrupted()) {
      std::vector<int64_t> rows;
      std::vector<Tensor> images;
      for (const int64_t end = std::min(last, row + batch); row < end; ++row) {
        try {
          images.push_back(fit_image(load_image(paths[static_cast<size_t>(row)], image.channels), image.height, image.width));
          rows.push_back(row);
        } catch (const Error& error) {
          require(error.kind() == Failure::input && skip_broken, error.kind(), error.what(),
                  error.kind() == Failure::input ? "; or leave such files out with --skip-broken" : "");
          warn(text(error.what(), "; left out"));
        }
      }
      if (!rows.empty()) return ImageBlock{at::tensor(rows, at::kLong), at::stack(images), row};
    }
    return std::nullopt;
  };
  out.pictures = [=](const std::set<int64_t>& wanted) {
    std::map<int64_t, Tensor> found;
    for (const int64_t row : wanted)
      found[row] = for_sheet(fit_image(load_image(paths[static_cast<size_t>(row)], image.channels), image.height, image.width));
    return found;
  };
  out.image = [=](int64_t row) {
    return fit_image(load_image(paths[static_cast<size_t>(row)], image.channels), image.height, image.width);
  };
  out.names = [paths](const std::set<int64_t>& wanted) {
    std::map<int64_t, std::string> found;
    for (const int64_t row : wanted) found[row] = paths[static_cast<size_t>(row)];
    return found;
  };
  return out;
}

}  // namespace

ImageSource image_source(const ExemplarsTable& table, const Classifier& classifier, const Shard& shard) {
  if (!fs::is_directory(table.data)) return dataset_source(table, classifier, shard);
  require(table.split == "all", Failure::usage, "--split ", table.split, ": ", table.data,
          " is a folder, which has no splits; leave it out");
  return folder_source(table, classifier, shard);
}

// ---- The pass --------------------------------------------------------------------------------------------------------------------------

namespace {

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
[[noreturn]] void refuse_value(const Tensor& values, const Tensor& rows, const Layer& layer, const ImageSource& source) {
  const Tensor first = at::isfinite(values).logical_not().nonzero()[0];
  const auto row = first[0].item<int64_t>(), unit = first[1].item<int64_t>(), image = rows[row].item<int64_t>();
  fail(Failure::runtime, "exemplars: unit ", layer.name, ":", unit, " answers ", values[row][unit].item<double>(), " to image ",
       source.paths.empty() ? text(image) : source.paths[static_cast<size_t>(image)],
       ", expected a finite number; look for NaN in the weights, or for a normalization that is not this network's");
}

// Where the pass stands: at image `within` of the block that begins at row `first`.
struct Standing {
  int64_t first = 0, within = 0, seen = 0;
};

Checkpoint packed(const std::vector<Gathered>& gathered) {
  Checkpoint out;
  for (size_t i = 0; i < gathered.size(); ++i)
    for (const auto& [part, tensors] :
         {std::pair{"statistics", gathered[i].statistics.pack()}, {"top", gathered[i].top.pack()}, {"bottom", gathered[i].bottom.pack()}})
      for (const auto& [name, tensor] : tensors) out.tensors[text(i, "/", part, "/", name)] = tensor.cpu();
  out.facts["what"] = "exemplars";
  return out;
}

Checkpoint unpacked(const std::string& file, at::Device device, std::vector<Gathered>& gathered) {
  Checkpoint from = load_checkpoint(file);
  require(from.facts["what"] == "exemplars" && from.tensors.contains(text(gathered.size() - 1, "/statistics/count")) &&
              !from.tensors.contains(text(gathered.size(), "/statistics/count")),
          Failure::input, file, ": found no state of a pass over images for ", gathered.size(), " layers; remove it to begin anew");
  const auto part_of = [&](const std::string& prefix) {
    Tensors out;
    for (auto it = from.tensors.lower_bound(prefix); it != from.tensors.end() && it->first.starts_with(prefix); ++it)
      out[it->first.substr(prefix.size())] = it->second;
    return out;
  };
  for (size_t i = 0; i < gathered.size(); ++i) {
    gathered[i].statistics.unpack(part_of(text(i, "/statistics/")), device);
    gathered[i].top.unpack(part_of(text(i, "/top/")), device);
    gathered[i].bottom.unpack(part_of(text(i, "/bottom/")), device);
  }
  return from;
}

void save(const std::string& file, const Standing& at, const std::vector<Gathered>& gathered) {
  Checkpoint out = packed(gathered);
  for (const auto& [name, value] : {std::pair{"first", at.first}, {"within", at.within}, {"seen", at.seen}})
    out.facts[name] = std::to_string(value);
  save_checkpoint(file, out);
}

Standing load(const std::string& file, at::Device device, std::vector<Gathered>& gathered) {
  const Checkpoint from = unpacked(file, device, gathered);
  const auto fact = [&](const std::string& name) {
    const auto found = from.facts.find(name);
    require(found != from.facts.end(), Failure::input, file, ": found no '", name,
            "', expected the state of a pass over images; remove it to begin anew");
    return std::stoll(found->second);
  };
  const Standing at{fact("first"), fact("within"), fact("seen")};
  say(text("exemplars: goes on after ", at.seen, " images"));
  return at;
}

}  // namespace

std::vector<Gathered> nothing_gathered(const std::vector<Asked>& asked, const ExemplarsTable& table) {
  std::vector<Gathered> out;
  for (const Asked& one : asked) {
    const int64_t units = units_of(one.layer);
    out.push_back(
        {UnitStatistics(units), Extremes(units, table.keep, Extremes::End::most), Extremes(units, table.keep, Extremes::End::least)});
  }
  return out;
}
void save_gathered(const std::string& file, const std::vector<Gathered>& gathered) { save_checkpoint(file, packed(gathered)); }
void load_gathered(const std::string& file, at::Device device, std::vector<Gathered>& gathered) { unpacked(file, device, gathered); }

int64_t look(const ImageSource& source, const Classifier& classifier, at::Device device, const std::vector<Asked>& asked,
             const ExemplarsTable& table, const std::string& checkpoint, std::vector<Gathered>& gathered) {
  constexpr double between_saves = 20.0;
  const c10::NoGradGuard no_gradient;
  Standing at = fs::exists(checkpoint) ? load(checkpoint, device, gathered) : Standing{source.first, 0, 0};
  Progress progress("exemplars", source.images, "image");
  double saved = seconds();
  while (const std::optional<ImageBlock> block = source.block(at.first)) {
    while (at.within < block->rows.size(0) && !interrupted()) {
      const Tensor rows = block->rows.slice(0, at.within, at.within + table.batch);
      const Activations activations = answers(block->images.slice(0, at.within, at.within + table.batch), classifier, device, asked);

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
        gathered[i].statistics.see(found[i].first, rows);
        gathered[i].top.see(found[i].first, rows, found[i].second);
        gathered[i].bottom.see(found[i].first, rows, found[i].second);
      }
      at.within += rows.size(0);
      at.seen += rows.size(0);
      progress.at(at.seen);
      if (seconds() - saved < between_saves) continue;
      save(checkpoint, at, gathered);
      saved = seconds();
    }
    if (interrupted()) break;
    at.first = block->next, at.within = 0;
  }
  if (at.seen > 0) save(checkpoint, at, gathered);
  return at.seen;
}

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

}  // namespace evoke
