// The real images that excite each unit most and least, and what values every unit takes: what is asked, the pass over the images, and what
// it leaves behind.
#pragma once
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/nouns/nouns.h"
#include "core/recipes/recipe.h"
#include "core/records/results.h"
#include "experiments/facets.h"
#include "experiments/shard.h"
#include "experiments/unit_statistics.h"

namespace evoke {

struct CommonOptions;

// ---- What is asked ---------------------------------------------------------------------------------------------------------------------

/// What the flags say…
struct ExemplarsFlags {
  std::string split = "all", of = "max", beside;
  std::vector<std::string> layers, units;
  int64_t keep = 9, batch = 64;
  bool skip_broken = false;
  FacetOptions facets;
};
inline void describe(Fields& f, ExemplarsFlags& o) {
  f("layers", o.layers, "layers (conv3), or units of them (conv3:0-7) to show only those; none: the last layer");
  f("units", o.units, "units on the contact sheets: layer:unit, layer:0-31, a label, @file; none: all, up to 64 a layer");
  f.choice("split", o.split, "which images of a dataset", {"all", "train", "validation", "test"});
  f.choice("of", o.of, "a unit's value where it has places: max (its place is kept), mean or centre (token 0)", {"max", "mean", "centre"});
  f("keep", o.keep, "images", "kept of each unit at either end", {1, 10000});
  f("batch", o.batch, "images",
    "looked at together; a network may round otherwise in another batch, which may change the last bits of values", {1, 65536});
  f.path("beside", o.beside, "a run directory: its pictures beside the exemplars of the same units");
  f("facets", o.facets.count, "",
    "how many kinds of images are told apart among those kept of each unit on the sheets, with an image to begin at for each: "
    "facets.safetensors, for evoke sample --set run.start=images --set run.starts=…; 0: none",
    {0, 1000});
  f("facet_layer", o.facets.layer, "whose activations say which images are alike; none: the last layer but one");
  f("facet_components", o.facets.components, "", "of these activations that count, their principal ones", {1, 10000});
  f("facet_nearest", o.facets.nearest, "images", "of each facet, the most typical ones, that are averaged", {1, 10000});
  f("facet_blur", o.facets.blur, "px", "standard deviation of a Gaussian blur of their mean", {0, 64});
  f("skip_broken", o.skip_broken, "leave out images that are torn, with a warning each");
}

/// … and what the table [exemplars] of the recipe that they stand for adds.
struct ExemplarsTable : ExemplarsFlags {
  std::string data, device = "auto";
  int64_t seed = 0, threads = 0;
};
inline void describe(Fields& f, ExemplarsTable& o) {
  f.path("data", o.data, "dataset (HDF5, made by evoke data) or folder of images");
  describe(f, static_cast<ExemplarsFlags&>(o));
  f("seed", o.seed, "", "of nothing: no number is drawn here", {0, 9e15});
  f("threads", o.threads, "threads", "of LibTorch on the CPU; 0: one a core", {0, 1024});
  f("device", o.device, "auto (CUDA if present), cpu, cuda or cuda:N");
}

/// A layer that is looked at, and which of its units are shown.
struct Asked {
  Layer layer;
  std::vector<int64_t> shown;
};
/// Layers by name ("conv3"), units ("conv3:0-7", labels, @file), or the last layer where nothing is said; the units of `beside`, a run,
/// where there is one and no unit is named. Throws Failure::usage for what does not exist.
std::vector<Asked> asked_of(const ExemplarsTable&, const Classifier&, const std::optional<Results>& beside);

// ---- Where images come from ------------------------------------------------------------------------------------------------------------

/// Images that were read together.
struct ImageBlock {
  Tensor rows;       // int64 [N], rising
  Tensor images;     // uint8 [N,H,W,C]
  int64_t next = 0;  // the row at which the next block begins
};

/// Images in the order of their rows, some at a time; and any of them again.
struct ImageSource {
  int64_t first = 0;               // the row that the first block begins at
  int64_t images = 0;              // how many there will be
  std::vector<std::string> paths;  // of a folder, by row
  /// The images from a row on, at which a block begins; nothing at the end, and where the program was interrupted. Where blocks and batches
  /// begin depends on no shard.
  std::function<std::optional<ImageBlock>(int64_t first)> block;
  std::function<std::map<int64_t, Tensor>(const std::set<int64_t>&)> pictures;    // uint8 [H,W,C] by row, small enough for a sheet
  std::function<Tensor(int64_t row)> image;                                       // uint8 [H,W,C], of the size that is looked at
  std::function<std::map<int64_t, std::string>(const std::set<int64_t>&)> names;  // of files, by row; empty where they are not known
};
/// The images of a shard. Throws Failure::input for a file or folder without images, or of other channels than the classifier's, and
/// Failure::usage for more shards than there are blocks. A shard alone may hold no image of the split.
ImageSource image_source(const ExemplarsTable&, const Classifier&, const Shard& = {});

/// An image at a size for a contact sheet.
Tensor for_sheet(const Tensor& image);

// ---- The pass --------------------------------------------------------------------------------------------------------------------------

/// What is known of a layer's units.
struct Gathered {
  UnitStatistics statistics;
  Extremes top, bottom;
};
/// Nothing yet, for each layer.
std::vector<Gathered> nothing_gathered(const std::vector<Asked>&, const ExemplarsTable&);
/// Saved and taken up again, to the last bit. Load throws Failure::input for another file.
void save_gathered(const std::string& file, const std::vector<Gathered>&);
void load_gathered(const std::string& file, at::Device, std::vector<Gathered>&);

/// Looks at the images, batch by batch, and adds to `gathered`, one for each of `asked`. Saves its state in `checkpoint` every 20 seconds,
/// when interrupted and at the end, and goes on from it where it is there: what comes out is the same to the last bit. Returns how many
/// images were looked at in all. Memory: a block of images (64 MiB, or a batch), the network's, and about 3 KiB and 48 bytes an image kept
/// for each unit. Throws Failure::runtime for a value that is not finite.
int64_t look(const ImageSource&, const Classifier&, at::Device, const std::vector<Asked>& asked, const ExemplarsTable&,
             const std::string& checkpoint, std::vector<Gathered>& gathered);

/// A run's pictures, measured as the real ones are, whatever its objective was: float64 [N], NaN for units of other layers.
Tensor values_beside(const Results& run, const Classifier&, at::Device, const std::vector<Asked>&, const ExemplarsTable&);

// ---- What is left behind ---------------------------------------------------------------------------------------------------------------

/// exemplars.h5. Root attributes format = "evoke exemplars", version = "1", data, split, of, images, quantile_error. For each layer
/// /<layer>/{top,bottom}/{rows,activation,y,x} [U,K], the most extreme first (-1 and NaN where there were fewer images; y, x: of the value,
/// a token and -1, or -1), /<layer>/{histogram [U,256], edges [U,257], quantiles [U,Q], bin_width, mean, deviation, min, max, zero_share,
/// positive_share, treves_rolls, sparseness [U]}; /quantile_shares [Q]; of a folder /paths, by row; of a run beside
/// /<layer>/beside/{rows,unit,activation}: its pictures of this layer's units and their values, measured as the real ones are.
void save_exemplars(const std::string& file, const ExemplarsTable&, int64_t seen, const ImageSource&, const std::vector<Asked>&,
                    const std::vector<Gathered>&, const std::optional<Results>& beside, const Tensor& beside_values);

/// A contact sheet, one row a unit: a run's pictures where there are some, the images with the largest values, a gap, those with the
/// smallest. uint8 [H,W,3].
Tensor exemplars_sheet(const Asked&, const Gathered&, const ImageSource&, const Classifier&, const std::optional<Results>& beside,
                       const Tensor& beside_values, const std::string& title);
inline constexpr int64_t sheet_columns = 16;  // pictures of each kind in a row of a sheet

/// The facets of the units shown, by unit_text: for facets.safetensors, and for a contact sheet, one row a facet: its start, and the images
/// nearest to its centre.
struct FacetsFound {
  Tensors starts;  // "logits:54" [K,C,H,W]; and "logits:54/rows" int64 [K,M], of the images that were averaged, -1 where there are fewer
  Tensor sheet;    // uint8 [H,W,3]
};
FacetsFound facets_found(const std::vector<Asked>&, const std::vector<Gathered>&, const ImageSource&, const Classifier&, at::Device,
                         const ExemplarsTable&);

/// The verb itself: looks at all images into the folder `out`, taken up where it was interrupted; false where it is interrupted again.
/// `overrides` make the recipe: classifier.weights, exemplars.data and the table [exemplars].
bool exemplars_into(const std::vector<Override>& overrides, const std::string& out);

/// Joins shards' runs, in their order, into options.out: the run that one pass would have written. Returns the exit code.
int merge_exemplars(const std::vector<std::string>& shards, const CommonOptions& options);

/// The shown units, for stdout and the manifest. What is undefined is null; the files of as many images as a sheet shows are named.
nlohmann::json units_json(const std::vector<Asked>&, const std::vector<Gathered>&, const ImageSource&, const Classifier&);
/// The same as a table to be read.
std::string units_table(const nlohmann::json& units);

}  // namespace evoke
