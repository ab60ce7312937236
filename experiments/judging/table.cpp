#include "experiments/judging/table.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <limits>
#include <map>
#include <optional>
#include <sstream>

#include "core/numbers/linear_algebra.h"

namespace evoke {

namespace {

constexpr double nothing = std::numeric_limits<double>::quiet_NaN();
constexpr Interval unknown{nothing, nothing, nothing};
constexpr uint64_t bootstrap_seed = 1;
constexpr int64_t most_for_variety = 1000, least_for_moments = 20, neighbours = 5;

// A column of findings; undefined where nobody found it.
Tensor found(const Tensors& findings, const std::string& name) {
  const auto at_name = findings.find(name);
  return at_name == findings.end() ? Tensor() : at_name->second;
}

Interval share(const Tensor& held) { return wilson(held.sum().item<int64_t>(), held.size(0)); }

// A share of the rows of `read` that are as `wanted`.
Interval share_of(const Tensor& read, const Tensor& wanted) { return read.defined() ? share(read.eq(wanted)) : unknown; }

// The mean over units of the Vendi score of those rows of `all` that pass; a unit without one has none.
double vendi_by_unit(const std::vector<Column>& columns, const Tensor& all, const Tensor& passes, const Tensor& features) {
  std::map<std::string, std::vector<int64_t>> by_unit;
  for (int64_t i = 0; i < all.size(0); ++i) {
    const auto row = all[i].item<int64_t>();
    std::vector<int64_t>& group = by_unit[columns[static_cast<size_t>(row)].name];
    if (passes[row].item<bool>()) group.push_back(row);
  }
  double sum = 0;
  for (const auto& [unit, group] : by_unit)
    if (!group.empty()) sum += vendi_score(features.index_select(0, at::tensor(group, at::kLong)));
  return by_unit.empty() ? nothing : sum / static_cast<double>(by_unit.size());
}

// What the witness found.
void add_witness_figures(Figures& figures, const Witness& witness, const Judged& judged, const Tensor& all, const Tensor& of_class) {
  const Tensors& findings = judged.findings;
  const Tensor rank = findings.at("witness_rank");
  if (witness.same_classes) {
    const Tensor ranks = rank.index({of_class});
    figures.witness = share(ranks.eq(0));
    figures.witness_top5 = share(ranks.lt(5));
    figures.witness_probability = bootstrap_mean(findings.at("witness_probability").index({of_class}), bootstrap_seed);
  }
  if (witness.depths.empty()) return;

  // Inside at the depths that are used; where none is, nobody can say.
  const Tensor path = findings.at("path");
  std::optional<Tensor> inside_of[2];  // by statistics, by means
  for (size_t i = 0; i < witness.depths.size(); ++i) {
    const Depth& depth = witness.depths[i];
    const Tensor inside = path.select(1, static_cast<int64_t>(i)).le(1);
    figures.path_at.push_back(share(inside.index({all})));
    if (!depth.used) continue;
    std::optional<Tensor>& so_far = inside_of[depth.means ? 1 : 0];
    so_far = so_far ? so_far->logical_and(inside) : inside;
  }
  if (inside_of[0]) figures.path = share(inside_of[0]->index({all}));
  if (inside_of[1]) figures.path_of_means = share(inside_of[1]->index({all}));
  figures.spectrum = bootstrap_median(findings.at("spectrum").index({all}), bootstrap_seed);

  const Tensor features = findings.at("features"), own = features.index({all});
  if (all.size(0) >= least_for_moments) {
    Moments moments;
    moments.add(witness.photograph_features.to(at::kDouble).mm(witness.widest));
    const Tensor along = own.to(at::kDouble).mm(witness.widest);
    figures.frechet = bootstrap(
        all.size(0),
        [&](const Tensor& rows) {
          Moments some;
          some.add(along.index_select(0, rows));
          return frechet_distance(moments.mean(), moments.covariance(), some.mean(), some.covariance());
        },
        bootstrap_seed);
    const PrecisionRecall shares = precision_recall(witness.photograph_features, own, neighbours);
    figures.precision = shares.precision, figures.recall = shares.recall;
  }
  if (!inside_of[0]) return;
  Tensor passes = *inside_of[0];
  if (witness.same_classes) passes = passes.logical_and(findings.at("wanted").lt(0).logical_or(rank.eq(0)));
  figures.vendi = vendi_by_unit(judged.columns, all, passes, features);
}

// What the target saw on the way.
void add_target_path_figures(Figures& figures, const TargetPath& path, const Judged& judged, const Tensor& all) {
  const auto share_of_known = [&](const Tensor& inside) {
    const Tensor own = inside.index({all});
    return share(own.index({own.isnan().logical_not()}));
  };
  for (size_t i = 0; i < path.depths.size(); ++i) figures.target_path_at.push_back(share_of_known(at_depth(path, judged.findings, i)));
  if (can_tell(path)) figures.target_path = share_of_known(on_path(path, judged.findings));
}

// NaN is no JSON.
nlohmann::json number_or_null(double value) { return std::isnan(value) ? nlohmann::json() : nlohmann::json(value); }
nlohmann::json interval_json(const Interval& i) {
  return {{"value", number_or_null(i.value)}, {"low", number_or_null(i.low)}, {"high", number_or_null(i.high)}};
}

}  // namespace

std::string markdown(const std::vector<std::vector<std::string>>& lines) {
  // Every character is as wide as another: UTF-8's continuation bytes take no place.
  const auto wide = [](const std::string& cell) {
    return static_cast<size_t>(std::count_if(cell.begin(), cell.end(), [](char c) { return (c & 0xC0) != 0x80; }));
  };
  std::vector<size_t> shown;
  std::vector<size_t> width(lines[0].size());
  for (size_t i = 0; i < lines[0].size(); ++i) {
    bool says = false;
    for (size_t line = 0; line < lines.size(); ++line) {
      width[i] = std::max(width[i], wide(lines[line][i]));
      says = says || (line > 0 && lines[line][i] != "-");
    }
    if (says || lines.size() == 1) shown.push_back(i);
  }
  std::string out;
  for (size_t line = 0; line < lines.size(); ++line) {
    for (const size_t i : shown) {
      const std::string& cell = lines[line][i];
      const std::string space(width[i] - wide(cell), ' ');
      out += "| " + (i == 0 ? cell + space : space + cell) + " ";  // words to the left, numbers to the right
    }
    out += "|\n";
    if (line > 0) continue;
    for (const size_t i : shown) out += "|" + std::string(width[i] + 1, '-') + (i == 0 ? "-" : ":");
    out += "|\n";
  }
  return out;
}

std::string decimals(double value, int places) {
  if (std::isnan(value)) return "-";
  std::ostringstream out;
  out << std::fixed << std::setprecision(places) << value;
  return out.str();
}
std::string with_interval(const Interval& i, int places) {
  return std::isnan(i.value) ? "-" : decimals(i.value, places) + " [" + decimals(i.low, places) + ", " + decimals(i.high, places) + "]";
}

Figures figures_of(const Judges& judges, const Judged& judged, const Tensor& rows) {
  const Tensors& findings = judged.findings;
  const Tensor all_wanted = findings.at("wanted"), render = found(findings, "render_class");
  const Tensor all = rows.defined() ? rows : at::arange(all_wanted.size(0), at::kLong);
  const Tensor of_class = all.index({all_wanted.index({all}).ge(0)});
  const auto of = [&of_class](const Tensor& column) { return column.defined() ? column.index({of_class}) : Tensor(); };
  const Tensor wanted = of(all_wanted);

  Figures figures;
  figures.pictures = all.size(0);
  figures.target = share_of(of(findings.at("target_class")), wanted);
  figures.render = share_of(of(render), wanted);
  figures.alike = figures.witness = figures.witness_top5 = figures.witness_probability = figures.path = figures.path_of_means =
      figures.spectrum = figures.target_path = unknown;
  figures.frechet = figures.precision = figures.recall = unknown;
  figures.oracle_spread = figures.vendi = nothing;

  // Diversity is of the pictures that nobody reads otherwise.
  Tensor agrees = at::ones_like(all_wanted, at::kBool);
  const auto agree = [&](const Tensor& reading) { agrees = agrees.logical_and(all_wanted.lt(0).logical_or(reading.eq(all_wanted))); };
  if (render.defined()) agree(render);
  for (const std::string& oracle : judges.oracles) {
    const Tensor reading = findings.at(oracle + "_class");
    figures.oracles.push_back(share_of(of(reading), wanted));
    agree(reading);
  }
  if (!judges.oracles.empty())
    figures.alike = share_of(findings.at(judges.oracles.front() + "_class").index({all}), findings.at("target_class").index({all}));
  if (figures.oracles.size() > 1) {
    const auto [least, most] = std::minmax_element(figures.oracles.begin(), figures.oracles.end(),
                                                   [](const Interval& a, const Interval& b) { return a.value < b.value; });
    figures.oracle_spread = most->value - least->value;
  }
  const Tensor rmse = of(found(findings, "shape_rmse"));
  figures.shape_rmse = rmse.defined() ? bootstrap_median(rmse, bootstrap_seed) : unknown;
  figures.percentile = bootstrap_median(findings.at("percentile").index({all}), bootstrap_seed);

  figures.diversity = vendi_by_unit(judged.columns, all, agrees, judged.small);
  const int64_t some = std::min(all.size(0), most_for_variety);
  const Tensor spread = (at::arange(some, at::kLong) * all.size(0)).floor_divide(std::max<int64_t>(1, some));
  figures.variety = vendi_score(judged.small.index_select(0, all.index_select(0, spread)));
  if (judges.witness) add_witness_figures(figures, *judges.witness, judged, all, of_class);
  if (judges.target_path) add_target_path_figures(figures, *judges.target_path, judged, all);
  return figures;
}

nlohmann::json table_json(const Judges& judges, const std::vector<TableRow>& rows) {
  nlohmann::json out = nlohmann::json::array();
  for (const TableRow& row : rows) {
    const Figures& f = row.figures;
    nlohmann::json line{{"name", row.name},
                        {"pictures", f.pictures},
                        {"agreement_target", interval_json(f.target)},
                        {"agreement_render", interval_json(f.render)},
                        {"alike", interval_json(f.alike)},
                        {"shape_rmse", interval_json(f.shape_rmse)},
                        {"percentile", interval_json(f.percentile)},
                        {"diversity", number_or_null(f.diversity)},
                        {"variety", number_or_null(f.variety)},
                        {"seconds", number_or_null(row.seconds)},
                        {"images", row.images < 0 ? nlohmann::json() : nlohmann::json(row.images)}};
    for (size_t i = 0; i < f.oracles.size(); ++i) line["agreement_" + judges.oracles[i]] = interval_json(f.oracles[i]);
    if (f.oracles.size() > 1) line["oracle_spread"] = number_or_null(f.oracle_spread);
    if (judges.target_path) {
      line["target_path"] = interval_json(f.target_path);
      for (size_t i = 0; i < f.target_path_at.size(); ++i)
        line["target_path_at"][judges.target_path->depths[i].layer] = interval_json(f.target_path_at[i]);
    }
    if (judges.witness) {
      line["witness"] = {{"top1", interval_json(f.witness)},
                         {"top5", interval_json(f.witness_top5)},
                         {"probability", interval_json(f.witness_probability)}};
      if (!judges.witness->depths.empty()) {
        line["path"] = interval_json(f.path);
        line["path_of_means"] = interval_json(f.path_of_means);
        for (size_t i = 0; i < f.path_at.size(); ++i) line["path_at"][judges.witness->depths[i].name()] = interval_json(f.path_at[i]);
        line["spectrum"] = interval_json(f.spectrum);
        line["frechet"] = interval_json(f.frechet);
        line["precision"] = interval_json(f.precision);
        line["recall"] = interval_json(f.recall);
        line["vendi"] = number_or_null(f.vendi);
      }
    }
    out.push_back(std::move(line));
  }
  return out;
}

std::string table_markdown(const Judges& judges, const std::vector<TableRow>& rows, const std::string& first_column) {
  // With a witness its columns take the place of those that speak of pixels.
  const bool photographs = judges.witness && !judges.witness->depths.empty();
  std::vector<std::vector<std::string>> lines{{first_column, "pictures", "target"}};
  for (const std::string& oracle : judges.oracles) lines[0].push_back(oracle + " [95 %]");
  for (const char* head : {"spread",      "render [95 %]",  "alike",
                           "shape_rmse",  "witness [95 %]", "top 5",
                           "p",           "path [95 %]",    "path of means",
                           "spectrum",    "frechet [95 %]", "precision",
                           "recall",      "vendi",          "target path [95 %]",
                           "percentile",  "diversity",      "variety",
                           "images seen", "seconds"})
    lines[0].emplace_back(head);
  for (const TableRow& row : rows) {
    const Figures& f = row.figures;
    std::vector<std::string> line{row.name, std::to_string(f.pictures), decimals(f.target.value, 3)};
    for (const Interval& oracle : f.oracles) line.push_back(with_interval(oracle, 3));
    for (const std::string& cell : {decimals(f.oracle_spread, 3),
                                    with_interval(f.render, 3),
                                    decimals(f.alike.value, 3),
                                    decimals(f.shape_rmse.value, 3),
                                    with_interval(f.witness, 3),
                                    decimals(f.witness_top5.value, 3),
                                    decimals(f.witness_probability.value, 2),
                                    with_interval(f.path, 3),
                                    decimals(f.path_of_means.value, 3),
                                    decimals(f.spectrum.value, 2),
                                    with_interval(f.frechet, 1),
                                    decimals(f.precision.value, 2),
                                    decimals(f.recall.value, 2),
                                    decimals(f.vendi, 2),
                                    with_interval(f.target_path, 3),
                                    decimals(f.percentile.value, 1),
                                    photographs ? "-" : decimals(f.diversity, 2),
                                    photographs ? "-" : decimals(f.variety, 1),
                                    row.images < 0 ? "-" : std::to_string(row.images),
                                    decimals(row.seconds, 1)})
      line.push_back(cell);
    lines.push_back(std::move(line));
  }
  return markdown(lines);
}

nlohmann::json depths_json(const Judges& judges) {
  nlohmann::json out = nlohmann::json::array();
  if (!judges.witness) return out;
  for (const Depth& depth : judges.witness->depths)
    out.push_back({{"depth", depth.name()},
                   {"layer", depth.layer},
                   {"of", depth.means ? "means" : "statistics"},
                   {"features", depth.means ? depth.components.size(1) : depth.mean.numel()},
                   {"stretch", depth.stretch},
                   {"photographs_left_out", depth.left_out},
                   {"phase_scrambled", depth.scrambled},
                   {"noise", depth.noise},
                   {"pixel_ascent", depth.ascent},
                   {"used", depth.used}});
  return out;
}

nlohmann::json target_depths_json(const Judges& judges) {
  nlohmann::json out = nlohmann::json::array();
  if (!judges.target_path) return out;
  for (const TargetDepth& depth : judges.target_path->depths)
    out.push_back({{"depth", depth.layer},
                   {"features", depth.mean.numel()},
                   {"stretch", number_or_null(depth.stretch)},
                   {"left_out", number_or_null(depth.left_out)},
                   {"other_real_images", number_or_null(depth.others)},
                   {"phase_scrambled", number_or_null(depth.scrambled)},
                   {"noise", number_or_null(depth.noise)},
                   {"used", depth.used}});
  return out;
}

namespace {

std::string target_depths_markdown(const TargetPath& path, const std::vector<TableRow>& rows) {
  std::vector<std::vector<std::string>> lines{
      {"share on the unit's path at", "used", "left out", "other images", "scrambled", "random pixels"}};
  for (const TableRow& row : rows) lines[0].push_back(row.name);
  for (size_t i = 0; i < path.depths.size(); ++i) {
    const TargetDepth& depth = path.depths[i];
    std::vector<std::string> line{depth.layer, depth.used ? "yes" : "no"};
    for (const double share : {depth.left_out, depth.others, depth.scrambled, depth.noise}) line.push_back(decimals(share, 2));
    for (const TableRow& row : rows) line.push_back(decimals(row.figures.target_path_at[i].value, 2));
    lines.push_back(std::move(line));
  }
  return markdown(lines) +
         (can_tell(path)
              ? ""
              : "\nAt no depth can the target's own path tell real images that excite these units from what is none and from other "
                "real images, so it is left out.\n");
}

}  // namespace

std::string depths_markdown(const Judges& judges, const std::vector<TableRow>& rows) {
  const std::string own = judges.target_path ? target_depths_markdown(*judges.target_path, rows) : std::string();
  if (!judges.witness || judges.witness->depths.empty()) return own;
  std::vector<std::vector<std::string>> lines{{"share inside at", "used"}};
  for (const TableRow& row : rows) lines[0].push_back(row.name);
  for (size_t i = 0; i < judges.witness->depths.size(); ++i) {
    std::vector<std::string> line{judges.witness->depths[i].name(), judges.witness->depths[i].used ? "yes" : "no"};
    for (const TableRow& row : rows) line.push_back(decimals(row.figures.path_at[i].value, 2));
    lines.push_back(std::move(line));
  }
  const auto& depths = judges.witness->depths;
  const bool any = std::any_of(depths.begin(), depths.end(), [](const Depth& depth) { return depth.used; });
  return markdown(lines) +
         (any ? ""
              : "\nNo depth of this witness tells photographs from scrambled ones and noise, so nobody says whether a path is theirs.\n") +
         (own.empty() ? "" : "\n" + own);
}

}  // namespace evoke
