// The first frame of a GIF. OpenCV reads none.
#pragma once
#include <string>

#include "core/numbers/tensor.h"

namespace evoke {

/// uint8 [H,W,3], RGB: the first frame of the GIF that `bytes` are, on its canvas; what the frame leaves free, and its transparent pixels,
/// are white. Throws Failure::input in a sentence that begins with `where` when it is torn, holds no frame or is larger than 2^28 pixels.
Tensor first_gif_frame(const std::string& bytes, const std::string& where);

}  // namespace evoke
