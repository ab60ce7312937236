// What a run found: one row a picture, as results.h5 holds it, as pictures in a folder and as a contact sheet.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "core/nouns/nouns.h"
#include "core/records/trace.h"

namespace evoke {

/// One row a picture.
struct Results {
  Tensor images;                    // uint8 [N,H,W,C]
  Tensor codes;                     // float32 [N,…]
  std::vector<Column> columns;      // N: what each row climbed
  std::vector<std::string> labels;  // N: the label of that unit; "" where it has none
  Tensor chain;                     // int64 [N], the index among the chains of its column
  uint64_t seed = 0;
  Tensor activation;                // float32 [N], the column's score of the final picture, without transform, prior and weights
  std::vector<std::string> status;  // N: "ok", or what befell the row ("searched at step 20"…)
  std::shared_ptr<Trace> trace;     // what was recorded on the way; may be missing, and reading leaves it on disk
};

/// "logits:54 rainbow double triangle", and "12.3", the activation, of a row.
std::string unit_caption(const Results&, int64_t row);
std::string activation_caption(const Results&, int64_t row);

/// Writes a file of results, atomically: /images, /codes, /units/{name,label,layer,unit,y,x} (unit -1 and layer "" where the column is no
/// single unit), /chain, /seed, /activation/final, /status; and of the trace /steps, /activation/trace [N,S] (the column's score at each
/// recorded step, seen through that step's transform), /terms/<name> [N,S] ("value" is what was climbed, weights and prior included) and
/// /snapshots [N,S',H,W,C]. The bytes are a function of the values.
void write_results(const std::string& file, const Results&);
/// Rows first … first + count - 1 (count -1: all that follow), without the trace; codes, which are large where they are images, only where
/// they are asked for. Throws Failure::input where it is no such file.
Results read_results(const std::string& file, int64_t first = 0, int64_t count = -1, bool codes = true);
/// How many rows a file of results has.
int64_t rows_of_results(const std::string& file);
/// One file of the rows of several, in their order, a few MiB at a time, atomically; its bytes do not depend on how the rows were parted.
/// Throws Failure::input where the files are not parts of one run (other shapes, steps, terms or seeds).
void join_results(const std::vector<std::string>& parts, const std::string& file);

/// results.h5 of a run directory.
Results load_results(const std::string& run_directory, bool codes = true);

/// images/NNNN_layer_unit_chain.png for each row, NNNN counted from `first`, into a run directory.
void save_pictures(const std::string& run_directory, const Results&, int64_t first);
/// contact_sheet.png of a run directory's results.h5: a line a unit, with labels and activations; the first 64 units, 10 chains each.
void save_contact_sheet(const std::string& run_directory);

}  // namespace evoke
