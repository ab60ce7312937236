#include "experiments/judging/target_path.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <boost/math/distributions/binomial.hpp>
#include <limits>
#include <set>

#include "classifiers/objectives.h"
#include "core/error.h"
#include "core/log.h"
#include "core/numbers/stream.h"
#include "core/records/pictures.h"
#include "experiments/judging/witness.h"

namespace evoke {

namespace {

constexpr double nothing = std::numeric_limits<double>::quiet_NaN();
constexpr int64_t batch = 32;  // images that go through the target together
constexpr int64_t neighbours = 5, least_exciting = 5, units_of_a_layer = 50;
constexpr double share_of_others = 0.02, chance = 0.05, least_left_out_inside = 0.90;
constexpr int64_t some_of_known = 600, most_known = 3000, least_known = 100, most_left_out = 600, least_left_out = 10, noise_images = 100;
constexpr uint64_t control_seed = 0;
constexpr int64_t most_units = 60;
constexpr size_t most_depths = 5;

// The statistics of uint8 images at every depth, and the logits.
struct Seen {
  std::vector<Tensor> statistics;  // [N,4C] by depth
  Tensor logits;
};
Seen see(const Judges& judges, const std::vector<TargetDepth>& depths, const Tensor& images) {
  const std::string last = judges.target.layers.back().name;
  std::vector<std::string> taps{last};
  for (const TargetDepth& depth : depths) taps.push_back(depth.layer);
  std::vector<std::vector<Tensor>> parts(depths.size());
  std::vector<Tensor> logits;
  each_batch(judges.target, images, judges.device, taps, [&](const Activations& a) {
    for (size_t i = 0; i < depths.size(); ++i)
      parts[i].push_back(depth_features(a.at(depths[i].layer), layer_named(judges.target, depths[i].layer)));
    logits.push_back(a.at(last).to(at::kFloat).cpu().flatten(1));
  });
  Seen seen;
  for (const std::vector<Tensor>& of_depth : parts) seen.statistics.push_back(at::cat(of_depth));
  seen.logits = at::cat(logits);
  return seen;
}

// What the target sees of all real images and of the controls.
Tensors look_at_real_images(const Judges& judges, const TargetPath& path) {
  Tensors out;
  std::map<std::string, std::vector<Tensor>> parts;
  Progress progress("judge: the target looks at real images", path.real.count, "image");
  for (int64_t first = 0; first < path.real.count; first += batch) {
    if (interrupted()) return {};
    const int64_t end = std::min(path.real.count, first + batch);
    const Tensor images = path.real.read(at::arange(first, end, at::kLong));
    const Seen seen = see(judges, path.depths, images);
    for (size_t i = 0; i < path.depths.size(); ++i) parts[path.depths[i].layer].push_back(seen.statistics[i]);
    parts["logits"].push_back(seen.logits);
    const int64_t known_here = std::clamp<int64_t>(path.known - first, 0, end - first);
    if (known_here < end - first) {
      Stream phases = Stream::range(control_seed, first + known_here, end - first - known_here);
      const Seen scrambled = see(judges, path.depths, to_bytes(phase_scrambled(from_bytes(images.slice(0, known_here)), phases)));
      for (size_t i = 0; i < path.depths.size(); ++i) parts[path.depths[i].layer + "/scrambled"].push_back(scrambled.statistics[i]);
    }
    progress.at(end);
  }
  const ImageSpec& image = judges.target.image;
  Stream pixels = Stream::range(control_seed, 0, noise_images);
  const Seen noise = see(judges, path.depths, to_bytes(pixels.uniform({image.channels, image.height, image.width})));

  for (size_t i = 0; i < path.depths.size(); ++i) {
    const std::string& layer = path.depths[i].layer;
    const Tensor all = at::cat(parts.at(layer));
    const auto [points, mean, scale] = standardized(all.slice(0, 0, path.known));
    const auto beside = [&, mean = mean, scale = scale](const Tensor& rows) { return (rows - mean) * scale; };
    const Manifold manifold = manifold_of(points, neighbours);
    out[layer + "/mean"] = mean;
    out[layer + "/scale"] = scale;
    out[layer + "/points"] = manifold.points;
    out[layer + "/radii"] = manifold.radii.clamp_min(at::quantile(manifold.radii, 0.5).item<double>());
    out[layer + "/left_out"] = beside(all.slice(0, path.known));
    out[layer + "/scrambled"] = beside(at::cat(parts.at(layer + "/scrambled")));
    out[layer + "/noise"] = beside(noise.statistics[i]);
  }
  out["logits"] = at::cat(parts.at("logits"));
  return out;
}

// The scores of all real images by each of these columns, [M+L]; undefined for those that cannot be asked of one picture.
std::vector<Tensor> scores_of_real_images(const Judges& judges, const std::vector<Column>& columns) {
  TargetPath& path = *judges.target_path;
  const auto whole_layer = [&](const std::string& layer) {
    std::vector<Column> out;
    for (int64_t i = 0; i < units_of(layer_named(judges.target, layer)); ++i) out.push_back(column_of({layer, i}));
    return out;
  };
  for (const Column& column : columns) {
    if (path.scores.contains(column.name)) continue;
    // Who asks for a unit of a layer will ask for others of it: one pass serves them all.
    std::vector<Column> asked{column};
    if (column.unit && column_of({column.unit->layer, column.unit->index}).name == column.name) asked = whole_layer(column.unit->layer);
    const std::string title = "judge: real images that excite " + (asked.size() > 1 ? column.unit->layer : column.name);
    const auto look = [&] { return scores_of(judges, path.real, asked, title); };
    // An objective's own columns hang on more than their names.
    const std::string key = text("target path, scores ", judges.target_identity, " ", path.real.count, " ", asked.size(), " ",
                                 column.unit ? column.unit->layer : "");
    const Tensors found = judges.witness && asked.size() > 1 ? remembered(*judges.witness, key, look) : look();
    if (found.empty()) return std::vector<Tensor>(columns.size());
    for (size_t i = 0; i < asked.size(); ++i) path.scores[asked[i].name] = found.at("scores").select(1, static_cast<int64_t>(i));
  }
  std::vector<Tensor> out;
  for (const Column& column : columns) {
    const Tensor scores = path.scores.at(column.name);
    out.push_back(scores.isnan().any().item<bool>() ? Tensor() : scores);
  }
  return out;
}

// The known images that excite a unit most, int64, the least exciting of them last; undefined where scores are, and where half of all
// images excite it as much, as they do a unit that is silent.
Tensor exciting(const Judges& judges, const Column& column, const Tensor& scores) {
  if (!scores.defined()) return {};
  const int64_t known = judges.target_path->known;
  const int64_t kinds = class_of(judges.target, column) >= 0 ? units_of(judges.target.layers.back()) : units_of_a_layer;
  const auto [values, rows] = scores.slice(0, 0, known).topk(std::min(known / 2, std::max(least_exciting, known / kinds)));
  return 2 * scores.ge(values[-1]).sum().item<int64_t>() > scores.size(0) ? Tensor() : rows;
}

// The units by which depths are tried: at most 60 of each layer that some columns are of, evenly over it, so that what is said of a picture
// hangs on no other; and the columns that are no units.
std::vector<Column> units_beside(const Classifier& target, const std::vector<Column>& columns) {
  std::vector<Column> out;
  std::set<std::string> layers, others;
  for (const Column& column : columns) {
    if (!column.unit) {
      if (others.insert(column.name).second) out.push_back(column);
    } else if (layers.insert(column.unit->layer).second) {
      const int64_t units = units_of(layer_named(target, column.unit->layer));
      const Tensor chosen = evenly(at::arange(units, at::kLong), most_units);
      for (int64_t i = 0; i < chosen.size(0); ++i) out.push_back(column_of({column.unit->layer, chosen[i].item<int64_t>()}));
    }
  }
  return out;
}

}  // namespace

void add_target_path(Judges& judges, const RealImages& known, const RealImages& left_out) {
  if (known.count < least_known || left_out.count < least_left_out) return;
  const auto path = std::make_shared<TargetPath>();
  std::vector<std::string> names;
  for (const std::string& layer : depth_candidates(judges.target.layers, most_depths)) {
    path->depths.push_back({.layer = layer, .mean = {}, .scale = {}, .real = {}});
    names.push_back(layer);
  }
  if (names.empty()) return;
  const Tensor known_rows = evenly(at::arange(known.count, at::kLong), most_known);
  const Tensor left_out_rows = evenly(at::arange(left_out.count, at::kLong), most_left_out);
  path->known = known_rows.size(0);
  path->real = {known_rows.size(0) + left_out_rows.size(0), {}, [=](const Tensor& rows) {
                  const Tensor first = rows.index({rows.lt(known_rows.size(0))}), second = rows.index({rows.ge(known_rows.size(0))});
                  std::vector<Tensor> out;
                  if (first.numel() > 0) out.push_back(known.read(known_rows.index_select(0, first)));
                  if (second.numel() > 0) out.push_back(left_out.read(left_out_rows.index_select(0, second - known_rows.size(0))));
                  return at::cat(out);
                }};
  std::string key = text("target path ", judges.target_identity, "\n", path->known, " ", path->real.count);
  for (const std::string& name : names) key += "\n" + name;
  const Tensors found = judges.witness ? remembered(*judges.witness, key, [&] { return look_at_real_images(judges, *path); })
                                       : look_at_real_images(judges, *path);
  if (found.empty()) return;  // interrupted
  for (TargetDepth& depth : path->depths) {
    depth.mean = found.at(depth.layer + "/mean");
    depth.scale = found.at(depth.layer + "/scale");
    depth.real = {found.at(depth.layer + "/points"), found.at(depth.layer + "/radii")};
    for (const char* control : {"/left_out", "/scrambled", "/noise"})
      path->controls[depth.layer + control] = found.at(depth.layer + control);
  }
  const Layer& last = judges.target.layers.back();
  if (last.shape.size() == 1)
    for (int64_t i = 0; i < units_of(last); ++i) path->scores[column_of({last.name, i}).name] = found.at("logits").select(1, i);
  judges.target_path = path;

  const auto look_at = [judges](const Tensor& images, const std::vector<Column>& columns) {
    const TargetPath& own = *judges.target_path;
    const Kinds kinds = kinds_of(columns);
    const std::vector<Tensor> scores = scores_of_real_images(judges, kinds.columns);
    const Seen seen = see(judges, own.depths, images);
    std::vector<Tensor> nearness;  // to each known image, by depth
    for (size_t depth = 0; depth < own.depths.size(); ++depth) {
      const TargetDepth& here = own.depths[depth];
      nearness.push_back(nearness_to_each(here.real, (seen.statistics[depth] - here.mean) * here.scale));
    }
    const Tensor radii = at::stack(nearness, 1);  // [N,D,M]
    Tensor out = at::full({images.size(0), static_cast<int64_t>(own.depths.size())}, nothing, at::kFloat);
    for (size_t kind = 0; kind < kinds.columns.size(); ++kind) {
      const Tensor known = exciting(judges, kinds.columns[kind], scores[kind]);
      if (!known.defined()) continue;
      const Tensor rows = kinds.of_row.eq(static_cast<int64_t>(kind)).nonzero().squeeze(1);
      out.index_copy_(0, rows, radii.index_select(0, rows).index_select(2, known).amin(2).to(at::kFloat));
    }
    return Tensors{{"target_path", out}};
  };
  judges.all.push_back(
      {"target path",
       text("the target itself, beside ", path->known, " real images (", judges.real_identity.substr(0, 12), ") at ", list_of(names)),
       look_at});
}

void try_depths(const Judges& judges, const std::vector<Column>& columns) {
  TargetPath& path = *judges.target_path;
  const std::vector<Column> asked = units_beside(judges.target, columns);
  std::string names;
  for (const Column& column : asked) names += column.name + "\n";
  if (path.tried_for == names) return;
  const std::vector<Tensor> scores = scores_of_real_images(judges, asked);
  // Of each unit the images that excite it, among those known and those left out, and those that do not.
  struct UnitImages {
    Tensor known, known_others, left_out, others;
    Tensor left_out_inside, others_inside;  // at how many of the depths that are used
  };
  const Tensor some = evenly(at::arange(path.known, at::kLong), some_of_known);
  std::vector<UnitImages> units;
  int64_t excited = 0;
  for (size_t i = 0; i < asked.size(); ++i) {
    const Tensor known = exciting(judges, asked[i], scores[i]);
    if (!known.defined()) continue;
    const Tensor as_much = scores[i].ge(scores[i][known[-1].item<int64_t>()]), left_out = as_much.slice(0, path.known);
    units.push_back({known, as_much.index_select(0, some).logical_not().nonzero().squeeze(1), left_out.nonzero().squeeze(1),
                     left_out.logical_not().nonzero().squeeze(1), at::zeros({1}, at::kLong), at::zeros({1}, at::kLong)});
    excited += units.back().left_out.size(0);
  }

  int64_t used = 0;
  for (TargetDepth& depth : path.depths) {
    depth.used = false;
    depth.stretch = depth.left_out = depth.others = depth.scrambled = depth.noise = nothing;
    if (excited < least_left_out) continue;
    const auto control = [&](const char* name) { return nearness_to_each(depth.real, path.controls.at(depth.layer + name)); };
    const Tensor left_out = control("/left_out"), scrambled = control("/scrambled"), noise = control("/noise");
    const Tensor some_known = nearness_to_each(depth.real, depth.real.points.index_select(0, some));
    std::vector<Tensor> of_others;
    for (const UnitImages& unit : units)
      of_others.push_back(some_known.index_select(0, unit.known_others).index_select(1, unit.known).amin(1));
    depth.stretch = at::quantile(at::cat(of_others), share_of_others).item<double>();
    std::vector<Tensor> inside[4];
    for (size_t i = 0; i < units.size(); ++i) {
      const auto is_inside = [&](const Tensor& radii, const Tensor& rows) {
        return radii.index_select(0, rows).index_select(1, units[i].known).amin(1).le(depth.stretch);
      };
      inside[0].push_back(is_inside(left_out, units[i].left_out));
      inside[1].push_back(is_inside(left_out, units[i].others));
      inside[2].push_back(is_inside(scrambled, units[i].left_out));
      inside[3].push_back(is_inside(noise, at::arange(noise.size(0), at::kLong)));
    }
    const auto share = [](const std::vector<Tensor>& parts) { return at::cat(parts).to(at::kDouble).mean().item<double>(); };
    depth.left_out = share(inside[0]), depth.others = share(inside[1]), depth.scrambled = share(inside[2]), depth.noise = share(inside[3]);
    depth.used = depth.left_out >= least_left_out_inside && depth.scrambled <= 0.10 && depth.noise <= 0.10;
    if (!depth.used) continue;
    for (size_t i = 0; i < units.size(); ++i) {
      units[i].left_out_inside = units[i].left_out_inside + inside[0][i];
      units[i].others_inside = units[i].others_inside + inside[1][i];
    }
    ++used;
  }
  const auto share = [&](Tensor UnitImages::*of) {
    if (used == 0) return wilson(0, 0);
    std::vector<Tensor> parts;
    for (const UnitImages& unit : units) parts.push_back(unit.*of);
    const Tensor most = (2 * at::cat(parts)).gt(used);
    return wilson(most.sum().item<int64_t>(), most.size(0));
  };
  path.tried_for = names;
  path.left_out = share(&UnitImages::left_out_inside);
  path.others = share(&UnitImages::others_inside);
}

bool can_tell(const TargetPath& path) { return path.others.value <= 0.10; }

Tensor at_depth(const TargetPath& path, const Tensors& findings, size_t depth) {
  const Tensor here = findings.at("target_path").select(1, static_cast<int64_t>(depth));
  return at::where(here.isnan(), here, here.le(path.depths[depth].stretch).to(at::kFloat));
}

Tensor on_path(const TargetPath& path, const Tensors& findings) {
  std::vector<Tensor> inside;
  for (size_t i = 0; i < path.depths.size(); ++i)
    if (path.depths[i].used) inside.push_back(at_depth(path, findings, i));
  if (inside.empty()) return {};
  const Tensor share = at::stack(inside).mean(0);
  return at::where(share.isnan(), share, share.gt(0.5).to(at::kFloat));
}

std::vector<Column> off_path(const TargetPath& path, const Judged& judged) {
  std::vector<Column> out;
  if (!can_tell(path)) return out;
  const Tensor inside = on_path(path, judged.findings);
  const double least = std::min(least_left_out_inside, path.left_out.low);
  const Kinds kinds = kinds_of(judged.columns);
  for (size_t kind = 0; kind < kinds.columns.size(); ++kind) {
    const Tensor all = inside.index({kinds.of_row.eq(static_cast<int64_t>(kind))}), own = all.index({all.isnan().logical_not()});
    if (own.numel() == 0) continue;
    const boost::math::binomial_distribution<double> as_real_images(static_cast<double>(own.size(0)), least);
    if (cdf(as_real_images, own.sum().item<double>()) < chance / static_cast<double>(kinds.columns.size()))
      out.push_back(kinds.columns[kind]);
  }
  return out;
}

}  // namespace evoke
