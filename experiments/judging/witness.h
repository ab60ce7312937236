// Judging where no renderer knows the truth: a network that took no part reads the pictures, and real photographs say whether what it sees
// on the way, depth by depth, could have come from a photograph.
#pragma once
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "experiments/judging/figures.h"
#include "experiments/judging/judges.h"

namespace evoke {

/// A depth of a witness, with what photographs look like there, in one of two kinds of features of a layer of C channels:
///
/// | features   |                                                                                                          | how many  |
/// |------------|----------------------------------------------------------------------------------------------------------|-----------|
/// | statistics | mean and deviation of each channel, and how much neighbouring places agree across and down: the           | 4C        |
/// |            | covariance of a channel with itself one place further, divided by its variance                           |           |
/// | means      | the first 64 principal components of the channels' means, each of deviation 1                            | 64 or C   |
///
/// Both are standardized by the photographs' mean and deviation. The means are the stricter: of deviation 1, directions in which
/// photographs hardly vary count as much as any other, and there synthesized pictures differ most.
/// A picture is inside where its nearness to the manifold of photographs (k = 5; Kynkäänniemi 2019) is at most `stretch`.
/// Differs: there the radii are taken as they are, which leaves one photograph in four outside where features are many; here all are
/// stretched by one factor, so that 95 % of the photographs lie within the balls of the others.
struct Depth {
  std::string layer;
  bool means = false;  // the stricter kind of features
  Tensor mean, scale;  // float [4C], or [C]; scale: 1/deviation, 0 where that is 0
  Tensor components;   // float [C,K], of the means: principal directions, each divided by its deviation
  Manifold photographs;
  double stretch = 1;
  // How this depth did on the anchors: the shares that are inside. It is used where it tells photographs from what is none: left out at
  // least 0.90, scrambled and noise at most 0.10.
  double left_out = 0, scrambled = 0, noise = 0, ascent = 0;
  bool used = false;
  std::string name() const { return layer + (means ? " means" : ""); }
};

/// Somebody who took no part, and photographs. Without photographs there are no depths, and no features.
struct Witness {
  Classifier network;
  std::string identity;       // of its file's content and of how it wants its images
  bool same_classes = false;  // as the target has: it can say which class it sees
  std::vector<Depth> depths;  // from shallow to deep; all that were tried
  // The space in which pictures are compared with photographs and with one another: the channel means of the last layer of a map,
  // standardized by the photographs' means and deviations.
  std::string feature_layer;
  Tensor feature_mean, feature_scale;  // float [F]
  Tensor photograph_features;          // float [M,F]
  Tensor widest;                       // float64 [F,K]: the first 64 principal directions of the photographs' features
  std::string folder;                  // where what takes long is kept, beside the photographs
  std::string photographs_identity;
  RealImages left_out;  // photographs that the manifolds do not know; labels undefined
};

struct WitnessOptions {
  std::string witness, photographs;  // files; photographs may be empty
  std::vector<std::string> layers;   // to be tried as depths; none: up to twelve, evenly over the network, each with both kinds of features
};

/// Makes a witness for pictures of `judges`' target, joins it to them, and makes the photographs their real images. The first time that it
/// meets these photographs it looks at all of them (at most 5,000, evenly over the dataset; those of the test split are left out of the
/// manifolds), which takes a pass each and is kept in the folder PHOTOGRAPHS.judged beside them.
/// Throws Failure::usage for the target's own content (it would judge itself) and for layers that have no map; Failure::input for
/// photographs that are smaller than the target's images or fewer than 50 and 10 left out.
void add_witness(Judges& judges, const WitnessOptions&);

/// The judge that a witness is. Finds, of each picture, "witness_class" int64, "witness_rank" int64 (how many classes it is surer of than
/// of the unit's; -1: it cannot be said), "witness_probability" float32 (of the unit's class; NaN), and with photographs "path" float32
/// [N,D] (nearness / stretch at every depth that was tried; at most 1: inside), "spectrum" float64 (spectrum_slope) and "features" float32
/// [N,F].
Judge witness_judge(const std::shared_ptr<const Witness>&, const Classifier& target, at::Device);

/// What marks the ends of the scale where there are photographs: "photographs left out" (at most 100; of the class that the target reads),
/// "phase-scrambled" (their amplitudes with the phases of noise, the same for all channels), "noise" (uniform random pixels), and "pixel
/// ascent" (ten classes climbed by the target under Lucid's transforms, 64 steps, no prior). Made and judged once; says which depths
/// separate them (Depth::used). Empty where the program was interrupted.
struct JudgedAnchor {
  std::string name;
  Judged judged;
};
std::vector<JudgedAnchor> photograph_anchors(const Judges&);

/// The layers to try: those of a map whose names have others inside them (blocks), as far out as there are at least six of them; else every
/// layer of a map; of these at most `most`, evenly, the first and the last among them.
std::vector<std::string> depth_candidates(const std::vector<Layer>&, size_t most);
/// Amplitudes of each image [N,C,H,W] in [0,1] with the phases of noise (one draw a row), clipped.
Tensor phase_scrambled(const Tensor& images, Stream&);
/// The statistics that Depth speaks of: a [N,…] of a layer to [N,4C]; the first C are the means.
Tensor depth_features(const Tensor& a, const Layer&);

/// Rows [N,F] with mean 0 and deviation 1, and what made them so: float [N,F], mean [F] and 1/deviation [F]. What does not vary becomes 0.
std::tuple<Tensor, Tensor, Tensor> standardized(const Tensor& rows);
/// At most `most` of some rows [N], evenly over them.
Tensor evenly(const Tensor& rows, int64_t most);
/// What a network makes of images, uint8 [N,H,W,C], at some layers: some of them at a time, in order, at the network's size.
void each_batch(const Classifier&, const Tensor& images, at::Device, const std::vector<std::string>& taps,
                const std::function<void(const Activations&)>& see);

/// What `make` gives, made once: kept under a hash of `key`, the witness's and the photographs' identities in the witness's folder. Nothing
/// is kept of an empty answer, nor without photographs; a folder that cannot be written is said aloud once.
Tensors remembered(const Witness&, const std::string& key, const std::function<Tensors()>& make);

}  // namespace evoke
