#include "core/networks/network.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "core/error.h"
#include "core/networks/image_spec.h"
#include "core/numbers/relu.h"

namespace evoke {

namespace {
const Tensor& weight(const Tensors& weights, const std::string& name) { return weights.at(name); }

// The last step that a step's value is needed for, where it is no step's number: not at all, or beyond the pass (a tap).
constexpr int64_t none = -1, kept = std::numeric_limits<int64_t>::max();
}  // namespace

std::vector<int64_t> Network::last_uses(const std::vector<int64_t>& taps) const {
  std::vector<int64_t> last(taps.empty() ? 0 : static_cast<size_t>(*std::max_element(taps.begin(), taps.end()) + 1), none);
  for (const int64_t tap : taps) last[tap] = kept;
  for (auto i = static_cast<int64_t>(last.size()) - 1; i >= 0; --i) {
    if (last[i] == none) continue;
    const auto use = [&](int64_t input) {
      if (input != image && last[input] == none) last[input] = i;
    };
    if (steps[i].inputs.empty()) use(i - 1);
    for (const int64_t input : steps[i].inputs) use(input);
  }
  return last;
}

// Steps in order, those that are needed; visit(number, value) sees each of them.
template <class Visit>
void Network::walk(const Tensor& x, std::vector<int64_t> last_uses, Visit visit) const {
  std::vector<Tensor> values(last_uses.size());
  for (int64_t i = 0; i < static_cast<int64_t>(last_uses.size()); ++i) {
    if (last_uses[i] == none) continue;
    const Step& step = steps[i];
    const auto value_of = [&](int64_t input) -> const Tensor& { return input == image ? x : values[input]; };
    const auto let_go = [&](int64_t input) {
      if (input != image && last_uses[input] == i) values[input] = Tensor();
    };
    if (step.join) {
      std::vector<Tensor> inputs;
      for (const int64_t input : step.inputs) inputs.push_back(value_of(input));
      for (const int64_t input : step.inputs) let_go(input);
      values[i] = step.join(inputs, weights);
    } else {
      const int64_t input = step.inputs.empty() ? i - 1 : step.inputs[0];
      values[i] = step.forward(value_of(input), weights);
      let_go(input);
    }
    visit(i, values[i]);
  }
}

Tensor Network::operator()(const Tensor& x) const {
  Tensor out = x;
  const auto last = static_cast<int64_t>(steps.size()) - 1;
  if (last >= 0)
    walk(x, last_uses({last}), [&](int64_t i, const Tensor& value) {
      if (i == last) out = value.to(x.scalar_type());
    });
  return out;
}

Activations Network::forward(const Tensor& x, const std::vector<std::string>& taps) const {
  std::vector<int64_t> numbers;
  for (const std::string& tap : taps) {
    const auto found = std::find_if(steps.begin(), steps.end(), [&](const Step& step) { return step.name == tap; });
    if (found == steps.end()) {
      std::vector<std::string> names;
      for (const Step& step : steps) names.push_back(step.name);
      fail(Failure::usage, "network: found no layer '", tap, "'", did_you_mean(tap, names));
    }
    numbers.push_back(found - steps.begin());
  }
  Activations out;
  const std::vector<int64_t> last = last_uses(numbers);
  walk(x, last, [&](int64_t i, const Tensor& value) {
    if (last[i] == kept) out[steps[i].name] = value.to(x.scalar_type());
  });
  return out;
}

std::vector<Layer> Network::layers(at::IntArrayRef input_shape) const {
  const c10::NoGradGuard no_gradient;
  std::vector<int64_t> shape{1};
  shape.insert(shape.end(), input_shape.begin(), input_shape.end());
  const at::Device device = weights.empty() ? at::Device(at::kCPU) : weights.begin()->second.device();
  std::vector<int64_t> all(steps.size());
  std::iota(all.begin(), all.end(), 0);
  std::vector<Layer> out;
  walk(at::zeros(shape, at::TensorOptions(at::kFloat).device(device)), last_uses(all), [&](int64_t i, const Tensor& value) {
    out.push_back({steps[i].name, steps[i].type, value.sizes().slice(1).vec(), steps[i].parameters});
  });
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
    if (found == given.end())
      missing.push_back(name);
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
  if (!seed_) return at::zeros({}).expand(shape);
  if (deviation == 0) return at::zeros(shape);
  Stream stream = Stream::range(*seed_, tensors_++, 1);
  return stream.normal(shape).squeeze(0) * deviation;
}

NetworkBuilder& NetworkBuilder::from(const std::vector<std::string>& names) {
  from_.clear();
  for (const std::string& name : names) {
    const auto found = numbers_.find(name);
    require(name.empty() || found != numbers_.end(), Failure::runtime, "network builder: found no layer '", name, "' before the next one");
    from_.push_back(name.empty() ? Network::image : found->second);
  }
  return *this;
}

void NetworkBuilder::append(Network::Step step, const Tensors& weights) {
  for (const auto& [key, tensor] : weights) {
    step.parameters += tensor.numel();
    network_.weights[key] = tensor;
  }
  require(numbers_.emplace(step.name, network_.steps.size()).second, Failure::runtime, "network builder: found layer '", step.name,
          "' twice; expected each name once");
  step.inputs = std::exchange(from_, {});
  network_.steps.push_back(std::move(step));
}

NetworkBuilder& NetworkBuilder::step(const std::string& name, const std::string& type, Tensors weights,
                                     std::function<Tensor(const Tensor&, const Tensors&)> forward) {
  require(from_.size() <= 1, Failure::runtime, "network builder: layer '", name, "' takes one input, found ", from_.size());
  append({name, type, std::move(forward)}, weights);
  return *this;
}

NetworkBuilder& NetworkBuilder::join(const std::string& name, const std::string& type, Tensors weights,
                                     std::function<Tensor(const std::vector<Tensor>&, const Tensors&)> forward) {
  require(!from_.empty(), Failure::runtime, "network builder: layer '", name, "' joins several, found none; say from({…}) first");
  append({.name = name, .type = type, .forward = {}, .join = std::move(forward)}, weights);
  return *this;
}

NetworkBuilder& NetworkBuilder::convolution(const std::string& name, int64_t in, int64_t out, int64_t kernel, int64_t stride,
                                            int64_t padding, int64_t groups, bool bias) {
  const std::string w = name + ".weight", b = name + ".bias";
  const int64_t pad = padding < 0 ? kernel / 2 : padding, fan_in = in / groups * kernel * kernel;
  Tensors weights{{w, initial({out, in / groups, kernel, kernel}, std::sqrt(2.0 / static_cast<double>(fan_in)))}};
  if (bias) weights[b] = initial({out}, 0);
  return step(name, "convolution", weights, [=](const Tensor& x, const Tensors& all) {
    return at::conv2d(x, weight(all, w), bias ? weight(all, b) : Tensor(), {stride, stride}, {pad, pad}, {1, 1}, groups);
  });
}

NetworkBuilder& NetworkBuilder::standardized_convolution(const std::string& name, int64_t in, int64_t out) {
  const std::string w = name + ".weight";
  return step(name, "standardized_convolution", {{w, initial({out, in, 3, 3}, std::sqrt(2.0 / static_cast<double>(9 * in)))}},
              [=](const Tensor& x, const Tensors& all) {
                return at::conv2d(x, at::layer_norm(weight(all, w), {in, 3, 3}, {}, {}, 1e-10), {}, {1, 1}, {1, 1});
              });
}

NetworkBuilder& NetworkBuilder::dense(const std::string& name, int64_t in, int64_t out, double gain) {
  const std::string w = name + ".weight", b = name + ".bias";
  return step(name, "dense", {{w, initial({out, in}, gain * std::sqrt(2.0 / static_cast<double>(in)))}, {b, initial({out}, 0)}},
              [=](const Tensor& x, const Tensors& weights) { return at::linear(x, weight(weights, w), weight(weights, b)); });
}

NetworkBuilder& NetworkBuilder::relu(const std::string& name) {
  return step(name, "relu", {}, [](const Tensor& x, const Tensors&) { return rectified(x); });
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
NetworkBuilder& NetworkBuilder::max_pool(const std::string& name, int64_t kernel, int64_t stride, int64_t padding, bool ceil) {
  return step(name, "max_pool", {}, [=](const Tensor& x, const Tensors&) {
    return at::max_pool2d(x, {kernel, kernel}, {stride, stride}, {padding, padding}, {1, 1}, ceil);
  });
}
NetworkBuilder& NetworkBuilder::average_pool(const std::string& name, int64_t kernel, int64_t stride) {
  return step(name, "average_pool", {}, [=](const Tensor& x, const Tensors&) {
    return at::avg_pool2d(x, {kernel, kernel}, {stride, stride});
  });
}
NetworkBuilder& NetworkBuilder::adaptive_average_pool(const std::string& name, int64_t height, int64_t width) {
  return step(name, "adaptive_average_pool", {}, [=](const Tensor& x, const Tensors&) {
    return at::adaptive_avg_pool2d(x, {height, width});
  });
}
NetworkBuilder& NetworkBuilder::same(const std::string& name, const std::string& type) {
  return step(name, type, {}, [](const Tensor& x, const Tensors&) { return x; });
}
NetworkBuilder& NetworkBuilder::add(const std::string& name, const std::vector<std::string>& names) {
  return from(names).join(name, "add", {}, [](const std::vector<Tensor>& inputs, const Tensors&) {
    Tensor sum = inputs[0];
    for (size_t i = 1; i < inputs.size(); ++i) sum = sum + inputs[i];
    return sum;
  });
}
NetworkBuilder& NetworkBuilder::concatenate(const std::string& name, const std::vector<std::string>& names) {
  return from(names).join(name, "concatenate", {}, [](const std::vector<Tensor>& inputs, const Tensors&) { return at::cat(inputs, 1); });
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
              [=](const Tensor& x, const Tensors& weights) { return at::group_norm(x, groups, weight(weights, w), weight(weights, b)); });
}

NetworkBuilder& NetworkBuilder::batch_norm(const std::string& name, int64_t channels, double epsilon) {
  const std::string w = name + ".weight", b = name + ".bias", mean = name + ".running_mean", variance = name + ".running_var";
  return step(name, "batch_norm",
              {{w, at::ones({channels})}, {b, at::zeros({channels})}, {mean, at::zeros({channels})}, {variance, at::ones({channels})}},
              [=](const Tensor& x, const Tensors& all) {
                return at::batch_norm(x, weight(all, w), weight(all, b), weight(all, mean), weight(all, variance), /*training=*/false,
                                      /*momentum=*/0, epsilon, /*cudnn_enabled=*/true);
              });
}

NetworkBuilder& NetworkBuilder::local_response_norm(const std::string& name, int64_t size, double alpha, double beta, double k) {
  return step(name, "local_response_norm", {}, [=](const Tensor& x, const Tensors&) {
    const int64_t channels = x.size(1);
    const Tensor squares = at::constant_pad_nd(x.square(), {0, 0, 0, 0, size / 2, (size - 1) / 2});
    Tensor sum = squares.narrow(1, 0, channels);
    for (int64_t i = 1; i < size; ++i) sum = sum + squares.narrow(1, i, channels);
    return x * (sum * (alpha / static_cast<double>(size)) + k).pow(-beta);
  });
}

NetworkBuilder& NetworkBuilder::residual(const std::string& name, int64_t in, int64_t out, int64_t stride) {
  const auto he = [](int64_t fan) { return std::sqrt(2.0 / static_cast<double>(fan)); };
  Tensors weights{{name + ".norm1.weight", at::ones({in})},
                  {name + ".norm1.bias", at::zeros({in})},
                  {name + ".norm2.weight", at::ones({out})},
                  {name + ".norm2.bias", at::zeros({out})},
                  {name + ".conv1.weight", initial({out, in, 3, 3}, he(9 * in))},
                  {name + ".conv2.weight", initial({out, out, 3, 3}, 0.5 * he(9 * out))}};
  const bool shortcut = in != out || stride != 1;
  if (shortcut) weights[name + ".shortcut.weight"] = initial({out, in, 1, 1}, he(2 * in));
  return step(name, "residual", weights, [=](const Tensor& x, const Tensors& all) {
    const auto part = [&](const char* end) -> const Tensor& { return weight(all, name + end); };
    Tensor y = rectified(at::group_norm(x, std::max<int64_t>(1, in / 8), part(".norm1.weight"), part(".norm1.bias")));
    const Tensor straight = shortcut ? at::conv2d(y, part(".shortcut.weight"), {}, {stride, stride}) : x;
    y = at::conv2d(y, part(".conv1.weight"), {}, {stride, stride}, {1, 1});
    y = rectified(at::group_norm(y, std::max<int64_t>(1, out / 8), part(".norm2.weight"), part(".norm2.bias")));
    return straight + at::conv2d(y, part(".conv2.weight"), {}, {1, 1}, {1, 1});
  });
}

Network NetworkBuilder::build() { return std::move(network_); }

Classifier as_classifier(const std::string& name, const Network& network, const ImageSpec& image, std::vector<std::string> labels,
                         at::Device device) {
  const Network frozen = network.frozen(device);
  Classifier out{name, image, frozen.layers({image.channels, image.height, image.width}), std::move(labels), {}};
  out.forward = [frozen, name, image, seen = preprocessing(image, device)](const Tensor& x, const std::vector<std::string>& taps) {
    require(x.dim() == 4 && x.size(1) == image.channels && x.size(2) == image.height && x.size(3) == image.width, Failure::runtime,
            "classifier ", name, ": found images ", shape_text(x.sizes()), ", expected [N,", image.channels, ",", image.height, ",",
            image.width, "]");
    return frozen.forward(seen(x).contiguous(at::MemoryFormat::ChannelsLast), taps);
  };
  return out;
}

}  // namespace evoke
