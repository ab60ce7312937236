// evoke data spectrum: measures the mean spectrum and the colours of a dataset.
#include <algorithm>
#include <filesystem>

#include "core/error.h"
#include "core/log.h"
#include "core/numbers/tensor.h"
#include "core/records/pictures.h"
#include "core/storage/files.h"
#include "core/storage/safetensors.h"
#include "experiments/options.h"
#include "experiments/verbs.h"
#include "generators/spectrum.h"
#include "training/datasets/dataset.h"

namespace evoke {

namespace {

struct SpectrumFlags : CommonOptions {
  std::string data;
};
void describe(Fields& f, SpectrumFlags& o) { f.path("out", o.out, "the spectrum's file (safetensors)"); }

struct Stopped {};

// Is the file there, with the spectrum of this very dataset? Refuses any other file.
bool is_there(const std::string& file, const std::string& dataset) {
  if (!std::filesystem::exists(file)) return false;
  bool same = false;
  try {
    const auto facts = load_weights(file, {"spectrum"}).metadata;
    const auto of = facts.find("evoke.dataset");
    same = of != facts.end() && of->second == dataset;
  } catch (const Error&) {
  }
  require(same, Failure::usage, "data: ", file,
          " exists already and is not the spectrum of this dataset; choose another --out, or remove it first");
  say("data: " + file + " holds the spectrum of this very dataset; nothing to do");
  return true;
}

Spectrum measured(const std::string& data) {
  const Dataset dataset = open_dataset(data);
  const Tensor rows = dataset.rows_of(Split::train);
  require(rows.numel() > 0, Failure::input, data, ": its training split is empty; expected images");
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
      data);
}

int measure(const SpectrumFlags& options) {
  begin_verb(options);
  const Lock lock = claim_file(options.out);
  const std::string dataset = sha256_of_file(options.data);
  try {
    if (!is_there(options.out, dataset)) save_spectrum(options.out, measured(options.data), dataset);
  } catch (const Stopped&) {
    say("data: interrupted; " + options.out + " was not written, and the same command begins again");
    return 130;
  }
  const Spectrum spectrum = load_spectrum(options.out);
  const int64_t channels = spectrum.mean.numel();
  answer(options, text(options.out, ": the spectrum of images ", spectrum.width, "×", spectrum.height, " of ", channels, " channels"),
         {{"file", options.out}, {"channels", channels}, {"height", spectrum.height}, {"width", spectrum.width}});
  return 0;
}

}  // namespace

Action spectrum_verb(CLI::App& command) {
  auto options = std::make_shared<SpectrumFlags>();
  command.add_option("DATASET", options->data, "the dataset (HDF5, made by evoke data); its training split is measured")
      ->required()
      ->type_name("FILE");
  Flags(command, *options);
  command.get_option("--out")->required();
  add_common(command, *options, Takes::nothing);
  return [options] { return measure(*options); };
}

}  // namespace evoke
