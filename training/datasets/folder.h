// Photographs in folders.
#pragma once
#include <string>
#include <vector>

#include "training/datasets/dataset.h"

namespace evoke {

/// The images in a folder and in those within it, by their content and not by their names. Hidden files and folders are left out.
struct ImageFiles {
  std::vector<std::string> images;  // relative to the folder, sorted
  std::vector<std::string> others;  // the first few files that are no images
  int64_t passed_over = 0;          // how many those are in all
};
ImageFiles image_files(const std::string& folder);
/// Says in one line that files were passed over, if any were.
void say_passed_over(const std::string& where, const ImageFiles&);

/// An image, uint8 [H,W,C], cropped to the aspect of height × width about its centre and resampled to that size: by area where it
/// shrinks, linearly where it grows.
Tensor fit_image(const Tensor& image, int64_t height, int64_t width);

/// One folder a class (in the order of their names), with images of any format in it and in the folders within it; each is fitted to
/// size × size. A folder without folders is one class by itself, named after it. Split 8:1:1 in an order drawn from the seed; folders that
/// are all called train, val (valid, validation) or test, train among them, and hold folders are the split instead, and the classes are
/// within them (a part that is missing is a tenth of train). /files are the images' names from `folder` on. A folder without an image is no
/// class, which is warned of; files that are no images are passed over and counted. Throws Failure::input naming the first image that is
/// torn, unless skip_broken, which warns of each and goes on. facts: attributes of the file beside source, seed and size. Memory: the
/// names of the files, and little else.
DatasetWritten write_folder(const std::string& file, const std::string& folder, int64_t size, uint64_t seed, bool skip_broken = false,
                            std::map<std::string, std::string> facts = {});

}  // namespace evoke
