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
#include "core/records/pictures.h"
#include "core/records/run_directory.h"
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

// The class that a column stands for; -1: none.
int64_t class_of(const Classifier& classifier, const Column& column) {
  const Layer& last = classifier.layers.back();
  return column.unit && column.unit->layer == last.name && last.shape.size() == 1 ? column.unit->index : -1;
}

// The different columns of some pictures, and which of them each picture is of.
struct Kinds {
  std::vector<Column> columns;
  Tensor of_row;  // int64 [N]
};
Kinds kinds_of(const std::vector<Column>& columns) {
  Kinds kinds;
  std::map<std::string, int64_t> seen;
  std::vector<int64_t> rows;
  for (const Column& column : columns) {
    const auto [found, fresh] = seen.try_emplace(column.name, static_cast<int64_t>(kinds.columns.size()));
    if (fresh) kinds.columns.push_back(column);
    rows.push_back(found->second);
  }
  kinds.of_row = at::tensor(rows, at::kLong);
  return kinds;
}

// Scores [M,K] of images by each kind of column: a unit by its own value, another column by the objective it belongs to; NaN where that
// cannot be asked of one picture.
Tensor scores_of(const Classifier& target, const std::vector<Column>& columns, const Objective& own, const Tensor& bytes,
                 at::Device device) {
  std::vector<Unit> units;
  for (const Column& column : columns)
    if (column.unit) units.push_back(*column.unit);
  const Tensor x = from_bytes(bytes);
  const Tensor of_units = units.empty() ? Tensor() : score_images(target, unit_objective(units, target), x, device);
  const bool others = units.size() < columns.size() && own.rows_independent;
  const Tensor of_own = others ? score_images(target, own, x, device) : Tensor();
  std::vector<Tensor> out;
  int64_t unit = 0;
  for (const Column& column : columns) {
    Tensor found = at::full({bytes.size(0)}, nothing, at::kFloat);
    if (column.unit) {
      found = of_units.select(1, unit++);
    } else if (others) {
      for (size_t i = 0; i < own.columns.size(); ++i)
        if (own.columns[i].name == column.name) found = of_own.select(1, static_cast<int64_t>(i));
    }
    out.push_back(found);
  }
  return at::stack(out, 1);
}

// A column of findings; undefined where nobody found it.
Tensor found(const Tensors& findings, const std::string& name) {
  const auto at_name = findings.find(name);
  return at_name == findings.end() ? Tensor() : at_name->second;
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

}  // namespace

Judge target_judge(const Classifier& target, const Tensor& test_images, at::Device device) {
  const auto look = [=](const Tensor& images, const std::vector<Column>& columns, const Objective& own) {
    std::vector<int64_t> wanted;
    for (const Column& column : columns) wanted.push_back(class_of(target, column));
    const Kinds kinds = kinds_of(columns);
    Tensors out{{"wanted", at::tensor(wanted, at::kLong)}, {"target_class", classes_of(target, images, device)}};
    out["activation"] = scores_of(target, kinds.columns, own, images, device).gather(1, kinds.of_row.unsqueeze(1)).squeeze(1);
    Tensor& percentile = out["percentile"] = at::full({images.size(0)}, nothing, at::kDouble);
    if (!test_images.defined()) return out;
    const Tensor real = scores_of(target, kinds.columns, own, test_images, device);  // [M,K]
    for (int64_t kind = 0; kind < real.size(1); ++kind) {
      if (real.select(1, kind).isnan().any().item<bool>()) continue;
      const Tensor rows = kinds.of_row.eq(kind).nonzero().squeeze(1);
      percentile.index_put_({rows}, percentile_among(out["activation"].index({rows}), real.select(1, kind)));
    }
    return out;
  };
  return {"target", "the network that was climbed: " + target.name, look};
}

Judge oracle_judge(const Classifier& oracle, at::Device device) {
  const auto look = [=](const Tensor& images, const std::vector<Column>&, const Objective&) {
    return Tensors{{"oracle_class", classes_of(oracle, images, device)}};
  };
  return {"oracle", "a network that took no part: " + oracle.name, look};
}

Judge render_judge(const RenderTemplates& templates) {
  const auto look = [=](const Tensor& images, const std::vector<Column>&, const Objective&) {
    const RenderVerdict verdict = judge_renders(templates, images);
    return Tensors{{"render_class", verdict.shape_class},
                   {"shape_rmse", verdict.shape_rmse},
                   {"margin", verdict.margin},
                   {"tx", verdict.tx},
                   {"ty", verdict.ty},
                   {"theta", verdict.theta}};
  };
  return {"render", "the nearest of all images that the shapes dataset could contain", look};
}

std::string shipped_oracle() { return share_folder() + "/weights/oracle.safetensors"; }

