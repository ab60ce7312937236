#include "training/menu.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <filesystem>
#include <optional>
#include <tuple>

#include "classifiers/menu.h"
#include "core/error.h"
#include "core/log.h"
#include "core/storage/files.h"
#include "core/storage/hdf5.h"
#include "generators/encoder.h"
#include "generators/menu.h"
#include "training/datasets/dataset.h"
#include "training/kinds.h"

namespace evoke {

namespace {

// The images of a split on their way to the device.
Examples examples_of(const Dataset& data, Split which, const std::string& file, at::Device device) {
  Examples out;
  const Tensor rows = data.rows_of(which);
  out.count = rows.size(0);
  require(out.count > 0, Failure::input, "dataset ", file, ": found a split without images; expected training, validation and test");
  out.size = data.channels() * data.height() * data.width();
  out.read = [images = data.images, rows, device](const Tensor& at) { return as_images(images.read(rows.index_select(0, at)).to(device)); };
  out.labels = [labels = data.labels.index_select(0, rows), device](const Tensor& at) { return labels.index_select(0, at).to(device); };
  out.order = [images = data.images, rows](uint64_t seed, int64_t epoch) { return images.shuffled(rows, seed, epoch); };
  return out;
}
Splits splits_of(const Dataset& data, const std::string& file, at::Device device) {
  return {examples_of(data, Split::train, file, device), examples_of(data, Split::validation, file, device),
          examples_of(data, Split::test, file, device)};
}

// The sizes that a dataset knows, as the defaults of a network that learns from it.
template <class Options>
Options sized_for(const Dataset& data) {
  Options out;
  out.channels = data.channels();
  out.height = data.height();
  out.width = data.width();
  return out;
}

// What the loop needs of the directory.
LoopContext context_of(const std::string& title, RunDirectory& run, const std::function<bool()>& stop) {
  LoopContext out;
  out.title = title;
  out.checkpoint = run.file("checkpoint.safetensors");
  out.stop = stop;
  out.record = [&run](const std::map<std::string, double>& line) {
    run.metric(line);
    detail(nlohmann::json(line).dump());
  };
  out.recorded = [&run](int64_t epochs) { run.keep_metrics(epochs); };
  return out;
}

nlohmann::json answer_of(const Training& training, RunDirectory& run) {
  nlohmann::json out{{"epochs", training.loop.epochs},
                     {"best_epoch", training.loop.best_epoch},
                     {"validation", training.loop.validation},
                     {"interrupted", training.loop.interrupted}};
  for (const auto& [name, value] : training.figures) out[name] = value;
  run.manifest()["figures"] = out;
  return out;
}

// Encodes every image into a file beside the run, from which the codes are read as they are needed; a file that is there is complete.
// Nothing where it was stopped.
std::optional<Examples> codes_in(const std::string& file, const Encoder& encoder, const Examples& images, const std::function<bool()>& stop,
                                 at::Device device) {
  bool stopped = false;
  const auto write = [&](const std::string& temporary) {
    Hdf5 h5 = Hdf5::create(temporary);
    std::vector<int64_t> shape = encoder.latent;
    shape.insert(shape.begin(), images.count);
    h5.reserve("codes", shape, at::kFloat);
    const int64_t together = h5.chunk("codes").at(0);
    Progress progress("encode", images.count, "image");
    std::vector<Tensor> held;
    int64_t first = 0, rows = 0;  // of what is held
    each_batch(images, [&](const Tensor& at) {
      stopped = stop();
      require(!stopped, Failure::runtime, "encode: interrupted");
      held.push_back(encoder.encode(images.read(at)).cpu());
      rows += at.size(0);
      const bool last = first + rows == images.count;
      if (rows < together && !last) return;
      // Whole chunks, or the end.
      const Tensor all = at::cat(held);
      const int64_t whole = last ? rows : rows / together * together;
      h5.write_rows("codes", first, all.narrow(0, 0, whole));
      held = {all.narrow(0, whole, rows - whole).clone()};
      first += whole, rows -= whole;
      progress.at(first);
    });
  };
  try {
    if (!std::filesystem::exists(file)) write_file_with(file, write);
  } catch (const Error&) {
    if (!stopped) throw;
    return std::nullopt;
  }
  const RowReader reader(file, "codes");
  Examples out;
  out.count = images.count;
  for (const int64_t n : encoder.latent) out.size *= n;
  out.read = [reader, device](const Tensor& rows) { return reader.read(rows).to(device); };
  out.order = [reader, all = at::arange(images.count, at::kLong)](uint64_t seed, int64_t epoch) {
    return reader.shuffled(all, seed, epoch);
  };
  return out;
}

void require_image(int64_t channels, int64_t height, int64_t width, const Dataset& data, const std::string& file) {
  require(data.channels() == channels && data.height() == height && data.width() == width, Failure::input, "training: dataset ", file,
          " holds images of ", data.width(), "×", data.height(), " with ", data.channels(), " channels, [network] says ", width, "×",
          height, " with ", channels, "; leave channels, height and width out to take the dataset's");
}

using Train = std::function<nlohmann::json(RunDirectory&, at::Device, const std::function<bool()>&)>;

Train classifier_training(const ClassifierOptions& options, const ClassifierTraining& how, const Dataset& data, const std::string& file,
                          bool half) {
  require_image(options.channels, options.height, options.width, data, file);
  require(static_cast<int64_t>(data.label_names.size()) == options.classes, Failure::input, "training: dataset ", file, " holds ",
          data.label_names.size(), " classes, [network] classes is ", options.classes, "; leave it out to take the dataset's");
  return [=](RunDirectory& run, at::Device device, const std::function<bool()>& stop) {
    const Splits splits = splits_of(data, file, device);
    Network network = build_classifier(options, static_cast<uint64_t>(how.loop.seed));
    const ImageSpec image{options.channels, options.height, options.width, {}, {}};
    const Training training = train_classifier(network, image, splits, how, context_of("train classifier", run, stop), device);
    if (!training.loop.interrupted) save_classifier(run.file("weights.safetensors"), options, network, data.label_names, image, half);
    return answer_of(training, run);
  };
}

// The recipe's [classifier], made anew on each device: nothing before train() knows which.
using ClassifierSource = std::function<Classifier(at::Device)>;
ClassifierSource read_classifier(Recipe& recipe, const std::function<void(const Classifier&)>& check = {}) {
  const Classifier read = make_classifier(recipe, at::kCPU);  // what is wrong with it is said before work begins
  if (check) check(read);
  return [config = recipe.resolved()](at::Device device) {
    Recipe again = Recipe::parse(config, "");
    return make_classifier(again, device);
  };
}

// [encoder] with how a program wants its images, and the classifier that it may name a layer of.
struct EncoderSource {
  EncoderChoice choice;
  ImageOptions image;
  ClassifierSource classifier;
};
Encoder encoder_of(const EncoderSource& from, const Dataset& data, at::Device device, int64_t crop = 0) {
  const ImageSpec image{.channels = data.channels(), .height = crop > 0 ? crop : data.height(), .width = crop > 0 ? crop : data.width()};
  const std::optional<Classifier> classifier = from.classifier ? std::optional(from.classifier(device)) : std::nullopt;
  return load_encoder(from.choice, from.image, image, device, classifier ? &*classifier : nullptr);
}

// Crops that the dataset's images have, and for which there are codes `latent`.
void require_crops(const Augmentation& images, const Dataset& data, const std::vector<int64_t>& latent) {
  if (images.crop == 0) return;
  require(images.crop <= std::min(data.height(), data.width()), Failure::input, "[training] crop: found ", images.crop,
          " px, expected at most the images' ", std::min(data.height(), data.width()));
  require(latent.size() == 3, Failure::input, "[training] crop: found ", images.crop, " px for codes ", shape_text(latent),
          ", expected codes [C,H,W], which a crop can have; leave it out");
}

// Crops that a decoder can draw: it draws eight pixels from each place of a code.
void require_crops(const Augmentation& images, const Dataset& data, const DecoderOptions& decoder) {
  require_crops(images, data, code_shape(decoder));
  require(images.crop % 8 == 0, Failure::input, "[training] crop: found ", images.crop,
          " px, expected a multiple of 8, the pixels of a place of a code");
}

// `untrained` to begin with. source: of an inverter; features: where they are compared.
Train decoder_training(const Decoder& untrained, const AutoencoderTraining& how, const Dataset& data, const std::string& file, bool half,
                       const ClassifierSource& features = {}, const std::optional<EncoderSource>& source = {}) {
  const DecoderOptions& options = untrained.options;
  require_image(options.channels, options.height, options.width, data, file);
  return [=](RunDirectory& run, at::Device device, const std::function<bool()>& stop) {
    const Splits splits = splits_of(data, file, device);
    Reconstruction with;
    if (features) with.features = features(device);
    if (source) {
      with.encoder = encoder_of(*source, data, device);
      if (how.images.crop > 0) with.of_crops = encoder_of(*source, data, device, how.images.crop);
    }
    Decoder decoder = untrained;
    const Training training = train_autoencoder(
        decoder, splits, how, context_of("train " + std::string(source ? "inverter" : decoder.kind), run, stop), device, with);
    if (!training.loop.interrupted) save_decoder(run.file("weights.safetensors"), decoder, half);
    return answer_of(training, run);
  };
}

Train gan_training(const DecoderOptions& options, const GanTraining& how, const Dataset& data, const std::string& file, bool half) {
  require_image(options.channels, options.height, options.width, data, file);
  return [=](RunDirectory& run, at::Device device, const std::function<bool()>& stop) {
    const Splits splits = splits_of(data, file, device);
    Decoder decoder{"gan", options, decoder_network(options, static_cast<uint64_t>(how.loop.seed)), {}, {}};
    const Training training = train_gan(decoder, splits, how, context_of("train gan", run, stop), device);
    if (!training.loop.interrupted) save_decoder(run.file("weights.safetensors"), decoder, half);
    return answer_of(training, run);
  };
}

Train codes_training(const CodesTraining& how, const Dataset& data, const std::string& file, const EncoderSource& source) {
  return [=](RunDirectory& run, at::Device device, const std::function<bool()>& stop) {
    const Examples images = examples_of(data, Split::train, file, device);
    const Encoder encoder = encoder_of(source, data, device);
    const std::optional<CodeStatistics> codes = codes_of(encoder, images, how.form, stop);
    if (!codes) return nlohmann::json{{"interrupted", true}};
    save_codes(run.file("weights.safetensors"), *codes, encoder.latent);
    const Tensor deviation = codes->deviation();
    const nlohmann::json out{{"images", images.count},
                             {"smallest_deviation", deviation.min().item<double>()},
                             {"largest_deviation", deviation.max().item<double>()}};
    run.manifest()["figures"] = out;
    return out;
  };
}

Train denoiser_training(const DenoiserOptions& options, const DenoiserTraining& how, const Dataset& data, const std::string& file,
                        const EncoderSource& source, bool half) {
  const bool of_codes = options.space == "code";
  require_image(options.channels, options.height, options.width, data,
                file);  // also where codes are learned: a typed size would be a mistake
  return [=](RunDirectory& run, at::Device device, const std::function<bool()>& stop) {
    const Splits splits = splits_of(data, file, device);
    std::optional<Examples> train = splits.train, validation = splits.validation;
    DenoiserOptions sized = options;
    const std::vector<std::string> files{run.file("codes_train.h5"), run.file("codes_validation.h5")};
    Tensor some;  // that the whitening is taken from: codes of 64 MiB, or 2,048 images
    std::function<Tensor(const Tensor&)> encode;
    if (of_codes) {
      const Encoder encoder = encoder_of(source, data, device);
      const std::vector<int64_t>& latent = encoder.latent;
      require(latent.size() == 1 || latent.size() == 3, Failure::input, "training: encoder ", encoder.name, " makes codes ",
              shape_text(latent), ", expected [D] or [C,H,W], which a denoiser can learn");
      sized.code = latent[0];
      sized.code_height = latent.size() == 3 ? latent[1] : 0;
      sized.code_width = latent.size() == 3 ? latent[2] : 0;
      // Images that are changed anew each time are encoded anew; others once.
      const bool changes = how.images.crop > 0 || how.images.shift > 0 || how.images.flip;
      const std::optional<Examples> codes = codes_in(files[0], encoder, *train, stop, device);
      if (codes) validation = codes_in(files[1], encoder, *validation, stop, device);
      if (!codes || !validation) return nlohmann::json{{"interrupted", true}};
      // What is known of the codes beside their denoiser: a Gaussian or a box of them needs no training.
      CodeSums sums(latent);
      each_batch(*codes, [&](const Tensor& rows) { sums.add(codes->read(rows)); });
      save_codes(run.file("codes.safetensors"), sums.statistics(), latent);
      const int64_t most = std::max<int64_t>(2, (int64_t{1} << 24) / codes->size);
      some = codes->read(evenly_spaced(codes->count, most)).cpu();
      if (changes)
        encode = encoder_of(source, data, device, how.images.crop).encode;
      else
        train = codes;
    } else {
      some =
          train->read(evenly_spaced(train->count, std::min<int64_t>(2048, std::max<int64_t>(2, (int64_t{1} << 24) / train->size)))).cpu();
    }
    Denoiser denoiser = make_denoiser(sized, some, static_cast<uint64_t>(how.loop.seed));
    const Training training = train_denoiser(denoiser, *train, *validation, how, context_of("train denoiser", run, stop), device, encode);
    if (!training.loop.interrupted) save_denoiser(run.file("weights.safetensors"), denoiser, half);
    return answer_of(training, run);
  };
}

// What a critic learns from: made anew from the recipe on each device.
struct CriticNouns {
  Classifier target;
  Codec codec;
  Diffusion diffusion;
};
CriticNouns critic_nouns(Recipe& recipe, at::Device device) {
  CriticNouns out;
  out.target = make_classifier(recipe, device);
  out.codec = make_codec(recipe, out.target.image, device, &out.target);
  const WeightedPrior prior = make_prior(recipe, out.codec, device);
  require(prior.prior && prior.prior->diffusion, Failure::input,
          "training recipe: a critic needs the noise scales of a prior that knows many; ",
          "name a denoiser trained over a range of them: [prior] kind = \"denoiser\", weights = \"file\"");
  out.diffusion = *prior.prior->diffusion;
  require(out.codec.encoder.has_value(), Failure::input, "training recipe: a critic learns from the codes of images, but generator ",
          out.codec.generator.name, " has no encoder; name one ([encoder] weights)");
  return out;
}

CriticOptions sized_for(CriticOptions options, const CriticNouns& nouns) {
  const std::vector<int64_t>& latent = nouns.codec.generator.latent;
  options.code = latent[0];
  options.code_height = latent.size() == 3 ? latent[1] : 0;
  options.code_width = latent.size() == 3 ? latent[2] : 0;
  options.sigma_low = nouns.diffusion.sigma_low;
  options.sigma_high = nouns.diffusion.sigma_high;
  const std::vector<Layer>& layers = nouns.target.layers;
  require(!layers.empty(), Failure::input, "training recipe: target ", nouns.target.name, " has no layers");
  if (options.layer.empty()) options.layer = layers.back().name;
  options.units = units_of(layer_named(nouns.target, options.layer, "[network] layer", Failure::input));
  return options;
}

Train critic_training(const std::string& config, const CriticOptions& options, const CriticTraining& how, const Dataset& data,
                      const std::string& file, bool half) {
  return [=](RunDirectory& run, at::Device device, const std::function<bool()>& stop) {
    Recipe recipe = Recipe::parse(config, "");
    const CriticNouns nouns = critic_nouns(recipe, device);
    const Splits splits = splits_of(data, file, device);
    const ImageSpec seen = nouns.target.image;
    const Layer& layer = layer_named(nouns.target, options.layer);
    const auto said_of = [&, layout = layout_of(layer)](const Tensor& z) {
      Tensor x = nouns.codec.generator.decode(z);
      if (x.size(2) != seen.height || x.size(3) != seen.width) x = at::_upsample_bilinear2d_aa(x, {seen.height, seen.width}, false);
      const Tensor a = by_place(nouns.target.forward(x, {options.layer}).at(options.layer), layout).mean(1).to(at::kFloat);
      return options.classes ? a.softmax(1) : a;
    };
    const Encoder& encoder = *nouns.codec.encoder;
    const Encoder answering{"answers", encoder.image, {options.units}, [&](const Tensor& x) { return said_of(encoder.encode(x)); }};

    // Codes and answers of images as they are, kept in files; of images that are changed anew each time, made each time.
    const auto kept = [&](const Examples& images, const std::string& split) -> std::optional<Answers> {
      const auto codes = codes_in(run.file("codes_" + split + ".h5"), encoder, images, stop, device);
      const auto said = codes ? codes_in(run.file("answers_" + split + ".h5"), answering, images, stop, device) : std::nullopt;
      if (!said) return std::nullopt;
      return Answers{images.count, [codes, said](const Tensor& rows, Stream&) { return std::pair(codes->read(rows), said->read(rows)); },
                     codes->order};
    };
    const bool changes = how.images.shift > 0 || how.images.flip;
    const int64_t epoch = visits(how.images, splits.train.count);
    std::optional<Answers> train, validation = kept(splits.validation, "validation");
    if (validation && changes) {
      train = Answers{epoch,
                      [&](const Tensor& rows, Stream& noise) {
                        const c10::NoGradGuard no_gradient;
                        const Tensor z = encoder.encode(augmented(splits.train.read(rows), how.images, noise));
                        return std::pair(z, said_of(z));
                      },
                      in_epochs(splits.train.order, splits.train.count, epoch)};
    } else if (validation && (train = kept(splits.train, "train"))) {
      train->count = epoch;
      train->order = in_epochs(train->order, splits.train.count, epoch);
    }
    if (!train || !validation) return nlohmann::json{{"interrupted", true}};

    CriticNetwork critic = untrained_critic(options, static_cast<uint64_t>(how.loop.seed));
    critic.mean = nouns.diffusion.mean.cpu();
    critic.deviation = nouns.diffusion.deviation.cpu();
    Stream unused = Stream::range(0, 0, 1, device);
    const Tensor some = validation->read(evenly_spaced(validation->count, 1024), unused).second;
    const Training training = train_critic(critic, *train, *validation, some, how, context_of("train critic", run, stop), device);
    if (!training.loop.interrupted) save_critic(run.file("weights.safetensors"), critic, half);
    return answer_of(training, run);
  };
}

// [training] of the nets that may be saved at half precision.
template <class Options>
struct Halved {
  Options how;
  bool half = false;
};
template <class Options>
void describe(Fields& f, Halved<Options>& o) {
  describe(f, o.how);
  f("half", o.half, "save the weights as float16: half the file");
}

// What a kind plans from. [data] has been read.
struct TrainingOrder {
  Recipe& recipe;
  std::string table;
  const TrainingInputs& inputs;
  const Dataset& data;
};
using TrainingMenu = Menu<TrainingPlan, TrainingOrder>;

TrainingPlan planned(const LoopOptions& loop, Train train) {
  TrainingPlan plan;
  plan.device = loop.device;
  plan.threads = loop.threads;
  plan.seed = loop.seed;
  plan.train = std::move(train);
  return plan;
}

TrainingPlan plan_classifier(const TrainingOrder& order) {
  auto sized = sized_for<TrainedClassifierOptions>(order.data);
  sized.classes = static_cast<int64_t>(order.data.label_names.size());
  const auto network = order.recipe.read<TrainedClassifierOptions>("network", sized);
  const auto how = order.recipe.read<Halved<ClassifierTraining>>("training");
  if (const int64_t crop = how.how.images.crop; crop > 0) {
    ClassifierOptions cut = network;
    cut.height = cut.width = crop;
    const Tensors whole = build_classifier(network, std::nullopt).weights;
    for (const auto& [name, tensor] : build_classifier(cut, std::nullopt).weights)
      require(whole.at(name).sizes() == tensor.sizes(), Failure::input, "[training] crop: found ", crop, " px for a classifier of kind ",
              network.kind, ", whose ", name, " is as large as the images make it; leave it out, or take shift");
  }
  return planned(how.how.loop, classifier_training(network, how.how, order.data, order.inputs.file, how.half));
}

ClassifierSource read_features(const TrainingOrder& order, const AutoencoderTraining& how) {
  require(how.adversarial_weight == 0 || how.loop.patience == 0, Failure::input, "[training] patience: found ", how.loop.patience,
          " beside adversarial_weight, expected 0: with a discriminator no epoch is better than the last");
  if (how.feature_weight == 0) return {};
  return read_classifier(order.recipe,
                         [&](const Classifier& classifier) { require_features(classifier, how.feature_layers, order.data.channels()); });
}

TrainingPlan plan_decoder(const std::string& kind, const TrainingOrder& order) {
  const auto options = order.recipe.read<DecoderOptions>("network", sized_for<DecoderOptions>(order.data));
  const auto how = order.recipe.read<Halved<AutoencoderTraining>>("training");
  require_crops(how.how.images, order.data, options);
  const auto seed = static_cast<uint64_t>(how.how.loop.seed);
  const Decoder untrained{
      kind, options, decoder_network(options, seed), encoder_network(options, options.code * (kind == "vae" ? 2 : 1), seed + 1), {}};
  return planned(how.how.loop,
                 decoder_training(untrained, how.how, order.data, order.inputs.file, how.half, read_features(order, how.how)));
}

TrainingPlan plan_gan(const TrainingOrder& order) {
  const auto network = order.recipe.read<DecoderOptions>("network", sized_for<DecoderOptions>(order.data));
  const auto how = order.recipe.read<Halved<GanTraining>>("training");
  return planned(how.how.loop, gan_training(network, how.how, order.data, order.inputs.file, how.half));
}

EncoderSource read_encoder(Recipe& recipe) {
  EncoderSource out{recipe.read<EncoderChoice>("encoder"), {}, {}};
  require(!out.choice.weights.empty() || !out.choice.layer.empty(), Failure::input,
          "training recipe: what learns from codes needs [encoder] weights, the file of the ",
          "network that makes them: an autoencoder, a vae, or an exported encoder (.pt2); or [encoder] layer, of [classifier]");
  if (recipe.has("encoder.image")) out.image = recipe.read<ImageOptions>("encoder.image");
  if (out.choice.weights.empty()) out.classifier = read_classifier(recipe);
  return out;
}

// What an inverter begins from: the decoder of the file, where its encoder makes the codes and [network] says no other; else a new one.
Decoder read_inverter(const TrainingOrder& order, const EncoderSource& source, uint64_t seed) {
  const std::string& file = source.choice.weights;
  auto sized = sized_for<DecoderOptions>(order.data);
  if (source.choice.layer.empty() && file.ends_with(".safetensors")) {
    Decoder saved = load_decoder(file);
    require(!saved.encoder.steps.empty(), Failure::input, file, ": found a decoder of kind ", saved.kind,
            ", which has no encoder; an inverter needs one: take an autoencoder or a vae");
    saved = resized(std::move(saved), sized.height, sized.width);
    const auto options = order.recipe.read<DecoderOptions>("network", saved.options);
    const auto described = [](DecoderOptions o) {
      return std::tuple(o.code, o.encoder_filters, o.hidden, o.spatial, o.blocks, o.channels, o.height, o.width);
    };
    require(described(options) == described(saved.options), Failure::input, "[network]: an inverter keeps the encoder of ", file,
            " beside its decoder; expected nothing but filters to differ from it");
    if (options.filters != saved.options.filters) saved.decoder = decoder_network(options, seed);
    saved.options = options;
    return saved;
  }
  const Encoder encoder = encoder_of(source, order.data, at::kCPU);
  require(encoder.latent.size() == 1 || encoder.latent.size() == 3, Failure::input, "training: encoder ", encoder.name, " makes codes ",
          shape_text(encoder.latent), ", expected [D] or [C,H,W], which a decoder can draw from");
  sized.code = encoder.latent[0];
  sized.spatial = encoder.latent.size() == 3;
  const auto options = order.recipe.read<DecoderOptions>("network", sized);
  require(code_shape(options) == encoder.latent, Failure::input, "training: encoder ", encoder.name, " makes codes ",
          shape_text(encoder.latent), ", [network] describes a decoder of ", shape_text(code_shape(options)),
          "; expected numbers [D], or a map at an eighth of the image's size, and code and spatial left out");
  return {"inverter", options, decoder_network(options, seed), {}, {}};
}

TrainingPlan plan_inverter(const TrainingOrder& order) {
  const auto how = order.recipe.read<Halved<AutoencoderTraining>>("training");
  const EncoderSource source = read_encoder(order.recipe);
  const Decoder untrained = read_inverter(order, source, static_cast<uint64_t>(how.how.loop.seed));
  require_crops(how.how.images, order.data, untrained.options);
  if (const int64_t crop = how.how.images.crop; crop > 0) {
    const std::vector<int64_t> found = encoder_of(source, order.data, at::kCPU, crop).latent,
                               wanted{untrained.options.code, crop / 8, crop / 8};
    require(found == wanted, Failure::input, "[training] crop: found codes ", shape_text(found), " of ", crop, " px, expected ",
            shape_text(wanted), ", which the decoder draws them from");
  }
  return planned(how.how.loop,
                 decoder_training(untrained, how.how, order.data, order.inputs.file, how.half, read_features(order, how.how), source));
}

TrainingPlan plan_codes(const TrainingOrder& order) {
  const auto how = order.recipe.read<CodesTraining>("training");
  const EncoderSource source = read_encoder(order.recipe);
  TrainingPlan plan;
  plan.device = how.device;
  plan.threads = how.threads;
  plan.train = codes_training(how, order.data, order.inputs.file, source);
  return plan;
}

TrainingPlan plan_denoiser(const TrainingOrder& order) {
  const auto network = order.recipe.read<DenoiserOptions>("network", sized_for<DenoiserOptions>(order.data));
  const auto how = order.recipe.read<Halved<DenoiserTraining>>("training");
  const EncoderSource source = network.space == "code" ? read_encoder(order.recipe) : EncoderSource{};
  if (const int64_t crop = how.how.images.crop; network.space == "code" && crop > 0) {
    require_crops(how.how.images, order.data, encoder_of(source, order.data, at::kCPU).latent);
    encoder_of(source, order.data, at::kCPU, crop);  // that it takes them
  }
  return planned(how.how.loop, denoiser_training(network, how.how, order.data, order.inputs.file, source, how.half));
}

TrainingPlan plan_critic(const TrainingOrder& order) {
  const CriticNouns nouns = critic_nouns(order.recipe, at::kCPU);
  const CriticOptions network = sized_for(order.recipe.read<CriticOptions>("network"), nouns);
  const auto how = order.recipe.read<Halved<CriticTraining>>("training");
  require(how.how.images.crop == 0, Failure::input, "[training] crop: found ", how.how.images.crop,
          " px, expected 0: the target answers about whole images");
  const Tensor mean = untrained_critic(network, 0).mean;
  require(mean.sizes() == nouns.diffusion.mean.sizes(), Failure::input, "training recipe: found a prior whose means are ",
          shape_text(nouns.diffusion.mean.sizes().vec()), ", expected ", shape_text(mean.sizes().vec()),
          ", by channel for spatial codes, which a critic keeps; take a denoiser, or a gaussian of the form channel");
  return planned(how.how.loop, critic_training(order.recipe.resolved(), network, how.how, order.data, order.inputs.file, how.half));
}

const TrainingMenu& trainings() {
  using O = const TrainingOrder&;
  const TableHelp data{"data", help_of<TrainingInputs>()}, encoder{"encoder", help_of<EncoderChoice>()},
      classifier{"classifier", classifier_help()}, decoder{"network", help_of<DecoderOptions>()},
      reconstruction{"training", help_of<Halved<AutoencoderTraining>>()};
  const std::string brief = "[training]\nepochs = 1\nbatch = 32\n",
                    small = "[network]\ncode = 4\nfilters = 2\nencoder_filters = 2\n" + brief;
  static const TrainingMenu menu(
      "", "",
      {{{"",
         "classifier",
         "a network that tells the dataset's classes apart",
         "[network]\nfilters = 2\n" + brief,
         {data, {"network", help_of<TrainedClassifierOptions>()}, {"training", help_of<Halved<ClassifierTraining>>()}}},
        plan_classifier},
       {{"", "autoencoder", "an encoder and a decoder that give an image back", small, {data, classifier, decoder, reconstruction}},
        [](O order) { return plan_decoder("autoencoder", order); }},
       {{"", "vae", "the same, with codes near N(0, 1)", small, {data, classifier, decoder, reconstruction}},
        [](O order) { return plan_decoder("vae", order); }},
       {{"",
         "inverter",
         "a decoder of codes that another network makes: a layer of a classifier, or an autoencoder whose decoder learns on",
         "[classifier]\nweights = \"classifier.safetensors\"\n[encoder]\nlayer = \"dense1\"\n[network]\nfilters = 2\n" + brief +
             "feature_weight = 0.1\nfeature_layers = [\"relu2\"]\nadversarial_weight = 0.01\n",
         {data, classifier, encoder, decoder, reconstruction}},
        plan_inverter},
       {{"",
         "gan",
         "a decoder whose draws a discriminator takes for images",
         small,
         {data, decoder, {"training", help_of<Halved<GanTraining>>()}}},
        plan_gan},
       {{"",
         "codes",
         "nothing is learned: the mean, covariance and range of an encoder's codes are measured",
         "[encoder]\nweights = \"encoder.safetensors\"\n",
         {data, encoder, {"training", help_of<CodesTraining>()}}},
        plan_codes},
       {{"",
         "denoiser",
         "what is expected of a code (or an image) below noise: a prior",
         "[network]\nspace = \"image\"\nbase_channels = 4\nblocks = 1\n" + brief,
         {data, encoder, {"network", help_of<DenoiserOptions>()}, {"training", help_of<Halved<DenoiserTraining>>()}}},
        plan_denoiser},
       {{"",
         "critic",
         "what the target will say of a code that is only known below noise: steers the sampler guided",
         "[classifier]\nweights = \"classifier.safetensors\"\n[generator]\nkind = \"decoder\"\nweights = "
         "\"encoder.safetensors\"\n[prior]\nkind = "
         "\"denoiser\"\nweights = \"denoiser.safetensors\"\n[network]\nhidden = 16\nblocks = 1\n" +
             brief,
         {data, classifier, {"network", help_of<CriticOptions>()}, {"training", help_of<Halved<CriticTraining>>()}}},
        plan_critic}});
  return menu;
}

}  // namespace

TrainingPlan plan_training(Recipe& recipe) {
  const TrainingMenu::Row& row = trainings().chosen(recipe);
  const auto inputs = recipe.read<TrainingInputs>("data");
  require(!inputs.file.empty(), Failure::input, "training recipe: found no dataset; name one with --data or [data] file");
  const Dataset data = open_dataset(inputs.file);
  TrainingPlan plan = row.make({recipe, "", inputs, data});
  plan.kind = row.entry.kind;
  recipe.refuse_unread();
  plan.inputs = recipe.files();
  std::erase(plan.inputs, inputs.file);
  plan.inputs.insert(plan.inputs.begin(), inputs.file);
  plan.config = recipe.resolved();
  return plan;
}

std::vector<MenuEntry> training_menu() { return trainings().entries(); }

}  // namespace evoke
