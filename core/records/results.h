// What results.h5 holds: a row a picture.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "core/nouns/nouns.h"
#include "core/records/run_directory.h"
#include "core/records/trace.h"

namespace evoke {

/// A unit as the results name it.
struct UnitPlace {
  std::string layer;
  int64_t unit = 0, y = -1, x = -1;  // y, x: -1 at the centre or where the layer has no places
};

/// One row a picture, as results.h5 holds it.
struct Results {
  Tensor images;                 // uint8 [N,H,W,C]
  Tensor codes;                  // float32 [N,…]
  std::vector<UnitPlace> units;  // N
  Tensor chain;                  // int64 [N]
  uint64_t seed = 0;
  Tensor activation;                // float32 [N], the unit's objective at the end
  std::vector<std::string> status;  // N: "ok", or what befell the row ("searched"…)
  std::shared_ptr<Trace> trace;     // what was recorded on the way; may be missing, and load_results leaves it on disk
};
/// Writes results.h5 (atomically, layout of docs: /images, /codes, /units/{layer,unit,y,x}, /chain, /seed, /activation/{final,trace},
/// /terms/<name>, /steps, /snapshots, /status), images/NNNN_layer_unit_chain.png and contact_sheet.png with unit names and activations.
void save_results(RunDirectory&, const Results&, const std::vector<std::string>& captions);
Results load_results(const std::string& run_directory);

}  // namespace evoke