void store_findings(const std::string& run, const std::string& judges, const Tensors& findings) {
  // The same findings are left as they are, so that judging again changes no byte; others go into a copy of results.h5, which then takes
  // its place.
  const Tensors held = stored_findings(run, judges);
  const bool same = held.size() == findings.size() && std::all_of(findings.begin(), findings.end(), [&](const auto& column) {
                      const Tensor before = found(held, column.first);
                      return before.defined() && before.scalar_type() == column.second.scalar_type() &&
                             before.sizes() == column.second.sizes() && at::allclose(before, column.second, 0, 0, /*equal_nan=*/true);
                    });
  if (same) return;
  const std::string file = run + "/results.h5";
  write_file_with(file, [&](const std::string& temporary) {
    std::filesystem::copy_file(file, temporary, std::filesystem::copy_options::overwrite_existing);
    Hdf5 out = Hdf5::edit(temporary);
    if (out.has("/judge")) out.remove("/judge");
    for (const auto& [name, values] : findings) out.write("/judge/" + name, values, {"row"});
    out.write_text("/judge/judges", {judges});
  });
}

Tensors stored_findings(const std::string& run, const std::string& judges) {
  const Hdf5 file = Hdf5::open(run + "/results.h5");
  Tensors out;
  if (!file.has("/judge/judges") || file.read_text("/judge/judges") != std::vector<std::string>{judges}) return out;
  for (const std::string& name : file.names("/judge"))
    if (name != "judges") out[name] = file.read("/judge/" + name);
  return out;
}

std::string names_of(const Judges& judges) {
  std::string out;
  for (const Judge& judge : judges.all) out += (out.empty() ? "" : "; ") + judge.name + ", " + judge.sentence;
  return out;
}

