// needs: files
// Priors built by hand, from the recipe to the picture: operators after a step, octaves, penalties of patches, starts at facets, redirected
// slopes, units called dead.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "classifiers/networks.h"
#include "classifiers/objectives.h"
#include "core/records/pictures.h"
#include "core/storage/hdf5.h"
#include "core/storage/safetensors.h"
#include "experiments/facets.h"
#include "experiments/sample.h"
#include "tests/expect.h"
#include "tests/experiments/outcome.h"

namespace evoke {
namespace {

constexpr int64_t height = 12, width = 16, images = 60;

class HandDesigned : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    set_threads(1);
    folder = testing::TempDir() + "evoke_hand_designed_" + std::to_string(getpid());
    std::filesystem::create_directories(folder);
    {
      Hdf5 data = Hdf5::create(path("data.h5"));
      data.set_attribute("format", "evoke dataset");
      data.set_attribute("version", "1");
      data.write("/images", to_bytes(pictures()));
      data.write("/labels", at::zeros(images, at::kLong));
      data.write("/split", (at::arange(images, at::kLong).remainder(10) == 4).to(at::kByte) * 2);
      data.write_text("/label_names", {"all"});
    }

    // A network, the same with dead units in its first layer.
    ClassifierOptions options;
    options.classes = 6, options.filters = 2, options.channels = 3, options.height = height, options.width = width;
    Network network = build_classifier(options, 1);
    save_classifier(path("net.safetensors"), options, network, {}, {3, height, width, {}, {}});
    network.weights.at("conv1.bias").fill_(-1e3);
    save_classifier(path("dead.safetensors"), options, network, {}, {3, height, width, {}, {}});
  }
  // Three kinds of images, in turn: dark, light, striped, and a little noise.
  static Tensor pictures() {
    Stream stream = Stream::range(6, 0, images);
    Tensor x = 0.1 * stream.uniform({3, height, width}) + 0.1;
    for (int64_t i = 0; i < images; ++i) {
      if (i % 3 == 1) x[i].add_(0.7);
      if (i % 3 == 2) x[i].slice(2, 0, width, 2).add_(0.7);
    }
    return x;
  }
  static std::string path(const std::string& name) { return folder + "/" + name; }
  static Recipe recipe(const std::string& tables, std::vector<Override> more = {}, const std::string& net = "net") {
    more.insert(more.begin(), "generator.range=clip");
    return Recipe::parse("[classifier]\nweights = \"" + path(net + ".safetensors") +
                             "\"\n[generator]\nkind = \"pixel\"\n[run]\nsteps = 6\nchains = 3\ndevice = \"cpu\"\n" + tables,
                         folder, more);
  }
  static Results run(const std::string& tables, const std::vector<Override>& more = {}, const std::string& net = "net") {
    Recipe read = recipe(tables, more, net);
    return sample(read).results;
  }
  static inline std::string folder;
};

const std::string logits = "[objective]\nkind = \"logit\"\nunits = [\"logits:0-1\"]\n", ascent = "[sampler]\nkind = \"ascent\"\n";

TEST_F(HandDesigned, OperatorsShapeThePicturesOfARun) {
  const Results grey = run(logits + ascent + "[[sampler.after]]\nkind = \"mixture\"\ncolours = [\"black\", \"white\"]\n");
  const Tensor g = grey.images.to(at::kInt);
  EXPECT_LE((g.select(3, 0) - g.select(3, 2)).abs().max().item<int64_t>(), 1);
  const Tensor free = run(logits + ascent).images.to(at::kInt);
  EXPECT_GT((free.select(3, 0) - free.select(3, 2)).abs().max().item<int64_t>(), 10);

  // Pixels outside the mask of a file are those of the start.
  Tensor mask = at::zeros({height, width, 1}, at::kByte);
  mask.slice(0, 3, 7).slice(1, 4, 9).fill_(255);
  save_png(path("mask.png"), mask);
  const auto masked = [&](const std::string& what) { return run(logits + ascent + what, {"generator.deviation=0"}).images.to(at::kInt); };
  const Tensor outside = (mask == 0).squeeze(2), by_file = masked("[[sampler.after]]\nkind = \"mask\"\nfile = \"mask.png\"\n");
  const auto moved = [&](const Tensor& x) { return (x - 128).abs().amax(at::IntArrayRef({0, 3})); };
  EXPECT_EQ(moved(by_file).masked_select(outside).max().item<int64_t>(), 0);
  EXPECT_GT(moved(by_file).max().item<int64_t>(), 10);
  EXPECT_TRUE(at::equal(by_file, masked("[[sampler.after]]\nkind = \"mask\"\nbox = [3, 4, 4, 5]\n")));
  EXPECT_GT(moved(masked("")).masked_select(outside).max().item<int64_t>(), 10);

  // The receptive field is that of the unit, whatever penalties push elsewhere: conv1's 5 × 5.
  const std::string unit = "[objective]\nkind = \"unit\"\nunits = [\"conv1:0@6,8\"]\npenalties = [\"l2:0.1\"]\n";
  Tensor inside = at::zeros({height, width}, at::kBool);
  inside.slice(0, 4, 9).slice(1, 6, 11).fill_(true);
  const Tensor seen =
      moved(run(unit + ascent + "[[sampler.after]]\nkind = \"receptive_field\"\n", {"generator.deviation=0"}).images.to(at::kInt));
  EXPECT_EQ(seen.masked_select(inside.logical_not()).max().item<int64_t>(), 0);
  EXPECT_GT(seen.masked_select(inside).min().item<int64_t>(), 0);
}

