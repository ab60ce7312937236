#include "classifiers/objectives.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <memory>
#include <numbers>
#include <numeric>
#include <optional>
#include <set>
#include <sstream>
#include <tuple>

#include "core/error.h"
#include "core/numbers/filters.h"
#include "core/numbers/linear_algebra.h"
#include "core/storage/files.h"
#include "core/storage/safetensors.h"

namespace evoke {

namespace {

// Names and numbers.

std::optional<int64_t> number(std::string_view word) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  if (word.empty() || error != std::errc() || end != word.data() + word.size() || value < 0) return std::nullopt;
  return value;
}

// "a,b" or "a-b".
std::optional<std::pair<int64_t, int64_t>> two_numbers(std::string_view word, char between) {
  const size_t at = word.find(between);
  if (at == std::string_view::npos) return std::nullopt;
  const auto first = number(word.substr(0, at)), second = number(word.substr(at + 1));
  if (!first || !second) return std::nullopt;
  return std::pair{*first, *second};
}

// A line without its comment. A '#' within a word is part of a layer's name ("mlp#2").
std::string_view without_comment(std::string_view line) {
  for (size_t at = line.find('#'); at != std::string_view::npos; at = line.find('#', at + 1))
    if (at == 0 || line[at - 1] == ' ' || line[at - 1] == '\t') return line.substr(0, at);
  return line;
}

std::string_view trimmed(std::string_view line) {
  const size_t first = line.find_first_not_of(" \t\r");
  return first == std::string_view::npos ? "" : line.substr(first, line.find_last_not_of(" \t\r") - first + 1);
}

// "12,9" of a map or "7" of tokens into the unit.
void read_place(Unit& unit, std::string_view place, const Layer& layer, Layout layout, const std::string& where) {
  const auto [height, width] = places_of(layer);
  require(layout != Layout::dense, Failure::usage, where, ": layer ", layer.name, " gives ", shape_text(layer.shape),
          " and has no places; leave out @", place);
  if (layout == Layout::tokens) {
    const auto token = number(place);
    require(token.has_value(), Failure::usage, where, ": found the place '", place, "', expected @t, a token of ", layer.name);
    require(*token < height, Failure::usage, where, ": found token ", *token, ", layer ", layer.name, " has the tokens 0 to ", height - 1);
    unit.y = *token;
    return;
  }
  const auto yx = two_numbers(place, ',');
  require(yx.has_value(), Failure::usage, where, ": found the place '", place, "', expected @y,x");
  require(yx->first < height && yx->second < width, Failure::usage, where, ": found the place ", yx->first, ",", yx->second,
          ", expected y below ", height, " and x below ", width);
  std::tie(unit.y, unit.x) = *yx;
}

// "logits:…", or a label alone.
std::vector<Unit> parse_word(const std::string& word, const Classifier& classifier) {
  const std::string where = "unit '" + word + "'";
  const Layer& last = classifier.layers.back();
  const auto labelled = [&](std::string_view label) {
    const auto found = std::find(classifier.labels.begin(), classifier.labels.end(), label);
    return found == classifier.labels.end() ? std::optional<int64_t>() : found - classifier.labels.begin();
  };
  if (const auto unit = labelled(word)) return {{last.name, *unit}};
  const size_t colon = word.find(':');
  require(colon != std::string::npos, Failure::usage, where, ": found neither layer:unit nor a label",
          classifier.labels.empty() ? "; this classifier has no labels" : did_you_mean(word, classifier.labels));

  const Layer& layer = layer_named(classifier, word.substr(0, colon), where);
  const Layout layout = layout_of(layer, where);
  std::string rest = word.substr(colon + 1);
  if (&layer == &last)
    if (const auto unit = labelled(rest)) return {{last.name, *unit}};

  Unit place{layer.name};
  if (const size_t at = rest.find('@'); at != std::string::npos) {
    read_place(place, std::string_view(rest).substr(at + 1), layer, layout, where);
    rest.resize(at);
  }

  const int64_t units = units_of(layer);
  int64_t first = 0, last_unit = units - 1;
  if (const auto one = number(rest))
    first = last_unit = *one;
  else if (const auto range = two_numbers(rest, '-'))
    std::tie(first, last_unit) = *range;
  else if (rest != "*")
    fail(Failure::usage, where, ": found '", rest, "', expected a number, a range (0-7) or *",
         &layer == &last && !classifier.labels.empty() ? ", or a label" + did_you_mean(rest, classifier.labels) : "");
  require(first <= last_unit, Failure::usage, where, ": found the range ", first, "-", last_unit, ", which runs backwards; expected ",
          last_unit, "-", first);
  require(last_unit < units, Failure::usage, where, ": layer ", layer.name, " has the units 0 to ", units - 1);
  std::vector<Unit> out;
  for (place.index = first; place.index <= last_unit; ++place.index) out.push_back(place);
  return out;
}

// Tensors.

// A tensor that every call needs beside the activations: moved there once, at the first call, and kept.
std::function<Tensor(const Tensor& like)> kept(const Tensor& tensor) {
  const auto held = std::make_shared<Tensor>(tensor);
  return [held](const Tensor& like) {
    const at::ScalarType type = held->is_floating_point() ? like.scalar_type() : held->scalar_type();
    if (held->device() != like.device() || held->scalar_type() != type) {
      const c10::InferenceMode ordinary(false);  // a search may come first; a gradient may come later
      *held = held->to(like.device(), type);
    }
    return *held;
  };
}

std::vector<Column> columns_of(const std::vector<Unit>& units) {
  std::vector<Column> out;
  for (const Unit& unit : units) out.push_back(column_of(unit));
  return out;
}

// Columns of units, which may be of several layers: what `values` makes of a layer's activations ([N,K]), at each unit's `index` in it.
Objective columns(const std::string& name, const std::vector<Unit>& units, const Classifier& classifier,
                  std::function<Tensor(const Tensor&, Layout)> values, const std::function<int64_t(const Unit&, const Layer&)>& index) {
  require(!units.empty(), Failure::usage, "objective ", name, ": found no units, expected at least one");
  struct OfLayer {
    std::string tap;
    Layout layout;
    std::function<Tensor(const Tensor&)> indices;
  };
  std::vector<std::string> taps;
  for (const Unit& unit : units)
    if (std::find(taps.begin(), taps.end(), unit.layer) == taps.end()) taps.push_back(unit.layer);

  // Layer by layer, then in the order in which the units were asked for.
  std::vector<OfLayer> parts;
  std::vector<int64_t> order(units.size());
  int64_t column = 0;
  for (const std::string& tap : taps) {
    const Layer& layer = layer_named(classifier, tap, name);
    const Layout layout = layout_of(layer, name);
    std::vector<int64_t> indices;
    for (size_t i = 0; i < units.size(); ++i) {
      if (units[i].layer != tap) continue;
      require(units[i].index >= 0 && units[i].index < units_of(layer), Failure::usage, "objective ", name, ": found unit ", units[i].index,
              ", layer ", tap, " has the units 0 to ", units_of(layer) - 1);
      indices.push_back(index(units[i], layer));
      order[i] = column++;
    }
    parts.push_back({tap, layout, kept(at::tensor(indices, at::kLong))});
  }

  Objective out{name, taps, columns_of(units), {}};
  const auto in_order = std::is_sorted(order.begin(), order.end()) ? nullptr : kept(at::tensor(order, at::kLong));
  out.score = [parts, in_order, values](const Tensor&, const Activations& activations) {
    std::vector<Tensor> found;
    for (const OfLayer& part : parts) {
      const Tensor all = values(activations.at(part.tap), part.layout);
      found.push_back(all.index_select(1, part.indices(all)));
    }
    const Tensor all = found.size() == 1 ? found.front() : at::cat(found, 1);
    return in_order ? all.index_select(1, in_order(all)) : all;
  };
  return out;
}

int64_t whole_unit(const Unit& unit, const Layer& layer) {
  require(unit.y < 0 && unit.x < 0, Failure::usage, "unit ", unit_text(unit), ": a place means nothing here, where all places of ",
          layer.name, " count; leave it out");
  return unit.index;
}

int64_t class_unit(const Unit& unit, const Layer& layer) {
  require(layer.shape.size() == 1, Failure::usage, "unit ", unit_text(unit), ": layer ", layer.name, " gives ", shape_text(layer.shape),
          ", expected a layer of classes [C]");
  return whole_unit(unit, layer);
}

Objective of_image(const std::string& name, std::function<Tensor(const Tensor& x)> score) {
  return {name, {}, {{name}}, [score](const Tensor& x, const Activations&) { return score(x); }};
}

}  // namespace

