// The networks of the literature, with the names that their weights have in PyTorch.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "classifiers/networks.h"

namespace evoke {

/// | kind      | names and layers of                            | customary image                                              |
/// |-----------|------------------------------------------------|--------------------------------------------------------------|
/// | alexnet   | torchvision (Krizhevsky 2014)                  | 224, (x - ImageNet's mean)/deviation                         |
/// | caffenet  | BVLC's reference CaffeNet: conv1 … fc8         | 227, 0…255 BGR - (104, 117, 123)                             |
/// | vgg16, 19 | torchvision (Simonyan & Zisserman 2015, D, E)  | 224, ImageNet's                                              |
/// | googlenet | torchvision (Szegedy 2015, with batch norm)    | 224, -1…1: what its transform_input makes of ImageNet's      |
/// | resnet18, 50 | torchvision (He 2016)                       | 224, ImageNet's                                              |
/// | tnn       | task_driven_network, below                     | 48, 0…1                                                      |
std::vector<std::string> literature_kinds();

/// Every module of the Python network that gives a tensor can be tapped by Python's name: features.3, layer1.0.bn1, layer1.0,
/// layer1, inception4a.branch2.0, inception4a. What Python computes without a module has a name of its own: flatten, layer1.0.add.
/// Where one relu module is called several times, its name is its last call's, and an earlier call is named for what it follows:
/// layer1.0.bn1.relu, layer1.0.relu.
/// The last layer is `logits`, another name for Python's last (fc, classifier.6, fc8).
///
/// All are as in evaluation mode. Options read: kind, classes, image size (of any size that leaves the last map a pixel; CaffeNet's fc6
/// follows from it), and for the tnn filters and steps.
/// Throws Failure::input for images that are too small, and for another number of channels than 3.
Network literature_network(const ClassifierOptions&, std::optional<uint64_t> seed = 0);

/// A task-driven convolutional recurrent network (Nayebi 2018): ten convolutions unrolled over `steps` time steps t on an image
/// that stands still. Channels F, F, 2F, 2F, 4F, 4F, 4F, 8F, 8F, 8F (F = filters); conv1 7×7 stride 2, the others 3×3; 2×2 max
/// pools after conv2, conv4 and conv7; then the mean over the map, flatten, logits.
///
/// Layers 4 to 10 hold a response h and a cell c that gate one another (reciprocal gated cell), h₀ = c₀ = 0:
///
///     x_t = elu(W * r_t + b + up(W_feedback * h'_{t-1}))      r: the layer below, h': the layer that feeds back
///     h_t = elu((1 - σ(W_ch * c_{t-1}))·x_t + (1 - σ(W_hh * h_{t-1}))·h_{t-1})
///     c_t = elu((1 - σ(W_hc * h_{t-1}))·x_t + (1 - σ(W_cc * c_{t-1}))·c_{t-1})
///
/// Long-range feedback runs from conv8 to conv5, conv9 to conv6 and conv10 to conv7, by a 1×1 convolution and bilinear enlargement.
/// Taps: conv5.t3 (h), conv5.t3.cell (c), conv5.t3.drive (x), pool4.t3; conv5, pool4, …: the last step. conv1 to conv3 are the
/// same at every step, and computed once.
/// Weights: conv5.weight, .bias, .gate_ch.weight, .gate_hh.weight, .gate_hc.weight, .gate_cc.weight, .feedback.weight; whatever `steps` is.
/// Differs: within a step all layers follow one another, where the paper delays each by a step, so that the first answer takes 1 step, not
/// 10; feedback is added, not concatenated; which layers feed back is chosen by hand, not by search; the logits are the last step's.
Network task_driven_network(const ClassifierOptions&, std::optional<uint64_t> seed = 0);

/// The image that networks of this kind customarily see. Throws Failure::input for an unknown kind.
ImageSpec customary_image(const std::string& kind);
/// The options that the customary network of this kind has: 1000 classes (60 for those trained here) and its customary image's size.
ClassifierOptions customary_options(const std::string& kind);

/// The network that the options describe with the weights of a file that Python's safetensors.torch.save_file(model.state_dict(), file)
/// wrote; on the CPU. Strict, but for what evaluation does not need: num_batches_tracked of a batch norm, and googlenet's aux1 and aux2.
/// Throws Failure::input with the missing, unexpected and misshapen weights listed, and for half or double precision.
Network load_state_dict(const ClassifierOptions&, const std::string& file);

}  // namespace evoke
