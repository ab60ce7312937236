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
#include "core/records/pictures.h"
#include "core/storage/files.h"
#include "experiments/judging/sheet.h"
#include "experiments/report/report.h"
#include "experiments/sample.h"
#include "experiments/verbs.h"

namespace evoke {

namespace {

constexpr double nothing = std::numeric_limits<double>::quiet_NaN();

std::string quoted(const std::string& word) { return nlohmann::json(word).dump(); }
std::string quoted_list(const std::vector<std::string>& words) { return nlohmann::json(words).dump(); }

// What was asked for, as TOML: a directory that holds this very comparison need not run it again.
std::string config_of(const CompareOptions& options, const std::vector<std::string>& resolved) {
  std::string out =
      text("recipes = ", quoted_list(options.recipes), "\nunits = ", quoted_list(options.units), "\nchains = ", options.chains,
           "\nbudget = ", options.budget, "\ndata = ", quoted(options.files.data), "\noracle = ", quoted_list(options.files.oracles),
           "\nwitness = ", quoted(options.files.witness), "\nphotographs = ", quoted(options.files.photographs),
           "\nlayers = ", quoted_list(options.files.layers), "\nshown = ", options.shown, "\n");
  for (size_t i = 0; i < resolved.size(); ++i)
    out += text("\n[[method]]  # ", options.recipes[i], "\nsha256 = ", quoted(sha256(resolved[i])), "\n");
  return out;
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
    std::vector<Override> more = overrides(options);
    if (!options.files.data.empty())
      more.emplace_back("data.file=" + quoted(std::filesystem::absolute(options.files.data).string()), "--data");
    if (!options.units.empty()) more.emplace_back("objective.units=" + quoted_list(options.units), "--units");
    if (options.chains > 0) {
      // A search has its own word for how many pictures it keeps.
      more.emplace_back(text("run.chains=", options.chains), "--chains");
      if (Recipe::load(files[i], more).kind("sampler", "langevin") == "random_search")
        more.emplace_back(text("sampler.keep=", options.chains), "--chains");
    }
    if (options.budget > 0) {
      Recipe counted = Recipe::load(files[i], more);
      for (const std::string& limit : budget_overrides(assemble(counted), options.budget)) more.emplace_back(limit, "--budget");
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
  std::vector<std::string> inputs = options.files.oracles.empty() ? shipped_oracles() : options.files.oracles;
  for (const std::string& file : {options.files.witness, options.files.photographs})
    if (!file.empty()) inputs.push_back(file);
  for (const Experiment& experiment : experiments) inputs.insert(inputs.end(), experiment.files.begin(), experiment.files.end());
  RunDirectory directory = RunDirectory::open(options.out, "compare", config_of(options, resolved), inputs);
  const bool was_reported = is_reported(options.out);
  const auto say_table = [&] {
    if (!options.no_report && !was_reported) report_run(directory.path());
    if (interrupted()) return 130;
    const nlohmann::json table = nlohmann::json::parse(read_file(directory.file("table.json")));
    const std::string lines = read_file(directory.file("table.md"));
    answer(options, text(lines, directory.file("comparison.png"), "\n", directory.file("table.md"), report_line(directory.path())),
           {{"out", directory.path()}, {"picture", directory.file("comparison.png")}, {"table", table}});
    return 0;
  };
  if (directory.done()) return say_table();
  say(text("compare: ", names.size(), " methods on ", experiments.front().columns.size(), " units × ", experiments.front().run.chains,
           " chains"));

  const Experiment& first = experiments.front();

  JudgeFiles who = options.files;
  who.data = first.data;
  const Judges judges = make_judges(first.classifier, classifier, first.objective, who, first.device);
  const auto stopped = [&] {
    directory.finish("interrupted");
    return 130;
  };
  std::vector<SheetColumn> methods;
  std::vector<Judged> judgements;
  std::vector<TableRow> table;
  std::vector<Column> columns;
  std::vector<std::string> unit_names;
  for (const Column& column : first.columns) unit_names.push_back(caption_of(column, first.classifier));

  // Run and judge, method by method, each in a run directory of its own, which an interruption leaves to be taken up.
  for (size_t i = 0; i < experiments.size(); ++i) {
    const Experiment& e = experiments[i];
    const std::string run = directory.file(names[i]);
    if (!sample_into(e, run, {.title = text(names[i], " (", i + 1, " of ", experiments.size(), ")")})) return stopped();
    const Pictures pictures = pictures_of_run(run);
    columns = pictures.columns;
    Judged judged = judged_run(judges, run, pictures);
    if (judged.findings.empty()) return stopped();
    methods.push_back({names[i], pictures.read(0, pictures.count()), judged.findings});
    save_png(directory.file(names[i] + ".png"), method_sheet(judges, methods.back(), unit_names));
    judgements.push_back(std::move(judged));
  }
  // The anchors say which depths of a witness are used, so figures come after them.
  const std::vector<JudgedAnchor> between = judged_anchors(judges, columns, static_cast<uint64_t>(first.run.seed));
  if (between.empty()) return stopped();
  for (size_t i = 0; i < experiments.size(); ++i) {
    const double seconds = nlohmann::json::parse(read_file(directory.file(names[i]) + "/manifest.json")).value("sampling_seconds", nothing);
    table.push_back({names[i], figures_of(judges, judgements[i]), seconds, experiments[i].images_seen});
  }
  for (const JudgedAnchor& anchor : between) table.push_back({anchor.name, figures_of(judges, anchor.judged), nothing, -1});
  const std::vector<Anchor> real = anchors(judges, columns, static_cast<uint64_t>(first.run.seed));
  for (size_t i = 0; i < real.size(); ++i)
    if (real[i].name == "real images")
      methods.push_back({real[i].name, real[i].pictures.read(0, real[i].pictures.count()), between[i].judged.findings});
  if (!options.files.photographs.empty()) {
    const Tensor like = methods.front().images;
    const Tensor liked = best_real_images(judges, columns, std::min<int64_t>(options.shown, first.run.chains), like.size(1), like.size(2));
    if (interrupted()) return stopped();
    if (liked.defined()) methods.push_back({"best photographs", liked});
  }
  directory.keep_metrics(0);
  for (const nlohmann::json& row : table_json(judges, table)) directory.metric(row);

  save_png(directory.file("comparison.png"), comparison_sheet(judges, methods, unit_names, options.shown));
  write_file(directory.file("table.json"), table_json(judges, table).dump(2) + "\n");
  const std::string depths = depths_markdown(judges, table);
  write_file(directory.file("table.md"), table_markdown(judges, table, "method") + (depths.empty() ? "" : "\n" + depths));
  directory.finish("done");
  return say_table();
}

static void describe(Fields& f, CompareOptions& o) {
  f("units", o.units, "units for all: layer:unit, layer:0-7, layer:*, a label [default: the recipes']");
  f("chains", o.chains, "chains", "or pictures kept, for each unit [default: the recipes']", {1, 1e6});
  f("budget", o.budget, "pictures",
    "that the classifier may look at for each method (chain-steps, draws or images) [default: the recipes' steps]", {1, 1e15});
  describe(f, o.files);
  f("shown", o.shown, "pictures", "in a cell of comparison.png", {1, 1000});
}

Action compare_verb(CLI::App& command) {
  auto options = std::make_shared<CompareOptions>();
  command.add_option("RECIPE", options->recipes, "recipes of evoke sample: files, or names of shipped ones")->required();
  Flags(command, *options);
  repeatable_judges(command);
  add_no_report(command, options->no_report);
  add_common(command, *options, Takes::writing, "comparison");
  return [options] {
    begin_verb(*options);
    return compare(*options);
  };
}

}  // namespace evoke
