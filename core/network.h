// A network as data: named weights and a chain of named steps, each of which can be tapped.
#pragma once
#include <functional>

#include "core/nouns.h"

namespace evoke {

/// A feed-forward network: steps in order, each a function of the previous output and the weights.
/// Weights carry PyTorch's names ("conv1.weight" [out,in,kh,kw], "conv1.bias" [out]), so a state dict loads as it is.
class Network {
 public:
  struct Step {
    std::string name, type;
    std::function<Tensor(const Tensor& x, const Tensors& weights)> forward;
    int64_t parameters = 0;
  };

  /// The last step's output.
  Tensor operator()(const Tensor& x) const;
  /// Runs no further than the deepest tap. Throws Failure::usage for a tap that does not exist.
  Activations forward(const Tensor& x, const std::vector<std::string>& taps) const;
  /// Name, type, output shape and parameter count of every step, found by passing one row of zeros through.
  std::vector<Layer> layers(at::IntArrayRef input_shape) const;
  int64_t parameters() const;

  /// Weights on `device`, convolution weights channels_last, no gradient: what synthesis uses.
  Network frozen(at::Device device) const;
  /// The same network with a leaf copy of the weights that take gradients: what training uses.
  Network trainable(at::Device device) const;
  /// Takes weights by name, strictly: throws Failure::input with the missing, unexpected and misshapen ones listed. `where` begins the sentence.
  void load(const Tensors& weights, std::string_view where);

  Tensors weights;
  std::vector<Step> steps;
};

/// Appends layers to a network, initializing weights He-normal (biases 0) from a seeded stream; one builder builds one network.
class NetworkBuilder {
 public:
  explicit NetworkBuilder(uint64_t seed) : seed_(seed) {}
  NetworkBuilder& convolution(const std::string& name, int64_t in, int64_t out, int64_t kernel, int64_t stride = 1, int64_t padding = -1);
  NetworkBuilder& dense(const std::string& name, int64_t in, int64_t out, double gain = 1.0);
  NetworkBuilder& relu(const std::string& name);
  NetworkBuilder& leaky_relu(const std::string& name, double slope = 0.2);
  NetworkBuilder& silu(const std::string& name);
  NetworkBuilder& sigmoid(const std::string& name);
  NetworkBuilder& max_pool(const std::string& name);                     // 2×2, stride 2
  NetworkBuilder& upsample(const std::string& name);                     // nearest ×2
  NetworkBuilder& flatten(const std::string& name);                      // [N,…] -> [N,D], in the order C,H,W
  NetworkBuilder& unflatten(const std::string& name, int64_t channels, int64_t height, int64_t width);
  NetworkBuilder& group_norm(const std::string& name, int64_t channels, int64_t groups);
  /// x + conv(relu(norm(conv(relu(norm(x)))))), with a 1×1 convolution on the shortcut where `in` ≠ `out` or stride ≠ 1. One tap.
  NetworkBuilder& residual(const std::string& name, int64_t in, int64_t out, int64_t stride = 1);
  /// Any other step. `weights`: initial values by full name.
  NetworkBuilder& step(const std::string& name, const std::string& type, Tensors weights,
                       std::function<Tensor(const Tensor&, const Tensors&)> forward);
  Network build();

 private:
  Tensor initial(at::IntArrayRef shape, double deviation);
  Network network_;
  uint64_t seed_;
  int64_t tensors_ = 0;
};

/// A classifier from a network: normalizes by `image`, taps by step name, frozen on `device`.
Classifier as_classifier(const std::string& name, const Network&, const ImageSpec& image, std::vector<std::string> labels, at::Device device);

}  // namespace evoke
