// needs: files
// The program as a person meets it: what it makes, that it makes it twice alike, takes it up again, and how it refuses.
#include <ATen/ATen.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <regex>
#include <thread>

#include "classifiers/networks.h"
#include "core/error.h"
#include "core/networks/network.h"
#include "core/records/pictures.h"
#include "core/records/results.h"
#include "core/storage/files.h"
#include "core/storage/hdf5.h"
#include "core/storage/safetensors.h"
#include "experiments/sample.h"
#include "experiments/verbs.h"
#include "generators/decoder.h"
#include "tests/experiments/outcome.h"

extern char** environ;

namespace evoke {
namespace {

namespace fs = std::filesystem;

std::string content(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
// fs::remove_all resolves to a copy inside libtorch.so that calls a null pointer.
void remove_tree(const fs::path& path) {
  if (fs::is_directory(fs::symlink_status(path)))
    for (const auto& entry : fs::directory_iterator(path)) remove_tree(entry.path());
  fs::remove(path);
}
void put(const fs::path& file, const std::string& bytes) { std::ofstream(file, std::ios::binary) << bytes; }

// The built program in a process of its own.
pid_t spawn(std::vector<std::string> words) {
  words.insert(words.begin(), EVOKE_BINARY "/evoke");
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t quiet;
  posix_spawn_file_actions_init(&quiet);
  posix_spawn_file_actions_addopen(&quiet, 1, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_addopen(&quiet, 2, "/dev/null", O_WRONLY, 0);
  // A test run under nohup hands an ignored SIGHUP down, which the program respects.
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t usual;
  sigemptyset(&usual);
  sigaddset(&usual, SIGHUP);
  posix_spawnattr_setsigdefault(&attributes, &usual);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
  pid_t child = -1;
  EXPECT_EQ(posix_spawn(&child, argv[0], &quiet, &attributes, argv.data(), environ), 0);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&quiet);
  return child;
}
bool appears(const fs::path& file) {
  for (int i = 0; i < 1200; ++i) {
    if (fs::exists(file)) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  return false;
}

constexpr int64_t side = 16, classes = 6;
const std::vector<std::string> labels{"red line", "green line", "red disk", "green disk", "red star", "green star"};

// A folder with tiny untrained nets, a dataset and a recipe.
class Program : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder = fs::path(testing::TempDir()) / ("evoke_command_" + std::to_string(getpid()));
    fs::create_directories(folder);
    ClassifierOptions options;
    options.classes = classes, options.filters = 2, options.height = options.width = side;
    ImageSpec image;
    image.height = image.width = side;
    save_classifier(folder / "classifier.safetensors", options, build_classifier(options, 1), labels, image);

    Decoder decoder;
    decoder.kind = "autoencoder";
    decoder.options = {.code = 4, .filters = 2, .encoder_filters = 2, .hidden = 0, .channels = 3, .height = side, .width = side};
    decoder.decoder = decoder_network(decoder.options, 2);
    decoder.encoder = encoder_network(decoder.options, 4, 3);
    Stream stream = Stream::range(5, 0, 64);
    decoder.codes = code_statistics(stream.normal({4}));
    save_decoder(folder / "decoder.safetensors", decoder);

    const Tensor images = to_bytes(Stream::range(6, 0, 90).uniform({3, side, side}));
    write_dataset(folder / "data.h5", images);
    put(folder / "recipe.toml", recipe);
  }
  static void TearDownTestSuite() { remove_tree(folder); }

  static void write_dataset(const fs::path& file, const Tensor& images) {
    Hdf5 data = Hdf5::create(file);
    data.set_attribute("format", "evoke dataset");
    data.set_attribute("version", "1");
    data.write("/images", images);
    data.write("/labels", at::arange(images.size(0), at::kLong).remainder(classes));
    // Every tenth image is validation, the one after it test.
    const Tensor tenth = at::arange(images.size(0), at::kLong).remainder(10);
    data.write("/split", at::where(tenth == 3, 1, at::where(tenth == 4, 2, 0)).to(at::kByte));
    data.write_text("/label_names", labels);
  }

  static std::string path(const std::string& name) { return (folder / name).string(); }
  // Runs the recipe with more TOML lines appended.
  static Outcome sample_with(const std::string& toml, const std::string& out, std::vector<std::string> more = {}) {
    put(folder / "changed.toml", "parent = \"recipe.toml\"\n" + toml);
    std::vector<std::string> words{"sample", path("changed.toml"), "--out", path(out), "-q"};
    words.insert(words.end(), more.begin(), more.end());
    return evoke_command(words);
  }
  static void expect_refusal(const Outcome& outcome, int code, const std::string& saying) {
    EXPECT_EQ(outcome.code, code) << outcome.err;
    EXPECT_EQ(outcome.out, "");
    EXPECT_TRUE(outcome.err.starts_with("evoke: ")) << outcome.err;
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
    EXPECT_NE(outcome.err.find(saying), std::string::npos) << outcome.err << "does not say: " << saying;
  }

  static inline fs::path folder;
  static inline const std::string recipe = R"(
[classifier]
weights = "classifier.safetensors"
[generator]
kind = "decoder"
weights = "decoder.safetensors"
[prior]
kind = "gaussian"
[objective]
kind = "log_softmax"
units = ["logits:1", "logits:4"]
[sampler]
kind = "langevin"
step_size = 0.1
[run]
chains = 3
steps = 12
seed = 5
device = "cpu"
threads = 1
)";
};

// ---- What it makes ---------------------------------------------------------------------------------------------------------------------

TEST_F(Program, SampleLeavesARunDirectory) {
  const Outcome outcome = sample_with("[run]\nsnapshots = 4\n", "made");
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.err, "");
  EXPECT_NE(outcome.out.find(path("made") + "/contact_sheet.png"), std::string::npos) << outcome.out;
  for (const char* name : {"config.toml", "manifest.json", "results.h5", "contact_sheet.png", "metrics.jsonl"})
    EXPECT_TRUE(fs::exists(folder / "made" / name)) << name;
  EXPECT_FALSE(fs::exists(folder / "made" / "checkpoint.safetensors"));

  const auto manifest = nlohmann::json::parse(content(folder / "made" / "manifest.json"));
  EXPECT_EQ(manifest["status"], "done");
  EXPECT_EQ(manifest["seed"], 5);
  EXPECT_EQ(manifest["inputs"].size(), 2u);

  const Results results = load_results(path("made"));
  EXPECT_EQ(results.images.sizes(), (std::vector<int64_t>{6, side, side, 3}));
  EXPECT_EQ(results.codes.sizes(), (std::vector<int64_t>{6, 4}));
  EXPECT_EQ(results.columns[2].unit->index, 1);
  EXPECT_EQ(results.columns[3].unit->index, 4);
  EXPECT_EQ(results.columns[3].unit->layer, "logits");
  const Hdf5 file = Hdf5::open(path("made/results.h5"));
  EXPECT_EQ(file.shape("/activation/trace"), (std::vector<int64_t>{6, 12}));
  EXPECT_EQ(file.shape("/terms/value"), (std::vector<int64_t>{6, 12}));
  EXPECT_EQ(file.shape("/snapshots"), (std::vector<int64_t>{6, 3, side, side, 3}));

  // A run that is done is left as it is; another recipe may not take its place.
  const std::string before = content(folder / "made" / "results.h5");
  EXPECT_EQ(sample_with("[run]\nsnapshots = 4\n", "made").code, 0);
  EXPECT_TRUE(content(folder / "made" / "results.h5") == before);
  expect_refusal(sample_with("[run]\nsnapshots = 6\n", "made"), 2, path("made"));
  EXPECT_TRUE(content(folder / "made" / "results.h5") == before);
}