// Layers.

Layout layout_of(const Layer& layer, std::string_view where) {
  const std::vector<int64_t>& shape = layer.shape;
  require(shape.size() >= 1 && shape.size() <= 3, Failure::usage, where, ": layer ", layer.name, " gives ", shape_text(shape),
          ", expected [C], [T,D], [C,H,W] or [H,W,C]; choose another layer");
  if (shape.size() == 1) return Layout::dense;
  if (shape.size() == 2) return Layout::tokens;
  return shape[0] == shape[1] && shape[2] != shape[1] ? Layout::map_last : Layout::map;
}

int64_t units_of(const Layer& layer) { return layout_of(layer) == Layout::map ? layer.shape.front() : layer.shape.back(); }

std::pair<int64_t, int64_t> places_of(const Layer& layer) {
  switch (layout_of(layer)) {
    case Layout::tokens:
      return {layer.shape[0], 1};
    case Layout::map:
      return {layer.shape[1], layer.shape[2]};
    case Layout::map_last:
      return {layer.shape[0], layer.shape[1]};
    default:
      return {1, 1};
  }
}

std::vector<std::string> blocks_among(const std::vector<std::string>& names, const std::vector<Layer>& layers) {
  std::vector<std::string> out;
  for (const std::string& name : names)
    if (std::any_of(layers.begin(), layers.end(), [&](const Layer& other) { return other.name.starts_with(name + "."); }))
      out.push_back(name);
  return out;
}

