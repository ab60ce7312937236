// The real images that a report shows beside synthesized ones.
#pragma once
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/nouns/unit.h"
#include "core/numbers/tensor.h"

namespace evoke {

class Hdf5;

/// What a run of `evoke exemplars` found, and the images themselves, read where they are needed.
class ExemplarImages {
 public:
  /// Throws Failure::input for what is no finished run of evoke exemplars.
  explicit ExemplarImages(const std::string& folder);
  ~ExemplarImages();
  ExemplarImages(ExemplarImages&&) noexcept;

  /// SHA-256 of the network that was looked at.
  const std::string& network() const { return network_; }
  /// Are the images still where they were?
  bool images_are_there() const { return there_; }
  const std::string& data() const { return data_; }

  /// An image that excites a unit, and what the unit answers to it.
  struct Exemplar {
    int64_t row = -1;
    double value = 0;
  };
  struct Ends {
    std::vector<Exemplar> top, bottom;  // the most extreme first
  };
  /// At most `most` at either end; nothing for a unit of a layer that was not looked at.
  Ends of(const Unit&, int64_t most) const;
  /// The image of a row, uint8 [H,W,C], fitted to height × width where it comes from a folder of images of any size.
  Tensor image(int64_t row, int64_t height, int64_t width) const;

 private:
  std::string data_, network_;
  bool there_ = false;
  std::unique_ptr<Hdf5> found_, dataset_;
  std::vector<std::string> paths_;  // of a folder of images, by row
};

}  // namespace evoke
