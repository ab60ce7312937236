// evoke judge: score a run's images by the truth.
#include "experiments/judge.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <memory>

#include "classifiers/menu.h"
#include "classifiers/networks.h"
#include "classifiers/objectives.h"
#include "core/error.h"
#include "core/log.h"
#include "core/records/pictures.h"
#include "core/records/run_directory.h"
#include "core/storage/files.h"
#include "core/storage/safetensors.h"
#include "experiments/report/report.h"
#include "experiments/sample.h"
#include "experiments/verbs.h"
#include "generators/decoder.h"

namespace evoke {

namespace {

constexpr double nothing = std::numeric_limits<double>::quiet_NaN();

// Does the shapes dataset hold what the target was trained on, as far as one can see?
bool sees_shapes(const Classifier& target) {
  const ImageSpec& image = target.image;
  return image.channels == 3 && image.height == 48 && image.width == 48 && target.layers.back().shape == std::vector<int64_t>{60};
}

// ---- Shards ----------------------------------------------------------------------------------------------------------------------------

struct Part {
  int64_t first = 0, end = 0;
};
Part part_of(int64_t rows, const Shard& shard) { return {rows * shard.index / shard.count, rows * (shard.index + 1) / shard.count}; }

std::string part_file(const std::string& run, const Shard& shard) {
  return text(run, "/judge.", shard.index, ".", shard.count, ".safetensors");
}

// What identifies a part's findings: who judged, and which pictures.
std::string part_key(const std::string& run, const std::string& judges, const Part& part) {
  return text(judges, "\n", sha256_of_file(run + "/config.toml"), " ", part.first, " ", part.end);
}

// The findings of all parts of a run, by these judges, where every one of them is there.
Tensors joined_parts(const std::string& run, const std::string& judges, int64_t rows) {
  std::map<int64_t, std::vector<Shard>> by_count;
  for (const auto& entry : std::filesystem::directory_iterator(run)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with("judge.") || !name.ends_with(".safetensors")) continue;
    std::string middle = name.substr(6, name.size() - 6 - std::string(".safetensors").size());
    std::replace(middle.begin(), middle.end(), '.', '/');
    const Shard shard = shard_named(middle);
    by_count[shard.count].push_back(shard);
  }
  for (auto& [count, shards] : by_count) {
    if (static_cast<int64_t>(shards.size()) != count) continue;
    std::sort(shards.begin(), shards.end(), [](const Shard& a, const Shard& b) { return a.index < b.index; });
    std::vector<Tensors> parts;
    for (const Shard& shard : shards) {
      const SafeTensors held = load_safetensors(part_file(run, shard));
      const auto key = held.metadata.find("key");
      if (key != held.metadata.end() && key->second == part_key(run, judges, part_of(rows, shard))) parts.push_back(held.tensors);
    }
    if (static_cast<int64_t>(parts.size()) == count) return joined(parts);
  }
  return {};
}

// A shard's own part: judged, and kept.
int judge_part(const JudgeOptions& options, const Judges& judges, const Pictures& pictures, const Shard& shard) {
  const Part part = part_of(pictures.count(), shard);
  const std::string file = part_file(options.run, shard);
  const Lock lock = claim_file(file);
  const Judged judged = judge_pictures(judges, pictures, part.first, part.end - part.first);
  if (judged.findings.empty()) return 130;
  save_safetensors(file, {judged.findings, {{"key", part_key(options.run, names_of(judges), part)}}});
  answer(options,
         text("judged pictures ", part.first, " to ", part.end - 1, " of ", pictures.count(), "; once every part is judged, evoke judge ",
              options.run, " says the table"),
         {{"run", options.run}, {"first", part.first}, {"end", part.end}, {"findings", file}});
  return 0;
}

// ---- The table -------------------------------------------------------------------------------------------------------------------------

int say_figures(const JudgeOptions& options, const Judges& judges, const Judged& judged) {
  // The whole run between its anchors, and the units one by one where they are asked for. The anchors come first: they say which depths of
  // a witness are used.
  const std::vector<JudgedAnchor> between = judged_anchors(judges, judged.columns, 0);
  if (between.empty()) return 130;
  std::vector<TableRow> table{{"all", figures_of(judges, judged), nothing, -1}};
  for (const JudgedAnchor& anchor : between) table.push_back({anchor.name, figures_of(judges, anchor.judged), nothing, -1});
  std::string lines = depths_markdown(judges, table);
  nlohmann::json depths = nlohmann::json::object();
  if (judges.witness && !judges.witness->depths.empty()) depths["depths"] = depths_json(judges);
  if (judges.target_path) depths["target_depths"] = target_depths_json(judges);
  if (judges.target_path && can_tell(*judges.target_path)) {
    constexpr size_t most_names = 20;
    std::vector<std::string> names;
    depths["off_path"] = nlohmann::json::array();
    for (const Column& column : off_path(*judges.target_path, judged)) {
      depths["off_path"].push_back(column.name);
      names.push_back(names.size() < most_names ? caption_of(column, judges.target) : "…");
    }
    names.resize(std::min(names.size(), most_names + 1));
    const std::string left_out = with_interval(judges.target_path->left_out, 3);
    lines += names.empty()
                 ? text("\nNo unit's pictures take the path of the real images that excite it significantly less often than 0.9; real ",
                        "images that were left out do in ", left_out, ".\n")
                 : text("\nSignificantly fewer than 0.9 of the pictures of ", list_of(names), " take the path of the real images ",
                        "that excite the unit (of real images left out ", left_out, "): they show something else than these.\n");
  }
  // A run keeps its judgement, and its page shows it.
  if (std::filesystem::exists(options.run + "/config.toml")) {
    nlohmann::json kept = depths;
    kept["judges"] = names_of(judges), kept["table"] = table_json(judges, table);
    write_file(options.run + "/judgement.json", kept.dump(2) + "\n");
    if (!options.no_report) report_run(options.run);
  }
  if (options.units) {
    std::map<std::string, std::vector<int64_t>> rows;
    std::vector<const Column*> kinds;
    for (int64_t row = 0; row < static_cast<int64_t>(judged.columns.size()); ++row) {
      const Column& column = judged.columns[static_cast<size_t>(row)];
      std::vector<int64_t>& of = rows[column.name];
      if (of.empty()) kinds.push_back(&column);
      of.push_back(row);
    }
    for (const Column* column : kinds)
      table.push_back(
          {caption_of(*column, judges.target), figures_of(judges, judged, at::tensor(rows.at(column->name), at::kLong)), nothing, -1});
  }
  lines = table_markdown(judges, table, "pictures of") + (lines.empty() ? "" : "\n" + lines);
  lines.pop_back();
  nlohmann::json said{{"run", options.run}, {"table", table_json(judges, table)}};
  said.update(depths);
  answer(options, lines, said);
  return 0;
}

// ---- Folders of images -----------------------------------------------------------------------------------------------------------------

// Images that somebody else made: FOLDER/UNIT/*.png, or FOLDER/*.png all of one unit, which has to be named.
Pictures pictures_of_folder(const std::string& folder, const std::string& unit, const Classifier& target) {
  namespace fs = std::filesystem;
  std::vector<std::pair<std::string, std::string>> files;  // file, unit
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    if (entry.is_regular_file() && is_image(entry.path().string())) {
      const std::string inside = fs::relative(entry.path().parent_path(), folder).string();
      require(
          !unit.empty() || inside != ".", Failure::usage, "judge: ", entry.path().string(),
          " is of no unit; put the images of each unit into a folder of its name (logits:9, or a label), or name one for all with --unit");
      files.emplace_back(entry.path().string(), unit.empty() ? inside : unit);
    }
  require(!files.empty(), Failure::input, "judge: found neither results.h5 nor an image in ", folder,
          ", expected a run directory, or a folder of images");
  std::sort(files.begin(), files.end());
  std::map<std::string, Column> of_word;
  std::vector<Column> columns;
  for (const auto& [file, word] : files) {
    if (!of_word.contains(word)) {
      const std::vector<Unit> units = parse_units({word}, target);
      require(units.size() == 1, Failure::usage, "judge: '", word, "' names ", units.size(), " units, expected one");
      of_word.emplace(word, column_of(units[0]));
    }
    columns.push_back(of_word.at(word));
  }
  return {columns, [files, image = target.image](int64_t first, int64_t count) {
            std::vector<Tensor> out;
            for (int64_t row = first; row < first + count; ++row)
              out.push_back(
                  to_bytes(fitted(from_bytes(load_image(files[static_cast<size_t>(row)].first, image.channels).unsqueeze(0)), image)));
            return at::cat(out);
          }};
}

int judge_folder(const JudgeOptions& options) {
  require(!options.network.empty(), Failure::usage, "judge: ", options.run,
          " is no run of evoke; for a folder of images name the network that they were made for with --network");
  require(options.shard == "0/1", Failure::usage, "judge: a folder of images is judged whole; --shard is for runs");
  const at::Device device = device_named(device_of(options));
  std::vector<Override> more{"classifier.weights=" + nlohmann::json(std::filesystem::absolute(options.network).string()).dump()};
  for (const Override& one : set_overrides(options)) more.push_back(one);
  Recipe recipe = Recipe::parse("", "", more);
  const Classifier target = make_classifier(recipe, device);
  recipe.refuse_unread();
  const Pictures pictures = pictures_of_folder(options.run, options.unit, target);
  const Judges judges = make_judges(target, classifier_file(recipe), {}, options.files, device);
  say(text("judge: ", pictures.count(), " pictures"));
  const Judged judged = judge_pictures(judges, pictures);
  if (judged.findings.empty()) return 130;
  return say_figures(options, judges, judged);
}

// ---- Decoders --------------------------------------------------------------------------------------------------------------------------

// A decoder with an encoder, judged by what it makes of the test split: each image coded, decoded, and read by those who know its class.
int judge_decoder(const JudgeOptions& options) {
  require(!options.files.data.empty(), Failure::usage,
          "judge: a decoder is judged by its reconstructions of real images; name them with --data");
  require(options.files.witness.empty() && options.files.photographs.empty(), Failure::usage,
          "judge: a decoder is judged by oracles; a witness judges runs (--witness, --photographs)");
  const Decoder decoder = load_decoder(options.run);
  const at::Device device = device_named(device_of(options));
  const std::optional<Encoder> encoder = as_encoder(decoder, device);
  require(encoder.has_value(), Failure::usage, "judge: ", options.run,
          " has no encoder, so it cannot reconstruct; judge a run of its draws instead");
  JudgeFiles files = options.files;
  if (files.oracles.empty()) files.oracles = shipped_oracles();
  files.no_target_path = true;  // a decoder's images are made for no unit
  Classifier reader = load_classifier(files.oracles.front(), device);
  const DecoderOptions& size = decoder.options;
  require(size.channels == reader.image.channels && size.height == reader.image.height && size.width == reader.image.width, Failure::usage,
          "judge: ", options.run, " decodes images of ", size.height, "×", size.width, "×", size.channels, ", the oracle ",
          files.oracles.front(), " sees ", reader.image.height, "×", reader.image.width, "×", reader.image.channels,
          "; name one of such images (--oracle)");
  const Judges judges = make_judges(std::move(reader), files.oracles.front(), {}, files, device);
  const Generator generator = as_generator(decoder, device);

  // Reconstructed as they are asked for; squared errors are added up on the way.
  const c10::NoGradGuard no_gradient;
  std::vector<Column> columns;
  for (int64_t row = 0; row < judges.real.count; ++row)
    columns.push_back(column_of({judges.target.layers.back().name, judges.real.labels[row].item<int64_t>()}));
  double error = 0;
  const Pictures made{columns, [&](int64_t first, int64_t count) {
                        const c10::NoGradGuard quiet;
                        std::vector<Tensor> out;
                        constexpr int64_t batch = 64;
                        for (int64_t begin = first; begin < first + count; begin += batch) {
                          const Tensor rows = at::arange(begin, std::min(first + count, begin + batch), at::kLong);
                          const Tensor x = from_bytes(judges.real.read(rows)).to(device), again = generator.decode(encoder->encode(x));
                          error += (again - x).square().mean({1, 2, 3}).sum().item<double>();
                          out.push_back(to_bytes(again));
                        }
                        return at::cat(out);
                      }};
  const Judged judged = judge_pictures(judges, made);
  if (judged.findings.empty()) return 130;
  error /= static_cast<double>(made.count());
  const Figures figures = figures_of(judges, judged);
  std::string shares;
  for (size_t i = 0; i < judges.oracles.size(); ++i) shares += text(", ", judges.oracles[i], " ", with_interval(figures.oracles[i], 3));
  answer(
      options,
      text("reconstructions of ", made.count(), " test images by ", decoder.kind, " with codes ", shape_text(generator.latent),
           ": squared error ", decimals(error, 5), shares, ", render ", with_interval(figures.render, 3)),
      {{"decoder", options.run}, {"squared_error", error}, {"figures", table_json(judges, {{"reconstructions", figures, nothing, -1}})}});
  return 0;
}

}  // namespace

