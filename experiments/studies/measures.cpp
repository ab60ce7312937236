#include "experiments/studies/measures.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "classifiers/menu.h"
#include "classifiers/networks.h"
#include "classifiers/objectives.h"
#include "classifiers/transforms.h"
#include "core/error.h"
#include "core/records/pictures.h"

namespace evoke {

namespace {

constexpr double nothing = std::numeric_limits<double>::quiet_NaN();
constexpr int64_t batch = 32;

// Pictures of a run, as the classifier takes them: float [n,C,H,W] in [0,1].
Tensor pictures_of(const StudyRun& run, int64_t first, int64_t count) {
  return fitted(from_bytes(run.pictures.read(first, count)).to(run.device), run.classifier.image);
}

// What a layer says of images, [N,P,C].
Tensor seen(const StudyRun& run, const Tensor& images, const std::string& layer) {
  const c10::NoGradGuard no_gradient;
  const Layout layout = layout_of(layer_named(run.classifier, layer));
  std::vector<Tensor> parts;
  for (int64_t first = 0; first < images.size(0); first += batch)
    parts.push_back(by_place(run.classifier.forward(images.slice(0, first, first + batch), {layer}).at(layer), layout));
  return at::cat(parts).to(at::kDouble).cpu();
}

const Unit& unit_of(const StudyRun& run, size_t column) {
  require(run.columns[column].unit.has_value(), Failure::input, "study: the run ", run.name, " is about ", run.columns[column].name,
          ", which is no single unit; expected units");
  return *run.columns[column].unit;
}

// A unit's answer to images, [N]: the mean or the largest value over its places.
Tensor answers(const StudyRun& run, const Unit& unit, const Tensor& images, const std::string& of) {
  const Tensor a = seen(run, images, unit.layer).select(2, unit.index);
  return of == "max" ? a.amax(1) : a.mean(1);
}

// ---- Responses -------------------------------------------------------------------------------------------------------------------------

struct ResponsesOptions {
  std::string run, of = "mean";
};
void describe(Fields& f, ResponsesOptions& o) {
  f("run", o.run, "whose pictures");
  f.choice("of", o.of, "a channel's answer over its map", {"mean", "max"});
}

// The pictures that a unit's own is set beside. x: [n,3,H,W].
std::vector<std::pair<std::string, Tensor>> beside(const Tensor& x, uint64_t seed) {
  Stream stream = Stream::range(seed, 0, 8, x.device());
  const Tensor one = x.slice(0, 0, 1);
  const auto plain = [&](double r, double g, double b) {
    return at::tensor({r, g, b}, one.options()).view({1, 3, 1, 1}).expand_as(one).contiguous();
  };
  const auto only = [&](int64_t channel) {
    Tensor out = at::zeros_like(x);
    out.select(1, channel).copy_(x.select(1, channel));
    return out;
  };
  const Tensor luminance = (0.2126 * x.select(1, 0) + 0.7152 * x.select(1, 1) + 0.0722 * x.select(1, 2)).unsqueeze(1).expand_as(x);
  return {{"its picture", x},
          {"red channel alone", only(0)},
          {"green channel alone", only(1)},
          {"blue channel alone", only(2)},
          {"channels rotated", x.index_select(1, at::tensor({2, 0, 1}, at::kLong).to(x.device()))},
          {"in grey", luminance.contiguous()},
          {"noise", stream.uniform(one.sizes().slice(1))},
          {"white", plain(1, 1, 1)},
          {"mid-grey", plain(0.5, 0.5, 0.5)},
          {"black", plain(0, 0, 0)}};
}

Measured responses(const ResponsesOptions& o, const MeasureOrder& order) {
  const StudyRun& run = order.run(o.run);
  require(run.classifier.image.channels == 3, Failure::input, "study: responses are about colours, found a network of ",
          run.classifier.image.channels, " channels");
  Measured out{text("Answer (", o.of, " over the map) to the pictures of ", run.name, " and to plain ones"), "image", {}, {}, false};
  for (size_t u = 0; u < run.columns.size(); ++u) {
    const Unit& unit = unit_of(run, u);
    out.columns.push_back(run.columns[u].name);
    const auto images = beside(pictures_of(run, static_cast<int64_t>(u) * run.chains, run.chains), run.seed);
    for (size_t i = 0; i < images.size(); ++i) {
      if (u == 0) out.rows.push_back({images[i].first, {}});
      out.rows[i].second.push_back(answers(run, unit, images[i].second, o.of).mean().item<double>());
    }
  }
  return out;
}

// ---- Tuning curves ---------------------------------------------------------------------------------------------------------------------

struct TuningOptions {
  std::string run, by = "zoom", of = "mean";
  std::vector<double> at;
};
void describe(Fields& f, TuningOptions& o) {
  f("run", o.run, "whose pictures");
  f.choice("by", o.by, "what is changed", {"zoom", "rotation", "contrast"});
  f("at", o.at, "", "factors of enlargement or of contrast about mid-grey, or degrees");
  f.choice("of", o.of, "a channel's answer over its map", {"mean", "max"});
}

Measured tuning(const TuningOptions& o, const MeasureOrder& order) {
  const StudyRun& run = order.run(o.run);
  Measured out{text("Tuning of the pictures of ", run.name, " to ", o.by), o.by == "rotation" ? "degrees" : o.by, {}, {}, true};
  for (const double value : o.at) out.rows.push_back({short_number(value), {}});
  for (size_t u = 0; u < run.columns.size(); ++u) {
    const Unit& unit = unit_of(run, u);
    out.columns.push_back(run.columns[u].name);
    const Tensor x = pictures_of(run, static_cast<int64_t>(u) * run.chains, run.chains);
    for (size_t i = 0; i < o.at.size(); ++i) {
      const double value = o.at[i];
      Stream stream = Stream::range(run.seed, 0, x.size(0), x.device());
      const Tensor changed = o.by == "zoom"       ? scale(value, value, 0, grey)(x, stream)
                             : o.by == "rotation" ? rotate(value, value, 0, grey)(x, stream)
                                                  : (0.5 + value * (x - 0.5)).clamp(0, 1);
      out.rows[i].second.push_back(answers(run, unit, changed, o.of).mean().item<double>());
    }
  }
  return out;
}

// ---- Repeats ---------------------------------------------------------------------------------------------------------------------------

struct RepeatsOptions {
  std::string run, against;
};
void describe(Fields& f, RepeatsOptions& o) {
  f("run", o.run, "whose pictures of one unit are compared with one another, by what the network's last layer says of them");
  f("against", o.against, "a run of the same units whose pictures are compared with those; empty: all pairs within the first");
}

struct Likeness {
  double rank = 0, first = 0, five = 0;  // sums over pairs
  int64_t pairs = 0;
};
void add_pair(Likeness& all, const Tensor& a, const Tensor& b) {
  all.rank += spearman(a, b);
  const int64_t few = std::min<int64_t>(5, a.size(0));
  const Tensor best = std::get<1>(a.topk(few)), other = std::get<1>(b.topk(few));
  all.first += best[0].item<int64_t>() == other[0].item<int64_t>() ? 1 : 0;
  all.five += (best.unsqueeze(1) == other.unsqueeze(0)).sum().item<double>() / static_cast<double>(few);
  ++all.pairs;
}

Measured repeats(const RepeatsOptions& o, const MeasureOrder& order) {
  const StudyRun& run = order.run(o.run);
  const StudyRun& other = o.against.empty() ? run : order.run(o.against);
  require(other.columns.size() == run.columns.size(), Failure::input, "study: the runs ", run.name, " and ", other.name,
          " are not about the same units");
  Measured out{o.against.empty() ? text("Pairs of pictures of one unit, by ", run.name)
                                 : text("Pairs of pictures of one unit, by ", run.name, " and by ", other.name),
               "unit",
               {"spearman", "same first class", "shared of first five", "pairs"},
               {},
               false};
  Likeness total;
  const std::string last = run.classifier.layers.back().name;
  for (size_t u = 0; u < run.columns.size(); ++u) {
    const auto logits = [&](const StudyRun& of) {
      return seen(run,
                  fitted(from_bytes(of.pictures.read(static_cast<int64_t>(u) * of.chains, of.chains)).to(run.device), run.classifier.image),
                  last)
          .flatten(1);
    };
    const Tensor a = logits(run), b = o.against.empty() ? a : logits(other);
    Likeness of_unit;
    for (int64_t i = 0; i < a.size(0); ++i)
      for (int64_t j = o.against.empty() ? i + 1 : 0; j < b.size(0); ++j) {
        add_pair(of_unit, a[i], b[j]);
        add_pair(total, a[i], b[j]);
      }
    const auto mean = [](double sum, int64_t pairs) { return pairs > 0 ? sum / static_cast<double>(pairs) : nothing; };
    const auto line = [&](const Likeness& l) {
      return std::vector<double>{mean(l.rank, l.pairs), mean(l.first, l.pairs), mean(l.five, l.pairs), static_cast<double>(l.pairs)};
    };
    out.rows.push_back({run.columns[u].name, line(of_unit)});
    if (u + 1 == run.columns.size() && u > 0) out.rows.push_back({"all", line(total)});
  }
  return out;
}

// ---- Slopes ----------------------------------------------------------------------------------------------------------------------------

struct SlopesOptions {
  std::string run;
  int64_t starts = 16;
};
void describe(Fields& f, SlopesOptions& o) {
  f("run", o.run, "whose generator, network and objective");
  f("starts", o.starts, "codes", "drawn as the run draws its starts, for each unit", {1, 4096});
}

Measured slopes(const SlopesOptions& o, const MeasureOrder& order) {
  const StudyRun& run = order.run(o.run);
  require(run.generator.start != nullptr, Failure::input, "study: the generator of ", run.name, " has no starting codes of its own");
  Measured out{text("How far the objective's slope reaches, by ", run.name), "at", {"slope", "share of zeros"}, {}, false};
  std::vector<std::string> taps;
  for (const Layer& layer : run.classifier.layers) taps.push_back(layer.name);
  for (const std::string& tap : run.objective.taps)
    if (std::find(taps.begin(), taps.end(), tap) == taps.end()) taps.push_back(tap);
  std::vector<double> sum(taps.size() + 2), zeros(taps.size() + 2);
  std::vector<bool> reached(taps.size() + 2);
  for (size_t u = 0; u < run.columns.size(); ++u) {
    const c10::AutoGradMode with_gradient(true);
    Stream stream = Stream::range(run.seed, static_cast<int64_t>(u) * o.starts, o.starts, run.device);
    const Tensor z = run.generator.start(stream).detach().clone().requires_grad_();
    const Tensor drawn = run.generator.decode(z);
    // A second name for the image, so that it has a slope of its own.
    const Tensor x = fitted(drawn, run.classifier.image);
    const Activations a = run.classifier.forward(x, taps);
    const Tensor score = run.objective.score(x, a).select(1, static_cast<int64_t>(u)).sum();
    std::vector<Tensor> at_all{z, x};
    for (const std::string& tap : taps) at_all.push_back(a.at(tap));
    for (size_t i = 0; i < at_all.size(); ++i) {
      if (!at_all[i].requires_grad()) continue;
      const Tensor g = torch::autograd::grad({score}, {at_all[i]}, {}, true, false, true)[0];
      if (!g.defined()) continue;
      reached[i] = true;
      sum[i] += g.flatten(1).norm(2, 1).mean().item<double>();
      zeros[i] += (g == 0).to(at::kFloat).mean().item<double>();
    }
  }
  const auto units = static_cast<double>(run.columns.size());
  for (size_t i = 0; i < sum.size(); ++i) {
    const std::string name = i == 0 ? "code" : i == 1 ? "image" : taps[i - 2];
    if (reached[i]) out.rows.push_back({name, {sum[i] / units, zeros[i] / units}});
  }
  return out;
}

// ---- Readers ---------------------------------------------------------------------------------------------------------------------------

struct ReadersOptions {
  std::vector<std::string> runs, networks, names;
};
void describe(Fields& f, ReadersOptions& o) {
  f("runs", o.runs, "whose pictures; none: all runs about classes");
  f("networks", o.networks, "weights of networks of the same classes that read them");
  f("names", o.names, "of the networks, in their order");
}

Measured readers(const ReadersOptions& o, const MeasureOrder& order) {
  require(o.networks.size() == o.names.size(), Failure::input, order.table, ": found ", o.networks.size(), " networks and ", o.names.size(),
          " names, expected a name a network");
  Measured out{"Share of each run's pictures that each network reads as their class", "run", o.names, {}, false};
  std::vector<std::string> names = o.runs;
  if (names.empty())
    for (const StudyRun& run : order.runs) names.push_back(run.name);
  for (const std::string& name : names) {
    const StudyRun& run = order.run(name);
    std::vector<double> shares;
    for (const std::string& file : o.networks) {
      const Classifier reader = load_classifier(file, run.device);
      int64_t right = 0, asked = 0;
      for (int64_t first = 0; first < run.pictures.count(); first += batch) {
        const c10::NoGradGuard no_gradient;
        const int64_t count = std::min(batch, run.pictures.count() - first);
        const Tensor x = fitted(from_bytes(run.pictures.read(first, count)).to(run.device), reader.image);
        const std::string last = reader.layers.back().name;
        const Tensor best = reader.forward(x, {last}).at(last).argmax(1).cpu();
        for (int64_t i = 0; i < count; ++i) {
          const int64_t wanted = class_of(run.classifier, run.pictures.columns[static_cast<size_t>(first + i)]);
          if (wanted < 0) continue;
          ++asked;
          right += best[i].item<int64_t>() == wanted ? 1 : 0;
        }
      }
      shares.push_back(asked > 0 ? static_cast<double>(right) / static_cast<double>(asked) : nothing);
    }
    out.rows.push_back({name, shares});
  }
  return out;
}

// ---- Filters ---------------------------------------------------------------------------------------------------------------------------

struct FiltersOptions {
  std::string run;
};
void describe(Fields& f, FiltersOptions& o) {
  f("run", o.run, "whose pictures of units at one place are compared with what the unit weighs");
}

Measured filters(const FiltersOptions& o, const MeasureOrder& order) {
  const StudyRun& run = order.run(o.run);
  Measured out{text("Pictures of ", run.name, " beside the units' weights"), "unit", {"cosine", "pixels"}, {}, false};
  for (size_t u = 0; u < run.columns.size(); ++u) {
    const Unit& unit = unit_of(run, u);
    const Tensor x = pictures_of(run, static_cast<int64_t>(u) * run.chains, run.chains);
    const c10::AutoGradMode with_gradient(true);
    // A layer that is linear in the image has its weights as its slope.
    const Tensor point = x.detach().clone().requires_grad_();
    const Layer& layer = layer_named(run.classifier, unit.layer);
    const Tensor a = by_place(run.classifier.forward(point, {unit.layer}).at(unit.layer), layout_of(layer));
    const int64_t place = unit.y < 0 ? usual_place(layer) : unit.x < 0 ? unit.y : unit.y * places_of(layer).second + unit.x;
    const Tensor slope = torch::autograd::grad({a.select(2, unit.index).select(1, place).sum()}, {point})[0];
    double cosine = 0, pixels = 0;
    for (int64_t i = 0; i < x.size(0); ++i) {
      const Tensor inside = slope[i].abs().amax(0) > 0;
      const Tensor weights = slope[i].masked_select(inside).to(at::kDouble), part = (x[i] - 0.5).masked_select(inside).to(at::kDouble);
      const double lengths = (weights.norm() * part.norm()).item<double>();
      cosine += lengths > 0 ? (weights * part).sum().item<double>() / lengths : 0;
      pixels += inside.sum().item<double>();
    }
    const auto pictures = static_cast<double>(x.size(0));
    out.rows.push_back({run.columns[u].name, {cosine / pictures, pixels / pictures}});
  }
  return out;
}

Tensor ranks_of(const Tensor& values) {
  // The mean of the ranks that equal values would take: (how many are below) + (how many are equal, itself among them, + 1) / 2.
  const Tensor v = values.to(at::kDouble);
  const Tensor sorted = std::get<0>(v.sort());
  const Tensor below = at::searchsorted(sorted, v, false, false), up_to = at::searchsorted(sorted, v, false, true);
  return (below + up_to + 1).to(at::kDouble) / 2;
}

}  // namespace

double spearman(const Tensor& a, const Tensor& b) {
  const Tensor p = ranks_of(a.flatten()), q = ranks_of(b.flatten());
  const Tensor x = p - p.mean(), y = q - q.mean();
  const double lengths = (x.norm() * y.norm()).item<double>();
  return lengths > 0 ? (x * y).sum().item<double>() / lengths : nothing;
}

const StudyRun& MeasureOrder::run(const std::string& name) const {
  std::vector<std::string> names;
  for (const StudyRun& one : runs) {
    if (one.name == name) return one;
    names.push_back(one.name);
  }
  fail(Failure::input, table, ": found no run '", name, "'", did_you_mean(name, names));
}

const Menu<Measured, MeasureOrder>& measure_menu() {
  using M = Menu<Measured, MeasureOrder>;
  static const M menu(
      "measure", "",
      {M::row<ResponsesOptions>("responses", "a channel's answer to its picture, to that picture in other colours, and to plain images", "",
                                responses),
       M::row<TuningOptions>("tuning", "a channel's answer to its picture enlarged, turned or of another contrast", "at = [1.0]", tuning),
       M::row<RepeatsOptions>("repeats", "how alike the network finds the pictures of one unit, pair by pair", "", repeats),
       M::row<SlopesOptions>("slopes", "the Euclidean norm of the objective's slope at the code, the image and every layer", "", slopes),
       M::row<ReadersOptions>("readers", "what other networks read in the pictures", "", readers),
       M::row<FiltersOptions>("filters", "cosine of a first layer's pictures and its weights", "", filters)});
  return menu;
}

}  // namespace evoke