Judges make_judges(Classifier target, const std::string& oracle, const std::string& data, at::Device device) {
  Judges judges;
  judges.device = device;
  judges.target = std::move(target);
  const std::string oracle_file = oracle.empty() ? shipped_oracle() : oracle;
  const Classifier other = load_classifier(oracle_file, device);
  const auto classes = [](const Classifier& classifier) { return classifier.layers.back().shape; };
  require(classes(other) == classes(judges.target), Failure::input, oracle_file, ": found an oracle of ", shape_text(classes(other)),
          " classes, the target has ", shape_text(classes(judges.target)), "; expected one trained on the same classes (--oracle)");

  const ImageSpec& image = judges.target.image;
  judges.all.push_back(oracle_judge(other, device));
  judges.all.back().sentence +=
      " (" + std::filesystem::path(oracle_file).filename().string() + " " + sha256_of_file(oracle_file).substr(0, 12) + ")";
  if (image.channels == 3 && image.height == 48 && image.width == 48 && classes(judges.target) == std::vector<int64_t>{60})
    judges.all.push_back(render_judge(render_templates(device)));
  else
    say("judge: the target's images are not those of the shapes dataset, so the render judge is left out");

  if (data.empty()) {
    warn_once("judge: no dataset is named, so percentiles and real images are left out (--data shapes.h5)");
    judges.all.insert(judges.all.begin(), target_judge(judges.target, {}, device));
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
  judges.all.insert(judges.all.begin(), target_judge(judges.target, judges.test_images, device));
  return judges;
}

Tensors judge_pictures(const Judges& judges, const Tensor& images, const std::vector<Column>& columns, const Objective& own) {
  require(images.size(0) == static_cast<int64_t>(columns.size()), Failure::input, "judge: found ", images.size(0), " pictures of ",
          columns.size(), " units, expected a unit a picture");
  Tensors findings;
  for (const Judge& judge : judges.all) findings.merge(judge.look(images, columns, own));
  return findings;
}

Figures figures_of(const Tensors& findings, const Tensor& images, const std::vector<Column>& columns, const Tensor& rows) {
  const Tensor all = rows.defined() ? rows : at::arange(images.size(0), at::kLong);
  const Tensor all_wanted = findings.at("wanted"), oracle = found(findings, "oracle_class"), render = found(findings, "render_class");
  const Tensor of_class = all.index({all_wanted.index({all}).ge(0)});
  const auto of = [&of_class](const Tensor& column) { return column.defined() ? column.index({of_class}) : Tensor(); };
  const Tensor wanted = of(all_wanted);

  Figures figures;
  figures.pictures = all.size(0);
  figures.target = share_of(of(findings.at("target_class")), wanted);
  figures.oracle = share_of(of(oracle), wanted);
  figures.render = share_of(of(render), wanted);
  figures.alike = share_of(oracle.defined() ? oracle.index({all}) : Tensor(), findings.at("target_class").index({all}));
  const Tensor rmse = of(found(findings, "shape_rmse"));
  figures.shape_rmse = rmse.defined() ? bootstrap_median(rmse, bootstrap_seed) : Interval{nothing, nothing, nothing};
  figures.percentile = bootstrap_median(findings.at("percentile").index({all}), bootstrap_seed);

  // Diversity, unit by unit: a unit without a picture that agrees has none.
  Tensor agrees = at::ones_like(all_wanted, at::kBool);
  for (const Tensor& reading : {oracle, render})
    if (reading.defined()) agrees = agrees.logical_and(all_wanted.lt(0).logical_or(reading.eq(all_wanted)));
  std::map<std::string, std::vector<int64_t>> by_unit;
  for (int64_t i = 0; i < all.size(0); ++i) {
    const auto row = all[i].item<int64_t>();
    std::vector<int64_t>& group = by_unit[columns[static_cast<size_t>(row)].name];
    if (agrees[row].item<bool>()) group.push_back(row);
  }
  double sum = 0;
  for (const auto& [unit, group] : by_unit)
    if (!group.empty()) sum += vendi_score(images.index_select(0, at::tensor(group, at::kLong)));
  figures.variety = vendi_score(images.index_select(0, all));
  figures.diversity = by_unit.empty() ? nothing : sum / static_cast<double>(by_unit.size());
  return figures;
}

std::vector<Anchor> anchors(const Judges& judges, const std::vector<Column>& columns, uint64_t seed) {
  const ImageSpec& image = judges.target.image;
  const auto rows = static_cast<int64_t>(columns.size());
  std::vector<Anchor> out;
  if (judges.test_images.defined()) {
    // Each unit's pictures are different images of its class, in the order of the dataset.
    std::map<int64_t, int64_t> taken;
    std::vector<int64_t> chosen;
    for (const Column& column : columns) {
      const int64_t label = class_of(judges.target, column);
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
  const at::Device device = device_named(device_of(options));
  const std::optional<Encoder> encoder = as_encoder(decoder, device);
  require(encoder.has_value(), Failure::usage, "judge: ", options.run,
          " has no encoder, so it cannot reconstruct; judge a run of its draws instead");
  const std::string oracle = options.oracle.empty() ? share_folder() + "/weights/oracle.safetensors" : options.oracle;
  const Judges judges = make_judges(load_classifier(oracle, device), oracle, options.data, device);
  const Generator generator = as_generator(decoder, device);

  const c10::NoGradGuard no_gradient;
  const int64_t rows = judges.test_images.size(0);
  std::vector<Tensor> made, errors;
  for (int64_t first = 0; first < rows; first += judge_batch) {
    const Tensor x = from_bytes(judges.test_images.slice(0, first, first + judge_batch)).to(device);
    const Tensor again = generator.decode(encoder->encode(x));
    errors.push_back((again - x).square().mean({1, 2, 3}).cpu());
    made.push_back(to_bytes(again));
  }
  std::vector<Column> columns;
  for (int64_t row = 0; row < rows; ++row)
    columns.push_back(column_of({judges.target.layers.back().name, judges.test_labels[row].item<int64_t>()}));
  const Tensor images = at::cat(made);
  const Figures figures = figures_of(judge_pictures(judges, images, columns, {}), images, columns);
  const double error = at::cat(errors).mean().item<double>();
  answer(
      options,
      text("reconstructions of ", rows, " test images by ", decoder.kind, " with codes ", shape_text(generator.latent), ": squared error ",
           decimals(error, 5), ", oracle ", with_interval(figures.oracle, 3), ", render ", with_interval(figures.render, 3)),
      {{"decoder", options.run}, {"squared_error", error}, {"figures", table_json({{"reconstructions", figures, nothing, -1}})}});
  return 0;
}

int judge(const JudgeOptions& options) {
  if (options.run.ends_with(".safetensors")) return judge_decoder(options);
  const at::Device device = device_named(device_of(options));
  if (options.threads >= 0) set_threads(options.threads);
  const Lock lock = claim_folder(options.run);
  const Results results = load_results(options.run, /*codes=*/false);
  check_run_file(options.run, "config.toml");
  Recipe recipe = Recipe::load(options.run + "/config.toml", options.set);
  const std::string data = options.data.empty() ? recipe.read<DataTable>("data").file : options.data;
  const Judges judges = make_judges(make_classifier(recipe, device), options.oracle, data, device);
  // Columns that are no single unit are scored by the run's own objective.
  Objective own;
  if (std::any_of(results.columns.begin(), results.columns.end(), [](const Column& column) { return !column.unit; })) {
    make_objective(recipe, judges.target);
    Recipe alone = Recipe::parse(recipe.resolved(), "", {"objective.penalties=[]"});
    own = make_objective(alone, judges.target);
  }

  const double begun = seconds();
  const Tensors findings = judge_pictures(judges, results.images, results.columns, own);
  store_findings(options.run, names_of(judges), findings);
  detail(text("judged ", results.images.size(0), " pictures in ", decimals(seconds() - begun, 1), " s by: ", names_of(judges)));

  // The whole run between its anchors, and the units one by one where they are asked for.
  std::vector<TableRow> table{{"all", figures_of(findings, results.images, results.columns), nothing, -1}};
  for (const Anchor& anchor : anchors(judges, results.columns, 0))
    table.push_back({anchor.name, figures_of(judge_pictures(judges, anchor.images, results.columns, own), anchor.images, results.columns),
                     nothing, -1});
  if (options.units) {
    const Kinds kinds = kinds_of(results.columns);
    for (size_t kind = 0; kind < kinds.columns.size(); ++kind)
      table.push_back(
          {caption_of(kinds.columns[kind], judges.target),
           figures_of(findings, results.images, results.columns, kinds.of_row.eq(static_cast<int64_t>(kind)).nonzero().squeeze(1)), nothing,
           -1});
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
