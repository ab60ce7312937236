#include "experiments/facets.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>

#include "core/error.h"
#include "core/numbers/clusters.h"
#include "core/numbers/filters.h"
#include "core/numbers/linear_algebra.h"

namespace evoke {

std::string facet_layer(const FacetOptions& options, const Classifier& classifier) {
  const size_t count = classifier.layers.size();
  if (options.layer.empty()) return classifier.layers.at(count < 2 ? 0 : count - 2).name;
  return layer_named(classifier, options.layer, "facets").name;
}

Facets facets_of(const Tensor& images, const Classifier& classifier, at::Device device, const FacetOptions& options) {
  const c10::NoGradGuard no_gradient;
  const int64_t count = images.size(0);
  require(count >= 2 && count >= options.count, Failure::input, "facets: found ", count, " images for ", options.count,
          " facets, expected at least two, and one a facet; look for fewer");
  const std::string layer = facet_layer(options, classifier);

  // What the layer says of each image, along the directions in which that varies most.
  std::vector<Tensor> answers;
  for (int64_t first = 0; first < count; first += 64)
    answers.push_back(classifier.forward(images.slice(0, first, first + 64).to(device), {layer}).at(layer).flatten(1).cpu());
  const Tensor codes = at::cat(answers).to(at::kDouble);
  const PrincipalComponents wide = principal_components(codes, std::min({options.components, count - 1, codes.size(1)}));
  const Tensor points = (codes - wide.mean).matmul(wide.directions.t());
  const Clusters groups = k_means(points, options.count, 0);

  Facets out;
  std::vector<Tensor> starts;
  for (int64_t k = 0; k < options.count; ++k) {
    const Tensor own = (groups.of == k).nonzero().squeeze(1);
    const Tensor far = (points.index_select(0, own) - groups.centres[k]).square().sum(1);
    const Tensor nearest = own.index_select(0, far.argsort(/*stable=*/true, 0, false)).slice(0, 0, options.nearest);
    const Tensor mean = images.index_select(0, nearest).mean(0, true);
    starts.push_back(options.blur > 0 ? gaussian_blurred(mean, options.blur, Border::repeated) : mean);
    out.rows.emplace_back(nearest.data_ptr<int64_t>(), nearest.data_ptr<int64_t>() + nearest.numel());
  }
  out.starts = at::cat(starts);
  return out;
}

}  // namespace evoke
