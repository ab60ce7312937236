// evoke study: a published study as a recipe: its runs, what the judges and other measures make of them, and what agrees with the source.
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <memory>
#include <optional>
#include <set>

#include "classifiers/menu.h"
#include "core/error.h"
#include "core/log.h"
#include "core/records/pictures.h"
#include "core/storage/files.h"
#include "experiments/data_measures.h"
#include "experiments/exemplars.h"
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
  std::vector<std::string> units, trainings, exemplars, runs, sweeps, measures, points;
  bool patches = false;
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
  f("exemplars", o.exemplars,
    "tables [exemplar.NAME]: the real images that excite units most, looked for next; {NAME} becomes the folder of what evoke exemplars "
    "writes");
  f("patches", o.patches, "small squares of the images are measured (evoke data patches); {patches} becomes their file");
  f("runs", o.runs, "tables [run.NAME], in this order");
  f("sweeps", o.sweeps, "tables [sweep.NAME], in this order: runs that are repeated with another value of a setting each time");
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
  bool no_units = false;
};
void describe(Fields& f, RunChoice& o) {
  f("recipe", o.recipe, "of evoke sample: a shipped one's name, or a file");
  f("set", o.set, "table.key=value, as --set takes it");
  f("units", o.units, "none: the study's");
  f("no_units", o.no_units, "the objective asks for none: a whole layer, a direction");
  f("group", o.group, "runs of one group are columns of one figure; they have the same units");
  f("chains", o.chains, "chains", "of each unit; 0: the study's", {0, 1e6});
  f("budget", o.budget, "pictures", "that the classifier may look at; -1: the study's, 0: the recipe's own steps", {-1, 1e15});
}

struct SweepChoice {
  std::string of;
  std::vector<std::string> runs, set, figures;
  std::vector<double> values;
  int64_t budget = -1;
};
void describe(Fields& f, SweepChoice& o) {
  f("of", o.of, "what is varied, as the curves' axis says it");
  f("runs", o.runs, "that are repeated for each value, each a curve; the repeats are runs called RUN_VALUE");
  f("set", o.set, "table.key={value}, put into the runs after their own");
  f("values", o.values, "", "one after another");
  f("figures", o.figures, "of the judges, such as \"oracle\": a table and curves of each");
  f("budget", o.budget, "pictures", "that the classifier may look at in each; -1: as the run says, 0: the recipe's own steps", {-1, 1e15});
}

struct TrainingChoice {
  std::string recipe;
  std::vector<std::string> set;
};
void describe(Fields& f, TrainingChoice& o) {
  f("recipe", o.recipe, "of evoke train");
  f("set", o.set, "table.key=value, as --set takes it");
}

