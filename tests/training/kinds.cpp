// Each kind of net learns something on a handful of images, and what it leaves behind works.
#include "training/kinds.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <map>

#include "tests/expect.h"

namespace evoke {
namespace {

// Small tensors: threads that wait for one another would take most of the time.
[[maybe_unused]] const bool one_thread = (set_threads(1), true);

// Two classes of 16×16 images: a bright left half, a bright lower half, with noise.
Splits toy() {
  const auto make = [](int64_t first, int64_t rows) {
    const Tensor labels = at::arange(rows).remainder(2);
    Tensor images = Stream::range(3, first, rows).uniform({16, 16, 3}) * 40.0;
    for (int64_t i = 0; i < rows; ++i) (i % 2 == 0 ? images[i].slice(1, 0, 8) : images[i].slice(0, 8, 16)).add_(200);
    return examples_of(images.to(at::kByte), labels, at::kCPU);
  };
  return {make(0, 128), make(1000, 32), make(2000, 32)};
}

LoopOptions few(int64_t epochs) {
  LoopOptions out;
  out.epochs = epochs;
  out.batch = 16;
  out.learning_rate = 3e-3;
  return out;
}
DecoderOptions small_decoder() {
  DecoderOptions out;
  out.code = 4;
  out.filters = 8;
  out.encoder_filters = 8;
  out.height = out.width = 16;
  return out;
}

TEST(Kinds, ClassifierLearns) {
  ClassifierOptions options;
  options.classes = 2;
  options.height = options.width = 16;
  Network network = build_classifier(options, 1);
  const ImageSpec image{3, 16, 16, {}, {}};
  const Training training = train_classifier(network, image, toy(), {few(3), {}}, {}, at::kCPU);
  EXPECT_GE(training.figures.at("test_accuracy"), 0.95);
  EXPECT_FALSE(network.weights.begin()->second.requires_grad());
  Network untrained = build_classifier(options, 1);
  EXPECT_GT(train_classifier(
                untrained, image, toy(),
                [] {
                  ClassifierTraining o{few(1), {}};
                  o.loop.learning_rate = 1e-9;
                  return o;
                }(),
                {}, at::kCPU)
                .figures.at("test_cross_entropy"),
            training.figures.at("test_cross_entropy"));
}

TEST(Kinds, AutoencoderAndVae) {
  for (const auto& [kind, spatial] : std::vector<std::pair<std::string, bool>>{{"autoencoder", false}, {"vae", false}, {"vae", true}}) {
    DecoderOptions options = small_decoder();
    options.spatial = spatial;
    Decoder decoder{kind, options, decoder_network(options, 1), encoder_network(options, kind == "vae" ? 8 : 4, 2), {}};
    AutoencoderTraining how;
    how.loop = few(12);
    const Training training = train_autoencoder(decoder, toy(), how, {}, at::kCPU);
    // Predicting the mean image leaves an error of about 0.08.
    EXPECT_LT(training.figures.at("test_error"), 0.03) << kind;
    EXPECT_EQ(decoder.codes.mean.sizes(), (spatial ? std::vector<int64_t>{4, 1, 1} : std::vector<int64_t>{4}));
    const Generator generator = as_generator(decoder, at::kCPU);
    const Tensor x = toy().test.read(at::arange(8));
    EXPECT_NEAR((generator.decode(as_encoder(decoder, at::kCPU)->encode(x)) - x).square().mean().item<double>(),
                training.figures.at("test_error"), 0.01);
  }
}

// An encoder of two numbers, how bright the left and the lower half are.
Encoder halves() {
  return {"halves", {3, 16, 16, {}, {}}, {2}, [](const Tensor& x) {
            return at::stack({x.slice(3, 0, 8).mean({1, 2, 3}), x.slice(2, 8, 16).mean({1, 2, 3})}, 1);
          }};
}
Decoder blank_inverter() {
  DecoderOptions options = small_decoder();
  options.code = 2;
  return {"inverter", options, decoder_network(options, 1), {}, {}};
}

TEST(Kinds, AnInverterLearnsToDrawFromCodesThatItDoesNotMake) {
  Decoder decoder = blank_inverter();
  AutoencoderTraining how;
  how.loop = few(12);
  how.code_noise = 0.01;
  Reconstruction with;
  with.encoder = halves();
  const Training training = train_autoencoder(decoder, toy(), how, {}, at::kCPU, with);
  EXPECT_LT(training.figures.at("test_error"), 0.03);  // the mean image: 0.08
  EXPECT_TRUE(decoder.encoder.steps.empty());
  EXPECT_TRUE(at::allclose(decoder.codes.mean, codes_of(halves(), toy().train)->mean));
}

// A network of two layers whose features are known: a map of what 4 × 4 px hold in four squares, and the halves' means.
Classifier looker() {
  Classifier out;
  out.name = "looker";
  out.image = {3, 16, 16, {}, {}};
  out.layers = {{"squares", "toy", {4, 4, 4}, 0}, {"halves", "toy", {2}, 0}};
  out.forward = [](const Tensor& x, const std::vector<std::string>& taps) {
    Activations all;
    for (const std::string& tap : taps)
      all[tap] = tap == "squares" ? at::pixel_unshuffle(at::avg_pool2d(x.mean({1}, true), {2, 2}), 2) - 0.4 : halves().encode(x);
    return all;
  };
  return out;
}

TEST(Kinds, FeaturesAreComparedByTheirDirections) {
  // A decoder that does not learn: what is recorded, and the figure of the test split, against cosines, |a - b|² = 2 - 2·cos.
  Decoder decoder = blank_inverter();
  Decoder untrained = decoder;
  untrained.codes = *codes_of(halves(), toy().train);
  const Generator generator = as_generator(untrained, at::kCPU);
  AutoencoderTraining how;
  how.loop = few(1);
  how.loop.learning_rate = 1e-12;
  how.feature_weight = 0.5;
  how.feature_layers = {"squares", "halves"};
  Reconstruction with;
  with.encoder = halves();
  with.features = looker();
  std::map<std::string, double> recorded;
  LoopContext context;
  context.record = [&](const std::map<std::string, double>& line) { recorded = line; };
  const Training training = train_autoencoder(decoder, toy(), how, context, at::kCPU, with);
  const auto by_cosines = [&](const Examples& from) {
    const Tensor x = from.read(at::arange(from.count)), y = generator.decode(halves().encode(x));
    const Activations a = looker().forward(x, how.feature_layers), b = looker().forward(y, how.feature_layers);
    const Tensor squares = 2 - 2 * at::cosine_similarity(a.at("squares"), b.at("squares"), 1, 1e-6),
                 means = 2 - 2 * at::cosine_similarity(a.at("halves"), b.at("halves"), 1, 1e-6);
    return std::pair(0.5 * (squares.mean() + means.mean()).item<double>(), (x - y).square().mean().item<double>());
  };
  const auto [train, train_error] = by_cosines(toy().train);
  const auto [test, test_error] = by_cosines(toy().test);
  const auto [validation, validation_error] = by_cosines(toy().validation);
  EXPECT_GT(train, 0.1);
  EXPECT_NEAR(recorded.at("features"), train, 1e-4);
  EXPECT_NEAR(recorded.at("squared"), train_error, 1e-4);
  EXPECT_NEAR(recorded.at("loss"), train_error + 0.5 * train, 1e-4);
  EXPECT_NEAR(training.figures.at("test_features"), test, 1e-4);
  EXPECT_NEAR(training.figures.at("test_error"), test_error, 1e-4);
  EXPECT_NEAR(training.loop.validation.at("validation"), validation_error + 0.5 * validation, 1e-4);

  // And they come nearer than squared error alone brings them.
  std::map<double, double> apart;
  for (const double weight : {1e-9, 0.1}) {
    Decoder learner = blank_inverter();
    how.loop = few(6);
    how.feature_weight = weight;
    apart[weight] = train_autoencoder(learner, toy(), how, {}, at::kCPU, with).figures.at("test_features");
  }
  EXPECT_LT(apart[0.1], 0.9 * apart[1e-9]);
}

TEST(Kinds, ADiscriminatorBringsBackTheGrain) {
  // The images are grainy (uniform, over 40 of 255), which no code tells of: squared error alone smooths it away.
  const auto grain = [](const Tensor& x) { return (x.slice(3, 1, 7) - x.slice(3, 0, 6)).square().mean().item<double>(); };
  const Tensor x = toy().test.read(at::arange(32));
  std::map<double, double> found;
  for (const double weight : {0.0, 0.1}) {
    Decoder decoder = blank_inverter();
    AutoencoderTraining how;
    how.loop = few(60);
    how.loop.beta1 = 0.5;
    how.adversarial_weight = weight;
    Reconstruction with;
    with.encoder = halves();
    std::map<std::string, double> recorded;
    LoopContext context;
    context.record = [&](const std::map<std::string, double>& line) { recorded = line; };
    const Training training = train_autoencoder(decoder, toy(), how, context, at::kCPU, with);
    EXPECT_LT(training.figures.at("test_error"), 0.01);
    found[weight] = grain(as_generator(decoder, at::kCPU).decode(halves().encode(x)));
    if (weight == 0) continue;
    EXPECT_EQ(training.loop.best_epoch, 60);                                // the last, whatever its error
    EXPECT_LT(std::abs(recorded.at("real1") - recorded.at("fake1")), 1.0);  // neither has won
    EXPECT_NEAR(recorded.at("adversarial0"), std::log(2.0), 0.3);
  }
  EXPECT_LT(found[0.0], 0.35 * grain(x));
  EXPECT_GT(found[0.1], 1.5 * found[0.0]);
  EXPECT_LT(found[0.1], 3.0 * grain(x));
}

// The test images of a large dataset take minutes, which nobody has who was told to stop.
TEST(Kinds, AnInterruptedTrainingEndsWithoutFigures) {
  Splits data = toy();
  int read = 0;
  data.test.read = [&read, of = data.test.read](const Tensor& rows) { return ++read, of(rows); };
  LoopContext context;
  context.stop = [] { return true; };
  const DecoderOptions options = small_decoder();
  ClassifierOptions classes;
  classes.classes = 2;
  classes.height = classes.width = 16;
  Network network = build_classifier(classes, 1);
  Decoder codes{"autoencoder", options, decoder_network(options, 1), encoder_network(options, 4, 2), {}},
      drawn{"gan", options, decoder_network(options, 1), {}, {}};
  AutoencoderTraining how;
  how.loop = few(2);
  GanTraining gan;
  gan.loop = few(2);
  for (const Training& training :
       {train_classifier(network, {3, 16, 16, {}, {}}, data, {few(2), {}}, context, at::kCPU),
        train_autoencoder(codes, data, how, context, at::kCPU), train_gan(drawn, data, gan, context, at::kCPU)}) {
    EXPECT_TRUE(training.loop.interrupted);
    EXPECT_TRUE(training.figures.empty());
  }
  EXPECT_EQ(read, 0);
}

// What the codes are measured of is every training image, after the last step.
TEST(Kinds, ATrainingStoppedWhileItMeasuresCodesEndsWithoutFigures) {
  Splits data = toy();
  bool trained = false;
  data.test.read = [&trained, of = data.test.read](const Tensor& rows) { return trained = true, of(rows); };
  LoopContext context;
  context.stop = [&] { return trained; };
  const DecoderOptions options = small_decoder();
  Decoder decoder{"autoencoder", options, decoder_network(options, 1), encoder_network(options, 4, 2), {}};
  AutoencoderTraining how;
  how.loop = few(2);
  const Training stopped = train_autoencoder(decoder, data, how, context, at::kCPU);
  EXPECT_TRUE(trained);
  EXPECT_TRUE(stopped.loop.interrupted);
  EXPECT_TRUE(stopped.figures.empty());
}

TEST(Kinds, GanDrawsComeNearer) {
  const DecoderOptions options = small_decoder();
  const auto distance_after = [&](int64_t epochs, double rate) {
    Decoder decoder{"gan", options, decoder_network(options, 1), {}, {}};
    GanTraining how;
    how.loop = few(epochs);
    how.loop.learning_rate = rate;
    how.loop.beta1 = 0.0;
    const double distance = train_gan(decoder, toy(), how, {}, at::kCPU).figures.at("sliced_distance");
    EXPECT_TRUE(decoder.encoder.steps.empty());
    return distance;
  };
  EXPECT_LT(distance_after(15, 2e-3), 0.7 * distance_after(1, 1e-9));
}

TEST(Kinds, GanOfSpatialCodes) {
  DecoderOptions options = small_decoder();
  options.spatial = true;
  Decoder decoder{"gan", options, decoder_network(options, 1), {}, {}};
  GanTraining how;
  how.loop = few(1);
  EXPECT_TRUE(std::isfinite(train_gan(decoder, toy(), how, {}, at::kCPU).figures.at("sliced_distance")));
  EXPECT_NO_THROW(decoder.codes.require_fit({4, 2, 2}, "gan"));
}

TEST(Kinds, CodesOfImagesAreMeasuredInParts) {
  const DecoderOptions options = small_decoder();
  const Decoder decoder{"autoencoder", options, decoder_network(options, 1), encoder_network(options, 4, 2), {}};
  const Encoder encoder = *as_encoder(decoder, at::kCPU);
  Examples images = toy().train;
  images.count = 3 * images.count;  // more than one part
  images.read = [train = toy().train](const Tensor& rows) { return train.read(rows.remainder(train.count)); };
  const Tensor codes = encoder.encode(images.read(at::arange(384)));
  EXPECT_EQ(codes.sizes(), at::IntArrayRef({384, 4}));
  const CodeStatistics found = *codes_of(encoder, images), whole = code_statistics(codes);
  EXPECT_FALSE(codes_of(encoder, images, "auto", [] { return true; }).has_value());
  EXPECT_TRUE(at::allclose(found.covariance, whole.covariance));
  EXPECT_TRUE(at::equal(found.low, whole.low));
  EXPECT_EQ(codes_of(encoder, images, "diagonal")->covariance.sizes(), at::IntArrayRef({4}));
}

TEST(Kinds, DenoiserOfSpatialCodesBeatsTheGaussianGuess) {
  // Stripes, across or along: every place looks like noise, their neighbours give them away.
  const auto stripes = [](int64_t first, int64_t rows) {
    Stream stream = Stream::range(5, first, rows);
    const Tensor sign = (stream.uniform({2, 1, 1}) - 0.5).sign(), along = (stream.uniform({1, 1, 1}) > 0.5).to(at::kFloat);
    const Tensor place = 1 - 2 * at::arange(6).remainder(2).to(at::kFloat);
    return sign * (along * place.view({1, 1, 1, 6}) + (1 - along) * place.view({1, 1, 6, 1}));
  };
  DenoiserOptions options;
  options.code = 2;
  options.code_height = options.code_width = 6;
  options.base_channels = 8;
  options.blocks = 1;
  Denoiser denoiser = make_denoiser(options, stripes(0, 512), 1);
  DenoiserTraining how;
  how.loop = few(1);
  how.loop.learning_rate = 1e-9;
  const double before =
      train_denoiser(denoiser, examples_of(stripes(0, 512), {}, at::kCPU), examples_of(stripes(1000, 128), {}, at::kCPU), how, {}, at::kCPU)
          .figures.at("validation");
  how.loop = few(6);
  const double after =
      train_denoiser(denoiser, examples_of(stripes(0, 512), {}, at::kCPU), examples_of(stripes(1000, 128), {}, at::kCPU), how, {}, at::kCPU)
          .figures.at("validation");
  EXPECT_LT(after, 0.7 * before);
}

TEST(Kinds, DenoiserBeatsTheGaussianGuess) {
  // Codes on a ring: the Gaussian guess is blind to it, a denoiser is not.
  const auto ring = [](int64_t first, int64_t rows) {
    const Tensor angle = Stream::range(5, first, rows).uniform({}) * (2 * M_PI);
    return at::stack({angle.cos(), angle.sin()}, 1);
  };
  DenoiserOptions options;
  options.code = 2;
  options.hidden = 64;
  options.blocks = 2;
  Denoiser denoiser = make_denoiser(options, ring(0, 512), 1);
  DenoiserTraining how;
  how.loop = few(1);
  how.loop.learning_rate = 1e-9;
  const double before =
      train_denoiser(denoiser, examples_of(ring(0, 512), {}, at::kCPU), examples_of(ring(1000, 128), {}, at::kCPU), how, {}, at::kCPU)
          .figures.at("validation");
  how.loop = few(30);
  const double after =
      train_denoiser(denoiser, examples_of(ring(0, 512), {}, at::kCPU), examples_of(ring(1000, 128), {}, at::kCPU), how, {}, at::kCPU)
          .figures.at("validation");
  EXPECT_LT(after, 0.8 * before);
}

// A code of one number, N(0, 1), of which the target says 1/(1+e^{-4z}) of class 0 and the rest of class 1; or 2z of a unit.
double said_of(double z) { return 1 / (1 + std::exp(-4 * z)); }

TEST(Kinds, CriticForetellsTheExpectedAnswer) {
  for (const bool classes : {true, false}) {
    const auto answers = [classes](int64_t first, int64_t rows) {
      const Tensor z = Stream::range(6, first, rows).normal({1});
      const Tensor p = at::sigmoid(4 * z), said = classes ? at::cat({p, 1 - p}, 1) : at::cat({2 * z, -z}, 1);
      return Answers{rows, [z, said](const Tensor& at, Stream&) { return std::pair(z.index_select(0, at), said.index_select(0, at)); }, {}};
    };
    CriticOptions options;
    options.code = 1;
    options.hidden = 48;
    options.blocks = 2;
    options.units = 2;
    options.classes = classes;
    options.beta = 1.0;
    options.sigma_low = 0.1;
    options.sigma_high = 3.0;
    CriticNetwork critic = untrained_critic(options, 1);
    CriticTraining how;
    how.loop = few(12);
    how.loop.batch = 128;
    const Answers train = answers(0, 16384), validation = answers(50000, 512);
    Stream unused = Stream::range(0, 0, 1);
    train_critic(critic, train, validation, validation.read(at::arange(512), unused).second, how, {}, at::kCPU);

    // E[said | z] by quadrature: the clean code given z is N(z/(1+σ²), σ²/(1+σ²)).
    for (const double sigma : {0.3, 1.0}) {
      for (const double z : {-1.0, 0.2, 0.8}) {
        const double mean = z / (1 + sigma * sigma), deviation = std::sqrt(sigma * sigma / (1 + sigma * sigma));
        double sum = 0, total = 0;
        for (double t = -5; t <= 5; t += 0.01) {
          const double clean = mean + deviation * t, density = std::exp(-0.5 * t * t);
          sum += density *
                 (classes ? said_of(clean) : std::exp((2 * clean - critic.center[0].item<double>()) / critic.spread[0].item<double>()));
          total += density;
        }
        const Tensor h = criticize(critic, at::full({1, 1}, z), at::full({1}, sigma));
        EXPECT_NEAR(std::exp(h[0][0].item<double>()), sum / total, classes ? 0.06 : 0.12 * sum / total)
            << (classes ? "classes" : "unit") << " at z = " << z << ", sigma = " << sigma;
      }
    }
  }
}

TEST(Kinds, AugmentationIsHeardByEachTraining) {
  // The first epoch's loss, with mirrored images and without. (A critic's images are made where it is planned: tests/training/menu.cpp.)
  const Splits data = toy();
  const auto heard = [](const char* kind, const std::function<void(const Augmentation&, const LoopContext&)>& train) {
    const auto loss = [&](bool flip) {
      Augmentation images;
      images.flip = flip;
      double out = 0;
      LoopContext context;
      context.record = [&](const std::map<std::string, double>& line) { out = line.at("loss"); };
      train(images, context);
      return out;
    };
    EXPECT_EQ(loss(false), loss(false)) << kind;
    EXPECT_NE(loss(true), loss(false)) << kind;
  };
  heard("autoencoder", [&](const Augmentation& images, const LoopContext& context) {
    Decoder decoder{"autoencoder", small_decoder(), decoder_network(small_decoder(), 1), encoder_network(small_decoder(), 4, 2), {}};
    AutoencoderTraining how;
    how.loop = few(1);
    how.images = images;
    train_autoencoder(decoder, data, how, context, at::kCPU);
  });
  heard("classifier", [&](const Augmentation& images, const LoopContext& context) {
    ClassifierOptions options;
    options.classes = 2;
    options.height = options.width = 16;
    Network network = build_classifier(options, 1);
    train_classifier(network, {3, 16, 16, {}, {}}, data, {few(1), images}, context, at::kCPU);
  });
  heard("denoiser", [&](const Augmentation& images, const LoopContext& context) {
    DenoiserOptions options;
    options.space = "image";
    options.height = options.width = 16;
    options.base_channels = 8;
    options.blocks = 1;
    Denoiser denoiser = make_denoiser(options, data.train.read(at::arange(64)), 1);
    DenoiserTraining how;
    how.loop = few(1);
    how.images = images;
    train_denoiser(denoiser, data.train, data.validation, how, context, at::kCPU);
  });
}

TEST(Kinds, OneImageIsTooFewForCodes) {
  Splits data = toy();
  data.train.count = 1;
  Decoder decoder{"autoencoder", small_decoder(), decoder_network(small_decoder(), 1), encoder_network(small_decoder(), 4, 2), {}};
  AutoencoderTraining how;
  how.loop = few(1);
  expect_refusal([&] { train_autoencoder(decoder, data, how, {}, at::kCPU); }, Failure::input, {"found 1 image", "at least two"});
}

}  // namespace
}  // namespace evoke
