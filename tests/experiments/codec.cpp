// needs: files
// Codes of any shape, rows of numbers and small images alike: every generator with every prior and every sampler of the menus; and
// somebody's autoencoder, exported as two programs, as a full citizen: codes of data, their statistics, priors, starts.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "classifiers/networks.h"
#include "core/programs/program.h"
#include "core/records/pictures.h"
#include "core/records/run_directory.h"
#include "core/storage/hdf5.h"
#include "experiments/sample.h"
#include "generators/decoder.h"
#include "generators/denoiser.h"
#include "generators/menu.h"
#include "samplers/menu.h"
#include "tests/expect.h"
#include "tests/experiments/outcome.h"

namespace evoke {
namespace {

namespace fs = std::filesystem;

constexpr int64_t height = 16, width = 24, units = 2, chains = 2;

class Codes : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    set_threads(1);
    folder = std::string(EVOKE_BINARY) + "/codes_of_any_shape";
    fs::create_directories(folder);
    ASSERT_EQ(
        std::system(("'" EVOKE_SOURCE "/.venv/bin/python' '" EVOKE_SOURCE "/tests/golden/programs.py' '" + folder + "' --codec 2>/dev/null")
                        .c_str()),
        0);

    ClassifierOptions classifier;
    classifier.classes = 6, classifier.filters = 2, classifier.height = height, classifier.width = width;
    ImageSpec image;
    image.height = height, image.width = width;
    save_classifier(path("classifier.safetensors"), classifier, build_classifier(classifier, 1), {}, image);
    write_images("data.h5", height, width);

    for (const bool spatial : {false, true}) {
      DecoderOptions options;
      options.code = spatial ? 4 : 5;
      options.filters = options.encoder_filters = 2;
      options.spatial = spatial;
      options.height = height, options.width = width;
      Decoder decoder{"autoencoder", options, decoder_network(options, 2), encoder_network(options, options.code, 3), {}};
      std::vector<int64_t> rows = code_shape(options);
      rows.insert(rows.begin(), 64);
      const Tensor codes = Stream::range(5, 0, 64).normal(code_shape(options)) * 2;
      decoder.codes = code_statistics(codes);
      const std::string name = spatial ? "spatial" : "dense";
      save_decoder(path(name + ".safetensors"), decoder);

      DenoiserOptions of;
      of.code = options.code, of.width = 8, of.blocks = 1, of.base_channels = 8;
      if (spatial) of.code_height = 2, of.code_width = 3;
      save_denoiser(path(name + "_denoiser.safetensors"), make_denoiser(of, codes, 1));
    }
  }
  static void write_images(const std::string& name, int64_t rows, int64_t columns) {
    Hdf5 data = Hdf5::create(path(name));
    data.set_attribute("format", "evoke dataset");
    data.set_attribute("version", "1");
    data.write("/images", to_bytes(Stream::range(6, 0, 60).uniform({3, rows, columns})));
    data.write("/labels", at::arange(60, at::kLong).remainder(6));
    const Tensor tenth = at::arange(60, at::kLong).remainder(10);
    data.write("/split", at::where(tenth == 3, 1, at::where(tenth == 4, 2, 0)).to(at::kByte));
    data.write_text("/label_names", {"a", "b", "c", "d", "e", "f"});
  }

  static std::string path(const std::string& name) { return folder + "/" + name; }
  // The tables [generator] and, where it has a file of its own, [encoder].
  static std::string decoder(const std::string& name, const std::string& more = "") {
    return "[generator]\nkind = \"decoder\"\nweights = \"" + path(name + ".safetensors") + "\"\n" + more;
  }
  static std::string programs(const std::string& name, const std::string& more = "") {
    return "[generator]\nkind = \"program\"\nweights = \"" + path(name + "_decoder.pt2") + "\"\n" + more + "[encoder]\nweights = \"" +
           path(name + "_encoder.pt2") + "\"\n";
  }
  static Sampled run(const std::string& tables) {
    Recipe recipe = Recipe::parse(
        "[classifier]\nweights = \"" + path("classifier.safetensors") + "\"\n[objective]\nunits = [\"logits:0-1\"]\n" + tables, folder);
    return sample(recipe);
  }
  static std::string train(const std::string& toml, const std::string& name, const std::string& data = "data.h5") {
    std::ofstream(path(name + ".toml")) << toml;
    remove_run(path(name));
    const Outcome outcome = evoke_command({"train", path(name + ".toml"), "--data", path(data), "--out", path(name), "-q"});
    return outcome.code == 0 ? "" : text(outcome.code, " ", outcome.err);
  }
  static void remove_run(const std::string& run) {
    for (const char* part :
         {"config.toml", "manifest.json", "metrics.jsonl", "checkpoint.safetensors", "weights.safetensors", "codes.safetensors"})
      std::remove((run + "/" + part).c_str());
  }

  static inline std::string folder;
};