TEST_F(Program, TheActivationIsTheUnitsOwnScoreOfThePicture) {
  Recipe recipe = Recipe::load(path("recipe.toml"));
  const Experiment experiment = assemble(recipe);
  const Sampled sampled = sample(experiment);
  ASSERT_EQ(sampled.results.activation.size(0), 6);
  const Tensor images = experiment.generator.decode(sampled.results.codes);
  const Tensor logits = experiment.classifier.forward(images, {"logits"}).at("logits");
  const Tensor expected = at::log_softmax(logits, 1).gather(1, at::tensor({1, 1, 1, 4, 4, 4}, at::kLong).unsqueeze(1)).squeeze(1);
  EXPECT_TRUE(at::allclose(sampled.results.activation, expected, 1e-4, 1e-4)) << sampled.results.activation << expected;
  EXPECT_TRUE(at::equal(sampled.results.images, to_bytes(images)));
  EXPECT_EQ(unit_caption(sampled.results, 3), "logits:4 red star");
  EXPECT_EQ(sampled.results.columns[0].name, "logits:1");
  EXPECT_EQ(sampled.images, 12 * 6);
}

TEST_F(Program, SameCommandTwiceGivesTheSameBytes) {
  for (const char* kind : {"kind = \"langevin\"\nstep_size = 0.1", "kind = \"ascent\"", "kind = \"random_search\"\ndraws = 100"}) {
    const std::string toml = std::string("[sampler]\n") + kind + "\n";
    ASSERT_EQ(sample_with(toml, "first/run").code, 0);
    ASSERT_EQ(sample_with(toml, "second/run").code, 0);
    for (const char* name : {"results.h5", "contact_sheet.png", "config.toml", "metrics.jsonl"})
      EXPECT_TRUE(content(folder / "first/run" / name) == content(folder / "second/run" / name)) << kind << ": " << name;
    // Another seed gives other pictures, or the comparison above would mean nothing.
    ASSERT_EQ(sample_with(toml, "other", {"--seed", "6"}).code, 0);
    EXPECT_FALSE(content(folder / "first/run" / "results.h5") == content(folder / "other" / "results.h5"));
    for (const char* name : {"first", "second", "other"}) remove_tree(folder / name);
  }
}

TEST_F(Program, TheResolvedConfigRunsAgain) {
  ASSERT_EQ(sample_with("", "again1").code, 0);
  ASSERT_EQ(evoke_command({"sample", path("again1/config.toml"), "--out", path("again2"), "-q"}).code, 0);
  EXPECT_TRUE(content(folder / "again1" / "results.h5") == content(folder / "again2" / "results.h5"));
}

TEST_F(Program, RandomSearchSortsBestFirstAndBeatsAShorterOne) {
  const std::string toml = "[sampler]\nkind = \"random_search\"\n";
  ASSERT_EQ(sample_with(toml + "draws = 300\n", "long").code, 0);
  ASSERT_EQ(sample_with(toml + "draws = 20\n", "short").code, 0);
  const Tensor found = load_results(path("long")).activation.view({2, 3}), fewer = load_results(path("short")).activation.view({2, 3});
  EXPECT_TRUE((found.slice(1, 0, 2) >= found.slice(1, 1, 3)).all().item<bool>()) << found;
  EXPECT_TRUE((found >= fewer).all().item<bool>()) << found << fewer;
}

