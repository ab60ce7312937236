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

/// Somebody who looks at pictures.
struct Judge {
  std::string name, sentence;
  /// What it finds of each picture: name -> [N] on the CPU. images: uint8 [N,H,W,C]; columns: what each picture is of; own: the objective
  /// that the pictures were made for, which scores the columns that are no single unit.
  std::function<Tensors(const Tensor& images, const std::vector<Column>& columns, const Objective& own)> look;
};

/// Those who judge a run's pictures, and the real images that anchor them.
struct Judges {
  at::Device device{at::kCPU};
  Classifier target;
  std::vector<Judge> all;
  Tensor test_images;  // uint8 [M,H,W,C], the test split; undefined where no dataset was named
  Tensor test_labels;  // int64 [M]
};

/// The network that was climbed. Finds "wanted" int64 (the class that a picture's unit stands for; -1: a unit that is no class),
/// "target_class" int64 (the largest logit), "activation" float32 (the unit's own value, or the own objective's score of a column that is
/// no unit; NaN where that depends on other pictures) and "percentile" float64 (of that among `test_images`, 0 … 100; NaN without them).
Judge target_judge(const Classifier& target, const Tensor& test_images, at::Device);
/// A classifier that took no part. Finds "oracle_class" int64.
Judge oracle_judge(const Classifier& oracle, at::Device);
/// No network: the nearest of all images that the shapes dataset could contain. Finds "render_class" int64, "shape_rmse", "margin", "tx",
/// "ty" and "theta" (experiments/render_judge.h).
Judge render_judge(const RenderTemplates&);

/// Those that a target and a dataset allow: the oracle (`oracle`: a file, or empty for the shipped one) and the test split of `data` (a
/// file, or empty: percentiles and anchors of real images are left out, which is said aloud once). The render judge serves targets of 60
/// classes on 48×48 RGB images. Throws Failure::input when the oracle has other classes than the target, or the dataset other images.
Judges make_judges(Classifier target, const std::string& oracle, const std::string& data, at::Device);

/// Their names and what they are, in one line.
std::string names_of(const Judges&);

/// Everything that all of them find.
Tensors judge_pictures(const Judges&, const Tensor& images, const std::vector<Column>& columns, const Objective& own);
/// The findings stored with a run (/judge/<name> of its results.h5), or nothing where it was judged by others or by nobody: `judges` names
/// them, with their files' content.
Tensors stored_findings(const std::string& run, const std::string& judges);
/// Stores them (atomically; an earlier judgement is replaced).
void store_findings(const std::string& run, const std::string& judges, const Tensors& findings);

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
Figures figures_of(const Tensors& findings, const Tensor& images, const std::vector<Column>& columns, const Tensor& rows = {});

/// Pictures that mark the ends of the scale, one for each of `columns`.
struct Anchor {
  std::string name;
  Tensor images;  // uint8 [N,H,W,C]
};
/// "real images": test images of each unit's class (any for other units), where there is a dataset; "noise": uniform random pixels.
std::vector<Anchor> anchors(const Judges&, const std::vector<Column>& columns, uint64_t seed);

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

struct JudgeOptions : CommonOptions {
  std::string run, oracle, data;
  bool units = false;  // a row a unit, too
};
/// The weights of the oracle that comes with evoke.
std::string shipped_oracle();

/// Judges a run directory, stores what is found with it and says the table. Returns the exit code.
int judge(const JudgeOptions&);

}  // namespace evoke
