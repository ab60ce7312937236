#include "core/records/results.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>
#include <iomanip>
#include <map>
#include <set>

#include "core/error.h"
#include "core/records/contact_sheet.h"
#include "core/records/pictures.h"
#include "core/storage/files.h"
#include "core/storage/hdf5.h"

namespace evoke {

namespace {

namespace fs = std::filesystem;

constexpr int64_t sheet_units = 64, sheet_chains = 10;

// The arrays of a file that have a row a picture, with the names of their axes; "…" stands for the axes of a code.
const std::vector<std::pair<std::string, std::vector<std::string>>> row_arrays{
    {"/images", {"row", "height", "width", "channel"}},
    {"/codes", {"row", "…"}},
    {"/units/unit", {"row"}},
    {"/units/y", {"row"}},
    {"/units/x", {"row"}},
    {"/chain", {"row"}},
    {"/activation/final", {"row"}},
    {"/activation/trace", {"row", "step"}},
    {"/snapshots", {"row", "snapshot", "height", "width", "channel"}},
};
const std::vector<std::string> row_texts{"/units/name", "/units/label", "/units/layer", "/status"};

std::vector<std::string> axes_of(const std::vector<std::string>& axes, int64_t dimensions) {
  if (axes.back() != "…") return axes;
  std::vector<std::string> out{"row"};
  for (int64_t i = 1; i < dimensions; ++i) out.push_back(dimensions == 2 ? "code" : text("code_", i - 1));
  return out;
}

void check(const Results& results) {
  const std::string where = "results";
  require_shape(results.images, {-1, -1, -1, -1}, where + ": images");
  const int64_t rows = results.images.size(0);
  require(results.images.scalar_type() == at::kByte, Failure::runtime, where, ": found images of ",
          c10::toString(results.images.scalar_type()), ", expected bytes [N,H,W,C]");
  const auto fits = [&](size_t count) { return count == static_cast<size_t>(rows); };
  require(fits(results.columns.size()) && fits(results.labels.size()) && fits(results.status.size()), Failure::runtime, where, ": found ",
          results.columns.size(), " columns, ", results.labels.size(), " labels and ", results.status.size(), " statuses for ", rows,
          " images; expected one each");
  require_shape(results.chain, {rows}, where + ": chain");
  require_shape(results.activation, {rows}, where + ": activation");
  require(!results.codes.defined() || (results.codes.dim() > 0 && results.codes.size(0) == rows), Failure::runtime, where, ": found codes ",
          results.codes.defined() ? shape_text(results.codes.sizes()) : "", ", expected ", rows, " rows, as there are images");
}

// The arrays of these results by the names that they have in a file.
std::map<std::string, Tensor> arrays_of(const Results& results) {
  std::vector<int64_t> unit, y, x;
  for (const Column& column : results.columns) {
    unit.push_back(column.unit ? column.unit->index : -1);
    y.push_back(column.unit ? column.unit->y : -1);
    x.push_back(column.unit ? column.unit->x : -1);
  }
  std::map<std::string, Tensor> out{{"/images", results.images},
                                    {"/units/unit", at::tensor(unit, at::kLong)},
                                    {"/units/y", at::tensor(y, at::kLong)},
                                    {"/units/x", at::tensor(x, at::kLong)},
                                    {"/chain", results.chain.to(at::kLong)},
                                    {"/activation/final", results.activation.to(at::kFloat)}};
  if (results.codes.defined()) out["/codes"] = results.codes.to(at::kFloat);
  return out;
}

std::map<std::string, std::vector<std::string>> texts_of(const Results& results) {
  std::map<std::string, std::vector<std::string>> out;
  for (const Column& column : results.columns) {
    out["/units/name"].push_back(column.name);
    out["/units/layer"].push_back(column.unit ? column.unit->layer : "");
  }
  out["/units/label"] = results.labels;
  out["/status"] = results.status;
  return out;
}

// Writes a file of `rows` rows, array by array, in a fixed order and in pieces of whole chunks, so that its bytes do not depend on where
// the rows come from. shapes: of each array, its rows left out; piece: rows [first, first + count) of an array.
struct Source {
  std::map<std::string, std::vector<int64_t>> shapes;
  std::map<std::string, at::ScalarType> types;
  std::function<Tensor(const std::string& name, int64_t first, int64_t count)> piece;
  std::map<std::string, std::vector<std::string>> texts;
  Tensor seed, steps;
  std::shared_ptr<Trace> trace;
};
void write_file_of(const std::string& file, int64_t rows, const Source& source) {
  write_file_with(file, [&](const std::string& temporary) {
    Hdf5 out = Hdf5::create(temporary);
    out.set_attribute("format", "evoke results");
    out.set_attribute("version", "2");
    const auto write = [&](const std::string& name, const std::vector<std::string>& axes) {
      std::vector<int64_t> shape = source.shapes.at(name);
      int64_t row_bytes = static_cast<int64_t>(c10::elementSize(source.types.at(name)));
      for (const int64_t size : shape) row_bytes *= size;
      shape.insert(shape.begin(), rows);
      out.reserve(name, shape, source.types.at(name), axes_of(axes, static_cast<int64_t>(shape.size())));
      const int64_t step = 8 * std::max<int64_t>(1, (int64_t{1} << 19) / std::max<int64_t>(1, row_bytes));
      for (int64_t first = 0; first < rows; first += step)
        out.write_rows(name, first, source.piece(name, first, std::min(step, rows - first)));
    };
    for (const auto& [name, axes] : row_arrays)
      if (source.shapes.contains(name)) write(name, axes);
    for (const auto& [name, shape] : source.shapes)
      if (name.starts_with("/terms/")) write(name, {"row", "step"});
    for (const std::string& name : row_texts) out.write_text(name, source.texts.at(name));
    out.write("/seed", source.seed);
    if (source.steps.defined()) out.write("/steps", source.steps, {"step"});
    if (source.trace) source.trace->write(out);
  });
}

// The names of the arrays in a file that have a row a picture.
std::vector<std::string> arrays_in(const Hdf5& file) {
  std::vector<std::string> out;
  for (const auto& [name, axes] : row_arrays)
    if (file.has(name)) out.push_back(name);
  if (file.has("/terms"))
    for (const std::string& term : file.names("/terms")) out.push_back("/terms/" + term);
  return out;
}

Hdf5 opened(const std::string& name) {
  Hdf5 file = Hdf5::open(name);
  require(file.attribute("format") == "evoke results" && file.attribute("version") == "2", Failure::input, name, ": found format '",
          file.attribute("format"), "' version '", file.attribute("version"),
          "', expected 'evoke results' version '2'; make the run again");
  return file;
}

std::string picture_name(const Results& results, int64_t row, int64_t number) {
  const Column& column = results.columns[static_cast<size_t>(row)];
  std::string name = column.unit ? column.unit->layer : column.name;
  name.resize(std::min<size_t>(name.size(), 100));
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c)) && c != '.' && c != '-') c = '-';
  std::ostringstream out;
  out << "images/" << std::setw(4) << std::setfill('0') << number << "_" << name;
  if (column.unit) {
    out << "_" << column.unit->index;
    if (column.unit->y >= 0) out << "@" << column.unit->y;
    if (column.unit->x >= 0) out << "-" << column.unit->x;
  }
  out << "_" << results.chain[row].item<int64_t>() << ".png";
  return out.str();
}

