// Images on disk: lossless PNG, and whatever OpenCV reads. The one place that speaks to it about files.
#pragma once
#include <string>

#include "core/numbers/tensor.h"

namespace evoke {

/// float [N,C,H,W] in [0,1] on any device to uint8 [N,H,W,C] on the CPU, rounded to nearest, clipped; and back.
Tensor to_bytes(const Tensor& images);
Tensor from_bytes(const Tensor& bytes);

/// Writes uint8 [H,W,C] (C 1 or 3, RGB) as PNG, atomically.
void save_png(const std::string& file, const Tensor& bytes);
/// Bytes of a WebP of uint8 [H,W,C] (C 1 or 3, RGB): lossless where quality is 0, else the smaller the lower (1 … 100).
std::string webp_of(const Tensor& bytes, int quality);
/// Reads an image as uint8 [H,W,channels], RGB or gray, upright (turned as its EXIF tag says): PNG, JPEG, the first frame of a GIF, BMP,
/// TIFF, WebP and whatever else OpenCV knows, of any depth and colour model. Throws Failure::input when it is torn or no image.
Tensor load_image(const std::string& file, int64_t channels = 3);
/// An image as float [channels,H,W] in [0,1]: a file that load_image reads, or safetensors with 'image' [C,H,W] in [0,1].
Tensor load_picture(const std::string& file, int64_t channels = 3);
/// Whether a file's first bytes are those of an image, whatever its name is; a torn image is one too. False where it cannot be read.
bool is_image(const std::string& file);

/// "4.6.0".
std::string opencv_version();

}  // namespace evoke