// One picture a unit, of more units than a block of single chains is filled up to.
TEST_F(Program, ASearchKeepsOnePictureOfEachUnit) {
  const Outcome outcome = sample_with(
      "[objective]\nkind = \"unit\"\nunits = [\"conv3:*\", \"logits:*\"]\n[sampler]\nkind = \"random_search\"\ndraws = 40\nkeep = "
      "1\n[run]\nchains = 1\n",
      "single", {"--threads", "1"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const int64_t units = load_results(path("single")).activation.size(0);
  EXPECT_GT(units, 8);
  EXPECT_NE(units % 8, 0);
}

TEST_F(Program, ChainsThatFeelNoGradientSaySo) {
  const Outcome felt = sample_with("[prior]\nweight = 0.0\n[sampler]\nkind = \"ascent\"\n", "felt");
  EXPECT_EQ(felt.err, "");
  EXPECT_EQ(load_results(path("felt")).status, std::vector<std::string>(6, "ok"));
  const Outcome still = sample_with("[prior]\nweight = 0.0\n[sampler]\nkind = \"ascent\"\n[run]\nobjective_weight = 0.0\n", "still");
  EXPECT_EQ(still.code, 0) << still.err;
  EXPECT_NE(still.err.find("6 of 6 chains never felt a gradient"), std::string::npos) << still.err;
  EXPECT_EQ(load_results(path("still")).status, std::vector<std::string>(6, "no gradient"));
}

TEST_F(Program, AStartIsNotSearchedForWhatDependsOnOtherPictures) {
  expect_refusal(sample_with("[objective]\nkind = \"diversity\"\nlayer = \"conv3\"\n[run]\nstart = \"search\"\n", "apart"), 3,
                 "one code at a time");
}

TEST_F(Program, StartsAreWhatTheyAreCalled) {
  const auto activation = [&](const std::string& start, const std::string& more = "") {
    put(folder / "start.toml", "parent = \"recipe.toml\"\n[run]\nsteps = 0\nchains = 20\nstart = \"" + start + "\"\n" + more);
    Recipe recipe = Recipe::load(path("start.toml"));
    return sample(recipe).results;
  };
  const Results prior = activation("prior"), search = activation("search", "search_draws = 400\n"),
                data = activation("data", "[data]\nfile = \"data.h5\"\n");
  EXPECT_TRUE(at::equal(activation("auto").codes, prior.codes));
  EXPECT_GT(search.activation.mean().item<double>(), prior.activation.mean().item<double>());
  // Codes of real images: each is the code of one of the training images.
  const Decoder decoder = load_decoder(path("decoder.safetensors"));
  const Tensor codes = as_encoder(decoder, at::kCPU)->encode(from_bytes(Hdf5::open(path("data.h5")).read("/images")));
  const Tensor distance = at::cdist(data.codes, codes);
  EXPECT_LT(std::get<0>(distance.min(1)).max().item<double>(), 1e-3);
  EXPECT_GT(std::get<0>(at::cdist(prior.codes, codes).min(1)).max().item<double>(), 1e-2);
}

// A penalty is climbed, and no part of what a picture is worth; nor is one that looks at the other pictures.
TEST_F(Program, PicturesKeptApartAreScoredWithoutIt) {
  put(folder / "apart.toml", "parent = \"recipe.toml\"\n[objective]\npenalties = [\"diversity:5\"]\n[run]\nsteps = 3\nchains = 2\n");
  Recipe recipe = Recipe::load(path("apart.toml"));
  const Experiment experiment = assemble(recipe);
  EXPECT_FALSE(experiment.rows_independent);
  const Results results = sample(experiment).results;
  const auto columns = static_cast<int64_t>(experiment.columns.size());
  Stream stream = Stream::range(1, 0, 2 * columns);
  const Tensor scores = experiment.scores.scan(results.codes, stream);
  const Tensor own = scores.gather(1, at::arange(columns).repeat_interleave(2).unsqueeze(1)).squeeze(1);
  EXPECT_TRUE(at::allclose(results.activation, own, 1e-4, 1e-4));
}

TEST_F(Program, DatasetExamplesAreTheBestTrainingImages) {
  put(folder / "examples.toml",
      "parent = \"recipe.toml\"\n[generator]\nkind = \"pixel\"\nrange = \"clip\"\n[prior]\nkind = \"data\"\n[sampler]\nkind = "
      "\"random_search\"\n[data]\nfile = \"data.h5\"\n");
  Recipe recipe = Recipe::load(path("examples.toml"));
  const Experiment experiment = assemble(recipe);
  const Sampled sampled = sample(experiment);
  const Hdf5 data = Hdf5::open(path("data.h5"));
  const Tensor images = data.read("/images"), train = (data.read("/split") == 0).nonzero().squeeze(1);
  const Tensor logits = experiment.classifier.forward(from_bytes(images.index_select(0, train)), {"logits"}).at("logits");
  const auto [value, place] = at::log_softmax(logits, 1).select(1, 4).topk(3);
  EXPECT_TRUE(at::allclose(sampled.results.activation.slice(0, 3, 6), value, 1e-4, 1e-4));
  EXPECT_TRUE(at::equal(sampled.results.images.slice(0, 3, 6), images.index_select(0, train.index_select(0, place))));
}

// ---- Which value counts ----------------------------------------------------------------------------------------------------------------

TEST_F(Program, FlagBeatsEnvironmentBeatsRecipe) {
  const auto seed_of = [&](const std::string& out) { return load_results(path(out)).seed; };
  ASSERT_EQ(sample_with("", "seed1").code, 0);
  setenv("EVOKE_SEED", "71", 1);
  ASSERT_EQ(sample_with("", "seed2").code, 0);
  ASSERT_EQ(sample_with("", "seed3", {"--seed", "72"}).code, 0);
  unsetenv("EVOKE_SEED");
  setenv("EVOKE_RUN__SEED", "73", 1);
  ASSERT_EQ(sample_with("", "seed4").code, 0);
  ASSERT_EQ(sample_with("", "seed5", {"--set", "run.seed=74"}).code, 0);
  unsetenv("EVOKE_RUN__SEED");
  EXPECT_EQ(seed_of("seed1"), 5u);
  EXPECT_EQ(seed_of("seed2"), 71u);
  EXPECT_EQ(seed_of("seed3"), 72u);
  EXPECT_EQ(seed_of("seed4"), 73u);
  EXPECT_EQ(seed_of("seed5"), 74u);
}

// The environment is the command line's alone: the recipe's resolved text is parsed again while the nouns are made, and pictures are named
// and scored by what stands there.
TEST_F(Program, UnitsOfTheEnvironmentAreBeatenEverywhere) {
  ASSERT_EQ(sample_with("", "units1", {"--set", "objective.units=[\"logits:5\"]"}).code, 0);
  setenv("EVOKE_OBJECTIVE__UNITS", "[\"logits:3\"]", 1);
  const Outcome beaten = sample_with("", "units2", {"--set", "objective.units=[\"logits:5\"]"});
  const Outcome alone = sample_with("", "units3");
  unsetenv("EVOKE_OBJECTIVE__UNITS");
  ASSERT_EQ(beaten.code, 0) << beaten.err;
  ASSERT_EQ(alone.code, 0) << alone.err;
  EXPECT_TRUE(content(folder / "units1/results.h5") == content(folder / "units2/results.h5"));
  EXPECT_EQ(load_results(path("units2")).columns.at(0).unit->index, 5);
  EXPECT_EQ(load_results(path("units3")).columns.at(0).unit->index, 3);
  EXPECT_NE(beaten.out.find("logits:5"), std::string::npos) << beaten.out;
}

// Its own size is said, not that of images which it never asked for.
TEST_F(Program, ADecoderOfAnotherSizeThanTheOraclesIsRefused) {
  const Outcome judged = evoke_command({"judge", path("decoder.safetensors"), "--data", path("data.h5"), "-q"});
  EXPECT_EQ(judged.code, 2) << judged.err;
  EXPECT_NE(judged.err.find(text("decodes images of ", side, "×", side, "×3, the oracle ")), std::string::npos) << judged.err;
  EXPECT_NE(judged.err.find("sees 48×48×3"), std::string::npos) << judged.err;
}

// Weights carry their options as TOML, a run its config: no variable for a recipe reaches them.
TEST_F(Program, TheEnvironmentReachesNoFileButTheRecipe) {
  ASSERT_EQ(sample_with("", "saved").code, 0);
  setenv("EVOKE_RUN__STEPS", "4", 1);
  setenv("EVOKE_OBJECTIVE__UNITS", "[\"logits:3\"]", 1);
  const Outcome inspected = evoke_command({"inspect", path("classifier.safetensors"), "-q"});
  const Outcome judged = evoke_command({"judge", path("saved"), "--oracle", path("classifier.safetensors"), "-q"});
  const Outcome sampled = sample_with("", "four");
  unsetenv("EVOKE_RUN__STEPS");
  unsetenv("EVOKE_OBJECTIVE__UNITS");
  EXPECT_EQ(inspected.code, 0) << inspected.err;
  EXPECT_EQ(judged.code, 0) << judged.err;
  ASSERT_EQ(sampled.code, 0) << sampled.err;
  EXPECT_EQ(Hdf5::open(path("four/results.h5")).shape("/steps"), std::vector<int64_t>{4});
}

TEST_F(Program, AVariableThatIsWrongIsCalledByItsName) {
  setenv("EVOKE_THREADS", "many", 1);
  expect_refusal(sample_with("", "no"), 2, "EVOKE_THREADS: ");
  unsetenv("EVOKE_THREADS");
  setenv("EVOKE_RUN__STEPS", "-2", 1);
  expect_refusal(sample_with("", "no"), 2, "EVOKE_RUN__STEPS: [run] steps: found -2");
  unsetenv("EVOKE_RUN__STEPS");
}

TEST_F(Program, ABareNameIsARecipeThatComesWithTheProgram) {
  fs::create_directories(folder / "share" / "recipes");
  put(folder / "share" / "recipes" / "tiny.toml", "parent = \"../../recipe.toml\"\n");
  setenv("EVOKE_SHARE", path("share").c_str(), 1);
  EXPECT_EQ(evoke_command({"sample", "tiny", "--out", path("bare"), "-q"}).code, 0);
  expect_refusal(evoke_command({"sample", "tinny", "--out", path("bare2"), "-q"}), 3, "did you mean 'tiny'?");
  unsetenv("EVOKE_SHARE");
}

// ---- Taken up again --------------------------------------------------------------------------------------------------------------------

TEST_F(Program, ResumeIsBitIdenticalAfterKillAndAfterInterrupt) {
  if (!fs::exists(EVOKE_BINARY "/evoke")) GTEST_SKIP() << "the program is not built";
  const std::string toml = "[sampler]\nkind = \"ascent\"\n[run]\nsteps = 1500\ncheckpoint = 10\nstride = 50\nsnapshots = 500\n";
  ASSERT_EQ(sample_with(toml, "whole").code, 0);
  const std::string whole = content(folder / "whole" / "results.h5");

  for (const int signal : {SIGKILL, SIGINT, SIGHUP}) {
    const std::string name = signal == SIGKILL ? "killed" : signal == SIGINT ? "interrupted" : "hung_up";
    const pid_t child = spawn({"sample", path("changed.toml"), "--out", path(name)});
    ASSERT_TRUE(appears(folder / name / "checkpoint.safetensors"));
    kill(child, signal);
    int status = 0;
    waitpid(child, &status, 0);
    if (signal == SIGKILL) {
      ASSERT_TRUE(WIFSIGNALED(status)) << "the run ended before it could be killed";
    } else {
      ASSERT_TRUE(WIFEXITED(status));
      EXPECT_EQ(WEXITSTATUS(status), 130);
      EXPECT_EQ(nlohmann::json::parse(content(folder / name / "manifest.json"))["status"], "interrupted");
    }
    EXPECT_FALSE(fs::exists(folder / name / "results.h5"));
    const Outcome resumed = sample_with(toml, name);
    ASSERT_EQ(resumed.code, 0) << resumed.err;
    EXPECT_TRUE(content(folder / name / "results.h5") == whole) << name;

    // Counted over both sittings, and nothing is left of what only the resume needed.
    EXPECT_EQ(nlohmann::json::parse(content(folder / name / "manifest.json"))["images_seen"], 1500 * 6);
    for (const char* left : {"checkpoint.safetensors", "trace.records", ".lock"}) EXPECT_FALSE(fs::exists(folder / name / left)) << left;
  }
}

TEST_F(Program, AnInterruptedSearchForTheStartGoesOn) {
  if (!fs::exists(EVOKE_BINARY "/evoke")) GTEST_SKIP() << "the program is not built";
  const std::string toml = "[run]\nstart = \"search\"\nsearch_draws = 100000\nsteps = 3\ncheckpoint = 20\n";
  ASSERT_EQ(sample_with(toml, "found").code, 0);
  for (const int signal : {SIGINT, SIGKILL}) {
    const std::string name = signal == SIGINT ? "searching" : "searching_killed";
    const pid_t child = spawn({"sample", path("changed.toml"), "--out", path(name)});
    ASSERT_TRUE(appears(folder / name / "checkpoint.safetensors"));
    kill(child, signal);
    int status = 0;
    waitpid(child, &status, 0);
    if (signal == SIGINT) {
      ASSERT_TRUE(WIFEXITED(status));
      EXPECT_EQ(WEXITSTATUS(status), 130);
    }
    ASSERT_FALSE(fs::exists(folder / name / "start.safetensors")) << "the search ended before it could be interrupted";
    EXPECT_NE(load_checkpoint(path(name + "/checkpoint.safetensors")).facts.at("step"), "0");
    const Outcome resumed = sample_with(toml, name);
    ASSERT_EQ(resumed.code, 0) << resumed.err;
    EXPECT_TRUE(content(folder / name / "results.h5") == content(folder / "found" / "results.h5")) << name;
    for (const char* left : {"checkpoint.safetensors", "start.safetensors", "parts"})
      EXPECT_FALSE(fs::exists(folder / name / left)) << left;
  }
}

TEST_F(Program, InterruptedDataLeaveNothing) {
  if (!fs::exists(EVOKE_BINARY "/evoke")) GTEST_SKIP() << "the program is not built";
  fs::create_directories(folder / "begun");
  for (const int signal : {SIGINT, SIGTERM}) {
    const pid_t child = spawn({"data", "shapes", "--images", "20000", "--out", path("begun/made.h5")});
    const auto begun = [] {
      for (const auto& entry : fs::directory_iterator(folder / "begun"))
        if (entry.path().filename().string().find(".part-") != std::string::npos) return true;
      return false;
    };
    for (int i = 0; i < 1200 && !begun(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(50));
    kill(child, signal);
    int status = 0;
    waitpid(child, &status, 0);
    ASSERT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), 130);
    EXPECT_TRUE(fs::is_empty(folder / "begun"));
  }
  // The same command begins again.
  for (const char* name : {"begun/made.h5", "untouched.h5"})
    ASSERT_EQ(evoke_command({"data", "shapes", "--images", "600", "--out", path(name), "-q"}).code, 0);
  EXPECT_TRUE(content(folder / "begun/made.h5") == content(folder / "untouched.h5"));
}

TEST_F(Program, ASecondProcessIsRefusedWhileTheFirstLives) {
  if (!fs::exists(EVOKE_BINARY "/evoke")) GTEST_SKIP() << "the program is not built";
  const std::string toml = "[run]\nsteps = 20000\ncheckpoint = 10\n";
  put(folder / "changed.toml", "parent = \"recipe.toml\"\n" + toml);
  const pid_t first = spawn({"sample", path("changed.toml"), "--out", path("shared")});
  ASSERT_TRUE(appears(folder / "shared" / "checkpoint.safetensors"));
  const std::string manifest = content(folder / "shared" / "manifest.json");
  expect_refusal(sample_with(toml, "shared"), 2, "another process (" + std::to_string(first) + ") is at work there");
  EXPECT_EQ(content(folder / "shared" / "manifest.json"), manifest);
  kill(first, SIGKILL);
  waitpid(first, nullptr, 0);

  const pid_t data = spawn({"data", "shapes", "--images", "20000", "--out", path("slow.h5")});
  ASSERT_TRUE(appears(folder / ".slow.h5.lock"));
  while (content(folder / ".slow.h5.lock").empty()) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  expect_refusal(evoke_command({"data", "shapes", "--images", "60", "--out", path("slow.h5"), "-q"}), 2, "another process");
  kill(data, SIGKILL);
  waitpid(data, nullptr, 0);
  put(folder / ".slow.part-1-0.h5", "half");
  EXPECT_EQ(evoke_command({"data", "shapes", "--images", "60", "--out", path("slow.h5"), "-q"}).code, 0);
  for (const char* left : {".slow.h5.lock", ".slow.part-1-0.h5"}) EXPECT_FALSE(fs::exists(folder / left)) << left;
}

// A run is its recipe, the content of its inputs and the version.
TEST_F(Program, ARunOfOtherWeightsIsAnotherRun) {
  const std::string toml = "[classifier]\nweights = \"changing.safetensors\"\n";
  put(folder / "changing.safetensors", content(folder / "classifier.safetensors"));
  ASSERT_EQ(sample_with(toml, "changing").code, 0);
  const std::string manifest = content(folder / "changing" / "manifest.json");
  EXPECT_EQ(sample_with(toml, "changing").code, 0);

  // The weights at the same path are trained anew.
  ClassifierOptions options;
  options.classes = classes, options.filters = 2, options.height = options.width = side;
  ImageSpec image;
  image.height = image.width = side;
  save_classifier(folder / "changing.safetensors", options, build_classifier(options, 9), labels, image);
  expect_refusal(sample_with(toml, "changing"), 2, path("changing.safetensors") + " has changed since");
  EXPECT_EQ(content(folder / "changing" / "manifest.json"), manifest);

  // A recipe that the run resolved is taken as the run wrote it, or not at all.
  put(folder / "changing" / "config.toml", content(folder / "changing" / "config.toml") + "# mine\n");
  expect_refusal(evoke_command({"sample", path("changing/config.toml"), "--out", path("no"), "-q"}), 3, "other content than the run wrote");
  EXPECT_FALSE(fs::exists(folder / "no"));
}

// A file system of 256 KiB, where this process may make one.
TEST_F(Program, AFullDiskIsNamedAsTheReason) {
  if (!fs::exists(EVOKE_BINARY "/evoke")) GTEST_SKIP() << "the program is not built";
  fs::create_directories(folder / "small");
  const std::string in_namespace = "unshare -m sh -c 'mount -t tmpfs -o size=256k none " + path("small") + " && ";
  if (std::system((in_namespace + "true' 2>/dev/null").c_str()) != 0) GTEST_SKIP() << "no file system can be mounted here";
  const std::string said = path("said.txt");
  const std::pair<std::string, std::string> commands[] = {
      {"data shapes --images 600 --out " + path("small/a.h5"), path("small/a.h5") + ": "},
      {"sample " + path("recipe.toml") + " --set run.chains=2000 --out " + path("small/run"), path("small/run/")}};
  for (const auto& [words, place] : commands) {
    EXPECT_NE(std::system((in_namespace + EVOKE_BINARY "/evoke " + words + " -q; code=$?; ls -A " + path("small") + " >&2; exit $code' 2>" +
                           said + " >/dev/null")
                              .c_str()),
              0);
    const std::string sentence = content(said);
    EXPECT_TRUE(sentence.starts_with("evoke: " + place)) << sentence;
    EXPECT_NE(sentence.find("(No space left on device)"), std::string::npos) << sentence;
    EXPECT_EQ(sentence.find(".part-"), std::string::npos) << sentence;  // neither said nor left
  }
}

// ---- In blocks and shards --------------------------------------------------------------------------------------------------------------

// The two units with nine chains each: more than one block may hold.
const std::string many = "[run]\nchains = 9\nsnapshots = 6\n";

TEST_F(Program, NeitherBlocksNorShardsChangeABit) {
  // In bfloat16, which some machines take by themselves, blocks of another size may differ in a last bit; shards do not.
  const std::string exactly = "precision = \"float32\"\n";
  for (const std::string& kind : {"kind = \"langevin\"\n" + exactly, "kind = \"ascent\"\n" + exactly, std::string("kind = \"ascent\"\n"),
                                  "kind = \"fallback\"\npatience = 4\nrise = 10.0\n[climb]\n" + exactly}) {
    const std::string toml = many + "[sampler]\n" + kind;
    ASSERT_EQ(sample_with(toml, "blocks/whole/run").code, 0);
    const std::string whole = content(folder / "blocks/whole/run/results.h5");
    // Blocks of 8 and of 3 chains; in config.toml they differ, in what was found they do not.
    for (const char* batch : {"8", "3"}) {
      if (kind.find(exactly) == std::string::npos) continue;
      const Outcome cut = sample_with(many + "batch = " + batch + "\n[sampler]\n" + kind, "blocks/cut/run");
      ASSERT_EQ(cut.code, 0) << cut.err;
      EXPECT_TRUE(content(folder / "blocks/cut/run/results.h5") == whole) << kind << ", blocks of " << batch;
      EXPECT_FALSE(fs::exists(folder / "blocks/cut/run/parts"));
      remove_tree(folder / "blocks/cut");
    }
    // Five shards, one after another, and merged.
    std::vector<std::string> words{"merge", "--out", path("blocks/merged/run"), "-q"};
    for (int i = 4; i >= 0; --i) {
      const std::string name = "blocks/shard" + std::to_string(i);
      const Outcome shard = sample_with(toml, name, {"--shard", std::to_string(i) + "/5"});
      ASSERT_EQ(shard.code, 0) << shard.err;
      words.push_back(path(name));
    }
    const Outcome merged = evoke_command(words);
    ASSERT_EQ(merged.code, 0) << merged.err;
    for (const char* file : {"results.h5", "contact_sheet.png", "config.toml", "metrics.jsonl"})
      EXPECT_TRUE(content(folder / "blocks/merged/run" / file) == content(folder / "blocks/whole/run" / file)) << kind << ": " << file;
    for (const auto& entry : fs::directory_iterator(folder / "blocks/whole/run/images"))
      EXPECT_TRUE(content(entry.path()) == content(folder / "blocks/merged/run/images" / entry.path().filename())) << entry.path();
    remove_tree(folder / "blocks");
  }
}

TEST_F(Program, BlocksFitTheMemoryTheyAreGiven) {
  const std::string toml = "[sampler]\nkind = \"langevin\"\nprecision = \"float32\"\n[run]\nchains = 40\n";
  ASSERT_EQ(sample_with(toml, "roomy/run").code, 0);
  put(folder / "changed.toml", "parent = \"recipe.toml\"\n" + toml + "memory = 4e-6\n");
  const Outcome small = evoke_command({"sample", path("changed.toml"), "--out", path("narrow/run")});
  ASSERT_EQ(small.code, 0) << small.err;
  for (const char* part : {"chains go through the networks ", " at a time, the fewest with ", " GiB, more than [run] memory = 4e-06"})
    EXPECT_NE(small.err.find(part), std::string::npos) << small.err;
  EXPECT_TRUE(content(folder / "roomy/run/results.h5") == content(folder / "narrow/run/results.h5"));
}

TEST_F(Program, BlocksAreAsLargeAsTheLastStepLetsThemBe) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "the address sanitizer keeps what is freed";
#endif
  // Through the denoiser its graph is kept beside the classifier's; at the first level, where nothing steers, it is not. A deep denoiser of
  // pixels before a small classifier, so that its graph is most of what a chain needs, and what one chain needs is compared, not blocks of
  // eights: between networks of like size the libraries' own working memory hides the graph on some processors. In processes of their own,
  // as what a process has done before blurs what a few small pictures need; in float32, as bfloat16's working memory is another matter.
  const std::string evoke = std::string(EVOKE_BINARY) + "/evoke ", data = path("few.h5"), trained = path("deep_denoiser");
  ASSERT_EQ(std::system((evoke + "data shapes -q --images 120 --out " + data + " >/dev/null").c_str()), 0);
  ASSERT_EQ(std::system((evoke + "train train_photographs_denoiser_pixels -q --data " + data + " --out " + trained +
                         " --set training.crop=16 --set training.epochs=1 --set training.epoch_images=0 --set training.half=false" +
                         " --set network.base_channels=32 --set network.blocks=4 --set network.sizes=1 >/dev/null")
                            .c_str()),
            0);
  const auto gibibytes_each = [&](const std::string& through) {
    const fs::path said = folder / ("through_" + through + ".txt");
    const std::string command =
        evoke + "sample photographs_guided_pixels --threads 2 --out " + path("through_" + through) + " --set prior.weights=" + trained +
        "/weights.safetensors --set classifier.weights=" EVOKE_SOURCE "/experiments/weights/classifier.safetensors" +
        " --set 'objective.units=[\"logits:0-16\"]' --set run.steps=2 --set transform.views=1 --set run.memory=0.001" +
        " --set sampler.precision=float32 --set sampler.through_denoiser=" + through + " >/dev/null 2>" + said.string();
    EXPECT_EQ(std::system(command.c_str()), 0) << command;
    const std::string err = content(said);
    std::smatch found;
    if (!std::regex_search(err, found, std::regex("networks ([0-9]+) at a time.* need about ([0-9.e-]+) GiB"))) {
      ADD_FAILURE() << err;
      return 0.0;
    }
    return std::stod(found[2]) / std::stod(found[1]);
  };
  EXPECT_GT(gibibytes_each("true"), 2 * gibibytes_each("false"));  // some six times; where only first steps are measured, the same
}

