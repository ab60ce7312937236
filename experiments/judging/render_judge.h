// The judge that trusts no network: the renderable image of the shapes dataset that is nearest to a picture.
#pragma once
#include <array>

#include "core/numbers/tensor.h"

namespace evoke {

/// The nearest renderable image of each picture, N rows, on the CPU.
struct RenderVerdict {
  Tensor shape_class;    // int64 [N], its class, 0 … 59
  Tensor shape_rmse;     // float32 [N], root of the mean squared difference over pixels and channels, images in [0,1]
  Tensor margin;         // float32 [N], the second nearest class's rmse minus this one's
  Tensor tx, ty, theta;  // float32 [N], its place in pixels from the centre and its turn in radians, modulo its symmetry
};

/// Spectra of every template: 60 classes × a grid of rotations, each at the centre. The four plain colours share a coverage mask.
struct RenderTemplates {
  Tensor masks;                          // complex64 [P,48,25], conjugate spectra of the coverage masks, family by family
  Tensor mask_energy;                    // [P], Σ m²
  Tensor mask_theta;                     // [P], radians
  std::array<int64_t, 13> mask_first{};  // the masks of family (shape·3 + style) are mask_first[f] … mask_first[f+1] − 1
  Tensor rainbows;                       // complex64 [3,R,48,25], conjugate spectra, the same number of rotations for each family
  Tensor rainbow_energy;                 // [R], Σ t²
  Tensor rainbow_theta;                  // [R]
  Tensor colours;                        // [4,3], the plain colours in [0,1]
};

/// Renders the grid and transforms it; `rotation_step` in degrees, rounded so that it divides each symmetry's range.
RenderTemplates render_templates(at::Device device, double rotation_step = 6.0);

/// The nearest template of each class over the grid of rotations and whole-pixel translations of at most `reach` pixels.
struct GridMatch {
  Tensor distance;       // float32 [N,60], Σ over pixels and channels of (x − t)²
  Tensor tx, ty, theta;  // float32 [N,60]
};
inline constexpr int64_t kReach = 10;  // pixels; the dataset's shapes lie within 9

/// |x − t|² = |x|² + |t|² − 2·corr(x, t), the correlation over all translations at once by FFT; for a plain colour c and mask m,
/// corr(x, c·m) = Σ_k c_k·corr(x_k, m). `images`: float [N,3,48,48] in [0,1] on the templates' device.
GridMatch match_grid(const RenderTemplates&, const Tensor& images);

/// match_grid, then the best `refined` classes of each picture are followed by Levenberg-Marquardt on (tx, ty, θ) through the renderer
/// itself. `images`: uint8 [N,48,48,3] or float [N,3,48,48] in [0,1], any device. Throws Failure::input for other shapes.
RenderVerdict judge_renders(const RenderTemplates&, const Tensor& images, int64_t refined = 5);

/// The turn after which a class looks the same, in radians: line π, square π/2, triangle 2π/3, circle 0 (any); rainbows 2π.
double symmetry_of(int64_t label);

}  // namespace evoke