std::string scene_layer(const Classifier& classifier, std::string_view where) {
  const auto places = [](const Layer& layer) {
    const size_t sizes = layer.shape.size();
    return sizes == 2 || sizes == 3 ? places_of(layer) : std::pair<int64_t, int64_t>{1, 1};
  };
  std::pair<int64_t, int64_t> last{1, 1};
  for (const Layer& layer : classifier.layers)
    if (const auto [height, width] = places(layer); height * width > 1) last = {height, width};
  require(last != std::pair<int64_t, int64_t>{1, 1}, Failure::usage, where, ": found no layer with places in classifier ", classifier.name,
          ", expected one; name a layer");
  std::vector<std::string> layers;
  for (const Layer& layer : classifier.layers)
    if (places(layer) == last) layers.push_back(layer.name);
  const std::vector<std::string> blocks = blocks_among(layers, classifier.layers);
  const std::vector<std::string>& among = blocks.empty() ? layers : blocks;
  return among[(among.size() - 1) / 3];
}

Tensor by_place(const Tensor& a, Layout layout) {
  switch (layout) {
    case Layout::tokens:
      return a;
    case Layout::map:
      return a.permute({0, 2, 3, 1}).flatten(1, 2);
    case Layout::map_last:
      return a.flatten(1, 2);
    default:
      return a.unsqueeze(1);
  }
}

int64_t usual_place(const Layer& layer) {
  if (layout_of(layer) == Layout::tokens) return 0;
  const auto [height, width] = places_of(layer);
  return height / 2 * width + width / 2;
}

// Units.

std::vector<Unit> parse_units(const std::vector<std::string>& words, const Classifier& classifier, const std::string& folder) {
  require(!classifier.layers.empty(), Failure::input, "units: classifier ", classifier.name, " has no layers to name");
  require(!words.empty(), Failure::usage,
          "units: found none, expected layer:unit, layer:0-31, layer:unit@y,x, layer:unit@token, a label, or @file");
  std::vector<Unit> out;
  const auto add = [&](const std::vector<Unit>& units) {
    for (const Unit& unit : units)
      if (std::find(out.begin(), out.end(), unit) == out.end()) out.push_back(unit);
  };
  for (const std::string& word : words) {
    if (!word.starts_with('@')) {
      add(parse_word(word, classifier));
      continue;
    }
    const std::string name = word.substr(1), file = name.starts_with('/') || folder.empty() ? name : folder + "/" + name;
    std::istringstream lines(read_file(file));
    std::vector<std::string> within;
    for (std::string line; std::getline(lines, line);)
      if (const std::string_view unit = trimmed(without_comment(line)); !unit.empty()) within.emplace_back(unit);
    require(!within.empty(), Failure::input, file, ": found no unit, expected one a line");
    for (const std::string& unit : within) add(parse_word(unit, classifier));
  }
  return out;
}

