// The shapes dataset: images that are a known function of their attributes, so that pictures can be judged by the truth.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "core/numbers/tensor.h"
#include "training/datasets/dataset.h"

namespace evoke {

/// What an image shows. The renderer is a function of these.
struct ShapeAttributes {
  int64_t shape = 0;      // 0 line, 1 square, 2 circle, 3 triangle
  int64_t style = 0;      // 0 single line, 1 double line, 2 filled
  int64_t colour = 0;     // 0 red, 1 green, 2 blue, 3 yellow, 4 rainbow
  double tx = 0, ty = 0;  // pixels from the centre, right and down
  double theta = 0;       // radians, clockwise on the screen
};

inline constexpr int64_t shapes_size = 48;         // pixels a side
inline constexpr double shapes_translation = 6.0;  // tx and ty lie in [-6, 6] px
inline constexpr int64_t shape_classes = 60;

/// shape·15 + style·5 + colour, in [0, 60).
int64_t shape_class(const ShapeAttributes&);
/// Shape, style and colour of a class; at the centre, not rotated.
ShapeAttributes attributes_of_class(int64_t label);
/// "red single line" … "rainbow filled triangle", by class.
std::vector<std::string> shape_labels();

/// How much of each pixel is covered, float32 [48,48] in [0,1]: drawn at four times the size with anti-aliasing, then averaged.
/// Colour plays no part.
Tensor shape_coverage(const ShapeAttributes&);
/// The image, uint8 [48,48,3]: coverage times colour on black. A rainbow's hue runs from 0° to 300° along the shape's own x axis, from
/// -11 to 11 px, and turns with it.
Tensor render_shape(const ShapeAttributes&);

/// What write_shapes records in the file of how it was made: attributes of the root.
std::map<std::string, std::string> shapes_facts(uint64_t seed, int64_t images);
/// Renders `images` of them into an HDF5 dataset (layout in dataset.h, with /attributes/{shape,style,colour,tx,ty,theta}): classes as
/// even as can be, in random order, attributes uniform, split 8:1:1. The same seed gives the same bytes. Memory: about 60 bytes an image.
DatasetWritten write_shapes(const std::string& file, uint64_t seed, int64_t images = 24000);

}  // namespace evoke
