// needs: files
// Planted truth: in a ball about grey, the picture that a first-layer unit likes best is its own filter. All 64 of AlexNet's, through an
// exported program, the pixel generator and ascent.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "classifiers/objectives.h"
#include "core/nouns/posterior.h"
#include "core/nouns/run.h"
#include "core/programs/program.h"
#include "core/storage/safetensors.h"
#include "generators/pixel.h"
#include "samplers/ascent.h"

namespace evoke {
namespace {

TEST(FirstLayer, UnitsGiveTheirFiltersBack) {
  const std::string folder = std::string(EVOKE_BINARY) + "/first_layer", file = folder + "/alexnet_head.pt2";
  ASSERT_EQ(std::system(
                ("'" EVOKE_SOURCE "/.venv/bin/python' '" EVOKE_SOURCE "/tests/golden/programs.py' '" + folder + "' alexnet_head").c_str()),
            0);
  const Program program = load_program(file, at::kCPU, MemoryOrder::channels_last);
  const ImageSpec image = image_of(program);
  const Classifier classifier = as_classifier(program, image, {}, at::kCPU);
  const std::vector<Unit> units = parse_units({"0:*"}, classifier);
  ASSERT_EQ(units.size(), 64u);

  PixelOptions pixels;
  pixels.range = "free";
  PosteriorOptions rows;
  rows.rows = at::arange(64, at::kLong);
  const Generator generator = pixel(pixels, image);
  const Target target = posterior(generator, {}, classifier, unit_objective(units, classifier), std::nullopt, rows);
  AscentOptions climb;
  climb.rule = "normalized";
  climb.step_size = 1.0;
  climb.ball = 5.0;
  RunOptions options;
  options.chains = rows.rows;
  options.steps = 40;
  Stream stream(0, options.chains, 1000);
  const State end = run(ascent(climb), target, generator.start(stream), options);

  // The unit at the centre (7, 7) of the 15 × 15 map sees pixels 26 to 36: stride 4, padding 2, kernel 11.
  const Tensor x = end.z, filters = load_safetensors(folder + "/alexnet_head.safetensors").tensors.at("filters");
  EXPECT_TRUE(at::allclose(at::linalg_vector_norm(x.flatten(1), 2, at::IntArrayRef{1}), at::full({64}, 5.0), 1e-4));
  const Tensor patch = x.slice(2, 26, 37).slice(3, 26, 37);
  const Tensor whole = at::zeros_like(x);
  whole.slice(2, 26, 37).slice(3, 26, 37).copy_(filters);
  const Tensor cosine = at::cosine_similarity(x.flatten(1), whole.flatten(1), 1);
  EXPECT_GT(cosine.min().item<double>(), 0.999) << cosine;
  std::printf("cosine of 64 units with their filters: least %.6f\n", cosine.min().item<double>());
  // Negative control: another unit's filter is another picture.
  EXPECT_LT(at::cosine_similarity(patch.flatten(1), filters.roll(1, 0).flatten(1), 1).abs().max().item<double>(), 0.9);
}

}  // namespace
}  // namespace evoke
