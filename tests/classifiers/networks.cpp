// The built-in classifiers as the design states them, and taps: no further than asked for, and never overwritten.
#include "classifiers/networks.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

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
  EXPECT_THROW(convolutional_classifier(60, 1, 16, {3, 7, 48, {}, {}}), Error);
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
  for (const Network& network : {convolutional_classifier(60, 3), residual_classifier(60, 3)}) {
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
  for (const std::string kind : {"convolutional", "residual"}) {
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
