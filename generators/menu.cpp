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
    {0.0, 1e6});
  describe(f, o.draw);
}

struct JointChoice {
  double weight = 1.0;
  double sigma = 1.0;
};
void describe(Fields& f, JointChoice& o) {
  f("weight", o.weight, "", weight_sentence, non_negative);
  f("sigma", o.sigma, "units of the code", "noise level of the score (E(G(z)) - z)/sigma²", step_length);
}

// An image for chains to start at, [C,H,W] in [0,1].
Tensor initial_image(const std::string& file, const ImageSpec& image) {
  if (file.empty()) return {};
  if (!file.ends_with(".safetensors")) return from_bytes(load_image(file, image.channels).unsqueeze(0)).squeeze(0);
  const SafeTensors loaded = load_safetensors(file);
  require(loaded.tensors.contains("image"), Failure::input, file, ": found no tensor 'image', expected one of shape [C,H,W] in [0,1]");
  return loaded.tensors.at("image");
}

// What a generator, and what a prior, is made from.
struct GeneratorOrder {
  Recipe& recipe;
  std::string table;
  const ImageSpec& image;
  at::Device device;
};
struct PriorOrder {
  Recipe& recipe;
  std::string table;
  const Generator& generator;
  at::Device device;
};
using GeneratorMenu = Menu<Generator, GeneratorOrder>;
using PriorMenu = Menu<WeightedPrior, PriorOrder>;

Generator make_pixel(const PixelOptions& options, const GeneratorOrder& order) {
  return pixel(options, order.image, initial_image(options.initial, order.image));
}

Decoder decoder_of(const DecoderChoice& choice) {
  require(!choice.weights.empty(), Failure::input,
          "recipe: [generator] names no weights, expected weights = \"file\" of a trained decoder");
  return load_decoder(choice.weights);
}

Generator make_decoder(const DecoderChoice& choice, const GeneratorOrder& order) {
  return as_generator(decoder_of(choice), order.device, choice.start);
}

struct ProgramChoice {
  std::string weights;
};
void describe(Fields& f, ProgramChoice& o) {
  f.path("weights", o.weights, "a decoder z [N,D] → x [N,C,H,W], exported (.pt2) or TorchScript");
}

Generator make_program(const ProgramChoice& choice, const GeneratorOrder& order) {
  require(!choice.weights.empty(), Failure::input,
          "recipe: [generator] names no weights, expected weights = \"net.pt2\", an exported decoder");
  const auto options = order.recipe.read<ImageOptions>("generator.image");
  return as_generator(load_program(choice.weights, order.device), image_spec(options, {}, choice.weights), order.device);
}

// What is known of the codes lies in the file that the generator came from.
CodeStatistics codes_of(Recipe& recipe, const std::string& prior, const std::string& instead) {
  require(recipe.kind("generator", "pixel") == "decoder", Failure::input, "recipe: [prior] kind \"", prior,
          "\" asks for the codes of a decoder, found a generator without; expected [generator] kind = \"decoder\", or ", instead);
  return decoder_of(recipe.read<DecoderChoice>("generator")).codes;
}

WeightedPrior make_none(const NoPrior&, const PriorOrder&) { return {}; }

WeightedPrior make_gaussian(const GaussianChoice& choice, const PriorOrder& order) {
  if (choice.standard) return {standard_normal(order.generator.latent), choice.weight};
  const CodeStatistics codes = codes_of(order.recipe, "gaussian", "standard = true");
  return {gaussian(codes.mean, codes.covariance, order.device), choice.weight};
}

WeightedPrior make_box(const BoxChoice& choice, const PriorOrder& order) {
  const std::vector<int64_t>& latent = order.generator.latent;
  if (choice.range == "given") return {box(at::full(latent, choice.low), at::full(latent, choice.high), order.device), choice.weight};
  const CodeStatistics codes = codes_of(order.recipe, "box", "range = \"given\"");
  if (choice.range == "codes") return {box(codes.low, codes.high, order.device), choice.weight};
  const Tensor high = (codes.mean + 3 * codes.covariance.diagonal().sqrt()).clamp_min(0);
  return {box(at::zeros_like(high), high, order.device), choice.weight};
}

WeightedPrior make_denoiser_prior(const DenoiserChoice& choice, const PriorOrder& order) {
  const Generator& generator = order.generator;
  require(!choice.weights.empty(), Failure::input, "recipe: [prior] names no weights, expected weights = \"file\" of a trained denoiser");
  const Denoiser denoiser = load_denoiser(choice.weights);
  const DenoiserOptions& trained = denoiser.options;
  const bool code = trained.space == "code";
  const std::vector<int64_t> latent =
      code ? std::vector<int64_t>{trained.code} : std::vector<int64_t>{trained.channels, trained.image_height, trained.image_width};
  require(latent == generator.latent, Failure::input, choice.weights, ": found a denoiser of ", shape_text(latent), " for the generator '",
          generator.name, "' whose z is ", shape_text(generator.latent), "; expected one trained on that generator's codes");
  require(code || generator.name == "pixel clip", Failure::input, choice.weights, ": found a denoiser of images for the generator '",
          generator.name, "', expected z to be the image; set [generator] kind = \"pixel\" and range = \"clip\"");
  return {denoiser_prior(denoiser, choice.sigma, order.device, choice.draw), choice.weight};
}

WeightedPrior make_joint(const JointChoice& choice, const PriorOrder& order) {
  return {joint(order.generator, choice.sigma), choice.weight};
}

const GeneratorMenu& generators() {
  static const GeneratorMenu menu(
      "generator", "pixel",
      {GeneratorMenu::row<PixelOptions>("pixel", "the image itself", "", make_pixel),
       GeneratorMenu::row<DecoderChoice>("decoder", "the decoder of an autoencoder, vae or gan, trained by evoke train", "", make_decoder),
       GeneratorMenu::row<ProgramChoice>("program", "any exported decoder", "", make_program).also<ImageOptions>("generator.image")});
  return menu;
}

const PriorMenu& priors() {
  static const PriorMenu menu(
      "prior", "none",
      {PriorMenu::row<NoPrior>("none", "nothing is known of where z lives", "", make_none),
       PriorMenu::row<GaussianChoice>("gaussian", "the Gaussian of the training images' codes, or N(0, 1)", "", make_gaussian),
       PriorMenu::row<BoxChoice>("box", "flat within a range, nothing outside it", "", make_box),
       PriorMenu::row<DenoiserChoice>("denoiser", "what a trained denoiser knows of the codes (or of the images)", "", make_denoiser_prior),
       PriorMenu::row<JointChoice>("joint", "codes that survive being drawn and encoded again", "", make_joint)});
  return menu;
}

}  // namespace

Generator make_generator(Recipe& recipe, const ImageSpec& image, at::Device device) {
  return generators().chosen(recipe).make({recipe, "generator", image, device});
}

WeightedPrior make_prior(Recipe& recipe, const Generator& generator, at::Device device) {
  return priors().chosen(recipe).make({recipe, "prior", generator, device});
}

std::vector<MenuEntry> generator_menu() { return generators().entries(); }
std::vector<MenuEntry> prior_menu() { return priors().entries(); }

}  // namespace evoke
