#include "generators/menu.h"

#include <ATen/ATen.h>

#include "core/error.h"
#include "core/programs/program.h"
#include "core/records/pictures.h"
#include "core/storage/hdf5.h"
#include "core/storage/safetensors.h"
#include "generators/decoder.h"
#include "generators/denoiser.h"
#include "generators/encoder.h"
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
  f.path("weights", o.weights, "a trained decoder (train autoencoder, vae or gan)");
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
    "noise scale σ of the score; 0: the one it was trained at, or 0.15 where it was trained over a range", non_negative);
  describe(f, o.draw);
}

struct DataChoice {
  std::string file;
};
void describe(Fields& f, DataChoice& o) {
  f.path("file", o.file, "dataset of real images (HDF5, made by evoke data); in [prior], empty: that of [data]");
}

struct JointChoice {
  double weight = 1.0;
  double sigma = 1.0;
};
void describe(Fields& f, JointChoice& o) {
  f("weight", o.weight, "", weight_sentence, non_negative);
  f("sigma", o.sigma, "units of the code", "noise scale of the score (E(G(z)) - z)/sigma²", positive);
}

// An image for chains to start at, [C,H,W] in [0,1].
Tensor initial_image(const std::string& file, const ImageSpec& image) {
  if (file.empty()) return {};
  if (!file.ends_with(".safetensors")) return from_bytes(load_image(file, image.channels).unsqueeze(0)).squeeze(0);
  const SafeTensors loaded = load_safetensors(file);
  require(loaded.tensors.contains("image"), Failure::input, file, ": found no tensor 'image', expected one of shape [C,H,W] in [0,1]");
  return loaded.tensors.at("image");
}

Codec make_pixel(Recipe& recipe, const ImageSpec& image, at::Device) {
  const auto options = recipe.read<PixelOptions>("generator");
  return {pixel(options, image, initial_image(options.initial, image)), pixel_encoder(options, image), std::nullopt};
}

Codec make_decoder(Recipe& recipe, const ImageSpec& image, at::Device device) {
  const auto choice = recipe.read<DecoderChoice>("generator");
  require(!choice.weights.empty(), Failure::input,
          "recipe: [generator] names no weights, expected weights = \"file\" of a trained decoder");
  Decoder decoder = load_decoder(choice.weights);
  const bool any_size = decoder.options.spatial;
  const int64_t height = choice.height > 0 ? choice.height : any_size ? image.height : decoder.options.height;
  const int64_t width = choice.width > 0 ? choice.width : any_size ? image.width : decoder.options.width;
  decoder = resized(std::move(decoder), height, width);
  if (!choice.codes.empty()) decoder.codes = load_codes(choice.codes, code_shape(decoder.options));
  return {as_generator(decoder, device, choice.start), as_encoder(decoder, device), decoder.codes};
}

struct ProgramChoice {
  std::string weights, codes;
};
void describe(Fields& f, ProgramChoice& o) {
  f.path("weights", o.weights, "a decoder z [N,D] or [N,C,H,W] → x [N,C,H,W], exported (.pt2) or TorchScript");
  f.path("codes", o.codes,
         "statistics of the codes of real images (train codes), like which chains then start; empty: none, chains start at N(0, 1)");
}

Codec make_program(Recipe& recipe, const ImageSpec& image, at::Device device) {
  const auto choice = recipe.read<ProgramChoice>("generator");
  require(!choice.weights.empty(), Failure::input,
          "recipe: [generator] names no weights, expected weights = \"net.pt2\", an exported decoder");
  const auto options = recipe.read<ImageOptions>("generator.image");
  const ImageSpec size{.channels = image.channels, .height = image.height, .width = image.width};
  Codec out{as_generator(load_program(choice.weights, device), image_spec(options, size, choice.weights), device), {}, {}};
  if (!choice.codes.empty()) {
    out.codes = load_codes(choice.codes, out.generator.latent);
    out.generator.start = gaussian(*out.codes, out.generator.latent, device).draw;
  }
  return out;
}

const CodeStatistics& codes_of(const Codec& codec, const std::string& prior, const std::string& instead) {
  require(codec.codes.has_value(), Failure::input, "recipe: [prior] kind = \"", prior,
          "\" asks what is known of the codes of real images, found nothing with the generator ", codec.generator.name,
          "; name a file of evoke train codes, [generator] codes = \"file\", take a trained decoder, or ", instead);
  return *codec.codes;
}

WeightedPrior make_none(Recipe& recipe, const Codec&, at::Device) {
  recipe.read<NoPrior>("prior");
  return {};
}

WeightedPrior make_gaussian(Recipe& recipe, const Codec& codec, at::Device device) {
  const auto choice = recipe.read<GaussianChoice>("prior");
  const std::vector<int64_t>& latent = codec.generator.latent;
  if (choice.standard) return {standard_normal(latent), choice.weight};
  return {gaussian(codes_of(codec, "gaussian", "set standard = true"), latent, device), choice.weight};
}

WeightedPrior make_box(Recipe& recipe, const Codec& codec, at::Device device) {
  const auto choice = recipe.read<BoxChoice>("prior");
  const std::vector<int64_t>& latent = codec.generator.latent;
  if (choice.range == "given") return {box(at::full(latent, choice.low), at::full(latent, choice.high), device), choice.weight};
  const CodeStatistics& codes = codes_of(codec, "box", "set range = \"given\"");
  codes.require_fit(latent, "box prior");
  if (choice.range == "codes") return {box(codes.low, codes.high, device, latent), choice.weight};
  const Tensor high = (codes.mean + 3 * codes.deviation()).clamp_min(0);
  return {box(at::zeros_like(high), high, device, latent), choice.weight};
}