// What each combination of the menus comes to: "" where it ran, else what it lacks. Two shapes of code must come to the same.
TEST_F(Codes, OfEitherShapeGoThroughEveryPriorAndSampler) {
  const std::string run_table = text("[run]\nsteps = 3\nchains = ", chains, "\ndevice = \"cpu\"\n");
  std::map<std::string, std::map<std::string, std::string>> found;  // by generator, then by prior and sampler
  for (const std::string name : {"dense", "spatial"}) {
    for (const MenuEntry& prior_entry : prior_menu()) {
      const std::string& prior = prior_entry.kind;
      for (const MenuEntry& sampler : sampler_menu()) {
        SCOPED_TRACE(text(name, ", ", prior, ", ", sampler.kind));
        std::string tables =
            decoder(name) + "[prior]\nkind = \"" + prior + "\"\n" + run_table + "[sampler]\nkind = \"" + sampler.kind + "\"\n";
        if (sampler.kind == "random_search") tables += "draws = 40\nbatch = 16\n";
        if (sampler.kind == "fallback") tables += "patience = 1\ncandidates = 4\nreferences = 2\n";
        if (prior == "denoiser")
          tables.insert(tables.find("[run]"), "weights = \"" + path(name + std::string("_denoiser.safetensors")) + "\"\ndraw_steps = 2\n");
        std::string lacks;
        try {
          const Results results = run(tables).results;
          std::vector<int64_t> shape = name == std::string("dense") ? std::vector<int64_t>{5} : std::vector<int64_t>{4, 2, 3};
          shape.insert(shape.begin(), units * chains);
          EXPECT_EQ(results.codes.sizes(), at::IntArrayRef(shape));
          EXPECT_TRUE(results.codes.isfinite().all().item<bool>());
          EXPECT_EQ(results.images.sizes(), at::IntArrayRef({units * chains, height, width, 3}));
        } catch (const Error& error) {
          EXPECT_TRUE(error.kind() == Failure::usage || error.kind() == Failure::input) << error.what();
          lacks = error.what();
        }
        found[name][prior + " " + sampler.kind] = lacks;
      }
    }
  }
  EXPECT_EQ(found["dense"], found["spatial"]);
  int64_t ran = 0;
  for (const auto& [combination, lacks] : found["spatial"]) ran += lacks.empty();
  EXPECT_GE(ran, 20) << "of " << found["spatial"].size();
}

TEST_F(Codes, OfASpatialDecoderServeAnySize) {
  const std::string size = "height = 32\nwidth = 40\n", steps = "[run]\nsteps = 2\nchains = 2\n";
  for (const std::string& prior : {std::string("kind = \"gaussian\""), std::string("kind = \"box\""), std::string("kind = \"joint\""),
                                   "kind = \"denoiser\"\ndraw_steps = 2\nweights = \"" + path("spatial_denoiser.safetensors") + "\""}) {
    SCOPED_TRACE(prior);
    const Results results = run(decoder("spatial", size) + "[prior]\n" + prior + "\n" + steps + "[sampler]\nkind = \"ascent\"\n").results;
    EXPECT_EQ(results.codes.sizes(), at::IntArrayRef({4, 4, 4, 5}));
    EXPECT_EQ(results.images.sizes(), at::IntArrayRef({4, 32, 40, 3}));
  }
  expect_refusal([&] { run(decoder("dense", size)); }, Failure::input, {"32 x 40", "expected 16 x 24"});
  expect_refusal([&] { run(decoder("spatial", "height = 30\n")); }, Failure::input, {"divisible by 8"});

  // Programs whose sizes are free follow the classifier, or the recipe.
  const std::string larger = "[generator.image]\nheight = 32\nwidth = 40\n", sampler = "[sampler]\nkind = \"ascent\"\n";
  EXPECT_EQ(run(programs("spatial") + steps + sampler).results.codes.sizes(), at::IntArrayRef({4, 4, 2, 3}));
  EXPECT_EQ(run(programs("spatial", larger) + steps + sampler).results.images.sizes(), at::IntArrayRef({4, 32, 40, 3}));
  expect_refusal([&] { run(programs("spatial", "[generator.image]\nheight = 30\n")); }, Failure::input,
                 {"divisible by 8", "[generator.image]"});
}

