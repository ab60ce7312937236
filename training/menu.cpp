#include "training/menu.h"

#include <ATen/ATen.h>

#include <filesystem>

#include "core/error.h"
#include "core/log.h"
#include "generators/encoder.h"
#include "training/datasets/dataset.h"
#include "training/kinds.h"

namespace evoke {

namespace {

struct Prepared {
  Splits splits;
  Dataset data;
};

Prepared prepare(const std::string& file, at::Device device) {
  Prepared out;
  out.data = load_dataset(file);
  const auto split = [&](Split which) {
    Dataset rows = part(out.data, which);
    require(rows.images.size(0) > 0, Failure::input, "dataset ", file,
            ": found a split without images; expected training, validation and test");
    return Examples{rows.images.to(device), rows.labels.to(device)};
  };
  out.splits = {split(Split::train), split(Split::validation), split(Split::test)};
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

void require_image(int64_t channels, int64_t height, int64_t width, const Tensor& images, const std::string& file) {
  require(images.size(3) == channels && images.size(1) == height && images.size(2) == width, Failure::input, "training: dataset ", file,
          " holds images of ", images.size(2), "×", images.size(1), " with ", images.size(3), " channels, [network] expects ", width, "×",
          height, " with ", channels, "; set [network] to fit");
}

using Train = std::function<nlohmann::json(RunDirectory&, at::Device, const std::function<bool()>&)>;

Train classifier_training(const ClassifierOptions& options, const LoopOptions& loop, const TrainingInputs& inputs) {
  return [=](RunDirectory& run, at::Device device, const std::function<bool()>& stop) {
    const Prepared from = prepare(inputs.file, device);
    require_image(options.channels, options.height, options.width, from.data.images, inputs.file);
    require(static_cast<int64_t>(from.data.label_names.size()) == options.classes, Failure::input, "training: dataset ", inputs.file,
            " holds ", from.data.label_names.size(), " classes, [network] classes is ", options.classes, "; set it to fit");
    Network network = build_classifier(options, static_cast<uint64_t>(loop.seed));
    const ImageSpec image{options.channels, options.height, options.width, {}, {}};
    const Training training = train_classifier(network, image, from.splits, loop, context_of("train classifier", run, stop), device);
    if (!training.loop.interrupted) save_classifier(run.file("weights.safetensors"), options, network, from.data.label_names, image);
    return answer_of(training, run);
  };
}

Train decoder_training(const std::string& kind, const DecoderOptions& options, const AutoencoderTraining& how, const TrainingInputs& inputs,
                       bool half) {
  return [=](RunDirectory& run, at::Device device, const std::function<bool()>& stop) {
    const Prepared from = prepare(inputs.file, device);
    require_image(options.channels, options.image_height, options.image_width, from.data.images, inputs.file);
    const auto seed = static_cast<uint64_t>(how.loop.seed);
    Decoder decoder{
        kind, options, decoder_network(options, seed), encoder_network(options, options.code * (kind == "vae" ? 2 : 1), seed + 1), {}};
    const Training training = train_autoencoder(decoder, from.splits, how, context_of("train " + kind, run, stop), device);
    if (!training.loop.interrupted) save_decoder(run.file("weights.safetensors"), decoder, half);
    return answer_of(training, run);
  };
}

Train gan_training(const DecoderOptions& options, const GanTraining& how, const TrainingInputs& inputs, bool half) {
  return [=](RunDirectory& run, at::Device device, const std::function<bool()>& stop) {
    const Prepared from = prepare(inputs.file, device);
    require_image(options.channels, options.image_height, options.image_width, from.data.images, inputs.file);
    Decoder decoder{"gan", options, decoder_network(options, static_cast<uint64_t>(how.loop.seed)), {}, {}};
    const Training training = train_gan(decoder, from.splits, how, context_of("train gan", run, stop), device);
    if (!training.loop.interrupted) save_decoder(run.file("weights.safetensors"), decoder, half);
    return answer_of(training, run);
  };
}

// [encoder] with how a program wants its images.
struct EncoderSource {
  EncoderChoice choice;
  ImageOptions image;
};
Encoder encoder_of(const EncoderSource& from, const Tensor& images, at::Device device) {
  return load_encoder(from.choice, from.image, {.channels = images.size(3), .height = images.size(1), .width = images.size(2)}, device);
}

Train codes_training(const CodesTraining& how, const TrainingInputs& inputs, const EncoderSource& source) {
  return [=](RunDirectory& run, at::Device device, const std::function<bool()>&) {
    const Prepared from = prepare(inputs.file, device);
    const Tensor& images = from.splits.train.images;
    const Encoder encoder = encoder_of(source, images, device);
    const CodeStatistics codes = codes_of(encoder, images, how.form);
    save_codes(run.file("weights.safetensors"), codes, encoder.latent);
    const Tensor deviation = codes.deviation();
    const nlohmann::json out{{"images", images.size(0)},
                             {"smallest_deviation", deviation.min().item<double>()},
                             {"largest_deviation", deviation.max().item<double>()}};
    run.manifest()["figures"] = out;
    return out;
  };
}

Train denoiser_training(const DenoiserOptions& options, const DenoiserTraining& how, const TrainingInputs& inputs,
                        const EncoderSource& source, bool half) {
  return [=](RunDirectory& run, at::Device device, const std::function<bool()>& stop) {
    const Prepared from = prepare(inputs.file, device);
    Tensor train = from.splits.train.images, validation = from.splits.validation.images, whole;
    DenoiserOptions sized = options;
    if (options.space == "code") {
      const Encoder encoder = encoder_of(source, train, device);
      const std::vector<int64_t>& latent = encoder.latent;
      require(latent.size() == 1 || latent.size() == 3, Failure::input, "training: encoder ", encoder.name, " makes codes ",
              shape_text(latent), ", expected [D] or [C,H,W], which a denoiser can learn");
      sized.code = latent[0];
      sized.code_height = latent.size() == 3 ? latent[1] : 0;
      sized.code_width = latent.size() == 3 ? latent[2] : 0;
      // What is known of the codes beside their denoiser: a Gaussian or a box of them needs no training.
      save_codes(run.file("codes.safetensors"), codes_of(encoder, train), latent);
      train = encoded(encoder, train);
      validation = encoded(encoder, validation);
      whole = train.cpu();
    } else {
      require_image(options.channels, options.image_height, options.image_width, from.data.images, inputs.file);
      whole = images_at(train.cpu(), at::arange(std::min<int64_t>(2048, train.size(0))));
    }
    Denoiser denoiser = make_denoiser(sized, whole, static_cast<uint64_t>(how.loop.seed));
    const Training training = train_denoiser(denoiser, train, validation, how, context_of("train denoiser", run, stop), device);
    if (!training.loop.interrupted) save_denoiser(run.file("weights.safetensors"), denoiser, half);
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
  const auto network = order.recipe.read<TrainedClassifierOptions>("network");
  const auto loop = order.recipe.read<LoopOptions>("training");
  return planned(loop, classifier_training(network, loop, order.inputs));
}

TrainingPlan plan_decoder(const std::string& kind, const TrainingOrder& order) {
  const auto network = order.recipe.read<DecoderOptions>("network");
  const auto how = order.recipe.read<Halved<AutoencoderTraining>>("training");
  return planned(how.how.loop, decoder_training(kind, network, how.how, order.inputs, how.half));
}

TrainingPlan plan_gan(const TrainingOrder& order) {
  const auto network = order.recipe.read<DecoderOptions>("network");
  const auto how = order.recipe.read<Halved<GanTraining>>("training");
  return planned(how.how.loop, gan_training(network, how.how, order.inputs, how.half));
}

EncoderSource read_encoder(Recipe& recipe) {
  EncoderSource out{recipe.read<EncoderChoice>("encoder"), {}};
  require(!out.choice.weights.empty(), Failure::input, "training recipe: what learns from codes needs [encoder] weights, the file of the ",
          "network that makes them: an autoencoder, a vae, or an exported encoder (.pt2)");
  if (recipe.has("encoder.image")) out.image = recipe.read<ImageOptions>("encoder.image");
  return out;
}

TrainingPlan plan_codes(const TrainingOrder& order) {
  const auto how = order.recipe.read<CodesTraining>("training");
  const EncoderSource source = read_encoder(order.recipe);
  TrainingPlan plan;
  plan.device = how.device;
  plan.threads = how.threads;
  plan.inputs.push_back(source.choice.weights);
  plan.train = codes_training(how, order.inputs, source);
  return plan;
}

TrainingPlan plan_denoiser(const TrainingOrder& order) {
  const auto network = order.recipe.read<DenoiserOptions>("network");
  const auto how = order.recipe.read<Halved<DenoiserTraining>>("training");
  const EncoderSource source = network.space == "code" ? read_encoder(order.recipe) : EncoderSource{};
  TrainingPlan plan = planned(how.how.loop, denoiser_training(network, how.how, order.inputs, source, how.half));
  if (!source.choice.weights.empty()) plan.inputs.push_back(source.choice.weights);
  return plan;
}

const TrainingMenu& trainings() {
  using O = const TrainingOrder&;
  const TableHelp data{"data", help_of<TrainingInputs>()}, encoder{"encoder", help_of<EncoderChoice>()},
      decoder{"network", help_of<DecoderOptions>()}, reconstruction{"training", help_of<Halved<AutoencoderTraining>>()};
  const std::string brief = "[training]\nepochs = 1\nbatch = 32\n", small = "[network]\ncode = 4\nwidth = 2\nencoder_width = 2\n" + brief;
  static const TrainingMenu menu(
      "", "",
      {{{"",
         "classifier",
         "a network that tells the dataset's classes apart",
         "[network]\nfilters = 2\n" + brief,
         {data, {"network", help_of<TrainedClassifierOptions>()}, {"training", help_of<LoopOptions>()}}},
        plan_classifier},
       {{"", "autoencoder", "an encoder and a decoder that give an image back", small, {data, decoder, reconstruction}},
        [](O order) { return plan_decoder("autoencoder", order); }},
       {{"", "vae", "the same, with codes near N(0, 1)", small, {data, decoder, reconstruction}},
        [](O order) { return plan_decoder("vae", order); }},
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
        plan_denoiser}});
  return menu;
}

}  // namespace

TrainingPlan plan_training(Recipe& recipe) {
  const TrainingMenu::Row& row = trainings().chosen(recipe);
  const auto inputs = recipe.read<TrainingInputs>("data");
  require(!inputs.file.empty(), Failure::input, "training recipe: found no dataset; name one with --data or [data] file");
  TrainingPlan plan = row.make({recipe, "", inputs});
  plan.kind = row.entry.kind;
  plan.inputs.insert(plan.inputs.begin(), inputs.file);
  recipe.refuse_unread();
  plan.config = recipe.resolved();
  return plan;
}

std::vector<MenuEntry> training_menu() { return trainings().entries(); }

}  // namespace evoke
