// The figures of a judgement, and the table that shows them.
#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "experiments/judging/figures.h"
#include "experiments/judging/judges.h"
#include "experiments/judging/target_path.h"
#include "experiments/judging/witness.h"

namespace evoke {

/// The figures of some pictures. Shares and medians are of the pictures whose unit is a class, unless something else is said; NaN where
/// there are none, and where nobody was asked.
struct Figures {
  int64_t pictures = 0;
  Interval target, render;        // share of pictures read as their unit's class
  std::vector<Interval> oracles;  // the same by each oracle
  double oracle_spread = 0;       // the largest of these shares minus the smallest; NaN with fewer than two oracles
  Interval shape_rmse;            // median distance to the nearest renderable image
  Interval alike;                 // share of all pictures that the first oracle reads as the target does, whatever was wanted
  Interval percentile;            // median, of all pictures
  double diversity = 0;           // Vendi score (cosine of pixels) of the pictures that all oracles and the render judge agree on, mean
                                  // over classes, none counting 0; for units that are no class, of all their pictures
  double variety = 0;             // Vendi score of all pictures together (at most 1,000 of them, evenly), whoever agrees

  Interval witness, witness_top5, witness_probability;  // shares whose class is the witness's first and among its first five; mean
  Interval path, path_of_means;   // share of all pictures inside the manifolds of photographs at every depth that is used: by statistics,
                                  // and by means, which are stricter (Depth)
  std::vector<Interval> path_at;  // and at each depth that was tried, in their order
  Interval spectrum;              // median slope of all pictures
  // Share of all pictures that are on their units' paths through the target itself (on_path), of those of which it can be said; NaN where
  // the path cannot tell.
  Interval target_path;
  std::vector<Interval> target_path_at;  // and at each of its depths
  // Of all pictures against the photographs that the witness knows, in its features (Witness), the Fréchet distance along their 64 widest
  // directions, where few pictures have a covariance; NaN for fewer than 20 pictures. The anchors say what so many photographs have.
  Interval frechet, precision, recall;
  double vendi = 0;  // effective number of different pictures (cosine of the features) of those that pass, mean over units, none counting
                     // 0: inside by statistics at every used depth, and read as its class by the witness where the unit is one
};
/// rows: int64, which pictures; undefined: all.
Figures figures_of(const Judges&, const Judged&, const Tensor& rows = {});

/// A row of the table of figures. seconds, images: NaN and -1 where nothing was run.
struct TableRow {
  std::string name;
  Figures figures;
  double seconds = 0;
  int64_t images = -1;
};
nlohmann::json table_json(const Judges&, const std::vector<TableRow>&);
/// Markdown, padded so that it reads in a terminal; without the columns that have nothing in any row.
std::string table_markdown(const Judges&, const std::vector<TableRow>&, const std::string& first_column);

/// What became of each depth that was tried, of the witness and of the target's own path: its shares of what marks the ends of the scale,
/// and of these rows; whether it is used.
nlohmann::json depths_json(const Judges&);
nlohmann::json target_depths_json(const Judges&);
std::string depths_markdown(const Judges&, const std::vector<TableRow>&);

/// Lines of cells, the first one the heads, as Markdown: words to the left, numbers to the right, padded so that it reads in a terminal. A
/// column that is "-" in every line but the first is left out.
std::string markdown(const std::vector<std::vector<std::string>>& lines);

/// "0.123", "-" for NaN; with its interval.
std::string decimals(double value, int places);
std::string with_interval(const Interval&, int places);

}  // namespace evoke
