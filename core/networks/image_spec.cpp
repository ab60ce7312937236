#include "core/networks/image_spec.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <map>

#include "core/error.h"
#include "core/storage/files.h"

namespace evoke {

namespace {

struct Preset {
  std::vector<double> mean, deviation;
  double low = 0, high = 1;
  bool bgr = false;
};
const std::map<std::string, Preset> presets{{"unit", {}},
                                            {"imagenet", {{0.485, 0.456, 0.406}, {0.229, 0.224, 0.225}}},
                                            {"caffe", {{104, 117, 123}, {}, 0, 255, true}},
                                            {"inception", {{}, {}, -1, 1}}};

Tensor per_channel(const std::vector<double>& values, at::Device device) {
  return at::tensor(values, at::kFloat).to(device).view({1, static_cast<int64_t>(values.size()), 1, 1});
}

}  // namespace

void describe(Fields& f, ImageOptions& o) {
  f.choice("preset", o.preset, "a customary range and normalization", {"none", "unit", "imagenet", "caffe", "inception"});
  f("channels", o.channels, "channels", "colours of an image; 0: as the network says", Range{0, 4096});
  f("height", o.height, "pixels", "height of an image; 0: as the network says", Range{0, 65536});
  f("width", o.width, "pixels", "width of an image; 0: as the network says", Range{0, 65536});
  f("range", o.range, "", "[black, white] as the network has them; empty: the preset's");
  f("mean", o.mean, "", "taken off each channel, in the network's range and order; empty: the preset's");
  f("deviation", o.deviation, "", "each channel is divided by it; empty: the preset's");
  f.choice("order", o.order, "of the channels", {"as preset", "rgb", "bgr"});
  f("labels", o.labels, "names of the last layer's units");
  f.path("labels_file", o.labels_file, "the same, one a line of a file");
}

ImageSpec image_spec(const ImageOptions& o, const ImageSpec& otherwise, const std::string& where) {
  ImageSpec out = otherwise;
  if (o.preset != "none") {
    const Preset& preset = presets.at(o.preset);
    out.mean = preset.mean, out.deviation = preset.deviation, out.low = preset.low, out.high = preset.high, out.bgr = preset.bgr;
  }
  if (o.channels) out.channels = o.channels;
  if (o.height) out.height = o.height;
  if (o.width) out.width = o.width;
  if (!o.mean.empty()) out.mean = o.mean;
  if (!o.deviation.empty()) out.deviation = o.deviation;
  if (o.order != "as preset") out.bgr = o.order == "bgr";
  if (!o.range.empty()) {
    require(o.range.size() == 2 && o.range[0] < o.range[1], Failure::input, where, ": range: found ", o.range.size(),
            " numbers, expected [black, white] with black < white");
    out.low = o.range[0], out.high = o.range[1];
  }
  for (const auto& [name, values] : {std::pair{"mean", &out.mean}, std::pair{"deviation", &out.deviation}})
    require(values->empty() || static_cast<int64_t>(values->size()) == out.channels, Failure::input, where, ": ", name, ": found ",
            values->size(), " numbers for ", out.channels, " channels, expected one a channel; set ", name, ", or another preset");
  require(std::all_of(out.deviation.begin(), out.deviation.end(), [](double d) { return d > 0; }), Failure::input, where,
          ": deviation: expected numbers above 0");
  return out;
}

std::vector<std::string> labels_of(const ImageOptions& o) {
  if (o.labels_file.empty()) return o.labels;
  std::vector<std::string> out;
  std::istringstream lines(read_file(o.labels_file));
  for (std::string line; std::getline(lines, line);) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    out.push_back(line);
  }
  return out;
}

std::function<Tensor(const Tensor&)> preprocessing(const ImageSpec& image, at::Device device) {
  // Where the range is [0,1] this is (x - mean)/deviation as PyTorch's users write it, to the last bit.
  Tensor mean, deviation;
  if (!image.mean.empty()) mean = per_channel(image.mean, device);
  if (!image.deviation.empty()) deviation = per_channel(image.deviation, device);
  const double low = image.low, span = image.high - image.low;
  return [mean, deviation, low, span, bgr = image.bgr](const Tensor& x) {
    Tensor seen = bgr ? x.flip(1) : x;
    if (span != 1) seen = seen * span;
    if (low != 0) seen = seen + low;
    if (mean.defined()) seen = seen - mean;
    if (deviation.defined()) seen = seen / deviation;
    return seen;
  };
}

std::function<Tensor(const Tensor&)> postprocessing(const ImageSpec& image, at::Device device) {
  Tensor mean, deviation;
  if (!image.mean.empty()) mean = per_channel(image.mean, device);
  if (!image.deviation.empty()) deviation = per_channel(image.deviation, device);
  const double low = image.low, span = image.high - image.low;
  return [mean, deviation, low, span, bgr = image.bgr](const Tensor& x) {
    Tensor drawn = x;
    if (deviation.defined()) drawn = drawn * deviation;
    if (mean.defined()) drawn = drawn + mean;
    if (low != 0) drawn = drawn - low;
    if (span != 1) drawn = drawn / span;
    return bgr ? drawn.flip(1) : drawn;
  };
}

}  // namespace evoke
