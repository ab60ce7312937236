#include "core/programs/program.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <fstream>

#include "core/error.h"
#include "core/log.h"
#include "core/programs/memory_bound.h"

namespace evoke {

namespace {

enum class Content { pt2, torchscript };

const char* const remedy =
    "; save it in Python with torch.export.save(torch.export.export(model, (x,)), \"net.pt2\"), or with scripts/export_network.py";

// Refuses what is no zip by its first bytes.
void check_head(const std::string& file) {
  std::ifstream stream(file, std::ios::binary);
  require(bool(stream), Failure::input, file, ": cannot be read; expected a network (.pt2 or TorchScript)");
  std::string head(8, ' ');
  stream.read(head.data(), 8);
  require(head[0] != '\x80' || head[1] > 5 || head.substr(4) == std::string(4, '\0'), Failure::input, file,
          ": is a pickled checkpoint, which evoke does not execute", remedy);
  require(head.substr(0, 2) == "PK", Failure::input, file, ": is no network that evoke reads", remedy);
}

// What kind of archive it is, by what lies in it.
Content content_of(const Archive& archive) {
  const std::string& file = archive.file();
  const std::vector<std::string>& records = archive.names();
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
  const MemoryBound bound;
  check_head(file);
  const Archive archive(file);
  Program program = content_of(archive) == Content::pt2 ? load_pt2(archive, device, order) : load_torchscript(archive, device, order);
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
    const MemoryBound bound;
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
  const std::vector<int64_t>& example = program.inputs[0].example;
  size_t d = 1;
  for (int64_t* size : {&image.channels, &image.height, &image.width}) {
    if (shape[d] > 0)
      *size = shape[d];
    else if (*size == 0 && example.size() == 4)
      *size = example[d];
    ++d;
  }
  return image;
}

ImageSpec image_of(const Program& program, const ImageOptions& given) {
  ImageSpec image = image_of(program, ImageSpec{.channels = given.channels, .height = given.height, .width = given.width});
  if (image.channels == 0) image.channels = 3;
  image = image_spec(given, image, program.file);
  if (image.height > 0 && image.width > 0) return image;
  constexpr int64_t customary = 224;
  if (image.height == 0) image.height = customary;
  if (image.width == 0) image.width = customary;
  warn_once(text(program.file, ": found no size of its images (", program.format, " does not say it); takes them to be ", image.height,
                 " × ", image.width, " pixels (height, width); say another with height and width of its [image] table"));
  return image;
}

Classifier as_classifier(const Program& program, const ImageSpec& image, std::vector<std::string> labels, at::Device device) {
  const ImageSpec own = image_of(program, image);
  require(own.channels == image.channels && own.height == image.height && own.width == image.width, Failure::input, program.file,
          ": found an image of ", image.channels, " × ", image.height, " × ", image.width,
          " (channels, height, width) asked for, expected ", own.channels, " × ", own.height, " × ", own.width,
          ", for which the network was exported; leave the size out, or export for another");
  Classifier out{program.file, image, program.layers, std::move(labels), {}};
  out.capturable = false;  // a program may ask for an element's value, which waits for the device
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
          " outputs, expected a decoder: one code [N,D] or [N,C,H,W] in, one image [N,C,H,W] out");
  Generator out;
  out.name = program.file;
  out.capturable = false;  // as of a classifier
  const std::vector<int64_t>& port = program.inputs[0].shape;
  out.latent.assign(port.begin() + 1, port.end());
  const bool free_size = port.size() == 4 && port[1] > 0 && port[2] <= 0 && port[3] <= 0;
  require(free_size || std::all_of(out.latent.begin(), out.latent.end(), [](int64_t size) { return size > 0; }), Failure::input,
          program.file, ": found a code of free size ", shape_text(port),
          ", expected a fixed one, or [N,C,H,W] with N, H and W free; export with only those free");
  const std::string last = program.layers.back().name;
  const auto back = postprocessing(image, device);
  out.decode = [run = program.run, last, back](const Tensor& z) { return back(run({z}, {last}).at(last)); };
  const auto drawn = [&](const std::vector<int64_t>& latent) {
    const c10::NoGradGuard no_gradient;
    std::vector<int64_t> one{1};
    one.insert(one.end(), latent.begin(), latent.end());
    const Tensor x = out.decode(at::zeros(one, at::TensorOptions(at::kFloat).device(device)));
    require(x.dim() == 4, Failure::input, program.file, ": gives ", shape_text(x.sizes()), ", expected an image [N,C,H,W]");
    return ImageSpec{.channels = x.size(1), .height = x.size(2), .width = x.size(3)};
  };

  if (free_size) {
    // How much larger the image is than its code shows at a small one.
    constexpr int64_t tried = 8;
    const ImageSpec found = drawn({port[1], tried, tried});
    const int64_t down = found.height / tried, across = found.width / tried;
    require(down > 0 && across > 0 && image.height % down == 0 && image.width % across == 0, Failure::input, program.file,
            ": found images of ", image.height, " × ", image.width, " px asked for, expected a height divisible by ", down,
            " and a width divisible by ", across, "; set [generator.image] height and width");
    out.latent = {port[1], image.height / down, image.width / across};
  }
  out.image = drawn(out.latent);
  require(!free_size || (out.image.height == image.height && out.image.width == image.width), Failure::input, program.file, ": draws ",
          out.image.height, " × ", out.image.width, " px from a code ", shape_text(out.latent), ", expected ", image.height, " × ",
          image.width, "; set [generator.image] height and width to sizes that it can draw");
  out.start = [latent = out.latent](Stream& stream) { return stream.normal(latent); };
  return out;
}

Encoder as_encoder(const Program& program, const ImageSpec& image, at::Device device) {
  const ImageSpec own = image_of(program, image);
  require(own.channels == image.channels && own.height == image.height && own.width == image.width, Failure::input, program.file,
          ": found images ", shape_text({image.channels, image.height, image.width}), " to encode, expected ",
          shape_text({own.channels, own.height, own.width}), ", for which the encoder was exported");
  require(program.outputs.size() == 1 && !program.layers.empty(), Failure::input, program.file, ": found ", program.outputs.size(),
          " outputs, expected an encoder: one image [N,C,H,W] in, one code [N,D] or [N,C,H,W] out");
  const std::string last = program.layers.back().name;
  Encoder out{program.file, image, {}, {}};
  out.encode = [run = program.run, last, file = program.file, image, seen = preprocessing(image, device)](const Tensor& x) {
    require_shape(x, {-1, image.channels, image.height, image.width}, file + ": images to encode");
    return run({seen(x)}, {last}).at(last);
  };
  const c10::NoGradGuard no_gradient;
  const Tensor code =
      out.encode(at::full({1, image.channels, image.height, image.width}, 0.5, at::TensorOptions(at::kFloat).device(device)));
  require(code.dim() >= 2 && code.size(0) == 1 && code.numel() > 0, Failure::input, program.file, ": gives ", shape_text(code.sizes()),
          " for one image, expected a code [N,D] or [N,C,H,W]");
  out.latent = code.sizes().slice(1).vec();
  return out;
}

}  // namespace evoke
