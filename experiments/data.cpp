// evoke data: make or convert a dataset into HDF5.
#include <algorithm>
#include <filesystem>
#include <map>

#include "core/error.h"
#include "core/log.h"
#include "core/storage/files.h"
#include "core/storage/hdf5.h"
#include "experiments/options.h"
#include "experiments/verbs.h"
#include "training/datasets/folder.h"
#include "training/datasets/shapes.h"

namespace evoke {

namespace {

struct DataOptions : CommonOptions {
  std::string folder;
  int64_t images = 24000, size = 48;
  bool skip_broken = false;
};

// Sole use of the file that the dataset goes to.
Lock claim_dataset(const std::string& file) {
  namespace fs = std::filesystem;
  std::error_code none;
  const fs::path path(file), folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
  require(path.has_filename() && !fs::is_directory(path, none), Failure::usage, "data: --out '", file,
          "' names no file; expected one such as shapes.h5");
  require(fs::is_directory(folder, none), Failure::usage, "data: --out ", file, ": found no folder ", folder.string(),
          "; make it, or name another place");
  return claim_file(file);
}

// What is said and done where the file is there already: with the same facts it is this very dataset, otherwise it is left alone.
bool is_there(const std::string& file, const std::map<std::string, std::string>& facts) {
  std::error_code none;
  if (!std::filesystem::exists(file, none)) return false;
  std::string others;
  try {
    const Hdf5 found = Hdf5::open(file);
    for (const auto& [name, value] : facts)
      if (const std::string there = found.attribute(name); there != value)
        others += text(others.empty() ? "" : ", ", name, there.empty() ? " unknown" : " = " + there);
  } catch (const Error&) {
    others = "no dataset";
  }
  require(others.empty(), Failure::usage, "data: ", file, " exists already, made otherwise (", others,
          "); choose another --out, or remove it first");
  say("data: " + file + " holds this very dataset, finished; nothing to do");
  return true;
}

int answer_of(const DataOptions& options) {
  const Hdf5 file = Hdf5::open(options.out);
  const int64_t images = file.shape("/images").at(0);
  const size_t classes = file.read_text("/label_names").size();
  answer(options, text(options.out, ": ", images, " images of ", classes, " classes"),
         {{"file", options.out}, {"images", images}, {"classes", classes}});
  return 0;
}

// The answer about a dataset that was written just now, or 130 where that was interrupted.
int said(const DataOptions& options, const DatasetWritten& written) {
  if (!written.interrupted) return answer_of(options);
  say("data: interrupted; " + options.out + " was not written, and the same command begins again");
  return 130;
}

uint64_t seed_of(const DataOptions& options) { return options.seed < 0 ? 0 : static_cast<uint64_t>(options.seed); }

int make_shapes(const DataOptions& options) {
  begin_verb(options);
  const Lock lock = claim_dataset(options.out);
  if (is_there(options.out, shapes_facts(seed_of(options), options.images))) return answer_of(options);
  return said(options, write_shapes(options.out, seed_of(options), options.images));
}

int convert_folder(const DataOptions& options) {
  begin_verb(options);
  const Lock lock = claim_dataset(options.out);
  require(std::filesystem::is_directory(options.folder), Failure::input, "data folder: found no folder ", options.folder,
          ", expected one that holds a folder for each class");
  say("data: the images of " + options.folder);
  const std::map<std::string, std::string> facts{{"source", "folder"},
                                                 {"files", sha256_of_folder(options.folder)},
                                                 {"size", std::to_string(options.size)},
                                                 {"seed", std::to_string(seed_of(options))},
                                                 {"skip_broken", options.skip_broken ? "true" : "false"}};
  if (is_there(options.out, facts)) return answer_of(options);
  return said(options, write_folder(options.out, options.folder, options.size, seed_of(options), options.skip_broken, facts));
}

void describe_common(Fields& f, DataOptions& o) {
  f.path("out", o.out, "the dataset's file (HDF5)");
  f("seed", o.seed, "", "of attributes, order and split [default 0]", {0, 9e15});
}
struct ShapesFlags : DataOptions {};
void describe(Fields& f, ShapesFlags& o) {
  f("images", o.images, "images", "how many, evenly over the classes", {60, 1e8});
  describe_common(f, o);
}
struct FolderFlags : DataOptions {};
void describe(Fields& f, FolderFlags& o) {
  f("size", o.size, "px", "a side, after cropping to a square and fitting", {8, 4096});
  f("skip_broken", o.skip_broken, "leave out images that are torn, with a warning each");
  describe_common(f, o);
}

}  // namespace

Action data_verb(CLI::App& command) {
  command.require_subcommand(1);
  CLI::App* shapes = command.add_subcommand("shapes", "60 classes of lines, squares, circles and triangles, 48 × 48 px, rendered");
  auto of_shapes = std::make_shared<ShapesFlags>();
  Flags(*shapes, *of_shapes);
  CLI::App* folder = command.add_subcommand(
      "folder",
      "your own images: a folder of them, a folder for each class (folders within included), or train, val and test that hold such; "
      "PNG, JPEG, GIF, BMP, TIFF, WebP");
  auto of_folder = std::make_shared<FolderFlags>();
  folder->add_option("DIR", of_folder->folder, "the folder that holds the images, or a folder for each class")
      ->required()
      ->type_name("FOLDER");
  Flags(*folder, *of_folder);
  CLI::App* spectrum = command.add_subcommand("spectrum", "what a dataset's photographs look like on average: their waves and colours");
  const Action of_spectrum = spectrum_verb(*spectrum);
  CLI::App* patches =
      command.add_subcommand("patches", "what small windows of a dataset's images are like: their Gaussian, and some of them");
  const Action of_patches = patches_verb(*patches);
  for (CLI::App* kind : {shapes, folder}) kind->get_option("--out")->required();
  add_common(*shapes, *of_shapes, Takes::nothing);
  add_common(*folder, *of_folder, Takes::nothing);
  return [=] {
    if (spectrum->parsed()) return of_spectrum();
    if (patches->parsed()) return of_patches();
    return shapes->parsed() ? make_shapes(*of_shapes) : convert_folder(*of_folder);
  };
}

}  // namespace evoke
