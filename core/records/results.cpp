#include "core/records/results.h"

#include <ATen/ATen.h>

#include <cmath>
#include <filesystem>

#include "core/error.h"
#include "core/records/contact_sheet.h"
#include "core/records/pictures.h"
#include "core/storage/files.h"
#include "core/storage/hdf5.h"

namespace evoke {

namespace fs = std::filesystem;

namespace {

std::vector<std::string> axes_of(const Tensor& array, const std::string& rest) {
  std::vector<std::string> axes{"row"};
  for (int64_t i = 1; i < array.dim(); ++i) axes.push_back(array.dim() == 2 ? rest : text(rest, "_", i - 1));
  return axes;
}

void check(const Results& results, size_t captions) {
  const std::string where = "results";
  require_shape(results.images, {-1, -1, -1, -1}, where + ": images");
  const int64_t rows = results.images.size(0);
  require(results.images.scalar_type() == at::kByte, Failure::runtime, where, ": found images of ",
          c10::toString(results.images.scalar_type()), ", expected bytes [N,H,W,C]");
  require(results.units.size() == static_cast<size_t>(rows) && (results.status.empty() || results.status.size() == results.units.size()) &&
              (captions == 0 || captions == results.units.size()),
          Failure::runtime, where, ": found ", results.units.size(), " units, ", results.status.size(), " statuses and ", captions,
          " captions for ", rows, " images; expected one each");
  require_shape(results.chain, {rows}, where + ": chain");
  require_shape(results.activation, {rows}, where + ": activation");
  require(!results.codes.defined() || (results.codes.dim() > 0 && results.codes.size(0) == rows), Failure::runtime, where, ": found codes ",
          results.codes.defined() ? shape_text(results.codes.sizes()) : "", ", expected ", rows, " rows, as there are images");
}

void write_arrays(const std::string& file, const Results& results) {
  Hdf5 out = Hdf5::create(file);
  out.set_attribute("format", "evoke results");
  out.set_attribute("version", "1");
  out.write("/images", results.images, {"row", "height", "width", "channel"});
  if (results.codes.defined()) out.write("/codes", results.codes.to(at::kFloat), axes_of(results.codes, "code"));

  std::vector<std::string> layers;
  std::vector<int64_t> unit, y, x;
  for (const UnitPlace& place : results.units) {
    layers.push_back(place.layer);
    unit.push_back(place.unit);
    y.push_back(place.y);
    x.push_back(place.x);
  }
  out.write_text("/units/layer", layers);
  const auto column = [&](const std::string& name, const std::vector<int64_t>& values) {
    out.write(name, at::tensor(values, at::kLong), {"row"});
  };
  column("/units/unit", unit);
  column("/units/y", y);
  column("/units/x", x);

  out.write("/chain", results.chain.to(at::kLong), {"row"});
  out.write("/seed", at::scalar_tensor(static_cast<int64_t>(results.seed), at::kLong));
  out.write("/activation/final", results.activation.to(at::kFloat), {"row"});
  if (results.trace) results.trace->write(out);
  std::vector<std::string> status = results.status;
  status.resize(results.units.size(), "ok");
  out.write_text("/status", status);
}

std::string picture_name(const UnitPlace& place, int64_t row, int64_t chain) {
  char number[24];
  std::snprintf(number, sizeof(number), "%04lld", static_cast<long long>(row));
  std::string layer = place.layer;
  for (char& c : layer)
    if (!std::isalnum(static_cast<unsigned char>(c)) && c != '.' && c != '-') c = '-';
  std::string name = text("images/", number, "_", layer, "_", place.unit);
  if (place.y >= 0) name += text("@", place.y);
  if (place.x >= 0) name += text("-", place.x);
  return text(name, "_", chain, ".png");
}

// One line of the sheet a unit where units have several pictures, a plain grid otherwise. A caption's part before two spaces names the
// unit.
Tensor sheet_of(const Results& results, const std::vector<std::string>& captions, const std::string& title) {
  const auto rows = static_cast<int64_t>(results.units.size());
  const auto same = [&](int64_t a, int64_t b) {
    const UnitPlace &u = results.units[a], &v = results.units[b];
    return u.layer == v.layer && u.unit == v.unit && u.y == v.y && u.x == v.x;
  };
  const auto caption = [&](int64_t row) { return captions.empty() ? std::string() : captions[row]; };
  std::vector<std::pair<int64_t, int64_t>> groups;  // [first, end)
  int64_t longest = 0;
  for (int64_t first = 0, end = 0; first < rows; first = end) {
    for (end = first + 1; end < rows && same(first, end); ++end) {
    }
    groups.emplace_back(first, end);
    longest = std::max(longest, end - first);
  }
  const int64_t side = std::max(results.images.size(1), results.images.size(2)), scale = std::max<int64_t>(1, (96 + side / 2) / side);

  std::vector<Cell> cells;
  if (longest == 1) {
    for (int64_t row = 0; row < rows; ++row) cells.push_back({results.images[row], caption(row)});
    return contact_sheet(cells, std::clamp<int64_t>(std::lround(std::ceil(std::sqrt(1.4 * static_cast<double>(rows)))), 1, 12), {}, {},
                         scale, title);
  }
  const int64_t columns = std::min<int64_t>(longest, 10);
  std::vector<std::string> names;
  for (const auto& [first, end] : groups) {
    const std::string head = caption(first);
    names.push_back(head.substr(0, head.find("  ")));
    for (int64_t row = first; row < end; ++row) {
      if (row > first && (row - first) % columns == 0) names.emplace_back();
      const std::string words = caption(row);
      const size_t split = words.find("  ");
      cells.push_back({results.images[row], split == std::string::npos ? "" : words.substr(split + 2)});
    }
    while (cells.size() % columns) cells.emplace_back();
  }
  return contact_sheet(cells, columns, names, {}, scale, title);
}

}  // namespace

void save_results(RunDirectory& run, const Results& results, const std::vector<std::string>& captions) {
  check(results, captions.size());
  write_file_with(run.file("results.h5"), [&](const std::string& temporary) { write_arrays(temporary, results); });
  std::error_code trouble;
  fs::create_directories(run.file("images"), trouble);
  if (trouble) fail(Failure::runtime, run.file("images"), ": the folder cannot be made (", trouble.message(), ")");
  for (int64_t row = 0; row < results.images.size(0); ++row)
    save_png(run.file(picture_name(results.units[row], row, results.chain[row].item<int64_t>())), results.images[row]);
  if (results.images.size(0) > 0)
    save_png(run.file("contact_sheet.png"), sheet_of(results, captions, fs::path(run.path()).filename().string()));
}

Results load_results(const std::string& run_directory) {
  const std::string name = run_directory + "/results.h5";
  const Hdf5 file = Hdf5::open(name);
  require(file.attribute("format") == "evoke results" && file.attribute("version") == "1", Failure::input, name, ": found format '",
          file.attribute("format"), "' version '", file.attribute("version"), "', expected 'evoke results' version '1'");
  Results results;
  results.images = file.read("/images");
  if (file.has("/codes")) results.codes = file.read("/codes");
  results.chain = file.read("/chain");
  results.activation = file.read("/activation/final");
  results.seed = static_cast<uint64_t>(file.read("/seed").item<int64_t>());
  results.status = file.read_text("/status");

  const std::vector<std::string> layers = file.read_text("/units/layer");
  const Tensor unit = file.read("/units/unit"), y = file.read("/units/y"), x = file.read("/units/x");
  const auto rows = static_cast<int64_t>(layers.size());
  for (const Tensor* column : {&unit, &y, &x}) require_shape(*column, {rows}, name + ": /units");
  for (int64_t row = 0; row < rows; ++row)
    results.units.push_back({layers[row], unit[row].item<int64_t>(), y[row].item<int64_t>(), x[row].item<int64_t>()});
  check(results, 0);
  return results;
}

}  // namespace evoke