// Both pairs of programs: codes of data are measured and stored, priors and starts take them, a denoiser learns them.
TEST_F(Codes, OfSomebodysAutoencoderExportedAsTwoPrograms) {
  for (const std::string name : {"dense", "spatial"}) {
    SCOPED_TRACE(name);
    const std::string encoder_table = "[encoder]\nweights = \"" + path(name + "_encoder.pt2") + "\"\n";
    ASSERT_EQ(train("kind = \"codes\"\n" + encoder_table + "[training]\nthreads = 1\n", name + "_codes"), "");
    const std::string statistics = path(name + "_codes/weights.safetensors");
    const std::string described = evoke_command({"inspect", statistics}).out;
    EXPECT_NE(described.find("codes"), std::string::npos) << described;

    // What was measured is what the encoder makes of the training images.
    const Hdf5 data = Hdf5::open(path("data.h5"));
    const Tensor train_rows = (data.read("/split") == 0).nonzero().squeeze(1);
    const Tensor images = from_bytes(data.read("/images").index_select(0, train_rows));
    const Encoder encoder = as_encoder(load_program(path(name + "_encoder.pt2"), at::kCPU), {3, height, width, {}, {}}, at::kCPU);
    const Tensor codes = encoder.encode(images);
    const CodeStatistics measured = load_codes(statistics, encoder.latent), expected = code_statistics(codes);
    EXPECT_TRUE(at::allclose(measured.mean, expected.mean, 1e-4, 1e-5));
    EXPECT_TRUE(at::allclose(measured.covariance, expected.covariance, 1e-4, 1e-5));

    // Priors of them; chains that start at them; the pull through the image.
    const std::string with_codes = programs(name, "codes = \"" + statistics + "\"\n"), run_table = "[run]\nsteps = 2\nchains = 8\n";
    for (const char* prior : {"kind = \"gaussian\"", "kind = \"box\"", "kind = \"box\"\nrange = \"dgn_am\"", "kind = \"joint\""})
      EXPECT_EQ(run(with_codes + "[prior]\n" + prior + "\n" + run_table).results.codes.size(0), 16) << prior;
    const Results started =
        run(with_codes + "[run]\nsteps = 0\nchains = 8\nstart = \"data\"\n[data]\nfile = \"" + path("data.h5") + "\"\n").results;
    const Tensor distance =
        std::get<0>(at::cdist(started.codes.flatten(1), codes.flatten(1), 2, /*compute_mode=without products*/ 2).min(1));
    EXPECT_LT(distance.max().item<double>(), 1e-4);

    // A denoiser of them, with the statistics beside it.
    const std::string learned = "kind = \"denoiser\"\n" + encoder_table +
                                "[network]\nhidden = 8\nblocks = 1\nbase_channels = 8\n[training]\nepochs = 1\nbatch = 16\nthreads = 1\n";
    ASSERT_EQ(train(learned, name + "_learned"), "");
    EXPECT_TRUE(at::equal(load_codes(path(name + "_learned/codes.safetensors")).mean, measured.mean));
    EXPECT_EQ(row_shape(load_denoiser(path(name + "_learned/weights.safetensors")).options), encoder.latent);
    EXPECT_EQ(run(programs(name) + "[prior]\nkind = \"denoiser\"\ndraw_steps = 2\nweights = \"" +
                  path(name + "_learned/weights.safetensors") + "\"\n" + run_table)
                  .results.codes.sizes()
                  .slice(1),
              at::IntArrayRef(encoder.latent));
  }
}

TEST_F(Codes, OfAnotherShapeAreRefusedInOneSentence) {
  const auto encoder = [](const std::string& file) { return "[encoder]\nweights = \"" + path(file) + "\"\n"; };
  // Codes that do not fit, images that do not fit, files that are no encoders.
  expect_refusal([&] { run(decoder("dense") + encoder("spatial_encoder.pt2")); }, Failure::input,
                 {"makes codes [4,2,3]", "takes codes [5]"});
  expect_refusal([&] { run(decoder("spatial") + encoder("dense.safetensors")); }, Failure::input,
                 {"makes codes [5]", "takes codes [4,2,3]"});
  expect_refusal([&] { run(decoder("spatial", "height = 32\n") + encoder("dense_encoder.pt2")); }, Failure::input,
                 {"dense_encoder.pt2", "[3,32,24]", "[3,16,24]"});
  expect_refusal([&] { run(decoder("spatial") + encoder("spatial_decoder.pt2")); }, Failure::input, {"spatial_decoder.pt2"});
  expect_refusal([&] { run(decoder("dense") + encoder("missing.pt2")); }, Failure::input, {"missing.pt2"});
  expect_refusal([&] { run(decoder("dense") + "[encoder]\nwieghts = \"\"\n"); }, Failure::input, {"did you mean 'weights'"});
  expect_refusal([&] { run(programs("dense") + "[prior]\nkind = \"gaussian\"\n"); }, Failure::input, {"train codes", "standard = true"});

  ASSERT_EQ(train("kind = \"codes\"\n" + encoder("spatial_encoder.pt2") + "[training]\nform = \"full\"\n", "wrong_codes"), "");
  expect_refusal([&] { run(programs("dense", "codes = \"" + path("wrong_codes/weights.safetensors") + "\"\n")); }, Failure::input,
                 {"[4,2,3]", "expected those of codes [5]"});
  EXPECT_NE(train("kind = \"codes\"\n", "no_encoder").find("needs [encoder] weights"), std::string::npos);
  write_images("small.h5", 8, 8);
  EXPECT_NE(train("kind = \"codes\"\n" + encoder("dense_encoder.pt2"), "other_images", "small.h5").find("[3,16,24]"), std::string::npos);
}

}  // namespace
}  // namespace evoke
