// evoke exemplars: the real images that excite each unit most and least, and what values every unit takes.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <set>

#include "classifiers/menu.h"
#include "core/error.h"
#include "core/log.h"
#include "core/records/pictures.h"
#include "core/records/run_directory.h"
#include "core/storage/files.h"
#include "core/storage/safetensors.h"
#include "experiments/exemplars.h"
#include "experiments/options.h"
#include "experiments/verbs.h"

namespace evoke {

namespace fs = std::filesystem;

namespace {

constexpr const char* shard_file = "gathered.safetensors";  // of a shard: what it gathered

int answer_of(const CommonOptions& options, RunDirectory& directory) {
  const nlohmann::json& manifest = directory.manifest();
  if (!manifest.contains("units")) {  // a shard
    answer(options, directory.file(shard_file),
           {{"run", directory.path()}, {"shard", manifest.at("shard")}, {"images", manifest.at("images_seen")}});
    return 0;
  }
  nlohmann::json sheets = nlohmann::json::array();
  std::string lines = units_table(manifest.at("units"));
  for (const nlohmann::json& sheet : manifest.at("sheets")) {
    sheets.push_back(directory.file(sheet.get<std::string>()));
    lines += sheets.back().get<std::string>() + "\n";
  }
  const nlohmann::json object{{"run", directory.path()},
                              {"exemplars", directory.file("exemplars.h5")},
                              {"sheets", sheets},
                              {"images", manifest.at("images_seen")},
                              {"units", manifest.at("units")},
                              {"quantile_error", "less than a unit's bin_width"}};
  answer(options, lines + directory.file("exemplars.h5"), object);
  return 0;
}

// Layer names hold dots and worse; two of them never share a file.
std::string sheet_name(const std::string& layer, std::set<std::string>& taken) {
  std::string name = layer;
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c)) && c != '.' && c != '-' && c != '_') c = '-';
  std::string unique = name + ".png";
  for (int more = 2; !taken.insert(unique).second; ++more) unique = text(name, "_", more, ".png");
  return unique;
}

// A recipe's parts. Everything that can be refused is refused before anything is written.
struct Question {
  explicit Question(Recipe recipe);

  std::string config;
  ExemplarsTable table;
  at::Device device{at::kCPU};
  Classifier classifier;
  std::optional<Results> beside;
  std::vector<Asked> asked;
  std::vector<std::string> inputs;  // files that are read
};

Question::Question(Recipe recipe) : table(recipe.read<ExemplarsTable>("exemplars")) {
  set_threads(table.threads);
  device = recipe.about("exemplars", {"device"}, [&] { return device_named(table.device); });
  require(!table.data.empty() && fs::exists(table.data), Failure::input, "exemplars: found no file or folder '", table.data,
          "', expected a dataset or a folder of images");
  classifier = make_classifier(recipe, device);
  recipe.refuse_unread();
  if (!table.beside.empty()) {
    beside = load_results(table.beside);
    require(beside->images.size(3) == classifier.image.channels, Failure::input, "--beside ", table.beside, ": found pictures of ",
            beside->images.size(3), " channels, classifier ", classifier.name, " expects ", classifier.image.channels);
  }
  asked = asked_of(table, classifier, beside);
  if (table.facets.count > 0) {
    recipe.about("exemplars", {"facet_layer"}, [&] { return facet_layer(table.facets, classifier); });
    recipe.about("exemplars", {"facets", "keep"}, [&] {
      require(table.keep >= std::max<int64_t>(2, table.facets.count), Failure::usage, "found ", table.facets.count, " facets of ",
              table.keep, " images of each unit, expected at least two images and one a facet: --keep");
    });
  }
  inputs = {classifier_file(recipe), table.data};
  if (beside) inputs.push_back(table.beside + "/results.h5");
  config = recipe.resolved();
}

