// evoke inspect: what is in a file of weights or in a dataset.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <optional>

#include "classifiers/literature.h"
#include "classifiers/menu.h"
#include "classifiers/networks.h"
#include "classifiers/objectives.h"
#include "core/error.h"
#include "core/programs/program.h"
#include "core/storage/hdf5.h"
#include "core/storage/safetensors.h"
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

nlohmann::json image_json(const ImageSpec& image) {
  return {{"channels", image.channels},
          {"height", image.height},
          {"width", image.width},
          {"mean", image.mean},
          {"deviation", image.deviation},
          {"range", {image.low, image.high}},
          {"order", image.channels == 3 ? (image.bgr ? "BGR" : "RGB") : ""}};
}

// A program's image as its TOML and the flags say, its layers, and what of them has no row an image.
nlohmann::json program_of(const std::string& file, const ImageOptions& given) {
  const Program program = load_program(file, at::kCPU);
  nlohmann::json out{{"kind", "network"}, {"architecture", program.format}};
  nlohmann::json network{{"role", "network"}, {"parameters", program.parameters}};
  const bool of_images = program.inputs.size() == 1 && (program.inputs[0].shape.empty() || program.inputs[0].shape.size() == 4);
  std::vector<Layer> layers = program.layers;
  if (of_images) {
    const ImageSpec image = image_of(program, given);
    const Classifier classifier = as_classifier(program, image, labels_of(given), at::kCPU);
    layers = classifier.layers;
    network["input"] = {image.channels, image.height, image.width};
    out["image"] = image_json(image);
    out["labels"] = classifier.labels;
  } else {
    for (const Port& port : program.inputs) network["input"].push_back({{port.name, port.shape}});
  }
  network["layers"] = layers_of(layers);
  network["untappable"] = layers_of(program.unrowed);
  out["networks"].push_back(network);
  return out;
}

// What the exporter computed in Python, beside what is computed here: NET.check.safetensors holds "input" and "output", perhaps "gradient",
// and says with how many threads: a sum that more of them share is added in another order, and its last bits differ.
struct Compared {
  bool equal = true;  // to the last bit
  double output = 0;  // the largest differences
  std::optional<double> gradient;
};

Compared compared(const std::string& file, const Program& program, const Tensors& pair) {
  const std::string last = program.layers.back().name;
  Tensor x = pair.at("input").clone().requires_grad_();
  const Tensor found = program.run({x}, {last}).at(last), &wanted = pair.at("output");
  require_shape(found, wanted.sizes(), file + ": the output");
  Compared out{at::equal(found, wanted), (found.detach() - wanted).abs().max().item<double>(), std::nullopt};
  if (pair.contains("gradient")) {
    const Tensor gradient = torch::autograd::grad({found.sum()}, {x})[0];
    out.equal = out.equal && at::equal(gradient, pair.at("gradient"));
    out.gradient = (gradient - pair.at("gradient")).abs().max().item<double>();
  }
  return out;
}

// `threads` below 0: as many as the pair was made with.
nlohmann::json check_of(const std::string& file, int64_t threads) {
  const std::string beside = std::filesystem::path(file).replace_extension(".check.safetensors").string();
  const SafeTensors saved = load_safetensors(beside);
  require(saved.tensors.contains("input") && saved.tensors.contains("output"), Failure::input, beside,
          ": expected the tensors input and output");
  int64_t made = 0;
  if (const auto found = saved.metadata.find("threads"); found != saved.metadata.end()) {
    const auto [end, problem] = std::from_chars(found->second.data(), found->second.data() + found->second.size(), made);
    require(problem == std::errc() && *end == '\0' && made > 0 && made <= 1024, Failure::input, beside, ": threads: found '",
            one_line(found->second), "', expected 1 to 1024");
  }
  const Program program = load_program(file, at::kCPU);
  set_threads(threads >= 0 ? threads : made);
  nlohmann::json out{{"threads", at::get_num_threads()}};
  const Compared found = compared(file, program, saved.tensors);
  out["equal"] = found.equal;
  out["output_difference"] = found.output;
  if (found.gradient) out["gradient_difference"] = *found.gradient;
  if (made > 0) out["made_with_threads"] = made;
  if (found.equal) return out;
  // Threads, or something else: only the number that the pair was made with can tell.
  out["cause"] = made == 0 ? "unknown" : "network";
  if (made > 0 && made != at::get_num_threads()) {
    set_threads(made);
    if (compared(file, program, saved.tensors).equal) out["cause"] = "threads";
  }
  return out;
}