TEST_F(Program, BlocksOfSeveralViewsStayWithinTheMemoryTheyAreGiven) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "the address sanitizer keeps what is freed";
#endif
  // In processes of their own, the smaller first: a child's peak is all that is known of children.
  const auto peak = [&](const std::string& memory) {
    const std::string command = std::string(EVOKE_BINARY) + "/evoke sample pixel -q --threads 2 --out " + path("views" + memory) +
                                " --set 'objective.units=[\"logits:0-31\"]' --set run.chains=2 --set run.steps=1 --set transform.kind=crops"
                                " --set transform.views=24 --set run.memory=" +
                                memory;
    EXPECT_EQ(std::system(command.c_str()), 0) << command;
    rusage usage{};
    getrusage(RUSAGE_CHILDREN, &usage);
    return static_cast<double>(usage.ru_maxrss) / (1 << 20);
  };
  const double little = peak("0.25"), much = peak("4");
  EXPECT_LT(little, 1.1) << "GiB, of which LibTorch itself takes some 0.5";
  EXPECT_GT(much, little + 0.3) << "the bound that this test has to feel";
}

TEST_F(Program, AUnitAskedAloneDrawsWhatItDrawsAmongOthers) {
  ASSERT_EQ(sample_with(many, "both").code, 0);
  ASSERT_EQ(sample_with(many + "[objective]\nunits = [\"logits:4\"]\n", "alone").code, 0);
  const Results both = load_results(path("both")), alone = load_results(path("alone"));
  EXPECT_TRUE(at::equal(both.codes.narrow(0, 9, 9), alone.codes));
  EXPECT_TRUE(at::equal(both.images.narrow(0, 9, 9), alone.images));
  EXPECT_TRUE(at::equal(both.chain.narrow(0, 9, 9), alone.chain));
  EXPECT_FALSE(at::equal(both.codes.narrow(0, 0, 9), alone.codes));
}

