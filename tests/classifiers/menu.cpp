// needs: files
// The menus' contracts, for every kind there is; weights saved and read back; recipes refused.
#include "classifiers/menu.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>

#include "classifiers/networks.h"
#include "core/error.h"
#include "core/storage/files.h"
#include "core/storage/safetensors.h"
#include "tests/expect.h"

namespace evoke {
namespace {

// A smooth network in float64, so that finite differences mean something.
Classifier smooth() {
  const auto wave = [](at::IntArrayRef shape, double rate) {
    return at::sin(at::arange(c10::multiply_integers(shape), at::kDouble) * rate).view(shape);
  };
  Network network;
  network.weights = {{"conv3", wave({8, 3, 3, 3}, 1.3)}, {"logits", wave({5, 8}, 2.1)}};
  network.steps = {{"conv3", "convolution",
                    [](const Tensor& x, const Tensors& w) {
                      return at::tanh(at::conv2d(x, w.at("conv3"), {}, {2, 2}, {1, 1}));
                    },
                    0},
                   {"logits", "dense",
                    [](const Tensor& x, const Tensors& w) {
                      return at::linear(x.square().mean({2, 3}), w.at("logits")) * 3;
                    },
                    0}};
  Classifier out{"smooth", {3, 8, 8, {}, {}}, {{"conv3", "convolution", {8, 4, 4}}, {"logits", "dense", {5}}}, {}, {}};
  out.forward = [network](const Tensor& x, const std::vector<std::string>& taps) { return network.forward(x, taps); };
  return out;
}

// In a folder with the files that examples of the menu name.
Recipe recipe(const std::string& toml) {
  static const bool made = [] {
    Stream stream = Stream::range(9, 0, 20);
    const Tensor examples = stream.uniform({3, 2, 2});
    save_safetensors(::testing::TempDir() + "/image.safetensors", {{{"image", stream.uniform({3, 8, 8})[0]}}, {}});
    save_patches(::testing::TempDir() + "/patches.safetensors", {3, 2, at::full({12}, 0.5), at::eye(12) / 12, examples}, "");
    return true;
  }();
  EXPECT_TRUE(made);
  return Recipe::parse(toml, ::testing::TempDir());
}

TEST(ObjectiveMenu, Contract) {
  const Classifier classifier = smooth();
  Stream stream = Stream::range(1, 0, 4);
  const Tensor x = stream.uniform({3, 8, 8}).to(at::kDouble);
  for (const MenuEntry& entry : objective_menu()) {
    SCOPED_TRACE(entry.kind);
    Recipe text = recipe("[objective]\nkind = \"" + entry.kind + "\"\n" + entry.example + "\n");
    const Objective objective = make_objective(text, classifier);
    EXPECT_NO_THROW(text.refuse_unread());
    const auto score = [&](const Tensor& images) {
      return objective.score(images, objective.taps.empty() ? Activations{} : classifier.forward(images, objective.taps));
    };

    // A row an image, a column a unit.
    const Tensor found = score(x);
    EXPECT_FALSE(objective.name.empty());
    ASSERT_EQ(found.sizes(), at::IntArrayRef({4, static_cast<int64_t>(objective.columns.size())}));
    EXPECT_TRUE(found.isfinite().all().item<bool>());

    // The slope is the finite difference, column by column.
    const Tensor along = at::sin(at::arange(x.numel(), at::kDouble) * 1.7).view(x.sizes());
    for (int64_t column = 0; column < found.size(1); ++column) {
      const Tensor point = x.clone().requires_grad_();
      const Tensor slope = torch::autograd::grad({score(point).select(1, column).sum()}, {point})[0];
      const double h = 1e-6;
      const double numerical = ((score(x + h * along) - score(x - h * along)).select(1, column).sum() / (2 * h)).item<double>();
      EXPECT_NEAR((slope * along).sum().item<double>(), numerical, 1e-6 + 1e-6 * std::abs(numerical)) << column;
      EXPECT_GT(std::abs(numerical), 1e-4) << column;
    }

    // Each row by itself, but where rows are meant to know of one another.
    const bool together = entry.kind == "diversity" || entry.kind == "interpolation";
    double apart = 0;
    for (int64_t n = 0; n < 4; ++n)
      apart = std::max(apart, (score(x.slice(0, n, n + 1)) - found.slice(0, n, n + 1)).abs().max().item<double>());
    if (together)
      EXPECT_GT(apart, 1e-4);
    else
      EXPECT_LT(apart, 1e-12);
  }
}

TEST(ObjectiveMenu, HelpNamesEveryOption) {
  for (const MenuEntry& entry : objective_menu()) {
    EXPECT_FALSE(entry.sentence.empty());
    EXPECT_FALSE(entry.tables.at(0).options.empty());
    for (const OptionHelp& option : entry.tables.at(0).options) EXPECT_FALSE(option.sentence.empty()) << entry.kind << "." << option.key;
  }
}

TEST(ObjectiveMenu, AdditionsAddUp) {
  const Classifier classifier = smooth();
  Stream stream = Stream::range(1, 0, 3);
  const Tensor x = stream.uniform({3, 8, 8}).to(at::kDouble);
  const Activations a = classifier.forward(x, {"conv3", "logits"});
  Recipe text = recipe("[objective]\nkind = \"logit\"\nunits = [\"logits:0-2\"]\npenalties = [\"l2:0.5\", \"diversity@conv3:2\"]\n");
  const Tensor rows = at::tensor({0, 1, 0}, at::kLong);
  const Tensor expected =
      a.at("logits").slice(1, 0, 3) + 0.5 * l2_objective().score(x, a) + 2.0 * diversity_objective("conv3", classifier, rows).score(x, a);
  EXPECT_TRUE(at::allclose(make_objective(text, classifier, rows).score(x, a), expected, 1e-12, 1e-12));

  // Of no layer: at a deep one with places.
  Recipe anywhere = recipe("[objective]\nkind = \"logit\"\nunits = [\"logits:0-2\"]\npenalties = [\"l2:0.5\", \"diversity:2\"]\n");
  EXPECT_TRUE(at::allclose(make_objective(anywhere, classifier, rows).score(x, a), expected, 1e-12, 1e-12));
}

TEST(ObjectiveMenu, PenaltiesAreObjectivesOfTheMenu) {
  const Classifier classifier = smooth();
  Stream stream = Stream::range(1, 0, 3);
  const Tensor x = stream.uniform({3, 8, 8}).to(at::kDouble);
  const Activations a = classifier.forward(x, {"conv3", "logits"});
  const std::string toml =
      "[objective]\nkind = \"logit\"\nunits = [\"logits:0-2\"]\nweight = 3\npenalties = [\"l1:0.1\"]\n"
      "[[objective.penalty]]\nkind = \"total_variation\"\nof = \"length\"\nweight = 0.5\n"
      "[[objective.penalty]]\nkind = \"channel\"\nunits = [\"conv3:1\"]\nnegative = true\nweight = 2\n";
  Recipe text = recipe(toml);
  const Tensor logits = a.at("logits").slice(1, 0, 3);
  const Tensor expected = 3 * logits + 0.1 * l1_objective().score(x, a) + 0.5 * total_variation_objective(Variation::length).score(x, a) -
                          2.0 * a.at("conv3").select(1, 1).mean({1, 2}).unsqueeze(1);
  EXPECT_TRUE(at::allclose(make_objective(text, classifier).score(x, a), expected, 1e-12, 1e-12));
  EXPECT_NO_THROW(text.refuse_unread());
  EXPECT_TRUE(at::equal(make_objective(text, classifier, {}, false).score(x, a), logits));
  Recipe wrong = recipe("[objective]\nkind = \"layer\"\n[[objective.penalty]]\nkind = \"blurr\"\n");
  expect_in("did you mean 'blur'", refusal([&] { make_objective(wrong, classifier); }, Failure::input));
  Recipe none = recipe("[objective]\nkind = \"layer\"\n[[objective.penalty]]\nweight = 2\n");
  expect_in("found none", refusal([&] { make_objective(none, classifier); }, Failure::input));
}

TEST(ObjectiveMenu, DirectionFromAFile) {
  const std::string file = ::testing::TempDir() + "/evoke_classifiers_direction.safetensors";
  Stream stream = Stream::range(1, 0, 3);
  const Tensor directions = stream.normal({8});
  save_safetensors(file, {{{"direction", directions}}, {}});
  Recipe text = recipe("[objective]\nkind = \"direction\"\nfile = \"" + file + "\"\npower = 1\n");
  const Activations a = smooth().forward(at::ones({2, 3, 8, 8}, at::kDouble), {"conv3"});
  EXPECT_TRUE(
      at::allclose(make_objective(text, smooth()).score({}, a), direction_objective("conv3", directions, smooth(), 1.0).score({}, a)));
}

TEST(ObjectiveMenu, UnitsFromAFile) {
  const std::string name = "evoke_classifiers_units.txt";
  write_file(::testing::TempDir() + "/" + name, "# two\nlogits:3\n\n  conv3:1@2,2  # a place\r\n");
  EXPECT_EQ(parse_units({"@" + name}, smooth(), ::testing::TempDir()), (std::vector<Unit>{{"logits", 3}, {"conv3", 1, 2, 2}}));
  EXPECT_THROW(parse_units({"@/no/such/file"}, smooth()), Error);
}

TEST(ObjectiveMenu, Refusals) {
  const auto made = [](const std::string& toml) {
    return [toml] {
      Recipe text = recipe("[objective]\n" + toml);
      make_objective(text, smooth());
    };
  };
  expect_in("did you mean 'softmax'", refusal(made("kind = \"sofmax\""), Failure::input));
  expect_in("did you mean", refusal(made("kind = \"unit\"\nunit = [\"logits:1\"]"), Failure::input));
  expect_in("did you mean 'logits'", refusal(made("kind = \"unit\"\nunits = [\"logit:1\"]"), Failure::input));
  expect_in("found none", refusal(made("kind = \"unit\""), Failure::input));
  expect_in("expected name:weight", refusal(made("kind = \"layer\"\npenalties = [\"l2\"]"), Failure::input));
  expect_in("expected name:weight", refusal(made("kind = \"layer\"\npenalties = [\"l2:-1\"]"), Failure::input));
  expect_in("expected name:weight", refusal(made("kind = \"layer\"\npenalties = [\"l2:1x\"]"), Failure::input));
  expect_in("did you mean 'total_variation'", refusal(made("kind = \"layer\"\npenalties = [\"total_varation:1\"]"), Failure::input));
  expect_in("without a layer", refusal(made("kind = \"layer\"\npenalties = [\"l2@conv3:1\"]"), Failure::input));
  expect_in("found no image", refusal(made("kind = \"inversion\""), Failure::input));
  expect_in("found no file", refusal(made("kind = \"patches\""), Failure::input));
  expect_in("expected", refusal(made("kind = \"patches\"\nfile = \"image.safetensors\""), Failure::input));
  expect_in("neither direction nor file", refusal(made("kind = \"direction\""), Failure::input));
}

TEST(TransformMenu, Contract) {
  Stream images = Stream::range(1, 0, 3);
  const Tensor x = images.uniform({3, 12, 12});
  for (const MenuEntry& entry : transform_menu()) {
    SCOPED_TRACE(entry.kind);
    Recipe text = recipe("[transform]\nkind = \"" + entry.kind + "\"\n" + entry.example + "\n");
    const Transform transform = make_transform(text, 5).transform;
    ASSERT_EQ(static_cast<bool>(transform), entry.kind != "none");
    if (!transform) continue;
    Stream all = Stream::range(2, 0, 3), again = Stream::range(2, 0, 3), other = Stream::range(2, 0, 3, at::kCPU, 0),
           alone = Stream::range(2, 1, 1);
    const Tensor found = transform(x, all);
    EXPECT_EQ(found.sizes(), x.sizes());
    EXPECT_TRUE(at::equal(found, transform(x, again)));
    EXPECT_FALSE(at::allclose(found, transform(x, other), 1e-2, 1e-2));  // another step draws anew
    EXPECT_TRUE(at::allclose(found.slice(0, 1, 2), transform(x.slice(0, 1, 2), alone), 1e-5, 1e-6));
  }
  Recipe empty = recipe("");
  EXPECT_FALSE(make_transform(empty, 5).transform);
}

TEST(TransformMenu, CustomPartsAreLeftOutUnlessAskedFor) {
  Recipe nothing = recipe("[transform]\nkind = \"custom\"\n");
  EXPECT_FALSE(make_transform(nothing, 5).transform);
  Recipe shrunk = recipe("[transform]\nkind = \"custom\"\nscale = [0.5, 0.5]\nground = \"grey\"\n");
  Stream stream = Stream::range(1, 0, 1);
  EXPECT_EQ(make_transform(shrunk, 5).transform(at::zeros({1, 1, 4, 4}), stream).sum().item<float>(), 6.0F);
  const auto refused = [](const std::string& line) {
    return refusal(
        [&] {
          Recipe text = recipe("[transform]\nkind = \"custom\"\n" + line);
          make_transform(text, 5);
        },
        Failure::input);
  };
  expect_in("[low, high]", refused("scale = [1.1]"));
  expect_in("found [1.1, 0.9]", refused("scale = [1.1, 0.9]"));
  expect_in("blur", refused("blur = -1"));
  expect_in("ground", refused("ground = \"white\""));
  expect_in("2 views of an image that nothing changes", refused("views = 2"));
}

TEST(TransformMenu, EveryTransformMayBeDrawnSeveralTimes) {
  for (const MenuEntry& entry : transform_menu()) {
    Recipe text = recipe("[transform]\nkind = \"" + entry.kind + "\"\n" + (entry.kind == "custom" ? "jitter = 1\n" : "") + "views = 7\n");
    if (entry.kind == "none")
      expect_in("views", refusal([&] { make_transform(text, 5); }, Failure::input));
    else
      EXPECT_EQ(make_transform(text, 5).views, 7) << entry.kind;
  }
}

TEST(Menus, AnOverrideOfTheWrongTypeIsNamedOnce) {
  const auto sentence = [](const std::string& set, const std::function<void(Recipe&)>& make) {
    Recipe text = Recipe::parse("[transform]\nkind = \"crops\"\n[objective]\nunits = [\"logits:1\"]\n", ".",
                                {"objective.units=[\"logits:1\"]", "transform.views=2", set});
    return refusal([&] { make(text); }, Failure::usage);
  };
  const std::string objective = sentence("objective.negative=abc", [](Recipe& text) { make_objective(text, smooth()); });
  EXPECT_TRUE(objective.starts_with("--set objective.negative: ")) << objective;
  const std::string transform = sentence("transform.noise=abc", [](Recipe& text) { make_transform(text, 5); });
  EXPECT_TRUE(transform.starts_with("--set transform.noise: ")) << transform;
}

TEST(TransformMenu, CropsRefuseRangesThatAreNone) {
  const auto refused = [](const std::string& line) {
    return refusal(
        [&] {
          Recipe text = recipe("[transform]\nkind = \"crops\"\n" + line);
          make_transform(text, 5);
        },
        Failure::input);
  };
  expect_in("found the range 0.8 to 0.5", refused("crop_low = 0.8\ncrop_high = 0.5"));
  expect_in("found the range 0.7 to 0.1", refused("end_high = 0.1"));
  expect_in("crop_high", refused("crop_high = 1.5"));
}

TEST(Weights, SavedAndReadBack) {
  const std::string file = ::testing::TempDir() + "/evoke_classifiers_weights.safetensors";
  const ImageSpec image{3, 16, 24, {0.5, 0.4, 0.3}, {0.25, 0.1, 1.0 / 3.0}};
  for (const std::string kind : {"convolutional", "residual", "resnet9"}) {
    ClassifierOptions options{kind, 4, 8, 3, 16, 24};
    options.blocks = kind == "residual" ? 2 : 1;
    const Network network = build_classifier(options, 7);
    const std::vector<std::string> labels{"one", "two \"quoted\"", "drei ü", ""};
    save_classifier(file, options, network.frozen(at::kCPU), labels, image);
    Recipe text = recipe("[classifier]\nweights = \"evoke_classifiers_weights.safetensors\"\n");
    const Classifier found = make_classifier(text, at::kCPU);
    EXPECT_EQ(found.name, "evoke_classifiers_weights");
    EXPECT_EQ(found.labels, labels);
    EXPECT_EQ(found.image.width, 24);
    EXPECT_EQ(found.image.deviation, image.deviation);
    EXPECT_EQ(found.layers.back().shape, (std::vector<int64_t>{4}));
    Stream stream = Stream::range(1, 0, 2);
    const Tensor x = stream.uniform({3, 16, 24});
    EXPECT_TRUE(at::equal(found.forward(x, {"logits"}).at("logits"),
                          as_classifier("c", network, image, {}, at::kCPU).forward(x, {"logits"}).at("logits")));
    EXPECT_EQ(load_classifier_network(file).parameters(), network.parameters());
  }
}

TEST(Weights, Refusals) {
  const std::string file = ::testing::TempDir() + "/evoke_classifiers_refused.safetensors";
  std::filesystem::remove(file);
  const ClassifierOptions options{"convolutional", 4, 8, 3, 16, 16};
  const ImageSpec image{3, 16, 16, {}, {}};
  const Network network = build_classifier(options, 7);
  const auto load = [&] { load_classifier(file); };
  expect_in("expected 4", refusal([&] { save_classifier(file, options, network, {"one"}, image); }, Failure::input));
  expect_in("expected [3,16,16]", refusal([&] { save_classifier(file, options, network, {}, {3, 16, 20, {}, {}}); }, Failure::input));
  refusal(load, Failure::input);  // nothing half-written was left: there is no file

  // Options that say another architecture than the weights have.
  save_classifier(file, {"convolutional", 4, 16, 3, 16, 16}, network, {}, image);
  expect_in("of another shape: conv1.bias [8]", refusal(load, Failure::input));
  save_classifier(file, {"residual", 4, 8, 3, 16, 16}, network, {}, image);
  expect_in("missing block1", refusal(load, Failure::input));

  // Another kind of weights, options that lie, labels that are none.
  save_weights(file, "vae", "", {{"w", at::ones({1})}});
  refusal(load, Failure::input);
  save_weights(file, "convolutional", "kind = \"convolutional\"\nheight = -4\n", network.weights);
  expect_in("height", refusal(load, Failure::input));
  const std::string good = "kind = \"convolutional\"\nclasses = 4\nfilters = 8\nheight = 16\nwidth = 16\n";
  save_weights(file, "convolutional", good, network.weights, {{"evoke.labels", "[1"}, {"evoke.normalization", "{}"}});
  expect_in("labels", refusal(load, Failure::input));
  save_weights(file, "convolutional", good, network.weights);
  expect_in("evoke.labels", refusal(load, Failure::input));
  write_file(file, "no weights at all");
  refusal(load, Failure::input);
  Recipe unnamed = recipe("[classifier]\n");
  expect_in("classifier.weights", refusal([&] { make_classifier(unnamed, at::kCPU); }, Failure::input));
}

}  // namespace
}  // namespace evoke