// Of units.

Objective unit_objective(const std::vector<Unit>& units, const Classifier& classifier) {
  const auto values = [](const Tensor& a, Layout layout) { return by_place(a, layout).flatten(1); };
  return columns("unit", units, classifier, values, [](const Unit& unit, const Layer& layer) {
    if (layout_of(layer) == Layout::dense) return whole_unit(unit, layer);
    const auto [height, width] = places_of(layer);
    const int64_t usual = usual_place(layer), y = unit.y < 0 ? usual / width : unit.y, x = unit.x < 0 ? usual % width : unit.x;
    require(y < height && x < width, Failure::usage, "unit ", unit_text(unit), ": expected y below ", height, " and x below ", width);
    return (y * width + x) * units_of(layer) + unit.index;
  });
}

Objective channel_objective(const std::vector<Unit>& units, const Classifier& classifier) {
  // Not through by_place: a map's channels that come first need not be moved for this.
  const auto values = [](const Tensor& a, Layout layout) {
    if (layout == Layout::map) return a.mean(at::IntArrayRef({2, 3}));
    if (layout == Layout::map_last) return a.mean(at::IntArrayRef({1, 2}));
    return layout == Layout::tokens ? a.mean(1) : a;
  };
  return columns("channel", units, classifier, values, whole_unit);
}

Objective logit_objective(const std::vector<Unit>& units, const Classifier& classifier) {
  const std::string last = classifier.layers.empty() ? "" : classifier.layers.back().name;
  for (const Unit& unit : units)
    require(unit.layer == last, Failure::usage, "objective logit: found unit ", unit_text(unit), ", expected units of the last layer, ",
            last, "; use kind = \"unit\" for others");
  return columns(
      "logit", units, classifier, [](const Tensor& a, Layout) { return a; }, class_unit);
}

Objective softmax_objective(const std::vector<Unit>& units, const Classifier& classifier) {
  return columns(
      "softmax", units, classifier, [](const Tensor& a, Layout) { return at::log_softmax(a, 1).exp(); }, class_unit);
}

Objective log_softmax_objective(const std::vector<Unit>& units, const Classifier& classifier, bool as_released) {
  const auto exact = [](const Tensor& a, Layout) { return at::log_softmax(a, 1); };
  const auto released = [](const Tensor& a, Layout) {
    // The value of log p, the slope of a·(1 - p) with p held fixed.
    const Tensor value = at::log_softmax(a.detach(), 1);
    const Tensor sloped = a * -at::expm1(value);
    return value + (sloped - sloped.detach());
  };
  if (as_released) return columns("log_softmax", units, classifier, released, class_unit);
  return columns("log_softmax", units, classifier, exact, class_unit);
}

// Of layers.

Objective layer_objective(const std::string& layer, const Classifier& classifier) {
  layer_named(classifier, layer, "objective layer");
  return {"layer", {layer}, {{layer}}, [layer](const Tensor&, const Activations& activations) {
            return activations.at(layer).square().flatten(1).mean(1, true);
          }};
}

Objective direction_objective(const std::string& layer, const Tensor& directions, const Classifier& classifier, double power) {
  const Layer& found = layer_named(classifier, layer, "objective direction");
  const Layout layout = layout_of(found, "objective direction");
  require(directions.defined() && directions.dim() == 2 && directions.size(1) == units_of(found) && directions.is_floating_point(),
          Failure::input, "objective direction: found ", directions.defined() ? shape_text(directions.sizes()) : "no direction",
          ", expected [U,", units_of(found), "], a number for each channel of ", layer);
  const Tensor lengths = directions.norm(2, at::IntArrayRef({1}), true);
  require(lengths.min().item<double>() > 0, Failure::input, "objective direction: found a direction of length 0");

  std::vector<Column> columns;
  for (int64_t i = 0; i < directions.size(0); ++i) columns.push_back({text(layer, ":direction", i)});
  const auto turned = kept(directions.t().contiguous()), length = kept(lengths.t().contiguous());
  return {"direction", {layer}, columns, [=](const Tensor&, const Activations& activations) {
            // A place where nothing is active has no direction: its dot is 0, whatever its cosine is taken to be.
            const Tensor a = by_place(activations.at(layer), layout);
            const Tensor dot = a.matmul(turned(a));
            const Tensor size = a.square().sum(2, true).clamp_min(1e-24).sqrt();
            const Tensor cosine = dot / (size * length(a));
            return (dot * cosine.clamp_min(0.1).pow(power)).mean(1);
          }};
}

