// needs: files
// Judging and comparing: toy networks whose readings are known, then a run directory and a comparison from end to end.
#include "experiments/judge.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>

#include "classifiers/networks.h"
#include "core/error.h"
#include "core/log.h"
#include "core/numbers/stream.h"
#include "core/records/pictures.h"
#include "core/records/results.h"
#include "core/records/run_directory.h"
#include "core/storage/files.h"
#include "core/storage/hdf5.h"
#include "core/storage/safetensors.h"
#include "experiments/compare.h"
#include "experiments/experiment.h"
#include "tests/experiments/outcome.h"

namespace evoke {
namespace {

// Reads the class from one byte of the top left pixel: logit k is −(byte − k)².
Classifier reader(int64_t channel) {
  Classifier classifier;
  classifier.name = "reader";
  classifier.image = {.channels = 3, .height = 48, .width = 48, .mean = {}, .deviation = {}};
  classifier.layers = {{"logits", "dense", {60}, 0}};
  classifier.forward = [channel](const Tensor& x, const std::vector<std::string>&) {
    const Tensor byte = (x.select(1, channel).select(1, 0).select(1, 0) * 255).unsqueeze(1);
    return Activations{{"logits", -(byte - at::arange(60, x.options())).square()}};
  };
  return classifier;
}

// Black pictures whose first bytes are what target and oracle read.
Tensor marked(const std::vector<std::pair<int64_t, int64_t>>& readings) {
  Tensor images = at::zeros({static_cast<int64_t>(readings.size()), 48, 48, 3}, at::kByte);
  for (size_t i = 0; i < readings.size(); ++i) {
    images[static_cast<int64_t>(i)][0][0][0].fill_(readings[i].first);
    images[static_cast<int64_t>(i)][0][0][1].fill_(readings[i].second);
  }
  return images;
}

Judges toy_judges() {
  Judges judges;
  judges.target = reader(0);
  judges.real = {4, at::arange(4, at::kLong),
                 [images = marked({{0, 0}, {1, 1}, {2, 2}, {3, 3}})](const Tensor& rows) { return images.index_select(0, rows); }};
  judges.all = {target_judge(judges.target, {}, at::kCPU), oracle_judge("oracle", reader(1), at::kCPU)};
  judges.oracles = {"oracle"};
  return judges;
}

TEST(JudgePictures, SharesPercentilesAndDiversity) {
  // Unit 5: all four read 5 by the target, three by the oracle, of which two are the same picture.
  const Tensor images = marked({{5, 5}, {5, 5}, {5, 7}, {5, 5}});
  images[3].slice(0, 20, 30).fill_(255);  // unlike the others
  const std::vector<Column> units(4, column_of({"logits", 5}));
  const Judges judges = toy_judges();
  const Judged judged = judge_pictures(judges, pictures_in(images, units));
  const Tensors& judgement = judged.findings;
  EXPECT_TRUE(judgement.at("wanted").equal(at::full({4}, 5, at::kLong)));
  EXPECT_TRUE(judgement.at("oracle_class").equal(at::tensor({5, 5, 7, 5}, at::kLong)));
  EXPECT_FALSE(judgement.contains("render_class"));
  // The unit's value is 0, the real images' −25 to −4.
  EXPECT_LT(judgement.at("activation").abs().max().item<float>(), 1e-4f);
  EXPECT_EQ(judgement.at("percentile").min().item<double>(), 100.0);

  const Figures figures = figures_of(judges, judged);
  EXPECT_EQ(figures.pictures, 4);
  EXPECT_EQ(figures.target.value, 1.0);
  EXPECT_EQ(figures.oracles.at(0).value, 0.75);
  EXPECT_NEAR(figures.oracles.at(0).low, wilson(3, 4).low, 1e-12);
  EXPECT_TRUE(std::isnan(figures.oracle_spread));
  EXPECT_TRUE(std::isnan(figures.render.value));
  // Two equal pictures and one almost orthogonal to them: eigenvalues 2/3 and 1/3.
  EXPECT_NEAR(figures.diversity, std::exp(2.0 / 3 * std::log(1.5) + std::log(3.0) / 3), 0.02);
  EXPECT_EQ(figures_of(judges, judged, at::tensor({2}, at::kLong)).oracles.at(0).value, 0.0);
  EXPECT_EQ(figures_of(judges, judged, at::tensor({2}, at::kLong)).diversity, 0.0);
}

TEST(JudgePictures, PartsFindWhatTheWholeFinds) {
  const Judges judges = toy_judges();
  std::vector<std::pair<int64_t, int64_t>> readings;
  std::vector<Column> units;
  for (int64_t i = 0; i < 300; ++i) {  // more than are read together
    readings.emplace_back(i % 60, i % 7);
    units.push_back(column_of({"logits", i % 4}));
  }
  const Pictures pictures = pictures_in(marked(readings), units);
  const Judged whole = judge_pictures(judges, pictures);
  const Judged first = judge_pictures(judges, pictures, 0, 130), second = judge_pictures(judges, pictures, 130, 170);
  const Tensors parts = joined({first.findings, second.findings});
  ASSERT_EQ(parts.size(), whole.findings.size());
  for (const auto& [name, values] : whole.findings) EXPECT_TRUE(values.equal(parts.at(name))) << name;
  EXPECT_TRUE(whole.small.equal(small_pictures(pictures)));
  EXPECT_THROW(joined({first.findings, {}}), Error);
}

TEST(JudgePictures, OraclesAreShownWithTheirSpread) {
  Judges judges = toy_judges();
  judges.all.push_back(oracle_judge("oracle2", reader(2), at::kCPU));
  judges.oracles.push_back("oracle2");
  Tensor images = marked({{5, 5}, {5, 5}, {5, 7}, {5, 5}});
  images[0][0][0][2] = 5;  // the second oracle reads only the first picture right
  const Judged judged = judge_pictures(judges, pictures_in(images, std::vector<Column>(4, column_of({"logits", 5}))));
  const Figures figures = figures_of(judges, judged);
  ASSERT_EQ(figures.oracles.size(), 2U);
  EXPECT_EQ(figures.oracles[0].value, 0.75);
  EXPECT_EQ(figures.oracles[1].value, 0.25);
  EXPECT_EQ(figures.oracle_spread, 0.5);
  EXPECT_NEAR(figures.diversity, 1.0, 1e-9);  // one picture that all agree on
  const std::string table = table_markdown(judges, {{"a", figures, std::nan(""), -1}}, "method");
  EXPECT_NE(table.find("oracle2 [95 %]"), std::string::npos) << table;
  EXPECT_NE(table.find("spread"), std::string::npos) << table;
  EXPECT_EQ(table_json(judges, {{"a", figures, 1.0, 5}})[0]["agreement_oracle2"]["value"], 0.25);
}

TEST(JudgePictures, PicturesOfAnotherSizeAreSeenAtTheTargetsSize) {
  const Judges judges = toy_judges();
  const Judged judged = judge_pictures(judges, pictures_in(at::full({1, 96, 96, 3}, 5, at::kByte), {column_of({"logits", 5})}));
  EXPECT_EQ(judged.findings.at("target_class").item<int64_t>(), 5);
  EXPECT_EQ(judged.small.sizes(), (std::vector<int64_t>{1, 48, 48, 3}));
}

TEST(JudgePictures, RenderJudgeTakesPart) {
  Judges judges = toy_judges();
  judges.all.push_back(render_judge(render_templates(at::kCPU, 45)));
  const Tensor images = marked({{5, 5}});
  const Tensors judgement = judge_pictures(judges, pictures_in(images, {column_of({"logits", 5})})).findings;
  EXPECT_EQ(judgement.at("render_class").size(0), 1);
  // An almost black picture is near no class: its distance is that of the least bright render.
  EXPECT_GT(judgement.at("shape_rmse")[0].item<float>(), 0.02f);
}

TEST(JudgePictures, UnitsThatAreNoClassHaveNoShare) {
  Judges judges = toy_judges();
  judges.target.layers.insert(judges.target.layers.begin(), {"conv3", "convolution", {2, 4, 4}, 0});
  judges.target.forward = [inner = judges.target.forward](const Tensor& x, const std::vector<std::string>& taps) {
    Activations out = inner(x, taps);
    out["conv3"] = x.mean({1, 2, 3}).reshape({-1, 1, 1, 1}).expand({x.size(0), 2, 4, 4});
    return out;
  };
  const Tensor images = at::full({2, 48, 48, 3}, 255, at::kByte);
  judges.all.front() = target_judge(judges.target, {}, at::kCPU);
  const std::vector<Column> units{column_of({"conv3", 0}), column_of({"conv3", 1, 2, 2})};
  const Figures figures = figures_of(judges, judge_pictures(judges, pictures_in(images, units)));
  EXPECT_TRUE(std::isnan(figures.oracles.at(0).value));
  EXPECT_EQ(figures.percentile.value, 100.0);
  EXPECT_NEAR(figures.diversity, 1.0, 1e-9);
}

TEST(JudgePictures, ATargetThatEndsInAMapHasNoClasses) {
  Judges judges = toy_judges();
  judges.target.layers = {{"map", "convolution", {2, 4, 4}, 0}};
  judges.target.forward = [](const Tensor& x, const std::vector<std::string>&) {
    return Activations{{"map", x.mean({1, 2, 3}).reshape({-1, 1, 1, 1}).expand({x.size(0), 2, 4, 4})}};
  };
  judges.all.front() = target_judge(judges.target, {}, at::kCPU);
  const std::vector<Column> units{column_of({"map", 0}), column_of({"map", 1})};
  const Judged judged = judge_pictures(judges, pictures_in(at::full({2, 48, 48, 3}, 255, at::kByte), units));
  EXPECT_TRUE(judged.findings.at("target_class").equal(at::full({2}, -1, at::kLong)));
  const Figures figures = figures_of(judges, judged);
  EXPECT_TRUE(std::isnan(figures.target.value));
  EXPECT_EQ(figures.percentile.value, 100.0);
}

TEST(JudgePictures, AUnitOfAMapIsMeasuredWhereverItAnswers) {
  // A map of one channel, the red of the image: a picture red at one corner, and one red at the middle alone.
  Classifier map;
  map.name = "map";
  map.image = {.channels = 3, .height = 8, .width = 8, .mean = {}, .deviation = {}};
  map.layers = {{"red", "conv", {1, 8, 8}, 0}, {"logits", "dense", {2}, 0}};
  map.forward = [](const Tensor& x, const std::vector<std::string>&) {
    return Activations{{"red", x.slice(1, 0, 1)}, {"logits", at::zeros({x.size(0), 2})}};
  };
  Tensor images = at::zeros({2, 8, 8, 3}, at::kByte);
  images[0][0][0][0].fill_(255);
  images[1][4][4][0].fill_(51);
  const Judge judge = target_judge(map, {}, at::kCPU);
  const auto activation = [&](const Unit& unit) { return judge.look(images, {column_of(unit), column_of(unit)}).at("activation"); };
  EXPECT_TRUE(at::allclose(activation({"red", 0}), at::tensor({1.0f, 0.2f})));
  EXPECT_TRUE(at::allclose(activation({"red", 0, 4, 4}), at::tensor({0.0f, 0.2f}))) << "at the place that is named";
}

TEST(Anchors, RealImagesAreOfTheClass) {
  const std::vector<Column> units{column_of({"logits", 2}), column_of({"logits", 0})};
  const std::vector<Anchor> found = anchors(toy_judges(), units, 1);
  ASSERT_EQ(found.size(), 2U);
  EXPECT_TRUE(found[0].pictures.read(0, 2).equal(marked({{2, 2}, {0, 0}})));
  EXPECT_EQ(found[1].name, "noise");
  EXPECT_THROW(anchors(toy_judges(), {column_of({"logits", 9})}, 1), Error);
}

TEST(Table, LinesAreAlignedAndJsonHasNoNaN) {
  Figures figures;
  figures.pictures = 12;
  figures.oracles = {wilson(3, 4)};
  figures.render = figures.shape_rmse = wilson(0, 0);
  const std::vector<TableRow> rows{{"a", figures, 1.0, 5}, {"a longer name", figures, std::nan(""), -1}};
  const std::string table = table_markdown(toy_judges(), rows, "method");
  std::istringstream lines(table);
  size_t width = 0, count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    if (count == 0) width = line.size();
    EXPECT_EQ(line.size(), width) << table;
  }
  EXPECT_EQ(count, 4U);
  EXPECT_NE(table.find("0.750 [0.301, 0.954]"), std::string::npos) << table;
  EXPECT_EQ(table.find("render"), std::string::npos) << table;  // says nothing in any row
  EXPECT_TRUE(table_json(toy_judges(), rows)[0]["agreement_render"]["value"].is_null());
  EXPECT_EQ(table_json(toy_judges(), rows)[0]["agreement_oracle"]["value"], 0.75);
}

// ---- From end to end -------------------------------------------------------------------------------------------------------------------

// std::filesystem::remove_all resolves to a copy inside libtorch.so that calls a null pointer.
void remove_tree(const std::filesystem::path& path) {
  if (std::filesystem::is_directory(std::filesystem::symlink_status(path)))
    for (const auto& entry : std::filesystem::directory_iterator(path)) remove_tree(entry.path());
  std::filesystem::remove(path);
}

// A folder with a classifier, an oracle, a small dataset and two recipes.
class EndToEnd : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder = ::testing::TempDir() + "evoke_judge_" + std::to_string(getpid());
    std::filesystem::create_directories(folder);
    const std::vector<std::string> labels;
    save_classifier(folder + "/classifier.safetensors", {.kind = "convolutional", .filters = 2}, convolutional_classifier(60, 1, 2), labels,
                    {});
    save_classifier(folder + "/oracle.safetensors", {.kind = "residual", .filters = 8}, residual_classifier(60, 2, 8), labels, {});
    write_file_with(folder + "/shapes.h5", [](const std::string& temporary) {
      Stream stream = Stream::range(4, 0, 20);
      Hdf5 file = Hdf5::create(temporary);
      file.set_attribute("format", "evoke dataset");
      file.set_attribute("version", "1");
      file.write_text("/label_names", {"a", "b", "c", "d"});
      file.write("/images", (stream.uniform({48, 48, 3}) * 255).to(at::kByte));
      file.write("/labels", at::arange(20, at::kLong).remainder(4));
      file.write("/split", at::arange(20, at::kLong).remainder(2).mul(2).to(at::kByte));
    });
    const std::string common =
        "[classifier]\nweights = \"classifier.safetensors\"\n[objective]\nkind = \"unit\"\nunits = [\"logits:1\", \"logits:3\"]\n"
        "[data]\nfile = \"shapes.h5\"\n[generator]\nkind = \"pixel\"\n[run]\nchains = 2\nsteps = 3\ndevice = \"cpu\"\n";
    write_file(folder + "/pixel.toml", common + "[sampler]\nkind = \"ascent\"\n");
    write_file(folder + "/examples.toml",
               "parent = \"pixel.toml\"\n[generator]\nrange = \"clip\"\n[prior]\nkind = \"data\"\n[sampler]\nkind = \"random_search\"\n");
  }
  static void TearDownTestSuite() { remove_tree(folder); }
  void SetUp() override { set_verbosity(Verbosity::quiet); }
  void TearDown() override { set_verbosity(Verbosity::normal); }
  static CompareOptions request(const std::string& out) {
    CompareOptions options;
    options.recipes = {folder + "/pixel.toml", folder + "/examples.toml"};
    options.files.oracles = {folder + "/oracle.safetensors"};
    options.out = folder + "/" + out;
    options.json = true;
    return options;
  }
  static std::string folder;
};
std::string EndToEnd::folder;

