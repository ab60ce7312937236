#include "generators/menu.h"

#include <ATen/ATen.h>

#include "core/error.h"
#include "core/programs/program.h"
#include "core/records/picture.h"
#include "core/storage/safetensors.h"
#include "generators/decoder.h"
#include "generators/denoiser.h"
#include "generators/pixel.h"
#include "generators/priors.h"

namespace evoke {

namespace {

struct DecoderChoice {
  std::string weights;
  std::string start = "codes";
};
void describe(Fields& f, DecoderChoice& o) {
  f.path("weights", o.weights, "a trained decoder (train autoencoder, vae or gan)");
  f.choice("start", o.start, "where chains start: like the codes of the training images, or N(0, 1)", {"codes", "normal"});
}

constexpr const char* weight_sentence = "w, how much log p counts beside the objective";

struct NoPrior {};
void describe(Fields&, NoPrior&) {}

struct GaussianChoice {
  double weight = 1.0;
  bool standard = false;
};
void describe(Fields& f, GaussianChoice& o) {
  f("weight", o.weight, "", weight_sentence, non_negative);
  f("standard", o.standard, "N(0, 1) instead of the mean and covariance of the training images' codes");
}

struct BoxChoice {
  double weight = 1.0;
  std::string range = "codes";
  double low = 0.0, high = 1.0;
};
void describe(Fields& f, BoxChoice& o) {
  f("weight", o.weight, "", weight_sentence, non_negative);
  f.choice("range", o.range, "the range of the training images' codes; [0, mean + 3 deviations] of them (DGN-AM); or low and high as given",
           {"codes", "dgn_am", "given"});
  f("low", o.low, "units of z", "lower bound, with range = \"given\"");
  f("high", o.high, "units of z", "upper bound, with range = \"given\"");
}

struct DenoiserChoice {
  double weight = 1.0;
  std::string weights;
  double sigma = 0.0;
  DrawOptions draw;
};
void describe(Fields& f, DenoiserChoice& o) {
  f("weight", o.weight, "", weight_sentence, non_negative);
  f.path("weights", o.weights, "a trained denoiser (train denoiser)");
  f("sigma", o.sigma, "deviations of the data", "noise level of the score; 0: its own of a one-level denoiser, 0.15 of another",
    non_negative);
  describe(f, o.draw);
}

struct JointChoice {
  double weight = 1.0;
  double sigma = 1.0;
};
void describe(Fields& f, JointChoice& o) {
  f("weight", o.weight, "", weight_sentence, non_negative);
  f("sigma", o.sigma, "units of the code", "noise level of the score (E(G(z)) - z)/sigma²", positive);
}

// An image for chains to start at, [C,H,W] in [0,1].
Tensor initial_image(const std::string& file, const ImageSpec& image) {
  if (file.empty()) return {};
  if (!file.ends_with(".safetensors")) return from_bytes(load_image(file, image.channels).unsqueeze(0)).squeeze(0);
  const SafeTensors loaded = load_safetensors(file);
  require(loaded.tensors.contains("image"), Failure::input, file, ": found no tensor 'image', expected one of shape [C,H,W] in [0,1]");
  return loaded.tensors.at("image");
}

Generator make_pixel(Recipe& recipe, const ImageSpec& image, at::Device) {
  const auto options = recipe.read<PixelOptions>("generator");
  return pixel(options, image, initial_image(options.initial, image));
}

Decoder decoder_of(const DecoderChoice& choice) {
  require(!choice.weights.empty(), Failure::input,
          "recipe: [generator] names no weights, expected weights = \"file\" of a trained decoder");
  return load_decoder(choice.weights);
}

Generator make_decoder(Recipe& recipe, const ImageSpec&, at::Device device) {
  const auto choice = recipe.read<DecoderChoice>("generator");
  return as_generator(decoder_of(choice), device, choice.start);
}

struct ProgramChoice {
  std::string weights;
};
void describe(Fields& f, ProgramChoice& o) {
  f.path("weights", o.weights, "a decoder z [N,D] → x [N,C,H,W], exported (.pt2) or TorchScript");
}

Generator make_program(Recipe& recipe, const ImageSpec&, at::Device device) {
  const auto choice = recipe.read<ProgramChoice>("generator");
  require(!choice.weights.empty(), Failure::input,
          "recipe: [generator] names no weights, expected weights = \"net.pt2\", an exported decoder");
  const auto options = recipe.read<ImageOptions>("generator.image");
  return as_generator(load_program(choice.weights, device), image_spec(options, {}, choice.weights), device);
}

// What is known of the codes lies in the file that the generator came from.
CodeStatistics codes_of(Recipe& recipe, const std::string& prior, const std::string& instead) {
  require(recipe.kind("generator", "pixel") == "decoder", Failure::input, "recipe: [prior] kind \"", prior,
          "\" asks for the codes of a decoder, found a generator without; expected [generator] kind = \"decoder\", or ", instead);
  return decoder_of(recipe.read<DecoderChoice>("generator")).codes;
}

WeightedPrior make_none(Recipe& recipe, const Generator&, at::Device) {
  recipe.read<NoPrior>("prior");
  return {};
}

WeightedPrior make_gaussian(Recipe& recipe, const Generator& generator, at::Device device) {
  const auto choice = recipe.read<GaussianChoice>("prior");
  if (choice.standard) return {standard_normal(generator.latent), choice.weight};
  const CodeStatistics codes = codes_of(recipe, "gaussian", "standard = true");
  return {gaussian(codes.mean, codes.covariance, device), choice.weight};
}

WeightedPrior make_box(Recipe& recipe, const Generator& generator, at::Device device) {
  const auto choice = recipe.read<BoxChoice>("prior");
  if (choice.range == "given")
    return {box(at::full(generator.latent, choice.low), at::full(generator.latent, choice.high), device), choice.weight};
  const CodeStatistics codes = codes_of(recipe, "box", "range = \"given\"");
  if (choice.range == "codes") return {box(codes.low, codes.high, device), choice.weight};
  const Tensor high = (codes.mean + 3 * codes.covariance.diagonal().sqrt()).clamp_min(0);
  return {box(at::zeros_like(high), high, device), choice.weight};
}

WeightedPrior make_denoiser_prior(Recipe& recipe, const Generator& generator, at::Device device) {
  const auto choice = recipe.read<DenoiserChoice>("prior");
  require(!choice.weights.empty(), Failure::input, "recipe: [prior] names no weights, expected weights = \"file\" of a trained denoiser");
  const Denoiser denoiser = load_denoiser(choice.weights);
  const DenoiserOptions& trained = denoiser.options;
  const bool code = trained.space == "code";
  const std::vector<int64_t> latent =
      code ? std::vector<int64_t>{trained.code} : std::vector<int64_t>{trained.channels, trained.height, trained.width};
  require(latent == generator.latent, Failure::input, choice.weights, ": found a denoiser of ", shape_text(latent), " for the generator '",
          generator.name, "' whose z is ", shape_text(generator.latent), "; expected one trained on that generator's codes");
  require(code || generator.name == "pixel clip", Failure::input, choice.weights, ": found a denoiser of images for the generator '",
          generator.name, "', expected z to be the image; set [generator] kind = \"pixel\" and range = \"clip\"");
  return {denoiser_prior(denoiser, choice.sigma, device, choice.draw), choice.weight};
}

WeightedPrior make_joint(Recipe& recipe, const Generator& generator, at::Device) {
  const auto choice = recipe.read<JointChoice>("prior");
  return {joint(generator, choice.sigma), choice.weight};
}

struct GeneratorRow {
  std::string kind;
  Generator (*make)(Recipe&, const ImageSpec&, at::Device);
  std::vector<OptionHelp> (*help)();
};
const std::vector<GeneratorRow>& generator_menu() {
  static const std::vector<GeneratorRow> rows{{"pixel", make_pixel, [] { return help_of<PixelOptions>(); }},
                                              {"decoder", make_decoder, [] { return help_of<DecoderChoice>(); }},
                                              {"program", make_program, [] { return help_of<ProgramChoice>(); }}};
  return rows;
}

struct PriorRow {
  std::string kind;
  WeightedPrior (*make)(Recipe&, const Generator&, at::Device);
  std::vector<OptionHelp> (*help)();
};
const std::vector<PriorRow>& prior_menu() {
  static const std::vector<PriorRow> rows{{"none", make_none, [] { return help_of<NoPrior>(); }},
                                          {"gaussian", make_gaussian, [] { return help_of<GaussianChoice>(); }},
                                          {"box", make_box, [] { return help_of<BoxChoice>(); }},
                                          {"denoiser", make_denoiser_prior, [] { return help_of<DenoiserChoice>(); }},
                                          {"joint", make_joint, [] { return help_of<JointChoice>(); }}};
  return rows;
}

template <class Row>
std::vector<std::string> kinds_of(const std::vector<Row>& menu) {
  std::vector<std::string> out;
  for (const Row& row : menu) out.push_back(row.kind);
  return out;
}

template <class Row>
const Row& row_named(const std::vector<Row>& menu, const std::string& table, const std::string& kind) {
  for (const Row& row : menu)
    if (row.kind == kind) return row;
  fail(Failure::input, "recipe: [", table, "] kind: found '", kind, "'", did_you_mean(kind, kinds_of(menu)));
}

}  // namespace

Generator make_generator(Recipe& recipe, const ImageSpec& image, at::Device device) {
  return row_named(generator_menu(), "generator", recipe.kind("generator", "pixel")).make(recipe, image, device);
}

WeightedPrior make_prior(Recipe& recipe, const Generator& generator, at::Device device) {
  return row_named(prior_menu(), "prior", recipe.kind("prior", "none")).make(recipe, generator, device);
}

std::vector<std::string> generator_kinds() { return kinds_of(generator_menu()); }
std::vector<std::string> prior_kinds() { return kinds_of(prior_menu()); }
std::vector<OptionHelp> generator_help(const std::string& kind) { return row_named(generator_menu(), "generator", kind).help(); }
std::vector<OptionHelp> prior_help(const std::string& kind) { return row_named(prior_menu(), "prior", kind).help(); }

}  // namespace evoke
