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
#include "experiments/exemplars.h"
#include "experiments/options.h"
#include "experiments/verbs.h"

namespace evoke {

namespace fs = std::filesystem;

namespace {

int answer_of(const CommonOptions& options, RunDirectory& directory) {
  const nlohmann::json& manifest = directory.manifest();
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

int exemplars(const std::vector<Override>& words, const std::string& out, const CommonOptions& options) {
  // Everything that can be refused is refused before anything is written.
  Recipe recipe = Recipe::parse("", fs::current_path().string(), words, "exemplars");
  const auto table = recipe.read<ExemplarsTable>("exemplars");
  set_threads(table.threads);
  const at::Device device = device_named(table.device);
  require(!table.data.empty() && fs::exists(table.data), Failure::input, "exemplars: found no file or folder '", table.data,
          "', expected a dataset or a folder of images");
  const Classifier classifier = make_classifier(recipe, device);
  recipe.refuse_unread();
  std::optional<Results> beside;
  if (!table.beside.empty()) {
    beside = load_results(table.beside);
    require(beside->images.size(3) == classifier.image.channels, Failure::input, "--beside ", table.beside, ": found pictures of ",
            beside->images.size(3), " channels, classifier ", classifier.name, " expects ", classifier.image.channels);
  }
  const std::vector<Asked> asked = asked_of(table, classifier, beside);
  const ImageSource source = image_source(table, classifier);

  std::vector<std::string> inputs{classifier_file(recipe), table.data};
  if (beside) inputs.push_back(table.beside + "/results.h5");
  RunDirectory directory = RunDirectory::open(out, "exemplars", recipe.resolved(), inputs);
  if (directory.done()) {
    say("exemplars: " + out + " holds this very run, finished; nothing to do");
    return answer_of(options, directory);
  }
  const std::string checkpoint = directory.file("checkpoint.safetensors");
  std::vector<std::string> sheets;
  const auto stopped = [&] {
    for (const std::string& sheet : sheets) std::remove(directory.file(sheet).c_str());
    directory.finish("interrupted");
    say("exemplars: interrupted and saved; the same command goes on from here");
    return 130;
  };
  try {
    directory.manifest()["seed"] = table.seed;
    directory.manifest()["device"] = device.str();
    directory.manifest()["threads"] = at::get_num_threads();
    directory.save_manifest();

    std::vector<Gathered> gathered;
    for (const Asked& one : asked) {
      const int64_t units = units_of(one.layer);
      gathered.push_back(
          {UnitStatistics(units), Extremes(units, table.keep, Extremes::End::most), Extremes(units, table.keep, Extremes::End::least)});
    }
    const int64_t seen = look(source, classifier, device, asked, table, checkpoint, gathered);
    if (interrupted()) return stopped();
    require(seen > 0, Failure::input, table.data, ": found no image that can be read, expected some");
    if (seen < table.keep) say(text("exemplars: there are ", seen, " images, fewer than --keep ", table.keep, "; all of them are kept"));
    if (table.keep > sheet_columns)
      say(text("exemplars: the sheets show ", sheet_columns, " images at either end, exemplars.h5 all ", table.keep));

    Tensor beside_values;
    if (beside) beside_values = values_beside(*beside, classifier, device, asked, table);
    std::set<std::string> taken;
    for (size_t i = 0; i < asked.size(); ++i) {
      const std::string what = layout_of(asked[i].layer) == Layout::dense ? "values"
                               : table.of == "max"                        ? "maxima over places"
                               : table.of == "mean"                       ? "means over places"
                                                                          : "values at the usual place";
      const std::string title = text(asked[i].layer.name, ": ", what, ", ", seen, " images of ", fs::path(table.data).filename().string());
      const Tensor sheet = exemplars_sheet(asked[i], gathered[i], source, classifier, beside, beside_values, title);
      if (interrupted()) return stopped();
      sheets.push_back(sheet_name(asked[i].layer.name, taken));
      save_png(directory.file(sheets.back()), sheet);
    }
    save_exemplars(directory.file("exemplars.h5"), table, seen, source, asked, gathered, beside, beside_values);
    directory.manifest()["images_seen"] = seen;
    directory.manifest()["sheets"] = sheets;
    directory.manifest()["units"] = units_json(asked, gathered, source, classifier);
    directory.finish("done");
    return answer_of(options, directory);
  } catch (...) {
    for (const std::string& sheet : sheets) std::remove(directory.file(sheet).c_str());
    directory.finish("failed");
    throw;
  }
}

std::string as_toml(const nlohmann::json& value) { return value.dump(); }

}  // namespace

Action exemplars_verb(CLI::App& command) {
  struct Options : CommonOptions, ExemplarsTable {
    std::string net;
    using CommonOptions::device, CommonOptions::seed, CommonOptions::threads;
  };
  auto options = std::make_shared<Options>();
  command.add_option("NET", options->net, "a network, or a classifier's weights")->required();
  command
      .add_option("DATA", options->data,
                  "a dataset (HDF5), or a folder of images (PNG, JPEG, GIF, BMP, TIFF, WebP), folders within included")
      ->required();
  auto flags = std::make_shared<Flags>(command, static_cast<ExemplarsFlags&>(*options));
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
    return exemplars(words, options->out, *options);
  };
}

}  // namespace evoke