TEST_F(EndToEnd, CompareWritesPictureAndTablesOnce) {
  const CompareOptions options = request("comparison");
  ::testing::internal::CaptureStdout();
  EXPECT_EQ(compare(options), 0);
  const std::string said = ::testing::internal::GetCapturedStdout();
  const nlohmann::json table = nlohmann::json::parse(said)["table"];
  ASSERT_EQ(table.size(), 4U);  // two methods, real images, noise
  EXPECT_EQ(table[0]["name"], "pixel");
  EXPECT_EQ(table[0]["pictures"], 4);
  EXPECT_EQ(table[1]["name"], "examples");
  for (const char* name : {"comparison.png", "pixel.png", "examples.png", "table.md", "table.json", "config.toml", "manifest.json"})
    EXPECT_TRUE(std::filesystem::exists(options.out + "/" + name)) << name;

  // Again: said from what is there, to the letter.
  ::testing::internal::CaptureStdout();
  EXPECT_EQ(compare(options), 0);
  EXPECT_EQ(::testing::internal::GetCapturedStdout(), said);
}

TEST_F(EndToEnd, CompareRefusesUnlikeRecipes) {
  CompareOptions options = request("unlike");
  write_file(folder + "/more.toml", "parent = \"pixel.toml\"\n[run]\nchains = 3\n");
  options.recipes = {folder + "/pixel.toml", folder + "/more.toml"};
  EXPECT_THROW(compare(options), Error);
  options.recipes = {folder + "/pixel.toml", folder + "/pixel.toml"};
  EXPECT_THROW(compare(options), Error);
  EXPECT_FALSE(std::filesystem::exists(options.out));
}

