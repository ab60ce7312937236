// What values units take over images, and which images excite them most: sums of one pass, whose state can be kept and taken up again.
#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/nouns/nouns.h"

namespace evoke {

/// What values U units take over images, in one pass; memory grows with the units (about 3 KiB each) and not with the images.
///
/// Moments are taken of each 64 images that follow one another (rows 64·i … 64·i + 63, as far as they are seen), and these are joined in
/// pairs, then pairs of pairs, as the leaves of a binary tree that row numbers alone determine (Chan 1979). So every figure depends on
/// values and rows and not on batches, to the last bit; and parts of the images that begin at multiples of 64 rows join to what one pass
/// gives: a part joins only what cannot lie under one node with a leaf before its own.
///
/// The histogram has 256 bins of equal width w, a power of two, whose edges are multiples of w: the narrowest such grid that holds
/// everything seen so far (and no narrower than 2⁻³⁰ of the largest magnitude). When a value falls outside, bins merge in pairs, exactly.
/// So it depends on the values alone and not on their order or batches, and w < (max - min)/127 wherever it is not at that floor.
class UnitStatistics {
 public:
  static constexpr int64_t bins = 256, leaf_rows = 64;
  explicit UnitStatistics(int64_t units) : units_(units) {}

  /// values: floating point [N,U], finite, on any device; rows: int64 [N] on the CPU, which images they are, rising from call to call.
  void see(const Tensor& values, const Tensor& rows);
  /// Adds what another pass saw, of rows behind all of these and of no leaf of theirs: as if one pass had seen both.
  void join(const UnitStatistics& after);

  // Each float64 [U] on the CPU. At least one image has to have been seen.

  int64_t count() const { return count_; }
  Tensor mean() const { return whole().select(0, 0).cpu(); }
  Tensor deviation() const;  // standard deviation of the images seen (divided by their number)
  Tensor least() const { return least_.cpu(); }
  Tensor most() const { return most_.cpu(); }
  Tensor zero_share() const;      // of values that are exactly 0
  Tensor positive_share() const;  // of values above 0
  /// (Σ r/n)² / (Σ r²/n), r = max(a, 0) (Rolls & Tovee 1995): 1 for a unit that answers every image alike, 1/n for one that answers one.
  /// NaN where no value is above 0.
  Tensor treves_rolls() const;
  /// Lifetime sparseness (1 - treves_rolls) / (1 - 1/n) (Vinje & Gallant 2000): 0 for every image alike, 1 for one image alone.
  Tensor sparseness() const;
  /// w, which is also the bound on the error of a quantile.
  Tensor bin_width() const { return width_.cpu(); }

  Tensor histogram() const { return counts_.cpu(); }  // int64 [U,256]
  Tensor edges() const;                               // float64 [U,257]
  /// float64 [U,Q] at these shares in [0,1]: between the values of rank (n - 1)·share rounded down and up, as NumPy has it, each of which
  /// is taken to lie evenly within its bin. Less than bin_width from the truth; exact at 0, at 1 and where the values are 0.
  Tensor quantiles(const std::vector<double>& shares) const;

  /// The whole state, and back again; what follows is as if nothing had happened.
  Tensors pack() const;
  void unpack(const Tensors&, at::Device);

 private:
  // What is known of some leaves that follow one another: mean, sum of squares from it, Σr and Σr².
  struct Node {
    int64_t leaf = 0, count = 0;  // one of the leaves; images in all
    Tensor sums;                  // float64 [4,U]
  };
  static Node joined(const Node& a, const Node& b);
  void push(Node node);                               // joins the subtrees that this one shows to be complete
  void close_leaf();                                  // the images of an unfinished leaf become a node
  void cover(const Tensor& low, const Tensor& high);  // the grid grows until it holds these too, each [U]
  Tensor whole() const;                               // of all images, [4,U]
  Tensor value_of_rank(int64_t rank) const;           // [U], from 0

  int64_t units_, count_ = 0;
  std::vector<Node> nodes_;         // subtrees that wait for their other half, the larger first
  std::vector<Tensor> unfinished_;  // values [n,U] of the last leaf
  int64_t leaf_ = 0;                // which that is
  int64_t first_ = 0;               // the first leaf of all: what would lie under one node with an earlier one is not joined yet
  Tensor least_, most_, zeros_, positives_;
  Tensor counts_, start_, width_;  // the first bin begins at start · width
};

/// The `keep` images that have the largest values of each of U units, or the smallest; of equals the earlier.
class Extremes {
 public:
  enum class End { most, least };
  Extremes(int64_t units, int64_t keep, End end) : units_(units), keep_(keep), sign_(end == End::most ? 1 : -1) {}

  /// values: float64 [N,U]; rows: int64 [N], which images they are; places: int64 [N,U], or undefined.
  void see(const Tensor& values, const Tensor& rows, const Tensor& places);
  /// Adds what another pass kept, of rows behind all of these.
  void join(const Extremes& after);

  // Each [U,keep] on the CPU, the most extreme first; NaN and -1 where there were fewer images.

  Tensor values() const;  // float64
  Tensor rows() const { return rows_.cpu(); }
  Tensor places() const { return places_.cpu(); }  // -1 where none were given

  /// The whole state, and back again.
  Tensors pack() const;
  void unpack(const Tensors&, at::Device);

 private:
  int64_t units_, keep_, sign_;
  Tensor best_, rows_, places_;  // best: values times sign
};

/// What a layer's activations a of N images say of its units: a value each, float64 [N,U], and the place it was found at, int64 [N,U]
/// (y·W + x, or a token; undefined where there is none). of: "max" over places (the first of equals), "mean" over places, or "centre", the
/// usual place (classifiers/objectives.h).
std::pair<Tensor, Tensor> unit_values(const Tensor& a, const Layer&, const std::string& of);

}  // namespace evoke
