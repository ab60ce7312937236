// needs: files
// The renderer is the truth that pictures are judged by, so it is held to what geometry says.
#include "training/datasets/shapes.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <numbers>

#include "core/storage/files.h"
#include "core/storage/hdf5.h"
#include "training/datasets/dataset.h"

namespace evoke {
namespace {

using std::numbers::pi;

ShapeAttributes shape(int64_t kind, int64_t style, int64_t colour, double tx = 0, double ty = 0, double theta = 0) {
  return {kind, style, colour, tx, ty, theta};
}
double difference(const Tensor& a, const Tensor& b) { return (a.to(at::kFloat) - b.to(at::kFloat)).abs().mean().item<double>(); }
std::string temporary(const std::string& name) { return ::testing::TempDir() + "/evoke_shapes_" + name; }

TEST(Shapes, ClassesAndLabels) {
  for (int64_t label = 0; label < shape_classes; ++label) EXPECT_EQ(shape_class(attributes_of_class(label)), label);
  const auto labels = shape_labels();
  EXPECT_EQ(labels.at(9), "rainbow double line");
  EXPECT_EQ(labels.at(24), "rainbow double square");
  EXPECT_EQ(labels.at(39), "rainbow double circle");
  EXPECT_EQ(labels.at(54), "rainbow double triangle");
}

TEST(Shapes, SymmetriesAndMotion) {
  // A quarter turn maps a square to itself, a third of a turn a triangle, half a turn a line; an eighth of a turn does not.
  EXPECT_LT(difference(shape_coverage(shape(1, 1, 0, 0, 0, 0.3)), shape_coverage(shape(1, 1, 0, 0, 0, 0.3 + pi / 2))), 2e-3);
  EXPECT_LT(difference(shape_coverage(shape(3, 2, 0, 0, 0, 0.3)), shape_coverage(shape(3, 2, 0, 0, 0, 0.3 + 2 * pi / 3))), 2e-3);
  EXPECT_LT(difference(shape_coverage(shape(0, 0, 0, 0, 0, 0.3)), shape_coverage(shape(0, 0, 0, 0, 0, 0.3 + pi))), 2e-3);
  EXPECT_GT(difference(shape_coverage(shape(1, 0, 0)), shape_coverage(shape(1, 0, 0, 0, 0, pi / 4))), 2e-2);
  // A circle does not notice; a rainbow circle does.
  EXPECT_LT(difference(render_shape(shape(2, 2, 1)), render_shape(shape(2, 2, 1, 0, 0, 1.0))), 0.05);
  EXPECT_GT(difference(render_shape(shape(2, 2, 4)), render_shape(shape(2, 2, 4, 0, 0, 1.0))), 1.0);
  // Whole pixels move the picture by whole pixels: right and down.
  const Tensor at_rest = render_shape(shape(3, 1, 4, 0, 0, 0.7)), moved = render_shape(shape(3, 1, 4, 3, -2, 0.7));
  EXPECT_LT(difference(at::roll(at_rest, {-2, 3}, {0, 1}), moved), 0.05);
  EXPECT_GT(difference(at::roll(at_rest, {2, 3}, {0, 1}), moved), 1.0);
}

TEST(Shapes, AreasFollowTheGeometry) {
  const auto area = [](const ShapeAttributes& a) { return shape_coverage(a).sum().item<double>(); };
  // OpenCV's anti-aliased edges lie about 0.16 px outside the ideal ones, at four times supersampling.
  const double edge = 0.16, triangle_side = 11.5 * std::sqrt(3.0);
  EXPECT_NEAR(area(shape(1, 2, 0, 1.3, 0.2, 0.4)), 17.0 * 17.0 + 68.0 * edge, 3.0);
  EXPECT_NEAR(area(shape(2, 2, 0, 1.3, 0.2)), pi * 100.0 + 20 * pi * edge, 3.0);
  EXPECT_NEAR(area(shape(3, 2, 0, 0, 0, 0.4)), triangle_side * triangle_side * std::sqrt(3.0) / 4 + 3 * triangle_side * edge, 3.0);
  EXPECT_NEAR(area(shape(0, 2, 0, 0, 0, 0.4)), 22.0 * 7.0 + 58.0 * edge, 3.0);
  EXPECT_NEAR(area(shape(2, 0, 0)), 20 * pi * (2.0 + 2 * edge), 8.0);
}

TEST(Shapes, AllClassesDiffer) {
  std::vector<Tensor> images;
  for (int64_t label = 0; label < shape_classes; ++label) images.push_back(render_shape(attributes_of_class(label)));
  for (size_t i = 0; i < images.size(); ++i)
    for (size_t j = 0; j < i; ++j) EXPECT_GT(difference(images[i], images[j]), 0.5) << i << " and " << j;
}

TEST(Shapes, DatasetIsReproducibleBalancedAndTrue) {
  const std::string a = temporary("a.h5"), b = temporary("b.h5"), c = temporary("c.h5");
  write_shapes(a, 5, 600);
  write_shapes(b, 5, 600);
  write_shapes(c, 6, 600);
  EXPECT_EQ(sha256_of_file(a), sha256_of_file(b));
  EXPECT_NE(sha256_of_file(a), sha256_of_file(c));

  const Dataset data = open_dataset(a);
  EXPECT_EQ(data.images.shape(), (std::vector<int64_t>{600, 48, 48, 3}));
  EXPECT_TRUE((data.labels.bincount() == 10).all().item<bool>());
  EXPECT_EQ(data.rows_of(Split::train).size(0), 480);
  EXPECT_EQ(data.rows_of(Split::test).size(0), 60);
  // The images are the renderings of the attributes beside them.
  const Hdf5 file = Hdf5::open(a);
  Tensors attributes;
  for (const std::string& name : file.names("attributes")) attributes[name] = file.read("attributes/" + name);
  for (int64_t i = 0; i < 600; i += 37) {
    const auto of = [&](const char* name) { return attributes.at(name)[i].item(); };
    const ShapeAttributes at{of("shape").toLong(), of("style").toLong(), of("colour").toLong(),
                             of("tx").toDouble(),  of("ty").toDouble(),  of("theta").toDouble()};
    EXPECT_EQ(shape_class(at), data.labels[i].item<int64_t>());
    EXPECT_TRUE(at::equal(render_shape(at), data.images.read(at::tensor({i}))[0])) << i;
  }
  EXPECT_LE(attributes.at("tx").abs().max().item<double>(), shapes_translation);
  EXPECT_GT(attributes.at("theta").max().item<double>(), 6.0);
}

}  // namespace
}  // namespace evoke