TEST_F(EndToEnd, BudgetBecomesStepsDrawsOrImages) {
  const auto overrides_of = [](const std::string& file, const std::vector<Override>& more, int64_t budget) {
    Recipe recipe = Recipe::load(file, more);
    return budget_overrides(assemble(recipe), budget);
  };
  const std::string pixel = folder + "/pixel.toml";
  EXPECT_EQ(overrides_of(pixel, {}, 41), std::vector<std::string>{"run.steps=10"});
  EXPECT_EQ(overrides_of(pixel, {"run.start=search", "run.search_draws=20"}, 41), std::vector<std::string>{"run.steps=5"});
  EXPECT_EQ(overrides_of(folder + "/examples.toml", {}, 41), std::vector<std::string>{"sampler.draws=41"});
  // Each view of a code is a picture that the classifier looks at.
  const std::vector<Override> crops{"transform.kind=crops", "transform.views=2"};
  EXPECT_EQ(overrides_of(pixel, crops, 41), std::vector<std::string>{"run.steps=5"});
  EXPECT_EQ(overrides_of(folder + "/examples.toml", crops, 41), std::vector<std::string>{"sampler.draws=20"});
  const auto seen = [&](const std::vector<Override>& more) {
    Recipe recipe = Recipe::load(pixel, more);
    return assemble(recipe).images_seen;
  };
  EXPECT_EQ(seen(crops), 2 * seen({}));
  EXPECT_THROW(overrides_of(pixel, {}, 3), Error);
}

