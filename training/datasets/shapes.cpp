#include "training/datasets/shapes.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <boost/random/mersenne_twister.hpp>
#include <boost/random/uniform_int_distribution.hpp>
#include <boost/random/uniform_real_distribution.hpp>
#include <cmath>
#include <numbers>
#include <opencv2/imgproc.hpp>

#include "core/error.h"
#include "core/log.h"

namespace evoke {

namespace {

constexpr int supersampling = 4, fraction_bits = 4;
constexpr double stroke = 2.0, line_half = 11.0, line_gap_half = 3.0, bar_half = 3.5, square_half = 8.5, circle_radius = 10.0,
                 triangle_radius = 11.5, rainbow_half = 11.0;
constexpr std::array<std::array<double, 3>, 4> plain_colours{{{255, 40, 40}, {40, 220, 60}, {60, 90, 255}, {255, 225, 30}}};

// Draws in the shape's own frame: pixels, before rotation and translation.
class Pen {
 public:
  explicit Pen(const ShapeAttributes& a)
      : centre_x_(shapes_size / 2.0 + a.tx), centre_y_(shapes_size / 2.0 + a.ty), cosine_(std::cos(a.theta)), sine_(std::sin(a.theta)) {}

  void line(double x0, double y0, double x1, double y1) {
    cv::line(mask_, at(x0, y0), at(x1, y1), 255, thickness, cv::LINE_AA, fraction_bits);
  }
  void polygon(const std::vector<std::array<double, 2>>& corners, bool filled) {
    std::vector<cv::Point> points;
    for (const auto& [x, y] : corners) points.push_back(at(x, y));
    if (filled)
      cv::fillPoly(mask_, std::vector<std::vector<cv::Point>>{points}, 255, cv::LINE_AA, fraction_bits);
    else
      cv::polylines(mask_, points, true, 255, thickness, cv::LINE_AA, fraction_bits);
  }
  void circle(double radius, bool filled) {
    cv::circle(mask_, at(0, 0), static_cast<int>(std::lround(radius * supersampling * (1 << fraction_bits))), 255, filled ? -1 : thickness,
               cv::LINE_AA, fraction_bits);
  }
  Tensor coverage() const {
    cv::Mat small;
    cv::resize(mask_, small, {shapes_size, shapes_size}, 0, 0, cv::INTER_AREA);
    return at::from_blob(small.data, {shapes_size, shapes_size}, at::kByte).to(at::kFloat).div_(255.0);
  }

