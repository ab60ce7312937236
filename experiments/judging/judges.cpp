#include "experiments/judging/judges.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <filesystem>
#include <limits>

#include "classifiers/objectives.h"
#include "core/error.h"
#include "core/log.h"
#include "core/numbers/stream.h"
#include "core/records/pictures.h"
#include "core/records/results.h"
#include "core/storage/files.h"
#include "core/storage/hdf5.h"
#include "experiments/judging/figures.h"
#include "experiments/judging/witness.h"
#include "training/datasets/dataset.h"

namespace evoke {

namespace {

constexpr double nothing = std::numeric_limits<double>::quiet_NaN();
constexpr int64_t batch = 64;         // pictures that go through a network together
constexpr int64_t together = 256;     // pictures that are read together
constexpr int64_t largest_side = 48;  // of a small picture

// f over the images in [0,1] at a network's size, some at a time; joined on the CPU.
Tensor in_batches(const Tensor& bytes, const Classifier& classifier, at::Device device, const std::function<Tensor(const Tensor& x)>& f) {
  const c10::NoGradGuard no_gradient;
  std::vector<Tensor> out;
  for (int64_t first = 0; first < bytes.size(0); first += batch)
    out.push_back(f(fitted(from_bytes(bytes.slice(0, first, first + batch)).to(device), classifier.image)).cpu());
  return at::cat(out);
}

// The largest logit of each picture, int64 [N]; -1 where the last layer's units are no classes.
Tensor classes_of(const Classifier& classifier, const Tensor& bytes, at::Device device) {
  const std::string last = classifier.layers.back().name;
  if (classifier.layers.back().shape.size() != 1) return at::full({bytes.size(0)}, -1, at::kLong);
  return in_batches(bytes, classifier, device, [&](const Tensor& x) { return classifier.forward(x, {last}).at(last).argmax(1); });
}

// A unit's own value; of a map's unit without a place the largest over the map, wherever a picture shows what it likes.
Objective largest_over_maps(const std::vector<Unit>& units, const Classifier& target) {
  Objective out = unit_objective(units, target);
  out.score = [units, target, own = out.score](const Tensor& x, const Activations& a) {
    const Tensor scores = own(x, a).clone();
    for (size_t i = 0; i < units.size(); ++i) {
      const Unit& unit = units[i];
      const Layout layout = layout_of(layer_named(target, unit.layer));
      if (unit.y >= 0 || (layout != Layout::map && layout != Layout::map_last)) continue;
      scores.select(1, static_cast<int64_t>(i)).copy_(by_place(a.at(unit.layer), layout).select(2, unit.index).amax(1));
    }
    return scores;
  };
  return out;
}

// Scores [N,K] of images by each kind of column: a unit by its own value, another column by the objective it belongs to; NaN where that
// cannot be asked of one picture.
Tensor scores_of(const Classifier& target, const std::vector<Column>& columns, const Objective& own, const Tensor& bytes,
                 at::Device device) {
  std::vector<Unit> units;
  for (const Column& column : columns)
    if (column.unit) units.push_back(*column.unit);
  const auto scores = [&](const Objective& objective) {
    return in_batches(bytes, target, device,
                      [&](const Tensor& x) { return objective.score(x, target.forward(x, objective.taps)).to(at::kFloat); });
  };
  const Tensor of_units = units.empty() ? Tensor() : scores(largest_over_maps(units, target));
  const bool others = units.size() < columns.size() && own.score && own.rows_independent;
  const Tensor of_own = others ? scores(own) : Tensor();
  std::vector<Tensor> out;
  int64_t unit = 0;
  for (const Column& column : columns) {
    Tensor found = at::full({bytes.size(0)}, nothing, at::kFloat);
    if (column.unit) {
      found = of_units.select(1, unit++);
    } else if (others) {
      for (size_t i = 0; i < own.columns.size(); ++i)
        if (own.columns[i].name == column.name) found = of_own.select(1, static_cast<int64_t>(i));
    }
    out.push_back(found);
  }
  return at::stack(out, 1);
}

// Made no larger than 48 pixels.
Tensor small_of(const Tensor& bytes) {
  const int64_t height = std::min(bytes.size(1), largest_side), width = std::min(bytes.size(2), largest_side);
  if (height == bytes.size(1) && width == bytes.size(2)) return bytes;
  return to_bytes(at::_upsample_bilinear2d_aa(from_bytes(bytes), {height, width}, false));
}

// Pictures of any size at that of `image`.
Tensor at_size(const Tensor& bytes, const ImageSpec& image) {
  if (bytes.size(1) == image.height && bytes.size(2) == image.width) return bytes;
  return to_bytes(fitted(from_bytes(bytes), image));
}

}  // namespace

Kinds kinds_of(const std::vector<Column>& columns) {
  Kinds kinds;
  std::map<std::string, int64_t> seen;
  std::vector<int64_t> rows;
  for (const Column& column : columns) {
    const auto [found, fresh] = seen.try_emplace(column.name, static_cast<int64_t>(kinds.columns.size()));
    if (fresh) kinds.columns.push_back(column);
    rows.push_back(found->second);
  }
  kinds.of_row = at::tensor(rows, at::kLong);
  return kinds;
}

Tensors scores_of(const Judges& judges, const RealImages& real, const std::vector<Column>& columns, const std::string& title) {
  std::vector<Tensor> parts;
  Progress progress(title, real.count, "image");
  for (int64_t first = 0; first < real.count && !interrupted(); first += together) {
    const Tensor rows = at::arange(first, std::min(real.count, first + together), at::kLong);
    parts.push_back(scores_of(judges.target, columns, judges.own, real.read(rows), judges.device));
    progress.at(first + rows.size(0));
  }
  return interrupted() ? Tensors{} : Tensors{{"scores", at::cat(parts)}};
}

void score_real_images(const Judges& judges, const std::vector<Column>& columns) {
  std::vector<Column> missing;
  bool classes = false;
  for (const Column& column : columns) {
    if (judges.real_scores->contains(column.name)) continue;
    missing.push_back(column);
    classes = classes || class_of(judges.target, column) >= 0;
  }
  if (missing.empty()) return;
  if (classes && judges.witness) {
    // What is kept serves every run and every anchor: all classes.
    std::erase_if(missing, [&](const Column& column) { return class_of(judges.target, column) >= 0; });
    for (int64_t i = 0; i < units_of(judges.target.layers.back()); ++i) missing.push_back(column_of({judges.target.layers.back().name, i}));
  }
  std::string key = "largest scores " + judges.target_identity;
  bool units_only = true;
  for (const Column& column : missing) {
    key += "\n" + column.name;
    units_only = units_only && column.unit;
  }
  const auto look = [&] { return scores_of(judges, judges.real, missing, "judge: real images"); };
  const Tensors scores = judges.witness && units_only ? remembered(*judges.witness, key, look) : look();
  if (scores.empty()) return;
  for (size_t i = 0; i < missing.size(); ++i)
    (*judges.real_scores)[missing[i].name] = scores.at("scores").select(1, static_cast<int64_t>(i));
}

Tensor best_real_images(const Judges& judges, const std::vector<Column>& columns, int64_t most, int64_t height, int64_t width) {
  if (judges.real.count < most) return {};
  score_real_images(judges, columns);
  ImageSpec size;
  size.height = height, size.width = width;
  std::vector<Tensor> out;
  for (const Column& column : columns) {
    const auto scores = judges.real_scores->find(column.name);
    if (scores == judges.real_scores->end()) return {};
    out.push_back(at_size(judges.real.read(std::get<1>(scores->second.topk(most))), size));
  }
  return at::cat(out);
}

namespace {

// Where activations fall among those of the real images.
Tensor percentiles(const Judges& judges, const std::vector<Column>& columns, const Tensor& activation) {
  Tensor out = at::full({activation.size(0)}, nothing, at::kDouble);
  if (judges.real.count == 0 || columns.empty()) return out;
  const Kinds kinds = kinds_of(columns);
  score_real_images(judges, kinds.columns);
  for (size_t kind = 0; kind < kinds.columns.size(); ++kind) {
    const auto real = judges.real_scores->find(kinds.columns[kind].name);
    if (real == judges.real_scores->end() || real->second.isnan().any().item<bool>()) continue;
    const Tensor rows = kinds.of_row.eq(static_cast<int64_t>(kind)).nonzero().squeeze(1);
    out.index_put_({rows}, percentile_among(activation.index({rows}), real->second));
  }
  return out;
}

bool same_values(const Tensors& a, const Tensors& b) {
  return a.size() == b.size() && std::all_of(a.begin(), a.end(), [&](const auto& column) {
           const auto other = b.find(column.first);
           return other != b.end() && other->second.scalar_type() == column.second.scalar_type() &&
                  other->second.sizes() == column.second.sizes() && at::allclose(other->second, column.second, 0, 0, /*equal_nan=*/true);
         });
}

}  // namespace

// ---- Pictures --------------------------------------------------------------------------------------------------------------------------

Pictures pictures_in(const Tensor& images, std::vector<Column> columns) {
  require(images.size(0) == static_cast<int64_t>(columns.size()), Failure::input, "judge: found ", images.size(0), " pictures of ",
          columns.size(), " units, expected a unit a picture");
  return {std::move(columns), [images](int64_t first, int64_t count) { return images.narrow(0, first, count); }};
}

Pictures pictures_of_run(const std::string& run) {
  const std::string file = run + "/results.h5";
  Pictures out;
  const int64_t rows = rows_of_results(file);
  constexpr int64_t at_once = 1024;
  for (int64_t first = 0; first < rows; first += at_once) {
    Results part = read_results(file, first, std::min(at_once, rows - first), /*codes=*/false);
    out.columns.insert(out.columns.end(), std::make_move_iterator(part.columns.begin()), std::make_move_iterator(part.columns.end()));
  }
  out.read = [file](int64_t first, int64_t count) { return Hdf5::open(file).read_rows("/images", first, count); };
  return out;
}

SplitImages images_of_dataset(const std::string& file, const ImageSpec& image) {
  const Dataset data = open_dataset(file);
  const auto among = [&](const Tensor& rows) {
    return RealImages{rows.size(0), data.labels.index_select(0, rows),
                      [images = data.images, rows](const Tensor& wanted) { return images.read(rows.index_select(0, wanted)); }};
  };
  const RealImages test = among(data.rows_of(Split::test));
  require(test.count > 0, Failure::input, file, ": its test split is empty; expected images to judge by");
  const std::vector<int64_t>& shape = data.images.shape();
  require(data.height() == image.height && data.width() == image.width && data.channels() == image.channels, Failure::input, file,
          ": found images ", shape_text(shape), ", the target sees ", image.height, "×", image.width, "×", image.channels);
  return {test, among(data.split.ne(static_cast<int64_t>(Split::test)).nonzero().squeeze(1))};
}

Tensor small_pictures(const Pictures& pictures) {
  std::vector<Tensor> out;
  for (int64_t first = 0; first < pictures.count(); first += together)
    out.push_back(small_of(pictures.read(first, std::min(together, pictures.count() - first))));
  return at::cat(out);
}

// ---- Judges ----------------------------------------------------------------------------------------------------------------------------

int64_t class_of(const Classifier& classifier, const Column& column) {
  const Layer& last = classifier.layers.back();
  return column.unit && column.unit->layer == last.name && last.shape.size() == 1 ? column.unit->index : -1;
}

Tensor fitted(const Tensor& x, const ImageSpec& image) {
  if (x.size(2) == image.height && x.size(3) == image.width) return x;
  return at::_upsample_bilinear2d_aa(x, {image.height, image.width}, false);
}

std::string identity_of(const Classifier& classifier, const std::string& file) {
  const ImageSpec& i = classifier.image;
  std::string out = text(sha256_of_file(file), " ", i.channels, " ", i.height, " ", i.width, " ", i.low, " ", i.high, " ", i.bgr);
  for (const std::vector<double>* numbers : {&i.mean, &i.deviation})
    for (const double number : *numbers) out += text(" ", number);
  return out;
}

Judge target_judge(const Classifier& target, const Objective& own, at::Device device) {
  const auto look = [=](const Tensor& images, const std::vector<Column>& columns) {
    std::vector<int64_t> wanted;
    for (const Column& column : columns) wanted.push_back(class_of(target, column));
    const Kinds kinds = kinds_of(columns);
    return Tensors{{"wanted", at::tensor(wanted, at::kLong)},
                   {"target_class", classes_of(target, images, device)},
                   {"activation", scores_of(target, kinds.columns, own, images, device).gather(1, kinds.of_row.unsqueeze(1)).squeeze(1)}};
  };
  return {"target", "the network that was climbed, a unit of a map by its largest value: " + target.name, look};
}

Judge oracle_judge(const std::string& name, const Classifier& oracle, at::Device device) {
  const auto look = [=](const Tensor& images, const std::vector<Column>&) {
    return Tensors{{name + "_class", classes_of(oracle, images, device)}};
  };
  return {name, "a network that took no part: " + oracle.name, look};
}

Judge render_judge(const RenderTemplates& templates) {
  const auto look = [=](const Tensor& images, const std::vector<Column>&) {
    const RenderVerdict verdict = judge_renders(templates, images);
    return Tensors{{"render_class", verdict.shape_class},
                   {"shape_rmse", verdict.shape_rmse},
                   {"margin", verdict.margin},
                   {"tx", verdict.tx},
                   {"ty", verdict.ty},
                   {"theta", verdict.theta}};
  };
  return {"render", "the nearest of all images that the shapes dataset could contain", look};
}

std::string names_of(const Judges& judges) {
  std::string out;
  for (const Judge& judge : judges.all) out += (out.empty() ? "" : "; ") + judge.name + ", " + judge.sentence;
  if (judges.real.count > 0)
    out += text("; percentile, among ", judges.real.count, " real images (", judges.real_identity.substr(0, 12), ")");
  return out;
}

Judged judge_pictures(const Judges& judges, const Pictures& pictures, int64_t first, int64_t count) {
  const int64_t end = count < 0 ? pictures.count() : first + count;
  if (interrupted()) return {};
  Judged judged;
  judged.columns = {pictures.columns.begin() + first, pictures.columns.begin() + end};
  std::vector<Tensors> parts;
  std::vector<Tensor> small;
  for (int64_t begin = first; begin < end; begin += together) {
    if (interrupted()) return {judged.columns, {}, {}};
    const int64_t rows = std::min(together, end - begin);
    const Tensor images = pictures.read(begin, rows), seen = at_size(images, judges.target.image);
    const std::vector<Column> columns(pictures.columns.begin() + begin, pictures.columns.begin() + begin + rows);
    Tensors found;
    for (const Judge& judge : judges.all) found.merge(judge.look(seen, columns));
    parts.push_back(std::move(found));
    small.push_back(small_of(images));
  }
  judged.findings = joined(parts);
  judged.small = at::cat(small);
  judged.findings["percentile"] = percentiles(judges, judged.columns, judged.findings.at("activation"));
  if (interrupted()) judged.findings.clear();
  return judged;
}

std::vector<Anchor> anchors(const Judges& judges, const std::vector<Column>& columns, uint64_t seed) {
  const ImageSpec& image = judges.target.image;
  std::vector<Anchor> out;
  if (judges.real.count > 0 && judges.real.labels.defined()) {
    // Each unit's pictures are different images of its class, in the order of the dataset.
    std::map<int64_t, int64_t> taken;
    std::vector<int64_t> chosen;
    for (const Column& column : columns) {
      const int64_t label = class_of(judges.target, column);
      const Tensor candidates = label < 0 ? at::arange(judges.real.count, at::kLong) : judges.real.labels.eq(label).nonzero().squeeze(1);
      require(candidates.numel() > 0, Failure::input, "judge: the test split has no image of class ", label);
      chosen.push_back(candidates[taken[label]++ % candidates.numel()].item<int64_t>());
    }
    out.push_back({"real images", {columns, [read = judges.real.read, rows = at::tensor(chosen, at::kLong)](int64_t first, int64_t count) {
                                     return read(rows.narrow(0, first, count));
                                   }}});
  }
  out.push_back({"noise", {columns, [=](int64_t first, int64_t count) {
                             Stream stream = Stream::range(seed, first, count);
                             return to_bytes(stream.uniform({image.channels, image.height, image.width}));
                           }}});
  return out;
}

// ---- What is kept ----------------------------------------------------------------------------------------------------------------------

Tensors joined(const std::vector<Tensors>& parts) {
  Tensors out;
  if (parts.empty()) return out;
  for (const auto& [name, values] : parts.front()) {
    std::vector<Tensor> pieces;
    for (const Tensors& part : parts) {
      const auto found = part.find(name);
      require(found != part.end() && part.size() == parts.front().size(), Failure::input, "judge: found no '", name,
              "' in one of the parts, expected findings of the same judges");
      pieces.push_back(found->second);
    }
    out[name] = at::cat(pieces);
  }
  return out;
}

std::pair<std::string, Tensors> stored_judgement(const std::string& run) {
  const Hdf5 file = Hdf5::open(run + "/results.h5");
  std::pair<std::string, Tensors> out;
  if (!file.has("/judge/judges")) return out;
  const std::vector<std::string> lines = file.read_text("/judge/judges");
  out.first = lines.empty() ? "" : lines.front();
  for (const std::string& name : file.names("/judge"))
    if (name != "judges") out.second[name] = file.read("/judge/" + name);
  return out;
}

Tensors stored_findings(const std::string& run, const std::string& judges) {
  auto [names, findings] = stored_judgement(run);
  return names == judges ? findings : Tensors{};
}

void store_findings(const std::string& run, const std::string& judges, const Tensors& findings) {
  if (same_values(stored_findings(run, judges), findings)) return;
  // A copy of results.h5 takes its place.
  const std::string file = run + "/results.h5";
  write_file_with(file, [&](const std::string& temporary) {
    std::filesystem::copy_file(file, temporary, std::filesystem::copy_options::overwrite_existing);
    Hdf5 out = Hdf5::edit(temporary);
    if (out.has("/judge")) out.remove("/judge");
    for (const auto& [name, values] : findings)
      out.write("/judge/" + name, values, values.dim() == 1 ? std::vector<std::string>{"row"} : std::vector<std::string>{"row", name});
    out.write_text("/judge/judges", {judges});
  });
}

Judged judged_run(const Judges& judges, const std::string& run, const Pictures& pictures) {
  Tensors findings = stored_findings(run, names_of(judges));
  if (!findings.empty()) return {pictures.columns, std::move(findings), small_pictures(pictures)};
  Judged judged = judge_pictures(judges, pictures);
  if (!judged.findings.empty()) store_findings(run, names_of(judges), judged.findings);
  return judged;
}

}  // namespace evoke
