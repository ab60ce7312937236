// A network as data: named weights and a graph of named steps, each of which can be tapped.
#pragma once
#include <functional>
#include <optional>

#include "core/nouns/nouns.h"

namespace evoke {

/// A feed-forward network: steps in order, each a function of the weights and of what earlier steps gave: the step before, unless it
/// names others. So a chain says nothing of inputs, and branches, sums and time steps are the same thing with more said.
/// Weights carry PyTorch's names ("conv1.weight" [out,in,kh,kw], "conv1.bias" [out]), so a state dict loads as it is.
class Network {
 public:
  struct Step {
    std::string name, type;
    std::function<Tensor(const Tensor& x, const Tensors& weights)> forward;  // of one input
    int64_t parameters = 0;
    std::vector<int64_t> inputs = {};  // earlier steps, by their number; `image` is what the network is given; empty: the step before
    std::function<Tensor(const std::vector<Tensor>& inputs, const Tensors& weights)> join = {};  // of several, in place of forward
  };
  static constexpr int64_t image = -1;

  /// The last step's output.
  Tensor operator()(const Tensor& x) const;
  /// Runs the steps that the taps depend on, and no other; a value that is no tap is let go after its last use.
  /// Throws Failure::usage for a tap that does not exist.
  Activations forward(const Tensor& x, const std::vector<std::string>& taps) const;
  /// Name, type, output shape and parameter count of every step, found by passing one row of zeros through.
  std::vector<Layer> layers(at::IntArrayRef input_shape) const;
  int64_t parameters() const;

  /// Weights on `device`, convolution weights channels_last, no gradient: what synthesis uses.
  Network frozen(at::Device device) const;
  /// The same network with a leaf copy of the weights that take gradients: what training uses.
  Network trainable(at::Device device) const;
  /// Takes weights by name, strictly: throws Failure::input with the missing, unexpected and misshapen ones listed. `where` begins the
  /// sentence.
  void load(const Tensors& weights, std::string_view where);

  Tensors weights;
  std::vector<Step> steps;

 private:
  std::vector<int64_t> last_uses(const std::vector<int64_t>& taps) const;
  template <class Visit>
  void walk(const Tensor& x, std::vector<int64_t> last_uses, Visit visit) const;
};

/// Appends layers to a network, initializing weights He-normal (biases 0) from a seeded stream; one builder builds one network.
/// Without a seed the weights are zeros that take no memory: a network to be loaded.
/// Each layer takes what the one before it gave, or what `from` says. Names are taken once.
class NetworkBuilder {
 public:
  explicit NetworkBuilder(std::optional<uint64_t> seed) : seed_(seed) {}
  /// What the next layer takes, in place of the layer before: these layers, "" being the network's input.
  NetworkBuilder& from(const std::vector<std::string>& names);
  /// padding -1: kernel / 2.
  NetworkBuilder& convolution(const std::string& name, int64_t in, int64_t out, int64_t kernel, int64_t stride = 1, int64_t padding = -1,
                              int64_t groups = 1, bool bias = true);
  /// 3×3, the side kept, no bias, each filter standardized before it is used: (w − mean)/√(variance + 1e-10) over its in × 3 × 3 weights
  /// (weight standardization, Qiao 2019, Equation 10). For a norm behind it, to which the filters' scale is nothing.
  NetworkBuilder& standardized_convolution(const std::string& name, int64_t in, int64_t out);
  NetworkBuilder& dense(const std::string& name, int64_t in, int64_t out, double gain = 1.0);
  NetworkBuilder& relu(const std::string& name);
  NetworkBuilder& leaky_relu(const std::string& name, double slope = 0.2);
  NetworkBuilder& silu(const std::string& name);
  NetworkBuilder& sigmoid(const std::string& name);
  NetworkBuilder& max_pool(const std::string& name, int64_t kernel = 2, int64_t stride = 2, int64_t padding = 0, bool ceil = false);
  NetworkBuilder& average_pool(const std::string& name, int64_t kernel, int64_t stride);
  NetworkBuilder& adaptive_average_pool(const std::string& name, int64_t height, int64_t width);  // to that size, from any
  NetworkBuilder& upsample(const std::string& name);                                              // nearest ×2
  NetworkBuilder& flatten(const std::string& name);                                               // [N,…] -> [N,D], in the order C,H,W
  NetworkBuilder& unflatten(const std::string& name, int64_t channels, int64_t height, int64_t width);
  NetworkBuilder& group_norm(const std::string& name, int64_t channels, int64_t groups);
  /// (x - running_mean)/√(running_var + epsilon)·weight + bias: evaluation mode, the statistics weights like the others.
  NetworkBuilder& batch_norm(const std::string& name, int64_t channels, double epsilon = 1e-5);
  /// x/(k + alpha/size·Σ x²)^beta over `size` neighbouring channels (Krizhevsky 2012, Section 3.3, alpha as Caffe and PyTorch have it).
  NetworkBuilder& local_response_norm(const std::string& name, int64_t size = 5, double alpha = 1e-4, double beta = 0.75, double k = 1);
  NetworkBuilder& dropout(const std::string& name) { return same(name, "dropout"); }  // nothing, as in evaluation mode
  /// Another name for what it takes.
  NetworkBuilder& same(const std::string& name, const std::string& type = "same");
  NetworkBuilder& add(const std::string& name, const std::vector<std::string>& names);          // their sum
  NetworkBuilder& concatenate(const std::string& name, const std::vector<std::string>& names);  // along the channels
  /// x + conv(relu(norm(conv(relu(norm(x)))))), with a 1×1 convolution on the shortcut where `in` ≠ `out` or stride ≠ 1. One tap.
  NetworkBuilder& residual(const std::string& name, int64_t in, int64_t out, int64_t stride = 1);
  /// Any other step. `weights`: initial values by full name.
  NetworkBuilder& step(const std::string& name, const std::string& type, Tensors weights,
                       std::function<Tensor(const Tensor&, const Tensors&)> forward);
  /// Any other step of several inputs, those that `from` said.
  NetworkBuilder& join(const std::string& name, const std::string& type, Tensors weights,
                       std::function<Tensor(const std::vector<Tensor>&, const Tensors&)> forward);
  /// The next initial value, normal with this standard deviation; for `step` and `join`.
  Tensor initial(at::IntArrayRef shape, double deviation);
  Network build();

 private:
  void append(Network::Step step, const Tensors& weights);
  Network network_;
  std::optional<uint64_t> seed_;
  int64_t tensors_ = 0;
  std::map<std::string, int64_t> numbers_;  // of the steps, by name
  std::vector<int64_t> from_;
};

/// A classifier from a network: normalizes by `image`, taps by step name, frozen on `device`.
Classifier as_classifier(const std::string& name, const Network&, const ImageSpec& image, std::vector<std::string> labels,
                         at::Device device);

}  // namespace evoke
