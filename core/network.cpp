#include "core/network.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "core/error.h"

namespace evoke {

namespace {
const Tensor& weight(const Tensors& weights, const std::string& name) { return weights.at(name); }
}  // namespace

Tensor Network::operator()(const Tensor& x) const {
  Tensor value = x;
  for (const Step& step : steps) value = step.forward(value, weights);
  return value;
}

Activations Network::forward(const Tensor& x, const std::vector<std::string>& taps) const {
  Activations out;
  Tensor value = x;
  size_t found = 0;
  const size_t wanted = std::set<std::string>(taps.begin(), taps.end()).size();
  for (const Step& step : steps) {
    if (found == wanted) break;
    value = step.forward(value, weights);
    if (std::find(taps.begin(), taps.end(), step.name) != taps.end()) {
      out[step.name] = value;
      ++found;
    }
  }
  for (const std::string& tap : taps)
    if (!out.contains(tap)) {
      std::vector<std::string> names;
      for (const Step& step : steps) names.push_back(step.name);
      fail(Failure::usage, "network: found no layer '", tap, "'", did_you_mean(tap, names));
    }
  return out;
}

std::vector<Layer> Network::layers(at::IntArrayRef input_shape) const {
  const c10::NoGradGuard no_gradient;
  std::vector<int64_t> shape{1};
  shape.insert(shape.end(), input_shape.begin(), input_shape.end());
  const at::Device device = weights.empty() ? at::Device(at::kCPU) : weights.begin()->second.device();
  Tensor value = at::zeros(shape, at::TensorOptions(at::kFloat).device(device));
  std::vector<Layer> out;
  for (const Step& step : steps) {
    value = step.forward(value, weights);
    out.push_back({step.name, step.type, value.sizes().slice(1).vec(), step.parameters});
  }
  return out;
}

int64_t Network::parameters() const {
  int64_t sum = 0;
  for (const Step& step : steps) sum += step.parameters;
  return sum;
}

Network Network::frozen(at::Device device) const {
  Network out = *this;
  for (auto& [name, tensor] : out.weights) {
    tensor = tensor.detach().to(device);
    if (tensor.dim() == 4) tensor = tensor.contiguous(at::MemoryFormat::ChannelsLast);
  }
  return out;
}

Network Network::trainable(at::Device device) const {
  Network out = *this;
  for (auto& [name, tensor] : out.weights) {
    tensor = tensor.detach().to(device);
    tensor = tensor.clone(tensor.dim() == 4 ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous).requires_grad_();
  }
  return out;
}

void Network::load(const Tensors& given, std::string_view where) {
  std::vector<std::string> missing, unexpected, misshapen;
  for (const auto& [name, tensor] : weights) {
    const auto found = given.find(name);
    if (found == given.end()) missing.push_back(name);
    else if (found->second.sizes() != tensor.sizes() || found->second.scalar_type() != tensor.scalar_type())
      misshapen.push_back(text(name, " ", shape_text(found->second.sizes()), " ", found->second.dtype().name(), " where ",
                               shape_text(tensor.sizes()), " ", tensor.dtype().name(), " is expected"));
  }
  for (const auto& [name, tensor] : given)
    if (!weights.contains(name)) unexpected.push_back(name);
  require(missing.empty() && unexpected.empty() && misshapen.empty(), Failure::input, where,
          ": the weights do not fit the network: ", missing.empty() ? "" : text("missing ", list_of(missing), "; "),
          unexpected.empty() ? "" : text("unexpected ", list_of(unexpected), "; "),
          misshapen.empty() ? "" : text("of another shape: ", list_of(misshapen), "; "), "expected the weights of this very architecture");
  for (auto& [name, tensor] : weights) tensor = given.at(name).to(tensor.device());
}

Tensor NetworkBuilder::initial(at::IntArrayRef shape, double deviation) {
  if (deviation == 0) return at::zeros(shape);
  Stream stream = Stream::range(seed_, tensors_++, 1);
  return stream.normal(shape).squeeze(0) * deviation;
}

NetworkBuilder& NetworkBuilder::step(const std::string& name, const std::string& type, Tensors weights,
                                     std::function<Tensor(const Tensor&, const Tensors&)> forward) {
  int64_t parameters = 0;
  for (auto& [key, tensor] : weights) {
    parameters += tensor.numel();
    network_.weights[key] = tensor;
  }
  network_.steps.push_back({name, type, std::move(forward), parameters});
  return *this;
}

NetworkBuilder& NetworkBuilder::convolution(const std::string& name, int64_t in, int64_t out, int64_t kernel, int64_t stride,
                                            int64_t padding) {
  const std::string w = name + ".weight", b = name + ".bias";
  const int64_t pad = padding < 0 ? kernel / 2 : padding;
  return step(name, "convolution",
              {{w, initial({out, in, kernel, kernel}, std::sqrt(2.0 / static_cast<double>(in * kernel * kernel)))}, {b, initial({out}, 0)}},
              [=](const Tensor& x, const Tensors& weights) {
                return at::conv2d(x, weight(weights, w), weight(weights, b), {stride, stride}, {pad, pad});
              });
}

NetworkBuilder& NetworkBuilder::dense(const std::string& name, int64_t in, int64_t out, double gain) {
  const std::string w = name + ".weight", b = name + ".bias";
  return step(name, "dense", {{w, initial({out, in}, gain * std::sqrt(2.0 / static_cast<double>(in)))}, {b, initial({out}, 0)}},
              [=](const Tensor& x, const Tensors& weights) { return at::linear(x, weight(weights, w), weight(weights, b)); });
}

NetworkBuilder& NetworkBuilder::relu(const std::string& name) {
  return step(name, "relu", {}, [](const Tensor& x, const Tensors&) { return at::relu(x); });
}
NetworkBuilder& NetworkBuilder::leaky_relu(const std::string& name, double slope) {
  return step(name, "leaky_relu", {}, [slope](const Tensor& x, const Tensors&) { return at::leaky_relu(x, slope); });
}
NetworkBuilder& NetworkBuilder::silu(const std::string& name) {
  return step(name, "silu", {}, [](const Tensor& x, const Tensors&) { return at::silu(x); });
}
NetworkBuilder& NetworkBuilder::sigmoid(const std::string& name) {
  return step(name, "sigmoid", {}, [](const Tensor& x, const Tensors&) { return at::sigmoid(x); });
}
NetworkBuilder& NetworkBuilder::max_pool(const std::string& name) {
  return step(name, "max_pool", {}, [](const Tensor& x, const Tensors&) { return at::max_pool2d(x, {2, 2}); });
}
NetworkBuilder& NetworkBuilder::upsample(const std::string& name) {
  return step(name, "upsample", {}, [](const Tensor& x, const Tensors&) {
    return at::upsample_nearest2d(x, {2 * x.size(2), 2 * x.size(3)});
  });
}
NetworkBuilder& NetworkBuilder::flatten(const std::string& name) {
  return step(name, "flatten", {}, [](const Tensor& x, const Tensors&) { return x.flatten(1); });
}
NetworkBuilder& NetworkBuilder::unflatten(const std::string& name, int64_t channels, int64_t height, int64_t width) {
  return step(name, "unflatten", {}, [=](const Tensor& x, const Tensors&) {
    return x.view({x.size(0), channels, height, width}).contiguous(at::MemoryFormat::ChannelsLast);
  });
}
NetworkBuilder& NetworkBuilder::group_norm(const std::string& name, int64_t channels, int64_t groups) {
  const std::string w = name + ".weight", b = name + ".bias";
  return step(name, "group_norm", {{w, at::ones({channels})}, {b, at::zeros({channels})}},
              [=](const Tensor& x, const Tensors& weights) {
                return at::group_norm(x, groups, weight(weights, w), weight(weights, b));
              });
}

NetworkBuilder& NetworkBuilder::residual(const std::string& name, int64_t in, int64_t out, int64_t stride) {
  const auto he = [](int64_t fan) { return std::sqrt(2.0 / static_cast<double>(fan)); };
  Tensors weights{{name + ".norm1.weight", at::ones({in})},   {name + ".norm1.bias", at::zeros({in})},
                  {name + ".norm2.weight", at::ones({out})},  {name + ".norm2.bias", at::zeros({out})},
                  {name + ".conv1.weight", initial({out, in, 3, 3}, he(9 * in))},
                  {name + ".conv2.weight", initial({out, out, 3, 3}, 0.5 * he(9 * out))}};
  const bool shortcut = in != out || stride != 1;
  if (shortcut) weights[name + ".shortcut.weight"] = initial({out, in, 1, 1}, he(2 * in));
  return step(name, "residual", weights, [=](const Tensor& x, const Tensors& all) {
    const auto part = [&](const char* end) -> const Tensor& { return weight(all, name + end); };
    Tensor y = at::relu(at::group_norm(x, std::max<int64_t>(1, in / 8), part(".norm1.weight"), part(".norm1.bias")));
    const Tensor straight = shortcut ? at::conv2d(y, part(".shortcut.weight"), {}, {stride, stride}) : x;
    y = at::conv2d(y, part(".conv1.weight"), {}, {stride, stride}, {1, 1});
    y = at::relu(at::group_norm(y, std::max<int64_t>(1, out / 8), part(".norm2.weight"), part(".norm2.bias")));
    return straight + at::conv2d(y, part(".conv2.weight"), {}, {1, 1}, {1, 1});
  });
}

Network NetworkBuilder::build() { return std::move(network_); }

Classifier as_classifier(const std::string& name, const Network& network, const ImageSpec& image, std::vector<std::string> labels,
                         at::Device device) {
  const Network frozen = network.frozen(device);
  Classifier out{name, image, frozen.layers({image.channels, image.height, image.width}), std::move(labels), {}};
  Tensor mean, deviation;
  if (!image.mean.empty()) {
    const auto per_channel = [&](const std::vector<double>& v) {
      return at::tensor(v, at::kFloat).to(device).view({1, image.channels, 1, 1});
    };
    mean = per_channel(image.mean);
    deviation = per_channel(image.deviation);
  }
  out.forward = [frozen, mean, deviation, name, image](const Tensor& x, const std::vector<std::string>& taps) {
    require(x.dim() == 4 && x.size(1) == image.channels && x.size(2) == image.height && x.size(3) == image.width, Failure::runtime,
            "classifier ", name, ": found images ", shape_text(x.sizes()), ", expected [N,", image.channels, ",", image.height, ",",
            image.width, "]");
    const Tensor seen = mean.defined() ? (x - mean) / deviation : x;
    return frozen.forward(seen.contiguous(at::MemoryFormat::ChannelsLast), taps);
  };
  return out;
}

}  // namespace evoke
