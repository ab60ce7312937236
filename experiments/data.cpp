// evoke data: make or convert a dataset into HDF5.
#include <filesystem>

#include "core/error.h"
#include "core/log.h"
#include "core/storage/files.h"
#include "experiments/options.h"
#include "experiments/verbs.h"
#include "training/datasets/folder.h"
#include "training/datasets/shapes.h"

namespace evoke {

namespace {

struct DataOptions : CommonOptions {
  std::string file, folder;
  int64_t images = 24000, size = 48;
  bool skip_broken = false;
};

// Sole use of the dataset's file, which must not be there yet.
Lock claim_new(const std::string& file) {
  Lock lock = claim_file(file);
  require(!std::filesystem::exists(file), Failure::usage, "data: ", file, " exists already; choose another --out, or remove it first");
  return lock;
}

int said(const DataOptions& options, const DatasetWritten& written) {
  if (written.interrupted) {
    say("data: interrupted; " + options.file + " was not written, and the same command begins again");
    return 130;
  }
  const nlohmann::json object{{"file", options.file}, {"images", written.images}, {"classes", written.classes}};
  answer(options, text(options.file, ": ", written.images, " images of ", written.classes, " classes"), object);
  return 0;
}

uint64_t seed_of(const DataOptions& options) { return options.seed < 0 ? 0 : static_cast<uint64_t>(options.seed); }

int make_shapes(const DataOptions& options) {
  begin_verb(options);
  const Lock lock = claim_new(options.file);
  return said(options, write_shapes(options.file, seed_of(options), options.images));
}

int convert_folder(const DataOptions& options) {
  begin_verb(options);
  const Lock lock = claim_new(options.file);
  return said(options, write_folder(options.file, options.folder, options.size, seed_of(options), options.skip_broken));
}

}  // namespace

Action data_verb(CLI::App& command) {
  auto options = std::make_shared<DataOptions>();
  command.require_subcommand(1);
  const auto common = [&options](CLI::App* kind) {
    kind->add_option("--out", options->file, "the dataset's file (HDF5)")->required();
    kind->add_option("--seed", options->seed, "of attributes, order and split [default 0]")->check(CLI::NonNegativeNumber);
    add_common(*kind, *options, Takes::nothing);
  };
  CLI::App* shapes = command.add_subcommand("shapes", "60 classes of lines, squares, circles and triangles, 48 × 48 px, rendered");
  shapes->add_option("--images", options->images, "how many, evenly over the classes")
      ->check(CLI::Range(60, 100000000))
      ->capture_default_str();
  common(shapes);
  CLI::App* folder =
      command.add_subcommand("folder", "your own images: one folder a class, folders within included; PNG, JPEG, GIF, BMP, TIFF, WebP");
  folder->add_option("DIR", options->folder, "the folder that holds a folder for each class")->required();
  folder->add_option("--size", options->size, "px a side, after cropping to a square and fitting")
      ->check(CLI::Range(8, 4096))
      ->capture_default_str();
  folder->add_flag("--skip-broken", options->skip_broken, "leave out images that are torn, with a warning each");
  common(folder);
  return [options, shapes] { return shapes->parsed() ? make_shapes(*options) : convert_folder(*options); };
}

}  // namespace evoke
