// Networks as people have them: programs exported from Python (.pt2) and TorchScript, run here with taps and gradients.
#pragma once
#include "core/networks/image_spec.h"
#include "core/nouns/nouns.h"
#include "core/programs/archive.h"

namespace evoke {

/// An input or output of a program.
struct Port {
  std::string name;
  std::vector<int64_t> shape;  // -1: any size; empty: not known
  at::ScalarType type = at::kFloat;
  std::vector<int64_t> example{};  // sizes that it was exported with, those that are free now too; empty: not known
};

/// A network read from a file. Its layers bear the names that its modules have in Python ("inception4a.branch1", "layer1.0.relu"): what is
/// tapped there is what a forward hook would see, cloned before anything overwrites it. Of a module that is called more than once, "relu"
/// is the last call and "relu#1" the first. The last layers are the outputs: "output", or "output.0", "output.logits" where there are
/// several.
struct Program {
  std::string file, format;  // format: "pt2" or "TorchScript"
  std::vector<Port> inputs, outputs;
  std::vector<Layer> layers;   // that can be tapped, in the order in which their outputs are made
  std::vector<Layer> unrowed;  // whose output has no row an image (windows of an attention, say): whole shapes; they cannot be tapped
  int64_t parameters = 0;
  /// Runs no further than the deepest tap, with autograd where grad mode is on; weights take no gradients. Inputs of the types of `inputs`
  /// and the same number of rows. Throws Failure::usage for a tap that does not exist.
  std::function<Activations(const std::vector<Tensor>& inputs, const std::vector<std::string>& taps)> run;
};

/// How convolutions' tensors lie in memory. As exported: outputs and gradients equal Python's to the last bit on the same CPU. Channels
/// last: about 1.3 times as fast on a CPU, equal but for rounding.
enum class MemoryOrder { as_exported, channels_last };

/// Reads a program: `.pt2` of torch.export.save, or TorchScript, told apart by what is in the file. Every record is compared with its
/// checksum. Nothing that is pickled in a .pt2 is read, of TorchScript nothing runs before its operators have been seen, only operators of
/// LibTorch's own namespaces run, and devices named in the file are replaced by `device`.
/// Throws Failure::input, in a sentence that says what to do in Python, for files that are torn, hostile, compiled (AOTInductor), pickled
/// (torch.save), frozen or quantized, and for networks in training mode or with control flow.
Program load_program(const std::string& file, at::Device device, MemoryOrder order = MemoryOrder::as_exported);

/// Of a .pt2 (core/programs/reader.cpp) and of TorchScript (core/programs/torchscript.cpp), without the checks of load_program.
Program load_pt2(const Archive&, at::Device device, MemoryOrder order);
Program load_torchscript(const Archive&, at::Device device, MemoryOrder order);

/// The image that a program takes, from its first input [N,C,H,W]: size and channels, range [0,1] without normalization. Sizes that are
/// free or not known count as `otherwise`, and where that says 0 as those that the network was exported with. Throws Failure::input where
/// the program takes anything but one image.
ImageSpec image_of(const Program&, const ImageSpec& otherwise = {.channels = 3, .height = 224, .width = 224});

/// The same with what a recipe's table or the TOML beside the network says. A height or width that neither this nor the file says is 224,
/// which is said aloud once.
ImageSpec image_of(const Program&, const ImageOptions& given);

/// A program as a classifier: images of `image` in, float activations out.
Classifier as_classifier(const Program&, const ImageSpec& image, std::vector<std::string> labels, at::Device device);

/// A program z [N,D] or [N,C,H,W] → x [N,C,H,W] as a generator; `image` says what range and normalization x comes in. Size and channels are
/// found by trying; where the code's height and width are free (a convolutional decoder) they are those that give images of `image`'s
/// height and width. Throws Failure::input where it takes more than one input, gives no image, or cannot draw that size.
Generator as_generator(const Program&, const ImageSpec& image, at::Device device);

/// A program x [N,C,H,W] → z as an encoder; `image` says what range and normalization x is wanted in, and its height and width where the
/// program's are free. The codes' shape is found by trying. Throws Failure::input where it takes anything but one image of that size, or
/// gives anything but one code a row.
Encoder as_encoder(const Program&, const ImageSpec& image, at::Device device);

}  // namespace evoke
