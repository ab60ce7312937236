// k-means against tests/golden/clusters.py, an independent implementation, and on groups that were planted.
#include "core/numbers/clusters.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/numbers/stream.h"
#include "tests/expect.h"

namespace evoke {
namespace {

TEST(KMeans, AgainstPython) {
  const nlohmann::json all = nlohmann::json::parse(std::ifstream(EVOKE_SOURCE "/tests/golden/clusters.json"));
  const Tensor i = at::arange(240, at::kDouble), data = at::sin(0.37 * i * i).view({60, 4});
  for (const auto& [name, count, seed] : {std::tuple{"three", 3, 7}, std::tuple{"five", 5, 1}}) {
    const Clusters found = k_means(data, count, static_cast<uint64_t>(seed));
    std::vector<double> centres;
    for (const auto& centre : all.at(name).at("centres"))
      for (const double value : centre) centres.push_back(value);
    EXPECT_TRUE(at::allclose(found.centres, at::tensor(centres, at::kDouble).view({count, 4}), 1e-9, 1e-10)) << name;
    EXPECT_TRUE(at::equal(found.of, at::tensor(all.at(name).at("of").get<std::vector<int64_t>>(), at::kLong))) << name;
    // Another seed begins elsewhere, and ends elsewhere here.
    EXPECT_FALSE(at::equal(k_means(data, count, 3).of, found.of)) << name;
  }
}

TEST(KMeans, FindsPlantedGroupsTheLargestFirst) {
  Stream stream = Stream::range(5, 0, 30);
  Tensor data = 0.1 * stream.normal({3});
  data.slice(0, 0, 5).select(1, 0).add_(5);
  data.slice(0, 5, 20).select(1, 1).add_(5);
  for (uint64_t seed = 0; seed < 5; ++seed) {
    const Clusters found = k_means(data, 3, seed);
    EXPECT_EQ((found.of.slice(0, 5, 20) == 0).sum().item<int64_t>(), 15) << seed;
    EXPECT_EQ((found.of.slice(0, 20) == 1).sum().item<int64_t>(), 10) << seed;
    EXPECT_EQ((found.of.slice(0, 0, 5) == 2).sum().item<int64_t>(), 5) << seed;
    EXPECT_TRUE(at::allclose(found.centres[2], data.slice(0, 0, 5).to(at::kDouble).mean(0)));
    EXPECT_LT(found.spread, k_means(data, 2, seed).spread);
  }
  // As many groups as rows, rows that are alike, and what cannot be.
  EXPECT_EQ(k_means(data, 30, 1).spread, 0.0);
  EXPECT_EQ(k_means(at::zeros({4, 2}), 3, 1).centres.sizes(), at::IntArrayRef({3, 2}));
  expect_in("expected 1 to as many", refusal([&] { k_means(data, 31, 0); }, Failure::input));
  expect_in("not finite", refusal([&] { k_means(data / 0.0, 2, 0); }, Failure::input));
}

}  // namespace
}  // namespace evoke
