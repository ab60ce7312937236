// evoke data patches: measures what the patches of a dataset's images are like.
#include <ATen/ATen.h>

#include <algorithm>
#include <filesystem>

#include "classifiers/objectives.h"
#include "core/error.h"
#include "core/log.h"
#include "core/numbers/linear_algebra.h"
#include "core/numbers/stream.h"
#include "core/records/pictures.h"
#include "core/storage/files.h"
#include "core/storage/safetensors.h"
#include "experiments/options.h"
#include "experiments/verbs.h"
#include "training/datasets/dataset.h"

namespace evoke {

namespace {

struct PatchesFlags : CommonOptions {
  std::string data;
  int64_t side = 8, count = 50000, keep = 1024;
};
void describe(Fields& f, PatchesFlags& o) {
  f.path("out", o.out, "the patches' file (safetensors)");
  f("side", o.side, "pixels", "of a patch", {1, 64});
  f("count", o.count, "patches", "that are measured, as many of each image", {2, 1e8});
  f("keep", o.keep, "patches", "that are kept themselves", {1, 1e6});
}

struct Stopped {};

// Patches of random places, as many of each image of the training split: number i of them is a function of i and the image.
Patches measured(const PatchesFlags& options) {
  const Dataset dataset = open_dataset(options.data);
  const Tensor rows = dataset.rows_of(Split::train);
  require(rows.numel() > 0, Failure::input, options.data, ": its training split is empty; expected images");
  const int64_t height = dataset.height(), width = dataset.width(), side = options.side;
  require(side <= height && side <= width, Failure::usage, "data patches: --side: found ", side, " for images of ", width, "×", height,
          ", expected at most their shorter side");
  const int64_t each = (options.count + rows.numel() - 1) / rows.numel();
  const int64_t kept_of_each = (options.keep + rows.numel() - 1) / rows.numel();
  require(kept_of_each <= each, Failure::usage, "data patches: --keep: found ", options.keep, ", expected at most --count, ",
          options.count);

  Moments moments;
  std::vector<Tensor> kept;
  Progress progress("patches", rows.numel(), "image");
  constexpr int64_t part = 64;
  for (int64_t first = 0; first < rows.numel(); first += part) {
    if (interrupted()) throw Stopped{};
    const Tensor own = rows.slice(0, first, first + part), images = from_bytes(dataset.images.read(own));
    Stream stream(0, own);
    const Tensor places = stream.uniform({each, 2}) * at::tensor({double(height - side + 1), double(width - side + 1)});
    const Tensor corner = places.floor().to(at::kLong);
    std::vector<Tensor> patches;
    for (int64_t row = 0; row < own.numel(); ++row)
      for (int64_t i = 0; i < each; ++i) {
        const auto y = corner[row][i][0].item<int64_t>(), x = corner[row][i][1].item<int64_t>();
        patches.push_back(images[row].slice(1, y, y + side).slice(2, x, x + side));
        if (i < kept_of_each) kept.push_back(patches.back().clone());
      }
    moments.add(at::stack(patches).flatten(1));
    progress.at(first + own.numel());
  }
  // Evenly among those kept.
  Patches out{dataset.channels(), side, moments.mean(), moments.covariance(), at::stack(kept)};
  const Tensor which = (at::arange(options.keep, at::kLong) * out.examples.size(0)).div(options.keep, "floor");
  out.examples = out.examples.index_select(0, which);
  return out;
}

int measure(const PatchesFlags& options) {
  begin_verb(options);
  const Lock lock = claim_file(options.out);
  require(!std::filesystem::exists(options.out), Failure::usage, "data: ", options.out,
          " exists already; choose another --out, or remove it first");
  try {
    save_patches(options.out, measured(options), sha256_of_file(options.data));
  } catch (const Stopped&) {
    say("data: interrupted; " + options.out + " was not written, and the same command begins again");
    return 130;
  }
  const Patches patches = load_patches(options.out);
  answer(options,
         text(options.out, ": patches of ", patches.side, "×", patches.side, " pixels, ", patches.examples.size(0), " of them kept"),
         {{"file", options.out}, {"channels", patches.channels}, {"side", patches.side}, {"kept", patches.examples.size(0)}});
  return 0;
}

}  // namespace

Action patches_verb(CLI::App& command) {
  auto options = std::make_shared<PatchesFlags>();
  command.add_option("DATASET", options->data, "the dataset (HDF5, made by evoke data); its training split is measured")
      ->required()
      ->type_name("FILE");
  Flags(command, *options);
  command.get_option("--out")->required();
  add_common(command, *options, Takes::nothing);
  return [options] { return measure(*options); };
}

}  // namespace evoke
