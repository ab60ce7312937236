// From files to those who judge, and evoke judge itself.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "experiments/experiment.h"
#include "experiments/judging/judges.h"
#include "experiments/judging/table.h"
#include "experiments/judging/witness.h"
#include "experiments/options.h"

namespace evoke {

/// Who is to judge.
struct JudgeFiles {
  std::vector<std::string> oracles;  // weights of classifiers that took no part; none: the shipped ones
  std::string data;                  // dataset of real images
  std::string witness, photographs;  // a classifier of photographs, and a dataset of them
  std::vector<std::string> layers;   // of the witness
  bool no_target_path = false;       // leave out the path through the target itself
};
void describe(Fields&, JudgeFiles&);
/// A flag that may be given more than once takes one word each time, so that a RUN or RECIPE may follow it. After Flags.
void repeatable_judges(CLI::App&);

/// The weights of the oracles that come with evoke.
std::vector<std::string> shipped_oracles();

/// Those that a target and the files allow. The shipped oracles serve targets of 60 classes on 48×48 RGB images, as the render judge does;
/// others have to be of the target's classes. Real images are the photographs, else the test split of `data`; with neither, percentiles
/// and anchors of real images are left out, which is said aloud once.
/// Throws Failure::input when an oracle has other classes than the target, or the dataset other images; and as add_witness does.
Judges make_judges(Classifier target, const std::string& target_file, Objective own, const JudgeFiles&, at::Device);

/// The rows of the anchors, and what was judged for them; says which depths of the target's own path are used for these columns. Empty
/// where the program was interrupted.
std::vector<JudgedAnchor> judged_anchors(const Judges&, const std::vector<Column>& columns, uint64_t seed);

/// The objective of a run's recipe, without penalties: what its pictures are scored by.
Objective own_objective(Recipe&, const Classifier& target);

struct JudgeOptions : CommonOptions {
  std::string run, shard = "0/1";
  std::string network, unit;  // of a folder of images, which has no recipe that names them
  JudgeFiles files;
  bool units = false;      // a row a unit, too
  bool no_report = false;  // leave report.html as it is
};

/// Judges a run directory, stores what is found with it, writes judgement.json (who judged, the table, the depths, the units that are off
/// the target's own path) and report.html, and says the table. A shard judges only its part of the pictures and keeps what it finds beside
/// them, in judge.I.N.safetensors, which the run's own judgement takes up. Returns the exit code.
int judge(const JudgeOptions&);

}  // namespace evoke
