#include "classifiers/menu.h"

#include <ATen/ATen.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <tuple>

#include "classifiers/literature.h"
#include "classifiers/networks.h"
#include "classifiers/transforms.h"
#include "core/error.h"
#include "core/programs/program.h"
#include "core/records/pictures.h"
#include "core/storage/safetensors.h"

namespace evoke {

namespace {

// Options.

struct ClassifierChoice {
  std::string weights, architecture = "file", memory = "channels_last";
  int64_t classes = 0;
};
void describe(Fields& f, ClassifierChoice& o) {
  f.path("weights", o.weights, "a network: exported (.pt2), TorchScript, or a classifier that evoke train wrote (safetensors)");
  std::vector<std::string> architectures = literature_kinds();
  architectures.insert(architectures.begin(), "file");
  f.choice("architecture", o.architecture, "of weights that are a state dict from Python; file: as the file itself says", architectures);
  f("classes", o.classes, "classes", "of a state dict; 0: as customary", Range{0, 1e6});
  f.choice("memory", o.memory, "how a .pt2's or TorchScript's tensors lie: faster, or as in Python to the last bit",
           {"channels_last", "as_exported"});
}

// What every objective takes.
struct Additions {
  bool negative = false;
  double weight = 1.0;
  std::vector<std::string> penalties;
};
void describe(Fields& f, Additions& o) {
  f("negative", o.negative, "seek what the units like least");
  f("weight", o.weight, "", "how much it counts beside its penalties, or as one of them", non_negative);
  f("penalties", o.penalties,
    "added to each column: total_variation:w, l2:w, l1:w (pushing down), diversity@layer:w (a unit's pictures apart; of no layer: a "
    "deep one with places); or tables, "
    "[[objective.penalty]], each an objective of its own with its weight");
}

void describe_units(Fields& f, std::vector<std::string>& units) {
  f("units", units, "layer:unit, layer:0-31, layer:*, layer:unit@y,x of a map, layer:unit@t of tokens, a label, @file");
}
void describe_of(Fields& f, std::string& of) { f.choice("of", of, "what a unit's score is", {"unit", "channel", "logit", "log_softmax"}); }

struct UnitOptions {
  std::vector<std::string> units;
  Additions more;
};
void describe(Fields& f, UnitOptions& o) {
  describe_units(f, o.units);
  describe(f, o.more);
}

struct LogSoftmaxOptions {
  std::vector<std::string> units;
  bool as_released = false;
  Additions more;
};
void describe(Fields& f, LogSoftmaxOptions& o) {
  describe_units(f, o.units);
  f("as_released", o.as_released, "only the slope (1 - p) at the unit itself, as in the code released with Nguyen 2017");
  describe(f, o.more);
}

struct LayerOptions {
  std::string layer = "conv3";
  Additions more;
};
void describe(Fields& f, LayerOptions& o) {
  f("layer", o.layer, "layer of the classifier");
  describe(f, o.more);
}

struct DirectionOptions {
  std::string layer = "conv3", file;
  std::vector<double> direction;
  double power = 2.0;
  Additions more;
};
void describe(Fields& f, DirectionOptions& o) {
  f("layer", o.layer, "layer of the classifier");
  f("direction", o.direction, "", "a number for each channel of the layer");
  f.path("file", o.file, "safetensors file with one tensor [U,C] or [C], instead of direction");
  f("power", o.power, "", "exponent of max(0.1, cosine)", non_negative);
  describe(f, o.more);
}

struct CombinedOptions {
  std::vector<std::string> units;
  std::vector<double> weights;
  std::string of = "unit";
  Additions more;
};
void describe(Fields& f, CombinedOptions& o) {
  describe_units(f, o.units);
  f("weights", o.weights, "", "a factor for each unit");
  describe_of(f, o.of);
  describe(f, o.more);
}

struct InterpolationOptions {
  std::vector<std::string> units;
  std::string of = "unit";
  Additions more;
};
void describe(Fields& f, InterpolationOptions& o) {
  describe_units(f, o.units);
  describe_of(f, o.of);
  describe(f, o.more);
}

struct ImageTargetOptions {
  std::string layer = "conv3", image;
  Additions more;
};
void describe(Fields& f, ImageTargetOptions& o) {
  f("layer", o.layer, "layer of the classifier");
  f.path("image", o.image, "the image whose activations are sought: any image file, or safetensors with 'image' [C,H,W] in [0,1]");
  describe(f, o.more);
}

struct CaricatureOptions : ImageTargetOptions {
  double power = 2.0;
};
void describe(Fields& f, CaricatureOptions& o) {
  f("power", o.power, "", "exponent of max(0.1, cosine)", non_negative);
  describe(f, static_cast<ImageTargetOptions&>(o));
}

struct VariationOptions {
  std::string of = "sum";
  Additions more;
};
void describe(Fields& f, VariationOptions& o) {
  f.choice("of", o.of, "of the differences to the next column and row: sum, |dx| + |dy|, or length, √(dx² + dy²)", {"sum", "length"});
  describe(f, o.more);
}

struct BlurOptions {
  double deviation = 1.0;
  Additions more;
};
void describe(Fields& f, BlurOptions& o) {
  f("deviation", o.deviation, "pixels", "standard deviation of the Gaussian blur that the image should resemble", {0.05, 64.0});
  describe(f, o.more);
}

struct BilateralOptions {
  double deviation = 1.5, colour = 0.1;
  Additions more;
};
void describe(Fields& f, BilateralOptions& o) {
  f("deviation", o.deviation, "pixels", "standard deviation of the Gaussian in the plane", {0.05, 16.0});
  f("colour", o.colour, "", "standard deviation of the Gaussian of colours: edges between colours further apart cost nothing", positive);
  describe(f, o.more);
}

struct CentreOptions {
  double radius = 0.5, ground = 0.5;
  Additions more;
};
void describe(Fields& f, CentreOptions& o) {
  f("radius", o.radius, "halves of the longer side", "how far from the middle things are let be", {0.01, 10.0});
  f("ground", o.ground, "", "the value that costs nothing", share);
  describe(f, o.more);
}

struct PatchOptions {
  std::string file, of = "gaussian";
  double noise = 0.05;
  int64_t stride = 4;
  Additions more;
};
void describe(Fields& f, PatchOptions& o) {
  f.path("file", o.file, "what evoke data patches measured of a dataset");
  f.choice("of", o.of,
           "log-likelihood of all patches under the Gaussian of the dataset's, or squared distance to the nearest of those kept",
           {"gaussian", "nearest"});
  f("noise", o.noise, "", "gaussian: deviation of white noise that is added to its covariance", {0.0, 10.0});
  f("stride", o.stride, "pixels", "nearest: between two patches that are looked at", {1, 1024});
  describe(f, o.more);
}

struct GroundOptions {
  double ground = 0.0;
  Additions more;
};
void describe(Fields& f, GroundOptions& o) {
  f("ground", o.ground, "", "the value that costs nothing", share);
  describe(f, o.more);
}

struct NoOptions {};
void describe(Fields&, NoOptions&) {}

// What every transform takes.
void describe_views(Fields& f, int64_t& views) {
  f("views", views, "images", "draws of the transform at each step, seen all at once; what is climbed is the mean of their scores",
    {1, 4096});
}

struct ViewsOptions {
  int64_t views = 1;
};
void describe(Fields& f, ViewsOptions& o) { describe_views(f, o.views); }

struct CropsOptions {
  double crop_low = 0.7, crop_high = 1.0, end_low = 0.0, end_high = 0.0, noise = 0.0;
  bool flip = true;
  int64_t views = 1;
};
void describe(Fields& f, CropsOptions& o) {
  constexpr Range part{0.001, 1.0};
  f("crop_low", o.crop_low, "share of the side", "least side of the window that is cut out and blown up", part);
  f("crop_high", o.crop_high, "share of the side", "greatest side of the window", part);
  f("end_low", o.end_low, "share of the side", "least side at the run's last step, reached evenly from crop_low; 0: crop_low throughout",
    share);
  f("end_high", o.end_high, "share of the side", "greatest side at the run's last step; 0: crop_high throughout", share);
  f("flip", o.flip, "mirror left and right with even chances");
  f("noise", o.noise, "", "standard deviation of Gaussian noise on each pixel", Range{0, 10});
  describe_views(f, o.views);
}

struct CustomOptions {
  int64_t jitter = 0;
  std::vector<double> crop, scale{1.0, 1.0}, rotate{0.0, 0.0};
  bool flip = false;
  double blur = 0.0, noise = 0.0;
  std::string ground = "black";
  int64_t views = 1;
};
void describe(Fields& f, CustomOptions& o) {
  f("jitter", o.jitter, "pixels", "moves by whole pixels, this many + 1 places in both axes", Range{0, 4096});
  f("crop", o.crop, "share of the side", "window cut out and blown up, [low, high]; empty: none");
  f("scale", o.scale, "", "factor, [low, high]");
  f("rotate", o.rotate, "degrees", "angle, [low, high]");
  f("flip", o.flip, "mirror left and right with even chances");
  f("blur", o.blur, "pixels", "standard deviation of a Gaussian blur", Range{0, 64});
  f("noise", o.noise, "", "standard deviation of Gaussian noise on each pixel", Range{0, 10});
  f.choice("ground", o.ground, "what lies outside the image and is seen where it is moved, turned or shrunk", {"black", "grey", "border"});
  describe_views(f, o.views);
}

// Objectives.

// "diversity@conv3:0.5" -> its parts.
struct Penalty {
  std::string kind, layer;
  double weight = 0;
};
Penalty parse_penalty(const std::string& word) {
  const size_t colon = word.rfind(':'), at = word.find('@');
  Penalty out;
  out.kind = word.substr(0, std::min(colon, at));
  if (at != std::string::npos && at < colon) out.layer = word.substr(at + 1, colon == std::string::npos ? colon : colon - at - 1);
  std::istringstream number(colon == std::string::npos ? "" : word.substr(colon + 1));
  const bool read = static_cast<bool>(number >> out.weight) && number.eof() && std::isfinite(out.weight) && out.weight >= 0;
  require(read, Failure::input, "objective.penalties: found '", word, "', expected name:weight with a weight of 0 or more, such as ",
          "total_variation:0.001, diversity:1 or diversity@conv3:0.5");
  return out;
}

// What a row builds from. penalties: whether they, and the weight, count.
struct ObjectiveOrder {
  Recipe& recipe;
  std::string table;
  const Classifier& classifier;
  const Tensor& rows;
  bool penalties = true;
};
using ObjectiveMenu = Menu<Objective, ObjectiveOrder>;
Objective made_of(Recipe&, const std::string& table, const ObjectiveOrder& like);

Objective with_additions(Objective objective, const Additions& more, const ObjectiveOrder& order) {
  const auto& [recipe, table, classifier, rows, penalties] = order;
  if (more.negative) objective = negative(std::move(objective));
  const int64_t tables = penalties ? recipe.count(table + ".penalty") : 0;
  if (!penalties || (more.penalties.empty() && tables == 0 && more.weight == 1.0)) return objective;
  std::vector<std::pair<Objective, double>> parts{{objective, more.weight}};
  for (const std::string& word : more.penalties) {
    const Penalty penalty = parse_penalty(word);
    require(penalty.kind == "diversity" || penalty.layer.empty(), Failure::input, "objective.penalties: found '", word,
            "', expected name:weight, without a layer");
    if (penalty.kind == "diversity")
      parts.emplace_back(
          diversity_objective(penalty.layer.empty() ? scene_layer(classifier, "objective.penalties: diversity") : penalty.layer, classifier,
                              rows),
          penalty.weight);
    else if (penalty.kind == "total_variation")
      parts.emplace_back(total_variation_objective(), penalty.weight);
    else if (penalty.kind == "l2")
      parts.emplace_back(l2_objective(), penalty.weight);
    else if (penalty.kind == "l1")
      parts.emplace_back(l1_objective(), penalty.weight);
    else
      fail(Failure::input, "objective.penalties: found no '", penalty.kind, "'",
           did_you_mean(penalty.kind, {"total_variation", "l2", "l1", "diversity"}));
  }
  // Each comes with its weight in it.
  for (int64_t item = 0; item < tables; ++item) parts.emplace_back(made_of(recipe, text(table, ".penalty.", item), order), 1.0);
  return weighted_sum(parts);
}

Objective scored(const std::string& of, const std::vector<std::string>& words, const Classifier& classifier) {
  const std::vector<Unit> units = parse_units(words, classifier);
  if (of == "channel") return channel_objective(units, classifier);
  if (of == "logit") return logit_objective(units, classifier);
  if (of == "log_softmax") return log_softmax_objective(units, classifier);
  return unit_objective(units, classifier);
}

// An image of a recipe, at the size that the classifier looks at.
Tensor image_of(const ImageTargetOptions& o, const ImageSpec& wanted) {
  require(!o.image.empty(), Failure::input, "[objective]: found no image, expected image = \"file\"");
  const Tensor image = load_picture(o.image, wanted.channels);
  if (image.size(1) == wanted.height && image.size(2) == wanted.width) return image;
  return at::_upsample_bilinear2d_aa(image.unsqueeze(0), {wanted.height, wanted.width}, false).squeeze(0);
}

Tensor directions_of(const DirectionOptions& o) {
  require(o.direction.empty() != o.file.empty(), Failure::input, "objective: found ",
          o.file.empty() ? "neither direction nor file" : "both direction and file", ", expected one of them");
  if (o.file.empty()) return at::tensor(o.direction, at::kFloat).unsqueeze(0);
  const Tensors tensors = load_safetensors(o.file).tensors;
  require(tensors.size() == 1, Failure::input, o.file, ": found ", tensors.size(), " tensors, expected one, [U,C] or [C]");
  const Tensor found = tensors.begin()->second;
  return (found.dim() == 1 ? found.unsqueeze(0) : found).to(at::kFloat);
}

// A row of the menu: options read, objective made of them, additions put on top.
template <class Options>
ObjectiveMenu::Row row(const std::string& kind, const std::string& sentence, const std::string& example,
                       std::function<Objective(const Options&, const Classifier&, const Tensor& rows)> make) {
  return ObjectiveMenu::row<Options>(kind, sentence, example, [make](const Options& options, const ObjectiveOrder& order) {
    return order.recipe.about(order.table, {"units", "layer"},
                              [&] { return with_additions(make(options, order.classifier, order.rows), options.more, order); });
  });
}

const ObjectiveMenu& objectives() {
  using C = const Classifier&;
  using R = const Tensor&;
  static const ObjectiveMenu menu(
      "objective", "log_softmax",
      {row<UnitOptions>("unit", "a unit's activation, at the centre of its map or at @y,x",
                        "units = [\"conv3:0-2\", \"conv3:1@0,3\", \"logits:4\"]",
                        [](const UnitOptions& o, C c, R) { return unit_objective(parse_units(o.units, c), c); }),
       row<UnitOptions>("channel", "the mean of a channel over its map", "units = [\"conv3:*\"]",
                        [](const UnitOptions& o, C c, R) { return channel_objective(parse_units(o.units, c), c); }),
       row<UnitOptions>("logit", "a logit of the last layer", "units = [\"logits:*\"]",
                        [](const UnitOptions& o, C c, R) { return logit_objective(parse_units(o.units, c), c); }),
       row<UnitOptions>("softmax", "the probability of a class", "units = [\"logits:0-3\"]",
                        [](const UnitOptions& o, C c, R) { return softmax_objective(parse_units(o.units, c), c); }),
       row<LogSoftmaxOptions>(
           "log_softmax", "the log-probability of a class",
           "units = [\"logits:*\"]\npenalties = [\"total_variation:0.1\", \"l2:0.2\", \"l1:0.3\"]\nnegative = true",
           [](const LogSoftmaxOptions& o, C c, R) { return log_softmax_objective(parse_units(o.units, c), c, o.as_released); }),
       row<LayerOptions>("layer", "mean square of a whole layer", "",
                         [](const LayerOptions& o, C c, R) { return layer_objective(o.layer, c); }),
       row<DirectionOptions>("direction", "a direction among a layer's channels", "direction = [1, 2, 3, 4, -3, -2, -1, 0]",
                             [](const DirectionOptions& o, C c, R) { return direction_objective(o.layer, directions_of(o), c, o.power); }),
       row<CombinedOptions>("weighted_sum", "one column: the weighted sum of several units",
                            "units = [\"logits:0-1\"]\nweights = [1, -2]\nof = \"log_softmax\"",
                            [](const CombinedOptions& o, C c, R) { return combined(scored(o.of, o.units, c), o.weights); }),
       row<InterpolationOptions>("interpolation", "from one unit in the first row to another in the last",
                                 "units = [\"conv3:0\", \"conv3:5\"]\nof = \"channel\"",
                                 [](const InterpolationOptions& o, C c, R) { return interpolation(scored(o.of, o.units, c)); }),
       row<LayerOptions>("diversity", "rows apart from one another at a layer", "",
                         [](const LayerOptions& o, C c, R rows) { return diversity_objective(o.layer, c, rows); }),
       row<ImageTargetOptions>("inversion", "what a layer takes for the same as an image", "image = \"image.safetensors\"",
                               [](const ImageTargetOptions& o, C c, R) { return inversion_objective(o.layer, image_of(o, c.image), c); }),
       row<CaricatureOptions>(
           "caricature", "more of what a layer sees in an image", "image = \"image.safetensors\"",
           [](const CaricatureOptions& o, C c, R) { return caricature_objective(o.layer, image_of(o, c.image), c, o.power); }),
       row<VariationOptions>(
           "total_variation", "little variation from pixel to pixel", "",
           [](const VariationOptions& o, C, R) { return total_variation_objective(o.of == "sum" ? Variation::sum : Variation::length); }),
       row<GroundOptions>("l2", "pixels near the ground, in squares", "ground = 0.5",
                          [](const GroundOptions& o, C, R) { return l2_objective(o.ground); }),
       row<GroundOptions>("l1", "pixels near the ground", "ground = 0.25",
                          [](const GroundOptions& o, C, R) { return l1_objective(o.ground); }),
       row<BlurOptions>("blur", "an image that a blur hardly changes", "",
                        [](const BlurOptions& o, C, R) { return blur_objective(o.deviation); }),
       row<BilateralOptions>("bilateral", "an image that a blur which keeps edges hardly changes", "",
                             [](const BilateralOptions& o, C, R) { return bilateral_objective(o.deviation, o.colour); }),
       row<CentreOptions>("centre", "things in the middle, and the ground about them", "",
                          [](const CentreOptions& o, C, R) { return centre_objective(o.radius, o.ground); }),
       row<PatchOptions>("patches", "patches like those of a dataset", "file = \"patches.safetensors\"", [](const PatchOptions& o, C, R) {
         require(!o.file.empty(), Failure::input, "[objective] kind = \"patches\": found no file, expected one of evoke data patches");
         const Patches patches = load_patches(o.file);
         return o.of == "gaussian" ? patch_gaussian_objective(patches, o.noise) : nearest_patch_objective(patches, o.stride);
       })});
  return menu;
}

Objective made_of(Recipe& recipe, const std::string& table, const ObjectiveOrder& like) {
  return objectives()
      .chosen(recipe, table, table == "objective" ? "log_softmax" : "")
      .make({recipe, table, like.classifier, like.rows, like.penalties});
}

// Transforms.

std::pair<double, double> ends(const char* key, const std::vector<double>& range) {
  std::string found;
  for (const double end : range) found += text(found.empty() ? "" : ", ", end);
  require(range.size() == 2 && range[0] <= range[1], Failure::input, "transform.", key, ": found [", found, "], expected [low, high]");
  return {range[0], range[1]};
}

Transform custom_transform(const CustomOptions& o) {
  const Ground ground = o.ground == "border" ? Ground() : Ground(o.ground == "grey" ? grey : black);
  std::vector<Placement> placements;
  if (o.jitter > 0) placements.push_back(jitter_placement(o.jitter));
  if (!o.crop.empty()) placements.push_back(std::apply(crop_placement, ends("crop", o.crop)));
  if (const auto [low, high] = ends("scale", o.scale); low != 1 || high != 1) placements.push_back(scale_placement(low, high));
  if (const auto [low, high] = ends("rotate", o.rotate); low != 0 || high != 0) placements.push_back(rotate_placement(low, high));
  if (o.flip) placements.push_back(flip_placement());

  std::vector<Transform> parts;
  if (!placements.empty()) parts.push_back(resample(placements, ground));
  if (o.blur > 0) parts.push_back(gaussian_blur(o.blur));
  if (o.noise > 0) parts.push_back(noise(o.noise));
  return compose(parts);
}

Transform crops_transform(const CropsOptions& o, int64_t steps) {
  const CropSides first{o.crop_low, o.crop_high};
  const CropSides last{o.end_low > 0 ? o.end_low : o.crop_low, o.end_high > 0 ? o.end_high : o.crop_high};
  std::vector<Placement> placements{shrinking_crop_placement(first, last, steps)};
  if (o.flip) placements.push_back(flip_placement());
  return compose({resample(placements, std::nullopt), o.noise > 0 ? noise(o.noise) : Transform()});
}

struct TransformOrder {
  Recipe& recipe;
  std::string table;
  int64_t steps;
};
using TransformMenu = Menu<RepeatedTransform, TransformOrder>;

const TransformMenu& transforms() {
  using O = const TransformOrder&;
  static const TransformMenu menu(
      "transform", "none",
      {TransformMenu::row<NoOptions>("none", "the image as it is", "", [](const NoOptions&, O) { return RepeatedTransform(); }),
       TransformMenu::row<ViewsOptions>(
           "lucid", "on grey: jitter 8, scale 0.9 to 1.1, rotate -10 to 10 degrees, jitter 4 (Lucid's standard stack)", "",
           [](const ViewsOptions& o, O) {
             return RepeatedTransform{lucid_transform(), o.views};
           }),
       TransformMenu::row<ViewsOptions>("shapes", "jitter 20 pixels, any rotation, on black", "",
                                        [](const ViewsOptions& o, O) {
                                          return RepeatedTransform{shapes_transform(), o.views};
                                        }),
       TransformMenu::row<CropsOptions>(
           "crops", "random square windows blown up to the whole image, mirrored or not; they may shrink in the course of the run",
           "crop_low = 0.4\ncrop_high = 0.6\nend_low = 0.1\nend_high = 0.2\nnoise = 0.08\nviews = 2",
           [](const CropsOptions& o, O order) {
             return RepeatedTransform{crops_transform(o, order.steps), o.views};
           }),
       TransformMenu::row<CustomOptions>(
           "custom", "jitter, crop, scale, rotate, flip, then blur and noise, each where asked for",
           "jitter = 3\ncrop = [0.5, 1]\nscale = [0.9, 1.1]\nrotate = [-20, 20]\nflip = true\nblur = 0.5\nnoise = 0.02\n"
           "ground = \"border\"\nviews = 3",
           [](const CustomOptions& o, O) {
             return RepeatedTransform{custom_transform(o), o.views};
           })});
  return menu;
}

}  // namespace

std::string classifier_file(Recipe& recipe) {
  const std::string file = recipe.read<ClassifierChoice>("classifier").weights;
  require(!file.empty(), Failure::input,
          "classifier.weights: found no file; expected a network (.pt2, TorchScript), or the weights that 'evoke train' wrote");
  return file;
}

std::vector<OptionHelp> classifier_help() { return help_of<ClassifierChoice>(); }

ImageOptions image_beside(const std::string& file) {
  const std::string beside = std::filesystem::path(file).replace_extension(".toml").string();
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(beside, ignored)) return {};
  Recipe recipe = Recipe::load(beside);
  const auto options = recipe.read<ImageOptions>("image");
  recipe.refuse_unread();
  return options;
}

