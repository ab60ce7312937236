// evoke stimuli: a run's pictures as a set that an experiment can show: fixed luminance and contrast, masked, and scored again.
#include "experiments/stimuli.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <memory>
#include <numbers>

#include "classifiers/menu.h"
#include "core/error.h"
#include "core/log.h"
#include "core/records/film.h"
#include "core/records/pictures.h"
#include "core/records/run_directory.h"
#include "core/storage/files.h"
#include "core/storage/hdf5.h"
#include "experiments/judge.h"
#include "experiments/sample.h"
#include "experiments/verbs.h"

namespace evoke {

namespace {

constexpr double nothing = std::numeric_limits<double>::quiet_NaN();

struct StimuliOptions : CommonOptions {
  std::vector<std::string> runs;
  StimulusOptions stimulus;
  bool npy = false, films = false;
  double rate = 12;
};

// Rec. 709: [...,3] -> [...].
Tensor luma(const Tensor& x) { return 0.2126 * x.select(-1, 0) + 0.7152 * x.select(-1, 1) + 0.0722 * x.select(-1, 2); }

struct Moments {
  Tensor mean, deviation;  // [N]
};
Moments moments_of(const Tensor& x, const Tensor& mask) {
  const Tensor y = luma(x), weight = mask / mask.sum();
  const Tensor mean = (y * weight).sum({1, 2});
  return {mean, ((y - mean.view({-1, 1, 1})).square() * weight).sum({1, 2}).sqrt()};
}

// "00012".
std::string identifier(int64_t number) {
  const std::string digits = text(number);
  return std::string(digits.size() < 5 ? 5 - digits.size() : 0, '0') + digits;
}

// A cell of a CSV file (RFC 4180).
std::string cell(const std::string& word) {
  if (word.find_first_of(",\"\n\r") == std::string::npos) return word;
  std::string out = "\"";
  for (const char c : word) out += c == '"' ? "\"\"" : std::string(1, c);
  return out + "\"";
}
std::string cell(double value) { return std::isnan(value) ? "" : text(value); }

// What a run's network says of pictures: the score of each one's own column.
Tensor scored(const std::string& run, const std::vector<Column>& columns, const Tensor& images, const CommonOptions& options) {
  check_run_file(run, "config.toml");
  Recipe recipe = Recipe::load(run + "/config.toml", set_overrides(options));
  const at::Device device = device_named(device_of(options));
  const Classifier target = make_classifier(recipe, device);
  const Objective own = own_objective(recipe, target);
  if (!own.rows_independent) return at::full({images.size(0)}, nothing);
  const Tensor all = score_images(target, own, from_bytes(images), device);
  Tensor out = at::full({images.size(0)}, nothing, at::kFloat);
  for (size_t row = 0; row < columns.size(); ++row)
    for (size_t i = 0; i < own.columns.size(); ++i)
      if (own.columns[i].name == columns[row].name)
        out[static_cast<int64_t>(row)] = all[static_cast<int64_t>(row)][static_cast<int64_t>(i)];
  return out;
}

// The pictures of each chain on its way, as films.
int64_t save_films(const std::string& run, const std::string& folder, int64_t first, double rate) {
  const Hdf5 results = Hdf5::open(run + "/results.h5");
  require(results.has("/snapshots"), Failure::usage, "stimuli: ", run,
          " kept no pictures on the way, which films are made of; sample again with --set run.snapshots=5 (a picture every five steps)");
  std::filesystem::create_directories(folder);
  const std::vector<int64_t> shape = results.shape("/snapshots");
  for (int64_t row = 0; row < shape[0] && !interrupted(); ++row) {
    Tensor frames = results.read_rows("/snapshots", row, 1)[0];
    if (frames.size(3) == 1) frames = frames.expand({-1, -1, -1, 3}).contiguous();
    const std::string id = identifier(first + row);
    save_webp(folder + "/" + id + ".webp", frames, rate);
    save_mp4(folder + "/" + id + ".mp4", frames, rate);
  }
  return shape[0];
}

int stimuli(const StimuliOptions& options) {
  set_threads(threads_of(options));
  namespace fs = std::filesystem;
  const std::string csv = options.out + "/stimuli.csv";
  require(!fs::exists(csv), Failure::usage, "stimuli: ", csv, " exists already; name another place with --out, or remove it");
  // Read and checked before anything is written.
  for (const std::string& run : options.runs) {
    require(fs::exists(run + "/results.h5"), Failure::input, "stimuli: found no results.h5 in ", run,
            ", expected a finished run of evoke sample");
  }
  std::error_code trouble;
  fs::create_directories(options.out, trouble);
  require(fs::is_directory(options.out), Failure::usage, "stimuli: ", options.out,
          " cannot be made a folder; name another place with --out");
  const Lock lock = claim_folder(options.out);

  std::string lines =
      "stimulus_id,file,sha256,run,unit,layer,index,y,x,label,chain,activation,predicted_activation,luminance,rms_contrast,height,width\n";
  std::vector<Tensor> all;
  int64_t number = 0, off = 0;
  for (const std::string& run : options.runs) {
    const Results results = load_results(run, false);
    const Stimuli made = make_stimuli(results.images, options.stimulus);
    const Tensor scores = scored(run, results.columns, made.images, options);
    if (options.films) save_films(run, options.out + "/films", number, options.rate);
    for (int64_t row = 0; row < made.images.size(0); ++row, ++number) {
      if (interrupted()) return 130;
      const auto i = static_cast<size_t>(row);
      const std::string id = identifier(number);
      const std::string file = text(options.out, "/", id, ".png");
      save_png(file, made.images[row]);
      const Column& column = results.columns[i];
      const auto place = [&](int64_t value) { return value < 0 ? std::string() : text(value); };
      const double luminance = made.luminance[row].item<double>(), contrast = made.contrast[row].item<double>();
      off += (options.stimulus.luminance >= 0 && std::abs(luminance - options.stimulus.luminance) > 0.01) ||
             (options.stimulus.contrast >= 0 && std::abs(contrast - options.stimulus.contrast) > 0.01);
      lines +=
          text(id, ",", id, ".png,", sha256_of_file(file), ",", cell(run), ",", cell(column.name), ",",
               cell(column.unit ? column.unit->layer : ""), ",", column.unit ? place(column.unit->index) : "", ",",
               column.unit ? place(column.unit->y) : "", ",", column.unit ? place(column.unit->x) : "", ",", cell(results.labels[i]), ",",
               results.chain[row].item<int64_t>(), ",", cell(results.activation[row].item<double>()), ",", cell(scores[row].item<double>()),
               ",", cell(luminance), ",", cell(contrast), ",", made.images.size(1), ",", made.images.size(2), "\n");
    }
    all.push_back(made.images);
  }
  if (options.npy) {
    for (const Tensor& images : all)
      require(images.sizes().slice(1) == all[0].sizes().slice(1), Failure::usage,
              "stimuli: the runs' pictures have different sizes, which one array cannot hold; give them one with --size");
    save_npy(options.out + "/stimuli.npy", at::cat(all));
  }
  // The table comes last: where it is, the set is whole.
  write_file(csv, lines);
  if (off > 0)
    say(text("stimuli: ", off, " of ", number,
             " pictures cannot have that luminance and contrast with values between 0 and 1; the table has what they have"));
  answer(options, text(number, " stimuli\n", csv), {{"out", options.out}, {"stimuli", number}, {"table", csv}, {"beyond_reach", off}});
  return 0;
}

}  // namespace

void describe(Fields& f, StimulusOptions& o) {
  f("luminance", o.luminance, "", "mean luminance inside the mask, of values in 0 … 1; -1: as it is", {-1, 1});
  f("contrast", o.contrast, "", "RMS contrast inside the mask: standard deviation of luminance; -1: as it is", {-1, 0.5});
  f("background", o.background, "", "grey outside the mask", share);
  f.choice("mask", o.mask, "what is shown of a picture", {"none", "disk", "gaussian"});
  f("mask_radius", o.mask_radius, "half sides", "of the disk; of a Gaussian two standard deviations", more_than_zero(4));
  f("mask_edge", o.mask_edge, "half sides", "over which a disk fades", share);
  f("size", o.size, "pixels", "side of the stimuli; 0: as it is", {0, 8192});
}

Tensor stimulus_mask(int64_t height, int64_t width, const StimulusOptions& o) {
  if (o.mask == "none") return at::ones({height, width}, at::kDouble);
  const double half = 0.5 * static_cast<double>(std::min(height, width));
  const auto from_middle = [&](int64_t side) { return (at::arange(side, at::kDouble) - 0.5 * static_cast<double>(side - 1)) / half; };
  const Tensor r = (from_middle(height).square().unsqueeze(1) + from_middle(width).square().unsqueeze(0)).sqrt();
  if (o.mask == "gaussian") return (-r.square() / (0.5 * o.mask_radius * o.mask_radius)).exp();
  const Tensor beyond = ((r - (o.mask_radius - o.mask_edge)) / std::max(o.mask_edge, 1e-9)).clamp(0, 1);
  return 0.5 * (1 + (std::numbers::pi * beyond).cos());
}

Stimuli make_stimuli(const Tensor& images, const StimulusOptions& o) {
  Tensor x = from_bytes(images);
  if (o.size > 0 && (x.size(2) != o.size || x.size(3) != o.size)) x = at::_upsample_bilinear2d_aa(x, {o.size, o.size}, false).clamp(0, 1);
  x = x.expand({-1, 3, -1, -1}).permute({0, 2, 3, 1}).to(at::kDouble).contiguous();
  const Tensor mask = stimulus_mask(x.size(1), x.size(2), o), inside = mask.unsqueeze(-1);
  const auto column = [](const Tensor& of_rows) { return of_rows.view({-1, 1, 1, 1}); };
  const auto blended = [&](const Tensor& y) {
    return to_bytes((o.background + inside * (y - o.background)).permute({0, 3, 1, 2}).to(at::kFloat));
  };
  // Values are cut to 0 … 1, which moves both moments: the map is corrected by what it missed until it stays.
  if (o.luminance >= 0 || o.contrast >= 0) {
    const Moments were = moments_of(x, mask);
    const Tensor mean = o.luminance >= 0 ? at::full_like(were.mean, o.luminance) : were.mean;
    const Tensor deviation = o.contrast >= 0 ? at::full_like(were.mean, o.contrast) : were.deviation;
    Tensor shift = mean.clone(), gain = deviation / were.deviation.clamp_min(1e-6), best = x;
    for (int attempt = 0; attempt < 60; ++attempt) {
      best = (column(shift) + column(gain) * (x - column(were.mean))).clamp(0, 1);
      const Moments are = moments_of(best, mask);
      shift = (shift + (mean - are.mean)).clamp(-4, 5);
      gain = (gain * (deviation / are.deviation.clamp_min(1e-6)).clamp(0.5, 2)).clamp(0, 1e4);
    }
    x = best;
  }
  // What a file holds, over the mask: measured on the bytes before the background is blended in, which is what the mask lets through.
  const Tensor bytes = to_bytes(x.permute({0, 3, 1, 2}).to(at::kFloat));
  const Moments are = moments_of(bytes.to(at::kDouble) / 255, mask);
  return {o.mask == "none" ? bytes : blended(x), are.mean, are.deviation};
}

void save_npy(const std::string& file, const Tensor& array) {
  const Tensor values = array.cpu().contiguous();
  const std::string kind = values.scalar_type() == at::kByte    ? "|u1"
                           : values.scalar_type() == at::kLong  ? "<i8"
                           : values.scalar_type() == at::kFloat ? "<f4"
                                                                : "<f8";
  require(kind != "<f8" || values.scalar_type() == at::kDouble, Failure::usage, file, ": cannot hold this type");
  std::string shape;
  for (const int64_t side : values.sizes()) shape += text(side, ", ");
  std::string head = "{'descr': '" + kind + "', 'fortran_order': False, 'shape': (" + shape + "), }";
  head.append(64 - (10 + head.size() + 1) % 64, ' ');
  head += '\n';
  std::string out("\x93NUMPY\x01\x00", 8);
  out += static_cast<char>(head.size() & 0xFF);
  out += static_cast<char>(head.size() >> 8);
  out += head;
  out.append(static_cast<const char*>(values.data_ptr()), static_cast<size_t>(values.nbytes()));
  write_file(file, out);
}

Action stimuli_verb(CLI::App& command) {
  auto options = std::make_shared<StimuliOptions>();
  command.add_option("RUN", options->runs, "run directories that evoke sample wrote")->required();
  Flags(command, options->stimulus);
  command.add_flag("--npy", options->npy, "all stimuli as one NumPy array, too: stimuli.npy, uint8 [N,H,W,3]");
  command.add_flag("--films", options->films, "each chain on its way as films/ID.webp and films/ID.mp4 (needs run.snapshots)");
  command.add_option("--rate", options->rate, "of films, pictures a second")->check(CLI::Range(0.1, 240.0))->capture_default_str();
  add_common(command, *options, Takes::writing);
  return [options] {
    begin_verb(*options);
    return stimuli(*options);
  };
}

}  // namespace evoke
