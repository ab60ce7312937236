#include "generators/menu.h"

#include <ATen/ATen.h>

#include <cmath>
#include <numeric>

#include "core/error.h"
#include "core/programs/program.h"
#include "core/records/pictures.h"
#include "core/storage/hdf5.h"
#include "generators/critic.h"
#include "generators/decoder.h"
#include "generators/denoiser.h"
#include "generators/encoder.h"
#include "generators/fourier.h"
#include "generators/maco.h"
#include "generators/pixel.h"
#include "generators/priors.h"

namespace evoke {

namespace {

struct DecoderChoice {
  std::string weights, codes;
  std::string start = "codes";
  int64_t height = 0, width = 0;
};
void describe(Fields& f, DecoderChoice& o) {
  f.path("weights", o.weights, "a trained decoder (train autoencoder, vae, gan or inverter)");
  f.path("codes", o.codes, "statistics of the codes of real images (train codes); empty: those saved with the decoder");
  f.choice("start", o.start, "where chains start: like the codes of real images, or N(0, 1)", {"codes", "normal"});
  f("height", o.height, "px", "of the images, of a decoder of spatial codes: any divisible by 8; 0: the classifier's", {0, 65536});
  f("width", o.width, "px", "of the images, of a decoder of spatial codes: any divisible by 8; 0: the classifier's", {0, 65536});
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
  f("sigma", o.sigma, "deviations of the data",
    "noise scale σ of the score; 0: the one it was trained at, or 0.15 where it was trained over a range", {0.0, 1e6});
  describe(f, o.draw);
}

struct DataChoice {
  std::string file;
};
void describe(Fields& f, DataChoice& o) {
  f.path("file", o.file, "dataset of real images (HDF5, made by evoke data); in [prior], empty: that of [data]");
}

struct CriticChoice {
  std::string weights;
};
void describe(Fields& f, CriticChoice& o) {
  f.path("weights", o.weights,
         "what foretells the target's answer from a code below noise (train critic), for the sampler guided; empty: the target's own "
         "gradient");
}

struct JointChoice {
  double weight = 1.0;
  double sigma = 1.0;
};
void describe(Fields& f, JointChoice& o) {
  f("weight", o.weight, "", weight_sentence, non_negative);
  f("sigma", o.sigma, "units of the code", "noise scale of the score (E(G(z)) - z)/sigma²", step_length);
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
  const Codec& codec;
  at::Device device;
};
using GeneratorMenu = Menu<Codec, GeneratorOrder>;
using PriorMenu = Menu<WeightedPrior, PriorOrder>;

Codec make_pixel(const PixelOptions& options, const GeneratorOrder& order) {
  return {pixel(options, order.image, options.initial.empty() ? Tensor() : load_picture(options.initial, order.image.channels)),
          pixel_encoder(options, order.image), std::nullopt};
}

// The image that the classifier wants, at another size where the recipe says one.
ImageSpec sized(ImageSpec image, int64_t height, int64_t width) {
  if (height > 0) image.height = height;
  if (width > 0) image.width = width;
  return image;
}

Codec make_fourier(const FourierOptions& options, const GeneratorOrder& order) {
  const ImageSpec image = sized(order.image, options.height, options.width);
  std::optional<Spectrum> spectrum;
  if (options.colour == "spectrum" && !options.spectrum.empty()) spectrum = load_spectrum(options.spectrum);
  const Tensor matrix = colour_matrix(options.colour, spectrum ? &*spectrum : nullptr, image.channels, "[generator] kind = \"fourier\"");
  return {fourier(options, image, matrix, order.device), fourier_encoder(options, image, matrix, order.device), std::nullopt};
}

Codec make_maco(const MacoOptions& options, const GeneratorOrder& order) {
  require(!options.spectrum.empty(), Failure::input,
          "[generator] kind = \"maco\": found no spectrum, expected the mean spectrum of photographs: spectrum = \"file\" of evoke data "
          "spectrum");
  const ImageSpec image = sized(order.image, options.height, options.width);
  const Spectrum spectrum = load_spectrum(options.spectrum);
  const Tensor matrix = colour_matrix(options.colour, &spectrum, image.channels, options.spectrum);
  return {maco(options, image, spectrum, matrix, order.device), std::nullopt, std::nullopt};
}

Codec make_decoder(const DecoderChoice& choice, const GeneratorOrder& order) {
  require(!choice.weights.empty(), Failure::input,
          "recipe: [generator] names no weights, expected weights = \"file\" of a trained decoder");
  Decoder decoder = load_decoder(choice.weights);
  const bool any_size = decoder.options.spatial;
  const int64_t height = choice.height > 0 ? choice.height : any_size ? order.image.height : decoder.options.height;
  const int64_t width = choice.width > 0 ? choice.width : any_size ? order.image.width : decoder.options.width;
  decoder = resized(std::move(decoder), height, width);
  if (!choice.codes.empty()) decoder.codes = load_codes(choice.codes, code_shape(decoder.options));
  return {as_generator(decoder, order.device, choice.start), as_encoder(decoder, order.device), decoder.codes};
}

struct ProgramChoice {
  std::string weights, codes;
};
void describe(Fields& f, ProgramChoice& o) {
  f.path("weights", o.weights, "a decoder z [N,D] or [N,C,H,W] → x [N,C,H,W], exported (.pt2) or TorchScript");
  f.path("codes", o.codes,
         "statistics of the codes of real images (train codes), like which chains then start; empty: none, chains start at N(0, 1)");
}

Codec make_program(const ProgramChoice& choice, const GeneratorOrder& order) {
  require(!choice.weights.empty(), Failure::input,
          "recipe: [generator] names no weights, expected weights = \"net.pt2\", an exported decoder");
  const auto options = order.recipe.read<ImageOptions>("generator.image");
  const ImageSpec size{.channels = order.image.channels, .height = order.image.height, .width = order.image.width};
  Codec out{as_generator(load_program(choice.weights, order.device), image_spec(options, size, choice.weights), order.device), {}, {}};
  if (!choice.codes.empty()) {
    out.codes = load_codes(choice.codes, out.generator.latent);
    out.generator.start = gaussian(*out.codes, out.generator.latent, order.device).draw;
  }
  return out;
}

const CodeStatistics& codes_of(const Codec& codec, const std::string& prior, const std::string& instead) {
  require(codec.codes.has_value(), Failure::input, "recipe: [prior] kind = \"", prior,
          "\" asks what is known of the codes of real images, found nothing with the generator ", codec.generator.name,
          "; name a file of evoke train codes, [generator] codes = \"file\", take a trained decoder, or ", instead);
  return *codec.codes;
}

WeightedPrior make_none(const NoPrior&, const PriorOrder&) { return {}; }

WeightedPrior make_gaussian(const GaussianChoice& choice, const PriorOrder& order) {
  const std::vector<int64_t>& latent = order.codec.generator.latent;
  if (choice.standard) return {standard_normal(latent), choice.weight};
  return {gaussian(codes_of(order.codec, "gaussian", "set standard = true"), latent, order.device), choice.weight};
}

WeightedPrior make_box(const BoxChoice& choice, const PriorOrder& order) {
  const std::vector<int64_t>& latent = order.codec.generator.latent;
  if (choice.range == "given") return {box(at::full(latent, choice.low), at::full(latent, choice.high), order.device), choice.weight};
  const CodeStatistics& codes = codes_of(order.codec, "box", "set range = \"given\"");
  codes.require_fit(latent, "box prior");
  if (choice.range == "codes") return {box(codes.low, codes.high, order.device, latent), choice.weight};
  const Tensor high = (codes.mean + 3 * codes.deviation()).clamp_min(0);
  return {box(at::zeros_like(high), high, order.device, latent), choice.weight};
}

WeightedPrior make_denoiser_prior(const DenoiserChoice& choice, const PriorOrder& order) {
  require(!choice.weights.empty(), Failure::input, "recipe: [prior] names no weights, expected weights = \"file\" of a trained denoiser");
  const Generator& generator = order.codec.generator;
  const Denoiser denoiser = load_denoiser(choice.weights);
  const std::vector<int64_t> own = row_shape(denoiser.options), &latent = generator.latent;
  const bool any_size = own.size() == 3 && latent.size() == 3 && own[0] == latent[0];
  require(own == latent || any_size, Failure::input, choice.weights, ": found a denoiser of ", shape_text(own), " for the generator '",
          generator.name, "' whose z is ", shape_text(latent), "; expected one trained on that generator's codes");
  require(generator.identity == (denoiser.options.space == "image"), Failure::input, choice.weights, ": found a denoiser of ",
          denoiser.options.space, "s for the generator '", generator.name, "', whose z is ", generator.identity ? "the image" : "a code",
          generator.identity ? "; take one of images (train denoiser, space = \"image\")"
                             : "; take one of its codes, or let z be the image: [generator] kind = \"pixel\" and range = \"clip\"");
  return {denoiser_prior(denoiser, choice.sigma, order.device, choice.draw, latent), choice.weight};
}

WeightedPrior make_joint(const JointChoice& choice, const PriorOrder& order) {
  require(
      order.codec.encoder.has_value(), Failure::input, "joint prior: found generator '", order.codec.generator.name,
      "' without an encoder, expected one with; take an autoencoder or a vae, or name the encoder's file, [encoder] weights = \"file\"");
  return {joint(order.codec.generator, *order.codec.encoder, choice.sigma), choice.weight};
}

constexpr int64_t block = 64;  // images of a dataset that are drawn one behind the other

// Rows in another order, of which any beginning is spread over them all: in blocks that lie together in the file, from one block to the
// next by the golden section of their number.
Tensor spread(const Tensor& rows) {
  const int64_t blocks = (rows.numel() + block - 1) / block;
  auto stride = static_cast<int64_t>(std::llround(static_cast<double>(blocks) * 0.6180339887498949));
  while (std::gcd(stride, blocks) != 1) ++stride;
  std::vector<Tensor> parts;
  for (int64_t k = 0; k < blocks; ++k) {
    const int64_t first = k * stride % blocks * block;
    parts.push_back(rows.slice(0, first, std::min(first + block, rows.numel())));
  }
  return at::cat(parts);
}

// Draw number i is an image of the training split; the first draws are spread over it, because a file may have its images class by class.
WeightedPrior make_data(const DataChoice& choice, const PriorOrder& order) {
  const Generator& generator = order.codec.generator;
  std::string name = choice.file;
  if (name.empty()) name = order.recipe.read<DataChoice>("data").file;
  require(!name.empty(), Failure::input,
          "[prior] kind = \"data\": found no [data] file, expected a dataset of real images; name one: --set data.file=shapes.h5");
  const Hdf5 file = Hdf5::open(name);
  require(file.has("/images") && file.has("/split"), Failure::input, name,
          ": found no /images and /split, expected a dataset that evoke data wrote");
  const Tensor training = (file.read("/split") == 0).nonzero().squeeze(1);
  require(training.numel() > 0, Failure::input, name, ": its training split is empty; expected images");
  const std::vector<int64_t> shape = file.shape("/images"), image{shape.at(3), shape.at(1), shape.at(2)};
  require(image == generator.latent && generator.identity, Failure::input, name, ": found images ", shape_text(image), " where z is ",
          shape_text(generator.latent),
          "; expected images of the classifier's size, and z to be the image: [generator] kind = \"pixel\", range = \"clip\"");
  Prior prior;
  prior.name = "data";
  prior.count = training.numel();
  prior.draw = [file, rows = spread(training), device = order.device](Stream& stream) {
    const Tensor wanted = rows.index_select(0, stream.chains().cpu().clamp_max(rows.numel() - 1));
    const auto row = [&wanted](int64_t i) { return wanted[i].item<int64_t>(); };
    // Rows that lie close together are read at once, with what lies between them.
    std::vector<Tensor> parts;
    for (int64_t i = 0, end = 0; i < wanted.numel(); i = end) {
      for (end = i + 1; end < wanted.numel() && row(end) > row(end - 1) && row(end) - row(end - 1) <= block;) ++end;
      const Tensor span = file.read_rows("/images", row(i), row(end - 1) - row(i) + 1);
      parts.push_back(span.index_select(0, wanted.slice(0, i, end) - row(i)));
    }
    return from_bytes(at::cat(parts)).to(device);
  };
  return {prior, 1.0};
}

const GeneratorMenu& generators() {
  static const GeneratorMenu menu(
      "generator", "pixel",
      {GeneratorMenu::row<PixelOptions>("pixel", "the image itself", "", make_pixel),
       GeneratorMenu::row<FourierOptions>(
           "fourier", "the coefficients of the image's waves, slow ones first, in the colours of photographs", "", make_fourier),
       GeneratorMenu::row<MacoOptions>("maco", "the phases of the image's waves; their strengths are those of photographs", "", make_maco),
       GeneratorMenu::row<DecoderChoice>("decoder", "the decoder of an autoencoder, vae, gan or inverter, trained by evoke train", "", make_decoder),
       GeneratorMenu::row<ProgramChoice>("program", "any exported decoder", "", make_program).also<ImageOptions>("generator.image")});
  return menu;
}

const PriorMenu& priors() {
  static const PriorMenu menu(
      "prior", "none",
      {PriorMenu::row<NoPrior>("none", "nothing is known of where z lives", "", make_none),
       PriorMenu::row<GaussianChoice>("gaussian", "the Gaussian of the codes of real images, or N(0, 1)", "", make_gaussian),
       PriorMenu::row<BoxChoice>("box", "flat within a range, nothing outside it", "", make_box),
       PriorMenu::row<DenoiserChoice>("denoiser", "what a trained denoiser knows of codes, or of images", "", make_denoiser_prior),
       PriorMenu::row<JointChoice>("joint", "codes that stay what they are when they are drawn and encoded again", "", make_joint),
       PriorMenu::row<DataChoice>("data", "the images of a dataset's training split, for a random search over them", "", make_data)});
  return menu;
}

}  // namespace

Codec make_codec(Recipe& recipe, const ImageSpec& image, at::Device device, const Classifier* classifier) {
  Codec out = generators().chosen(recipe).make({recipe, "generator", image, device});
  const auto choice = recipe.read<EncoderChoice>("encoder");
  if (!choice.weights.empty() || !choice.layer.empty())
    out.encoder = load_encoder(choice, recipe.read<ImageOptions>("encoder.image"), out.generator.image, device, classifier);
  if (out.encoder) require_pair(out.generator, *out.encoder);
  return out;
}

WeightedPrior make_prior(Recipe& recipe, const Codec& codec, at::Device device) {
  return priors().chosen(recipe).make({recipe, "prior", codec, device});
}

std::optional<Critic> make_critic(Recipe& recipe, const Codec& codec, at::Device device) {
  const auto choice = recipe.read<CriticChoice>("critic");
  if (choice.weights.empty()) return std::nullopt;
  return as_critic(load_critic(choice.weights), codec.generator.latent, device);
}

MenuEntry critic_entry() {
  return {"critic", "", "foretells the target's answer from a code below noise", "", {{"critic", help_of<CriticChoice>()}}};
}

std::vector<MenuEntry> generator_menu() { return generators().entries(); }
std::vector<MenuEntry> prior_menu() { return priors().entries(); }
MenuEntry encoder_entry() {
  return {"encoder",
          "",
          "images to codes, in a file of its own",
          "",
          {{"encoder", help_of<EncoderChoice>()}, {"encoder.image", help_of<ImageOptions>()}}};
}

}  // namespace evoke