TEST_F(HandDesigned, TheResolvedConfigRunsAgain) {
  std::ofstream(path("recipe.toml")) << "[classifier]\nweights = \"net.safetensors\"\n[generator]\nrange = \"clip\"\n"
                                     << "[run]\nsteps = 4\nchains = 2\ndevice = \"cpu\"\n"
                                     << logits << "[[objective.penalty]]\nkind = \"blur\"\nweight = 0.5\n"
                                     << ascent << "[[sampler.after]]\nkind = \"decay\"\n[[sampler.after]]\nkind = \"blur\"\nevery = 2\n"
                                     << "[[sampler.gradient]]\nkind = \"blur\"\n";
  const auto bytes = [&](const std::string& recipe, const std::string& out, const std::vector<std::string>& more = {}) {
    std::vector<std::string> words{"sample", path(recipe), "--out", path(out), "-q"};
    words.insert(words.end(), more.begin(), more.end());
    const Outcome outcome = evoke_command(words);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return read_file(path(out) + "/results.h5");
  };
  const std::string first = bytes("recipe.toml", "first");
  EXPECT_TRUE(first == bytes("first/config.toml", "again"));
  // The control: each list counts.
  EXPECT_FALSE(first == bytes("recipe.toml", "unpenalized", {"--set", "objective.penalty=[]"}));
  EXPECT_FALSE(first == bytes("recipe.toml", "unmoved", {"--set", "sampler.after=[]"}));
  EXPECT_FALSE(first == bytes("recipe.toml", "sharp", {"--set", "sampler.gradient=[]"}));
  EXPECT_FALSE(first == bytes("recipe.toml", "often", {"--set", "sampler.after.1.every=1"}));
}

TEST_F(HandDesigned, OctavesBeginWithSmallImages) {
  const auto roughness = [](const Tensor& codes) { return (codes.diff(1, 3).abs().mean() / codes.std()).item<double>(); };
  const Tensor octaves = run(logits + ascent, {"sampler.octaves=3", "sampler.octave_scale=2", "run.steps=30"}).codes;
  EXPECT_EQ(octaves.sizes(), at::IntArrayRef({6, 3, height, width}));
  EXPECT_LT(roughness(octaves), 0.8 * roughness(run(logits + ascent, {"run.steps=30"}).codes));
}

