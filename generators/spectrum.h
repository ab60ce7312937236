// What photographs look like on average: how much there is of each frequency, and how their colours hang together.
#pragma once
#include <functional>
#include <string>

#include "core/numbers/tensor.h"

namespace evoke {

/// Measured on images x [C,H,W] in [0,1]. Their channels are decorrelated first: u = L⁻¹(x - μ), where μ is the mean colour and LLᵀ the
/// covariance of the colours, over all pixels of all images. Float32, on the CPU.
struct Spectrum {
  Tensor magnitude;       // [C,H,W/2+1], the mean over the images of |rfft2(u)|/√(H·W)
  Tensor mean;            // μ [C]
  Tensor factor;          // L [C,C], lower triangular, its diagonal positive
  int64_t height, width;  // of the images, px
};

/// Goes over images twice: `each` calls what it is given with parts [M,C,H,W] in [0,1], all of one size, in any number of calls, and is
/// called two times. Memory is that of a part. Throws Failure::input where there are no images, and where the colours do not vary in every
/// channel by itself, as in grey photographs that are stored in colour. `where` begins the
/// sentence.
Spectrum measure_spectrum(const std::function<void(const std::function<void(const Tensor& images)>&)>& each, const std::string& where);

/// The magnitudes of images of another size, up to a common factor: bilinear in the frequencies in cycles per pixel, so that a larger image
/// has finer structure and not larger objects.
Spectrum resized(const Spectrum&, int64_t height, int64_t width);

/// Safetensors, kind "spectrum", written atomically; magnitudes as float16 (11 bits: no picture shows the difference), the rest as float32.
/// `dataset`: SHA-256 of the dataset's file, kept beside them.
void save_spectrum(const std::string& file, const Spectrum&, const std::string& dataset);
/// Throws Failure::input when the file holds no spectrum, or one that does not fit itself.
Spectrum load_spectrum(const std::string& file);

/// The matrix [C,C] that turns decorrelated channels into colours (Olah 2017; Lucid): a factor of the colours' covariance divided by the
/// Euclidean norm of its longest column. `colour`: "imagenet", that of ImageNet's photographs as Lucid gives it; "spectrum", L of
/// `measured`; "none", no such matrix (undefined); "auto", imagenet for three channels and none for others. Throws Failure::input for
/// imagenet where there are not three channels, and for a spectrum that is not there or is of other channels; `where` begins the sentence.
Tensor colour_matrix(const std::string& colour, const Spectrum* measured, int64_t channels, const std::string& where);
/// matrix · x at each pixel: [N,C,H,W] -> the same; x itself where the matrix is undefined. Not rounded under Bfloat16Scope.
Tensor in_colours(const Tensor& matrix, const Tensor& x);

}  // namespace evoke
