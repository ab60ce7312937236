// Octaves: a climb that begins with small images and goes on with larger ones.
#pragma once
#include <ATen/ops/_upsample_bilinear2d_aa.h>
#include <ATen/ops/_upsample_bilinear2d_aa_backward.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "samplers/step.h"

namespace evoke {

/// Runs the kernel `climb` on images of growing sides (Mordvintsev 2015, whose images grow by 1.4 from one octave to the next; Øygard 2015;
/// the growing scale of Nguyen 2016): octave k of K moves a small image y whose sides are those of z over scale^(K-1-k), rounded, at least
/// 4. The target sees it enlarged, z = U·y (bilinear), and y follows Uᵀ·∂log π/∂z. Each octave has steps/K of the `steps`; the next one
/// begins with y enlarged, and with a climb that is new. So in a network of a fixed image size, what small images cannot hold is not moved.
/// Differs: the sources' networks take images of any size, and see the small image as it is.
/// z [N,C,H,W]; the state's z is the enlarged image. carry: the climb's own, on small images, "octave_code", y, and "octave_gradient". Best
/// codes are kept in the last octave alone, whose y is z. Not for CUDA graphs: shapes change. Throws Failure::usage for codes that are no
/// images.
inline Sampler octaves(Sampler climb, int64_t count, double scale, int64_t steps) {
  Sampler sampler{.name = climb.name + " in octaves", .needs_exact_target = climb.needs_exact_target, .init = {}, .step = {}};
  sampler.capturable = false;
  const auto octave_of = [count, steps](int64_t step) {
    return std::clamp<int64_t>(step * count / std::max<int64_t>(steps, 1), 0, count - 1);
  };
  const auto sides = [count, scale](const Tensor& z, int64_t octave) {
    const double shrink = std::pow(scale, static_cast<double>(octave - (count - 1)));
    const auto side = [shrink](int64_t whole) {
      return std::clamp<int64_t>(std::llround(static_cast<double>(whole) * shrink), std::min<int64_t>(whole, 4), whole);
    };
    return std::array<int64_t, 2>{side(z.size(2)), side(z.size(3))};
  };
  const auto resized = [](const Tensor& image, const std::array<int64_t, 2>& to) {
    return image.size(2) == to[0] && image.size(3) == to[1] ? image : at::_upsample_bilinear2d_aa(image, to, false);
  };

  // The target of small images, of those whose enlargement is like z.
  const auto enlarged = [resized](const Target& target, const Tensor& z, bool last) {
    if (last) return target;
    Target out = target;
    out.comparable = out.exact = false;
    out.evaluate = [evaluate = target.evaluate, resized, to = std::array<int64_t, 2>{z.size(2), z.size(3)}](const Tensor& y,
                                                                                                            Stream& stream) {
      Evaluation at = evaluate(resized(y, to), stream);
      if (y.size(2) != to[0] || y.size(3) != to[1])
        at.gradient = at::_upsample_bilinear2d_aa_backward(at.gradient.contiguous(), to, y.sizes(), false);
      return at;
    };
    return out;
  };

  // From the small state to one that the rest of the house sees, and back.
  const auto outer = [resized](State small, const Tensor& like) {
    State out;
    const std::array<int64_t, 2> to{like.size(2), like.size(3)};
    out.z = resized(small.z, to);
    out.at = small.at;
    out.at.gradient = resized(small.at.gradient, to);
    out.carry = std::move(small.carry);
    out.carry["octave_code"] = small.z;
    out.carry["octave_gradient"] = small.at.gradient;
    return out;
  };
  const auto inner = [](const State& state) {
    State small{state.carry.at("octave_code"), state.at, state.carry};
    small.at.gradient = state.carry.at("octave_gradient");
    small.carry.erase("octave_code");
    small.carry.erase("octave_gradient");
    return small;
  };

  sampler.init = [=](const Tensor& z, const Target& target, Stream& stream) {
    require(z.dim() == 4, Failure::usage, "octaves: found codes of shape ", shape_text(z.sizes()), ", expected images [N,C,H,W]");
    return outer(climb.init(resized(z, sides(z, 0)), enlarged(target, z, count == 1), stream), z);
  };
  sampler.step = [=](const State& state, const Target& target, Stream& stream) {
    const int64_t octave = octave_of(stream.step()), before = octave_of(stream.step() - 1);
    const Target own = enlarged(target, state.z, octave == count - 1);
    State small = inner(state);
    if (stream.step() > 0 && octave != before) small = climb.init(resized(small.z, sides(state.z, octave)), own, stream);
    Transition next = climb.step(small, own, stream);
    return Transition{outer(std::move(next.state), state.z), std::move(next.info)};
  };
  return sampler;
}

}  // namespace evoke