Objective diversity_objective(const std::string& layer, const Classifier& classifier, const Tensor& groups) {
  const Layout layout = layout_of(layer_named(classifier, layer, "objective diversity"), "objective diversity");
  const auto group_of = groups.defined() ? kept(groups) : nullptr;
  return {"diversity",
          {layer},
          {{"diversity of " + layer}},
          [layer, layout, group_of](const Tensor&, const Activations& activations) {
            const Tensor a = by_place(activations.at(layer), layout);
            const Tensor gram = a.transpose(1, 2).matmul(a).flatten(1);
            const Tensor unit = gram / gram.square().sum(1, true).clamp_min(1e-24).sqrt();

            // Which pairs count: other rows of one's own group.
            const int64_t rows = a.size(0);
            Tensor pairs = 1.0 - at::eye(rows, a.options());
            if (group_of) {
              const Tensor group = group_of(a);
              require(group.size(0) == rows, Failure::runtime, "objective diversity: found ", rows, " rows, expected ", group.size(0),
                      ", those it was made for");
              pairs = pairs * group.unsqueeze(0).eq(group.unsqueeze(1));
            }
            return (unit.matmul(unit.t()) * pairs).sum(1, true) * -0.5;
          },
          /*rows_independent=*/false};
}

namespace {

// What the layer gives for an image, looked at once, at the first call and on the device where it is wanted.
std::function<Tensor(const Tensor& like)> answer_to(const Tensor& image, const std::string& layer, const Classifier& classifier,
                                                    const std::string& name) {
  layer_named(classifier, layer, name);
  require_shape(image, {classifier.image.channels, classifier.image.height, classifier.image.width}, name + ": image");
  const auto held = std::make_shared<Tensor>();
  return [held, image, layer, forward = classifier.forward, name](const Tensor& like) {
    if (!held->defined() || held->device() != like.device()) {
      const c10::InferenceMode ordinary(false);  // a search may come first; a gradient may come later
      const c10::NoGradGuard no_gradient;
      *held = forward(image.unsqueeze(0).to(like.options()), {layer}).at(layer).clone();
      require(held->square().sum().item<double>() > 0, Failure::input, name, ": layer ", layer,
              " gives zeros alone for the image; choose another image or layer");
    }
    return *held;
  };
}

}  // namespace

Objective inversion_objective(const std::string& layer, const Tensor& image, const Classifier& classifier) {
  const auto wanted = answer_to(image, layer, classifier, "objective inversion");
  return {"inversion", {layer}, {{layer + ":inversion"}}, [layer, wanted](const Tensor&, const Activations& activations) {
            const Tensor &a = activations.at(layer), a0 = wanted(a);
            return -(a - a0).square().flatten(1).sum(1, true) / a0.square().sum();
          }};
}

Objective caricature_objective(const std::string& layer, const Tensor& image, const Classifier& classifier, double power) {
  const auto wanted = answer_to(image, layer, classifier, "objective caricature");
  return {"caricature", {layer}, {{layer + ":caricature"}}, [layer, wanted, power](const Tensor&, const Activations& activations) {
            const Tensor &a = activations.at(layer), a0 = wanted(a);
            const Tensor dot = (a * a0).flatten(1).sum(1, true);
            const Tensor size = a.square().flatten(1).sum(1, true).clamp_min(1e-24).sqrt();
            const Tensor cosine = dot / (size * a0.square().sum().sqrt());
            return dot * cosine.clamp_min(0.1).pow(power);
          }};
}

// Of the image.