WeightedPrior make_denoiser_prior(Recipe& recipe, const Codec& codec, at::Device device) {
  const auto choice = recipe.read<DenoiserChoice>("prior");
  require(!choice.weights.empty(), Failure::input, "recipe: [prior] names no weights, expected weights = \"file\" of a trained denoiser");
  const Generator& generator = codec.generator;
  const Denoiser denoiser = load_denoiser(choice.weights);
  const std::vector<int64_t> own = row_shape(denoiser.options), &latent = generator.latent;
  const bool any_size = own.size() == 3 && latent.size() == 3 && own[0] == latent[0];
  require(own == latent || any_size, Failure::input, choice.weights, ": found a denoiser of ", shape_text(own), " for the generator '",
          generator.name, "' whose z is ", shape_text(latent), "; expected one trained on that generator's codes");
  require(generator.identity == (denoiser.options.space == "image"), Failure::input, choice.weights, ": found a denoiser of ",
          denoiser.options.space, "s for the generator '", generator.name, "', whose z is ", generator.identity ? "the image" : "a code",
          generator.identity ? "; take one of images (train denoiser, space = \"image\")"
                             : "; take one of its codes, or let z be the image: [generator] kind = \"pixel\" and range = \"clip\"");
  return {denoiser_prior(denoiser, choice.sigma, device, choice.draw, latent), choice.weight};
}

WeightedPrior make_joint(Recipe& recipe, const Codec& codec, at::Device) {
  const auto choice = recipe.read<JointChoice>("prior");
  require(
      codec.encoder.has_value(), Failure::usage, "joint prior: found generator '", codec.generator.name,
      "' without an encoder, expected one with; take an autoencoder or a vae, or name the encoder's file, [encoder] weights = \"file\"");
  return {joint(codec.generator, *codec.encoder, choice.sigma), choice.weight};
}

// Draw number i is the i-th image of the training split.
WeightedPrior make_data(Recipe& recipe, const Codec& codec, at::Device device) {
  const Generator& generator = codec.generator;
  std::string name = recipe.read<DataChoice>("prior").file;
  if (name.empty()) name = recipe.read<DataChoice>("data").file;
  require(!name.empty(), Failure::input,
          "[prior] kind = \"data\": found no [data] file, expected a dataset of real images; name one: --set data.file=shapes.h5");
  const Hdf5 file = Hdf5::open(name);
  require(file.has("/images") && file.has("/split"), Failure::input, name,
          ": found no /images and /split, expected a dataset that evoke data wrote");
  const Tensor rows = (file.read("/split") == 0).nonzero().squeeze(1);
  require(rows.numel() > 0, Failure::input, name, ": its training split is empty; expected images");
  const std::vector<int64_t> shape = file.shape("/images"), image{shape.at(3), shape.at(1), shape.at(2)};
  require(image == generator.latent && generator.identity, Failure::input, name, ": found images ", shape_text(image), " where z is ",
          shape_text(generator.latent),
          "; expected images of the classifier's size, and z to be the image: [generator] kind = \"pixel\", range = \"clip\"");
  Prior prior;
  prior.name = "data";
  prior.count = rows.numel();
  prior.draw = [file, rows, device, name](Stream& stream) {
    // The rows may be scattered over the file: read the span, take the rows.
    const Tensor wanted = rows.index_select(0, stream.chains().cpu().clamp_max(rows.numel() - 1));
    const auto low = wanted.min().item<int64_t>(), high = wanted.max().item<int64_t>();
    return from_bytes(file.read_rows("/images", low, high - low + 1).index_select(0, wanted - low)).to(device);
  };
  return {prior, 1.0};
}

struct GeneratorRow {
  std::string kind;
  Codec (*make)(Recipe&, const ImageSpec&, at::Device);
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
  WeightedPrior (*make)(Recipe&, const Codec&, at::Device);
  std::vector<OptionHelp> (*help)();
};
const std::vector<PriorRow>& prior_menu() {
  static const std::vector<PriorRow> rows{{"none", make_none, [] { return help_of<NoPrior>(); }},
                                          {"gaussian", make_gaussian, [] { return help_of<GaussianChoice>(); }},
                                          {"box", make_box, [] { return help_of<BoxChoice>(); }},
                                          {"denoiser", make_denoiser_prior, [] { return help_of<DenoiserChoice>(); }},
                                          {"joint", make_joint, [] { return help_of<JointChoice>(); }},
                                          {"data", make_data, [] { return help_of<DataChoice>(); }}};
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

Codec make_codec(Recipe& recipe, const ImageSpec& image, at::Device device) {
  Codec out = row_named(generator_menu(), "generator", recipe.kind("generator", "pixel")).make(recipe, image, device);
  const auto choice = recipe.read<EncoderChoice>("encoder");
  if (!choice.weights.empty()) out.encoder = load_encoder(choice, recipe.read<ImageOptions>("encoder.image"), out.generator.image, device);
  if (out.encoder) require_pair(out.generator, *out.encoder);
  return out;
}

WeightedPrior make_prior(Recipe& recipe, const Codec& codec, at::Device device) {
  return row_named(prior_menu(), "prior", recipe.kind("prior", "none")).make(recipe, codec, device);
}

std::vector<std::string> generator_kinds() { return kinds_of(generator_menu()); }
std::vector<std::string> prior_kinds() { return kinds_of(prior_menu()); }
std::vector<OptionHelp> generator_help(const std::string& kind) { return row_named(generator_menu(), "generator", kind).help(); }
std::vector<OptionHelp> encoder_help() { return help_of<EncoderChoice>(); }
std::vector<OptionHelp> prior_help(const std::string& kind) { return row_named(prior_menu(), "prior", kind).help(); }

}  // namespace evoke
