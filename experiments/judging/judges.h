// Those who look at pictures: the network that was climbed, oracles that took no part, and the render judge; what they find, and where that
// is kept.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/nouns/nouns.h"
#include "experiments/judging/render_judge.h"

namespace evoke {

struct TargetPath;
struct Witness;

/// Pictures with what each is of, read some at a time.
struct Pictures {
  std::vector<Column> columns;                               // N
  std::function<Tensor(int64_t first, int64_t count)> read;  // uint8 [count,H,W,C]
  int64_t count() const { return static_cast<int64_t>(columns.size()); }
};
/// Those of a tensor, uint8 [N,H,W,C]. Throws Failure::input unless there are as many columns.
Pictures pictures_in(const Tensor& images, std::vector<Column> columns);
/// Those of a run directory's results.h5.
Pictures pictures_of_run(const std::string& run);

/// Real images, read as they are needed.
struct RealImages {
  int64_t count = 0;                               // 0: there are none
  Tensor labels;                                   // int64 [M]; undefined where no classes of the target are known
  std::function<Tensor(const Tensor& rows)> read;  // int64 [n] among 0 … M-1 -> uint8 [n,H,W,C], of the size that the target sees
};
/// Those of a dataset, by its splits: of the test split, which judge, and of the others. Throws Failure::input where the test split is
/// empty, or the images are not those that the target sees.
struct SplitImages {
  RealImages test, others;
};
SplitImages images_of_dataset(const std::string& file, const ImageSpec& target);

/// Somebody who looks at pictures.
struct Judge {
  std::string name, sentence;
  /// What it finds of each picture: name -> [N] or [N,F] on the CPU. images: uint8 [N,H,W,C], of the size that the target sees.
  std::function<Tensors(const Tensor& images, const std::vector<Column>& columns)> look;
};
/// The network that was climbed. Finds "wanted" int64 (the class that a picture's unit stands for; -1: a unit that is no class),
/// "target_class" int64 (the largest logit) and "activation" float32: the unit's own value (of a map's unit without
/// a place the largest over the map), or the score by `own`, the objective that the
/// pictures were made for, of a column that is no unit; NaN where that depends on other pictures.
Judge target_judge(const Classifier& target, const Objective& own, at::Device);
/// A classifier that took no part, of the target's classes. Finds "<name>_class" int64.
Judge oracle_judge(const std::string& name, const Classifier& oracle, at::Device);
/// No network: the nearest of all images that the shapes dataset could contain. Finds "render_class" int64, "shape_rmse", "margin", "tx",
/// "ty" and "theta" (render_judge.h).
Judge render_judge(const RenderTemplates&);

/// Those who judge a run's pictures, and the real images that anchor them.
struct Judges {
  at::Device device{at::kCPU};
  Classifier target;
  std::string target_identity;  // of its file's content and of how it wants its images
  Objective own;                // that the pictures were made for; scores the columns that are no single unit
  std::vector<Judge> all;
  std::vector<std::string> oracles;  // the names of those among them
  RealImages real;
  std::string real_identity;                // of their dataset's content
  std::shared_ptr<Witness> witness;         // where there is one (witness.h)
  std::shared_ptr<TargetPath> target_path;  // where there are enough real images (target_path.h)
  /// The score of every real image by a column's name, float32 [M]: found at the first need. 4 bytes for each real image and unit.
  std::shared_ptr<std::map<std::string, Tensor>> real_scores = std::make_shared<std::map<std::string, Tensor>>();
};
/// Fills real_scores for the columns that are not there yet, in one pass over the real images; leaves it as it is where the program was
/// interrupted.
void score_real_images(const Judges&, const std::vector<Column>&);
/// The `most` real images that each column's unit likes best, side by side: uint8 [columns·most,height,width,C]; undefined where there are
/// no real images, fewer than that, or the program was interrupted.
Tensor best_real_images(const Judges&, const std::vector<Column>&, int64_t most, int64_t height, int64_t width);
/// Their names and what they are, in one line, which changes with the content of every file that is behind a finding.
std::string names_of(const Judges&);

/// What all of them found, a row a picture: beside the columns of each judge "percentile" float64, where the activation falls among those
/// of the real images (0 … 100; NaN without any); and the pictures themselves, made no larger than 48 pixels, by which they are compared
/// with one another (7 KB each).
struct Judged {
  std::vector<Column> columns;
  Tensors findings;
  Tensor small;  // uint8 [N,h,w,C]
};
/// Looks at the pictures first … first + count - 1 (count -1: all that follow), some at a time; those of another size than the target's are
/// resampled, as they are when they are made. Empty findings where the program was interrupted.
Judged judge_pictures(const Judges&, const Pictures&, int64_t first = 0, int64_t count = -1);

/// Images that mark the ends of the scale: "real images", for each picture another one of its unit's class (any for other units), where
/// there are labels; and "noise", uniform random pixels. Throws Failure::input where a class has no image.
struct Anchor {
  std::string name;
  Pictures pictures;
};
std::vector<Anchor> anchors(const Judges&, const std::vector<Column>& columns, uint64_t seed);

/// The findings stored with a run (/judge/<name> of its results.h5), or nothing where it was judged by others or by nobody: `judges` names
/// them, with their files' content.
Tensors stored_findings(const std::string& run, const std::string& judges);
/// Stores them (atomically; an earlier judgement is replaced). Findings that are there already are left as they are, so that judging again
/// changes no byte.
void store_findings(const std::string& run, const std::string& judges, const Tensors& findings);
/// Who judged a run, and what they found; nothing where nobody did.
std::pair<std::string, Tensors> stored_judgement(const std::string& run);
/// Findings of rows that follow one another, joined. Throws Failure::input where they are not of the same judges.
Tensors joined(const std::vector<Tensors>& parts);
/// A finished run's pictures as these judges see them: what is stored with it, or else judged now and stored. Empty findings where the
/// program was interrupted.
Judged judged_run(const Judges&, const std::string& run, const Pictures&);
/// small, as in Judged, of pictures that were judged before.
Tensor small_pictures(const Pictures&);

/// The different columns of some pictures, and which of them each picture is of.
struct Kinds {
  std::vector<Column> columns;
  Tensor of_row;  // int64 [N]
};
Kinds kinds_of(const std::vector<Column>& columns);
/// A pass over N real images: "scores" float32 [N,K] by each of K columns, a unit by its own value (of a map's unit without a place the
/// largest over the map), another column by the objective that it belongs to; NaN where that cannot be asked of one picture. Empty where
/// the program was interrupted. title: of the progress line.
Tensors scores_of(const Judges&, const RealImages&, const std::vector<Column>& columns, const std::string& title);

/// The class that a column stands for; -1: none.
int64_t class_of(const Classifier&, const Column&);
/// x [N,C,H,W] at the size that a network sees: resampled (bilinear, antialiased) where it differs.
Tensor fitted(const Tensor& x, const ImageSpec&);
/// SHA-256 of a classifier's file, and how it wants its images.
std::string identity_of(const Classifier&, const std::string& file);

}  // namespace evoke
