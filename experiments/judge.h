// Judging pictures of units: what the target, an oracle that took no part, and the render judge see in them.
#pragma once
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "core/nouns/nouns.h"
#include "core/records/results.h"
#include "experiments/figures.h"
#include "experiments/options.h"
#include "experiments/render_judge.h"

namespace evoke {

/// Those who judge, and the real images that anchor them.
struct Judges {
  at::Device device{at::kCPU};
  Classifier target, oracle;
  std::optional<RenderTemplates> templates;  // none where pictures are not those of the shapes dataset
  Tensor test_images;                        // uint8 [M,H,W,C], the test split; undefined where no dataset was named
  Tensor test_labels;                        // int64 [M]
};

/// Loads the oracle (`oracle`: a file, or empty for the shipped one) and the test split of `data` (a file, or empty: percentiles and
/// anchors of real images are left out, which is said aloud once). The render judge serves targets of 60 classes on 48×48 RGB images.
/// Throws Failure::input when the oracle has other classes than the target, or the dataset other images.
Judges make_judges(Classifier target, const std::string& oracle, const std::string& data, at::Device);

/// What was found of each picture, N rows on the CPU.
struct Judgement {
  Tensor wanted;                      // int64 [N], the class that the picture's unit stands for; -1: a unit that is no class
  Tensor target_class, oracle_class;  // int64 [N], the largest logit
  RenderVerdict render;               // undefined tensors without a render judge
  Tensor activation;                  // float32 [N], the unit's own value in the target
  Tensor percentile;                  // float64 [N], of that among the real test images' values, 0 … 100; NaN without them
};
/// images: uint8 [N,H,W,C]; units: one a picture.
Judgement judge_pictures(const Judges&, const Tensor& images, const std::vector<UnitPlace>& units);

/// The figures of some pictures. Shares and medians are of the pictures whose unit is a class; NaN where there are none.
struct Figures {
  int64_t pictures = 0;
  Interval target, oracle, render;  // share of pictures read as their unit's class
  Interval shape_rmse;              // median distance to the nearest renderable image
  Interval alike;                   // share of all pictures that the oracle reads as the target does, whatever was wanted
  Interval percentile;              // median, of all pictures
  double diversity = 0;  // Vendi score (cosine of pixels) of the pictures both judges agree on, mean over classes, none counting 0; for
                         // units that are no class, of all their pictures
  double variety = 0;    // Vendi score of all pictures together, whoever agrees
};
/// rows: int64, which pictures; undefined: all.
Figures figures_of(const Judgement&, const Tensor& images, const std::vector<UnitPlace>& units, const Tensor& rows = {});

/// Pictures that mark the ends of the scale, one for each of `units`.
struct Anchor {
  std::string name;
  Tensor images;  // uint8 [N,H,W,C]
};
/// "real images": test images of each unit's class (any for other units), where there is a dataset; "noise": uniform random pixels.
std::vector<Anchor> anchors(const Judges&, const std::vector<UnitPlace>& units, uint64_t seed);

/// A row of the table of figures. seconds, images: NaN and -1 where nothing was run.
struct TableRow {
  std::string name;
  Figures figures;
  double seconds = 0;
  int64_t images = -1;
};
nlohmann::json table_json(const std::vector<TableRow>&);
/// Markdown, padded so that it reads in a terminal.
std::string table_markdown(const std::vector<TableRow>&, const std::string& first_column);

/// "logits:54", "conv3:5@12,9".
std::string place_text(const UnitPlace&);

/// The weights of the oracle that comes with evoke.
std::string shipped_oracle();

struct JudgeOptions : CommonOptions {
  std::string run, oracle, data;
  bool units = false;  // a row a unit, too
};
/// Judges a run directory: writes
/// /judge/{wanted,target_class,oracle_class,render_class,shape_rmse,margin,tx,ty,theta,activation,percentile} into its results.h5
/// (atomically; an earlier judgement is replaced), says the table. Returns the exit code.
int judge(const JudgeOptions&);

}  // namespace evoke
