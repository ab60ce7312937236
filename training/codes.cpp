// What is known of the codes of images.
#include "training/kinds.h"

namespace evoke {

std::optional<CodeStatistics> codes_of(const Encoder& encoder, const Examples& images, const std::string& form,
                                       const std::function<bool()>& stop) {
  CodeSums sums(encoder.latent, form);
  bool stopped = false;
  each_batch(images, [&](const Tensor& rows) {
    stopped = stopped || (stop && stop());
    if (!stopped) sums.add(encoder.encode(images.read(rows)));
  });
  if (stopped) return std::nullopt;
  return sums.statistics();
}

}  // namespace evoke
