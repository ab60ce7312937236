// The built-in classifiers as the design states them, and taps: no further than asked for, and never overwritten.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "classifiers/literature.h"
#include "core/error.h"

namespace evoke {
namespace {

std::vector<std::string> names(const std::vector<Layer>& layers) {
  std::vector<std::string> out;
  for (const Layer& layer : layers) out.push_back(layer.name);
  return out;
}

TEST(Networks, ConvolutionalLayers) {
  const Network network = convolutional_classifier(60, 1);
  const std::vector<Layer> layers = network.layers({3, 48, 48});
  const std::vector<std::string> expected{"conv1", "relu1", "pool1", "conv2", "relu2",   "pool2",  "conv3", "relu3", "conv4",
                                          "relu4", "pool4", "conv5", "relu5", "flatten", "dense1", "relu6", "logits"};
  EXPECT_EQ(names(layers), expected);
  EXPECT_EQ(layers[6].shape, (std::vector<int64_t>{8, 12, 12}));
  EXPECT_EQ(layers.back().shape, (std::vector<int64_t>{60}));

  // Multiply-adds an image: places × weights of each convolution, weights of each dense layer.
  int64_t multiply_adds = 0;
  for (const Layer& layer : layers)
    if (layer.parameters > 0)
      multiply_adds += network.weights.at(layer.name + ".weight").numel() * (layer.shape.size() == 3 ? layer.shape[1] * layer.shape[2] : 1);
  EXPECT_GT(multiply_adds, 10'000'000);
  EXPECT_LT(multiply_adds, 20'000'000);
}

TEST(Networks, ResidualLayers) {
  const Network network = residual_classifier(60, 1);
  const std::vector<Layer> layers = network.layers({3, 48, 48});
  EXPECT_EQ(names(layers), (std::vector<std::string>{"stem", "block1", "block2", "block3", "norm", "relu", "flatten", "logits"}));
  EXPECT_EQ(layers[3].shape, (std::vector<int64_t>{128, 6, 6}));
  EXPECT_THROW(residual_classifier(60, 1, 12), Error);

  const std::vector<Layer> deep = residual_classifier(60, 1, 16, {}, 2).layers({3, 48, 48});
  EXPECT_EQ(names(deep), (std::vector<std::string>{"stem", "block1", "block1_2", "block2", "block2_2", "block3", "block3_2", "norm", "relu",
                                                   "flatten", "logits"}));
  EXPECT_EQ(deep[2].shape, deep[1].shape);
  EXPECT_THROW(convolutional_classifier(60, 1, 16, {3, 7, 48, {}, {}}), Error);
}

TEST(Networks, NineLayersLookAtEveryPixel) {
  const std::vector<Layer> layers = resnet9(10, 1, 16, {3, 32, 32, {}, {}}).layers({3, 32, 32});
  const auto shape = [&](const std::string& name) {
    for (const Layer& layer : layers)
      if (layer.name == name) return layer.shape;
    ADD_FAILURE() << name;
    return std::vector<int64_t>{};
  };
  EXPECT_EQ(shape("conv1"), (std::vector<int64_t>{32, 32, 32}));
  EXPECT_EQ(shape("block1"), (std::vector<int64_t>{32, 16, 16}));
  EXPECT_EQ(shape("relu2"), (std::vector<int64_t>{64, 8, 8}));
  EXPECT_EQ(shape("block3"), (std::vector<int64_t>{128, 4, 4}));
  EXPECT_EQ(layers.back().name, "logits");
  EXPECT_THROW(resnet9(10, 1, 12), Error);

  // The filters' own scale is nothing.
  Network one = resnet9(10, 1, 8), other = resnet9(10, 1, 8);
  other.weights["conv2.weight"] = other.weights["conv2.weight"] * 7.0 + 0.3;
  const Tensor images = Stream::range(1, 0, 4).uniform({3, 48, 48});
  EXPECT_LT((one(images) - other(images)).abs().max().item<double>(), 1e-4);
}

TEST(Networks, SeedDecidesTheWeights) {
  const Network one = convolutional_classifier(4, 1, 8), same = convolutional_classifier(4, 1, 8),
                other = convolutional_classifier(4, 2, 8);
  EXPECT_TRUE(at::equal(one.weights.at("conv4.weight"), same.weights.at("conv4.weight")));
  EXPECT_FALSE(at::equal(one.weights.at("conv4.weight"), other.weights.at("conv4.weight")));
}

TEST(Networks, FirstActivationsKeepTheirSize) {
  // He's initialization: neither vanishing nor growing on the way to the logits.
  Stream stream = Stream::range(1, 0, 8);
  for (const Network& network : {convolutional_classifier(60, 3), residual_classifier(60, 3), resnet9(60, 3)}) {
    const double size = network(stream.normal({3, 48, 48})).std().item<double>();
    EXPECT_GT(size, 0.05);
    EXPECT_LT(size, 5.0);
  }
}

TEST(Taps, NoFurtherThanTheDeepest) {
  int calls = 0;
  const auto counted = [&calls](const Tensor& x, const Tensors&) {
    ++calls;
    return x + 1;
  };
  NetworkBuilder builder(1);
  builder.step("a", "count", {}, counted).step("b", "count", {}, counted).step("c", "count", {}, counted);
  const Network network = builder.build();
  const Tensor x = at::zeros({1, 2});
  EXPECT_EQ(network.forward(x, {"a"}).at("a").sum().item<double>(), 2.0);
  EXPECT_EQ(calls, 1);
  calls = 0;
  const Activations both = network.forward(x, {"b", "a"});
  EXPECT_EQ(calls, 2);
  EXPECT_EQ(both.at("a").sum().item<double>(), 2.0);
  EXPECT_EQ(both.at("b").sum().item<double>(), 4.0);
  calls = 0;
  network.forward(x, {});
  EXPECT_EQ(calls, 0);
  EXPECT_THROW(network.forward(x, {"d"}), Error);
}

TEST(Taps, AreNotOverwrittenByWhatFollows) {
  // All taps of one pass equal each tap of a pass that ends there: no step works in place on what was tapped.
  for (const std::string kind : {"convolutional", "residual", "tnn"}) {
    ClassifierOptions options{kind, 5, 8, 3, 16, 16};
    const Classifier classifier = as_classifier(kind, build_classifier(options, 1), {3, 16, 16, {}, {}}, {}, at::kCPU);
    Stream stream = Stream::range(1, 0, 2);
    const Tensor x = stream.uniform({3, 16, 16}), before = x.clone();
    const Activations all = classifier.forward(x, names(classifier.layers));
    for (const Layer& layer : classifier.layers)
      EXPECT_TRUE(at::equal(all.at(layer.name), classifier.forward(x, {layer.name}).at(layer.name))) << kind << " " << layer.name;
    EXPECT_TRUE(at::equal(x, before));
    EXPECT_LT(all.at(kind == "residual" ? "stem" : "conv1").min().item<double>(), 0.0);  // before the ReLU, so negative somewhere
  }
}

TEST(Graph, RunsAncestorsOfTheTapsAndLetsValuesGo) {
  // in -> a -> b, in -> c -> d, b + d -> e, a & e -> f.
  std::string calls;
  std::vector<Tensor> seen;
  const auto counted = [&](char name) {
    return [&calls, &seen, name](const Tensor& x, const Tensors&) {
      calls += name;
      seen.push_back(x + 1);
      return seen.back();
    };
  };
  NetworkBuilder net(1);
  net.step("a", "count", {}, counted('a')).step("b", "count", {}, counted('b'));
  net.from({""}).step("c", "count", {}, counted('c')).step("d", "count", {}, counted('d'));
  net.add("e", {"b", "d", "b"}).concatenate("f", {"a", "e"});
  net.from({"c"}).step("g", "count", {}, counted('g'));
  const Network network = net.build();
  const Tensor x = at::zeros({1, 1});

  const auto run = [&](const std::vector<std::string>& taps) {
    calls.clear();
    seen.clear();
    return network.forward(x, taps);
  };
  EXPECT_TRUE(at::equal(run({"f"}).at("f"), at::tensor({1.0F, 6.0F}).view({1, 2})));
  EXPECT_EQ(calls, "abcd");
  for (const Tensor& value : seen) EXPECT_EQ(value.use_count(), 1u) << "a value is still held after the pass";
  const Activations two = run({"g", "b", "g"});
  EXPECT_EQ(calls, "abcg");
  EXPECT_EQ(two.size(), 2u);
  EXPECT_EQ(seen[0].use_count(), 1u);         // a
  EXPECT_EQ(seen[1].use_count(), 2u);         // b, a tap
  EXPECT_EQ(network(x).item<float>(), 2.0F);  // the last step's, which is g
  EXPECT_EQ(network.layers({1}).size(), 7u);
  EXPECT_EQ(network.layers({1})[5].shape, (std::vector<int64_t>{2}));

  // While the pass goes on, a value lives no longer than its last use.
  int64_t held = 0;
  NetworkBuilder chain(1);
  Tensor first;
  chain.step("a", "", {}, [&](const Tensor& in, const Tensors&) { return first = in + 1; });
  chain.step("b", "", {}, [](const Tensor& in, const Tensors&) { return in + 1; });
  chain.step("c", "", {}, [&](const Tensor& in, const Tensors&) {
    held = static_cast<int64_t>(first.use_count());
    return in + 1;
  });
  chain.build()(x);
  EXPECT_EQ(held, 1);
}

TEST(Graph, RefusesWhatCannotBe) {
  NetworkBuilder net(1);
  net.relu("a");
  EXPECT_THROW(net.from({"b"}), Error);
  EXPECT_THROW(net.relu("a"), Error);
  EXPECT_THROW(net.from({"a", "a"}).relu("b"), Error);
}

TEST(Graph, UnseededWeightsTakeNoMemory) {
  const Network network = build_classifier({.kind = "vgg16"}, std::nullopt);
  EXPECT_EQ(network.weights.at("classifier.0.weight").sizes(), (std::vector<int64_t>{4096, 25088}));
  EXPECT_EQ(network.weights.at("classifier.0.weight").storage().nbytes(), 4u);
}

TEST(Graph, NormsAndPools) {
  NetworkBuilder net(1);
  net.batch_norm("norm", 3, 0.5).from({"norm"}).max_pool("max", 3, 2, 1, true).from({"norm"}).average_pool("mean", 2, 2);
  net.from({"norm"}).local_response_norm("local", 3, 0.3, 0.5, 2).from({"norm"}).convolution("grouped", 3, 6, 1, 1, 0, 3, false);
  Network network = net.build();
  network.weights["norm.weight"] = at::tensor({1.0F, 2.0F, 3.0F});
  network.weights["norm.running_mean"] = at::tensor({0.0F, 1.0F, -1.0F});
  network.weights["norm.running_var"] = at::tensor({0.5F, 3.5F, 15.5F});
  const Tensor x = Stream::range(3, 0, 2).normal({3, 6, 6});
  const Activations found = network.forward(x, {"norm", "max", "mean", "local", "grouped"});
  const Tensor norm = at::stack({x.select(1, 0), (x.select(1, 1) - 1), (x.select(1, 2) + 1) * 0.75}, 1);
  EXPECT_TRUE(at::allclose(found.at("norm"), norm, 1e-5, 1e-6));
  EXPECT_EQ(found.at("max").sizes(), (std::vector<int64_t>{2, 3, 4, 4}));
  EXPECT_TRUE(at::allclose(found.at("max").select(2, 0).select(2, 0), norm.slice(2, 0, 2).slice(3, 0, 2).amax({2, 3}), 1e-5, 1e-6));
  EXPECT_TRUE(at::allclose(found.at("mean").select(2, 0).select(2, 0), norm.slice(2, 0, 2).slice(3, 0, 2).mean({2, 3}), 1e-5, 1e-6));
  const Tensor squares = norm.square();
  EXPECT_TRUE(
      at::allclose(found.at("local").select(1, 0), norm.select(1, 0) / (2 + 0.1 * squares.narrow(1, 0, 2).sum(1)).sqrt(), 1e-5, 1e-6));
  EXPECT_TRUE(at::allclose(found.at("local").select(1, 1), norm.select(1, 1) / (2 + 0.1 * squares.sum(1)).sqrt(), 1e-5, 1e-6));
  const Tensor& kernel = network.weights.at("grouped.weight");
  EXPECT_EQ(kernel.sizes(), (std::vector<int64_t>{6, 1, 1, 1}));
  EXPECT_TRUE(at::allclose(found.at("grouped").select(1, 3), norm.select(1, 1) * kernel[3].item<float>(), 1e-5, 1e-6));
  EXPECT_FALSE(network.weights.contains("grouped.bias"));
}

TEST(Literature, CustomaryNetworks) {
  // Parameters as the literature counts them (torchvision's without GoogLeNet's auxiliary heads, plus batch norms' statistics).
  const std::map<std::string, int64_t> parameters{{"alexnet", 61'100'840}, {"caffenet", 60'965'224}, {"vgg16", 138'357'544},
                                                  {"vgg19", 143'667'240},  {"googlenet", 6'624'904}, {"resnet18", 11'689'512},
                                                  {"resnet50", 25'557'032}};
  for (const std::string& kind : classifier_kinds()) {
    const ClassifierOptions options = customary_options(kind);
    const ImageSpec image = customary_image(kind);
    EXPECT_EQ(options.height, image.height);
    const Network network = build_classifier(options, std::nullopt);
    EXPECT_EQ(network.steps.back().name, "logits");
    if (!parameters.contains(kind)) continue;
    int64_t statistics = 0;
    for (const auto& [name, tensor] : network.weights)
      if (name.find(".running_") != std::string::npos) statistics += tensor.numel();
    EXPECT_EQ(network.parameters() - statistics, parameters.at(kind)) << kind;
  }
  EXPECT_TRUE(customary_image("caffenet").bgr);
  EXPECT_EQ(customary_image("caffenet").high, 255);
  EXPECT_EQ(customary_image("googlenet").low, -1);
  EXPECT_THROW(customary_image("resnet19"), Error);
  EXPECT_THROW(build_classifier({.kind = "resnet19"}), Error);
  EXPECT_THROW(build_classifier({.kind = "alexnet"}), Error);  // 48×48 is too small
  EXPECT_THROW(build_classifier({.kind = "resnet18", .channels = 1}), Error);
}

TEST(Literature, SmallestImagesLeaveTheLastMapAPixel) {
  const std::map<std::string, int64_t> least{{"alexnet", 63},   {"caffenet", 67}, {"vgg16", 32},
                                             {"googlenet", 32}, {"resnet18", 32}, {"tnn", 16}};
  for (const auto& [kind, side] : least) {
    ClassifierOptions options{.kind = kind, .classes = 3, .filters = 2};
    options.height = options.width = side;
    const Network network = build_classifier(options, std::nullopt);
    EXPECT_EQ(network.layers({3, side, side}).back().shape, std::vector<int64_t>{3}) << kind;
    options.width = side - 1;
    EXPECT_THROW(build_classifier(options, std::nullopt), Error) << kind;
  }
}

TEST(Literature, TnnInTime) {
  ClassifierOptions options{.kind = "tnn", .classes = 5, .filters = 2};
  const Network network = build_classifier(options, 1);
  const Tensor x = Stream::range(1, 0, 2).uniform({3, 48, 48});
  const Activations found = network.forward(x, {"conv3.t1", "conv3.t4", "conv5.t1", "conv5.t2", "conv5.t4", "conv5", "pool4", "pool4.t4"});
  EXPECT_TRUE(found.at("conv3.t1").is_same(found.at("conv3.t4")));
  EXPECT_TRUE(found.at("conv5").is_same(found.at("conv5.t4")));
  EXPECT_TRUE(found.at("pool4").is_same(found.at("pool4.t4")));
  EXPECT_FALSE(at::allclose(found.at("conv5.t2"), found.at("conv5.t4"), 1e-2));

  // Steps share their weights, and earlier steps know nothing of how many follow.
  options.steps = 2;
  Network shorter = build_classifier(options, std::nullopt);
  shorter.load(network.weights, "tnn");
  EXPECT_TRUE(at::equal(shorter.forward(x, {"conv5"}).at("conv5"), found.at("conv5.t2")));
  EXPECT_EQ(shorter.parameters(), network.parameters());

  // conv8 reaches conv5 by feedback, a step later.
  Network changed = network;
  changed.weights["conv8.bias"] = network.weights.at("conv8.bias") + 1;
  const Activations after = changed.forward(x, {"conv5.t1", "conv5.t2"});
  EXPECT_TRUE(at::equal(after.at("conv5.t1"), found.at("conv5.t1")));
  EXPECT_FALSE(at::allclose(after.at("conv5.t2"), found.at("conv5.t2"), 1e-3));

  // What a saved classifier says of itself is enough.
  const std::string file = ::testing::TempDir() + text("tnn_", getpid(), ".safetensors");
  ImageSpec image = customary_image("tnn");
  image.low = -1, image.high = 1, image.bgr = true, image.mean = {0.1, 0.2, 0.3};
  save_classifier(file, options, shorter, {}, image);
  const SavedClassifier saved = load_classifier_file(file);
  std::filesystem::remove(file);
  EXPECT_TRUE(at::equal(saved.network(x), shorter(x)));
  EXPECT_EQ(saved.options.steps, 2);
  EXPECT_TRUE(saved.image.bgr && saved.image.low == -1 && saved.image.mean == image.mean && saved.image.deviation.empty());
}

TEST(Networks, OnlyTheImageTakesAGradient) {
  const Classifier classifier = as_classifier("c", convolutional_classifier(5, 1, 8), {}, {}, at::kCPU);
  const Tensor x = at::full({1, 3, 48, 48}, 0.5).requires_grad_();
  const Tensor logits = classifier.forward(x, {"logits"}).at("logits");
  EXPECT_TRUE(torch::autograd::grad({logits.sum()}, {x})[0].abs().sum().item<double>() > 0);
  EXPECT_FALSE(classifier.forward(x.detach(), {"logits"}).at("logits").requires_grad());
}

TEST(Networks, NormalizationIsTheClassifiersOwn) {
  const Network network = residual_classifier(5, 1, 8, {3, 16, 16, {}, {}});
  const ImageSpec plain{3, 16, 16, {}, {}}, normalized{3, 16, 16, {0.5, 0.4, 0.3}, {0.2, 0.3, 0.4}};
  Stream stream = Stream::range(1, 0, 2);
  const Tensor x = stream.uniform({3, 16, 16});
  const Tensor by_hand = (x - at::tensor({0.5, 0.4, 0.3}).view({1, 3, 1, 1})) / at::tensor({0.2, 0.3, 0.4}).view({1, 3, 1, 1});
  const Tensor found = as_classifier("n", network, normalized, {}, at::kCPU).forward(x, {"logits"}).at("logits");
  EXPECT_TRUE(at::allclose(found, as_classifier("p", network, plain, {}, at::kCPU).forward(by_hand.to(at::kFloat), {"logits"}).at("logits"),
                           1e-4, 1e-5));
}

}  // namespace
}  // namespace evoke
