#include "classifiers/objectives.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <charconv>
#include <memory>
#include <numeric>
#include <optional>
#include <set>
#include <sstream>
#include <tuple>

#include "core/error.h"
#include "core/files.h"

namespace evoke {

namespace {

// Names and numbers.

const Layer& layer_named(const std::string& name, const Classifier& classifier, const char* where) {
  std::vector<std::string> names;
  for (const Layer& layer : classifier.layers) {
    if (layer.name == name) return layer;
    names.push_back(layer.name);
  }
  fail(Failure::usage, where, ": classifier ", classifier.name, " has no layer '", name, "'", did_you_mean(name, names));
}

bool has_map(const Layer& layer) { return layer.shape.size() == 3; }

void require_known_form(const Layer& layer, const char* where) {
  require(layer.shape.size() == 1 || has_map(layer), Failure::usage, where, ": layer ", layer.name, " gives ", shape_text(layer.shape),
          ", expected [C] or [C,H,W]; choose another layer");
}

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

std::string_view trimmed(std::string_view line) {
  const size_t first = line.find_first_not_of(" \t\r");
  return first == std::string_view::npos ? "" : line.substr(first, line.find_last_not_of(" \t\r") - first + 1);
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

  const Layer& layer = layer_named(word.substr(0, colon), classifier, where.c_str());
  require_known_form(layer, where.c_str());
  std::string rest = word.substr(colon + 1);
  if (&layer == &last)
    if (const auto unit = labelled(rest)) return {{last.name, *unit}};

  Unit place{layer.name};
  if (const size_t at = rest.find('@'); at != std::string::npos) {
    const auto yx = two_numbers(std::string_view(rest).substr(at + 1), ',');
    require(yx.has_value(), Failure::usage, where, ": found the place '", rest.substr(at + 1), "', expected @y,x");
    require(has_map(layer), Failure::usage, where, ": layer ", layer.name, " gives ", shape_text(layer.shape),
            " and has no places; leave out @", rest.substr(at + 1));
    require(yx->first < layer.shape[1] && yx->second < layer.shape[2], Failure::usage, where, ": found the place ", yx->first, ",",
            yx->second, ", expected y below ", layer.shape[1], " and x below ", layer.shape[2]);
    std::tie(place.y, place.x) = *yx;
    rest.resize(at);
  }

  int64_t first = 0, last_unit = layer.shape[0] - 1;
  if (const auto one = number(rest))
    first = last_unit = *one;
  else if (const auto range = two_numbers(rest, '-'))
    std::tie(first, last_unit) = *range;
  else if (rest != "*")
    fail(Failure::usage, where, ": found '", rest, "', expected a number, a range (0-7) or *",
         &layer == &last && !classifier.labels.empty() ? ", or a label" + did_you_mean(rest, classifier.labels) : "");
  require(first <= last_unit && last_unit < layer.shape[0], Failure::usage, where, ": layer ", layer.name, " has the units 0 to ",
          layer.shape[0] - 1);
  std::vector<Unit> out;
  for (place.unit = first; place.unit <= last_unit; ++place.unit) out.push_back(place);
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

// [N,C,H,W] -> [N,H·W,C], free of cost where it is channels_last; [N,C] -> [N,1,C].
Tensor places(const Tensor& a) { return a.dim() == 4 ? a.permute({0, 2, 3, 1}).flatten(1, 2) : a.unsqueeze(1); }

std::vector<std::string> texts(const std::vector<Unit>& units) {
  std::vector<std::string> out;
  for (const Unit& unit : units) out.push_back(unit_text(unit));
  return out;
}

// Columns of units, which may be of several layers: what `values` makes of a layer's activations ([N,K]), at each unit's `index` in it.
Objective columns(const std::string& name, const std::vector<Unit>& units, const Classifier& classifier,
                  std::function<Tensor(const Tensor&)> values, const std::function<int64_t(const Unit&, const Layer&)>& index) {
  require(!units.empty(), Failure::usage, "objective ", name, ": found no units, expected at least one");
  struct OfLayer {
    std::string tap;
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
    const Layer& layer = layer_named(tap, classifier, name.c_str());
    require_known_form(layer, name.c_str());
    std::vector<int64_t> indices;
    for (size_t i = 0; i < units.size(); ++i) {
      if (units[i].layer != tap) continue;
      require(units[i].unit >= 0 && units[i].unit < layer.shape[0], Failure::usage, "objective ", name, ": found unit ", units[i].unit,
              ", layer ", tap, " has the units 0 to ", layer.shape[0] - 1);
      indices.push_back(index(units[i], layer));
      order[i] = column++;
    }
    parts.push_back({tap, kept(at::tensor(indices, at::kLong))});
  }

  Objective out{name, taps, texts(units), {}};
  const auto in_order = std::is_sorted(order.begin(), order.end()) ? nullptr : kept(at::tensor(order, at::kLong));
  out.score = [parts, in_order, values](const Tensor&, const Activations& activations) {
    std::vector<Tensor> found;
    for (const OfLayer& part : parts) {
      const Tensor all = values(activations.at(part.tap));
      found.push_back(all.index_select(1, part.indices(all)));
    }
    const Tensor all = found.size() == 1 ? found.front() : at::cat(found, 1);
    return in_order ? all.index_select(1, in_order(all)) : all;
  };
  return out;
}

int64_t whole_unit(const Unit& unit, const Layer& layer) {
  require(unit.y < 0 && unit.x < 0, Failure::usage, "unit ", unit_text(unit), ": a place means nothing here, where all of ", layer.name,
          "'s map counts; leave it out");
  return unit.unit;
}

int64_t class_unit(const Unit& unit, const Layer& layer) {
  require(!has_map(layer), Failure::usage, "unit ", unit_text(unit), ": layer ", layer.name, " gives ", shape_text(layer.shape),
          ", expected a layer of classes [C]");
  return whole_unit(unit, layer);
}

Objective of_image(const std::string& name, std::function<Tensor(const Tensor& x)> score) {
  return {name, {}, {name}, [score](const Tensor& x, const Activations&) { return score(x); }};
}

}  // namespace

// Units.

std::vector<Unit> parse_units(const std::vector<std::string>& words, const Classifier& classifier, const std::string& folder) {
  require(!classifier.layers.empty(), Failure::input, "units: classifier ", classifier.name, " has no layers to name");
  require(!words.empty(), Failure::usage, "units: found none, expected layer:unit, layer:0-31, layer:unit@y,x, a label, or @file");
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
      if (const std::string_view unit = trimmed(std::string_view(line).substr(0, line.find('#'))); !unit.empty()) within.emplace_back(unit);
    require(!within.empty(), Failure::input, file, ": found no unit, expected one a line");
    for (const std::string& unit : within) add(parse_word(unit, classifier));
  }
  return out;
}

std::string unit_text(const Unit& unit) {
  const std::string place = unit.y < 0 ? "" : text("@", unit.y, ",", unit.x);
  return text(unit.layer, ":", unit.unit, place);
}

std::string unit_name(const Unit& unit, const std::vector<std::string>& labels) {
  const bool labelled = unit.layer == "logits" && unit.unit < static_cast<int64_t>(labels.size());
  return labelled ? unit_text(unit) + " " + labels[unit.unit] : unit_text(unit);
}

// Of units.

Objective unit_objective(const std::vector<Unit>& units, const Classifier& classifier) {
  const auto values = [](const Tensor& a) { return places(a).flatten(1); };
  return columns("unit", units, classifier, values, [](const Unit& unit, const Layer& layer) {
    if (!has_map(layer)) return whole_unit(unit, layer);
    const int64_t y = unit.y < 0 ? layer.shape[1] / 2 : unit.y, x = unit.x < 0 ? layer.shape[2] / 2 : unit.x;
    require(y < layer.shape[1] && x < layer.shape[2], Failure::usage, "unit ", unit_text(unit), ": expected y below ", layer.shape[1],
            " and x below ", layer.shape[2]);
    return (y * layer.shape[2] + x) * layer.shape[0] + unit.unit;
  });
}

Objective channel_objective(const std::vector<Unit>& units, const Classifier& classifier) {
  const auto values = [](const Tensor& a) { return a.dim() == 4 ? a.mean(at::IntArrayRef({2, 3})) : a; };
  return columns("channel", units, classifier, values, whole_unit);
}

Objective logit_objective(const std::vector<Unit>& units, const Classifier& classifier) {
  const std::string last = classifier.layers.empty() ? "" : classifier.layers.back().name;
  for (const Unit& unit : units)
    require(unit.layer == last, Failure::usage, "objective logit: found unit ", unit_text(unit), ", expected units of the last layer, ",
            last, "; use kind = \"unit\" for others");
  return columns(
      "logit", units, classifier, [](const Tensor& a) { return a; }, class_unit);
}

Objective softmax_objective(const std::vector<Unit>& units, const Classifier& classifier) {
  return columns(
      "softmax", units, classifier, [](const Tensor& a) { return at::log_softmax(a, 1).exp(); }, class_unit);
}

Objective log_softmax_objective(const std::vector<Unit>& units, const Classifier& classifier, bool as_released) {
  const auto exact = [](const Tensor& a) { return at::log_softmax(a, 1); };
  const auto released = [](const Tensor& a) {
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
  layer_named(layer, classifier, "objective layer");
  return {"layer", {layer}, {layer}, [layer](const Tensor&, const Activations& activations) {
            return activations.at(layer).square().flatten(1).mean(1, true);
          }};
}

Objective direction_objective(const std::string& layer, const Tensor& directions, const Classifier& classifier, double power) {
  const Layer& found = layer_named(layer, classifier, "objective direction");
  require_known_form(found, "objective direction");
  require(directions.defined() && directions.dim() == 2 && directions.size(1) == found.shape[0] && directions.is_floating_point(),
          Failure::input, "objective direction: found ", directions.defined() ? shape_text(directions.sizes()) : "no direction",
          ", expected [U,", found.shape[0], "], a number for each channel of ", layer);
  const Tensor lengths = directions.norm(2, at::IntArrayRef({1}), true);
  require(lengths.min().item<double>() > 0, Failure::input, "objective direction: found a direction of length 0");

  std::vector<std::string> units;
  for (int64_t i = 0; i < directions.size(0); ++i) units.push_back(text(layer, ":direction", i));
  const auto turned = kept(directions.t().contiguous()), length = kept(lengths.t().contiguous());
  return {"direction", {layer}, units, [=](const Tensor&, const Activations& activations) {
            // A place where nothing is active has no direction: its dot is 0, whatever its cosine is taken to be.
            const Tensor a = places(activations.at(layer));
            const Tensor dot = a.matmul(turned(a));
            const Tensor size = a.square().sum(2, true).clamp_min(1e-24).sqrt();
            const Tensor cosine = dot / (size * length(a));
            return (dot * cosine.clamp_min(0.1).pow(power)).mean(1);
          }};
}

Objective diversity_objective(const std::string& layer, const Classifier& classifier, const Tensor& groups) {
  require_known_form(layer_named(layer, classifier, "objective diversity"), "objective diversity");
  const auto group_of = groups.defined() ? kept(groups) : nullptr;
  return {"diversity", {layer}, {"diversity"}, [layer, group_of](const Tensor&, const Activations& activations) {
            const Tensor a = places(activations.at(layer));
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
          }};
}

// Of the image.

Objective total_variation_objective() {
  return of_image("total_variation", [](const Tensor& x) {
    const auto steps = [](const Tensor& along) { return along.abs().flatten(1).sum(1, true); };
    return -(steps(x.diff(1, 2)) + steps(x.diff(1, 3)));
  });
}

Objective l2_objective(double ground) {
  return of_image("l2", [ground](const Tensor& x) { return -(x - ground).square().flatten(1).sum(1, true); });
}

Objective l1_objective(double ground) {
  return of_image("l1", [ground](const Tensor& x) { return -(x - ground).abs().flatten(1).sum(1, true); });
}

// Of objectives.

Objective negative(Objective objective) {
  return {"negative " + objective.name, objective.taps, objective.units,
          [score = objective.score](const Tensor& x, const Activations& activations) { return -score(x, activations); }};
}

Objective weighted_sum(std::vector<std::pair<Objective, double>> parts) {
  require(!parts.empty(), Failure::usage, "weighted sum: found no objective, expected one or more");
  Objective out;
  std::set<std::string> taps;
  for (const auto& [part, weight] : parts) {
    out.name += text(out.name.empty() ? "" : " + ", weight, " ", part.name);
    taps.insert(part.taps.begin(), part.taps.end());
    if (part.units.size() > out.units.size()) out.units = part.units;
  }
  for (const auto& [part, weight] : parts)
    require(part.units.size() == 1 || part.units.size() == out.units.size(), Failure::usage, "weighted sum: found ", part.units.size(),
            " units in ", part.name, ", expected 1 or ", out.units.size());
  out.taps.assign(taps.begin(), taps.end());
  out.score = [parts](const Tensor& x, const Activations& activations) {
    Tensor sum = parts.front().first.score(x, activations) * parts.front().second;
    for (size_t i = 1; i < parts.size(); ++i) sum = sum + parts[i].first.score(x, activations) * parts[i].second;
    return sum;
  };
  return out;
}

Objective combined(Objective objective, const std::vector<double>& weights) {
  require(weights.size() == objective.units.size(), Failure::usage, "objective combined: found ", weights.size(), " weights for ",
          objective.units.size(), " units, expected one each");
  std::string name;
  for (size_t i = 0; i < weights.size(); ++i) name += text(i ? " + " : "", weights[i], " ", objective.units[i]);
  const auto weight = kept(at::tensor(weights, at::kDouble).unsqueeze(1));
  return {"combined " + objective.name, objective.taps, {name}, [score = objective.score, weight](const Tensor& x, const Activations& a) {
            const Tensor scores = score(x, a);
            return scores.matmul(weight(scores));
          }};
}

Objective interpolation(Objective of_two) {
  require(of_two.units.size() == 2, Failure::usage, "objective interpolation: found ", of_two.units.size(), " units, expected 2");
  const std::string unit = of_two.units[0] + " to " + of_two.units[1];
  return {"interpolation of " + of_two.name, of_two.taps, {unit}, [score = of_two.score](const Tensor& x, const Activations& activations) {
            const Tensor scores = score(x, activations);
            const Tensor t = at::linspace(0, 1, scores.size(0), scores.options());
            return (scores.select(1, 0) * (1 - t) + scores.select(1, 1) * t).unsqueeze(1);
          }};
}

}  // namespace evoke