std::string check_line(const std::string& file, const nlohmann::json& found) {
  const auto part = [&](const char* name, const char* key) {
    if (!found.contains(key)) return std::string();
    const double difference = found[key].get<double>();
    return text(name, difference == 0 ? " equal to the last bit" : text(" differs by up to ", difference));
  };
  const auto count = [](int64_t threads) { return text(threads, threads == 1 ? " thread" : " threads"); };
  const std::string gradient = part("gradient", "gradient_difference"), cause = found.value("cause", "");
  const int64_t made = found.value("made_with_threads", int64_t{0});
  return text(file, ": ", part("output", "output_difference"), gradient.empty() ? "" : ", ", gradient, ", with ", count(found["threads"]),
              cause == "threads"
                  ? text("; it is the number of threads: with the ", made, " that the pair was made with, all is equal to the last bit")
              : cause == "unknown" ? "; the pair does not say with how many it was made (--threads tries another number)"
              : cause == "network" ? text("; the pair was made with ", count(made), ", so it is another network, LibTorch or processor")
                                   : "");
}

// The span of a vector of numbers, in words that fit on a line.
nlohmann::json span_of(const Tensor& values) { return {values.min().item<double>(), values.max().item<double>()}; }

nlohmann::json spans_of(const CodeStatistics& codes) {
  return {
      {"mean", span_of(codes.mean)}, {"deviation", span_of(codes.deviation())}, {"low", span_of(codes.low)}, {"high", span_of(codes.high)}};
}

nlohmann::json decoder_of(const std::string& file) {
  const Decoder saved = load_decoder(file);
  const DecoderOptions& o = saved.options;
  nlohmann::json out{{"kind", saved.kind}, {"code", code_shape(o)}};
  out["image"] = {{"channels", o.channels}, {"height", o.height}, {"width", o.width}};
  out["networks"].push_back(network_of("decoder", saved.decoder, code_shape(o)));
  if (!saved.encoder.steps.empty()) out["networks"].push_back(network_of("encoder", saved.encoder, {o.channels, o.height, o.width}));
  out["codes"] = spans_of(saved.codes);
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
  std::vector<int64_t> input = row_shape(o);
  input[0] += o.sigma > 0 ? 0 : 1;
  out["networks"].push_back(network_of("denoiser", saved.network, input));
  out["codes"] = {{"mean", span_of(saved.mean)}, {"deviation", span_of(saved.deviation)}};
  return out;
}

