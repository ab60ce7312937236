#include "classifiers/literature.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <utility>

#include "core/error.h"
#include "core/storage/safetensors.h"

namespace evoke {

namespace {

using std::to_string;

// The common name of the last layer.
Network finished(NetworkBuilder& net, const std::string& last) { return net.from({last}).same("logits").build(); }

// ---- AlexNet

Network alexnet(const ClassifierOptions& o, std::optional<uint64_t> seed) {
  NetworkBuilder net(seed);
  net.convolution("features.0", 3, 64, 11, 4, 2).relu("features.1").max_pool("features.2", 3, 2);
  net.convolution("features.3", 64, 192, 5).relu("features.4").max_pool("features.5", 3, 2);
  net.convolution("features.6", 192, 384, 3).relu("features.7");
  net.convolution("features.8", 384, 256, 3).relu("features.9");
  net.convolution("features.10", 256, 256, 3).relu("features.11").max_pool("features.12", 3, 2).same("features");
  net.adaptive_average_pool("avgpool", 6, 6).flatten("flatten");
  net.dropout("classifier.0").dense("classifier.1", 9216, 4096).relu("classifier.2");
  net.dropout("classifier.3").dense("classifier.4", 4096, 4096).relu("classifier.5");
  net.dense("classifier.6", 4096, o.classes).same("classifier");
  return finished(net, "classifier");
}

// ---- CaffeNet: two groups, and pools before norms. Caffe rounds the size of a pool's output up.

Network caffenet(const ClassifierOptions& o, std::optional<uint64_t> seed) {
  const auto pooled = [](int64_t side) { return (side - 3 + 1) / 2 + 1; };
  const auto side = [&](int64_t pixels) { return pooled(pooled(pooled((pixels - 11) / 4 + 1))); };
  NetworkBuilder net(seed);
  const auto pool = [&](const std::string& name) { net.max_pool(name, 3, 2, 0, /*ceil=*/true); };
  net.convolution("conv1", 3, 96, 11, 4, 0).relu("relu1");
  pool("pool1");
  net.local_response_norm("norm1").convolution("conv2", 96, 256, 5, 1, 2, 2).relu("relu2");
  pool("pool2");
  net.local_response_norm("norm2").convolution("conv3", 256, 384, 3).relu("relu3");
  net.convolution("conv4", 384, 384, 3, 1, 1, 2).relu("relu4").convolution("conv5", 384, 256, 3, 1, 1, 2).relu("relu5");
  pool("pool5");
  net.flatten("flatten").dense("fc6", 256 * side(o.height) * side(o.width), 4096).relu("relu6").dropout("drop6");
  net.dense("fc7", 4096, 4096).relu("relu7").dropout("drop7").dense("fc8", 4096, o.classes);
  return finished(net, "fc8");
}

// ---- VGG: 3×3 convolutions, `blocks` of them before each of five pools.

constexpr std::array<int64_t, 5> vgg_d{2, 2, 3, 3, 3}, vgg_e{2, 2, 4, 4, 4};

Network vgg(const ClassifierOptions& o, std::optional<uint64_t> seed, const std::array<int64_t, 5>& blocks) {
  constexpr std::array<int64_t, 5> channels{64, 128, 256, 512, 512};
  NetworkBuilder net(seed);
  int64_t number = 0, in = 3;
  const auto next = [&] { return "features." + to_string(number++); };
  for (size_t block = 0; block < blocks.size(); ++block) {
    for (int64_t i = 0; i < blocks[block]; ++i) {
      net.convolution(next(), std::exchange(in, channels[block]), channels[block], 3);
      net.relu(next());
    }
    net.max_pool(next());
  }
  net.same("features").adaptive_average_pool("avgpool", 7, 7).flatten("flatten");
  net.dense("classifier.0", 512 * 7 * 7, 4096).relu("classifier.1").dropout("classifier.2");
  net.dense("classifier.3", 4096, 4096).relu("classifier.4").dropout("classifier.5");
  net.dense("classifier.6", 4096, o.classes).same("classifier");
  return finished(net, "classifier");
}

// ---- GoogLeNet

// Convolution, batch norm, relu: one module of Python's, named for all three.
void basic(NetworkBuilder& net, const std::string& name, int64_t in, int64_t out, int64_t kernel, int64_t stride = 1) {
  net.convolution(name + ".conv", in, out, kernel, stride, -1, 1, /*bias=*/false).batch_norm(name + ".bn", out, 1e-3).relu(name);
}

struct Inception {
  const char* name;
  int64_t in, one, three_in, three, five_in, five, pool;  // "five" is 3×3 too, as torchvision's pretrained weights have it
};

void inception(NetworkBuilder& net, const std::string& input, const Inception& i) {
  const std::string name = i.name, b1 = name + ".branch1", b2 = name + ".branch2", b3 = name + ".branch3", b4 = name + ".branch4";
  basic(net.from({input}), b1, i.in, i.one, 1);
  basic(net.from({input}), b2 + ".0", i.in, i.three_in, 1);
  basic(net, b2 + ".1", i.three_in, i.three, 3);
  net.same(b2);
  basic(net.from({input}), b3 + ".0", i.in, i.five_in, 1);
  basic(net, b3 + ".1", i.five_in, i.five, 3);
  net.same(b3);
  net.from({input}).max_pool(b4 + ".0", 3, 1, 1, /*ceil=*/true);
  basic(net, b4 + ".1", i.in, i.pool, 1);
  net.same(b4);
  net.concatenate(name, {b1, b2, b3, b4});
}

Network googlenet(const ClassifierOptions& o, std::optional<uint64_t> seed) {
  NetworkBuilder net(seed);
  basic(net, "conv1", 3, 64, 7, 2);
  net.max_pool("maxpool1", 3, 2, 0, true);
  basic(net, "conv2", 64, 64, 1);
  basic(net, "conv3", 64, 192, 3);
  net.max_pool("maxpool2", 3, 2, 0, true);
  inception(net, "maxpool2", {"inception3a", 192, 64, 96, 128, 16, 32, 32});
  inception(net, "inception3a", {"inception3b", 256, 128, 128, 192, 32, 96, 64});
  net.max_pool("maxpool3", 3, 2, 0, true);
  inception(net, "maxpool3", {"inception4a", 480, 192, 96, 208, 16, 48, 64});
  inception(net, "inception4a", {"inception4b", 512, 160, 112, 224, 24, 64, 64});
  inception(net, "inception4b", {"inception4c", 512, 128, 128, 256, 24, 64, 64});
  inception(net, "inception4c", {"inception4d", 512, 112, 144, 288, 32, 64, 64});
  inception(net, "inception4d", {"inception4e", 528, 256, 160, 320, 32, 128, 128});
  net.max_pool("maxpool4", 2, 2, 0, true);
  inception(net, "maxpool4", {"inception5a", 832, 256, 160, 320, 32, 128, 128});
  inception(net, "inception5a", {"inception5b", 832, 384, 192, 384, 48, 128, 128});
  net.adaptive_average_pool("avgpool", 1, 1).flatten("flatten").dropout("dropout").dense("fc", 1024, o.classes);
  return finished(net, "fc");
}

// ---- ResNet

// One block: convolutions of these kernels, each with its batch norm, the shortcut added before the last relu.
// The first or, where there are three, the second takes the stride.
void residual_block(NetworkBuilder& net, const std::string& input, const std::string& name, int64_t in, int64_t width, int64_t out,
                    int64_t stride, bool bottleneck) {
  const auto convolve = [&](const std::string& number, int64_t from, int64_t to, int64_t kernel, int64_t step) {
    net.convolution(name + ".conv" + number, from, to, kernel, step, -1, 1, /*bias=*/false).batch_norm(name + ".bn" + number, to);
  };
  std::string last = "2", straight = input;
  net.from({input});
  if (bottleneck) {
    convolve("1", in, width, 1, 1);
    net.relu(name + ".bn1.relu");
    convolve("2", width, width, 3, stride);
    net.relu(name + ".bn2.relu");
    convolve(last = "3", width, out, 1, 1);
  } else {
    convolve("1", in, width, 3, stride);
    net.relu(name + ".bn1.relu");
    convolve("2", width, out, 3, 1);
  }
  if (stride != 1 || in != out) {
    straight = name + ".downsample";
    net.from({input})
        .convolution(straight + ".0", in, out, 1, stride, 0, 1, /*bias=*/false)
        .batch_norm(straight + ".1", out)
        .same(straight);
  }
  net.add(name + ".add", {name + ".bn" + last, straight}).relu(name + ".relu").same(name);
}

constexpr std::array<int64_t, 4> resnet_18{2, 2, 2, 2}, resnet_50{3, 4, 6, 3};

Network resnet(const ClassifierOptions& o, std::optional<uint64_t> seed, const std::array<int64_t, 4>& blocks, bool bottleneck) {
  NetworkBuilder net(seed);
  net.convolution("conv1", 3, 64, 7, 2, 3, 1, /*bias=*/false).batch_norm("bn1", 64).relu("relu").max_pool("maxpool", 3, 2, 1);
  std::string input = "maxpool";
  int64_t in = 64;
  for (int64_t layer = 1; layer <= 4; ++layer) {
    const int64_t width = 64 << (layer - 1), out = bottleneck ? 4 * width : width;
    const std::string name = "layer" + to_string(layer);
    for (int64_t i = 0; i < blocks[layer - 1]; ++i) {
      const std::string block = name + "." + to_string(i);
      residual_block(net, input, block, in, width, out, i == 0 && layer > 1 ? 2 : 1, bottleneck);
      input = block;
      in = out;
    }
    net.same(name);
    input = name;
  }
  net.adaptive_average_pool("avgpool", 1, 1).flatten("flatten").dense("fc", in, o.classes);
  return finished(net, "fc");
}

// ---- The menu

struct Row {
  const char* kind;
  int64_t least_side;  // of an image, so that no map is left without a pixel
  ImageSpec image;
  std::function<Network(const ClassifierOptions&, std::optional<uint64_t>)> build;
};

const std::vector<Row>& rows() {
  const ImageSpec imagenet{3, 224, 224, {0.485, 0.456, 0.406}, {0.229, 0.224, 0.225}};
  using O = ClassifierOptions;
  using Seed = std::optional<uint64_t>;
  static const std::vector<Row> all{
      {"alexnet", 63, imagenet, alexnet},
      {"caffenet", 67, {3, 227, 227, {104, 117, 123}, {}, 0, 255, true}, caffenet},
      {"vgg16", 32, imagenet, [](const O& o, Seed seed) { return vgg(o, seed, vgg_d); }},
      {"vgg19", 32, imagenet, [](const O& o, Seed seed) { return vgg(o, seed, vgg_e); }},
      {"googlenet", 32, {3, 224, 224, {}, {}, -1, 1}, googlenet},
      {"resnet18", 32, imagenet, [](const O& o, Seed seed) { return resnet(o, seed, resnet_18, false); }},
      {"resnet50", 32, imagenet, [](const O& o, Seed seed) { return resnet(o, seed, resnet_50, true); }},
      {"tnn", 16, {}, task_driven_network},
  };
  return all;
}

const Row& row_of(const std::string& kind) {
  for (const Row& row : rows())
    if (row.kind == kind) return row;
  fail(Failure::input, "network: found no kind '", kind, "'", did_you_mean(kind, literature_kinds()));
}

bool tracked(const std::string& name, const Network& network) {
  constexpr std::string_view end = ".num_batches_tracked";
  return name.ends_with(end) && network.weights.contains(name.substr(0, name.size() - end.size()) + ".running_mean");
}

}  // namespace

std::vector<std::string> literature_kinds() {
  std::vector<std::string> out;
  for (const Row& row : rows()) out.emplace_back(row.kind);
  return out;
}

Network literature_network(const ClassifierOptions& o, std::optional<uint64_t> seed) {
  const Row& row = row_of(o.kind);
  require(o.classes >= 1 && o.filters >= 1 && o.steps >= 1 && o.channels == 3 && o.height >= row.least_side && o.width >= row.least_side,
          Failure::input, o.kind, ": found ", o.classes, " classes, ", o.filters, " filters, ", o.steps, " steps and images [", o.channels,
          ",", o.height, ",", o.width, "]; expected at least one of each, three channels, and sides of ", row.least_side, " or more");
  return row.build(o, seed);
}

Network task_driven_network(const ClassifierOptions& o, std::optional<uint64_t> seed) {
  constexpr int64_t layers = 10, first_recurrent = 4;
  constexpr std::array<int64_t, layers + 1> widths{0, 1, 1, 2, 2, 4, 4, 4, 8, 8, 8}, feeds_back{0, 0, 0, 0, 0, 8, 9, 10};
  const auto channels = [&](int64_t layer) { return layer == 0 ? o.channels : widths[layer] * o.filters; };
  const auto pooled = [](int64_t layer) { return layer == 2 || layer == 4 || layer == 7; };
  const auto at_step = [](int64_t t) { return ".t" + to_string(t); };
  const auto conv = [](int64_t layer) { return "conv" + to_string(layer); };
  const auto given = [&](int64_t layer) { return (pooled(layer) ? "pool" : "conv") + to_string(layer); };

  NetworkBuilder net(seed);
  const auto he = [&](int64_t out, int64_t in, int64_t side, double gain) {
    return net.initial({out, in, side, side}, gain * std::sqrt(2.0 / static_cast<double>(in * side * side)));
  };
  for (int64_t t = 1; t <= o.steps; ++t) {
    for (int64_t layer = 1; layer <= layers; ++layer) {
      const std::string name = conv(layer), here = name + at_step(t), before = name + at_step(t - 1);
      const std::string below = layer == 1 ? "" : given(layer - 1) + at_step(t);
      const int64_t in = channels(layer - 1), out = channels(layer), back = feeds_back[layer];
      const int64_t side = layer == 1 ? 7 : 3, stride = layer == 1 ? 2 : 1;
      const bool recurrent = layer >= first_recurrent;

      // Weights belong to the first step, where every one is declared; the steps share them.
      Tensors weights;
      if (t == 1) {
        weights = {{name + ".weight", he(out, in, side, 1)}, {name + ".bias", net.initial({out}, 0)}};
        if (recurrent)
          for (const char* gate : {"ch", "hh", "hc", "cc"}) weights[name + ".gate_" + gate + ".weight"] = he(out, out, 3, 0.5);
        if (back) weights[name + ".feedback.weight"] = he(out, channels(back), 1, 0.5);
      }

      // What stands still is computed once.
      if (!recurrent && t > 1) {
        net.from({name + at_step(1)}).same(here);
        if (pooled(layer)) net.from({given(layer) + at_step(1)}).same(given(layer) + at_step(t));
        continue;
      }

      std::vector<std::string> drives{below};
      if (back && t > 1) drives.push_back(conv(back) + at_step(t - 1));
      const std::string drive = recurrent ? here + ".drive" : here;
      net.from(drives).join(drive, "convolution", weights,
                            [w = name + ".weight", b = name + ".bias", f = name + ".feedback.weight", side, stride](
                                const std::vector<Tensor>& inputs, const Tensors& all) {
                              Tensor x = at::conv2d(inputs[0], all.at(w), all.at(b), {stride, stride}, {side / 2, side / 2});
                              if (inputs.size() > 1)
                                x = x + at::upsample_bilinear2d(at::conv2d(inputs[1], all.at(f)), {x.size(2), x.size(3)}, false);
                              return at::elu(x);
                            });

      // elu((1 - σ(A * a))·x + (1 - σ(B * b))·b); before the first step a = b = 0, and both gates stand half open.
      const auto state = [&](const std::string& made, const std::string& gate, const std::string& keep, const std::string& a,
                             const std::string& b) {
        if (t == 1) {
          net.from({drive}).step(made, "recurrent", {}, [](const Tensor& x, const Tensors&) { return at::elu(x * 0.5); });
          return;
        }
        const std::string g = name + ".gate_" + gate + ".weight", k = name + ".gate_" + keep + ".weight";
        net.from({drive, a, b}).join(made, "recurrent", {}, [g, k](const std::vector<Tensor>& inputs, const Tensors& all) {
          const auto open = [&](const Tensor& from, const std::string& weight) {
            return at::sigmoid(-at::conv2d(from, all.at(weight), {}, {1, 1}, {1, 1}));
          };
          return at::elu(open(inputs[1], g) * inputs[0] + open(inputs[2], k) * inputs[2]);
        });
      };
      if (recurrent) {
        state(here, "ch", "hh", before + ".cell", before);
        state(here + ".cell", "hc", "cc", before, before + ".cell");
      }
      if (pooled(layer)) net.from({here}).max_pool(given(layer) + at_step(t));
    }
  }
  for (int64_t layer = 1; layer <= layers; ++layer) {
    net.from({conv(layer) + at_step(o.steps)}).same(conv(layer));
    if (pooled(layer)) net.from({given(layer) + at_step(o.steps)}).same(given(layer));
  }
  net.from({conv(layers)}).adaptive_average_pool("average", 1, 1).flatten("flatten");
  return net.dense("logits", channels(layers), o.classes).build();
}

ImageSpec customary_image(const std::string& kind) {
  const std::vector<std::string> all = classifier_kinds(), literature = literature_kinds();
  const auto in = [&](const std::vector<std::string>& kinds) { return std::find(kinds.begin(), kinds.end(), kind) != kinds.end(); };
  return in(all) && !in(literature) ? ImageSpec{} : row_of(kind).image;
}

ClassifierOptions customary_options(const std::string& kind) {
  const ImageSpec image = customary_image(kind);
  ClassifierOptions out;
  out.kind = kind;
  out.height = image.height, out.width = image.width;
  const std::vector<std::string> trained = trained_kinds();
  if (std::find(trained.begin(), trained.end(), kind) == trained.end()) out.classes = 1000;
  return out;
}

Network load_state_dict(const ClassifierOptions& options, const std::string& file) {
  Network network = build_classifier(options, std::nullopt);
  Tensors given = load_safetensors(file).tensors;
  std::erase_if(given, [&](const auto& weight) {
    const std::string& name = weight.first;
    return tracked(name, network) || (options.kind == "googlenet" && (name.starts_with("aux1.") || name.starts_with("aux2.")));
  });
  for (const auto& [name, tensor] : given)
    require(tensor.scalar_type() == at::kFloat || !tensor.is_floating_point(), Failure::input, file, ": weight '", name, "' is ",
            c10::toString(tensor.scalar_type()), ", expected Float; save model.float().state_dict() instead");
  network.load(given, file);
  return network;
}

}  // namespace evoke
