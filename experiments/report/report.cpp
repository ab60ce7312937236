// From runs to the page: what is said of them at once, the pictures in pieces that the page unpacks as they are looked at, and the page.
#include "experiments/report/report.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "core/error.h"
#include "core/log.h"
#include "core/records/pictures.h"
#include "core/storage/files.h"
#include "experiments/judging/figures.h"
#include "experiments/report/exemplar_images.h"
#include "experiments/report/page.h"
#include "experiments/report/run_pictures.h"
#include "training/datasets/folder.h"

namespace evoke {

namespace {

namespace fs = std::filesystem;
using json = nlohmann::json;

// ---- How large things become -----------------------------------------------------------------------------------------------------------

constexpr double picture_bytes = 24e6, frame_bytes = 16e6, exemplar_bytes = 12e6;  // of the page, at most, about
constexpr int64_t largest_side = 512, largest_frame = 224, largest_exemplar = 160, small_side = 64;
constexpr int64_t most_frames = 24, most_exemplars = 9, most_lossless = 4000, most_strips = 4000;
constexpr int64_t most_numbers = 600'000;  // of all traces together
constexpr int quality = 75, lossless = 0;

// The side in pixels at which so many pictures take so many bytes: one of 224 pixels takes about 10 kB, others in proportion to side^1.5.
int64_t side_within(int64_t pictures, double bytes) {
  return std::lround(224 * std::pow(bytes / static_cast<double>(std::max<int64_t>(1, pictures)) / 10'000, 1 / 1.5));
}

// uint8 [H,W,C], no larger than `side`.
Tensor shrunk(const Tensor& image, int64_t side) {
  const int64_t height = image.size(0), width = image.size(1), longest = std::max(height, width);
  if (longest <= side) return image;
  return fit_image(image, std::max<int64_t>(1, height * side / longest), std::max<int64_t>(1, width * side / longest));
}

// `wanted` of the indices 0 … count - 1, evenly, first and last among them.
std::vector<int64_t> evenly(int64_t count, int64_t wanted) {
  std::vector<int64_t> out;
  const int64_t taken = std::min(count, std::max<int64_t>(wanted, 2));
  for (int64_t i = 0; i < taken; ++i) out.push_back(taken == 1 ? 0 : (i * (count - 1) + (taken - 1) / 2) / (taken - 1));
  return out;
}

// A number of four digits; null where there is none.
json brief(double value) {
  if (!std::isfinite(value)) return {};
  char digits[32];
  std::snprintf(digits, sizeof digits, "%.4g", value);
  return std::strtod(digits, nullptr);
}

// ---- What is shown ---------------------------------------------------------------------------------------------------------------------

// A unit with its rows in every run.
struct Shown {
  Column column;
  std::string label;
  std::vector<std::vector<int64_t>> rows;
};

std::vector<Shown> units_of(const std::vector<RunPictures>& runs) {
  std::vector<Shown> out;
  std::map<std::string, size_t> place;
  for (size_t run = 0; run < runs.size(); ++run)
    for (int64_t row = 0; row < runs[run].rows(); ++row) {
      const auto at_row = static_cast<size_t>(row);
      const Column& column = runs[run].columns[at_row];
      const auto [found, fresh] = place.emplace(column.name, out.size());
      if (fresh) out.push_back({column, "", std::vector<std::vector<int64_t>>(runs.size())});
      Shown& unit = out[found->second];
      if (unit.label.empty()) unit.label = runs[run].labels[at_row];
      unit.rows[run].push_back(row);
    }
  return out;
}

// The last parts of the runs' paths, as many as tell them apart.
std::vector<std::string> names_of(const std::vector<std::string>& runs) {
  std::vector<fs::path> paths;
  for (const std::string& run : runs) {
    const fs::path whole = fs::absolute(run).lexically_normal();
    paths.push_back(whole.has_filename() ? whole : whole.parent_path());
  }
  for (int parts = 1;; ++parts) {
    std::vector<std::string> names;
    bool longer = false;
    for (const fs::path& path : paths) {
      fs::path rest = path, name = rest.filename();
      for (int more = 1; more < parts && rest.has_relative_path(); ++more) {
        rest = rest.parent_path();
        if (rest.has_filename()) name = rest.filename() / name, longer = true;
      }
      names.push_back(name.string());
    }
    const std::set<std::string> different(names.begin(), names.end());
    if (different.size() == names.size() || (parts > 1 && !longer)) return names;
    if (parts > 64) return names;
  }
}

// Where a run's files are from the page, so that they can be opened from it; nothing where they are not beside or below it.
std::optional<std::string> below(const std::string& run, const std::string& file) {
  const std::string way =
      fs::absolute(run).lexically_normal().lexically_relative(fs::absolute(file).lexically_normal().parent_path()).string();
  if (way.empty() || way.starts_with("..")) return std::nullopt;
  return way == "." || way == "./" ? "" : way.ends_with('/') ? way : way + "/";
}

// ---- What is said at once --------------------------------------------------------------------------------------------------------------

json facts_of(const RunPictures& run) {
  json out = json::array();
  const json& manifest = run.manifest;
  for (const auto& [key, label] : {std::pair{"device", "device"}, {"seed", "seed"}, {"images_seen", "images seen by the classifier"}})
    if (manifest.contains(key)) out.push_back({label, manifest[key]});
  if (manifest.contains("versions"))
    for (const auto& [name, version] : manifest["versions"].items()) out.push_back({name, version});
  return out;
}

json inputs_of(const RunPictures& run) {
  json out = json::array();
  if (run.manifest.contains("inputs"))
    for (const json& input : run.manifest["inputs"]) out.push_back({input.value("file", ""), input.value("sha256", "")});
  return out;
}

// Lines of figures, those of a table without what differs from one sitting to the next.
void add_lines(json& out, const json& table, const std::function<bool(const std::string&)>& wanted, const json& run) {
  for (json line : table) {
    const std::string name = line.value("name", "");
    if (!wanted(name)) continue;
    line.erase("seconds");
    line["run"] = run;
    if (std::find(out.begin(), out.end(), line) == out.end()) out.push_back(std::move(line));
  }
}

json read_json(const std::string& file) {
  std::error_code none;
  return fs::exists(file, none) ? json::parse(read_file(file), nullptr, false) : json();
}

// What judges said of a run: the table of its comparison, else of its judgement, else what its findings alone say.
void add_figures(json& page, const RunPictures& run, const std::string& name, size_t index) {
  if (run.judges.empty()) return;
  json& out = page["figures"];
  const fs::path folder = fs::absolute(run.folder).lexically_normal();
  const fs::path plain = folder.has_filename() ? folder : folder.parent_path();
  const std::string own = plain.filename().string();
  if (const json manifest = read_json((plain.parent_path() / "manifest.json").string());
      manifest.is_object() && manifest.value("verb", "") == "compare") {
    const json table = read_json((plain.parent_path() / "table.json").string());
    if (table.is_array() && std::any_of(table.begin(), table.end(), [&](const json& line) { return line.value("name", "") == own; })) {
      add_lines(
          out, table, [&](const std::string& line) { return line == own; }, index);
      add_lines(
          out, table, [&](const std::string& line) { return !fs::exists(plain.parent_path() / line / "manifest.json"); }, json());
      return;
    }
  }
  if (const json held = read_json(run.folder + "/judgement.json");
      held.is_object() && held.value("judges", "") == run.judges && held.contains("table") && held["table"].is_array()) {
    json table = held["table"];
    for (json& line : table)
      if (line.value("name", "") == "all") line["name"] = name;
    add_lines(
        out, table, [&](const std::string& line) { return line == name; }, index);
    add_lines(
        out, table, [&](const std::string& line) { return line != name; }, json());
    for (const char* key : {"depths", "target_depths"})
      if (held.contains(key)) page[key] = held[key];
    if (held.contains("off_path")) page["off_path"].push_back({{"run", index}, {"units", held["off_path"]}});
    return;
  }
  json line = figures_of_findings(run.findings, name);
  if (line.is_null()) return;
  line["run"] = index;
  out.push_back(std::move(line));
}

// What every picture of a unit is in one run, but for the picture.
json rows_json(const RunPictures& run, const std::vector<int64_t>& rows, const std::map<std::string, Tensor>& verdicts, bool linked) {
  json out;
  for (const int64_t row : rows) {
    const auto at_row = static_cast<size_t>(row);
    out["chain"].push_back(run.chain[at_row]);
    out["activation"].push_back(brief(run.activation[at_row]));
    if (run.status[at_row] != "ok") out["status"][std::to_string(out["chain"].size() - 1)] = run.status[at_row];
    if (linked) out["files"].push_back(run.files[at_row]);
    if (run.findings.contains("percentile")) out["percentile"].push_back(brief(run.findings.at("percentile")[row].item<double>()));
  }
  for (const auto& [judge, reads] : verdicts) {
    std::string said;
    int64_t yes = 0, asked = 0;
    for (const int64_t row : rows) {
      const bool of_class = run.findings.at("wanted")[row].item<int64_t>() >= 0, read = reads[row].item<bool>();
      said += !of_class ? '-' : read ? '1' : '0';
      asked += of_class, yes += of_class && read;
    }
    if (asked == 0) continue;
    const Interval share = wilson(yes, asked);
    out["verdicts"][judge] = said;
    out["shares"][judge] = {yes, asked, brief(share.low), brief(share.high)};
  }
  return out;
}

// ---- Pictures --------------------------------------------------------------------------------------------------------------------------

// Pictures that become WebP together, each with its place in a piece of data.
class Pack {
 public:
  void add(const Tensor& image, int with_quality, const std::string& place) { jobs_.push_back({image, with_quality, place}); }
  size_t size() const { return jobs_.size(); }
  void into(json& piece) {
    std::vector<std::string> made(jobs_.size());
    at::parallel_for(0, static_cast<int64_t>(jobs_.size()), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) made[static_cast<size_t>(i)] = base64(webp_of(jobs_[i].image, jobs_[i].quality));
    });
    for (size_t i = 0; i < jobs_.size(); ++i) piece[json::json_pointer(jobs_[i].place)] = std::move(made[i]);
    jobs_.clear();
  }

 private:
  struct Job {
    Tensor image;
    int quality;
    std::string place;
  };
  std::vector<Job> jobs_;
};

// Rows of a run that follow one another are read together.
Tensor images_of(const RunPictures& run, const std::vector<int64_t>& rows) {
  std::vector<Tensor> out;
  for (size_t i = 0; i < rows.size();) {
    size_t end = i + 1;
    while (end < rows.size() && rows[end] == rows[end - 1] + 1) ++end;
    out.push_back(run.images(rows[i], static_cast<int64_t>(end - i)));
    i = end;
  }
  return at::cat(out);
}

// Frames side by side in one picture, of which the page shows one at a time: uint8 [h,n·w,C].
Tensor strip_of(const RunPictures& run, int64_t row, const Tensor& last, const std::vector<int64_t>& frames, int64_t side) {
  const Tensor all = run.snapshots(row);
  std::vector<Tensor> out;
  for (const int64_t frame : frames) out.push_back(shrunk(frame < all.size(0) ? all[frame] : last, side));
  return at::cat(out, 1);
}

// How the pictures of a report are drawn, which follows from how many there are.
struct Sizes {
  int64_t picture = 0, frame = 0, exemplar = 0;  // sides in pixels
  int64_t exemplars = 0, numbers = 0;            // at each end of a unit, of each trace
  std::vector<std::vector<int64_t>> frames;      // of each run: which snapshots, the last picture counted behind them
  bool exact = false, all_strips = true;
};

Sizes sizes_of(const std::vector<RunPictures>& runs, size_t units, bool exemplars) {
  Sizes out;
  int64_t pictures = 0, strips = 0, traces = 0;
  for (const RunPictures& run : runs) {
    pictures += run.rows();
    if (!run.moments.empty()) strips += run.rows();
    traces += run.rows() * static_cast<int64_t>(run.terms.size());
  }
  out.picture = std::min(largest_side, side_within(pictures, picture_bytes));
  out.exact = pictures <= most_lossless;
  out.all_strips = strips <= most_strips;
  if (!out.all_strips) strips = static_cast<int64_t>(units * runs.size());
  int64_t frames = strips <= most_strips
                       ? std::clamp<int64_t>(static_cast<int64_t>(frame_bytes) / (1200 * std::max<int64_t>(1, strips)), 3, most_frames)
                       : 0;
  for (const RunPictures& run : runs) {
    const auto count = static_cast<int64_t>(run.moments.size());
    out.frames.push_back(count > 0 && frames > 0 ? evenly(count + 1, frames) : std::vector<int64_t>{});
  }
  out.frame = std::min(largest_frame, side_within(strips * frames, frame_bytes));
  out.numbers = std::clamp<int64_t>(most_numbers / std::max<int64_t>(1, traces), 24, 160);
  if (exemplars) {
    out.exemplars = std::clamp<int64_t>(2000 / static_cast<int64_t>(std::max<size_t>(1, units)), 2, most_exemplars);
    out.exemplar = std::min(largest_exemplar, side_within(static_cast<int64_t>(units) * 2 * out.exemplars, exemplar_bytes));
  }
  return out;
}

// What the page says of what it leaves out.
json notes_of(const std::vector<RunPictures>& runs, const Sizes& sizes) {
  json out = json::array();
  int64_t longest = 0;
  bool snapshots = false, parted = false;
  for (const RunPictures& run : runs) longest = std::max({longest, run.height, run.width});
  if (longest > sizes.picture)
    out.push_back(text("Pictures are shown at ", sizes.picture, " pixels of their ", longest,
                       ", so that the page stays small; images/ of a run has them whole."));
  for (size_t i = 0; i < runs.size(); ++i) {
    if (runs[i].moments.empty()) continue;
    snapshots = true;
    parted = parted || sizes.frames[i].size() < runs[i].moments.size() + 1;
  }
  if (snapshots && !sizes.all_strips)
    out.push_back(sizes.frame > 0 ? "There are so many chains that only the trajectory of each unit's first is shown; results.h5 has all."
                                  : "There are so many chains that no trajectory is shown; results.h5 has all.");
  if (parted) out.push_back("Of the snapshots of a run some are shown, evenly; results.h5 has all.");
  return out;
}

// ---- The page's data -------------------------------------------------------------------------------------------------------------------

struct Made {
  json summary;
  std::vector<std::string> pieces;
};

json run_json(const RunPictures& run, const std::string& name, const std::vector<int64_t>& recorded, const std::vector<int64_t>& frames,
              const std::optional<std::string>& folder) {
  json steps = json::array(), moments = json::array();
  for (const int64_t column : recorded) steps.push_back(run.steps[column].item<int64_t>());
  for (const int64_t frame : frames)
    moments.push_back(frame < static_cast<int64_t>(run.moments.size()) ? json(run.moments[static_cast<size_t>(frame)]) : json("end"));
  json out{{"name", name},         {"rows", run.rows()},     {"height", run.height},     {"width", run.width},
           {"config", run.config}, {"facts", facts_of(run)}, {"inputs", inputs_of(run)}, {"judges", run.judges},
           {"terms", run.terms},   {"steps", steps},         {"moments", moments},       {"readers", readers_in(run.findings)}};
  if (!run.unfinished.empty()) out["unfinished"] = run.unfinished;
  if (folder) out["folder"] = *folder;
  return out;
}

// Numbers of a trace at the chosen records, a line a row.
json trace_json(const Tensor& values, const std::vector<int64_t>& recorded) {
  json out = json::array();
  const Tensor chosen = values.index_select(1, at::tensor(recorded, at::kLong)).to(at::kDouble).contiguous();
  for (int64_t row = 0; row < chosen.size(0); ++row) {
    json line = json::array();
    for (int64_t i = 0; i < chosen.size(1); ++i) line.push_back(brief(chosen[row].const_data_ptr<double>()[i]));
    out.push_back(std::move(line));
  }
  return out;
}

// The pictures, traces and trajectories of a unit's rows in one run.
void add_rows(Pack& pack, json& piece, const std::string& place, const RunPictures& run, const std::vector<int64_t>& rows,
              const Sizes& sizes, const std::vector<int64_t>& recorded, const std::vector<int64_t>& frames) {
  const auto quality_of = [&](int64_t side) {
    return sizes.exact && std::max(run.height, run.width) <= std::min(side, small_side) ? lossless : quality;
  };
  constexpr size_t at_once = 64;
  for (size_t begin = 0; begin < rows.size(); begin += at_once) {
    const std::vector<int64_t> some(rows.begin() + begin, rows.begin() + std::min(rows.size(), begin + at_once));
    const Tensor images = images_of(run, some);
    for (size_t k = 0; k < some.size(); ++k) {
      const Tensor image = images[static_cast<int64_t>(k)];
      pack.add(shrunk(image, sizes.picture), quality_of(sizes.picture), text(place, "/pictures/", begin + k));
      if (!frames.empty() && (sizes.all_strips || begin + k == 0))
        pack.add(strip_of(run, some[k], image, frames, sizes.frame), quality_of(sizes.frame), text(place, "/strips/", begin + k));
    }
    if (pack.size() >= 2 * at_once) pack.into(piece);
  }
  if (recorded.empty()) return;
  const auto [least, most] = std::minmax_element(rows.begin(), rows.end());
  const int64_t first = *least, count = *most - *least + 1;
  const bool together = count == static_cast<int64_t>(rows.size());
  for (const std::string& term : run.terms) {
    Tensor values;
    if (together) {
      values = run.trace(term, first, count);
    } else {
      std::vector<Tensor> lines;
      for (const int64_t row : rows) lines.push_back(run.trace(term, row, 1));
      values = at::cat(lines);
    }
    piece[json::json_pointer(place)]["traces"][term] = trace_json(values, recorded);
  }
}

void add_exemplars(Pack& pack, json& piece, const std::string& place, const ExemplarImages& exemplars, const Unit& unit, const Sizes& sizes,
                   const RunPictures& run) {
  const ExemplarImages::Ends ends = exemplars.of(unit, sizes.exemplars);
  for (const auto& [name, some] : {std::pair{"top", &ends.top}, {"bottom", &ends.bottom}})
    for (size_t i = 0; i < some->size(); ++i) {
      const ExemplarImages::Exemplar& one = (*some)[i];
      piece[json::json_pointer(text(place, "/", name, "/", i))] = {{"row", one.row}, {"value", brief(one.value)}};
      if (!exemplars.images_are_there()) continue;
      const Tensor image = shrunk(exemplars.image(one.row, run.height, run.width), sizes.exemplar);
      pack.add(image, sizes.exact && std::max(image.size(0), image.size(1)) <= small_side ? lossless : quality,
               text(place, "/", name, "/", i, "/picture"));
    }
}

std::optional<Made> made_of(const std::vector<RunPictures>& runs, const std::vector<std::string>& names, const std::string& file,
                            const std::optional<ExemplarImages>& exemplars) {
  Made made;
  const std::vector<Shown> units = units_of(runs);
  const Sizes sizes = sizes_of(runs, units.size(), exemplars.has_value());
  json& page = made.summary;
  page = {{"runs", json::array()},          {"units", json::array()},    {"figures", json::array()},      {"depths", json::array()},
          {"target_depths", json::array()}, {"off_path", json::array()}, {"notes", notes_of(runs, sizes)}};
  if (exemplars) page["exemplars"] = {{"data", fs::path(exemplars->data()).filename().string()}, {"shown", exemplars->images_are_there()}};

  std::vector<std::vector<int64_t>> recorded;
  std::vector<std::map<std::string, Tensor>> verdicts(runs.size());
  std::vector<bool> linked;
  for (size_t i = 0; i < runs.size(); ++i) {
    recorded.push_back(runs[i].steps.defined() ? evenly(runs[i].steps.numel(), sizes.numbers) : std::vector<int64_t>{});
    for (const std::string& judge : readers_in(runs[i].findings)) verdicts[i][judge] = reads(runs[i].findings, judge);
    const std::optional<std::string> folder = below(runs[i].folder, file);
    linked.push_back(folder.has_value());
    page["runs"].push_back(run_json(runs[i], names[i], recorded.back(), sizes.frames[i], folder));
    add_figures(page, runs[i], names[i], i);
  }

  std::stable_partition(page["figures"].begin(), page["figures"].end(), [](const json& line) { return !line["run"].is_null(); });

  // Units one behind another; a piece of data ends where it has enough pictures.
  constexpr size_t pictures_in_piece = 96;
  json piece = json::object();
  Pack pack;
  size_t in_piece = 0;
  const auto end_piece = [&] {
    pack.into(piece);
    made.pieces.push_back(data_of(piece));
    piece = json::object();
    in_piece = 0;
  };
  for (size_t number = 0; number < units.size(); ++number) {
    if (interrupted()) return std::nullopt;
    const Shown& unit = units[number];
    const std::string place = text("/", number);
    json line{{"name", unit.column.name}, {"label", unit.label}, {"piece", made.pieces.size()}, {"runs", json::array()}};
    if (unit.column.unit) line["layer"] = unit.column.unit->layer, line["index"] = unit.column.unit->index;
    for (size_t i = 0; i < runs.size(); ++i) {
      if (unit.rows[i].empty()) {
        line["runs"].push_back(nullptr);
        continue;
      }
      line["runs"].push_back(rows_json(runs[i], unit.rows[i], verdicts[i], linked[i]));
      add_rows(pack, piece, text(place, "/runs/", i), runs[i], unit.rows[i], sizes, recorded[i], sizes.frames[i]);
      in_piece += unit.rows[i].size() * (sizes.frames[i].empty() ? 1 : 3);
    }
    if (exemplars && unit.column.unit) add_exemplars(pack, piece, place, *exemplars, *unit.column.unit, sizes, runs.front());
    page["units"].push_back(std::move(line));
    if (in_piece >= pictures_in_piece) end_piece();
  }
  if (in_piece > 0) end_piece();
  return made;
}

// The exemplars to show: those that were named; else those that the page showed before; else those in the run.
std::optional<ExemplarImages> exemplars_for(const std::vector<RunPictures>& runs, const std::string& file, const std::string& named,
                                            std::string& where) {
  where = named;
  const fs::path page_folder = fs::absolute(file).lexically_normal().parent_path();
  bool remembered = false;
  if (where.empty()) {
    if (const std::string before = remembered_exemplars(file); !before.empty())
      where = (page_folder / before).lexically_normal().string(), remembered = true;
    else if (runs.size() == 1 && fs::exists(runs.front().folder + "/exemplars/exemplars.h5"))
      where = runs.front().folder + "/exemplars";
  }
  if (where.empty()) return std::nullopt;
  if (remembered && !fs::exists(where + "/exemplars.h5")) {
    warn(text("report: the exemplars that the page showed are not at ", where, " any more; it shows none now"));
    where.clear();
    return std::nullopt;
  }
  ExemplarImages out(where);
  for (const RunPictures& run : runs) {
    const json inputs = inputs_of(run);
    require(std::any_of(inputs.begin(), inputs.end(), [&](const json& input) { return input[1] == out.network(); }), Failure::usage,
            "--exemplars ", where, ": found exemplars of another network than ", run.folder, " climbed; name those of its classifier");
  }
  if (!out.images_are_there())
    warn(text("report: the images of the exemplars are not at ", out.data(), " any more; their values are shown alone"));
  where = fs::absolute(where).lexically_normal().lexically_relative(page_folder).string();
  return out;
}

}  // namespace

std::string report_of(const std::string& run) { return run + "/report.html"; }

void report_run(const std::string& run) {
  try {
    write_report({run}, report_of(run));
  } catch (const Error& error) {
    warn(text("the report is left out: ", error.what()));
  }
}

bool is_reported(const std::string& run) {
  const json manifest = read_json(run + "/manifest.json");
  return manifest.is_object() && manifest.value("status", json()) == "done" && fs::exists(report_of(run));
}

std::string report_line(const std::string& run) {
  std::error_code none;
  return fs::exists(report_of(run), none) ? "\n" + report_of(run) : "";
}

Reported write_report(const std::vector<std::string>& folders, const std::string& file, const std::string& exemplars) {
  const std::vector<std::string> paths = runs_of(folders);
  std::vector<RunPictures> runs;
  for (const std::string& path : paths) runs.push_back(RunPictures::open(path));
  const std::vector<std::string> names = names_of(paths);
  std::string where;
  const std::optional<ExemplarImages> beside = exemplars_for(runs, file, exemplars, where);

  Reported out{file, static_cast<int64_t>(runs.size())};
  const std::optional<Made> made = made_of(runs, names, file, beside);
  if (!made) return out;
  out.units = static_cast<int64_t>(made->summary["units"].size());
  for (const RunPictures& run : runs) out.pictures += run.rows();
  std::string title = names_of({folders.front()}).front();
  if (folders.size() > 1) {
    const size_t named = names.size() > 4 ? 3 : names.size();
    title.clear();
    for (size_t i = 0; i < named; ++i) title += (title.empty() ? "" : " · ") + names[i];
    if (named < names.size()) title += text(" and ", names.size() - named, " more");
  }
  const std::string page = page_of(title, where, data_of(made->summary), made->pieces);
  const Lock lock = claim_file(file);
  write_file(file, page);
  out.bytes = static_cast<int64_t>(page.size());
  return out;
}

}  // namespace evoke
