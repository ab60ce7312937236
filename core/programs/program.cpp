#include "core/programs/program.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <caffe2/serialize/inline_container.h>

#include <algorithm>
#include <fstream>

#include "core/error.h"
#include "core/log.h"

namespace evoke {

namespace {

enum class Content { pt2, torchscript };

// What kind of file it is, by what lies in it.
Content content_of(const std::string& file) {
  std::ifstream stream(file, std::ios::binary);
  require(bool(stream), Failure::input, file, ": cannot be read; expected a network (.pt2 or TorchScript)");
  std::string head(8, ' ');
  stream.read(head.data(), 8);
  const char* remedy =
      "; save it in Python with torch.export.save(torch.export.export(model, (x,)), \"net.pt2\"), or with scripts/export_network.py";
  require(head[0] != '\x80' || head[1] > 5 || head.substr(4) == std::string(4, '\0'), Failure::input, file,
          ": is a pickled checkpoint, which evoke does not execute", remedy);
  require(head.substr(0, 2) == "PK", Failure::input, file, ": is no network that evoke reads", remedy);
  std::vector<std::string> records;
  try {
    records = caffe2::serialize::PyTorchStreamReader(file).getAllRecords();
  } catch (const std::exception& error) {
    detail(one_line(error.what()));
    fail(Failure::input, file, ": the archive is torn, or is no zip archive that LibTorch reads; save it again");
  }
  const auto any = [&](const char* begin, const char* end) {
    return std::any_of(records.begin(), records.end(),
                       [&](const std::string& record) { return record.starts_with(begin) && record.ends_with(end); });
  };
  if (any("models/", ".json")) return Content::pt2;
  require(!any("data/aotinductor/", ""), Failure::input, file, ": is a program compiled by AOTInductor, which gives no gradients", remedy);
  if (any("code/", ".py") || any("constants.pkl", "")) return Content::torchscript;
  require(!any("data.pkl", ""), Failure::input, file, ": is a pickled checkpoint, which evoke does not execute", remedy);
  fail(Failure::input, file, ": is an archive without a network", remedy);
}

// Rows first … first + rows of x; where there are fewer, the last is repeated.
Tensor filled_rows(const Tensor& x, int64_t first, int64_t rows) {
  const Tensor part = x.slice(0, first, std::min(x.size(0), first + rows));
  const int64_t missing = rows - part.size(0);
  if (missing == 0) return part;
  std::vector<int64_t> shape = part.sizes().vec();
  shape[0] = missing;
  return at::cat({part, part.slice(0, part.size(0) - 1).expand(shape)});
}

// TorchScript does not say its shapes: two grey images are passed through. What does not give a row an image is left out.
std::vector<Layer> tried_layers(const Program& program, const ImageSpec& image, at::Device device) {
  const c10::NoGradGuard no_gradient;
  std::vector<std::string> names;
  for (const Layer& layer : program.layers) names.push_back(layer.name);
  const Tensor x = at::full({2, image.channels, image.height, image.width}, 0.5, at::TensorOptions(at::kFloat).device(device));
  const Activations found = program.run({x}, names);
  std::vector<Layer> out;
  for (Layer layer : program.layers) {
    const Tensor& a = found.at(layer.name);
    if (a.dim() < 1 || a.size(0) != 2) continue;
    layer.shape = a.sizes().slice(1).vec();
    out.push_back(std::move(layer));
  }
  return out;
}

}  // namespace

Program load_program(const std::string& file, at::Device device, MemoryOrder order) {
  Program program = content_of(file) == Content::pt2 ? load_pt2(file, device, order) : load_torchscript(file, device, order);
  for (const Port& port : program.inputs)
    require(at::isFloatingType(port.type) || program.inputs.size() > 1, Failure::input, file, ": takes ", c10::toString(port.type),
            " numbers (input '", port.name, "'), which have no gradient; expected an image or a code in floating point");
  if (device.is_cpu() && !program.inputs.empty() && (program.inputs[0].type == at::kHalf || program.inputs[0].type == at::kBFloat16))
    warn_once(text(file, " computes in ", c10::toString(program.inputs[0].type),
                   ", which a CPU does slowly; export it in float32 (model.float())"));

  // Exported for one batch size alone: run in batches of that size.
  const int64_t fixed = program.inputs.empty() || program.inputs[0].shape.empty() ? -1 : program.inputs[0].shape[0];
  const bool channels_last = order == MemoryOrder::channels_last;
  const auto run = [inner = program.run, inputs = program.inputs, fixed, channels_last, file](const std::vector<Tensor>& given,
                                                                                              const std::vector<std::string>& taps) {
    require(given.size() == inputs.size() || inputs.empty(), Failure::usage, file, ": found ", given.size(), " inputs, expected ",
            inputs.size());
    std::vector<Tensor> seen;
    for (size_t i = 0; i < given.size(); ++i) {
      Tensor x = given[i];
      if (i < inputs.size()) {
        const Port& port = inputs[i];
        require(x.dim() > 0, Failure::input, file, ": found an input that is one number, expected rows");
        bool fits = port.shape.empty() || static_cast<int64_t>(port.shape.size()) == x.dim();
        for (size_t d = 1; fits && d < port.shape.size(); ++d) fits = port.shape[d] < 0 || port.shape[d] == x.size(static_cast<int64_t>(d));
        require(fits, Failure::input, file, ": found an input ", shape_text(x.sizes()), ", expected '", port.name, "' ",
                shape_text(port.shape), " (-1: any number); the network was exported for that size");
        x = x.to(port.type);
      }
      seen.push_back(channels_last && x.dim() == 4 ? x.contiguous(at::MemoryFormat::ChannelsLast) : x);
    }
    Activations out;
    if (fixed < 0 || seen[0].size(0) == fixed) {
      out = inner(seen, taps);
    } else {
      warn_once(text(file, ": exported for batches of ", fixed, ": runs in batches of ", fixed,
                     ", which is slower; export with "
                     "dynamic_shapes=({0: torch.export.Dim(\"N\")},)"));
      std::map<std::string, std::vector<Tensor>> parts;
      const int64_t rows = seen[0].size(0);
      for (int64_t first = 0; first < rows; first += fixed) {
        std::vector<Tensor> batch;
        for (const Tensor& x : seen) batch.push_back(filled_rows(x, first, fixed));
        for (auto& [name, tensor] : inner(batch, taps)) parts[name].push_back(tensor.slice(0, 0, rows - first));
      }
      for (auto& [name, tensors] : parts) out[name] = at::cat(tensors);
    }
    for (auto& [name, tensor] : out)
      if (tensor.scalar_type() != at::kFloat) tensor = tensor.to(at::kFloat);
    return out;
  };
  // Whatever LibTorch throws of a file that does not fit it is a sentence too; memory that runs out is for the caller.
  program.run = [run, file](const std::vector<Tensor>& given, const std::vector<std::string>& taps) {
    std::string sentence;
    try {
      return run(given, taps);
    } catch (const Error&) {
      throw;
    } catch (const c10::OutOfMemoryError&) {
      throw;
    } catch (const std::bad_alloc&) {
      fail(Failure::device, file, ": there is not enough memory; take fewer rows at a time");
    } catch (const c10::Error& error) {
      sentence = error.what_without_backtrace();
      if (sentence.find("can't allocate memory") != std::string::npos) throw;
    } catch (const std::exception& error) {
      sentence = error.what();
    }
    fail(Failure::input, file, ": ", one_line(sentence), "; the file is torn, or does not fit this LibTorch");
  };
  return program;
}

ImageSpec image_of(const Program& program, const ImageSpec& otherwise) {
  std::string found;
  for (const Port& port : program.inputs) found += text(found.empty() ? "" : ", ", port.name, " ", shape_text(port.shape));
  ImageSpec image = otherwise;
  if (program.inputs.empty() || (program.inputs.size() == 1 && program.inputs[0].shape.empty())) return image;
  const std::vector<int64_t>& shape = program.inputs[0].shape;
  require(program.inputs.size() == 1 && shape.size() == 4, Failure::input, program.file, ": takes ", found,
          "; expected one image [N,C,H,W]; wrap the network in a module whose forward takes the image alone, and export that");
  if (shape[1] > 0) image.channels = shape[1];
  if (shape[2] > 0) image.height = shape[2];
  if (shape[3] > 0) image.width = shape[3];
  return image;
}

Classifier as_classifier(const Program& program, const ImageSpec& image, std::vector<std::string> labels, at::Device device) {
  const ImageSpec own = image_of(program, image);
  require(own.channels == image.channels && own.height == image.height && own.width == image.width, Failure::input, program.file,
          ": found an image of ", image.channels, " × ", image.height, " × ", image.width,
          " (channels, height, width) asked for, expected ", own.channels, " × ", own.height, " × ", own.width,
          ", for which the network was exported; leave the size out, or export for another");
  Classifier out{program.file, image, program.layers, std::move(labels), {}};
  const bool unknown = std::any_of(out.layers.begin(), out.layers.end(), [](const Layer& layer) { return layer.shape.empty(); });
  if (unknown && program.format == "TorchScript") out.layers = tried_layers(program, image, device);
  out.forward = [run = program.run, file = program.file, image, seen = preprocessing(image, device)](const Tensor& x,
                                                                                                     const std::vector<std::string>& taps) {
    require(x.dim() == 4 && x.size(1) == image.channels && x.size(2) == image.height && x.size(3) == image.width, Failure::runtime, file,
            ": found images ", shape_text(x.sizes()), ", expected [N,", image.channels, ",", image.height, ",", image.width, "]");
    return run({seen(x)}, taps);
  };
  return out;
}

Generator as_generator(const Program& program, const ImageSpec& image, at::Device device) {
  require(program.inputs.size() == 1 && program.inputs[0].shape.size() >= 2 && !program.outputs.empty() && !program.layers.empty(),
          Failure::input, program.file, ": found ", program.inputs.size(), " inputs and ", program.outputs.size(),
          " outputs, expected a decoder: one code [N,D] in, one image [N,C,H,W] out");
  Generator out;
  out.name = program.file;
  out.latent.assign(program.inputs[0].shape.begin() + 1, program.inputs[0].shape.end());
  require(std::all_of(out.latent.begin(), out.latent.end(), [](int64_t size) { return size > 0; }), Failure::input, program.file,
          ": found a code of free size ", shape_text(program.inputs[0].shape), ", expected a fixed one; export with only N free");
  const std::string last = program.layers.back().name;
  const auto back = postprocessing(image, device);
  out.decode = [run = program.run, last, back](const Tensor& z) { return back(run({z}, {last}).at(last)); };
  std::vector<int64_t> one{1};
  one.insert(one.end(), out.latent.begin(), out.latent.end());
  const c10::NoGradGuard no_gradient;
  const Tensor drawn = out.decode(at::zeros(one, at::TensorOptions(at::kFloat).device(device)));
  require(drawn.dim() == 4, Failure::input, program.file, ": gives ", shape_text(drawn.sizes()), ", expected an image [N,C,H,W]");
  out.image = {.channels = drawn.size(1), .height = drawn.size(2), .width = drawn.size(3)};
  out.start = [latent = out.latent](Stream& stream) { return stream.normal(latent); };
  return out;
}

}  // namespace evoke