TEST_F(EndToEnd, JudgeAddsColumnsToARun) {
  JudgeOptions options;
  options.run = folder + "/run";
  options.files.oracles = {folder + "/oracle.safetensors"};
  options.device = "cpu";
  options.units = true;
  std::filesystem::create_directories(options.run);
  // The recipe's paths are relative to its folder: the run's config names them whole.
  RunDirectory directory = RunDirectory::open(
      options.run, "sample",
      "[classifier]\nweights = \"" + folder + "/classifier.safetensors\"\n[data]\nfile = \"" + folder + "/shapes.h5\"\n");
  Results results;
  results.images = marked({{1, 1}, {3, 3}});
  results.codes = at::zeros({2, 4});
  results.columns = {column_of({"logits", 1}), column_of({"logits", 3})};
  results.labels = {"", "square"};
  results.chain = at::arange(2, at::kLong);
  results.activation = at::zeros({2});
  results.status = {"ok", "ok"};
  write_results(options.run + "/results.h5", results);
  directory.finish("done");

  // Twice: a second judgement takes the first one's place.
  for (int time = 0; time < 2; ++time) {
    ::testing::internal::CaptureStdout();
    EXPECT_EQ(judge(options), 0);
    const std::string said = ::testing::internal::GetCapturedStdout();
    EXPECT_NE(said.find("real images"), std::string::npos) << said;
    EXPECT_NE(said.find("logits:3"), std::string::npos) << said;
  }
  // In parts, beside one another, and joined: the same findings.
  const Tensors whole = stored_judgement(options.run).second;
  for (const char* shard : {"0/2", "1/2"}) {
    options.shard = shard;
    ::testing::internal::CaptureStdout();
    EXPECT_EQ(judge(options), 0);
    EXPECT_NE(::testing::internal::GetCapturedStdout().find("of 2"), std::string::npos);
  }
  options.shard = "0/1";
  const Tensors first = load_safetensors(options.run + "/judge.0.2.safetensors").tensors;
  const Tensors second = load_safetensors(options.run + "/judge.1.2.safetensors").tensors;
  for (const auto& [name, values] : whole)
    EXPECT_TRUE(at::allclose(values, at::cat({first.at(name), second.at(name)}), 1e-4, 1e-4)) << name;
  ::testing::internal::CaptureStdout();
  EXPECT_EQ(judge(options), 0);
  ::testing::internal::GetCapturedStdout();
  EXPECT_TRUE(stored_judgement(options.run).second.at("oracle_class").equal(whole.at("oracle_class")));

  const Hdf5 file = Hdf5::open(options.run + "/results.h5");
  EXPECT_TRUE(file.read("/judge/wanted").equal(at::tensor({1, 3}, at::kLong)));
  for (const char* name :
       {"target_class", "oracle_class", "render_class", "shape_rmse", "margin", "tx", "ty", "theta", "activation", "percentile"})
    EXPECT_EQ(file.shape(std::string("/judge/") + name), std::vector<int64_t>{2}) << name;
  EXPECT_TRUE(file.read("/images").equal(results.images));

  options.files.oracles = {folder + "/missing.safetensors"};
  EXPECT_THROW(judge(options), Error);
}

