#include "classifiers/networks.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "classifiers/literature.h"
#include "core/error.h"
#include "core/storage/safetensors.h"

namespace evoke {

namespace {

void require_sides(const char* where, int64_t classes, int64_t filters, const ImageSpec& image) {
  require(classes >= 1 && filters >= 1 && image.channels >= 1 && image.height >= 8 && image.width >= 8, Failure::input, where, ": found ",
          classes, " classes, ", filters, " filters and images [", image.channels, ",", image.height, ",", image.width,
          "]; expected at least one class, filter and channel, and sides of 8 or more");
}

// One mean and one deviation a channel, or none.
void require_numbers(const std::string& where, const ImageSpec& image) {
  for (const auto& [name, values] : {std::pair{"means", &image.mean}, std::pair{"deviations", &image.deviation}})
    require(values->empty() || static_cast<int64_t>(values->size()) == image.channels, Failure::input, where, ": found ", values->size(),
            " ", name, ", expected ", image.channels, ", one a channel, or none");
}

}  // namespace

std::vector<std::string> classifier_kinds() {
  std::vector<std::string> out{"convolutional", "residual", "resnet9"};
  for (const std::string& kind : literature_kinds()) out.push_back(kind);
  return out;
}
std::vector<std::string> trained_kinds() { return {"convolutional", "residual", "resnet9", "tnn"}; }

namespace {

void describe_sizes(Fields& f, ClassifierOptions& o) {
  f("classes", o.classes, "classes", "how many logits it has; a training takes the dataset's, as it does channels, height and width",
    Range{1, 1e6});
  f("filters", o.filters, "channels", "channels of the first convolution, of the kinds that are trained here; the others follow from it",
    Range{1, 4096});
  f("channels", o.channels, "channels", "channels of an image", Range{1, 64});
  f("height", o.height, "pixels", "height of an image", Range{8, 4096});
  f("width", o.width, "pixels", "width of an image", Range{8, 4096});
  f("blocks", o.blocks, "blocks", "residual blocks of each size, of residual", Range{1, 64});
  f("steps", o.steps, "steps", "time steps of the tnn", Range{1, 64});
}

}  // namespace

void describe(Fields& f, ClassifierOptions& o) {
  f.choice("kind", o.kind, "the network's family; trained here are " + list_of(trained_kinds()) + ", the others come as state dicts",
           classifier_kinds());
  describe_sizes(f, o);
}

void describe(Fields& f, TrainedClassifierOptions& o) {
  f.choice("kind", o.kind, "the network's family", trained_kinds());
  describe_sizes(f, o);
}

Network convolutional_classifier(int64_t classes, std::optional<uint64_t> seed, int64_t filters, const ImageSpec& image) {
  require_sides("convolutional classifier", classes, filters, image);
  const int64_t places = (image.height / 8) * (image.width / 8);
  NetworkBuilder net(seed);
  net.convolution("conv1", image.channels, filters, 5).relu("relu1").max_pool("pool1");
  net.convolution("conv2", filters, 2 * filters, 5).relu("relu2").max_pool("pool2");
  net.convolution("conv3", 2 * filters, 8, 3).relu("relu3");
  net.convolution("conv4", 8, 4 * filters, 3).relu("relu4").max_pool("pool4");
  net.convolution("conv5", 4 * filters, 4 * filters, 3).relu("relu5");
  net.flatten("flatten").dense("dense1", 4 * filters * places, 8 * filters).relu("relu6");
  return net.dense("logits", 8 * filters, classes, 0.5).build();
}

Network residual_classifier(int64_t classes, std::optional<uint64_t> seed, int64_t filters, const ImageSpec& image, int64_t blocks) {
  require_sides("residual classifier", classes, filters, image);
  require(filters % 8 == 0, Failure::input, "residual classifier: found ", filters, " filters, expected a multiple of 8 (its groups)");
  NetworkBuilder net(seed);
  net.convolution("stem", image.channels, filters, 3);
  for (int64_t size = 1, in = filters; size <= 3; ++size, in *= 2) {
    net.residual(text("block", size), in, 2 * in, 2);
    for (int64_t more = 2; more <= blocks; ++more) net.residual(text("block", size, "_", more), 2 * in, 2 * in, 1);
  }
  net.group_norm("norm", 8 * filters, filters).relu("relu").flatten("flatten");
  const auto eighth = [](int64_t side) { return (((side + 1) / 2 + 1) / 2 + 1) / 2; };
  return net.dense("logits", 8 * filters * eighth(image.height) * eighth(image.width), classes).build();
}

Network resnet9(int64_t classes, std::optional<uint64_t> seed, int64_t filters, const ImageSpec& image) {
  require_sides("resnet9", classes, filters, image);
  require(filters % 8 == 0, Failure::input, "resnet9: found ", filters, " filters, expected a multiple of 8 (its groups)");
  NetworkBuilder net(seed);
  net.standardized_convolution("stem", image.channels, filters).group_norm("stem_norm", filters, filters / 8).relu("stem_relu");
  for (int64_t size = 1, in = filters; size <= 3; ++size, in *= 2) {
    const int64_t out = 2 * in;
    const std::string n = std::to_string(size), block = "block" + n;
    net.standardized_convolution("conv" + n, in, out).max_pool("pool" + n).group_norm("norm" + n, out, out / 8).relu("relu" + n);
    if (size == 2) continue;
    for (const std::string part : {"_1", "_2"})
      net.standardized_convolution(block + "_conv" + part, out, out)
          .group_norm(block + "_norm" + part, out, out / 8)
          .relu(block + "_relu" + part);
    net.add(block, {"relu" + n, block + "_relu_2"});
  }
  return net.adaptive_average_pool("pool", 1, 1).flatten("flatten").dense("logits", 8 * filters, classes).build();
}

Network build_classifier(const ClassifierOptions& o, std::optional<uint64_t> seed) {
  const ImageSpec image{o.channels, o.height, o.width, {}, {}};
  if (o.kind == "convolutional") return convolutional_classifier(o.classes, seed, o.filters, image);
  if (o.kind == "residual") return residual_classifier(o.classes, seed, o.filters, image, o.blocks);
  if (o.kind == "resnet9") return resnet9(o.classes, seed, o.filters, image);
  const std::vector<std::string> kinds = classifier_kinds();
  require(std::find(kinds.begin(), kinds.end(), o.kind) != kinds.end(), Failure::input, "classifier: found no kind '", o.kind, "'",
          did_you_mean(o.kind, kinds));
  return literature_network(o, seed);
}

void save_classifier(const std::string& file, const ClassifierOptions& o, const Network& network, const std::vector<std::string>& labels,
                     const ImageSpec& image, bool half) {
  require(labels.empty() || static_cast<int64_t>(labels.size()) == o.classes, Failure::input, "saving ", file, ": found ", labels.size(),
          " labels, expected ", o.classes, ", one a class, or none");
  require(image.channels == o.channels && image.height == o.height && image.width == o.width, Failure::input, "saving ", file,
          ": found images [", image.channels, ",", image.height, ",", image.width, "], expected [", o.channels, ",", o.height, ",", o.width,
          "]");
  require_numbers("saving " + file, image);
  const std::string toml = text("kind = \"", o.kind, "\"\nclasses = ", o.classes, "\nfilters = ", o.filters, "\nchannels = ", o.channels,
                                "\nheight = ", o.height, "\nwidth = ", o.width, "\nblocks = ", o.blocks, "\nsteps = ", o.steps, "\n");
  const nlohmann::json normalization{
      {"mean", image.mean}, {"deviation", image.deviation}, {"range", {image.low, image.high}}, {"bgr", image.bgr}};
  Tensors weights = network.weights;
  if (half)
    for (auto& [name, tensor] : weights) tensor = tensor.to(at::kHalf);
  save_weights(file, o.kind, toml, weights,
               {{"evoke.labels", nlohmann::json(labels).dump()}, {"evoke.normalization", normalization.dump()}});
}

SavedClassifier load_classifier_file(const std::string& file) {
  SafeTensors saved = load_weights(file, classifier_kinds());
  for (auto& [name, tensor] : saved.tensors)
    if (tensor.scalar_type() == at::kHalf) tensor = tensor.to(at::kFloat);
  const auto fact = [&](const char* key) {
    const auto found = saved.metadata.find(key);
    require(found != saved.metadata.end(), Failure::input, file, ": found no '", key, "' in its metadata; expected a classifier's weights");
    return found->second;
  };
  SavedClassifier out;
  out.options = Recipe::parse(fact("evoke.options"), ".", {}, file).read<ClassifierOptions>("");
  const ClassifierOptions& o = out.options;
  out.image = {o.channels, o.height, o.width, {}, {}};
  try {
    out.labels = nlohmann::json::parse(fact("evoke.labels")).get<std::vector<std::string>>();
    const nlohmann::json normalization = nlohmann::json::parse(fact("evoke.normalization"));
    out.image.mean = normalization.at("mean").get<std::vector<double>>();
    out.image.deviation = normalization.at("deviation").get<std::vector<double>>();
    const auto range = normalization.value("range", std::vector<double>{0, 1});
    out.image.low = range.at(0), out.image.high = range.at(1);
    out.image.bgr = normalization.value("bgr", false);
  } catch (const std::exception& e) {
    fail(Failure::input, file, ": its labels or normalization are no JSON of the right form (", e.what(), "); save the classifier again");
  }
  require_numbers(file, out.image);
  require(out.labels.empty() || static_cast<int64_t>(out.labels.size()) == o.classes, Failure::input, file, ": found ", out.labels.size(),
          " labels, expected ", o.classes, " or none");
  out.network = build_classifier(o, std::nullopt);
  out.network.load(saved.tensors, file);
  return out;
}

Network load_classifier_network(const std::string& file) { return load_classifier_file(file).network; }

Classifier load_classifier(const std::string& file, at::Device device) {
  SavedClassifier saved = load_classifier_file(file);
  return as_classifier(std::filesystem::path(file).stem().string(), saved.network, saved.image, std::move(saved.labels), device);
}

}  // namespace evoke
