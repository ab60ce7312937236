// The classifiers that evoke trains itself, and their weights on disk.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/networks/network.h"
#include "core/recipes/recipe.h"

namespace evoke {

/// What a built-in classifier is made of.
struct ClassifierOptions {
  std::string kind = "convolutional";             // one of classifier_kinds()
  int64_t classes = 60;                           // logits
  int64_t filters = 16;                           // channels of the first convolution; of trained_kinds()
  int64_t channels = 3, height = 48, width = 48;  // of the images
  int64_t blocks = 1;                             // residual blocks of each size; residual
  int64_t steps = 4;                              // time steps of the tnn
};
void describe(Fields&, ClassifierOptions&);
/// The same of a network that is trained here: of those kinds alone.
struct TrainedClassifierOptions : ClassifierOptions {};
void describe(Fields&, TrainedClassifierOptions&);

/// Every kind that build_classifier builds: convolutional, residual, resnet9, and the literature's (classifiers/literature.h).
std::vector<std::string> classifier_kinds();
/// Those that are trained here; the others' weights are loaded (dropout is nothing to them, and batch norm learns no statistics).
std::vector<std::string> trained_kinds();

/// Five convolutions and two dense layers, for 48×48 about 13 million multiply-adds an image (F = filters):
/// conv1 5×5 F, relu1, pool1, conv2 5×5 2F, relu2, pool2, conv3 3×3 8, relu3, conv4 3×3 4F, relu4, pool4, conv5 3×3 4F, relu5, flatten,
/// dense1 8F, relu6, logits. conv3 has eight channels whatever F is, so that all of them can be looked at; they see 24 × 24 pixels.
/// Only images' channels, height and width are read of `image`. Throws Failure::input for sides below 8.
Network convolutional_classifier(int64_t classes, std::optional<uint64_t> seed, int64_t filters = 16, const ImageSpec& image = {});

/// Pre-activation residual blocks (He 2016, identity mappings) with group norm: stem 3×3 F, block1 2F, block2 4F, block3 8F, each of
/// half the side, then norm, relu, flatten, logits. More `blocks` of a size (block1_2, block1_3, …) keep the side and the channels, and
/// have no shortcut but the identity. Another family than the convolutional one, so its mistakes are others: the oracle.
Network residual_classifier(int64_t classes, std::optional<uint64_t> seed, int64_t filters = 16, const ImageSpec& image = {},
                            int64_t blocks = 1);

/// The residual network of nine layers that learns small photographs in few passes (Page 2018, "How to train your ResNet", entry of
/// DAWNBench), by group norm and standardized filters in place of batch norm: stem 3×3 F; conv1 2F, conv2 4F, conv3 8F, each 3×3 and halved
/// by pool1 … pool3, the largest of 2×2, before its norm and relu; block1 and block3 add two more convolutions of the same channels to what
/// they take; then pool (the mean over all places), flatten, logits. It looks at every pixel before the side is halved, where residual
/// skips every other one at once.
Network resnet9(int64_t classes, std::optional<uint64_t> seed, int64_t filters = 16, const ImageSpec& image = {});

/// The network that the options describe; its last layer is `logits`. Without a seed it is to be loaded (see NetworkBuilder).
/// Throws Failure::input for an unknown kind, and for sizes that the kind cannot take.
Network build_classifier(const ClassifierOptions&, std::optional<uint64_t> seed = 0);

/// Writes weights with what it takes to build the classifier again: kind and options, labels, and the image's size and normalization.
/// labels: one a class, or none. half: weights as float16, half the file. Throws Failure::input when labels or image do not fit the
/// options.
void save_classifier(const std::string& file, const ClassifierOptions&, const Network&, const std::vector<std::string>& labels,
                     const ImageSpec&, bool half = false);

/// What save_classifier wrote. The network takes images as `image` says.
struct SavedClassifier {
  ClassifierOptions options;
  Network network;  // on the CPU
  std::vector<std::string> labels;
  ImageSpec image;
};
/// Throws Failure::input when the file is no such file, is torn, or its weights do not fit its options.
SavedClassifier load_classifier_file(const std::string& file);
Network load_classifier_network(const std::string& file);
/// Frozen, on `device`, named by the file's stem.
Classifier load_classifier(const std::string& file, at::Device device = at::kCPU);

}  // namespace evoke
