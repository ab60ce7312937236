// Classifiers, objectives and transforms against tests/golden/classifiers.py, an independent implementation in float64.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "classifiers/networks.h"
#include "classifiers/objectives.h"
#include "classifiers/transforms.h"

namespace evoke {
namespace {

Tensor golden(const std::string& name) {
  static const nlohmann::json all = nlohmann::json::parse(std::ifstream(EVOKE_SOURCE "/tests/golden/classifiers.json"));
  return at::tensor(all.at(name).at("values").get<std::vector<double>>(), at::kDouble)
      .view(all.at(name).at("shape").get<std::vector<int64_t>>());
}

Tensor wave(at::IntArrayRef shape, double rate, double phase) {
  const Tensor numbers = at::arange(c10::multiply_integers(shape), at::kDouble);
  return at::sin(numbers * rate + phase).view(shape);
}

void expect_near(const Tensor& found, const std::string& name, double tolerance) {
  const Tensor expected = golden(name);
  ASSERT_EQ(found.sizes(), expected.sizes()) << name;
  EXPECT_LT((found.detach().to(at::kDouble) - expected).abs().max().item<double>(), tolerance) << name;
  // The check sees a change of a thousandth.
  EXPECT_GT((found.detach().to(at::kDouble) * 1.001 - expected).abs().max().item<double>(), tolerance) << name;
}

// The weights that the script makes: the k-th, in the order of the names, a sine of phase k.
void fill(Network& network) {
  int k = 0;
  for (auto& [name, tensor] : network.weights) {
    Tensor made = wave(tensor.sizes(), 0.37, k++);
    if (tensor.dim() > 1)
      made = made * (1.5 / std::sqrt(static_cast<double>(tensor[0].numel())));
    else
      made = made * 0.1 + (name.find("norm") != std::string::npos && name.ends_with("weight") ? 1.0 : 0.0);
    tensor = made.to(at::kFloat);
  }
}

TEST(Golden, Networks) {
  const ImageSpec image{3, 16, 16, {}, {}};
  const Tensor images = (wave({2, 3, 16, 16}, 0.11, 0.3) * 0.5 + 0.5).to(at::kFloat);
  Network convolutional = convolutional_classifier(5, 1, 8, image);
  fill(convolutional);
  Activations found = as_classifier("convolutional", convolutional, image, {}, at::kCPU).forward(images, {"conv3", "logits"});
  expect_near(found["conv3"], "convolutional/conv3", 1e-5);
  expect_near(found["logits"], "convolutional/logits", 1e-5);
  for (const auto& [blocks, name] : {std::pair{1, "residual/logits"}, {3, "residual of three blocks a size/logits"}}) {
    Network residual = residual_classifier(5, 1, 8, image, blocks);
    fill(residual);
    expect_near(as_classifier("residual", residual, image, {}, at::kCPU).forward(images, {"logits"}).at("logits"), name, 1e-4);
  }
  Network nine = resnet9(5, 1, 8, image);
  fill(nine);
  expect_near(as_classifier("resnet9", nine, image, {}, at::kCPU).forward(images, {"logits"}).at("logits"), "resnet9/logits", 1e-4);
}

TEST(Golden, Objectives) {
  const Tensor a = (wave({4, 6, 5, 7}, 0.7, 0.2) + 0.3).requires_grad_();
  const Tensor logits = (wave({4, 9}, 1.3, 0.5) * 3.0).requires_grad_();
  const Tensor x = (wave({4, 3, 5, 6}, 0.9, 0.1) * 0.5 + 0.5).requires_grad_();
  const Classifier classifier{"golden", {}, {{"map", "", {6, 5, 7}}, {"logits", "", {9}}}, {}, {}};
  const auto check = [&](const std::string& name, const Objective& objective, const Tensor& source, double tolerance = 1e-7) {
    const Tensor score = objective.score(x, {{"map", a}, {"logits", logits}});
    const Tensor factor = at::arange(score.size(0), at::kDouble).unsqueeze(1) + at::arange(score.size(1), at::kDouble) * 2 + 1;
    expect_near(score, "objective/" + name, tolerance);
    expect_near(torch::autograd::grad({(score * factor).sum()}, {source})[0], "slope/" + name, 10 * tolerance);
  };
  const std::vector<Unit> classes{{"logits", 7}, {"logits", 0}};
  check("unit", unit_objective({{"map", 4}, {"map", 1, 0, 6}, {"map", 5}}, classifier), a);
  check("channel", channel_objective({{"map", 0}, {"map", 5}, {"map", 2}}, classifier), a);
  check("logit", logit_objective(classes, classifier), logits);
  check("softmax", softmax_objective(classes, classifier), logits);
  check("log_softmax", log_softmax_objective(classes, classifier), logits);
  check("layer", layer_objective("map", classifier), a);
  check("direction", direction_objective("map", wave({2, 6}, 1.9, 0.4), classifier, 3.0), a);
  check("diversity", diversity_objective("map", classifier), a);
  check("diversity_in_groups", diversity_objective("map", classifier, at::tensor({0, 1, 0, 0}, at::kLong)), a);
  check("total_variation", total_variation_objective(), x);
  check("total_variation_length", total_variation_objective(Variation::length), x);
  check("blur", blur_objective(0.8), x);
  check("bilateral", bilateral_objective(0.9, 0.5), x);
  check("centre", centre_objective(0.4), x);
  const Tensor spread = wave({12, 12}, 0.77, 0.1);
  const Patches patches{3, 2, wave({12}, 1.1, 0.0) * 0.1 + 0.4, spread.matmul(spread.t()) / 12, wave({12, 3, 2, 2}, 2.3, 0.2) * 0.5 + 0.5};
  check("patches", patch_gaussian_objective(patches, 0.1), x, 2e-5);  // of thousands
  check("nearest_patches", nearest_patch_objective(patches, 3), x);
  // A classifier that sees the sought activations in any image.
  Classifier seeing = classifier;
  seeing.image = {3, 5, 6, {}, {}};
  seeing.forward = [](const Tensor&, const std::vector<std::string>&) { return Activations{{"map", wave({1, 6, 5, 7}, 1.1, 0.9)}}; };
  check("inversion", inversion_objective("map", at::zeros({3, 5, 6}), seeing), a);
  check("caricature", caricature_objective("map", at::zeros({3, 5, 6}), seeing), a);
  check("l2", l2_objective(0.25), x);
  check("l1", l1_objective(0.25), x);
  check("interpolation", interpolation(logit_objective(classes, classifier)), logits);
}

TEST(Golden, Transforms) {
  const Tensor picture = wave({2, 1, 12, 10}, 0.29, 0.3) * 0.5 + 0.5;
  const Stream stream(77, at::tensor({3, 41}, at::kLong), 5);
  const auto check = [&](const std::string& name, const Transform& transform) {
    Stream fresh = stream.at_step(5);
    expect_near(transform(picture, fresh), "transform/" + name, 5e-5);
  };
  check("lucid", lucid_transform());
  check("shapes", shapes_transform());
  check("blur", gaussian_blur(1.5));
}

}  // namespace
}  // namespace evoke
