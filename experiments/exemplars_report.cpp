// What a pass over images leaves behind: arrays, contact sheets, a table.
#include <ATen/ATen.h>

#include <cmath>
#include <iomanip>
#include <limits>

#include "classifiers/objectives.h"
#include "core/error.h"
#include "core/log.h"
#include "core/records/contact_sheet.h"
#include "core/records/pictures.h"
#include "core/storage/files.h"
#include "core/storage/hdf5.h"
#include "experiments/exemplars.h"
#include "experiments/experiment.h"

namespace evoke {

namespace {

const std::vector<double> shares{0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99};

// Places as y and x: of a map, or token and -1.
std::pair<Tensor, Tensor> yx_of(const Tensor& places, const Layer& layer) {
  const Tensor nowhere = places < 0;
  const int64_t width = places_of(layer).second;
  const Tensor y = at::where(nowhere, places, places.div(width, "floor")), x = at::where(nowhere, places, places.remainder(width));
  return {y, layout_of(layer) == Layout::tokens ? at::full_like(x, -1) : x};
}

}  // namespace

void save_exemplars(const std::string& destination, const ExemplarsTable& table, int64_t seen, const ImageSource& source,
                    const std::vector<Asked>& asked, const std::vector<Gathered>& gathered, const std::optional<Results>& beside,
                    const Tensor& beside_values) {
  write_file_with(destination, [&](const std::string& temporary) {
    Hdf5 file = Hdf5::create(temporary);
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
  });
}

namespace {

std::string number(double value) {
  std::ostringstream out;
  out << std::setprecision(3) << value;
  return out.str();
}

}  // namespace

FacetsFound facets_found(const std::vector<Asked>& asked, const std::vector<Gathered>& gathered, const ImageSource& source,
                         const Classifier& classifier, at::Device device, const ExemplarsTable& table) {
  FacetsFound out;
  std::vector<Cell> cells;
  std::vector<std::string> names, heads{"start"};
  const int64_t shown = std::min(table.facets.nearest, sheet_columns);
  for (int64_t i = 0; i < shown; ++i) heads.push_back(text("typical ", i + 1));
  for (size_t l = 0; l < asked.size(); ++l)
    for (const int64_t unit : asked[l].shown) {
      if (interrupted()) return out;
      // Its images, at the size that the classifier looks at; fewer than are kept where there were fewer.
      std::vector<int64_t> rows;
      std::vector<Tensor> images;
      const Tensor kept = gathered[l].top.rows()[unit].cpu();
      for (int64_t i = 0; i < kept.numel(); ++i) {
        const auto row = kept[i].item<int64_t>();
        if (row < 0) break;
        Tensor x = from_bytes(source.image(row).unsqueeze(0));
        if (x.size(2) != classifier.image.height || x.size(3) != classifier.image.width)
          x = at::_upsample_bilinear2d_aa(x, {classifier.image.height, classifier.image.width}, false);
        rows.push_back(row);
        images.push_back(x);
      }
      require(!images.empty(), Failure::input, table.data, ": found no image for facets, expected some");
      const std::string name = unit_text({asked[l].layer.name, unit});
      const Tensor all = at::cat(images);
      const Facets facets = facets_of(all, classifier, device, table.facets);
      out.starts[name] = facets.starts;
      const Tensor averaged = at::full({table.facets.count, table.facets.nearest}, -1, at::kLong);
      for (int64_t k = 0; k < table.facets.count; ++k) {
        const std::vector<int64_t>& own = facets.rows[static_cast<size_t>(k)];
        names.push_back(text(caption_of(column_of({asked[l].layer.name, unit}), classifier), ", facet ", k + 1));
        cells.push_back({for_sheet(to_bytes(facets.starts.narrow(0, k, 1))[0]), ""});
        for (int64_t i = 0; i < table.facets.nearest; ++i) {
          const bool there = i < static_cast<int64_t>(own.size());
          if (there) averaged[k][i] = rows[static_cast<size_t>(own[static_cast<size_t>(i)])];
          if (i < shown) cells.push_back(there ? Cell{for_sheet(to_bytes(all.narrow(0, own[static_cast<size_t>(i)], 1))[0]), ""} : Cell());
        }
      }
      out.starts[name + "/rows"] = averaged;
    }
  const int64_t small = std::max(cells.front().image.size(0), cells.front().image.size(1));
  out.sheet = contact_sheet(cells, static_cast<int64_t>(heads.size()), names, heads, std::max<int64_t>(1, (96 + small / 2) / small),
                            text("facets: ", table.facets.count, " of each unit"));
  return out;
}

Tensor exemplars_sheet(const Asked& asked, const Gathered& gathered, const ImageSource& source, const Classifier& classifier,
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
  const int64_t keep = std::min({top.rows.size(1), gathered.statistics.count(), sheet_columns});

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
        if (const auto& unit = beside->columns[row].unit; unit && unit->layer == asked.layer.name && unit->index == asked.shown[u] &&
                                                          static_cast<int64_t>(made[u].size()) < sheet_columns)
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

namespace {

// Adds the files of the images that a sheet shows.
void name_files(nlohmann::json& units, const ImageSource& source) {
  const auto shown = [](const nlohmann::json& rows) { return std::min(rows.size(), static_cast<size_t>(sheet_columns)); };
  std::set<int64_t> rows;
  for (const nlohmann::json& unit : units)
    for (const char* end : {"top", "bottom"})
      for (size_t k = 0; k < shown(unit[end]); ++k) rows.insert(unit[end][k].get<int64_t>());
  const std::map<int64_t, std::string> names = source.names(rows);
  for (nlohmann::json& unit : units)
    for (const char* end : {"top", "bottom"}) {
      nlohmann::json& files = unit[text(end, "_files")] = nlohmann::json::array();
      for (size_t k = 0; k < shown(unit[end]); ++k) {
        // A name may be no UTF-8, which JSON has to be.
        const nlohmann::json raw = names.at(unit[end][k].get<int64_t>());
        files.push_back(nlohmann::json::parse(raw.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)));
      }
    }
}

}  // namespace

nlohmann::json units_json(const std::vector<Asked>& asked, const std::vector<Gathered>& gathered, const ImageSource& source,
                          const Classifier& classifier) {
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
  if (source.names) name_files(out, source);
  return out;
}

std::string units_table(const nlohmann::json& units) {
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
    const bool named = unit.contains("top_files") && !unit["top_files"].empty();
    out << "  " << (named ? unit["top_files"][0].get<std::string>() : unit["top"].empty() ? "-" : unit["top"][0].dump()) << "\n";
  }
  return out.str();
}

}  // namespace evoke
