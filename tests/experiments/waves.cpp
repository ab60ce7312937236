// needs: files
// Pictures from waves, from the dataset to the picture: its spectrum measured by the command, runs of fourier and maco with it, real images
// as starts, and what is refused.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>

#include "classifiers/networks.h"
#include "core/records/pictures.h"
#include "core/storage/hdf5.h"
#include "experiments/sample.h"
#include "generators/spectrum.h"
#include "tests/expect.h"
#include "tests/experiments/outcome.h"

namespace evoke {
namespace {

constexpr int64_t height = 12, width = 17;

class Waves : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    set_threads(1);
    folder = testing::TempDir() + "evoke_waves_" + std::to_string(getpid());
    std::filesystem::create_directories(folder);
    write("data.h5", Stream::range(6, 0, 60).uniform({3, height, width}));
    write("grey.h5", Stream::range(6, 0, 60).uniform({1, height, width}).expand({60, 3, height, width}));
    write("one_channel.h5", Stream::range(6, 0, 60).uniform({1, height, width}));
    for (const int64_t channels : {3, 1}) {
      ClassifierOptions options;
      options.classes = 6, options.filters = 2, options.channels = channels, options.height = height, options.width = width;
      save_classifier(path(channels == 3 ? "colour.safetensors" : "grey.safetensors"), options, build_classifier(options, 1), {},
                      {channels, height, width, {}, {}});
    }
  }
  static void write(const std::string& name, const Tensor& images) {
    Hdf5 data = Hdf5::create(path(name));
    data.set_attribute("format", "evoke dataset");
    data.set_attribute("version", "1");
    data.write("/images", to_bytes(images.contiguous()));
    data.write("/labels", at::zeros(60, at::kLong));
    data.write("/split", (at::arange(60, at::kLong).remainder(10) == 4).to(at::kByte) * 2);
    data.write_text("/label_names", {"all"});
  }
  static std::string path(const std::string& name) { return folder + "/" + name; }
  static Outcome measure(const std::string& data, const std::string& out) {
    return evoke_command({"data", "spectrum", path(data), "--out", path(out), "-q"});
  }
  static Sampled run(const std::string& classifier, const std::string& tables, const std::vector<Override>& overrides = {}) {
    Recipe recipe = Recipe::parse("[classifier]\nweights = \"" + path(classifier) +
                                      "\"\n[objective]\nunits = [\"logits:0-1\"]\n[sampler]\nkind = \"ascent\"\n[run]\nsteps = 3\n"
                                      "chains = 2\ndevice = \"cpu\"\n" +
                                      tables,
                                  folder, overrides);
    return sample(recipe);
  }
  static inline std::string folder;
};

TEST_F(Waves, ASpectrumIsThatOfTheTrainingSplit) {
  std::remove(path("spectrum.safetensors").c_str());
  const Outcome made = measure("data.h5", "spectrum.safetensors");
  ASSERT_EQ(made.code, 0) << made.err;
  EXPECT_EQ(made.err, "");
  expect_in("17×12 of 3 channels", made.out);
  const Spectrum found = load_spectrum(path("spectrum.safetensors"));
  const Tensor images = from_bytes(to_bytes(Stream::range(6, 0, 60).uniform({3, height, width})));
  const Tensor rows = (at::arange(60).remainder(10) != 4).nonzero().squeeze(1);
  const Spectrum expected = measure_spectrum([&](const auto& visit) { visit(images.index_select(0, rows)); }, "");
  EXPECT_TRUE(at::allclose(found.factor, expected.factor, 1e-5, 1e-6));
  EXPECT_TRUE(at::allclose(found.magnitude, expected.magnitude, 1e-3, 1e-5));

  // The same command finds it finished; of another dataset it is left alone.
  EXPECT_EQ(measure("data.h5", "spectrum.safetensors").code, 0);
  const Outcome other = measure("one_channel.h5", "spectrum.safetensors");
  EXPECT_EQ(other.code, 2);
  expect_in("is not the spectrum of this dataset", other.err);
}

TEST_F(Waves, DrawPicturesInARun) {
  std::remove(path("run.safetensors").c_str());
  ASSERT_EQ(measure("data.h5", "run.safetensors").code, 0);
  const std::string spectrum = "spectrum = \"" + path("run.safetensors") + "\"\n";
  const std::string crops = "[transform]\nkind = \"crops\"\nend_low = 0.2\nend_high = 0.4\nnoise = 0.08\nviews = 2\n";
  for (const std::string& generator : {std::string("kind = \"fourier\"\n"), "kind = \"fourier\"\ncolour = \"spectrum\"\n" + spectrum,
                                       "kind = \"maco\"\n" + spectrum, "kind = \"maco\"\ncolour = \"imagenet\"\n" + spectrum}) {
    SCOPED_TRACE(generator);
    const Results results = run("colour.safetensors", crops + "[generator]\n" + generator).results;
    EXPECT_EQ(results.images.sizes(), at::IntArrayRef({4, height, width, 3}));
    EXPECT_EQ(results.codes.size(1), 3);
    // Another size than the classifier's, odd and even.
    EXPECT_EQ(run("colour.safetensors", crops + "[generator]\nheight = 25\nwidth = 30\n" + generator).results.images.sizes(),
              at::IntArrayRef({4, 25, 30, 3}));
  }
}

TEST_F(Waves, StartAtRealImages) {
  const Results results = run("colour.safetensors", "[generator]\nkind = \"fourier\"\n[data]\nfile = \"" + path("data.h5") + "\"\n",
                              {"run.start=data", "run.steps=0"})
                              .results;
  // Each picture is one of the dataset's, but for what the encoder clips.
  const Tensor images = Hdf5::open(path("data.h5")).read("/images").to(at::kInt).unsqueeze(0);
  const Tensor off = (results.images.to(at::kInt).unsqueeze(1) - images).abs().flatten(2).amax(2);
  EXPECT_LE(off.amin(1).max().item<int64_t>(), 1);
}

TEST_F(Waves, OfOneChannelAndOfGreyImagesInColour) {
  const Outcome grey = measure("grey.h5", "none.safetensors");
  EXPECT_EQ(grey.code, 3);
  expect_in("grey.h5: found images whose channels do not vary each by itself", grey.err);
  EXPECT_FALSE(std::filesystem::exists(path("none.safetensors")));
  std::remove(path("one.safetensors").c_str());
  ASSERT_EQ(measure("one_channel.h5", "one.safetensors").code, 0);
  const std::string spectrum = "[generator]\nkind = \"maco\"\nspectrum = \"" + path("one.safetensors") + "\"\n";
  EXPECT_EQ(run("grey.safetensors", spectrum).results.images.sizes(), at::IntArrayRef({4, height, width, 1}));
  EXPECT_EQ(run("grey.safetensors", "[generator]\nkind = \"fourier\"\n").results.images.size(3), 1);
  expect_in("found a spectrum of 1 channels, expected one of 3", refusal([&] { run("colour.safetensors", spectrum); }, Failure::input));
  EXPECT_EQ(measure("missing.h5", "none.safetensors").code, 3);
}

}  // namespace
}  // namespace evoke