// One line of the sheet a unit where units have several pictures, a plain grid otherwise.
Tensor sheet_of(const Results& results, const std::string& title) {
  const auto rows = static_cast<int64_t>(results.columns.size());
  std::vector<std::pair<int64_t, int64_t>> groups;  // [first, end)
  int64_t longest = 0;
  for (int64_t first = 0, end = 0; first < rows; first = end) {
    const std::string& name = results.columns[static_cast<size_t>(first)].name;
    for (end = first + 1; end < rows && results.columns[static_cast<size_t>(end)].name == name; ++end) {
    }
    groups.emplace_back(first, end);
    longest = std::max(longest, end - first);
  }
  const int64_t side = std::max(results.images.size(1), results.images.size(2)), scale = std::max<int64_t>(1, (96 + side / 2) / side);

  std::vector<Cell> cells;
  if (longest == 1) {
    for (int64_t row = 0; row < rows; ++row)
      cells.push_back({results.images[row], unit_caption(results, row) + "  " + activation_caption(results, row)});
    return contact_sheet(cells, std::clamp<int64_t>(std::lround(std::ceil(std::sqrt(1.4 * static_cast<double>(rows)))), 1, 12), {}, {},
                         scale, title);
  }
  std::vector<std::string> names;
  const int64_t columns = std::min(longest, sheet_chains);
  for (const auto& [first, end] : groups) {
    names.push_back(unit_caption(results, first));
    for (int64_t row = first; row < std::min(end, first + columns); ++row)
      cells.push_back({results.images[row], activation_caption(results, row)});
    while (cells.size() % static_cast<size_t>(columns) != 0) cells.emplace_back();
  }
  return contact_sheet(cells, columns, names, {}, scale, title);
}

}  // namespace