// What is kept of a judgement holds percentiles among these real images and no others.
TEST_F(EndToEnd, AJudgementNamesItsRealImages) {
  write_file_with(folder + "/other.h5", [&](const std::string& temporary) {
    std::filesystem::copy_file(folder + "/shapes.h5", temporary, std::filesystem::copy_options::overwrite_existing);
    Hdf5 file = Hdf5::edit(temporary);
    const Tensor images = file.read("/images");
    file.remove("/images");
    file.write("/images", 255 - images);
  });
  const std::string classifier = folder + "/classifier.safetensors";
  const auto names = [&](const std::string& data) {
    JudgeFiles files;
    files.oracles = {folder + "/oracle.safetensors"};
    files.data = data.empty() ? data : folder + data;
    return names_of(make_judges(load_classifier(classifier, at::kCPU), classifier, {}, files, at::kCPU));
  };
  EXPECT_EQ(names("/shapes.h5"), names("/shapes.h5"));
  EXPECT_NE(names("/shapes.h5"), names("/other.h5"));
  EXPECT_NE(names("/shapes.h5"), names(""));
}

TEST_F(EndToEnd, MergeJoinsWhatWasFoundOfTheShards) {
  const std::string oracle = folder + "/oracle.safetensors", merged = folder + "/merged";
  std::vector<std::string> merge{"merge", "--out", merged, "-q"};
  for (const char* shard : {"0/2", "1/2"}) {
    const std::string run = folder + "/shard" + shard[0];
    ASSERT_EQ(evoke_command({"sample", folder + "/pixel.toml", "--out", run, "--shard", shard, "-q"}).code, 0);
    ASSERT_EQ(evoke_command({"judge", "--oracle", oracle, run, "-q", "--device", "cpu"}).code, 0);
    merge.push_back(run);
  }
  const Outcome outcome = evoke_command(merge);
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const auto [names, findings] = stored_judgement(merged);
  ASSERT_FALSE(findings.empty());
  EXPECT_EQ(findings.at("wanted").size(0), 4);
  // Judging the whole finds the same, by the same judges.
  ASSERT_EQ(evoke_command({"judge", "--oracle", oracle, merged, "-q", "--device", "cpu"}).code, 0);
  const auto [again, whole] = stored_judgement(merged);
  EXPECT_EQ(again, names);
  for (const auto& [name, values] : whole) EXPECT_TRUE(at::allclose(values, findings.at(name), 1e-4, 1e-4, true)) << name;
}