TEST_F(HandDesigned, PatchesAreMeasuredAndClimbed) {
  const Outcome made = evoke_command(
      {"data", "patches", path("data.h5"), "--out", path("patches.safetensors"), "--side", "4", "--count", "2000", "--keep", "64", "-q"});
  ASSERT_EQ(made.code, 0) << made.err;
  EXPECT_EQ(made.err, "");
  expect_in("4×4 pixels, 64 of them kept", made.out);
  const Patches patches = load_patches(path("patches.safetensors"));
  // Of the training split: a third each of dark, light and striped images.
  EXPECT_NEAR(patches.mean.mean().item<double>(), 0.15 + 0.7 / 3 + 0.35 / 3, 0.03);
  // Every patch kept is one of an image.
  const Tensor all = at::im2col(from_bytes(to_bytes(pictures())), {4, 4}, {1, 1}, {0, 0}, {1, 1}).transpose(1, 2).reshape({-1, 48});
  EXPECT_LT(std::get<0>(at::cdist(patches.examples.flatten(1), all).min(1)).max().item<double>(), 0.02);

  // Pictures come nearer to such patches than without the penalty, by either measure.
  for (const std::string of : {"gaussian", "nearest"}) {
    const std::string penalty =
        "[[objective.penalty]]\nkind = \"patches\"\nfile = \"patches.safetensors\"\nof = \"" + of + "\"\nweight = 10\n";
    const Objective measure = of == "gaussian" ? patch_gaussian_objective(patches, 0.05) : nearest_patch_objective(patches, 4);
    const auto likely = [&](const std::string& more) {
      return measure.score(from_bytes(run(logits + more + ascent).images), {}).mean().item<double>();
    };
    EXPECT_GT(likely(penalty), likely("")) << of;
  }
  // Activations are reported without penalties.
  const Results results = run(logits + "[[objective.penalty]]\nkind = \"l2\"\nweight = 100\n" + ascent);
  EXPECT_GT(results.activation.min().item<double>(), -20);

  EXPECT_EQ(evoke_command({"data", "patches", path("data.h5"), "--out", path("other.safetensors"), "--side", "13", "-q"}).code, 2);
  expect_in("exists already", evoke_command({"data", "patches", path("data.h5"), "--out", path("patches.safetensors"), "-q"}).err);
  EXPECT_EQ(evoke_command({"data", "patches", path("data.h5"), "--out", path("patches.safetensors"), "--side", "4", "--count", "2000",
                           "--keep", "64", "-q"})
                .code,
            0);
}

TEST_F(HandDesigned, FacetsTellKindsOfImagesApart) {
  const Outcome made = evoke_command({"exemplars", path("net.safetensors"), path("data.h5"), "--layers", "logits:0-1", "--keep", "45",
                                      "--facets", "3", "--facet-nearest", "5", "--facet-blur", "0", "--out", path("exemplars"), "-q"});
  ASSERT_EQ(made.code, 0) << made.err;
  expect_in("facets.png", made.out);
  const Tensors found = load_safetensors(path("exemplars/facets.safetensors")).tensors;
  ASSERT_EQ(found.size(), 4u);
  const Tensor starts = found.at("logits:0"), rows = found.at("logits:0/rows");
  EXPECT_EQ(starts.sizes(), at::IntArrayRef({3, 3, height, width}));
  EXPECT_EQ(rows.sizes(), at::IntArrayRef({3, 5}));
  // The images of a facet are of one kind, and its start is their mean.
  const Tensor all = from_bytes(to_bytes(pictures()));
  for (int64_t k = 0; k < 3; ++k) {
    EXPECT_EQ(rows[k].remainder(3).min().item<int64_t>(), rows[k].remainder(3).max().item<int64_t>()) << rows[k];
    EXPECT_TRUE(at::allclose(starts[k], all.index_select(0, rows[k]).mean(0), 1e-4, 1e-5));
  }
  // Runs begin there, chain after chain, whatever the block; a blurred start is another.
  const auto begun = [&](const std::string& batch) {
    return run(logits + ascent, {"run.steps=0", "run.chains=4", "run.start=images", "run.starts=" + path("exemplars/facets.safetensors"),
                                 "run.batch=" + batch})
        .codes;
  };
  const Tensor codes = begun("0");
  for (int64_t row = 0; row < 8; ++row)
    EXPECT_TRUE(at::allclose(codes[row], found.at(row < 4 ? "logits:0" : "logits:1")[row % 4 % 3], 1e-5, 1e-6)) << row;
  EXPECT_TRUE(at::equal(codes, begun("3")));
  const Facets blurred = facets_of(all, load_classifier(path("net.safetensors"), at::kCPU), at::kCPU, {.count = 3, .layer = "", .blur = 2});
  EXPECT_LT(blurred.starts.diff(1, 3).abs().max().item<double>(), 0.2);
  EXPECT_GT(starts.diff(1, 3).abs().max().item<double>(), 0.5);

  const auto exemplars = [&](std::vector<std::string> more) {
    std::vector<std::string> words{"exemplars", path("net.safetensors"), path("data.h5"), "--layers", "logits", "--out", path("refused"),
                                   "-q"};
    words.insert(words.end(), more.begin(), more.end());
    return evoke_command(words);
  };
  expect_in("[exemplars] facets", exemplars({"--facets", "3", "--keep", "2"}).err);
  expect_in("did you mean", exemplars({"--facets", "3", "--facet-layer", "conv9"}).err);
  expect_in("no file of images", refusal([&] { run(logits + ascent, {"run.start=images"}); }, Failure::usage));
  const std::vector<Override> begin{"run.start=images", "run.starts=" + path("exemplars/facets.safetensors")};
  expect_in("found no images for conv1:0",
            refusal([&] { run("[objective]\nkind = \"channel\"\nunits = [\"conv1:0\"]\n" + ascent, begin); }, Failure::input));
}