Objective total_variation_objective(Variation variation) {
  return of_image("total_variation", [variation](const Tensor& x) {
    if (variation == Variation::sum) {
      const auto steps = [](const Tensor& along) { return along.abs().flatten(1).sum(1, true); };
      return -(steps(x.diff(1, 2)) + steps(x.diff(1, 3)));
    }
    const Tensor down = at::constant_pad_nd(x.diff(1, 2), {0, 0, 0, 1}), right = at::constant_pad_nd(x.diff(1, 3), {0, 1, 0, 0});
    // The norm, not a root of squares: its slope where both are 0 is 0.
    return -at::linalg_vector_norm(at::stack({down, right}), 2, at::IntArrayRef{0}).flatten(1).sum(1, true);
  });
}

Objective l2_objective(double ground) {
  return of_image("l2", [ground](const Tensor& x) { return -(x - ground).square().flatten(1).sum(1, true); });
}

Objective l1_objective(double ground) {
  return of_image("l1", [ground](const Tensor& x) { return -(x - ground).abs().flatten(1).sum(1, true); });
}

Objective blur_objective(double deviation) {
  return of_image("blur", [deviation](const Tensor& x) {
    return -(x - gaussian_blurred(x, deviation, Border::repeated)).square().flatten(1).sum(1, true);
  });
}

Objective bilateral_objective(double deviation, double colour) {
  return of_image("bilateral", [deviation, colour](const Tensor& x) {
    return -(x - bilateral_filtered(x, deviation, colour)).square().flatten(1).sum(1, true);
  });
}

Objective centre_objective(double radius, double ground) {
  return of_image("centre", [radius, ground](const Tensor& x) {
    const auto along = [&](int64_t size) { return at::arange(size, x.options()) - 0.5 * static_cast<double>(size - 1); };
    const double half = 0.5 * static_cast<double>(std::max(x.size(2), x.size(3)));
    const Tensor r2 = (along(x.size(2)).square().unsqueeze(1) + along(x.size(3)).square()) / (half * half);
    const Tensor weight = 1 - (r2 * (-0.5 / (radius * radius))).exp();
    return -(weight * (x - ground).square()).flatten(1).sum(1, true);
  });
}

// Of patches.

void save_patches(const std::string& file, const Patches& patches, const std::string& dataset) {
  save_weights(file, "patches", "",
               {{"mean", patches.mean}, {"covariance", patches.covariance}, {"examples", patches.examples.to(at::kFloat)}},
               {{"evoke.dataset", dataset}});
}

Patches load_patches(const std::string& file) {
  const Tensors found = load_weights(file, {"patches"}).tensors;
  for (const char* name : {"mean", "covariance", "examples"})
    require(found.contains(name), Failure::input, file, ": found no tensor '", name, "', expected one; measure it again");
  Patches out{0, 0, found.at("mean"), found.at("covariance"), found.at("examples").to(at::kFloat)};
  require(out.examples.dim() == 4 && out.examples.numel() > 0 && out.examples.size(2) == out.examples.size(3), Failure::input, file,
          ": found examples ", shape_text(out.examples.sizes()), ", expected square patches [K,C,S,S]");
  out.channels = out.examples.size(1), out.side = out.examples.size(2);
  const int64_t size = out.channels * out.side * out.side;
  require_shape(out.mean, {size}, file + ": mean");
  require_shape(out.covariance, {size, size}, file + ": covariance");
  return out;
}

namespace {

void require_patches(const Tensor& x, const Patches& patches) {
  require(x.size(1) == patches.channels && x.size(2) >= patches.side && x.size(3) >= patches.side, Failure::input,
          "objective patches: found patches [", patches.channels, ",", patches.side, ",", patches.side, "] for images ",
          shape_text(x.sizes().slice(1)), ", expected patches of those channels, and no larger");
}

}  // namespace

Objective patch_gaussian_objective(const Patches& patches, double noise) {
  const int64_t size = patches.mean.numel();
  const std::optional<Whitening> white =
      whitening(patches.covariance.to(at::kDouble) + noise * noise * at::eye(size, at::TensorOptions(at::kDouble)));
  require(white.has_value(), Failure::input, "objective patches: the covariance of the patches is not positive definite; raise noise");
  // L⁻¹(p - μ) at every place is a convolution with the rows of L⁻¹.
  const auto rows = kept(white->inverse.view({size, patches.channels, patches.side, patches.side}).contiguous());
  const auto shift = kept(-white->inverse.matmul(patches.mean.to(at::kDouble)));
  const double constant = white->log_determinant + 0.5 * static_cast<double>(size) * std::log(2 * std::numbers::pi);
  return of_image("patches", [patches = Patches{patches.channels, patches.side, {}, {}, {}}, rows, shift, constant](const Tensor& x) {
    require_patches(x, patches);
    const Tensor z = at::conv2d(x, rows(x), shift(x));
    return -0.5 * z.square().flatten(1).sum(1, true) - constant * static_cast<double>(z.size(2) * z.size(3));
  });
}

