// evoke inspect: what is in a file of weights or in a dataset.
#include <ATen/ATen.h>

#include <algorithm>
#include <fstream>

#include "classifiers/networks.h"
#include "core/error.h"
#include "core/hdf5.h"
#include "core/safetensors.h"
#include "experiments/options.h"
#include "experiments/verbs.h"
#include "generators/decoder.h"
#include "generators/denoiser.h"

namespace evoke {

namespace {

nlohmann::json layers_of(const std::vector<Layer>& layers) {
  nlohmann::json out = nlohmann::json::array();
  for (const Layer& layer : layers)
    out.push_back({{"name", layer.name}, {"type", layer.type}, {"shape", layer.shape}, {"parameters", layer.parameters}});
  return out;
}

nlohmann::json network_of(const std::string& role, const Network& network, at::IntArrayRef input) {
  return {{"role", role}, {"input", input.vec()}, {"parameters", network.parameters()}, {"layers", layers_of(network.layers(input))}};
}

nlohmann::json classifier_of(const std::string& file) {
  const SavedClassifier saved = load_classifier_file(file);
  const ImageSpec& image = saved.image;
  nlohmann::json out{{"kind", "classifier"}, {"architecture", saved.options.kind}, {"labels", saved.labels}};
  out["image"] = {
      {"channels", image.channels}, {"height", image.height}, {"width", image.width}, {"mean", image.mean}, {"deviation", image.deviation}};
  out["networks"].push_back(network_of("classifier", saved.network, {image.channels, image.height, image.width}));
  return out;
}

// The span of a vector of numbers, in words that fit on a line.
nlohmann::json span_of(const Tensor& values) { return {values.min().item<double>(), values.max().item<double>()}; }

nlohmann::json decoder_of(const std::string& file) {
  const Decoder saved = load_decoder(file);
  const DecoderOptions& o = saved.options;
  nlohmann::json out{{"kind", saved.kind}, {"code", o.code}};
  out["image"] = {{"channels", o.channels}, {"height", o.image_height}, {"width", o.image_width}};
  out["networks"].push_back(network_of("decoder", saved.decoder, {o.code}));
  if (!saved.encoder.steps.empty())
    out["networks"].push_back(network_of("encoder", saved.encoder, {o.channels, o.image_height, o.image_width}));
  const CodeStatistics& codes = saved.codes;
  out["codes"] = {{"mean", span_of(codes.mean)},
                  {"deviation", span_of(codes.covariance.diagonal().sqrt())},
                  {"low", span_of(codes.low)},
                  {"high", span_of(codes.high)}};
  return out;
}

nlohmann::json denoiser_of(const std::string& file) {
  const Denoiser saved = load_denoiser(file);
  const DenoiserOptions& o = saved.options;
  nlohmann::json out{{"kind", "denoiser"}, {"space", o.space}};
  if (o.sigma > 0)
    out["sigma"] = {o.sigma, o.sigma};
  else
    out["sigma"] = {o.sigma_low, o.sigma_high};
  // Where there are many σ the network takes one more column, or channel, than what it denoises has.
  const int64_t more = o.sigma > 0 ? 0 : 1;
  const std::vector<int64_t> input =
      o.space == "code" ? std::vector<int64_t>{o.code + more} : std::vector<int64_t>{o.channels + more, o.image_height, o.image_width};
  out["networks"].push_back(network_of("denoiser", saved.network, input));
  out["codes"] = {{"mean", span_of(saved.mean)}, {"deviation", span_of(saved.deviation)}};
  return out;
}

// Every array of a file, groups entered.
void list_arrays(const Hdf5& file, const std::string& group, nlohmann::json& out) {
  for (const std::string& name : file.names(group)) {
    if (group == "/" && name == "axes") continue;  // scales that only name dimensions
    const std::string full = group == "/" ? "/" + name : group + "/" + name;
    try {
      out.push_back({{"name", full}, {"shape", file.shape(full)}});
    } catch (const Error&) {
      list_arrays(file, full, out);  // a group has no shape
    }
  }
}

nlohmann::json arrays_of(const std::string& name) {
  const Hdf5 file = Hdf5::open(name);
  nlohmann::json out{
      {"kind", "hdf5"}, {"format", file.attribute("format")}, {"version", file.attribute("version")}, {"arrays", nlohmann::json::array()}};
  list_arrays(file, "/", out["arrays"]);
  if (file.has("/label_names")) out["labels"] = file.read_text("/label_names");
  if (file.has("/split") && file.shape("/split").size() == 1) {
    const Tensor split = file.read("/split");
    const std::vector<std::string> names{"train", "validation", "test"};
    for (int64_t part = 0; part < 3; ++part) out["split"][names[part]] = (split == part).sum().item<int64_t>();
  }
  return out;
}

nlohmann::json description(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  std::string head(8, ' ');
  require(bool(in) && bool(in.read(head.data(), 8)), Failure::input, "inspect: ", file,
          " is missing, unreadable or shorter than 8 bytes; expected weights (safetensors) or a dataset (HDF5)");
  if (head == "\x89HDF\r\n\x1a\n") return arrays_of(file);
  const SafeTensors content = load_safetensors(file);
  const auto kind = content.metadata.find("evoke.kind");
  require(kind != content.metadata.end(), Failure::input, "inspect: ", file,
          " is a safetensors file without evoke.kind in its metadata; expected weights that evoke train wrote");
  if (kind->second == "autoencoder" || kind->second == "vae" || kind->second == "gan") return decoder_of(file);
  if (kind->second == "denoiser") return denoiser_of(file);
  return classifier_of(file);
}

std::string padded(const std::string& word, size_t width) { return word + std::string(word.size() < width ? width - word.size() : 1, ' '); }

// What a tap of this shape offers to a recipe.
std::string units_of(const std::string& name, const std::vector<int64_t>& shape) {
  if (shape.empty()) return "";
  const std::string all = text(name, ":0-", shape[0] - 1);
  return shape.size() == 3 ? text(all, ", ", name, ":0@y,x with y < ", shape[1], ", x < ", shape[2]) : all;
}

void network_lines(std::string& out, const nlohmann::json& network, bool taps) {
  out += text("\n", network["role"].get<std::string>(), ": ", network["parameters"], " parameters, input ", network["input"].dump(), "\n");
  size_t width = 8, type_width = 8;
  for (const nlohmann::json& layer : network["layers"]) {
    width = std::max(width, layer["name"].get<std::string>().size() + 2);
    type_width = std::max(type_width, layer["type"].get<std::string>().size() + 2);
  }
  out += "  " + padded("layer", width) + padded("type", type_width) + padded("shape", 14) + padded("parameters", 12) +
         (taps ? "units" : "") + "\n";
  for (const nlohmann::json& layer : network["layers"]) {
    const std::string name = layer["name"];
    out += "  " + padded(name, width) + padded(layer["type"], type_width) + padded(layer["shape"].dump(), 14) +
           (taps ? padded(layer["parameters"].dump(), 12) + units_of(name, layer["shape"]) : layer["parameters"].dump()) + "\n";
  }
}

std::string as_lines(const std::string& file, const nlohmann::json& found) {
  std::string out = file + ": " + found["kind"].get<std::string>();
  if (found.contains("architecture")) out += ", " + found["architecture"].get<std::string>();
  if (found.contains("image"))
    out += text(", images ", found["image"]["channels"], " × ", found["image"]["height"], " × ", found["image"]["width"],
                " (channels, height, width)");
  if (found.contains("code")) out += text(", code of ", found["code"], " numbers");
  if (found.contains("sigma")) out += text(", σ ", found["sigma"].dump(), " deviations of the data");
  out += "\n";
  if (found.contains("networks"))
    for (const nlohmann::json& network : found["networks"]) network_lines(out, network, found["kind"] == "classifier");
  if (found.contains("codes")) {
    out += "\ncodes, smallest and largest over the dimensions\n";
    for (const auto& [name, span] : found["codes"].items())
      out += text("  ", padded(name, 12), span[0].get<double>(), "  ", span[1].get<double>(), "\n");
  }
  if (found.contains("arrays")) {
    out += text("format ", found["format"].get<std::string>(), " ", found["version"].get<std::string>(), "\n");
    for (const nlohmann::json& array : found["arrays"]) out += "  " + padded(array["name"], 24) + array["shape"].dump() + "\n";
  }
  if (found.contains("split"))
    out += text("split: train ", found["split"]["train"], ", validation ", found["split"]["validation"], ", test ", found["split"]["test"],
                "\n");
  if (found.contains("labels") && !found["labels"].empty()) {
    out += "labels\n";
    for (size_t i = 0; i < found["labels"].size(); ++i) out += text("  ", i, " ", found["labels"][i].get<std::string>(), "\n");
  }
  out.pop_back();
  return out;
}

}  // namespace

Action inspect_verb(CLI::App& command) {
  struct Options : CommonOptions {
    std::string file;
  };
  auto options = std::make_shared<Options>();
  command.add_option("MODEL", options->file, "weights (safetensors: classifier, decoder or denoiser) or a dataset (HDF5)")->required();
  add_common(command, *options, Takes::nothing);
  return [options] {
    begin_verb(*options);
    const nlohmann::json found = description(options->file);
    answer(*options, as_lines(options->file, found), found);
    return 0;
  };
}

}  // namespace evoke
