// A run directory as a report reads it, some rows at a time.
#pragma once
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/nouns/unit.h"
#include "core/numbers/tensor.h"
#include "core/storage/hdf5.h"

namespace evoke {

/// What is known of every picture of a run without reading it, and where the rest lies.
class RunPictures {
 public:
  /// A run directory of evoke sample, finished or not. Throws Failure::input as write_report does.
  static RunPictures open(const std::string& run);

  std::string folder, unfinished;  // unfinished: the status of a run that is not done; empty otherwise
  nlohmann::json manifest;
  std::string config;

  // N each: what a row climbed, its label, chain, status, final activation, and the name of its picture in images/ ("" where there is
  // none).
  std::vector<Column> columns;
  std::vector<std::string> labels, status, files;
  std::vector<int64_t> chain;
  std::vector<double> activation;
  int64_t rows() const { return static_cast<int64_t>(columns.size()); }

  Tensor steps;                    // int64 [S], the steps that were recorded; may be undefined
  std::vector<std::string> terms;  // "score", what the column itself scored, and the names of /terms
  std::vector<int64_t> moments;    // the steps after which snapshots were taken
  int64_t height = 0, width = 0;

  std::string judges;  // who judged; empty where nobody did
  Tensors findings;

  Tensor images(int64_t first, int64_t count) const;                          // uint8 [count,H,W,C]
  Tensor trace(const std::string& term, int64_t first, int64_t count) const;  // float32 [count,S]
  Tensor snapshots(int64_t row) const;                                        // uint8 [moments,H,W,C]

 private:
  struct Part {
    Hdf5 file;
    int64_t first = 0, count = 0;
  };
  // Rows as they were read together from one part: a file gives up many as cheaply as one.
  struct Block {
    int64_t first = 0;
    Tensor rows;
  };
  Tensor read(const std::string& array, int64_t first, int64_t count) const;
  void name_files();
  std::vector<Part> parts_;
  mutable std::map<std::string, Block> blocks_;  // of each array the last that was read
};

/// The runs that these folders stand for: a comparison for those of its methods, in their order; any other for itself.
std::vector<std::string> runs_of(const std::vector<std::string>& folders);

/// A line of figures, as those of a table of `evoke judge` (table_json): what a run's findings alone say of these rows. Shares have
/// Wilson's intervals, medians a bootstrap's.
nlohmann::json figures_of_findings(const Tensors& findings, const std::string& name, const Tensor& rows = {});

/// Whose finding each column "<judge>_class" is: "target", "oracle"…; and "witness".
std::vector<std::string> readers_in(const Tensors& findings);
/// bool [N]: did this judge read each picture as its unit's class?
Tensor reads(const Tensors& findings, const std::string& judge);

}  // namespace evoke