TEST_F(EndToEnd, AFolderOfImagesIsJudgedAsARunOfThemIs) {
  const std::string run = folder + "/elsewhere", images = folder + "/images_of_others", oracle = folder + "/oracle.safetensors";
  ASSERT_EQ(evoke_command({"sample", folder + "/pixel.toml", "--out", run, "-q"}).code, 0);
  const Results results = load_results(run);
  for (size_t row = 0; row < results.columns.size(); ++row) {
    // Half of the folders are named after the label.
    const std::string unit = row % 2 == 0 || results.labels[row].empty() ? results.columns[row].name : results.labels[row];
    std::filesystem::create_directories(images + "/" + unit);
    save_png(images + "/" + unit + text("/", row, ".png"), results.images[static_cast<int64_t>(row)]);
  }
  const std::string network = folder + "/classifier.safetensors", data = folder + "/shapes.h5";
  const auto table = [&](std::vector<std::string> words) {
    words.insert(words.end(), {"--oracle", oracle, "--data", data, "-q", "--json", "--device", "cpu"});
    const Outcome outcome = evoke_command(words);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    nlohmann::json all = nlohmann::json::parse(outcome.out).at("table").at(0);
    all.erase("diversity"), all.erase("variety");  // of pictures in another order
    return all;
  };
  EXPECT_EQ(table({"judge", images, "--network", network}), table({"judge", run}));

  const auto refused = [&](std::vector<std::string> words, int code, const std::string& part) {
    words.insert(words.begin(), "judge");
    const Outcome outcome = evoke_command(words);
    EXPECT_EQ(outcome.code, code) << outcome.err;
    EXPECT_NE(outcome.err.find(part), std::string::npos) << outcome.err;
  };
  refused({images}, 2, "--network");
  std::filesystem::create_directories(folder + "/empty");
  refused({folder + "/empty", "--network", network}, 3, "nor an image");
  save_png(folder + "/empty/one.png", results.images[0]);
  refused({folder + "/empty", "--network", network}, 2, "is of no unit");
  refused({folder + "/empty", "--network", network, "--unit", "nothing:1"}, 2, "nothing");
}

TEST_F(EndToEnd, TheEnvironmentSaysHowManyThreadsJudge) {
  const std::string run = folder + "/threads";
  ASSERT_EQ(evoke_command({"sample", folder + "/pixel.toml", "--out", run, "-q"}).code, 0);
  const int before = at::get_num_threads();
  setenv("EVOKE_THREADS", "3", 1);
  const Outcome judged = evoke_command({"judge", run, "--oracle", folder + "/oracle.safetensors", "-q", "--device", "cpu"});
  EXPECT_EQ(at::get_num_threads(), 3);
  setenv("EVOKE_THREADS", "many", 1);
  const Outcome refused = evoke_command({"judge", run, "-q"});
  unsetenv("EVOKE_THREADS");
  at::set_num_threads(before);
  EXPECT_EQ(judged.code, 0) << judged.err;
  EXPECT_EQ(refused.code, 2);
  EXPECT_NE(refused.err.find("EVOKE_THREADS"), std::string::npos) << refused.err;
}

}  // namespace
}  // namespace evoke