// Writes a run: `gather` fills in what is known of the units and returns how many images that took. Of one shard of several only this is
// kept, for evoke merge. False where it was interrupted.
bool write_exemplars(const Question& q, const ImageSource& source, RunDirectory& directory, bool one_of_several,
                     const std::function<int64_t(std::vector<Gathered>&)>& gather) {
  const ExemplarsTable& table = q.table;
  std::vector<std::string> sheets;
  const auto stopped = [&] {
    for (const std::string& sheet : sheets) std::remove(directory.file(sheet).c_str());
    directory.finish("interrupted");
    say("exemplars: interrupted and saved; the same command goes on from here");
    return false;
  };
  try {
    directory.manifest()["seed"] = table.seed;
    directory.manifest()["device"] = q.device.str();
    directory.manifest()["threads"] = at::get_num_threads();
    directory.save_manifest();

    std::vector<Gathered> gathered = nothing_gathered(q.asked, table);
    const int64_t seen = gather(gathered);
    if (interrupted()) return stopped();
    directory.manifest()["images_seen"] = seen;
    if (one_of_several) {
      save_gathered(directory.file(shard_file), gathered);
      directory.finish("done");
      return true;
    }
    require(seen > 0, Failure::input, table.data, ": found no image that can be read, expected some");
    if (seen < table.keep) say(text("exemplars: there are ", seen, " images, fewer than --keep ", table.keep, "; all of them are kept"));
    if (table.keep > sheet_columns)
      say(text("exemplars: the sheets show ", sheet_columns, " images at either end, exemplars.h5 all ", table.keep));

    Tensor beside_values;
    if (q.beside) beside_values = values_beside(*q.beside, q.classifier, q.device, q.asked, table);
    std::set<std::string> taken;
    for (size_t i = 0; i < q.asked.size(); ++i) {
      const std::string what = layout_of(q.asked[i].layer) == Layout::dense ? "values"
                               : table.of == "max"                          ? "maxima over places"
                               : table.of == "mean"                         ? "means over places"
                                                                            : "values at the usual place";
      const std::string title =
          text(q.asked[i].layer.name, ": ", what, ", ", seen, " images of ", fs::path(table.data).filename().string());
      const Tensor sheet = exemplars_sheet(q.asked[i], gathered[i], source, q.classifier, q.beside, beside_values, title);
      if (interrupted()) return stopped();
      sheets.push_back(sheet_name(q.asked[i].layer.name, taken));
      save_png(directory.file(sheets.back()), sheet);
    }
    if (table.facets.count > 0) {
      const FacetsFound facets = facets_found(q.asked, gathered, source, q.classifier, q.device, table);
      if (interrupted()) return stopped();
      save_safetensors(directory.file("facets.safetensors"), {facets.starts, {}});
      sheets.emplace_back("facets.png");
      save_png(directory.file(sheets.back()), facets.sheet);
    }
    save_exemplars(directory.file("exemplars.h5"), table, seen, source, q.asked, gathered, q.beside, beside_values);
    directory.manifest()["sheets"] = sheets;
    directory.manifest()["units"] = units_json(q.asked, gathered, source, q.classifier);
    directory.finish("done");
    return true;
  } catch (...) {
    for (const std::string& sheet : sheets) std::remove(directory.file(sheet).c_str());
    directory.finish("failed");
    throw;
  }
}

// Looks at the images, or finds this very run finished; nothing where it was interrupted.
std::optional<RunDirectory> gathered_run(const std::vector<Override>& words, const Shard& shard, const std::string& out) {
  const Question q(Recipe::parse("", fs::current_path().string(), words, "exemplars"));
  const ImageSource source = image_source(q.table, q.classifier, shard);
  RunDirectory directory = RunDirectory::open(out, "exemplars", q.config, q.inputs);
  record_shard(directory, shard);
  if (directory.done()) {
    say("exemplars: " + out + " holds this very run, finished; nothing to do");
    return directory;
  }
  const bool whole = write_exemplars(q, source, directory, shard.count > 1, [&](std::vector<Gathered>& gathered) {
    return look(source, q.classifier, q.device, q.asked, q.table, directory.file("checkpoint.safetensors"), gathered);
  });
  if (!whole) return std::nullopt;
  return directory;
}

