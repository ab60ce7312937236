#include "experiments/data_measures.h"

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
#include "experiments/experiment.h"
#include "experiments/options.h"
#include "experiments/verbs.h"
#include "generators/spectrum.h"
#include "training/datasets/dataset.h"

namespace evoke {

namespace {

struct MeasureFlags : CommonOptions {
  std::string data;
};
struct SpectrumFlags : MeasureFlags {};
void describe(Fields& f, SpectrumFlags& o) { f.path("out", o.out, "the spectrum's file (safetensors)"); }

struct PatchesFlags : MeasureFlags {
  int64_t side = 8, count = 50000, keep = 1024;
};
void describe(Fields& f, PatchesFlags& o) {
  f.path("out", o.out, "the patches' file (safetensors)");
  f("side", o.side, "pixels", "of a patch", {1, 64});
  f("count", o.count, "patches", "that are measured, as many of each image", {2, 1e8});
  f("keep", o.keep, "patches", "that are kept themselves", {1, 1e6});
}

struct Stopped {};

// Is the file there, and was it measured of just this? Refuses any other file. what: its kind of weights.
bool is_there(const std::string& file, const std::string& what, const std::string& of) {
  if (!std::filesystem::exists(file)) return false;
  bool same = false;
  try {
    const auto facts = load_weights(file, {what}).metadata;
    const auto found = facts.find("evoke.dataset");
    same = found != facts.end() && found->second == of;
  } catch (const Error&) {
  }
  require(same, Failure::usage, "data: ", file, " exists already and is not the ", what,
          " of this dataset and these settings; choose another --out, or remove it first");
  say("data: " + file + " holds the " + what + " of this very dataset; nothing to do");
  return true;
}

Spectrum measured(const SpectrumFlags& options) {
  const Dataset dataset = open_dataset(options.data);
  const Tensor rows = training_rows(options.data);
  // Parts of about 64 MiB in float32.
  const int64_t image = dataset.channels() * dataset.height() * dataset.width(), part = std::max<int64_t>(1, (int64_t{1} << 24) / image);
  Progress progress("spectrum", 2 * rows.numel(), "image");
  int64_t done = 0;
  return measure_spectrum(
      [&](const std::function<void(const Tensor&)>& visit) {
        for (int64_t first = 0; first < rows.numel(); first += part) {
          if (interrupted()) throw Stopped{};
          const Tensor own = rows.slice(0, first, first + part);
          visit(from_bytes(dataset.images.read(own)));
          progress.at(done += own.numel());
        }
      },
      options.data);
}

// Patches of random places, as many of each image of the training split: number i of them is a function of i and the image.
Patches measured(const PatchesFlags& options) {
  const Dataset dataset = open_dataset(options.data);
  const Tensor rows = training_rows(options.data);
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

// What the file says of itself: the dataset, and the settings that count.
std::string facts_of(const SpectrumFlags&, const std::string& dataset) { return dataset; }
std::string facts_of(const PatchesFlags& o, const std::string& dataset) {
  return text(dataset, ", side ", o.side, ", count ", o.count, ", keep ", o.keep);
}
void save(const SpectrumFlags& o, const std::string& facts) { save_spectrum(o.out, measured(o), facts); }
void save(const PatchesFlags& o, const std::string& facts) { save_patches(o.out, measured(o), facts); }

int answer_of(const SpectrumFlags& options) {
  const Spectrum spectrum = load_spectrum(options.out);
  const int64_t channels = spectrum.mean.numel();
  answer(options, text(options.out, ": the spectrum of images ", spectrum.width, "×", spectrum.height, " of ", channels, " channels"),
         {{"file", options.out}, {"channels", channels}, {"height", spectrum.height}, {"width", spectrum.width}});
  return 0;
}
int answer_of(const PatchesFlags& options) {
  const Patches patches = load_patches(options.out);
  answer(options,
         text(options.out, ": patches of ", patches.side, "×", patches.side, " pixels, ", patches.examples.size(0), " of them kept"),
         {{"file", options.out}, {"channels", patches.channels}, {"side", patches.side}, {"kept", patches.examples.size(0)}});
  return 0;
}

// False where it was interrupted.
template <class Options>
bool measured_into(const Options& options, const std::string& what) {
  const Lock lock = claim_file(options.out);
  const std::string facts = facts_of(options, sha256_of_file(options.data));
  try {
    if (!is_there(options.out, what, facts)) save(options, facts);
  } catch (const Stopped&) {
    return false;
  }
  return true;
}

template <class Options>
Action measuring(CLI::App& command, const char* what) {
  auto options = std::make_shared<Options>();
  command.add_option("DATASET", options->data, "the dataset (HDF5, made by evoke data); its training split is measured")
      ->required()
      ->type_name("FILE");
  Flags(command, *options);
  command.get_option("--out")->required();
  add_common(command, *options, Takes::nothing);
  return [options, what] {
    begin_verb(*options);
    if (measured_into(*options, what)) return answer_of(*options);
    say("data: interrupted; " + options->out + " was not written, and the same command begins again");
    return 130;
  };
}

}  // namespace

bool patches_into(const std::string& dataset, const std::string& file) {
  PatchesFlags options;
  options.data = dataset, options.out = file;
  return measured_into(options, "patches");
}

Action spectrum_verb(CLI::App& command) { return measuring<SpectrumFlags>(command, "spectrum"); }
Action patches_verb(CLI::App& command) { return measuring<PatchesFlags>(command, "patches"); }

}  // namespace evoke
