// evoke study: a published study as a recipe: its runs, what the judges and other measures make of them, and what agrees with the source.
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <memory>
#include <set>

#include "classifiers/menu.h"
#include "core/error.h"
#include "core/log.h"
#include "core/records/pictures.h"
#include "core/storage/files.h"
#include "experiments/judge.h"
#include "experiments/judging/sheet.h"
#include "experiments/report/report.h"
#include "experiments/sample.h"
#include "experiments/studies/measures.h"
#include "experiments/train.h"
#include "experiments/verbs.h"
#include "training/datasets/shapes.h"

namespace evoke {

namespace {

namespace fs = std::filesystem;
constexpr double nothing = std::numeric_limits<double>::quiet_NaN();

// ---- What a study's recipe says --------------------------------------------------------------------------------------------------------

struct StudyTable {
  std::string title, source, summary, needs = "shapes";
  std::vector<std::string> units, trainings, runs, measures, points;
  int64_t images = 6000, chains = 4, budget = 0, shown = 2;
};
void describe(Fields& f, StudyTable& o) {
  f("title", o.title, "of the study");
  f("source", o.source, "what is repeated: authors, year, title");
  f("summary", o.summary, "two sentences on what came out; {run/figure} and {measure/row/column} become numbers");
  f.choice("needs", o.needs, "what it is done on: drawn shapes, made here, or a network and photographs that are named with flags",
           {"shapes", "network"});
  f("units", o.units, "of all runs that name none");
  f("trainings", o.trainings, "tables [training.NAME], trained first, in this order; {NAME} becomes the file of weights");
  f("runs", o.runs, "tables [run.NAME], in this order");
  f("measures", o.measures, "tables [measure.NAME], in this order");
  f("points", o.points, "tables [point.NAME], in this order");
  f("images", o.images, "images", "of the shapes dataset that is made", {100, 1e6});
  f("chains", o.chains, "chains", "of each unit in each run that names no number", {1, 1e6});
  f("budget", o.budget, "pictures", "that the classifier may look at in each run that names none; 0: each recipe's own steps", {0, 1e15});
  f("shown", o.shown, "pictures", "in a cell of the figure", {1, 1000});
}

struct RunChoice {
  std::string recipe, group;
  std::vector<std::string> units, set;
  int64_t chains = 0, budget = -1;
};
void describe(Fields& f, RunChoice& o) {
  f("recipe", o.recipe, "of evoke sample: a shipped one's name, or a file");
  f("set", o.set, "table.key=value, as --set takes it");
  f("units", o.units, "none: the study's");
  f("group", o.group, "runs of one group are columns of one figure; they have the same units");
  f("chains", o.chains, "chains", "of each unit; 0: the study's", {0, 1e6});
  f("budget", o.budget, "pictures", "that the classifier may look at; -1: the study's, 0: the recipe's own steps", {-1, 1e15});
}

struct TrainingChoice {
  std::string recipe;
  std::vector<std::string> set;
};
void describe(Fields& f, TrainingChoice& o) {
  f("recipe", o.recipe, "of evoke train");
  f("set", o.set, "table.key=value, as --set takes it");
}

struct Point {
  std::string source, here;
  std::vector<std::string> holds;
};
void describe(Fields& f, Point& o) {
  f("source", o.source, "what the source says");
  f("here", o.here, "what was found, with {run/figure} and {measure/row/column}");
  f("holds", o.holds, "claims that have to hold if the two agree, such as \"guided/oracle > 0.9\"; none: it cannot be said");
}

// ---- The command line ------------------------------------------------------------------------------------------------------------------

struct StudyOptions : CommonOptions {
  std::string name, network;
  int64_t chains = 0, budget = -1;
  JudgeFiles files;
  bool no_report = false;
};
void describe(Fields& f, StudyOptions& o) {
  f.path("network", o.network, "the network that is looked into, for studies of one trained on photographs");
  f("chains", o.chains, "chains", "of each unit in each run that names no number [default: the study's]", {1, 1e6});
  f("budget", o.budget, "pictures",
    "that the classifier may look at in each run that names none: what makes a study larger [default: the study's]", {0, 1e15});
  describe(f, o.files);
}

std::string studies_folder() { return share_folder() + "/recipes/studies"; }

std::vector<std::string> study_names() {
  std::error_code ignored;
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(studies_folder(), ignored))
    if (entry.path().extension() == ".toml") names.push_back(entry.path().stem().string());
  std::sort(names.begin(), names.end());
  return names;
}

std::string study_file(const std::string& word) {
  if (word.ends_with(".toml") || word.find('/') != std::string::npos) {
    require(fs::is_regular_file(word), Failure::input, "study: found no file ", word);
    return word;
  }
  const std::vector<std::string> names = study_names();
  require(std::find(names.begin(), names.end(), word) != names.end(), Failure::usage, "study: found no study '", word, "'",
          did_you_mean(word, names), "; expected one of ", list_of(names), ", or a file");
  return studies_folder() + "/" + word + ".toml";
}

std::string quoted(const std::string& word) { return nlohmann::json(word).dump(); }
std::string quoted_list(const std::vector<std::string>& words) { return nlohmann::json(words).dump(); }
std::string absolute(const std::string& file) { return file.empty() ? file : fs::absolute(file).lexically_normal().string(); }

// ---- Running ---------------------------------------------------------------------------------------------------------------------------

// The names of figures that every run has, NaN where nobody was asked.
Measured figures_table(const std::vector<TableRow>& rows) {
  Measured out{"",
               "run",
               {"target",     "oracle",        "oracle2",  "render",  "alike",        "shape_rmse",
                "percentile", "diversity",     "variety",  "witness", "witness_top5", "witness_probability",
                "path",       "path_of_means", "spectrum", "frechet", "precision",    "recall",
                "vendi",      "seconds",       "images"},
               {}};
  for (const TableRow& row : rows) {
    const Figures& f = row.figures;
    const auto oracle = [&](size_t i) { return i < f.oracles.size() ? f.oracles[i].value : nothing; };
    out.rows.push_back({row.name,
                        {f.target.value,
                         oracle(0),
                         oracle(1),
                         f.render.value,
                         f.alike.value,
                         f.shape_rmse.value,
                         f.percentile.value,
                         f.diversity,
                         f.variety,
                         f.witness.value,
                         f.witness_top5.value,
                         f.witness_probability.value,
                         f.path.value,
                         f.path_of_means.value,
                         f.spectrum.value,
                         f.frechet.value,
                         f.precision.value,
                         f.recall.value,
                         f.vendi,
                         row.seconds,
                         row.images < 0 ? nothing : static_cast<double>(row.images)}});
  }
  return out;
}

// A network's file as a person tells it from others: the folder that a training left it in, else its own name.
std::string network_name(const fs::path& file) {
  return file.stem() == "weights" ? file.parent_path().filename().string() : file.stem().string();
}

// The study's file with the places of networks, data and trained weights put in.
std::string filled(std::string text, const std::map<std::string, std::string>& places) {
  for (const auto& [name, place] : places)
    for (size_t at = 0; (at = text.find("{" + name + "}", at)) != std::string::npos; at += place.size())
      text.replace(at, name.size() + 2, place);
  return text;
}

// The recipe of a run, with everything that the study, the flags and the environment say.
Recipe run_recipe(const StudyOptions& options, const StudyTable& study, const RunChoice& run, const std::string& name,
                  const std::string& data) {
  std::vector<Override> more;
  CommonOptions common = options;
  common.set.clear();  // they speak of the study's own recipe
  for (const Override& one : overrides(common)) more.push_back(one);
  if (!data.empty()) more.emplace_back("data.file=" + quoted(data), "data");
  for (const std::string& one : run.set) more.emplace_back(one, text("run.", name, ".set"));
  const std::vector<std::string>& units = run.units.empty() ? study.units : run.units;
  if (!units.empty()) more.emplace_back("objective.units=" + quoted_list(units), "units");
  const int64_t chains = run.chains > 0 ? run.chains : study.chains, budget = run.budget >= 0 ? run.budget : study.budget;
  const std::string file = recipe_file(run.recipe);
  more.emplace_back(text("run.chains=", chains), "chains");
  if (Recipe::load(file, more).kind("sampler", "langevin") == "random_search") more.emplace_back(text("sampler.keep=", chains), "chains");
  if (budget > 0) {
    Recipe counted = Recipe::load(file, more);
    for (const std::string& limit : budget_overrides(assemble(counted), budget)) more.emplace_back(limit, "budget");
  }
  return Recipe::load(file, more);
}

// The photographs, or other real images, that a unit likes most, where their scores are known.
Tensor best_real(const Judges& judges, const std::vector<Column>& columns, int64_t shown, int64_t height, int64_t width) {
  if (judges.real.count == 0) return {};
  score_real_images(judges, columns);
  std::vector<Tensor> out;
  for (const Column& column : columns) {
    const auto scores = judges.real_scores->find(column.name);
    if (scores == judges.real_scores->end() || scores->second.size(0) < shown) return {};
    const Tensor rows = std::get<1>(scores->second.topk(shown));
    Tensor images = judges.real.read(rows);
    if (images.size(1) != height || images.size(2) != width) {
      ImageSpec size;
      size.height = height, size.width = width;
      images = to_bytes(fitted(from_bytes(images), size));
    }
    out.push_back(images);
  }
  return at::cat(out);
}

int study(const StudyOptions& options) {
  set_threads(threads_of(options));
  const double begun = seconds();
  const std::string file = study_file(options.name), out = absolute(options.out);
  const std::string whole = read_file(file);

  // The study's recipe is read twice: at first only for the names of what is trained.
  std::map<std::string, std::string> places{{"share", share_folder()},
                                            {"network", absolute(options.network)},
                                            {"photographs", absolute(options.files.photographs)},
                                            {"witness", absolute(options.files.witness)}};
  const auto recipe_of = [&] {
    std::vector<Override> more = set_overrides(options);
    if (options.chains > 0) more.emplace_back(text("chains=", options.chains), "--chains");
    if (options.budget >= 0) more.emplace_back(text("budget=", options.budget), "--budget");
    return Recipe::parse(filled(whole, places), fs::path(file).parent_path().string(), more, file);
  };
  StudyTable study = recipe_of().read<StudyTable>("");
  const std::string data = !options.files.data.empty() ? absolute(options.files.data) : study.needs == "shapes" ? out + "/shapes.h5" : "";
  places["data"] = data;
  for (const std::string& name : study.trainings) places[name] = out + "/" + name + "/weights.safetensors";
  Recipe recipe = recipe_of();
  study = recipe.read<StudyTable>("");
  require(
      study.needs == "shapes" || !options.network.empty(), Failure::usage, "study: ", options.name,
      " looks into a network of photographs; name one with --network (scripts/demo --photographs exports two, runs/photographs/networks), "
      "and --witness and --photographs for the judges");
  require(!study.runs.empty(), Failure::input, file, ": found no runs, expected runs = [\"name\", …] and a table [run.name] for each");
  for (const auto& [kind, names] :
       {std::pair{"run", study.runs}, {"training", study.trainings}, {"measure", study.measures}, {"point", study.points}})
    for (const std::string& name : names)
      require(recipe.has(text(kind, ".", name)), Failure::input, file, ": found ", kind, "s with '", name, "' and no table [", kind, ".",
              name, "], expected one for each");
  std::vector<RunChoice> runs;
  for (const std::string& name : study.runs) runs.push_back(recipe.read<RunChoice>("run." + name));
  std::vector<TrainingChoice> trainings;
  for (const std::string& name : study.trainings) trainings.push_back(recipe.read<TrainingChoice>("training." + name));
  std::vector<Point> points;
  for (const std::string& name : study.points) points.push_back(recipe.read<Point>("point." + name));
  for (const std::string& name : study.measures) measure_menu().chosen(recipe, "measure." + name, "");

  // Each run knows by itself what it is, and is taken up or reused; the page is written anew each time.
  std::error_code trouble;
  fs::create_directories(out, trouble);
  require(fs::is_directory(out), Failure::usage, "study: ", options.out, " cannot be made a folder; name another place with --out");
  const Lock lock = claim_folder(out);
  const auto place = [&](const std::string& name) { return out + "/" + name; };
  const auto stopped = [&] {
    say("study: interrupted and saved; the same command goes on from here");
    return 130;
  };

  if (study.needs == "shapes" && options.files.data.empty() && !fs::exists(data))
    if (write_shapes(data, 0, study.images).interrupted) return stopped();
  for (size_t i = 0; i < trainings.size(); ++i) {
    say(text("study: training ", i + 1, " of ", trainings.size(), ", ", study.trainings[i]));
    std::vector<Override> more;
    for (const std::string& one : trainings[i].set) more.emplace_back(one, "training." + study.trainings[i] + ".set");
    CommonOptions common = options;
    common.set.clear();
    for (const Override& one : overrides(common, "training")) more.push_back(one);
    more.push_back("data.file=" + quoted(data.empty() ? places["photographs"] : data));
    if (train_into(recipe_file(trainings[i].recipe), more, out + "/" + study.trainings[i]).code != 0) return stopped();
  }

  // The runs, and the judges of each classifier that is climbed.
  std::vector<StudyRun> made;
  std::vector<std::string> judged_by;
  std::map<std::string, Judges> judges;
  std::vector<Judged> judgements;
  std::vector<double> took;
  std::vector<int64_t> looked;
  // All of them are read before the first one runs, so that what cannot be is refused at once.
  std::vector<Experiment> experiments;
  for (size_t i = 0; i < runs.size(); ++i) {
    Recipe of_run = run_recipe(options, study, runs[i], study.runs[i], data);
    judged_by.push_back(classifier_file(of_run));
    experiments.push_back(assemble(of_run));
  }
  for (size_t i = 0; i < runs.size(); ++i) {
    const Experiment& e = experiments[i];
    const std::string folder = place(study.runs[i]), network = judged_by[i];
    if (!sample_into(e, folder, {.title = text(study.runs[i], " (", i + 1, " of ", runs.size(), ")")})) return stopped();
    if (!judges.contains(network)) {
      JudgeFiles who = options.files;
      if (who.photographs.empty()) who.data = data;
      // A network does not judge itself.
      if (std::error_code ignored; !who.witness.empty() && fs::equivalent(who.witness, network, ignored)) who.witness.clear();
      judges.emplace(network, make_judges(e.classifier, network, e.objective, who, e.device));
    }
    const Judges& who = judges.at(network);
    const Pictures pictures = pictures_of_run(folder);
    Judged judged = judged_run(who, folder, pictures);
    if (judged.findings.empty()) return stopped();
    judgements.push_back(std::move(judged));
    took.push_back(nlohmann::json::parse(read_file(folder + "/manifest.json")).value("sampling_seconds", nothing));
    looked.push_back(e.images_seen);
    made.push_back({study.runs[i], e.classifier, e.objective, e.generator, e.device, e.columns, e.run.chains,
                    static_cast<uint64_t>(e.run.seed), pictures});
  }

  // Figures, after the anchors, which say which depths of a witness are used.
  std::string tables;
  Numbers numbers;
  std::vector<std::string> networks;
  for (const std::string& one : judged_by)
    if (std::find(networks.begin(), networks.end(), one) == networks.end()) networks.push_back(one);
  nlohmann::json said{{"study", options.name}, {"out", out}, {"tables", nlohmann::json::object()}};
  for (const std::string& network : networks) {
    const Judges& who = judges.at(network);
    // Anchors for each unit, as many as the first run that asks for it has pictures.
    std::vector<Column> columns;
    std::set<std::string> names;
    for (size_t i = 0; i < made.size(); ++i) {
      if (judged_by[i] != network) continue;
      for (const Column& column : judgements[i].columns)
        if (!names.contains(column.name)) columns.push_back(column);
      for (const Column& column : judgements[i].columns) names.insert(column.name);
    }
    const std::vector<JudgedAnchor> between = judged_anchors(who, columns, 0);
    if (between.empty()) return stopped();
    std::vector<TableRow> rows;
    for (size_t i = 0; i < made.size(); ++i)
      if (judged_by[i] == network) rows.push_back({made[i].name, figures_of(who, judgements[i]), took[i], looked[i]});
    for (const JudgedAnchor& anchor : between) rows.push_back({anchor.name, figures_of(who, anchor.judged), nothing, -1});
    add_numbers(numbers, "", figures_table(rows));
    tables += "## Judged" + (networks.size() > 1 ? " for " + network_name(network) : std::string()) + "\n\n" +
              table_markdown(who, rows, "run") + "\n";
    if (const std::string depths = depths_markdown(who, rows); !depths.empty()) tables += depths + "\n";
    said["tables"][network] = table_json(who, rows);
  }

  // What else is measured.
  std::string figures;
  for (const std::string& name : study.measures) {
    if (interrupted()) return stopped();
    const std::string table = "measure." + name;
    const Measured measured = measure_menu().chosen(recipe, table, "").make({recipe, table, made});
    add_numbers(numbers, name, measured);
    tables += "## " + measured.title + "\n\n" + markdown_of(measured) + "\n";
    if (measured.curve) {
      write_file(place(name + ".svg"), curves_svg(measured));
      figures += "![" + measured.title + "](" + name + ".svg)\n\n";
    }
    for (const auto& [row, values] : measured.rows)
      for (size_t i = 0; i < values.size(); ++i)
        said["measures"][name][row][measured.columns[i]] = std::isnan(values[i]) ? nlohmann::json() : nlohmann::json(values[i]);
  }

  // The figure: a sheet for each group of runs, real images last.
  std::vector<std::string> groups;
  for (const RunChoice& run : runs)
    if (std::find(groups.begin(), groups.end(), run.group) == groups.end()) groups.push_back(run.group);
  for (const std::string& group : groups) {
    std::vector<SheetColumn> columns;
    size_t first = made.size();
    for (size_t i = 0; i < made.size(); ++i)
      if (runs[i].group == group) {
        first = std::min(first, i);
        require(made[i].columns.size() == made[first].columns.size(), Failure::input, file, ": found ", made[i].columns.size(),
                " units in run ", made[i].name, " and ", made[first].columns.size(), " in run ", made[first].name,
                ", expected runs of one group to have the same units");
        columns.push_back({made[i].name, made[i].pictures.read(0, made[i].pictures.count()), judgements[i].findings});
      }
    std::vector<std::string> names;
    for (const Column& column : made[first].columns) names.push_back(caption_of(column, made[first].classifier));
    const Judges& who = judges.at(judged_by[first]);
    const Tensor real = best_real(who, made[first].columns, study.shown, columns[0].images.size(1), columns[0].images.size(2));
    if (real.defined()) {
      // As many in a cell as the runs have.
      int64_t widest = 1;
      for (size_t i = 0; i < made.size(); ++i)
        if (runs[i].group == group) widest = std::max(widest, std::min(study.shown, made[i].chains));
      const Tensor by_unit = real.unflatten(0, {static_cast<int64_t>(names.size()), study.shown});
      for (int64_t at = 0; at < study.shown; at += widest)
        columns.push_back({at == 0 ? "real images" : "", by_unit.slice(1, at, at + widest).flatten(0, 1).contiguous()});
    }
    const std::string picture = (group.empty() ? "figure" : "figure_" + group) + ".png";
    save_png(place(picture), comparison_sheet(who, columns, names, study.shown));
    figures = "![" + (group.empty() ? study.title : group) + "](" + picture + ")\n\n" + figures;
  }

  // The page: what the source says, what is found here, and whether the two agree.
  std::string page = "# " + study.title + "\n\nAfter " + study.source + ".\n\n" + with_numbers(study.summary, numbers) + "\n\n";
  if (!points.empty()) {
    page += "| the source | here | |\n|---|---|---|\n";
    for (size_t i = 0; i < points.size(); ++i) {
      const std::string verdict = verdict_of(points[i].holds, numbers), here = with_numbers(points[i].here, numbers);
      page += "| " + points[i].source + " | " + here + " | " + verdict + " |\n";
      said["points"].push_back({{"name", study.points[i]}, {"source", points[i].source}, {"here", here}, {"verdict", verdict}});
    }
    page += "\n";
  }
  page += figures + tables;
  write_file(place("study.md"), page);
  write_file(place("study.json"), said.dump(2) + "\n");
  if (!options.no_report) {
    std::vector<std::string> folders;
    for (const std::string& name : study.runs) folders.push_back(place(name));
    write_report(folders, place("report.html"));
  }
  detail(text("study: ", decimals(seconds() - begun, 1), " s"));
  answer(options, page + place("study.md"), said);
  return 0;
}

}  // namespace

Action study_verb(CLI::App& command) {
  auto options = std::make_shared<StudyOptions>();
  command.add_option("NAME", options->name, "a study that comes with evoke, or a file of the same kind")->required();
  Flags(command, *options);
  repeatable_judges(command);
  add_no_report(command, options->no_report);
  add_common(command, *options, Takes::writing);
  command.footer([] {
    return "Studies: " + list_of(study_names()) +
           ". Each leaves study.md (what the source says, what was found, whether they agree), figure.png, curves and its runs; "
           "interrupted, it goes on from there.";
  });
  return [options] {
    begin_verb(*options);
    return study(*options);
  };
}

}  // namespace evoke