std::string unit_caption(const Results& results, int64_t row) {
  const auto at_row = static_cast<size_t>(row);
  return results.columns[at_row].name + (results.labels[at_row].empty() ? "" : " " + results.labels[at_row]);
}

std::string activation_caption(const Results& results, int64_t row) {
  std::ostringstream out;
  out << std::setprecision(3) << results.activation[row].item<double>();
  return out.str();
}

void write_results(const std::string& file, const Results& results) {
  check(results);
  const std::map<std::string, Tensor> arrays = arrays_of(results);
  Source source;
  for (const auto& [name, array] : arrays) {
    source.shapes[name] = array.sizes().slice(1).vec();
    source.types[name] = array.scalar_type();
  }
  source.piece = [&](const std::string& name, int64_t first, int64_t count) { return arrays.at(name).narrow(0, first, count); };
  source.texts = texts_of(results);
  source.seed = at::scalar_tensor(static_cast<int64_t>(results.seed), at::kLong);
  source.trace = results.trace;
  write_file_of(file, results.images.size(0), source);
}

Results read_results(const std::string& name, int64_t first, int64_t count, bool codes) {
  const Hdf5 file = opened(name);
  const int64_t rows = file.shape("/images").at(0);
  if (count < 0) count = std::max<int64_t>(0, rows - first);
  require(first >= 0 && first + count <= rows, Failure::runtime, name, ": found ", rows, " rows, expected row ", first + count - 1);
  const auto optional = [&](const std::string& array) { return file.has(array) ? file.read_rows(array, first, count) : Tensor(); };
  const auto words = [&](const std::string& array) {
    const std::vector<std::string> all = file.read_text(array);
    require(static_cast<int64_t>(all.size()) == rows, Failure::input, name, ": found ", all.size(), " lines in ", array, " for ", rows,
            " pictures");
    return std::vector<std::string>(all.begin() + first, all.begin() + first + count);
  };
  Results results;
  results.images = optional("/images");
  if (codes) results.codes = optional("/codes");
  results.chain = optional("/chain");
  results.activation = optional("/activation/final");
  results.seed = static_cast<uint64_t>(file.read("/seed").item<int64_t>());
  results.status = words("/status");
  results.labels = words("/units/label");

  const std::vector<std::string> layers = words("/units/layer"), names = words("/units/name");
  const Tensor unit = optional("/units/unit"), y = optional("/units/y"), x = optional("/units/x");
  for (const Tensor* column : {&unit, &y, &x}) require_shape(*column, {count}, name + ": /units");
  for (int64_t row = 0; row < count; ++row) {
    Column column{names[static_cast<size_t>(row)]};
    if (!layers[static_cast<size_t>(row)].empty())
      column.unit = Unit{layers[static_cast<size_t>(row)], unit[row].item<int64_t>(), y[row].item<int64_t>(), x[row].item<int64_t>()};
    results.columns.push_back(std::move(column));
  }
  check(results);
  return results;
}