Objective own_objective(Recipe& recipe, const Classifier& target) { return make_objective(recipe, target, {}, /*penalties=*/false); }

void describe(Fields& f, JudgeFiles& o) {
  f.path("data", o.data, "dataset of real images [default: the recipe's]");
  f("oracle", o.oracles, "weights of a classifier that took no part; repeatable [default: the shipped oracles]");
  f.path("witness", o.witness, "a classifier of any kind that took no part, never the target: does it agree?");
  f.path("photographs", o.photographs,
         "dataset of photographs (evoke data folder) in place of --data: does the witness see, depth by depth, what it sees of these?");
  f("layers", o.layers, "a layer of the witness to try; repeatable [default: up to twelve, evenly]");
  f("no_target_path", o.no_target_path, "leave out the path through the target itself, which takes a pass over up to 3,600 real images");
}

void repeatable_judges(CLI::App& command) {
  for (const char* flag : {"--oracle", "--layers"}) command.get_option(flag)->type_size(1)->allow_extra_args(false);
}

std::vector<std::string> shipped_oracles() {
  return {share_folder() + "/weights/oracle.safetensors", share_folder() + "/weights/oracle_recurrent.safetensors"};
}

Judges make_judges(Classifier target, const std::string& target_file, Objective own, const JudgeFiles& files, at::Device device) {
  Judges judges;
  judges.device = device;
  judges.target = std::move(target);
  judges.target_identity = identity_of(judges.target, target_file);
  judges.own = std::move(own);
  judges.all.push_back(target_judge(judges.target, judges.own, device));
  judges.all.back().sentence += text(" (", judges.target_identity.substr(0, 12), ")");

  const bool shapes = sees_shapes(judges.target);
  std::vector<std::string> oracles = files.oracles;
  if (oracles.empty() && shapes) oracles = shipped_oracles();
  for (size_t i = 0; i < oracles.size(); ++i) {
    const Classifier oracle = load_classifier(oracles[i], device);
    const std::vector<int64_t>&theirs = oracle.layers.back().shape, &ours = judges.target.layers.back().shape;
    require(theirs == ours, Failure::input, oracles[i], ": found an oracle of ", shape_text(theirs), " classes, the target has ",
            shape_text(ours), "; expected one trained on the same classes (--oracle)");
    judges.oracles.push_back(i == 0 ? "oracle" : text("oracle", i + 1));
    judges.all.push_back(oracle_judge(judges.oracles.back(), oracle, device));
    judges.all.back().sentence +=
        " (" + std::filesystem::path(oracles[i]).filename().string() + " " + sha256_of_file(oracles[i]).substr(0, 12) + ")";
  }
  if (shapes)
    judges.all.push_back(render_judge(render_templates(device)));
  else
    say("judge: the target is not one of the shapes dataset, so the render judge and the shipped oracles are left out");

  if (!files.witness.empty() || !files.photographs.empty())
    add_witness(judges, {.witness = files.witness, .photographs = files.photographs, .layers = files.layers});
  SplitImages real;
  if (files.photographs.empty()) {
    if (files.data.empty())
      warn_once("judge: no dataset is named, so percentiles and real images are left out (--data shapes.h5)");
    else
      real = images_of_dataset(files.data, judges.target.image), judges.real = real.test, judges.real_identity = sha256_of_file(files.data);
  } else if (judges.witness) {
    // Those left out are the last ones of the photographs that are known.
    real.test = judges.witness->left_out, real.others = judges.real;
    real.others.count -= real.test.count;
  }
  if (!files.no_target_path) add_target_path(judges, real.others, real.test);
  return judges;
}

