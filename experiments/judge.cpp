// evoke judge: score a run's images by the truth.
#include "experiments/judge.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <iomanip>
#include <map>
#include <memory>

#include "classifiers/menu.h"
#include "classifiers/networks.h"
#include "core/error.h"
#include "core/log.h"
#include "core/numbers/stream.h"
#include "core/records/picture.h"
#include "core/storage/files.h"
#include "core/storage/hdf5.h"
#include "experiments/sample.h"
#include "experiments/verbs.h"
#include "generators/decoder.h"

namespace evoke {

namespace {

constexpr double nothing = std::numeric_limits<double>::quiet_NaN();
constexpr int64_t judge_batch = 64;
constexpr uint64_t bootstrap_seed = 1;

// The largest logit of each picture, int64 [N] on the CPU.
Tensor classes_of(const Classifier& classifier, const Tensor& bytes, at::Device device) {
  const c10::NoGradGuard no_gradient;
  const std::string last = classifier.layers.back().name;
  std::vector<Tensor> out;
  for (int64_t first = 0; first < bytes.size(0); first += judge_batch) {
    const Tensor x = from_bytes(bytes.slice(0, first, first + judge_batch)).to(device);
    out.push_back(classifier.forward(x, {last}).at(last).argmax(1).cpu());
  }
  return out.empty() ? at::empty({0}, at::kLong) : at::cat(out);
}

bool is_class(const Classifier& classifier, const UnitPlace& place) {
  return place.layer == classifier.layers.back().name && classifier.layers.back().shape.size() == 1;
}

// The units without repetition, and the column of each picture.
struct Columns {
  std::vector<Unit> units;
  Tensor of_row;  // int64 [N]
};
Columns columns_of(const std::vector<UnitPlace>& places) {
  Columns columns;
  std::vector<int64_t> rows;
  for (const UnitPlace& place : places) {
    const Unit unit{place.layer, place.unit, place.y, place.x};
    const auto found = std::find(columns.units.begin(), columns.units.end(), unit);
    rows.push_back(found - columns.units.begin());
    if (found == columns.units.end()) columns.units.push_back(unit);
  }
  columns.of_row = at::tensor(rows, at::kLong);
  return columns;
}

// A share with its interval, of the rows of `found` that are as `wanted`.
Interval share_of(const Tensor& found, const Tensor& wanted) {
  if (!found.defined()) return {nothing, nothing, nothing};
  return wilson(found.eq(wanted).sum().item<int64_t>(), wanted.size(0));
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

// NaN is no JSON.
nlohmann::json number_or_null(double value) { return std::isnan(value) ? nlohmann::json() : nlohmann::json(value); }
nlohmann::json interval_json(const Interval& i) {
  return {{"value", number_or_null(i.value)}, {"low", number_or_null(i.low)}, {"high", number_or_null(i.high)}};
}

// Writes the columns beside what results.h5 holds: into a copy, which then takes its place.
void save_judgement(const std::string& run, const Judgement& judgement) {
  const std::string file = run + "/results.h5";
  write_file_with(file, [&](const std::string& temporary) {
    std::filesystem::copy_file(file, temporary, std::filesystem::copy_options::overwrite_existing);
    Hdf5 out = Hdf5::edit(temporary);
    if (out.has("/judge")) out.remove("/judge");
    const auto column = [&out](const std::string& name, const Tensor& values) {
      if (values.defined()) out.write("/judge/" + name, values, {"row"});
    };
    column("wanted", judgement.wanted);
    column("target_class", judgement.target_class);
    column("oracle_class", judgement.oracle_class);
    column("render_class", judgement.render.shape_class);
    column("shape_rmse", judgement.render.shape_rmse);
    column("margin", judgement.render.margin);
    column("tx", judgement.render.tx);
    column("ty", judgement.render.ty);
    column("theta", judgement.render.theta);
    column("activation", judgement.activation);
    column("percentile", judgement.percentile);
  });
}

}  // namespace

std::string place_text(const UnitPlace& place) { return unit_text({place.layer, place.unit, place.y, place.x}); }

Judges make_judges(Classifier target, const std::string& oracle, const std::string& data, at::Device device) {
  Judges judges;
  judges.device = device;
  judges.target = std::move(target);
  const std::string oracle_file = oracle.empty() ? share_folder() + "/weights/oracle.safetensors" : oracle;
  judges.oracle = load_classifier(oracle_file, device);
  const auto classes = [](const Classifier& classifier) { return classifier.layers.back().shape; };
  require(classes(judges.oracle) == classes(judges.target), Failure::input, oracle_file, ": found an oracle of ",
          shape_text(classes(judges.oracle)), " classes, the target has ", shape_text(classes(judges.target)),
          "; expected one trained on the same classes (--oracle)");

  const ImageSpec& image = judges.target.image;
  if (image.channels == 3 && image.height == 48 && image.width == 48 && classes(judges.target) == std::vector<int64_t>{60})
    judges.templates = render_templates(device);
  else
    say("judge: the target's images are not those of the shapes dataset, so the render judge is left out");

  if (data.empty()) {
    warn_once("judge: no dataset is named, so percentiles and real images are left out (--data shapes.h5)");
    return judges;
  }
  const Hdf5 file = Hdf5::open(data);
  require(file.has("/images") && file.has("/labels") && file.has("/split"), Failure::input, data,
          ": found no /images, /labels and /split, expected a dataset that evoke data wrote");
  const Tensor rows = file.read("/split").eq(2).nonzero().squeeze(1);
  require(rows.numel() > 0, Failure::input, data, ": its test split is empty; expected images to judge by");
  const std::vector<int64_t> shape = file.shape("/images");
  require(shape.size() == 4 && shape[1] == image.height && shape[2] == image.width && shape[3] == image.channels, Failure::input, data,
          ": found images ", shape_text(shape), ", the target sees ", image.height, "×", image.width, "×", image.channels);
  std::vector<Tensor> images;
  constexpr int64_t at_once = 2048;
  for (int64_t first = 0; first < shape[0]; first += at_once) {
    const int64_t count = std::min(at_once, shape[0] - first);
    const Tensor here = rows.index({rows.ge(first).logical_and(rows.lt(first + count))}) - first;
    if (here.numel() > 0) images.push_back(file.read_rows("/images", first, count).index_select(0, here));
  }
  judges.test_images = at::cat(images);
  judges.test_labels = file.read("/labels").index_select(0, rows);
  return judges;
}

Judgement judge_pictures(const Judges& judges, const Tensor& images, const std::vector<UnitPlace>& units) {
  require(images.size(0) == static_cast<int64_t>(units.size()), Failure::input, "judge: found ", images.size(0), " pictures of ",
          units.size(), " units, expected a unit a picture");
  Judgement judgement;
  std::vector<int64_t> wanted;
  for (const UnitPlace& place : units) wanted.push_back(is_class(judges.target, place) ? place.unit : -1);
  judgement.wanted = at::tensor(wanted, at::kLong);
  judgement.target_class = classes_of(judges.target, images, judges.device);
  judgement.oracle_class = classes_of(judges.oracle, images, judges.device);
  if (judges.templates) judgement.render = judge_renders(*judges.templates, images);

  // The unit's own value, whatever the run's objective was, and where real images have it.
  const Columns columns = columns_of(units);
  const Objective values = unit_objective(columns.units, judges.target);
  const auto scores = [&](const Tensor& bytes) { return score_images(judges.target, values, from_bytes(bytes), judges.device); };
  judgement.activation = scores(images).gather(1, columns.of_row.unsqueeze(1)).squeeze(1);
  judgement.percentile = at::full({images.size(0)}, nothing, at::kDouble);
  if (judges.test_images.defined()) {
    const Tensor real = scores(judges.test_images);  // [M,U]
    for (int64_t column = 0; column < real.size(1); ++column) {
      const Tensor rows = columns.of_row.eq(column).nonzero().squeeze(1);
      judgement.percentile.index_put_({rows}, percentile_among(judgement.activation.index({rows}), real.select(1, column)));
    }
  }
  return judgement;
}

Figures figures_of(const Judgement& judgement, const Tensor& images, const std::vector<UnitPlace>& units, const Tensor& rows) {
  const Tensor all = rows.defined() ? rows : at::arange(images.size(0), at::kLong);
  const Tensor of_class = all.index({judgement.wanted.index({all}).ge(0)});
  const auto of = [&of_class](const Tensor& column) { return column.defined() ? column.index({of_class}) : Tensor(); };
  const Tensor wanted = of(judgement.wanted);

  Figures figures;
  figures.pictures = all.size(0);
  figures.target = share_of(of(judgement.target_class), wanted);
  figures.oracle = share_of(of(judgement.oracle_class), wanted);
  figures.render = share_of(of(judgement.render.shape_class), wanted);
  figures.alike = share_of(judgement.oracle_class.index({all}), judgement.target_class.index({all}));
  const Tensor rmse = of(judgement.render.shape_rmse);
  figures.shape_rmse = rmse.defined() ? bootstrap_median(rmse, bootstrap_seed) : Interval{nothing, nothing, nothing};
  figures.percentile = bootstrap_median(judgement.percentile.index({all}), bootstrap_seed);

  // Diversity, unit by unit: a unit without a picture that agrees has none.
  Tensor agrees = judgement.wanted.lt(0).logical_or(judgement.oracle_class.eq(judgement.wanted));
  if (judgement.render.shape_class.defined())
    agrees = agrees.logical_and(judgement.wanted.lt(0).logical_or(judgement.render.shape_class.eq(judgement.wanted)));
  std::map<std::string, std::vector<int64_t>> by_unit;
  for (int64_t i = 0; i < all.size(0); ++i) {
    const auto row = all[i].item<int64_t>();
    std::vector<int64_t>& group = by_unit[place_text(units[static_cast<size_t>(row)])];
    if (agrees[row].item<bool>()) group.push_back(row);
  }
  double sum = 0;
  for (const auto& [unit, group] : by_unit)
    if (!group.empty()) sum += vendi_score(images.index_select(0, at::tensor(group, at::kLong)));
  figures.variety = vendi_score(images.index_select(0, all));
  figures.diversity = by_unit.empty() ? nothing : sum / static_cast<double>(by_unit.size());
  return figures;
}

std::vector<Anchor> anchors(const Judges& judges, const std::vector<UnitPlace>& units, uint64_t seed) {
  const ImageSpec& image = judges.target.image;
  const auto rows = static_cast<int64_t>(units.size());
  std::vector<Anchor> out;
  if (judges.test_images.defined()) {
    // Each unit's pictures are different images of its class, in the order of the dataset.
    std::map<int64_t, int64_t> taken;
    std::vector<int64_t> chosen;
    for (const UnitPlace& place : units) {
      const int64_t label = is_class(judges.target, place) ? place.unit : -1;
      const Tensor candidates =
          label < 0 ? at::arange(judges.test_labels.size(0), at::kLong) : judges.test_labels.eq(label).nonzero().squeeze(1);
      require(candidates.numel() > 0, Failure::input, "judge: the test split has no image of class ", label);
      chosen.push_back(candidates[taken[label]++ % candidates.numel()].item<int64_t>());
    }
    out.push_back({"real images", judges.test_images.index_select(0, at::tensor(chosen, at::kLong))});
  }
  Stream stream = Stream::range(seed, 0, rows);
  out.push_back({"noise", to_bytes(stream.uniform({image.channels, image.height, image.width}))});
  return out;
}

nlohmann::json table_json(const std::vector<TableRow>& rows) {
  nlohmann::json out = nlohmann::json::array();
  for (const TableRow& row : rows) {
    const Figures& f = row.figures;
    out.push_back({{"name", row.name},
                   {"pictures", f.pictures},
                   {"agreement_target", interval_json(f.target)},
                   {"agreement_oracle", interval_json(f.oracle)},
                   {"agreement_render", interval_json(f.render)},
                   {"alike", interval_json(f.alike)},
                   {"shape_rmse", interval_json(f.shape_rmse)},
                   {"percentile", interval_json(f.percentile)},
                   {"diversity", number_or_null(f.diversity)},
                   {"variety", number_or_null(f.variety)},
                   {"seconds", number_or_null(row.seconds)},
                   {"images", row.images < 0 ? nlohmann::json() : nlohmann::json(row.images)}});
  }
  return out;
}

std::string table_markdown(const std::vector<TableRow>& rows, const std::string& first_column) {
  std::vector<std::vector<std::string>> cells{{first_column, "pictures", "target", "oracle [95 %]", "render [95 %]", "alike", "shape_rmse",
                                               "percentile", "diversity", "variety", "images seen", "seconds"}};
  for (const TableRow& row : rows) {
    const Figures& f = row.figures;
    cells.push_back({row.name, std::to_string(f.pictures), decimals(f.target.value, 3), with_interval(f.oracle, 3),
                     with_interval(f.render, 3), decimals(f.alike.value, 3), decimals(f.shape_rmse.value, 3),
                     decimals(f.percentile.value, 1), decimals(f.diversity, 2), decimals(f.variety, 1),
                     row.images < 0 ? "-" : std::to_string(row.images), decimals(row.seconds, 1)});
  }
  std::vector<size_t> width(cells[0].size());
  for (const auto& line : cells)
    for (size_t i = 0; i < line.size(); ++i) width[i] = std::max(width[i], line[i].size());
  std::string out;
  for (size_t line = 0; line < cells.size(); ++line) {
    for (size_t i = 0; i < width.size(); ++i) {
      const std::string& cell = cells[line][i];
      const std::string space(width[i] - cell.size(), ' ');
      out += "| " + (i == 0 ? cell + space : space + cell) + " ";  // words to the left, numbers to the right
    }
    out += "|\n";
    if (line == 0) {
      for (size_t i = 0; i < width.size(); ++i) out += "|" + std::string(width[i] + 1, '-') + (i == 0 ? "-" : ":");
      out += "|\n";
    }
  }
  return out;
}

// A decoder with an encoder, judged by what it makes of the test split: each image coded, decoded, and read by those who know its class.
int judge_decoder(const JudgeOptions& options) {
  require(!options.data.empty(), Failure::usage, "judge: a decoder is judged by its reconstructions of real images; name them with --data");
  const Decoder decoder = load_decoder(options.run);
  require(!decoder.encoder.steps.empty(), Failure::usage, "judge: ", options.run,
          " has no encoder, so it cannot reconstruct; judge a run of its draws instead");
  const at::Device device = device_named(device_of(options));
  const std::string oracle = options.oracle.empty() ? share_folder() + "/weights/oracle.safetensors" : options.oracle;
  const Judges judges = make_judges(load_classifier(oracle, device), oracle, options.data, device);
  const Generator generator = as_generator(decoder, device);

  const c10::NoGradGuard no_gradient;
  const int64_t rows = judges.test_images.size(0);
  std::vector<Tensor> made, errors;
  for (int64_t first = 0; first < rows; first += judge_batch) {
    const Tensor x = from_bytes(judges.test_images.slice(0, first, first + judge_batch)).to(device);
    const Tensor again = generator.decode(generator.encode(x));
    errors.push_back((again - x).square().mean({1, 2, 3}).cpu());
    made.push_back(to_bytes(again));
  }
  std::vector<UnitPlace> units;
  for (int64_t row = 0; row < rows; ++row) units.push_back({judges.target.layers.back().name, judges.test_labels[row].item<int64_t>()});
  const Tensor images = at::cat(made);
  const Figures figures = figures_of(judge_pictures(judges, images, units), images, units);
  const double error = at::cat(errors).mean().item<double>();
  answer(options,
         text("reconstructions of ", rows, " test images by ", decoder.kind, " with ", decoder.options.code, " numbers: squared error ",
              decimals(error, 5), ", oracle ", with_interval(figures.oracle, 3), ", render ", with_interval(figures.render, 3)),
         {{"decoder", options.run}, {"squared_error", error}, {"figures", table_json({{"reconstructions", figures, nothing, -1}})}});
  return 0;
}

int judge(const JudgeOptions& options) {
  if (options.run.ends_with(".safetensors")) return judge_decoder(options);
  const at::Device device = device_named(device_of(options));
  if (options.threads >= 0) set_threads(options.threads);
  const Results results = load_results(options.run);
  say(text("judge: ", results.images.size(0), " pictures"));
  Recipe recipe = Recipe::load(options.run + "/config.toml", set_overrides(options));
  const std::string data = options.data.empty() ? recipe.read<DataTable>("data").file : options.data;
  const Judges judges = make_judges(make_classifier(recipe, device), options.oracle, data, device);

  const double begun = seconds();
  const Judgement judgement = judge_pictures(judges, results.images, results.units);
  save_judgement(options.run, judgement);
  detail(text("judged ", results.images.size(0), " pictures in ", decimals(seconds() - begun, 1), " s"));

  // The whole run between its anchors, and the units one by one where they are asked for.
  std::vector<TableRow> table{{"all", figures_of(judgement, results.images, results.units), nothing, -1}};
  for (const Anchor& anchor : anchors(judges, results.units, 0))
    table.push_back(
        {anchor.name, figures_of(judge_pictures(judges, anchor.images, results.units), anchor.images, results.units), nothing, -1});
  if (options.units) {
    const Columns columns = columns_of(results.units);
    for (size_t unit = 0; unit < columns.units.size(); ++unit)
      table.push_back(
          {unit_caption(judges.target, unit_text(columns.units[unit])),
           figures_of(judgement, results.images, results.units, columns.of_row.eq(static_cast<int64_t>(unit)).nonzero().squeeze(1)),
           nothing, -1});
  }
  std::string lines = table_markdown(table, "pictures of");
  lines.pop_back();
  answer(options, lines, {{"run", options.run}, {"table", table_json(table)}});
  return 0;
}

Action judge_verb(CLI::App& command) {
  auto options = std::make_shared<JudgeOptions>();
  command
      .add_option("RUN", options->run,
                  "run directory that evoke sample wrote; or the weights of an autoencoder or vae, judged by its reconstructions")
      ->required();
  command.add_option("--data", options->data, "dataset of real images [default: the run's own]");
  command.add_option("--oracle", options->oracle, "weights of a classifier that took no part [default: the shipped oracle]");
  command.add_flag("--units", options->units, "a row for each unit, too");
  add_common(command, *options, Takes::computing);
  return [options] {
    begin_verb(*options);
    return judge(*options);
  };
}

}  // namespace evoke
