// Pictures one after another as a film: WebP for a page, MP4 for a talk.
#pragma once
#include <string>

#include "core/numbers/tensor.h"

namespace evoke {

/// Writes uint8 [T,H,W,3] (RGB, T ≥ 1) as a WebP animation that begins again at its end, lossless, `rate` pictures a second; atomically.
/// The bytes are a function of the pictures. Throws Failure::usage for pictures of another shape, Failure::runtime where it cannot be
/// written.
void save_webp(const std::string& file, const Tensor& pictures, double rate);
/// The same as MP4 (MPEG-4 part 2, lossy); sides are made even by repeating the last row or column. Throws also where OpenCV has no
/// encoder.
void save_mp4(const std::string& file, const Tensor& pictures, double rate);

}  // namespace evoke