struct ExemplarsChoice {
  std::string network;
  std::vector<std::string> set;
};
void describe(Fields& f, ExemplarsChoice& o) {
  f("network", o.network, "whose units are looked at");
  f("set", o.set, "option=value of evoke exemplars, such as \"layers=['logits']\"");
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

std::string study_file(const std::string& word) {
  if (word.ends_with(".toml") || word.find('/') != std::string::npos) {
    require(fs::is_regular_file(word), Failure::input, "study: found no file ", word);
    return word;
  }
  const std::vector<std::string> names = recipe_names(studies_folder);
  require(std::find(names.begin(), names.end(), word) != names.end(), Failure::usage, "study: found no study '", word, "'",
          did_you_mean(word, names), ", or a file");
  return share_folder() + "/" + studies_folder + "/" + word + ".toml";
}

std::string quoted(const std::string& word) { return nlohmann::json(word).dump(); }
std::string quoted_list(const std::vector<std::string>& words) { return nlohmann::json(words).dump(); }
std::string absolute(const std::string& file) { return file.empty() ? file : fs::absolute(file).lexically_normal().string(); }

// ---- What the parts share ---------------------------------------------------------------------------------------------------------------

// The names of figures that every run has, NaN where nobody was asked.
Measured figures_table(const std::vector<TableRow>& rows) {
  Measured out{"",
               "run",
               {"target",     "oracle",        "oracle2",  "render",  "alike",        "shape_rmse",
                "percentile", "diversity",     "variety",  "witness", "witness_top5", "witness_probability",
                "path",       "path_of_means", "spectrum", "frechet", "precision",    "recall",
                "vendi",      "target_path",   "seconds",  "images"},
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
                         f.target_path.value,
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

// What flags and environment say of the parts' recipes: without --set, which speaks of the study's own.
std::vector<Override> overrides_of_parts(const StudyOptions& options, const std::string& table) {
  CommonOptions common = options;
  common.set.clear();
  return overrides(common, table);
}

// The recipe of a run, with everything that the study, the flags and the environment say.
Recipe run_recipe(const StudyOptions& options, const StudyTable& study, const RunChoice& run, const std::string& name,
                  const std::string& data) {
  std::vector<Override> more = overrides_of_parts(options, "run");
  if (!data.empty()) more.emplace_back("data.file=" + quoted(data), "data");
  for (const std::string& one : run.set) more.emplace_back(one, text("run.", name, ".set"));
  const std::vector<std::string>& units = run.units.empty() ? study.units : run.units;
  if (!run.no_units && !units.empty()) more.emplace_back("objective.units=" + quoted_list(units), "units");
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

// ---- The parts of a study, in the order in which they are done --------------------------------------------------------------------------

// The recipe, read.
struct Study {
  StudyOptions options;
  std::string file, out, data;                // data: of the drawn shapes; empty where a network of photographs is asked
  std::map<std::string, std::string> places;  // what {NAME} in the recipe stands for
  StudyTable table;
  std::optional<Recipe> recipe{};
  std::vector<RunChoice> runs;  // those of the sweeps last
  std::vector<SweepChoice> sweeps;
  std::vector<TrainingChoice> trainings;
  std::vector<ExemplarsChoice> exemplars;
  std::vector<Point> points;

  std::string place(const std::string& name) const { return out + "/" + name; }
  std::string images() const { return data.empty() ? absolute(options.files.photographs) : data; }
};

// The runs that were made, one after another.
struct Made {
  std::vector<StudyRun> runs;
  std::vector<std::string> networks;     // of each run, the one that it climbs
  std::map<std::string, Judges> judges;  // of each network
  std::vector<Judged> judgements;        // of each run
  std::vector<double> seconds;
  std::vector<int64_t> images;
};

// The study's page as it grows, and the same for programs.
struct Page {
  Numbers numbers;                      // that its sentences may speak of
  std::string points, figures, tables;  // Markdown
  nlohmann::json said;
};

std::string repeat_name(const std::string& run, double value) { return text(run, "_", value); }

// The runs of the sweeps, behind the others: each run's repeats are a group of their own.
void add_repeats(Study& s) {
  const std::vector<std::string> names = s.table.runs, figures = figures_table({}).columns;
  for (size_t i = 0; i < s.sweeps.size(); ++i) {
    const SweepChoice& sweep = s.sweeps[i];
    const std::string table = "[sweep." + s.table.sweeps[i] + "]";
    require(!sweep.values.empty(), Failure::input, s.file, ", ", table, ": found no values, expected some");
    for (const std::string& figure : sweep.figures)
      require(std::find(figures.begin(), figures.end(), figure) != figures.end(), Failure::input, s.file, ", ", table,
              ": found no figure '", figure, "'", did_you_mean(figure, figures));
    for (const std::string& name : sweep.runs) {
      const auto found = std::find(names.begin(), names.end(), name);
      require(found != names.end(), Failure::input, s.file, ", ", table, ": found no run '", name, "'", did_you_mean(name, names));
      for (const double value : sweep.values) {
        const std::string repeated = repeat_name(name, value);
        require(std::find(s.table.runs.begin(), s.table.runs.end(), repeated) == s.table.runs.end(), Failure::input, s.file, ", ", table,
                ": found two runs called ", repeated, ", expected other values or another name");
        RunChoice repeat = s.runs[static_cast<size_t>(found - names.begin())];
        repeat.group = name + "_by_" + s.table.sweeps[i];
        if (sweep.budget >= 0) repeat.budget = sweep.budget;
        for (const std::string& one : sweep.set) repeat.set.push_back(filled(one, {{"value", text(value)}}));
        s.table.runs.push_back(repeated);
        s.runs.push_back(std::move(repeat));
      }
    }
  }
}

Study read_study(const StudyOptions& options) {
  Study s;
  s.options = options;
  s.file = study_file(options.name);
  s.out = absolute(options.out);
  s.places = {{"share", share_folder()},
              {"network", absolute(options.network)},
              {"photographs", absolute(options.files.photographs)},
              {"witness", absolute(options.files.witness)}};
  const std::string whole = read_file(s.file);
  const auto parsed = [&] {
    std::vector<Override> more = set_overrides(options);
    if (options.chains > 0) more.emplace_back(text("chains=", options.chains), "--chains");
    if (options.budget >= 0) more.emplace_back(text("budget=", options.budget), "--budget");
    return Recipe::parse(filled(whole, s.places), fs::path(s.file).parent_path().string(), more, s.file);
  };
  // Read twice: at first only for the names of what is trained and gathered.
  s.table = parsed().read<StudyTable>("");
  const bool shapes = s.table.needs == "shapes";
  s.data = !options.files.data.empty() ? absolute(options.files.data) : shapes ? s.place("shapes.h5") : "";
  s.places["data"] = s.data;
  for (const std::string& name : s.table.trainings) s.places[name] = s.place(name) + "/weights.safetensors";
  for (const std::string& name : s.table.exemplars) s.places[name] = s.place(name);
  if (s.table.patches) s.places["patches"] = s.place("patches.safetensors");
  s.recipe = parsed();
  s.table = s.recipe->read<StudyTable>("");
  require(
      shapes || !options.network.empty(), Failure::usage, "study: ", options.name,
      " looks into a network of photographs; name one with --network (scripts/demo --photographs exports two, runs/photographs/networks), "
      "and --witness and --photographs for the judges");
  require(options.network.empty() || whole.find("{network}") != std::string::npos, Failure::usage, "study: ", options.name,
          " looks into networks of its own; leave --network out");
  require(s.table.exemplars.empty() || !s.images().empty(), Failure::usage, "study: ", options.name,
          " looks for the photographs that excite units most; name some with --photographs");
  require(!s.table.patches || !s.images().empty(), Failure::usage, "study: ", options.name,
          " measures squares of photographs; name some with --photographs");
  require(!s.table.runs.empty(), Failure::input, s.file, ": found no runs, expected runs = [\"name\", …] and a table [run.name] for each");
  const auto table_of = [&](const char* kind, const std::string& name) {
    const std::string table = text(kind, ".", name);
    require(s.recipe->has(table), Failure::input, s.file, ": found '", name, "' and no table [", table, "], expected one for each");
    return table;
  };
  const auto read = [&]<class Choice>(const char* kind, const std::vector<std::string>& names, std::vector<Choice>& into) {
    for (const std::string& name : names) into.push_back(s.recipe->read<Choice>(table_of(kind, name)));
  };
  read("run", s.table.runs, s.runs);
  read("sweep", s.table.sweeps, s.sweeps);
  add_repeats(s);
  read("training", s.table.trainings, s.trainings);
  read("exemplar", s.table.exemplars, s.exemplars);
  read("point", s.table.points, s.points);
  for (const std::string& name : s.table.measures) measure_menu().chosen(*s.recipe, table_of("measure", name), "");
  return s;
}

// Makes the data, trains, and looks for exemplars; false where it was interrupted.
bool prepared(const Study& s) {
  if (s.table.needs == "shapes" && s.options.files.data.empty() && !fs::exists(s.data))
    if (write_shapes(s.data, 0, s.table.images).interrupted) return false;
  if (s.table.patches && !patches_into(s.images(), s.places.at("patches"))) return false;
  for (size_t i = 0; i < s.trainings.size(); ++i) {
    const std::string& name = s.table.trainings[i];
    say(text("study: training ", i + 1, " of ", s.trainings.size(), ", ", name));
    std::vector<Override> more;
    for (const std::string& one : s.trainings[i].set) more.emplace_back(one, "training." + name + ".set");
    for (const Override& one : overrides_of_parts(s.options, "training")) more.push_back(one);
    more.push_back("data.file=" + quoted(s.images()));
    if (train_into(recipe_file(s.trainings[i].recipe), more, s.place(name)).code != 0) return false;
  }
  for (size_t i = 0; i < s.exemplars.size(); ++i) {
    const std::string& name = s.table.exemplars[i];
    std::vector<Override> words{{"classifier.weights=" + quoted(s.exemplars[i].network), "exemplar." + name + ".network"},
                                {"exemplars.data=" + quoted(s.images()), "exemplar." + name}};
    for (const Override& one : overrides_of_parts(s.options, "exemplars")) words.push_back(one);
    for (const std::string& one : s.exemplars[i].set) words.emplace_back("exemplars." + one, "exemplar." + name + ".set");
    try {
      if (!exemplars_into(words, s.place(name))) return false;
    } catch (const Error& error) {
      fail(error.kind(), s.file, ", [exemplar.", name, "]: ", error.what());
    }
  }
  return true;
}

// Samples and judges every run; nothing where it was interrupted.
std::optional<Made> sampled(const Study& s) {
  Made out;
  // All of them are read before the first one runs, so that what cannot be is refused at once.
  std::vector<Experiment> experiments;
  for (size_t i = 0; i < s.runs.size(); ++i) {
    Recipe of_run = run_recipe(s.options, s.table, s.runs[i], s.table.runs[i], s.data);
    out.networks.push_back(classifier_file(of_run));
    experiments.push_back(assemble(of_run));
  }
  for (size_t i = 0; i < s.runs.size(); ++i) {
    const Experiment& e = experiments[i];
    const std::string &name = s.table.runs[i], folder = s.place(name), &network = out.networks[i];
    if (!sample_into(e, folder, {.title = text(name, " (", i + 1, " of ", s.runs.size(), ")")})) return std::nullopt;
    if (!out.judges.contains(network)) {
      JudgeFiles who = s.options.files;
      if (who.photographs.empty()) who.data = s.data;
      // A network does not judge itself.
      if (std::error_code ignored; !who.witness.empty() && fs::equivalent(who.witness, network, ignored)) who.witness.clear();
      out.judges.emplace(network, make_judges(e.classifier, network, e.objective, who, e.device));
    }
    const Pictures pictures = pictures_of_run(folder);
    Judged judged = judged_run(out.judges.at(network), folder, pictures);
    if (judged.findings.empty()) return std::nullopt;
    out.judgements.push_back(std::move(judged));
    out.seconds.push_back(nlohmann::json::parse(read_file(folder + "/manifest.json")).value("sampling_seconds", nothing));
    out.images.push_back(e.images_seen);
    out.runs.push_back(
        {name, e.classifier, e.objective, e.generator, e.device, e.columns, e.run.chains, static_cast<uint64_t>(e.run.seed), pictures});
  }
  return out;
}

// The judges' table of each network, after the anchors, which say which depths of a witness are used; false where it was interrupted.
bool add_judgements(const Made& made, Page& into) {
  into.said["tables"] = nlohmann::json::object();
  std::vector<std::string> networks;
  for (const std::string& one : made.networks)
    if (std::find(networks.begin(), networks.end(), one) == networks.end()) networks.push_back(one);
  for (const std::string& network : networks) {
    const Judges& who = made.judges.at(network);
    // Anchors for each unit, as many as the first run that asks for it has pictures.
    std::vector<Column> columns;
    std::set<std::string> names;
    for (size_t i = 0; i < made.runs.size(); ++i) {
      if (made.networks[i] != network) continue;
      for (const Column& column : made.judgements[i].columns)
        if (!names.contains(column.name)) columns.push_back(column);
      for (const Column& column : made.judgements[i].columns) names.insert(column.name);
    }
    const std::vector<JudgedAnchor> between = judged_anchors(who, columns, 0);
    if (between.empty()) return false;
    std::vector<TableRow> rows;
    for (size_t i = 0; i < made.runs.size(); ++i)
      if (made.networks[i] == network)
        rows.push_back({made.runs[i].name, figures_of(who, made.judgements[i]), made.seconds[i], made.images[i]});
    for (const JudgedAnchor& anchor : between) rows.push_back({anchor.name, figures_of(who, anchor.judged), nothing, -1});
    add_numbers(into.numbers, "", figures_table(rows));
    into.tables += "## Judged" + (networks.size() > 1 ? " for " + network_name(network) : std::string()) + "\n\n" +
                   table_markdown(who, rows, "run") + "\n";
    if (const std::string depths = depths_markdown(who, rows); !depths.empty()) into.tables += depths + "\n";
    into.said["tables"][network] = table_json(who, rows);
  }
  return true;
}

void add_measured(const Study& s, const std::string& name, const Measured& measured, Page& into) {
  add_numbers(into.numbers, name, measured);
  into.tables += "## " + measured.title + "\n\n" + markdown_of(measured) + "\n";
  if (measured.curve) {
    write_file(s.place(name + ".svg"), curves_svg(measured));
    into.figures += "![" + measured.title + "](" + name + ".svg)\n\n";
  }
  for (const auto& [row, values] : measured.rows)
    for (size_t i = 0; i < values.size(); ++i)
      into.said["measures"][name][row][measured.columns[i]] = std::isnan(values[i]) ? nlohmann::json() : nlohmann::json(values[i]);
}

// The judges' figures over the values of each sweep.
void add_sweeps(const Study& s, Page& into) {
  for (size_t i = 0; i < s.sweeps.size(); ++i) {
    const SweepChoice& sweep = s.sweeps[i];
    for (const std::string& figure : sweep.figures) {
      Measured measured{figure + " by " + sweep.of, sweep.of, sweep.runs, {}, true};
      for (const double value : sweep.values) {
        measured.rows.push_back({text(value), {}});
        for (const std::string& run : sweep.runs)
          measured.rows.back().second.push_back(number_named(repeat_name(run, value) + "/" + figure, into.numbers));
      }
      add_measured(s, s.table.sweeps[i] + "_" + figure, measured, into);
    }
  }
}

// What else is measured; false where it was interrupted.
bool add_measures(Study& s, const Made& made, Page& into) {
  for (const std::string& name : s.table.measures) {
    if (interrupted()) return false;
    const std::string table = "measure." + name;
    add_measured(s, name, measure_menu().chosen(*s.recipe, table, "").make({*s.recipe, table, made.runs}), into);
  }
  return true;
}

// A sheet for each group of runs, real images last.
void add_sheets(const Study& s, const Made& made, Page& into) {
  std::vector<std::string> groups;
  for (const RunChoice& run : s.runs)
    if (std::find(groups.begin(), groups.end(), run.group) == groups.end()) groups.push_back(run.group);
  for (const std::string& group : groups) {
    std::vector<SheetColumn> columns;
    const StudyRun* first = nullptr;
    const Judges* who = nullptr;
    int64_t widest = 1;  // pictures in a cell of the widest column
    for (size_t i = 0; i < made.runs.size(); ++i) {
      if (s.runs[i].group != group) continue;
      const StudyRun& run = made.runs[i];
      if (first == nullptr) first = &run, who = &made.judges.at(made.networks[i]);
      require(run.columns.size() == first->columns.size(), Failure::input, s.file, ": found ", run.columns.size(), " units in run ",
              run.name, " and ", first->columns.size(), " in run ", first->name, ", expected runs of one group to have the same units");
      columns.push_back({run.name, run.pictures.read(0, run.pictures.count()), made.judgements[i].findings});
      widest = std::max(widest, std::min(s.table.shown, run.chains));
    }
    std::vector<std::string> names;
    for (const Column& column : first->columns) names.push_back(caption_of(column, first->classifier));
    const Tensor real = best_real_images(*who, first->columns, s.table.shown, columns[0].images.size(1), columns[0].images.size(2));
    if (real.defined()) {
      const Tensor by_unit = real.unflatten(0, {static_cast<int64_t>(names.size()), s.table.shown});
      for (int64_t at = 0; at < s.table.shown; at += widest)
        columns.push_back({at == 0 ? "real images" : "", by_unit.slice(1, at, at + widest).flatten(0, 1).contiguous()});
    }
    const std::string picture = (group.empty() ? "figure" : "figure_" + group) + ".png";
    save_png(s.place(picture), comparison_sheet(*who, columns, names, s.table.shown));
    into.figures = "![" + (group.empty() ? s.table.title : group) + "](" + picture + ")\n\n" + into.figures;
  }
}

// What the source says, what is found here, and whether the two agree.
void add_points(const Study& s, Page& into) {
  if (s.points.empty()) return;
  into.points = "| the source | here | |\n|---|---|---|\n";
  for (size_t i = 0; i < s.points.size(); ++i) {
    const Point& point = s.points[i];
    const std::string verdict = verdict_of(point.holds, into.numbers), here = with_numbers(point.here, into.numbers);
    into.points += "| " + point.source + " | " + here + " | " + verdict + " |\n";
    into.said["points"].push_back({{"name", s.table.points[i]}, {"source", point.source}, {"here", here}, {"verdict", verdict}});
  }
  into.points += "\n";
}

int study(const StudyOptions& options) {
  set_threads(threads_of(options));
  const double begun = seconds();
  Study s = read_study(options);
  std::error_code trouble;
  fs::create_directories(s.out, trouble);
  require(fs::is_directory(s.out), Failure::usage, "study: ", options.out, " cannot be made a folder; name another place with --out");
  const Lock lock = claim_folder(s.out);
  const auto stopped = [] {
    say("study: interrupted and saved; the same command goes on from here");
    return 130;
  };

  // Each run knows by itself what it is, and is taken up or reused; the page is written anew each time.
  if (!prepared(s)) return stopped();
  const std::optional<Made> made = sampled(s);
  if (!made) return stopped();
  Page page;
  page.said = {{"study", options.name}, {"out", s.out}};
  if (!add_judgements(*made, page)) return stopped();
  add_sweeps(s, page);
  if (!add_measures(s, *made, page)) return stopped();
  add_sheets(s, *made, page);
  add_points(s, page);
  const std::string whole = "# " + s.table.title + "\n\nAfter " + s.table.source + ".\n\n" + with_numbers(s.table.summary, page.numbers) +
                            "\n\n" + page.points + page.figures + page.tables;
  write_file(s.place("study.md"), whole);
  write_file(s.place("study.json"), page.said.dump(2) + "\n");
  if (!options.no_report) {
    std::vector<std::string> folders;
    for (const std::string& name : s.table.runs) folders.push_back(s.place(name));
    write_report(folders, s.place("report.html"));
  }
  detail(text("study: ", decimals(seconds() - begun, 1), " s"));
  answer(options, whole + s.place("study.md"), page.said);
  return 0;
}

}  // namespace

Action study_verb(CLI::App& command) {
  auto options = std::make_shared<StudyOptions>();
  command.add_option("STUDY", options->name, "a study that comes with evoke, or a file of the same kind")->required();
  Flags(command, *options);
  repeatable_judges(command);
  add_no_report(command, options->no_report);
  add_common(command, *options, Takes::writing);
  command.footer([] {
    return "Studies: " + list_of(recipe_names(studies_folder)) +
           ". Each leaves study.md (what the source says, what was found, whether they agree), figure.png, curves and its runs; "
           "interrupted, it goes on from there.";
  });
  return [options] {
    begin_verb(*options);
    return study(*options);
  };
}

}  // namespace evoke
