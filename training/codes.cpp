// Codes of images: the codes themselves, and what is known of them all.
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "training/kinds.h"

namespace evoke {

namespace {

// The codes of all images, in parts.
void each_part(const Encoder& encoder, const Tensor& images, const std::function<void(const Tensor& codes)>& see) {
  const c10::NoGradGuard no_gradient;
  for (int64_t first = 0; first < images.size(0); first += 256) {
    const Tensor rows = at::arange(first, std::min(first + 256, images.size(0)), at::TensorOptions(at::kLong).device(images.device()));
    see(encoder.encode(images_at(images, rows)));
  }
}

}  // namespace

CodeStatistics codes_of(const Encoder& encoder, const Tensor& images, const std::string& form) {
  CodeSums sums(encoder.latent, form);
  each_part(encoder, images, [&](const Tensor& codes) { sums.add(codes); });
  return sums.statistics();
}

Tensor encoded(const Encoder& encoder, const Tensor& images) {
  std::vector<Tensor> out;
  each_part(encoder, images, [&](const Tensor& codes) { out.push_back(codes.contiguous()); });
  return at::cat(out);
}

}  // namespace evoke