TEST_F(Program, MergeRefusesWhatIsNotAllOfOneRun) {
  for (const char* shard : {"0/3", "1/3"}) ASSERT_EQ(sample_with(many, std::string("m") + shard[0], {"--shard", shard}).code, 0);
  ASSERT_EQ(sample_with(many, "m4", {"--shard", "1/4"}).code, 0);
  ASSERT_EQ(sample_with(many + "steps = 5\n", "mother", {"--shard", "2/3"}).code, 0);
  const auto merge = [](std::vector<std::string> runs) {
    runs.insert(runs.begin(), "merge");
    runs.insert(runs.end(), {"--out", path("merged"), "-q"});
    return evoke_command(runs);
  };
  expect_refusal(merge({path("m0"), path("m1")}), 3, "2/3");
  expect_refusal(merge({path("m0"), path("m1"), path("m1")}), 3, "twice");
  expect_refusal(merge({path("m0"), path("m1"), path("m4")}), 3, "expected one of 3");
  expect_refusal(merge({path("m0"), path("m1"), path("mother")}), 3, "another recipe");
  expect_refusal(merge({path("m0"), path("nowhere")}), 3, "nowhere");
  expect_refusal(sample_with(many, "m0", {"--shard", "1/3"}), 2, "found shard 0/3");
  expect_refusal(sample_with(many, "m0"), 2, "found shard 0/3 of this run, expected 0/1");
  for (const char* bad : {"3/3", "-1/3", "1", "a/b", "1/0"}) expect_refusal(sample_with(many, "never", {"--shard", bad}), 2, "i/n");
  expect_refusal(sample_with(many, "never", {"--shard", "0/19"}), 2, "expected at most 18, the number of chains");
  expect_refusal(sample_with(many + "[sampler]\nkind = \"random_search\"\n", "never", {"--shard", "0/3"}), 2,
                 "expected at most 2, the number of units");
  EXPECT_FALSE(fs::exists(folder / "merged"));
  EXPECT_FALSE(fs::exists(folder / "never"));
}