TEST_F(HandDesigned, DeadUnitsAreCalledDead) {
  const Outcome made =
      evoke_command({"exemplars", path("dead.safetensors"), path("data.h5"), "--layers", "relu1", "--out", path("silent"), "-q"});
  ASSERT_EQ(made.code, 0) << made.err;
  const std::string unit = "[objective]\nkind = \"channel\"\nunits = [\"relu1:0\"]\n" + ascent;
  EXPECT_EQ(run(unit, {}, "dead").status, std::vector<std::string>(3, "no gradient"));
  const Override known = "run.exemplars=" + path("silent/exemplars.h5");
  testing::internal::CaptureStderr();
  const Results dead = run(unit, {known}, "dead");
  expect_in("relu1:0 is dead", testing::internal::GetCapturedStderr());
  EXPECT_TRUE(dead.status.at(0).starts_with("dead")) << dead.status.at(0);
  // A unit that moves is not, whatever the statistics of another network say.
  EXPECT_EQ(run(unit, {known}).status, std::vector<std::string>(3, "ok"));
  expect_in("found no values of layer conv3",
            refusal([&] { run("[objective]\nkind = \"channel\"\nunits = [\"conv3:0\"]\n" + ascent, {known}, "dead"); }, Failure::input));
  // Redirected slopes move its pictures nevertheless (of the images after an operator, so that the start is not the best).
  const std::string operated = unit + "[[sampler.after]]\nkind = \"range\"\n";
  const Tensor start = run(operated, {"run.steps=1"}, "dead").codes,
               pulled = run(operated, {"run.steps=1", "run.redirected=3"}, "dead").codes;
  EXPECT_GT((pulled - start).abs().max().item<double>(), 0.01);
}

TEST_F(HandDesigned, InversionsAndCaricaturesOfAnImage) {
  save_png(path("striped.png"), to_bytes(pictures().narrow(0, 2, 1))[0]);
  const auto alike = [&](const std::string& objective) {
    const Classifier net = load_classifier(path("net.safetensors"), at::kCPU);
    const Results results = run(objective + ascent, {"run.steps=60"});
    const auto answer = [&](const Tensor& x) { return net.forward(x, {"conv2"}).at("conv2").flatten(1); };
    return at::cosine_similarity(answer(from_bytes(results.images)), answer(pictures().narrow(0, 2, 1)), 1).min().item<double>();
  };
  const std::string of = "layer = \"conv2\"\nimage = \"striped.png\"\n";
  const double inverted = alike("[objective]\nkind = \"inversion\"\n" + of), drawn = alike("[objective]\nkind = \"caricature\"\n" + of);
  EXPECT_GT(inverted, 0.95);
  EXPECT_GT(drawn, 0.8);
  EXPECT_LT(alike("[objective]\nkind = \"layer\"\nlayer = \"conv2\"\n"), std::min(inverted, drawn));
}

TEST_F(HandDesigned, Refusals) {
  const auto refused = [&](const std::string& tables) { return refusal([&] { run(logits + tables); }, Failure::input); };
  const std::string blur = ascent + "[[sampler.after]]\nkind = \"blur\"\n";
  expect_in("range = \"clip\"", refusal([&] { run(logits + blur, {"generator.range=sigmoid"}); }, Failure::input));
  expect_in("which nothing here reads", refused("[sampler]\nkind = \"langevin\"\n[prior]\nkind = \"box\"\nrange = \"given\"\n"
                                                "[[sampler.after]]\nkind = \"blur\"\n"));
  expect_in("found no image", refused(ascent + "[[sampler.after]]\nkind = \"mask\"\nfile = \"data.h5\"\n"));
}

}  // namespace
}  // namespace evoke
