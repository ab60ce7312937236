#include "experiments/judging/witness.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <set>

#include "classifiers/menu.h"
#include "classifiers/objectives.h"
#include "core/error.h"
#include "core/log.h"
#include "core/nouns/posterior.h"
#include "core/nouns/run.h"
#include "core/numbers/linear_algebra.h"
#include "core/recipes/recipe.h"
#include "core/records/pictures.h"
#include "core/storage/files.h"
#include "core/storage/safetensors.h"
#include "generators/pixel.h"
#include "samplers/ascent.h"
#include "training/datasets/dataset.h"
#include "training/datasets/folder.h"

namespace evoke {

namespace {

constexpr int64_t batch = 16;                // pictures that go through the witness together
constexpr int64_t neighbours = 5;            // k of the manifolds
constexpr double photographs_inside = 0.95;  // share that the stretched balls of the others hold
constexpr int64_t components = 64;           // of the features
constexpr int64_t most_photographs = 5000, least_photographs = 50, least_left_out = 10, most_left_out = 100;
constexpr size_t most_depths = 12;
constexpr double smallest_variance = 1e-6;  // beside which a channel's variance counts for nothing
constexpr int64_t ascent_classes = 10, ascent_steps = 64;
constexpr uint64_t anchor_seed = 0;

bool has_map(const Layer& layer) {
  if (layer.shape.size() != 3) return false;
  const auto [height, width] = places_of(layer);
  return height >= 2 && width >= 2;
}

Tensor at_target_size(const Tensor& bytes, const ImageSpec& image) {
  if (bytes.size(1) == image.height && bytes.size(2) == image.width) return bytes;
  std::vector<Tensor> out;
  for (const Tensor& one : bytes.unbind(0)) out.push_back(fit_image(one, image.height, image.width));
  return at::stack(out);
}

std::vector<std::string> taps_of(const Witness& witness) {
  std::set<std::string> taps{witness.network.layers.back().name};
  for (const Depth& depth : witness.depths) taps.insert(depth.layer);
  if (!witness.feature_layer.empty()) taps.insert(witness.feature_layer);
  return {taps.begin(), taps.end()};
}

Tensor channel_means(const Tensor& a, const Layer& layer) { return by_place(a, layout_of(layer)).mean(1).to(at::kFloat).cpu(); }

// What photographs look like at every depth: a pass over them, and distances of every two.
Tensors look_at_photographs(const Witness& witness, const RealImages& photographs, const Tensor& known, at::Device device) {
  std::map<std::string, std::vector<Tensor>> parts;
  Progress progress("judge: the witness looks at photographs", known.size(0), "photograph");
  for (int64_t first = 0; first < known.size(0); first += batch) {
    if (interrupted()) return {};
    each_batch(
        witness.network, photographs.read(known.slice(0, first, first + batch)), device, taps_of(witness), [&](const Activations& a) {
          for (const Depth& depth : witness.depths)
            if (!depth.means) parts[depth.layer].push_back(depth_features(a.at(depth.layer), layer_named(witness.network, depth.layer)));
          parts["features"].push_back(channel_means(a.at(witness.feature_layer), layer_named(witness.network, witness.feature_layer)));
        });
    progress.at(std::min(known.size(0), first + batch));
  }

  Tensors out;
  for (const Depth& depth : witness.depths) {
    const Tensor statistics = at::cat(parts.at(depth.layer));
    const auto [rows, mean, scale] = standardized(depth.means ? statistics.narrow(1, 0, statistics.size(1) / 4) : statistics);
    Tensor points = rows;
    if (depth.means) {
      const PrincipalComponents found = principal_components(rows, std::min({components, rows.size(0) - 1, rows.size(1)}));
      // What does not vary has no scale.
      const Tensor wide = found.variances.gt(1e-9 * found.variances.max()).nonzero().squeeze(1);
      const Tensor deviations = found.variances.index_select(0, wide).sqrt();
      out["components/" + depth.name()] =
          (found.directions.index_select(0, wide) / deviations.unsqueeze(1)).t().contiguous().to(at::kFloat);
      points = rows.mm(out["components/" + depth.name()]);
    }
    const Manifold manifold = manifold_of(points, neighbours);
    out["mean/" + depth.name()] = mean;
    out["scale/" + depth.name()] = scale;
    out["points/" + depth.name()] = manifold.points;
    out["radii/" + depth.name()] = manifold.radii;
    out["stretch/" + depth.name()] = at::quantile(nearness_left_out(manifold), photographs_inside).reshape({1});
  }
  const auto [features, mean, scale] = standardized(at::cat(parts.at("features")));
  out["feature_mean"] = mean;
  out["feature_scale"] = scale;
  out["photograph_features"] = features;
  const int64_t directions = std::min({components, features.size(0) - 1, features.size(1)});
  out["widest"] = principal_components(features, directions).directions.t().contiguous();
  return out;
}

// Ten units of the last layer, evenly over it.
std::vector<Unit> climbed_units(const Layer& last) {
  const int64_t all = units_of(last), rows = std::min(ascent_classes, all);
  std::vector<Unit> out;
  for (int64_t i = 0; i < rows; ++i) out.push_back({last.name, (2 * i + 1) * all / (2 * rows)});
  return out;
}

// Those units climbed in pixels, nothing else: what a network's certainty alone looks like. uint8 [10,H,W,C]; undefined: interrupted.
Tensor pixel_ascent(const Judges& judges, const std::vector<Unit>& units) {
  const Layer& last = judges.target.layers.back();
  const auto rows = static_cast<int64_t>(units.size());
  Recipe recipe = Recipe::parse("[transform]\nkind = \"lucid\"\n", ".");
  const Generator generator = pixel({}, judges.target.image);
  PosteriorOptions options;
  options.rows = at::arange(rows, at::kLong).to(judges.device);
  const Target target = posterior(
      generator, make_transform(recipe, ascent_steps).transform, judges.target,
      last.shape.size() == 1 ? log_softmax_objective(units, judges.target) : unit_objective(units, judges.target), std::nullopt, options);
  RunOptions run_options;
  run_options.steps = ascent_steps;
  run_options.seed = anchor_seed;
  run_options.chains = at::arange(rows, at::kLong).to(judges.device);
  run_options.stop = [] { return interrupted(); };
  Stream start(anchor_seed, run_options.chains, -1);
  Progress progress("judge: pixel ascent, as an anchor", ascent_steps, "step");
  const State state =
      run(ascent({}), target, generator.start(start), run_options, [&](int64_t step, const State&, const Info&) { progress.at(step + 1); });
  if (interrupted()) return {};
  const c10::NoGradGuard no_gradient;
  return to_bytes(generator.decode(state.z));
}

// The units of the last layer that classes [N] are; of -1, no class, the first.
std::vector<Column> columns_of_classes(const Classifier& target, const Tensor& classes) {
  std::vector<Column> out;
  for (int64_t i = 0; i < classes.size(0); ++i)
    out.push_back(column_of({target.layers.back().name, std::max<int64_t>(classes[i].item<int64_t>(), 0)}));
  return out;
}

}  // namespace

// ---- Features --------------------------------------------------------------------------------------------------------------------------

std::vector<std::string> depth_candidates(const std::vector<Layer>& layers, size_t most) {
  std::vector<std::string> maps, chosen;
  for (const Layer& layer : layers)
    if (has_map(layer)) maps.push_back(layer.name);
  const auto inside = [](const std::string& name, const std::string& outer) { return name.starts_with(outer + "."); };
  const std::vector<std::string> blocks = blocks_among(maps, layers);

  // Blocks no deeper in the tree than needed, without those that hold others of them.
  constexpr size_t enough = 6;
  int64_t deepest = 0;
  const auto depth_of = [](const std::string& name) { return std::count(name.begin(), name.end(), '.'); };
  for (const std::string& name : blocks) deepest = std::max<int64_t>(deepest, depth_of(name));
  for (int64_t level = 0; level <= deepest && chosen.size() < enough; ++level) {
    std::vector<std::string> here;
    for (const std::string& name : blocks)
      if (depth_of(name) <= level) here.push_back(name);
    chosen.clear();
    for (const std::string& name : here)
      if (std::none_of(here.begin(), here.end(), [&](const std::string& other) { return inside(other, name); })) chosen.push_back(name);
  }
  if (chosen.size() < enough) chosen = maps;
  if (chosen.size() <= most) return chosen;
  std::vector<std::string> out;
  for (size_t i = 0; i < most; ++i) out.push_back(chosen[(i * (chosen.size() - 1) + (most - 1) / 2) / (most - 1)]);
  return out;
}

Tensor depth_features(const Tensor& a, const Layer& layer) {
  const auto [height, width] = places_of(layer);
  const Tensor places = by_place(a, layout_of(layer)).to(at::kFloat);  // [N,P,C]
  const Tensor mean = places.mean(1, true), centred = places - mean;
  const Tensor variance = centred.square().mean(1);
  const Tensor map = centred.unflatten(1, {height, width});
  const auto agreement = [&](int64_t axis) {
    const int64_t last = map.size(axis) - 1;
    return (map.narrow(axis, 0, last) * map.narrow(axis, 1, last)).mean({1, 2}) / (variance + smallest_variance);
  };
  return at::cat({mean.squeeze(1), variance.sqrt(), agreement(2), agreement(1)}, 1).cpu();
}

Tensor phase_scrambled(const Tensor& images, Stream& stream) {
  const int64_t height = images.size(2), width = images.size(3);
  const Tensor noise = at::fft_rfft2(stream.uniform({1, height, width})), spectrum = at::fft_rfft2(images);
  return at::fft_irfft2(spectrum * (noise / noise.abs().clamp_min(1e-12)), at::IntArrayRef{height, width}).clamp(0, 1);
}

std::tuple<Tensor, Tensor, Tensor> standardized(const Tensor& rows) {
  const Tensor raw = rows.to(at::kDouble), mean = raw.mean(0), deviation = raw.std(0);
  const Tensor scale = at::where(deviation.gt(0), deviation.reciprocal(), at::zeros_like(deviation));
  return {((raw - mean) * scale).to(at::kFloat), mean.to(at::kFloat), scale.to(at::kFloat)};
}

Tensor evenly(const Tensor& rows, int64_t most) {
  if (rows.size(0) <= most) return rows;
  return rows.index_select(0,
                           (at::arange(most, at::kDouble) * (static_cast<double>(rows.size(0)) / static_cast<double>(most))).to(at::kLong));
}

void each_batch(const Classifier& network, const Tensor& images, at::Device device, const std::vector<std::string>& taps,
                const std::function<void(const Activations&)>& see) {
  const c10::NoGradGuard no_gradient;
  for (int64_t first = 0; first < images.size(0); first += batch)
    see(network.forward(fitted(from_bytes(images.slice(0, first, first + batch)).to(device), network.image), taps));
}

// ---- Witnesses -------------------------------------------------------------------------------------------------------------------------

Tensors remembered(const Witness& witness, const std::string& key, const std::function<Tensors()>& make) {
  if (witness.folder.empty()) return make();
  const std::string whole = text("3\n", key, "\n", witness.identity, "\n", witness.photographs_identity);
  const std::string file = text(witness.folder, "/", sha256(whole).substr(0, 24), ".safetensors");
  std::error_code trouble;
  if (std::filesystem::exists(file, trouble)) {
    SafeTensors kept = load_safetensors(file);
    if (const auto found = kept.metadata.find("key"); found != kept.metadata.end() && found->second == whole) return kept.tensors;
  }
  const Tensors made = make();
  if (made.empty()) return made;
  std::filesystem::create_directories(witness.folder, trouble);
  try {
    save_safetensors(file, {made, {{"key", whole}}});
  } catch (const Error& error) {
    warn_once(text("judge: what was found of the photographs cannot be kept (", error.what(), "), so it will be found again next time"));
  }
  return made;
}

void add_witness(Judges& judges, const WitnessOptions& options) {
  require(!options.witness.empty(), Failure::usage,
          "judge: photographs are looked at by a witness, a classifier that took no part; name its file with --witness");
  const auto witness = std::make_shared<Witness>();
  Recipe recipe =
      Recipe::parse("", ".", {Override("classifier.weights=\"" + std::filesystem::absolute(options.witness).string() + "\"", "--witness")});
  witness->network = make_classifier(recipe, judges.device);
  witness->identity = identity_of(witness->network, options.witness);
  const auto content = [](const std::string& identity) { return identity.substr(0, identity.find(' ')); };
  require(content(witness->identity) != content(judges.target_identity), Failure::usage, "judge: the witness ", options.witness,
          " is the target itself, which would judge itself; expected a network that took no part (--witness)");
  require(witness->network.image.channels == judges.target.image.channels, Failure::input, options.witness, ": found a witness of ",
          witness->network.image.channels, " channels, the target sees ", judges.target.image.channels);
  const auto labels_differ = [](const std::vector<std::string>& a, const std::vector<std::string>& b) {
    return !a.empty() && !b.empty() && a != b;
  };
  witness->same_classes = witness->network.layers.back().shape == judges.target.layers.back().shape &&
                          judges.target.layers.back().shape.size() == 1 && !labels_differ(witness->network.labels, judges.target.labels);
  if (!witness->same_classes) say("judge: the witness has other classes than the target, so whether it agrees is left out");
  std::string sentence = text("a network that took no part: ", witness->network.name, " (", content(witness->identity).substr(0, 12), ")");

  if (!options.photographs.empty()) {
    const Dataset data = open_dataset(options.photographs);
    const ImageSpec image = judges.target.image;
    require(data.height() >= image.height && data.width() >= image.width && data.channels() == image.channels, Failure::input,
            options.photographs, ": found photographs of ", data.height(), "×", data.width(), "×", data.channels(), ", the target sees ",
            image.height, "×", image.width, "×", image.channels, "; make them at least as large (evoke data folder … --size ",
            std::max(image.height, image.width), ")");
    const Tensor test = data.rows_of(Split::test);
    const Tensor known = evenly(data.split.ne(static_cast<int64_t>(Split::test)).nonzero().squeeze(1), most_photographs);
    require(known.size(0) >= least_photographs && test.size(0) >= least_left_out, Failure::input, options.photographs, ": found ",
            known.size(0), " photographs and ", test.size(0), " of the test split, expected at least ", least_photographs, " and ",
            least_left_out);
    const Tensor left_out = evenly(test, most_left_out);
    const auto reader = [images = data.images, image](const Tensor& rows) { return at_target_size(images.read(rows), image); };
    const RealImages all{data.labels.size(0), {}, reader};
    judges.real = {known.size(0) + left_out.size(0), {}, [reader, rows = at::cat({known, left_out})](const Tensor& wanted) {
                     return reader(rows.index_select(0, wanted));
                   }};
    witness->left_out = {
        left_out.size(0), {}, [reader, left_out](const Tensor& wanted) { return reader(left_out.index_select(0, wanted)); }};
    witness->folder = options.photographs + ".judged";
    judges.real_identity = sha256_of_file(options.photographs);
    witness->photographs_identity = text(judges.real_identity, " at ", image.height, "×", image.width);

    std::vector<std::string> layers = options.layers;
    if (layers.empty()) layers = depth_candidates(witness->network.layers, most_depths);
    require(!layers.empty(), Failure::usage, "judge: the witness ", options.witness,
            " has no layer with a map, expected a convolutional one");
    std::string key = "photographs";
    for (const std::string& layer : layers) {
      const Layer& found = layer_named(witness->network, layer, "judge --layers");
      require(has_map(found), Failure::usage, "judge: layer '", layer, "' of the witness is ", shape_text(found.shape),
              ", expected one with a map [C,H,W] (--layers)");
      for (const bool means : {false, true})
        witness->depths.push_back({.layer = layer, .means = means, .mean = {}, .scale = {}, .components = {}, .photographs = {}});
      key += "\n" + layer;
    }
    for (const Layer& layer : witness->network.layers)
      if (has_map(layer)) witness->feature_layer = layer.name;
    const Tensors found = remembered(*witness, key, [&] { return look_at_photographs(*witness, all, known, judges.device); });
    if (found.empty()) return;  // interrupted
    for (Depth& depth : witness->depths) {
      depth.mean = found.at("mean/" + depth.name());
      depth.scale = found.at("scale/" + depth.name());
      depth.photographs = {found.at("points/" + depth.name()), found.at("radii/" + depth.name())};
      if (depth.means) depth.components = found.at("components/" + depth.name());
      depth.stretch = found.at("stretch/" + depth.name()).item<double>();
    }
    witness->feature_mean = found.at("feature_mean");
    witness->feature_scale = found.at("feature_scale");
    witness->photograph_features = found.at("photograph_features");
    witness->widest = found.at("widest");
    sentence += text(", beside ", known.size(0), " photographs (", witness->photographs_identity.substr(0, 12),
                     ") by statistics and means at ", list_of(layers));
  }
  judges.witness = witness;
  judges.all.push_back(witness_judge(witness, judges.target, judges.device));
  judges.all.back().sentence = sentence;
}

Judge witness_judge(const std::shared_ptr<const Witness>& witness, const Classifier& target, at::Device device) {
  const auto look = [=](const Tensor& images, const std::vector<Column>& columns) {
    const std::string last = witness->network.layers.back().name;
    std::vector<Tensor> logits, features;
    std::vector<std::vector<Tensor>> path(witness->depths.size());
    each_batch(witness->network, images, device, taps_of(*witness), [&](const Activations& a) {
      logits.push_back(a.at(last).to(at::kDouble).cpu().flatten(1));
      Tensor statistics;  // of a layer, whose two kinds of features come one behind the other
      for (size_t i = 0; i < path.size(); ++i) {
        const Depth& depth = witness->depths[i];
        if (!depth.means) statistics = depth_features(a.at(depth.layer), layer_named(witness->network, depth.layer));
        Tensor own = (statistics.narrow(1, 0, depth.mean.size(0)) - depth.mean) * depth.scale;
        if (depth.means) own = own.mm(depth.components);
        path[i].push_back(nearness(depth.photographs, own) / depth.stretch);
      }
      if (!witness->feature_layer.empty())
        features.push_back(
            (channel_means(a.at(witness->feature_layer), layer_named(witness->network, witness->feature_layer)) - witness->feature_mean) *
            witness->feature_scale);
    });

    const int64_t rows = images.size(0);
    const Tensor all = at::cat(logits), log_probability = all.log_softmax(1);
    Tensor rank = at::full({rows}, -1, at::kLong), probability = at::full({rows}, std::numeric_limits<float>::quiet_NaN());
    for (int64_t row = 0; row < rows && witness->same_classes; ++row) {
      const int64_t wanted = class_of(target, columns[static_cast<size_t>(row)]);
      if (wanted < 0) continue;
      rank[row] = all[row].gt(all[row][wanted]).sum();
      probability[row] = log_probability[row][wanted].exp();
    }
    Tensors out{{"witness_class", all.argmax(1)}, {"witness_rank", rank}, {"witness_probability", probability}};
    if (path.empty()) return out;
    std::vector<Tensor> depths;
    for (const std::vector<Tensor>& parts : path) depths.push_back(at::cat(parts));
    out["path"] = at::stack(depths, 1).to(at::kFloat);
    out["spectrum"] = spectrum_slope(from_bytes(images));
    out["features"] = at::cat(features);
    return out;
  };
  return {"witness", "a network that took no part: " + witness->network.name, look};
}

std::vector<JudgedAnchor> photograph_anchors(const Judges& judges) {
  Witness& witness = *judges.witness;
  const ImageSpec& image = judges.target.image;
  const RealImages& left_out = witness.left_out;
  const auto photographs = [&](int64_t first, int64_t count) { return left_out.read(at::arange(first, first + count, at::kLong)); };
  std::vector<JudgedAnchor> out;
  // Findings are remembered; what pictures look like is not needed again.
  const auto add = [&](const std::string& name, const std::function<Pictures()>& pictures, std::vector<Column> units = {}) {
    const Tensors found = remembered(witness, text("anchor ", name, "\n", judges.target_identity, "\n", names_of(judges)), [&] {
      Judged judged = judge_pictures(judges, pictures());
      if (!judged.findings.empty()) judged.findings["small"] = judged.small;
      return judged.findings;
    });
    if (found.empty()) return false;
    if (units.empty()) units = columns_of_classes(judges.target, found.at("wanted"));
    Judged judged{std::move(units), found, found.at("small")};
    judged.findings.erase("small");
    out.push_back({name, std::move(judged)});
    return true;
  };
  // Photographs, and what is made of them, count as pictures of the class that the target reads in the photograph.
  std::vector<Column> columns;
  const auto read_classes = [&] {
    if (!columns.empty()) return columns;
    const std::vector<Column> any(static_cast<size_t>(left_out.count), column_of({judges.target.layers.back().name, 0}));
    columns = columns_of_classes(
        judges.target, target_judge(judges.target, {}, judges.device).look(photographs(0, left_out.count), any).at("target_class"));
    return columns;
  };
  const std::vector<Unit> climbed = climbed_units(judges.target.layers.back());
  std::vector<Column> climbed_columns;
  for (const Unit& unit : climbed) climbed_columns.push_back(column_of(unit));
  const auto scrambled = [&](int64_t first, int64_t count) {
    Stream stream = Stream::range(anchor_seed, first, count);
    return to_bytes(phase_scrambled(from_bytes(photographs(first, count)), stream));
  };
  const auto noise = [&](int64_t first, int64_t count) {
    Stream stream = Stream::range(anchor_seed, first, count);
    return to_bytes(stream.uniform({image.channels, image.height, image.width}));
  };
  const auto ascended = [&] {
    const Tensor images = pixel_ascent(judges, climbed);
    return images.defined() ? pictures_in(images, climbed_columns) : Pictures{};
  };
  const bool whole = add("photographs left out",
                         [&] {
                           return Pictures{read_classes(), photographs};
                         }) &&
                     add("phase-scrambled",
                         [&] {
                           return Pictures{read_classes(), scrambled};
                         }) &&
                     add("noise",
                         [&] {
                           return Pictures{read_classes(), noise};
                         }) &&
                     add("pixel ascent", ascended, climbed_columns);
  if (!whole) return {};

  for (size_t i = 0; i < witness.depths.size(); ++i) {
    const auto inside = [&](size_t anchor) {
      return out[anchor].judged.findings.at("path").select(1, static_cast<int64_t>(i)).le(1).to(at::kDouble).mean().item<double>();
    };
    Depth& depth = witness.depths[i];
    depth.left_out = inside(0), depth.scrambled = inside(1), depth.noise = inside(2), depth.ascent = inside(3);
    depth.used = depth.left_out >= 0.90 && depth.scrambled <= 0.10 && depth.noise <= 0.10;
  }
  return out;
}

}  // namespace evoke