bool is_program(const std::string& file) {
  std::ifstream stream(file, std::ios::binary);
  char head[8] = {};
  stream.read(head, sizeof head);
  // safetensors begins with the length of its header, eight bytes of which the upper ones are 0.
  return stream.gcount() == 8 && (std::string_view(head, 2) == "PK" || head[7] != 0 || !file.ends_with(".safetensors"));
}

Classifier make_classifier(Recipe& recipe, at::Device device) {
  const std::string file = classifier_file(recipe);
  const bool program = is_program(file);
  const auto options = recipe.read<ImageOptions>("classifier.image", program ? image_beside(file) : ImageOptions{});
  const auto choice = recipe.read<ClassifierChoice>("classifier");
  if (program) {
    const Program loaded =
        load_program(file, device, choice.memory == "as_exported" ? MemoryOrder::as_exported : MemoryOrder::channels_last);
    return as_classifier(loaded, image_of(loaded, options), labels_of(options), device);
  }
  if (choice.architecture != "file") return literature_classifier(choice.architecture, choice.classes, file, options, device);
  require(load_safetensors(file).metadata.contains("evoke.kind"), Failure::input, file,
          ": is a state dict that does not say of what network; set classifier.architecture to one of ", list_of(literature_kinds()),
          ", or export the network itself (.pt2)");
  return load_classifier(file, device);
}

Classifier literature_classifier(const std::string& architecture, int64_t classes, const std::string& file, const ImageOptions& options,
                                 at::Device device) {
  ClassifierOptions network = customary_options(architecture);
  const ImageSpec image = image_spec(options, customary_image(architecture), file);
  if (classes > 0) network.classes = classes;
  network.channels = image.channels, network.height = image.height, network.width = image.width;
  return as_classifier(architecture, load_state_dict(network, file), image, labels_of(options), device);
}

Objective make_objective(Recipe& recipe, const Classifier& classifier, const Tensor& rows, bool penalties) {
  return made_of(recipe, "objective", {recipe, "objective", classifier, rows, penalties});
}

RepeatedTransform make_transform(Recipe& recipe, int64_t steps) {
  RepeatedTransform out = transforms().chosen(recipe).make({recipe, "transform", steps});
  recipe.about("transform", {"views"}, [&] {
    require(out.transform || out.views == 1, Failure::usage, "found ", out.views,
            " views of an image that nothing changes, expected 1, or something to change it by");
  });
  return out;
}

std::vector<MenuEntry> objective_menu() { return objectives().entries(); }
std::vector<MenuEntry> transform_menu() { return transforms().entries(); }

}  // namespace evoke
