// needs: files
// Stimulus sets: luminance, contrast and mask by their definitions, films, arrays, and the table with scores of what is shown.
#include "experiments/stimuli.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <numbers>
#include <sstream>

#include "classifiers/networks.h"
#include "classifiers/objectives.h"
#include "core/records/film.h"
#include "core/records/pictures.h"
#include "core/storage/files.h"
#include "experiments/options.h"
#include "experiments/sample.h"
#include "tests/expect.h"
#include "tests/experiments/outcome.h"

namespace evoke {
namespace {

Tensor pictures() { return to_bytes(0.2 + 0.5 * Stream::range(3, 0, 5).uniform({3, 30, 20})); }
Tensor luma_of(const Tensor& bytes) {
  const Tensor x = bytes.to(at::kDouble) / 255;
  return 0.2126 * x.select(3, 0) + 0.7152 * x.select(3, 1) + 0.0722 * x.select(3, 2);
}

TEST(Stimuli, HaveTheLuminanceAndContrastThatWereAsked) {
  const Stimuli made = make_stimuli(pictures(), {.luminance = 0.5, .contrast = 0.2});
  const Tensor y = luma_of(made.images).flatten(1);
  EXPECT_LT((y.mean(1) - 0.5).abs().max().item<double>(), 0.5 / 255);
  EXPECT_LT((y.std(1, false) - 0.2).abs().max().item<double>(), 1.0 / 255);
  EXPECT_TRUE(at::allclose(made.luminance, y.mean(1))) << "measured on what the file holds";
  EXPECT_TRUE(at::allclose(made.contrast, y.std(1, false)));
  // Left alone, they are what they were; and one alone leaves the other.
  EXPECT_TRUE(at::equal(make_stimuli(pictures(), {}).images, pictures()));
  const Tensor darker = luma_of(make_stimuli(pictures(), {.luminance = 0.3}).images).flatten(1), was = luma_of(pictures()).flatten(1);
  EXPECT_LT((darker.std(1, false) - was.std(1, false)).abs().max().item<double>(), 1.0 / 255);
  EXPECT_GT((was.mean(1) - darker.mean(1)).min().item<double>(), 0.1);
  // Beyond reach: white cannot have contrast, and what is measured says so.
  const Stimuli white = make_stimuli(pictures(), {.luminance = 1.0, .contrast = 0.4});
  EXPECT_GT((white.contrast - 0.4).abs().min().item<double>(), 0.01);
}

TEST(Stimuli, MasksFadeAsDefined) {
  const StimulusOptions disk{.mask = "disk", .mask_radius = 0.9, .mask_edge = 0.4};
  const Tensor mask = stimulus_mask(21, 21, disk);
  const auto at = [&](double r) { return r < 0.5 ? 1.0 : r > 0.9 ? 0.0 : 0.5 * (1 + std::cos(std::numbers::pi * (r - 0.5) / 0.4)); };
  for (const auto& [row, column] : std::vector<std::pair<int, int>>{{10, 10}, {10, 17}, {3, 12}, {0, 0}, {10, 1}}) {
    const double r = std::hypot(row - 10, column - 10) / 10.5;
    EXPECT_NEAR(mask[row][column].item<double>(), at(r), 1e-9) << row << ", " << column;
  }
  const StimulusOptions gauss{.mask = "gaussian", .mask_radius = 1.0};
  EXPECT_NEAR(stimulus_mask(20, 20, gauss)[10][19].item<double>(), std::exp(-((0.05 * 0.05) + 0.95 * 0.95) / 0.5), 1e-9);

  StimulusOptions shown = disk;
  shown.luminance = 0.5, shown.contrast = 0.15, shown.background = 0.25;
  const Stimuli made = make_stimuli(pictures(), shown);
  EXPECT_EQ(made.images[0][0][0][1].item<int>(), 64) << "outside is the background";
  EXPECT_LT((made.luminance - 0.5).abs().max().item<double>(), 1.0 / 255);
  EXPECT_LT((made.contrast - 0.15).abs().max().item<double>(), 1.0 / 255);
  EXPECT_EQ(make_stimuli(pictures(), {.size = 48}).images.sizes(), (std::vector<int64_t>{5, 48, 48, 3}));
}

TEST(Film, BothKindsHoldEveryPicture) {
  const std::string folder = testing::TempDir() + "evoke_film_" + std::to_string(getpid());
  std::filesystem::create_directories(folder);
  const Tensor frames = to_bytes(Stream::range(4, 0, 7).uniform({3, 16, 24}));
  save_webp(folder + "/film.webp", frames, 10);
  save_mp4(folder + "/film.mp4", frames.slice(1, 0, 15), 10);
  const std::string webp = read_file(folder + "/film.webp");
  EXPECT_EQ(webp.substr(0, 4) + webp.substr(8, 4), "RIFFWEBP");
  size_t count = 0;
  for (size_t at = 0; (at = webp.find("ANMF", at)) != std::string::npos; ++at) ++count;
  EXPECT_EQ(count, 7u);
  // ISO 14496-12: the table of sample sizes holds their number, a video's entry its width and height.
  const std::string mp4 = read_file(folder + "/film.mp4");
  const auto number = [&](size_t at, size_t bytes) {
    int64_t value = 0;
    for (size_t i = 0; i < bytes; ++i) value = 256 * value + static_cast<unsigned char>(mp4.at(at + i));
    return value;
  };
  const size_t sizes = mp4.find("stsz"), entry = mp4.find("mp4v", mp4.find("stsd"));
  ASSERT_NE(sizes, std::string::npos);
  ASSERT_NE(entry, std::string::npos);
  EXPECT_EQ(number(sizes + 12, 4), 7);
  EXPECT_EQ(number(entry + 28, 2), 24);
  EXPECT_EQ(number(entry + 30, 2), 16) << "an odd side is made even";
  EXPECT_NE(refusal([&] { save_webp(folder + "/film.webp", frames[0], 10); }).find("expected bytes"), std::string::npos);
}

TEST(Npy, HasNumPysHeader) {
  const std::string file = testing::TempDir() + "evoke_" + std::to_string(getpid()) + ".npy";
  const Tensor values = at::arange(6, at::kFloat).view({2, 3});
  save_npy(file, values);
  const std::string bytes = read_file(file);
  EXPECT_EQ(bytes.substr(0, 8), std::string("\x93NUMPY\x01\x00", 8));
  const size_t head = static_cast<unsigned char>(bytes[8]) + 256 * static_cast<size_t>(static_cast<unsigned char>(bytes[9]));
  EXPECT_EQ((10 + head) % 64, 0u);
  EXPECT_EQ(bytes[10 + head - 1], '\n');
  expect_in("'descr': '<f4', 'fortran_order': False, 'shape': (2, 3, )", bytes.substr(10, head));
  EXPECT_EQ(bytes.size(), 10 + head + 24);
  EXPECT_EQ(std::memcmp(bytes.data() + 10 + head, values.data_ptr(), 24), 0);
}

TEST(StimuliVerb, ScoresWhatIsShown) {
  const std::string folder = testing::TempDir() + "evoke_stimuli_" + std::to_string(getpid());
  std::filesystem::create_directories(folder);
  const Outcome run = evoke_command({"sample", "pixel", "--out", folder + "/run", "-q", "--threads", "1", "--set",
                                     "objective.units=[\"logits:9\", \"logits:54\"]", "--set", "run.chains=2", "--set", "run.steps=4",
                                     "--set", "run.snapshots=2"});
  ASSERT_EQ(run.code, 0) << run.err;
  const std::vector<std::string> words{"stimuli", folder + "/run", "--out", folder + "/set", "--luminance", "0.4", "--contrast",
                                       "0.1",     "--mask",        "disk",  "--npy",         "--films",     "-q"};
  const Outcome made = evoke_command(words);
  ASSERT_EQ(made.code, 0) << made.err;
  std::istringstream lines(read_file(folder + "/set/stimuli.csv"));
  std::string line;
  std::getline(lines, line);
  EXPECT_EQ(
      line,
      "stimulus_id,file,sha256,run,unit,layer,index,y,x,label,chain,activation,predicted_activation,luminance,rms_contrast,height,width");
  const Classifier network = load_classifier(share_folder() + "/weights/classifier.safetensors");
  int count = 0;
  for (; std::getline(lines, line); ++count) {
    std::vector<std::string> cells;
    std::istringstream rest(line);
    for (std::string one; std::getline(rest, one, ',');) cells.push_back(one);
    ASSERT_EQ(cells.size(), 17u) << line;
    const std::string file = folder + "/set/" + cells[1];
    EXPECT_EQ(sha256_of_file(file), cells[2]);
    EXPECT_EQ(cells[4], count < 2 ? "logits:9" : "logits:54");
    EXPECT_EQ(cells[9], count < 2 ? "rainbow double line" : "rainbow double triangle");
    // The score is that of the file itself, and not of the run's picture.
    const Tensor x = from_bytes(load_image(file).unsqueeze(0));
    const double score = network.forward(x, {"logits"}).at("logits")[0][count < 2 ? 9 : 54].item<double>();
    EXPECT_NEAR(std::stod(cells[12]), score, 1e-3 * std::abs(score) + 1e-3);
    EXPECT_GT(std::abs(std::stod(cells[11]) - score), 0.1);
    EXPECT_NEAR(std::stod(cells[13]), 0.4, 0.01);
  }
  EXPECT_EQ(count, 4);
  EXPECT_TRUE(std::filesystem::exists(folder + "/set/stimuli.npy"));
  for (const char* film : {"00000.webp", "00003.mp4"}) EXPECT_TRUE(std::filesystem::exists(folder + "/set/films/" + film)) << film;

  const Outcome again = evoke_command(words);
  EXPECT_EQ(again.code, 2);
  expect_in("exists already", again.err);
  const Outcome none = evoke_command({"stimuli", folder, "--out", folder + "/other"});
  EXPECT_EQ(none.code, 3);
  expect_in("expected a finished run", none.err);
}

}  // namespace
}  // namespace evoke