 private:
  static constexpr int thickness = static_cast<int>(stroke * supersampling);
  // A point in OpenCV's fixed-point pixel-centre coordinates.
  cv::Point at(double x, double y) const {
    const auto fixed = [](double v) { return static_cast<int>(std::lround((v * supersampling - 0.5) * (1 << fraction_bits))); };
    return {fixed(centre_x_ + x * cosine_ - y * sine_), fixed(centre_y_ + x * sine_ + y * cosine_)};
  }
  double centre_x_, centre_y_, cosine_, sine_;
  cv::Mat mask_ = cv::Mat::zeros(shapes_size * supersampling, shapes_size* supersampling, CV_8UC1);
};

std::vector<std::array<double, 2>> corners_of(int64_t shape, double scale) {
  if (shape == 1) {
    const double h = square_half * scale;
    return {{-h, -h}, {h, -h}, {h, h}, {-h, h}};
  }
  std::vector<std::array<double, 2>> out;
  for (int i = 0; i < 3; ++i) {
    const double angle = i * 2 * std::numbers::pi / 3, r = triangle_radius * scale;
    out.push_back({r * std::cos(angle), r * std::sin(angle)});
  }
  return out;
}

// Full saturation and value: hue in degrees, [0, 360), to RGB in [0, 255].
std::array<double, 3> hue_to_rgb(double hue) {
  const double sector = hue / 60.0, x = 255.0 * (1 - std::abs(std::fmod(sector, 2.0) - 1));
  switch (static_cast<int>(sector)) {
    case 0:
      return {255, x, 0};
    case 1:
      return {x, 255, 0};
    case 2:
      return {0, 255, x};
    case 3:
      return {0, x, 255};
    case 4:
      return {x, 0, 255};
    default:
      return {255, 0, x};
  }
}

}  // namespace

int64_t shape_class(const ShapeAttributes& a) { return a.shape * 15 + a.style * 5 + a.colour; }

ShapeAttributes attributes_of_class(int64_t label) {
  require(label >= 0 && label < shape_classes, Failure::runtime, "shapes: found class ", label, ", expected 0 to ", shape_classes - 1);
  ShapeAttributes out;
  out.shape = label / 15;
  out.style = label % 15 / 5;
  out.colour = label % 5;
  return out;
}

std::vector<std::string> shape_labels() {
  const char* shapes[] = {"line", "square", "circle", "triangle"};
  const char* styles[] = {"single", "double", "filled"};
  const char* colours[] = {"red", "green", "blue", "yellow", "rainbow"};
  std::vector<std::string> out;
  for (int64_t label = 0; label < shape_classes; ++label) {
    const ShapeAttributes a = attributes_of_class(label);
    out.push_back(text(colours[a.colour], " ", styles[a.style], " ", shapes[a.shape]));
  }
  return out;
}

Tensor shape_coverage(const ShapeAttributes& a) {
  Pen pen(a);
  const bool filled = a.style == 2;
  if (a.shape == 0) {
    if (a.style == 0) pen.line(-line_half, 0, line_half, 0);
    if (a.style == 1)
      for (const double y : {-line_gap_half, line_gap_half}) pen.line(-line_half, y, line_half, y);
    if (filled) pen.polygon({{-line_half, -bar_half}, {line_half, -bar_half}, {line_half, bar_half}, {-line_half, bar_half}}, true);
    return pen.coverage();
  }
  for (const double scale : {1.0, 0.5}) {
    if (scale < 1.0 && a.style != 1) break;
    if (a.shape == 2)
      pen.circle(circle_radius * scale, filled);
    else
      pen.polygon(corners_of(a.shape, scale), filled);
  }
  return pen.coverage();
}

Tensor render_shape(const ShapeAttributes& a) {
  const Tensor coverage = shape_coverage(a);
  Tensor image = at::empty({shapes_size, shapes_size, 3}, at::kByte);
  const auto covered = coverage.accessor<float, 2>();
  auto out = image.accessor<uint8_t, 3>();
  const double cosine = std::cos(a.theta), sine = std::sin(a.theta);
  for (int64_t y = 0; y < shapes_size; ++y)
    for (int64_t x = 0; x < shapes_size; ++x) {
      std::array<double, 3> colour;
      if (a.colour < 4) {
        colour = plain_colours[a.colour];
      } else {
        const double along = (x + 0.5 - shapes_size / 2.0 - a.tx) * cosine + (y + 0.5 - shapes_size / 2.0 - a.ty) * sine;
        colour = hue_to_rgb(300.0 * std::clamp((along + rainbow_half) / (2 * rainbow_half), 0.0, 1.0));
      }
      for (int64_t c = 0; c < 3; ++c) out[y][x][c] = static_cast<uint8_t>(std::lround(covered[y][x] * colour[c]));
    }
  return image;
}

std::map<std::string, std::string> shapes_facts(uint64_t seed, int64_t images) {
  return {{"source", "shapes"}, {"seed", std::to_string(seed)}, {"images", std::to_string(images)}};
}

DatasetWritten write_shapes(const std::string& file, uint64_t seed, int64_t images) {
  require(images >= 1, Failure::usage, "data shapes: found ", images, " images, expected at least 1");
  boost::random::mt19937_64 engine(seed);
  // Fisher and Yates, written out: the standard library's shuffle differs between libraries.
  const auto shuffle = [&](std::vector<int64_t>& values) {
    for (int64_t i = static_cast<int64_t>(values.size()) - 1; i > 0; --i)
      std::swap(values[i], values[boost::random::uniform_int_distribution<int64_t>(0, i)(engine)]);
  };
  std::vector<int64_t> classes(images), order(images);
  for (int64_t i = 0; i < images; ++i) {
    classes[i] = i % shape_classes;
    order[i] = i;
  }
  shuffle(classes);
  shuffle(order);

  DatasetColumns columns;
  columns.label_names = shape_labels();
  columns.labels = at::tensor(classes, at::kLong);
  columns.split = at::zeros({images}, at::kByte);
  auto* split = columns.split.data_ptr<uint8_t>();
  const int64_t held_out = images / 10;
  for (int64_t i = 0; i < 2 * held_out; ++i) split[order[i]] = i < held_out ? 1 : 2;

  for (const char* name : {"shape", "style", "colour"}) columns.attributes[name] = at::empty({images}, at::kLong);
  for (const char* name : {"tx", "ty", "theta"}) columns.attributes[name] = at::empty({images}, at::kFloat);
  const boost::random::uniform_real_distribution<double> place(-shapes_translation, shapes_translation), turn(0.0, 2 * std::numbers::pi);
  int64_t at = 0;
  const auto next = [&]() -> Tensor {
    if (at == images) return {};
    ShapeAttributes a = attributes_of_class(classes[at]);
    // Rounded to what the file keeps, so that an image is exactly the rendering of its stored attributes.
    const auto stored = [&](const auto& distribution) { return static_cast<double>(static_cast<float>(distribution(engine))); };
    a.tx = stored(place);
    a.ty = stored(place);
    a.theta = stored(turn);
    for (const auto& [name, value] : {std::pair{"shape", a.shape}, {"style", a.style}, {"colour", a.colour}})
      columns.attributes[name].data_ptr<int64_t>()[at] = value;
    for (const auto& [name, value] : {std::pair{"tx", a.tx}, {"ty", a.ty}, {"theta", a.theta}})
      columns.attributes[name].data_ptr<float>()[at] = static_cast<float>(value);
    ++at;
    return render_shape(a);
  };
  return write_dataset(
      file, "data shapes", {shapes_size, shapes_size, 3}, images, next, [&] { return columns; }, shapes_facts(seed, images));
}

}  // namespace evoke