std::vector<JudgedAnchor> judged_anchors(const Judges& judges, const std::vector<Column>& columns, uint64_t seed) {
  if (judges.target_path) try_depths(judges, columns);
  if (judges.witness && !judges.witness->depths.empty()) return photograph_anchors(judges);
  std::vector<JudgedAnchor> out;
  for (const Anchor& anchor : anchors(judges, columns, seed)) {
    out.push_back({anchor.name, judge_pictures(judges, anchor.pictures)});
    if (out.back().judged.findings.empty()) return {};
  }
  return out;
}

int judge(const JudgeOptions& options) {
  set_threads(threads_of(options));
  if (options.run.ends_with(".safetensors")) return judge_decoder(options);
  if (std::filesystem::is_directory(options.run) && !std::filesystem::exists(options.run + "/config.toml")) return judge_folder(options);
  const at::Device device = device_named(device_of(options));
  const Shard shard = shard_named(options.shard);
  // Shards of one run are judged beside one another, and each has its own file.
  const Lock lock = shard.count > 1 ? Lock() : claim_folder(options.run);
  const Pictures pictures = pictures_of_run(options.run);
  check_run_file(options.run, "config.toml");
  Recipe recipe = Recipe::load(options.run + "/config.toml", set_overrides(options));
  const Classifier target = make_classifier(recipe, device);
  Objective own;
  if (std::any_of(pictures.columns.begin(), pictures.columns.end(), [](const Column& column) { return !column.unit; }))
    own = own_objective(recipe, target);
  JudgeFiles files = options.files;
  if (files.data.empty() && files.photographs.empty()) files.data = recipe.read<DataTable>("data").file;
  const Judges judges = make_judges(target, classifier_file(recipe), own, files, device);
  if (interrupted()) return 130;

  if (shard.count > 1) return judge_part(options, judges, pictures, shard);
  say(text("judge: ", pictures.count(), " pictures"));
  const double begun = seconds();
  Judged judged{pictures.columns, joined_parts(options.run, names_of(judges), pictures.count()), {}};
  if (judged.findings.empty())
    judged = judge_pictures(judges, pictures);
  else
    judged.small = small_pictures(pictures);
  if (judged.findings.empty()) return 130;
  store_findings(options.run, names_of(judges), judged.findings);
  detail(text("judged ", pictures.count(), " pictures in ", decimals(seconds() - begun, 1), " s by: ", names_of(judges)));

  return say_figures(options, judges, judged);
}

Action judge_verb(CLI::App& command) {
  auto options = std::make_shared<JudgeOptions>();
  command
      .add_option("RUN", options->run,
                  "run directory that evoke sample wrote; a folder of images (UNIT/*.png) that another program made; or the weights of an "
                  "autoencoder "
                  "or vae, judged by its reconstructions")
      ->required();
  Flags(command, options->files);
  repeatable_judges(command);
  command.add_flag("--units", options->units, "a row for each unit, too");
  command.add_option("--network", options->network, "that a folder of images was made for")->type_name("FILE");
  command.add_option("--unit", options->unit, "of all images of a folder, where they do not lie in folders named after units");
  add_no_report(command, options->no_report);
  command
      .add_option("--shard", options->shard,
                  "i/n: only the i-th (from 0) of n parts of the pictures; evoke judge without --shard joins what all parts found")
      ->capture_default_str();
  add_common(command, *options, Takes::computing);
  return [options] {
    begin_verb(*options);
    return judge(*options);
  };
}

}  // namespace evoke