std::string as_toml(const nlohmann::json& value) { return value.dump(); }

}  // namespace

int merge_exemplars(const std::vector<std::string>& shards, const CommonOptions& options) {
  // Pictures on sheets are read again, so network and images have to be here.
  const Question q(Recipe::load(shards.front() + "/config.toml"));
  const ImageSource source = image_source(q.table, q.classifier);
  const nlohmann::json manifest = nlohmann::json::parse(read_file(shards.front() + "/manifest.json"));
  bool same = q.config == read_file(shards.front() + "/config.toml") && manifest.at("inputs").size() == q.inputs.size();
  for (const nlohmann::json& input : manifest.at("inputs")) {
    const auto file = input.at("file").get<std::string>();
    same = same && std::find(q.inputs.begin(), q.inputs.end(), file) != q.inputs.end() &&
           input.at("sha256") == (fs::is_directory(file) ? sha256_of_folder(file) : sha256_of_file(file));
  }
  require(same, Failure::input, shards.front(), ": its network or its images have changed since; put back what it was made from");
  RunDirectory directory = RunDirectory::open(options.out, "exemplars", q.config, q.inputs);
  record_shard(directory, {});
  if (directory.done()) {
    say("merge: " + options.out + " holds this very run, finished; nothing to do");
    return answer_of(options, directory);
  }
  const bool whole = write_exemplars(q, source, directory, false, [&](std::vector<Gathered>& gathered) {
    int64_t seen = 0;
    for (const std::string& shard : shards) {
      std::vector<Gathered> more = nothing_gathered(q.asked, q.table);
      load_gathered(shard + "/" + shard_file, q.device, more);
      for (size_t i = 0; i < gathered.size(); ++i) {
        gathered[i].statistics.join(more[i].statistics);
        gathered[i].top.join(more[i].top);
        gathered[i].bottom.join(more[i].bottom);
      }
      seen += gathered.empty() ? 0 : more.front().statistics.count();
    }
    return seen;
  });
  return whole ? answer_of(options, directory) : 130;
}

bool exemplars_into(const std::vector<Override>& words, const std::string& out) { return gathered_run(words, {}, out).has_value(); }

Action exemplars_verb(CLI::App& command) {
  struct Options : CommonOptions, ExemplarsTable {
    std::string net, shard = "0/1";
    using CommonOptions::device, CommonOptions::seed, CommonOptions::threads;
  };
  auto options = std::make_shared<Options>();
  command.add_option("NET", options->net, "a network, or a classifier's weights")->required();
  command
      .add_option("DATA", options->data,
                  "a dataset (HDF5), or a folder of images (PNG, JPEG, GIF, BMP, TIFF, WebP), folders within included")
      ->required();
  auto flags = std::make_shared<Flags>(command, static_cast<ExemplarsFlags&>(*options));
  command.add_option("--shard", options->shard, "i/n: only the i-th (from 0) of n parts of the images; evoke merge joins the runs")
      ->capture_default_str();
  add_common(command, *options, Takes::writing);
  command.footer(
      "Writes exemplars.h5 (top and bottom images of every unit, mean, deviation, quantiles, histogram, sparseness), a contact sheet a\n"
      "layer, config.toml and manifest.json. One pass over the images, which goes on where it was interrupted; memory grows with the units "
      "and not with the images.");

  return [options, flags] {
    begin_verb(*options);
    // The recipe that the words stand for: defaults, environment, --set, then what was said outright.
    std::vector<Override> words{{"classifier.weights=" + as_toml(options->net), "NET"}};
    for (const std::vector<Override>& more : {overrides(*options, "exemplars"), flags->typed("exemplars")})
      words.insert(words.end(), more.begin(), more.end());
    words.emplace_back("exemplars.data=" + as_toml(options->data), "DATA");
    std::optional<RunDirectory> directory = gathered_run(words, shard_named(options->shard), options->out);
    return directory ? answer_of(*options, *directory) : 130;
  };
}

}  // namespace evoke