// Every array of a file, groups entered.
void list_arrays(const Hdf5& file, const std::string& group, nlohmann::json& out) {
  for (const std::string& name : file.names(group)) {
    const std::string full = group == "/" ? "/" + name : group + "/" + name;
    if (file.is_axis(full)) continue;
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

// A state dict in a network of the literature.
nlohmann::json literature_of(const std::string& file, const std::string& architecture, int64_t classes, const ImageOptions& given) {
  const Classifier classifier = literature_classifier(architecture, classes, file, given, at::kCPU);
  int64_t parameters = 0;
  for (const Layer& layer : classifier.layers) parameters += layer.parameters;
  const ImageSpec& image = classifier.image;
  nlohmann::json network{{"role", "network"}, {"parameters", parameters}, {"layers", layers_of(classifier.layers)}};
  network["input"] = {image.channels, image.height, image.width};
  return {{"kind", "network"},
          {"architecture", architecture},
          {"image", image_json(image)},
          {"labels", classifier.labels},
          {"networks", {network}}};
}

nlohmann::json description(const std::string& file, const ImageOptions& image) {
  std::ifstream in(file, std::ios::binary);
  std::string head(8, ' ');
  require(
      bool(in) && bool(in.read(head.data(), 8)), Failure::input, "inspect: ", file,
      " is missing, unreadable or shorter than 8 bytes; expected a network (.pt2, TorchScript), weights (safetensors) or a dataset (HDF5)");
  if (head == "\x89HDF\r\n\x1a\n") return arrays_of(file);
  if (is_program(file)) return program_of(file, image);
  const SafeTensors content = load_safetensors(file);
  const auto kind = content.metadata.find("evoke.kind");
  require(kind != content.metadata.end(), Failure::input, "inspect: ", file,
          " is a safetensors file without evoke.kind in its metadata; expected weights that evoke train wrote");
  if (std::find(decoder_kinds.begin(), decoder_kinds.end(), kind->second) != decoder_kinds.end()) return decoder_of(file);
  if (kind->second == "denoiser") return denoiser_of(file);
  if (kind->second == "codes") {
    const CodeStatistics codes = load_codes(file);
    return {{"kind", "codes"}, {"codes", spans_of(codes)}};
  }
  return classifier_of(file);
}

std::string padded(const std::string& word, size_t width) { return word + std::string(word.size() < width ? width - word.size() : 1, ' '); }

// What a tap of this shape offers to a recipe.
std::string offered(const Layer& layer) {
  if (layer.shape.empty() || layer.shape.size() > 3) return "";
  const auto [height, width] = places_of(layer);
  const std::string all = text(layer.name, ":0-", units_of(layer) - 1);
  switch (layout_of(layer)) {
    case Layout::dense:
      return all;
    case Layout::tokens:
      return text(all, " @t, ", height, " tokens");
    default:
      return text(all, " @y,x, ", height, " × ", width);
  }
}

void network_lines(std::string& out, const nlohmann::json& network, bool taps) {
  out += text("\n", network["role"].get<std::string>(), ": ", network["parameters"], " parameters, input ", network["input"].dump(), "\n");
  size_t width = 8, type_width = 8, shape_width = 14;
  const auto widen = [&](const nlohmann::json& layers) {
    for (const nlohmann::json& layer : layers) {
      width = std::max(width, layer["name"].get<std::string>().size() + 2);
      type_width = std::max(type_width, layer["type"].get<std::string>().size() + 2);
      shape_width = std::max(shape_width, layer["shape"].dump().size() + 2);
    }
  };
  widen(network["layers"]);
  const nlohmann::json untappable = network.value("untappable", nlohmann::json::array());
  widen(untappable);
  out += "  " + padded("layer", width) + padded("type", type_width) + padded("shape", shape_width) + padded("parameters", 12) +
         (taps ? "units" : "") + "\n";
  const auto line = [&](const nlohmann::json& layer, const std::string& end) {
    out += "  " + padded(layer["name"], width) + padded(layer["type"], type_width) + padded(layer["shape"].dump(), shape_width) +
           (end.empty() ? layer["parameters"].dump() : padded(layer["parameters"].dump(), 12) + end) + "\n";
  };
  for (const nlohmann::json& layer : network["layers"]) line(layer, taps ? offered({layer["name"], layer["type"], layer["shape"], 0}) : "");
  if (untappable.empty()) return;
  out += "\nnot to be tapped, for their output has no row an image (whole shapes)\n";
  for (const nlohmann::json& layer : untappable) line(layer, "");
}

std::string as_lines(const std::string& file, const nlohmann::json& found) {
  std::string out = file + ": " + found["kind"].get<std::string>();
  if (found.contains("architecture")) out += ", " + found["architecture"].get<std::string>();
  if (found.contains("image"))
    out += text(", images ", found["image"]["channels"], " × ", found["image"]["height"], " × ", found["image"]["width"],
                " (channels, height, width)");
  if (found.contains("image") && found["image"].contains("range")) {
    const nlohmann::json& image = found["image"];
    out += text(", range ", image["range"].dump(), image["order"] == "" ? "" : ", ", image["order"].get<std::string>());
    if (!image["mean"].empty()) out += ", mean " + image["mean"].dump();
    if (!image["deviation"].empty()) out += ", deviation " + image["deviation"].dump();
  }
  if (found.contains("code")) out += text(", code ", found["code"].dump());
  if (found.contains("sigma")) out += text(", σ ", found["sigma"].dump(), " deviations of the data");
  out += "\n";
  if (found.contains("networks"))
    for (const nlohmann::json& network : found["networks"])
      network_lines(out, network, found["kind"] == "classifier" || found["kind"] == "network");
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
    std::string file, layer, architecture;
    int64_t classes = 0;
    bool check = false;
  };
  auto options = std::make_shared<Options>();
  command
      .add_option("MODEL", options->file,
                  "a network (.pt2, TorchScript), weights (safetensors: classifier, decoder or denoiser) or a dataset (HDF5)")
      ->required();
  command.add_option("--architecture", options->architecture, "of a state dict from Python: " + list_of(literature_kinds()))
      ->check(CLI::IsMember(literature_kinds()));
  command.add_option("--classes", options->classes, "of a state dict; 0: as customary")->check(CLI::Range(0, 1000000));
  command.add_option("--layer", options->layer, "only this layer; of an unknown one the nearest names");
  command.add_flag("--check", options->check, "compute what NET.check.safetensors says Python computed, and compare to the last bit");
  command.add_option("--threads", options->threads, "of LibTorch for --check; default: as many as Python's, which the pair says")
      ->check(CLI::Range(0, 1024));
  command.add_option("--set", options->set, "image.key=value: how the network wants its images, in the place of NET.toml; repeatable")
      ->type_size(1)
      ->allow_extra_args(false);
  add_common(command, *options, Takes::nothing);
  return [options] {
    begin_verb(*options);
    ImageOptions image;
    std::error_code ignored;
    if (std::filesystem::is_regular_file(options->file, ignored) && is_program(options->file)) image = image_beside(options->file);
    Recipe flags = Recipe::parse("", "", set_overrides(*options));
    image = flags.read<ImageOptions>("image", image);
    flags.refuse_unread();
    if (options->check) {
      const nlohmann::json found = check_of(options->file, options->threads);
      answer(*options, check_line(options->file, found), found);
      return found["equal"].get<bool>() || found["cause"] == "threads" ? 0 : 1;
    }
    const nlohmann::json found = options->architecture.empty()
                                     ? description(options->file, image)
                                     : literature_of(options->file, options->architecture, options->classes, image);
    if (!options->layer.empty()) {
      std::vector<std::string> names;
      nlohmann::json one = nlohmann::json::array();
      for (const nlohmann::json& network : found.value("networks", nlohmann::json::array()))
        for (const nlohmann::json& layer : network["layers"]) {
          names.push_back(layer["name"]);
          if (names.back() == options->layer) one.push_back(layer);
        }
      require(!one.empty(), Failure::usage, options->file, ": found no layer '", options->layer, "'", did_you_mean(options->layer, names));
      const Layer layer{one[0]["name"], one[0]["type"], one[0]["shape"], one[0]["parameters"]};
      answer(*options,
             text(layer.name, ": ", layer.type, ", shape ", shape_text(layer.shape), ", ", layer.parameters, " parameters, units ",
                  offered(layer)),
             one[0]);
      return 0;
    }
    answer(*options, as_lines(options->file, found), found);
    return 0;
  };
}

}  // namespace evoke
