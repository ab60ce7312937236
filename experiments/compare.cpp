// evoke compare: several methods on the same units, chains and budget, judged side by side.
#include "experiments/compare.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <memory>

#include "classifiers/menu.h"
#include "core/error.h"
#include "core/log.h"
#include "core/records/contact_sheet.h"
#include "core/records/pictures.h"
#include "core/storage/files.h"
#include "experiments/sample.h"
#include "experiments/verbs.h"

namespace evoke {

namespace {

constexpr double nothing = std::numeric_limits<double>::quiet_NaN();

// One method with its pictures.
struct Method {
  std::string name;
  Tensor images;
  Tensors findings;
};

std::string quoted(const std::string& word) { return nlohmann::json(word).dump(); }
std::string quoted_list(const std::vector<std::string>& words) { return nlohmann::json(words).dump(); }

// What was asked for, as TOML: a directory that holds this very comparison need not run it again.
std::string config_of(const CompareOptions& options, const std::vector<std::string>& resolved) {
  std::string out = text("recipes = ", quoted_list(options.recipes), "\nunits = ", quoted_list(options.units),
                         "\nchains = ", options.chains, "\nbudget = ", options.budget, "\ndata = ", quoted(options.data),
                         "\noracle = ", quoted(options.oracle), "\nshown = ", options.shown, "\n");
  for (size_t i = 0; i < resolved.size(); ++i)
    out += text("\n[[method]]  # ", options.recipes[i], "\nsha256 = ", quoted(sha256(resolved[i])), "\n");
  return out;
}

// Who reads a picture as its unit's class: T(arget), O(racle), R(ender judge).
std::string readers(const Tensors& findings, int64_t row) {
  const auto wanted = findings.at("wanted")[row].item<int64_t>();
  if (wanted < 0) return {};
  const auto reads = [&](const char* name) { return findings.contains(name) && findings.at(name)[row].item<int64_t>() == wanted; };
  std::string out;
  if (reads("target_class")) out += "T";
  if (reads("oracle_class")) out += "O";
  if (reads("render_class")) out += "R";
  return out.empty() ? "-" : out;
}

// Pictures side by side with a thin white line between: uint8 [n,H,W,C] -> [H,n·W + n − 1,C].
Tensor strip(const Tensor& images) {
  std::vector<Tensor> parts;
  for (int64_t i = 0; i < images.size(0); ++i) {
    if (i > 0) parts.push_back(at::full({images.size(1), 1, images.size(3)}, 255, images.options()));
    parts.push_back(images[i]);
  }
  return at::cat(parts, 1);
}

Tensor comparison_sheet(const std::vector<Method>& methods, const std::vector<std::string>& unit_names, int64_t chains, int64_t shown) {
  std::vector<Cell> cells;
  std::vector<std::string> column_names;
  for (const Method& method : methods) column_names.push_back(method.name);
  for (size_t unit = 0; unit < unit_names.size(); ++unit)
    for (const Method& method : methods) {
      const int64_t first = static_cast<int64_t>(unit) * chains;
      std::string caption;
      for (int64_t i = 0; i < shown; ++i) caption += (i > 0 ? " | " : "") + readers(method.findings, first + i);
      cells.push_back({strip(method.images.narrow(0, first, shown)), caption});
    }
  return contact_sheet(cells, static_cast<int64_t>(methods.size()), unit_names, column_names, 2,
                       "T, O, R: target, oracle, render judge see the class");
}

Tensor method_sheet(const Method& method, const std::vector<std::string>& unit_names, int64_t chains) {
  std::vector<Cell> cells;
  for (int64_t row = 0; row < method.images.size(0); ++row) cells.push_back({method.images[row], readers(method.findings, row)});
  return contact_sheet(cells, chains, unit_names, {}, 1, method.name);
}

}  // namespace

int compare(const CompareOptions& options) {
  // Every recipe with the same units, chains and data.
  std::vector<std::string> names, files, resolved;
  std::vector<Experiment> experiments;
  for (const std::string& word : options.recipes) {
    const std::string file = recipe_file(word), name = std::filesystem::path(file).stem().string();
    require(std::find(names.begin(), names.end(), name) == names.end(), Failure::usage, "compare: found two recipes called ", name,
            ", expected different names");
    names.push_back(name);
    files.push_back(file);
  }
  std::string classifier;
  for (size_t i = 0; i < files.size(); ++i) {
    std::vector<std::string> more = overrides(options);
    if (!options.data.empty()) more.push_back("data.file=" + quoted(std::filesystem::absolute(options.data).string()));
    if (!options.units.empty()) more.push_back("objective.units=" + quoted_list(options.units));
    if (options.chains > 0) {
      // A search has its own word for how many pictures it keeps.
      more.push_back(text("run.chains=", options.chains));
      if (Recipe::load(files[i], more).kind("sampler", "langevin") == "random_search")
        more.push_back(text("sampler.keep=", options.chains));
    }
    if (options.budget > 0) {
      Recipe counted = Recipe::load(files[i], more);
      const std::vector<std::string> limits = budget_overrides(assemble(counted), options.budget);
      more.insert(more.end(), limits.begin(), limits.end());
    }
    Recipe recipe = Recipe::load(files[i], more);
    const std::string weights = classifier_file(recipe);
    if (i == 0) classifier = weights;
    require(weights == classifier, Failure::usage, "compare: ", names[i], " asks the classifier ", weights, ", ", names[0], " asks ",
            classifier, "; expected one classifier");
    experiments.push_back(assemble(recipe));
    resolved.push_back(experiments.back().config);
    const Experiment &first = experiments.front(), &last = experiments.back();
    require(last.columns.size() == first.columns.size() && last.run.chains == first.run.chains, Failure::usage, "compare: ", names[i],
            " has ", last.columns.size(), " units × ", last.run.chains, " chains, ", names[0], " has ", first.columns.size(), " × ",
            first.run.chains, "; give all the same with --units and --chains");
    for (size_t unit = 0; unit < first.columns.size(); ++unit)
      require(last.columns[unit].name == first.columns[unit].name, Failure::usage, "compare: ", names[i], " asks for ",
              last.columns[unit].name, " where ", names[0], " asks for ", first.columns[unit].name, "; give all the same with --units");
  }

  // A comparison that is there already is only said again.
  std::vector<std::string> inputs{options.oracle.empty() ? shipped_oracle() : options.oracle};
  for (const Experiment& experiment : experiments) inputs.insert(inputs.end(), experiment.files.begin(), experiment.files.end());
  RunDirectory directory = RunDirectory::open(options.out, "compare", config_of(options, resolved), inputs);
  const auto say_table = [&] {
    const nlohmann::json table = nlohmann::json::parse(read_file(directory.file("table.json")));
    const std::string lines = read_file(directory.file("table.md"));
    answer(options, text(lines, directory.file("comparison.png"), "\n", directory.file("table.md")),
           {{"out", directory.path()}, {"picture", directory.file("comparison.png")}, {"table", table}});
    return 0;
  };
  if (directory.done()) return say_table();

  const Experiment& first = experiments.front();
  const int64_t chains = first.run.chains, shown = std::min(options.shown, chains);
  const Judges judges = make_judges(first.classifier, options.oracle, first.data, first.device);
  std::vector<Method> methods;
  std::vector<TableRow> table;
  std::vector<Column> columns;
  std::vector<std::string> unit_names;
  for (const Column& column : first.columns) unit_names.push_back(caption_of(column, first.classifier));

  // Run and judge, method by method, each in a run directory of its own, which an interruption leaves to be taken up.
  for (size_t i = 0; i < experiments.size(); ++i) {
    const Experiment& e = experiments[i];
    const std::string run = directory.file(names[i]);
    if (!sample_into(e, run, {.title = text(names[i], " (", i + 1, " of ", experiments.size(), ")")})) {
      directory.finish("interrupted");
      return 130;
    }
    const Results results = load_results(run, /*codes=*/false);
    columns = results.columns;
    Tensors findings = stored_findings(run, names_of(judges));
    if (findings.empty()) {
      findings = judge_pictures(judges, results.images, columns, e.objective);
      store_findings(run, names_of(judges), findings);
    }
    Method method{names[i], results.images, findings};
    const double seconds = nlohmann::json::parse(read_file(run + "/manifest.json")).value("sampling_seconds", nothing);
    table.push_back({names[i], figures_of(findings, results.images, columns), seconds, e.images_seen});
    save_png(directory.file(names[i] + ".png"), method_sheet(method, unit_names, chains));
    methods.push_back(std::move(method));
  }
  for (Anchor& anchor : anchors(judges, columns, static_cast<uint64_t>(first.run.seed))) {
    Method method{anchor.name, anchor.images, judge_pictures(judges, anchor.images, columns, first.objective)};
    table.push_back({anchor.name, figures_of(method.findings, method.images, columns), nothing, -1});
    if (anchor.name != "noise") methods.push_back(std::move(method));
  }
  directory.keep_metrics(0);
  for (const nlohmann::json& row : table_json(table)) directory.metric(row);

  save_png(directory.file("comparison.png"), comparison_sheet(methods, unit_names, chains, shown));
  write_file(directory.file("table.json"), table_json(table).dump(2) + "\n");
  write_file(directory.file("table.md"), table_markdown(table, "method"));
  directory.finish("done");
  return say_table();
}

Action compare_verb(CLI::App& command) {
  auto options = std::make_shared<CompareOptions>();
  command.add_option("RECIPE", options->recipes, "recipes of evoke sample: files, or names of shipped ones")->required();
  command.add_option("--units", options->units, "units for all: layer:unit, layer:0-7, layer:*, a label [default: the recipes']");
  command.add_option("--chains", options->chains, "chains, or pictures kept, for each unit [default: the recipes']")
      ->check(CLI::PositiveNumber);
  command
      .add_option("--budget", options->budget,
                  "pictures that the classifier may look at for each method (chain-steps, draws or images) [default: the recipes' steps]")
      ->check(CLI::PositiveNumber);
  command.add_option("--data", options->data, "dataset of real images for all [default: the recipes']");
  command.add_option("--oracle", options->oracle, "weights of a classifier that took no part [default: the shipped oracle]");
  command.add_option("--shown", options->shown, "pictures in a cell of comparison.png")->check(CLI::PositiveNumber)->capture_default_str();
  add_common(command, *options, Takes::writing, "comparison");
  return [options] {
    begin_verb(*options);
    return compare(*options);
  };
}

}  // namespace evoke