TEST_F(Program, ATornCheckpointIsRefused) {
  const std::string toml = "[run]\nsteps = 14\n";
  ASSERT_EQ(sample_with(toml, "torn").code, 0);
  // The same run, as if it had been cut off with half a checkpoint written.
  auto manifest = nlohmann::json::parse(content(folder / "torn" / "manifest.json"));
  manifest["status"] = "running";
  put(folder / "torn" / "manifest.json", signed_manifest(manifest));
  put(folder / "torn" / "checkpoint.safetensors", content(folder / "classifier.safetensors").substr(0, 300));
  expect_refusal(sample_with(toml, "torn"), 3, "checkpoint.safetensors");
}

// ---- Refusals --------------------------------------------------------------------------------------------------------------------------

TEST_F(Program, RefusesWordsItDoesNotKnow) {
  expect_refusal(evoke_command({"smaple", "x"}), 2, "did you mean 'sample'?");
  expect_refusal(evoke_command({"sample"}), 2, "evoke sample");
  expect_refusal(evoke_command({"sample", path("recipe.toml")}), 2, "--out");
  expect_refusal(evoke_command({"sample", path("recipe.toml"), "--out", path("no"), "--chains", "3"}), 2, "--chains");
  expect_refusal(evoke_command({"sample", path("recipe.toml"), "--out", path("no"), "--seed", "-3"}), 2, "seed");
  expect_refusal(evoke_command({"sample", path("recipe.toml"), "--out", path("no"), "--set", "chains"}), 2, "table.key=value");
  expect_refusal(sample_with("", "no", {"--set", "objective.units=[\"logits:77\"]"}), 2, "--set objective.units: ");
  expect_refusal(sample_with("", "no", {"--set", "run.chains=0"}), 2, "--set run.chains: [run] chains: found 0, expected 1 to 1e+06");
  for (const char* flag : {"--threads", "--seed"}) EXPECT_LT(sample_with("", "no", {flag, "-1"}).err.size(), 150u);
  expect_refusal(sample_with("", "no", {"--threads", "-1"}), 2, "--threads: found '-1', expected a whole number, 0 to 1024");
  expect_refusal(evoke_command({"compare", path("recipe.toml"), "--chains", "0", "--out", path("no")}), 2, "--chains: found '0'");
  EXPECT_EQ(evoke_command({}).code, 2);
  EXPECT_FALSE(fs::exists(folder / "no"));
}

TEST_F(Program, RefusesAPlaceForResultsThatCannotBeOne) {
  put(folder / "plain_file", "mine");
  for (const std::string& out : {std::string(), path("plain_file"), path("plain_file/x"), path("plain_file/x/y")}) {
    expect_refusal(evoke_command({"sample", path("recipe.toml"), "--out", out, "-q"}), 2, out.empty() ? "--out" : path("plain_file"));
    expect_refusal(evoke_command({"data", "shapes", "--images", "60", "--out", out, "-q"}), 2, out.empty() ? "--out" : path("plain_file"));
  }
  expect_refusal(evoke_command({"data", "shapes", "--images", "60", "--out", path("nowhere/x.h5"), "-q"}), 2, "found no folder");
  EXPECT_EQ(content(folder / "plain_file"), "mine");
}

TEST_F(Program, RefusesRecipesItCannotFollow) {
  expect_refusal(evoke_command({"sample", path("missing.toml"), "--out", path("no")}), 3, "missing.toml");
  expect_refusal(sample_with("[run]\nchians = 3\n", "no"), 3, "did you mean 'chains'?");
  expect_refusal(sample_with("[smapler]\nkind = \"ascent\"\n", "no"), 3, "smapler");
  expect_refusal(sample_with("[run]\nchains = \"many\"\n", "no"), 3, "chains");
  expect_refusal(sample_with("[run]\nchains = 3.5\n", "no"), 3, "whole number");
  expect_refusal(sample_with("[run]\nchains = 0\n", "no"), 3, "chains");
  expect_refusal(sample_with("[sampler]\nstep_size = nan\n", "no"), 3, "step_size");
  expect_refusal(sample_with("[run]\nsteps = 3\nsteps = 4\n", "no"), 3, "changed.toml");
  expect_refusal(sample_with("[run\nsteps = 3\n", "no"), 3, "changed.toml");
  expect_refusal(sample_with("[sampler]\nkind = \"langevine\"\n", "no"), 3, "did you mean 'langevin'?");
  expect_refusal(sample_with("[prior]\nkind = \"gausian\"\n", "no"), 3, "did you mean 'gaussian'?");
  expect_refusal(sample_with("[run]\nstart = \"data\"\n", "no"), 3, "data.file");
  expect_refusal(sample_with("[prior]\nkind = \"none\"\n[run]\nstart = \"prior\"\n", "no"), 3,
                 "changed.toml, line 5: [run] start: found \"prior\", but no prior");
  expect_refusal(sample_with("[prior]\nkind = \"none\"\n", "no", {"--set", "run.start=prior"}), 2,
                 "--set run.start: [run] start: found \"prior\", but no prior");
  expect_refusal(sample_with("[run]\ndevice = \"abacus\"\n", "no"), 3,
                 "changed.toml, line 3: [run] device: found no device called 'abacus'");
  expect_refusal(sample_with("[objective]\nunits = [\"logits:77\"]\n", "no"), 3,
                 "changed.toml, line 3: [objective] units: unit 'logits:77'");
  expect_refusal(sample_with("[objective]\nunits = [\"lgits:1\"]\n", "no"), 3, "did you mean 'logits'?");
  expect_refusal(sample_with("[objective]\nunits = []\n", "no"), 3, "unit");
  expect_refusal(sample_with("[objective]\nunits = [\"logits:5-2\"]\n", "no"), 3, "runs backwards; expected 2-5");
  expect_refusal(sample_with("[objective]\nunits = [\"disk green\"]\n", "no"), 3, "did you mean 'green disk'?");
  expect_refusal(sample_with("[sampler]\nstep_size = 1e30\n", "no"), 3, "expected more than 0 and at most 1e+06");
}

TEST_F(Program, NothingIsLeftBehindByARefusal) {
  sample_with("[run]\nchians = 3\n", "nothing");
  sample_with("[objective]\nunits = [\"logits:77\"]\n", "nothing");
  sample_with("[classifier]\nweights = \"none.safetensors\"\n", "nothing");
  EXPECT_FALSE(fs::exists(folder / "nothing"));
}