int64_t rows_of_results(const std::string& file) { return opened(file).shape("/images").at(0); }

void join_results(const std::vector<std::string>& parts, const std::string& file) {
  require(!parts.empty(), Failure::runtime, file, ": found no parts to join");
  std::vector<Hdf5> files;
  std::vector<int64_t> begins{0};
  Source source;
  for (const std::string& part : parts) {
    files.push_back(opened(part));
    const Hdf5& here = files.back();
    begins.push_back(begins.back() + here.shape("/images").at(0));
    const std::vector<std::string> arrays = arrays_in(here);
    const Tensor seed = here.read("/seed"), steps = here.has("/steps") ? here.read("/steps") : Tensor();
    if (files.size() == 1) {
      source.seed = seed;
      source.steps = steps;
      for (const std::string& name : arrays) {
        const std::vector<int64_t> shape = here.shape(name);
        source.shapes[name] = {shape.begin() + 1, shape.end()};
        source.types[name] = here.read_rows(name, 0, 0).scalar_type();
      }
    }
    bool fits = arrays.size() == source.shapes.size() && at::equal(seed, source.seed) && steps.defined() == source.steps.defined() &&
                (!steps.defined() || at::equal(steps, source.steps));
    for (const std::string& name : arrays) {
      const std::vector<int64_t> shape = here.shape(name);
      fits = fits && source.shapes.contains(name) && source.shapes.at(name) == std::vector<int64_t>(shape.begin() + 1, shape.end());
    }
    require(fits, Failure::input, part, ": found other arrays, sizes, steps or another seed than in ", parts.front(),
            ", expected parts of one run");
    for (const std::string& name : row_texts)
      for (std::string& line : files.back().read_text(name)) source.texts[name].push_back(std::move(line));
  }
  source.piece = [&](const std::string& name, int64_t first, int64_t count) {
    std::vector<Tensor> pieces;
    for (size_t i = 0; i < files.size(); ++i) {
      const int64_t begin = std::max(first, begins[i]), end = std::min(first + count, begins[i + 1]);
      if (begin < end) pieces.push_back(files[i].read_rows(name, begin - begins[i], end - begin));
    }
    return at::cat(pieces);
  };
  write_file_of(file, begins.back(), source);
}

Results load_results(const std::string& run_directory, bool codes) { return read_results(run_directory + "/results.h5", 0, -1, codes); }

void save_pictures(const std::string& run_directory, const Results& results, int64_t first) {
  std::error_code trouble;
  fs::create_directories(run_directory + "/images", trouble);
  if (trouble) fail(Failure::runtime, run_directory, "/images: the folder cannot be made (", trouble.message(), ")");
  for (int64_t row = 0; row < results.images.size(0); ++row)
    save_png(run_directory + "/" + picture_name(results, row, first + row), results.images[row]);
}

void save_contact_sheet(const std::string& run_directory) {
  // Read only what is shown: the first units, and of these all chains that stand before the last one shown.
  const std::string name = run_directory + "/results.h5";
  const std::vector<std::string> names = Hdf5::open(name).read_text("/units/name");
  int64_t rows = 0;
  for (std::set<std::string> seen; rows < static_cast<int64_t>(names.size()); ++rows) {
    seen.insert(names[static_cast<size_t>(rows)]);
    if (static_cast<int64_t>(seen.size()) > sheet_units) break;
  }
  if (rows > 0)
    save_png(run_directory + "/contact_sheet.png", sheet_of(read_results(name, 0, rows), fs::path(run_directory).filename().string()));
}

}  // namespace evoke
