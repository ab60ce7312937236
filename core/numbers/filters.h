// Filters of images [N,C,H,W]: pure functions of tensors, each row by itself, on any device.
#pragma once
#include "core/numbers/tensor.h"

namespace evoke {

/// What lies beyond an image's border.
enum class Border { zeros, repeated };

/// Convolves each channel with a Gaussian of this standard deviation in pixels, cut at four of them.
Tensor gaussian_blurred(const Tensor& image, double deviation, Border);

/// The bilateral filter (Tomasi & Manduchi 1998): each pixel p becomes a mean of those around it,
///
///     x'_p = Σ_q w_pq·x_q / Σ_q w_pq,   w_pq = exp(-|p - q|²/(2·deviation²) - |x_p - x_q|²/(2·colour²)),
///
/// over the q of the image that lie at most ceil(2·deviation) rows and columns away; |x_p - x_q| over all channels. So smooth places are
/// blurred and edges between colours further apart than `colour` stay.
Tensor bilateral_filtered(const Tensor& image, double deviation, double colour);

/// The proximal step of total variation (Rudin, Osher & Fatemi 1992; dual projection of Chambolle 2004):
///
///     argmin_u ½·Σ (u - x)² + weight·Σ √(dx² + dy²),
///
/// each channel by itself, dx and dy the differences to the next column and row, after so many iterations of the dual.
Tensor total_variation_proximal(const Tensor& image, double weight, int64_t iterations);

/// Each pixel's colour becomes the nearest of these, colours [K,C].
Tensor nearest_colours(const Tensor& image, const Tensor& colours);

/// Each pixel's colour becomes the nearest mixture of these, that is the nearest point of the convex hull of colours [K,C], K at most 8:
/// the projection onto every simplex that up to four of the colours span, of which the nearest counts.
Tensor nearest_mixtures(const Tensor& image, const Tensor& colours);

/// Laplacian normalization (Mordvintsev 2016): the image is taken apart into `levels` differences of neighbouring scales and what is left,
/// each is divided by its root mean square over the row (over 1e-10 where it is less), and all are put together again. Scales are halved
/// by the 5×5 kernel k kᵀ, k = (1, 4, 6, 4, 1)/16, with zeros beyond the border, and doubled by its transpose times 4. Throws
/// Failure::usage where the image is too small for so many halvings.
Tensor laplacian_normalized(const Tensor& image, int64_t levels);

}  // namespace evoke