TEST_F(Program, RefusesFilesItCannotUse) {
  const std::string weights = content(folder / "classifier.safetensors");
  put(folder / "cut.safetensors", weights.substr(0, weights.size() / 2));
  put(folder / "foreign.safetensors", "no weights at all");
  put(folder / "zip.safetensors", std::string("PK\x03\x04\0\0\x08\x08", 8) + "archive/data.pkl");
  put(folder / "pickle.safetensors", std::string("\x80\x02}q\0X\x05\0\0\0weights", 18));
  put(folder / "cut.h5", content(folder / "data.h5").substr(0, 900));
  expect_refusal(sample_with("[classifier]\nweights = \"none.safetensors\"\n", "no"), 3, "none.safetensors");
  expect_refusal(sample_with("[classifier]\nweights = \"cut.safetensors\"\n", "no"), 3, "cut.safetensors");
  expect_refusal(sample_with("[classifier]\nweights = \"foreign.safetensors\"\n", "no"), 3, "foreign.safetensors");
  expect_refusal(sample_with("[classifier]\nweights = \"decoder.safetensors\"\n", "no"), 3, "decoder.safetensors");
  expect_refusal(sample_with("[generator]\nweights = \"zip.safetensors\"\n", "no"), 3, "found a zip archive, such as torch.save writes");
  expect_refusal(sample_with("[generator]\nweights = \"pickle.safetensors\"\n", "no"), 3, "found a Python pickle");
  expect_refusal(sample_with("[generator]\nweights = \"classifier.safetensors\"\n", "no"), 3, "classifier.safetensors");
  expect_refusal(sample_with("[generator]\nkind = \"pixel\"\nrange = \"clip\"\n[prior]\nkind = \"data\"\n[sampler]\nkind = "
                             "\"random_search\"\n[data]\nfile = \"cut.h5\"\n",
                             "no1"),
                 3, "cut.h5");
  expect_refusal(sample_with("[generator]\nkind = \"pixel\"\nrange = \"clip\"\n[prior]\nkind = \"data\"\n[sampler]\nkind = "
                             "\"random_search\"\n[data]\nfile = \"recipe.toml\"\n",
                             "no2"),
                 3, "recipe.toml");
  expect_refusal(evoke_command({"inspect", path("none.safetensors")}), 3, "none.safetensors");
  expect_refusal(evoke_command({"inspect", path("cut.safetensors")}), 3, "cut.safetensors");
  expect_refusal(evoke_command({"inspect", path("cut.h5")}), 3, "cut.h5");
  expect_refusal(evoke_command({"inspect", path("recipe.toml")}), 3, "recipe.toml");
}

TEST_F(Program, RefusesDevicesThatAreNotThere) {
  expect_refusal(sample_with("", "no", {"--device", "abacus"}), 2, "--device: [run] device: found no device called 'abacus'");
  if (!at::hasCUDA()) expect_refusal(sample_with("", "no", {"--device", "cuda"}), 4, "CUDA");
}

TEST_F(Program, RefusesAFolderThatHoldsSomethingElse) {
  fs::create_directories(folder / "mine");
  put(folder / "mine" / "letter.txt", "dear all");
  expect_refusal(sample_with("", "mine"), 2, path("mine"));
  EXPECT_EQ(content(folder / "mine" / "letter.txt"), "dear all");
  put(folder / "flat", "a file");
  EXPECT_NE(sample_with("", "flat").code, 0);
  EXPECT_EQ(content(folder / "flat"), "a file");
}

// ---- The other verbs -------------------------------------------------------------------------------------------------------------------

TEST_F(Program, HelpShowsEveryOptionWithDefaultAndUnit) {
  const Outcome outcome = evoke_command({"sample", "--help"});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(outcome.err, "");
  for (const char* word : {"[run]", "chains = 8", "[sampler] kind = \"ppgn\"", "epsilon1", "step_size = 0.05", "code units",
                           "[prior] kind = \"denoiser\"", "[transform] kind = \"lucid\"", "--device", "--set"})
    EXPECT_NE(outcome.out.find(word), std::string::npos) << word;
  const Outcome all = evoke_command({"--help"});
  for (const char* verb : {"demo", "data", "train", "sample", "compare", "inspect", "judge", "doctor"}) {
    EXPECT_NE(all.out.find(verb), std::string::npos) << verb;
    const Outcome one = evoke_command({verb, "--help"});
    EXPECT_EQ(one.code, 0) << verb;
    EXPECT_EQ(one.err, "") << verb;
  }
  EXPECT_TRUE(evoke_command({"--version"}).out.starts_with("evoke "));
}

TEST_F(Program, InspectTellsWhatCanBeTapped) {
  const auto classifier = nlohmann::json::parse(evoke_command({"inspect", path("classifier.safetensors"), "--json"}).out);
  EXPECT_EQ(classifier["kind"], "classifier");
  EXPECT_EQ(classifier["labels"].size(), labels.size());
  int64_t parameters = 0;
  bool conv3 = false;
  for (const auto& layer : classifier["networks"][0]["layers"]) {
    parameters += layer["parameters"].get<int64_t>();
    conv3 = conv3 || (layer["name"] == "conv3" && layer["shape"][0] == 8);
  }
  EXPECT_TRUE(conv3);
  EXPECT_EQ(parameters, classifier["networks"][0]["parameters"].get<int64_t>());
  EXPECT_NE(evoke_command({"inspect", path("classifier.safetensors")}).out.find("conv3:0-7"), std::string::npos);

  const auto decoder = nlohmann::json::parse(evoke_command({"inspect", path("decoder.safetensors"), "--json"}).out);
  EXPECT_EQ(decoder["kind"], "autoencoder");
  EXPECT_EQ(decoder["networks"].size(), 2u);
  EXPECT_EQ(decoder["networks"][0]["layers"].back()["shape"], (std::vector<int64_t>{3, side, side}));

  const Outcome listed = evoke_command({"inspect", path("data.h5"), "--json"});
  EXPECT_EQ(listed.err, "");
  const auto data = nlohmann::json::parse(listed.out);
  EXPECT_EQ(data["split"]["train"], 72);
  EXPECT_EQ(data["split"]["test"], 9);
}

TEST_F(Program, DataOfOneSeedAreTheSameBytes) {
  for (const char* name : {"shapes1.h5", "shapes2.h5"})
    ASSERT_EQ(evoke_command({"data", "shapes", "--out", path(name), "--images", "120", "-q"}).code, 0);
  ASSERT_EQ(evoke_command({"data", "shapes", "--out", path("shapes3.h5"), "--images", "120", "--seed", "1", "-q"}).code, 0);
  EXPECT_TRUE(content(folder / "shapes1.h5") == content(folder / "shapes2.h5"));
  EXPECT_FALSE(content(folder / "shapes1.h5") == content(folder / "shapes3.h5"));
  // Again: nothing to do; otherwise: refused.
  const std::string before = content(folder / "shapes1.h5");
  const Outcome again = evoke_command({"data", "shapes", "--out", path("shapes1.h5"), "--images", "120"});
  EXPECT_EQ(again.code, 0) << again.err;
  EXPECT_NE(again.err.find("nothing to do"), std::string::npos) << again.err;
  EXPECT_NE(again.out.find("120 images of 60 classes"), std::string::npos) << again.out;
  expect_refusal(evoke_command({"data", "shapes", "--out", path("shapes1.h5"), "-q"}), 2, "exists already, made otherwise (images = 120)");
  expect_refusal(evoke_command({"data", "shapes", "--out", path("data.h5"), "-q"}), 2, "source unknown");
  expect_refusal(evoke_command({"data", "shapes", "--out", path("recipe.toml"), "-q"}), 2, "no dataset");
  EXPECT_TRUE(content(folder / "shapes1.h5") == before);
  expect_refusal(evoke_command({"data", "shapes", "--out", path("no.h5"), "--images", "3"}), 2, "--images");
  expect_refusal(evoke_command({"data", "folder", path("nowhere"), "--out", path("no.h5")}), 3, "nowhere");
  expect_refusal(evoke_command({"data"}), 2, "evoke data");
  EXPECT_FALSE(fs::exists(folder / "no.h5"));
}

