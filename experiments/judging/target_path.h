// The path through the target itself. A network can be made to answer synthesized images otherwise than photographs, so that what its units
// are shown to prefer says nothing about what excites them in the world (Geirhos et al. 2024); what the pictures pass on their way to the
// unit then is not what the real images pass that excite it.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "experiments/judging/figures.h"
#include "experiments/judging/judges.h"

namespace evoke {

/// A depth of the target, and where real images lie there: by the statistics of each channel (depth_features), standardized.
/// A picture made for a unit is on the unit's path at this depth where it lies in the manifold of the real images that excite the unit
/// most: those whose score is among the largest M/classes of M (of a unit that is no class M/50; at least 5), each with a ball as far as
/// its 5th nearest among all real images, but no smaller than the median of these radii (Differs from Kynkäänniemi 2019: real images may
/// vary so little that nothing made is as near to them as they are to one another). All balls are stretched by one factor: the largest that
/// leaves 98 % of the real images that do not excite the unit outside.
struct TargetDepth {
  std::string layer;
  Tensor mean, scale;  // float [4C]
  Manifold real;       // of M real images, whatever excites them
  // For the units that the depths were tried by last: the stretch, and the shares inside of what marks the ends of the scale. The depth is
  // used where at least 0.90 of the left out are, and at most 0.10 of what is no photograph.
  double stretch = 1;
  double left_out = 0;   // real images that the manifolds do not know, and that excite the unit as much
  double others = 0;     // real images that do not
  double scrambled = 0;  // the first ones, their phases scrambled
  double noise = 0;      // uniform random pixels
  bool used = false;
};

/// The target's depths, and what the real images excite. Made by add_target_path.
struct TargetPath {
  std::vector<TargetDepth> depths;       // from shallow to deep, at most five, evenly over the network
  RealImages real;                       // M that are known, and behind them L that are left out
  int64_t known = 0;                     // M
  Tensors controls;                      // LAYER/left_out [L,4C], LAYER/scrambled [L,4C] and LAYER/noise [100,4C]: standardized statistics
  std::map<std::string, Tensor> scores;  // [M+L] by a column's name: of classes at once, of others at the first need
  // Of the units that the depths were tried by last, those on the path at more than half of the depths that are used; NaN where none is.
  Interval left_out, others;
  std::string tried_for;  // their names
};

/// Makes a judge of the target's own path and joins it to `judges`: a pass of the target over the real images (of `known` at most 3,000, of
/// `left_out` at most 600, both evenly). It finds "target_path" float32 [N,D] of each picture: how near it is, at each depth, to the
/// nearest real image that excites its unit, in radii of that one's ball; NaN for what cannot be asked of one picture, and for
/// units that half of the real images excite as much as any, as they do a silent one. Nothing is joined where there are fewer than 100
/// known or 10 left out, where the target has no layer of a map, or where the program was interrupted.
void add_target_path(Judges& judges, const RealImages& known, const RealImages& left_out);

/// Says which depths are used for these columns, from what marks the ends of the scale for at most 60 units of each of their layers, evenly
/// over it, so that what is said of a picture hangs on no other; with fewer than 10 images left out that excite any of them none is used.
void try_depths(const Judges&, const std::vector<Column>&);

/// Whether the path can tell: some depth is used, and of the real images that do not excite the units at most 0.10 are on it all the same.
bool can_tell(const TargetPath&);
/// Which of the pictures are on their units' paths at one depth, and at more than half of the depths that are used (undefined where none
/// is): float32 [N], 1, 0, or NaN where that cannot be asked of one picture.
Tensor at_depth(const TargetPath&, const Tensors& findings, size_t depth);
Tensor on_path(const TargetPath&, const Tensors& findings);

/// The units that are off the path: fewer of their pictures are on it than can be chance (5 % for all units together: a one-sided binomial
/// test with Bonferroni's correction) if 0.90 of them were, or as many as of the real images left out where those are fewer. None where the
/// path cannot tell.
std::vector<Column> off_path(const TargetPath&, const Judged&);

}  // namespace evoke