Objective nearest_patch_objective(const Patches& patches, int64_t stride) {
  const auto examples = kept(patches.examples.flatten(1).contiguous());
  return of_image("patches", [patches = Patches{patches.channels, patches.side, {}, {}, {}}, examples, stride](const Tensor& x) {
    require_patches(x, patches);
    // |p - q|² = |p|² - 2 p·q + |q|² finds the nearest, of which the distance is then taken as it is.
    const Tensor own = at::im2col(x, {patches.side, patches.side}, {1, 1}, {0, 0}, {stride, stride}).transpose(1, 2), all = examples(x);
    const Tensor which = (all.square().sum(1) - 2 * own.detach().matmul(all.t())).argmin(2);
    const Tensor nearest = all.index_select(0, which.flatten()).view_as(own);
    return -(own - nearest).square().flatten(1).sum(1, true);
  });
}

// Of objectives.

Objective negative(Objective objective) {
  objective.name = "negative " + objective.name;
  objective.score = [score = objective.score](const Tensor& x, const Activations& activations) { return -score(x, activations); };
  return objective;
}

Objective weighted_sum(std::vector<std::pair<Objective, double>> parts) {
  require(!parts.empty(), Failure::usage, "weighted sum: found no objective, expected one or more");
  Objective out;
  std::set<std::string> taps;
  for (const auto& [part, weight] : parts) {
    out.name += text(out.name.empty() ? "" : " + ", weight, " ", part.name);
    taps.insert(part.taps.begin(), part.taps.end());
    if (part.columns.size() > out.columns.size()) out.columns = part.columns;
    out.rows_independent = out.rows_independent && part.rows_independent;
  }
  for (const auto& [part, weight] : parts)
    require(part.columns.size() == 1 || part.columns.size() == out.columns.size(), Failure::usage, "weighted sum: found ",
            part.columns.size(), " units in ", part.name, ", expected 1 or ", out.columns.size());
  out.taps.assign(taps.begin(), taps.end());
  out.score = [parts](const Tensor& x, const Activations& activations) {
    Tensor sum = parts.front().first.score(x, activations) * parts.front().second;
    for (size_t i = 1; i < parts.size(); ++i) sum = sum + parts[i].first.score(x, activations) * parts[i].second;
    return sum;
  };
  return out;
}

Objective combined(Objective objective, const std::vector<double>& weights) {
  require(weights.size() == objective.columns.size(), Failure::usage, "objective combined: found ", weights.size(), " weights for ",
          objective.columns.size(), " units, expected one each");
  std::string name;
  for (size_t i = 0; i < weights.size(); ++i) name += text(i ? " + " : "", weights[i], " ", objective.columns[i].name);
  const auto weight = kept(at::tensor(weights, at::kDouble).unsqueeze(1));
  objective.name = "combined " + objective.name;
  objective.columns = {{name}};
  objective.score = [score = objective.score, weight](const Tensor& x, const Activations& a) {
    const Tensor scores = score(x, a);
    return scores.matmul(weight(scores));
  };
  return objective;
}

Objective interpolation(Objective of_two) {
  require(of_two.columns.size() == 2, Failure::usage, "objective interpolation: found ", of_two.columns.size(), " units, expected 2");
  const std::string name = of_two.columns[0].name + " to " + of_two.columns[1].name;
  return {"interpolation of " + of_two.name,
          of_two.taps,
          {{name}},
          [score = of_two.score](const Tensor& x, const Activations& activations) {
            const Tensor scores = score(x, activations);
            const Tensor t = at::linspace(0, 1, scores.size(0), scores.options());
            return (scores.select(1, 0) * (1 - t) + scores.select(1, 1) * t).unsqueeze(1);
          },
          /*rows_independent=*/false};
}

}  // namespace evoke