TEST_F(Program, AFolderIsConvertedOnceAndAgainOnlyWhenItChanged) {
  for (const char* name : {"photos/cats/a.png", "photos/cats/b.png", "photos/dogs/c.png"}) {
    fs::create_directories((folder / name).parent_path());
    save_png(path(name), at::full({20, 24, 3}, 40, at::kByte));
  }
  const std::vector<std::string> words{"data", "folder", path("photos"), "--size", "16", "--out", path("photos.h5")};
  ASSERT_EQ(evoke_command(words).code, 0);
  const Outcome again = evoke_command(words);
  EXPECT_EQ(again.code, 0) << again.err;
  EXPECT_NE(again.err.find("nothing to do"), std::string::npos) << again.err;
  save_png(path("photos/dogs/c.png"), at::full({20, 24, 3}, 90, at::kByte));
  expect_refusal(evoke_command({"data", "folder", path("photos"), "--size", "16", "--out", path("photos.h5"), "-q"}), 2, "made otherwise");
}

TEST_F(Program, TrainLeavesWeightsAndTakesThemUpAgain) {
  put(folder / "train.toml", "kind = \"classifier\"\n[network]\nfilters = 2\n[training]\nepochs = 2\nbatch = 16\nthreads = 1\n");
  const std::vector<std::string> words{"train", path("train.toml"), "--data", path("data.h5"), "--out", path("trained"), "-q"};
  const Outcome outcome = evoke_command(words);
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.err, "");
  EXPECT_NE(outcome.out.find(path("trained/weights.safetensors")), std::string::npos);
  EXPECT_EQ(nlohmann::json::parse(content(folder / "trained/manifest.json"))["status"], "done");
  EXPECT_EQ(load_classifier_file(path("trained/weights.safetensors")).labels, labels);
  // Size, channels and classes are the dataset's, and stand in the config; another number of threads would give other last bits.
  for (const std::string& line :
       {text("height = ", side), text("width = ", side), std::string("channels = 3"), text("classes = ", classes)})
    EXPECT_NE(content(folder / "trained/config.toml").find(line), std::string::npos) << line;
  EXPECT_EQ(nlohmann::json::parse(content(folder / "trained/manifest.json"))["threads"], 1);

  // Again: nothing to do; elsewhere: the same bytes; another seed: others.
  const std::string weights = content(folder / "trained/weights.safetensors");
  EXPECT_EQ(evoke_command(words).code, 0);
  const auto elsewhere = [&](const std::string& out, std::vector<std::string> more) {
    std::vector<std::string> changed{"train", path("train.toml"), "--data", path("data.h5"), "--out", path(out), "-q"};
    changed.insert(changed.end(), more.begin(), more.end());
    EXPECT_EQ(evoke_command(changed).code, 0);
    return content(folder / out / "weights.safetensors");
  };
  EXPECT_TRUE(elsewhere("trained2", {}) == weights);
  EXPECT_FALSE(elsewhere("trained3", {"--seed", "9"}) == weights);

  expect_refusal(evoke_command({"train", path("train.toml"), "--out", path("no")}), 3, "--data");
  expect_refusal(evoke_command({"train", path("train.toml"), "--data", path("nowhere.h5"), "--out", path("no")}), 3, "nowhere.h5");
  expect_refusal(evoke_command({"train", path("train.toml"), "--data", path("recipe.toml"), "--out", path("no")}), 3, "recipe.toml");
  expect_refusal(evoke_command({"train", path("recipe.toml"), "--data", path("data.h5"), "--out", path("no")}), 3, "kind");
  expect_refusal(evoke_command({"train", path("train.toml"), "--data", path("data.h5"), "--out", path("no"), "--set", "training.epocs=3"}),
                 2, "did you mean 'epochs'?");
  for (const char* size : {"network.height=32", "network.classes=5", "network.channels=1"})
    expect_refusal(evoke_command({"train", path("train.toml"), "--data", path("data.h5"), "--out", path("no"), "--set", size}), 3,
                   "to take the dataset's");
  expect_refusal(evoke_command({"train", path("train.toml"), "--data", path("data.h5"), "--out", path("trained"), "--seed", "4"}), 2,
                 path("trained"));
  EXPECT_FALSE(fs::exists(folder / "no"));
}

TEST_F(Program, TheProgramIsSilentOnStderr) {
  if (!fs::exists(EVOKE_BINARY "/evoke")) GTEST_SKIP() << "the program is not built";
  const std::string silent = path("silent.txt");
  for (const std::string& words :
       {"inspect " + path("data.h5"), "sample " + path("recipe.toml") + " -q --out " + path("silent"), std::string("doctor")}) {
    EXPECT_EQ(std::system((EVOKE_BINARY "/evoke " + words + " >/dev/null 2>" + silent).c_str()), 0) << words;
    EXPECT_EQ(content(silent), "") << words;
  }
}

// What the shell sees: the program's exit code and all it said.
TEST_F(Program, OutputThatCannotBeWrittenIsARunTimeError) {
  if (!fs::exists(EVOKE_BINARY "/evoke")) GTEST_SKIP() << "the program is not built";
  const std::string said = path("said.txt");
  const auto run = [&](const std::string& words, const std::string& around) {
    const int status = std::system((around + " " EVOKE_BINARY "/evoke " + words + " 2>" + said).c_str());
    return WEXITSTATUS(status);
  };
  const std::string sample = "sample " + path("recipe.toml") + " -q --out ";
  for (const std::string& words : {"inspect " + path("data.h5"), sample + path("full"), std::string("--help"), std::string("--version")}) {
    EXPECT_EQ(run(words + " >/dev/full", ""), 1) << words;
    EXPECT_EQ(content(said), "evoke: standard output cannot be written (No space left on device); what was written to files is complete\n");
    EXPECT_EQ(run(words + " >&-", ""), 1) << words;
    EXPECT_EQ(content(said), "evoke: standard output cannot be written (Bad file descriptor); what was written to files is complete\n");
  }
  // With stdout closed, no file of the run took its number.
  EXPECT_EQ(run(sample + path("closed") + " >&-", ""), 1);
  EXPECT_EQ(run(sample + path("open") + " >/dev/null", ""), 0);
  EXPECT_TRUE(content(folder / "closed/results.h5") == content(folder / "open/results.h5"));

  // A file that outgrows the shell's limit (in blocks of 512 or 1024 bytes).
  EXPECT_EQ(run(sample + path("small") + " >/dev/null", "ulimit -f 1;"), 1) << content(said);
  EXPECT_NE(content(said).find("File too large"), std::string::npos) << content(said);
}

TEST_F(Program, ABatchJobSaysAtOnceHowLargeItIs) {
  if (!fs::exists(EVOKE_BINARY "/evoke")) GTEST_SKIP() << "the program is not built";
  const std::string said = path("job.txt");
  put(folder / "job.toml", "parent = \"recipe.toml\"\n[run]\nsteps = 9\n");
  EXPECT_EQ(std::system((EVOKE_BINARY "/evoke sample " + path("job.toml") + " --out " + path("job") + " >/dev/null 2>" + said).c_str()), 0);
  EXPECT_NE(content(said).find("sample: 2 units × 3 chains by langevin\n"), std::string::npos) << content(said);
  EXPECT_NE(content(said).find("sample langevin: 54 chain-steps\n"), std::string::npos) << content(said);
}

TEST_F(Program, DoctorFindsTheCpuWell) {
  const Outcome outcome = evoke_command({"doctor", "--json"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const auto found = nlohmann::json::parse(outcome.out);
  EXPECT_EQ(found["devices"][0]["name"], "cpu");
  EXPECT_TRUE(found["devices"][0]["works"].get<bool>());
  EXPECT_TRUE(found["libtorch"].get<std::string>().starts_with("2."));
  EXPECT_EQ(evoke_command({"doctor"}).code, 0);
}

}  // namespace
}  // namespace evoke
