// needs: files
// What can be trained, over the whole menu: a new row is tested by existing.
#include "training/menu.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "classifiers/networks.h"
#include "core/numbers/stream.h"
#include "core/storage/safetensors.h"
#include "generators/decoder.h"
#include "generators/denoiser.h"
#include "tests/expect.h"
#include "training/datasets/shapes.h"

namespace evoke {
namespace {

namespace fs = std::filesystem;

const fs::path& folder() {
  static const fs::path path = [] {
    const fs::path out = fs::path(testing::TempDir()) / ("evoke_training_menu_" + std::to_string(getpid()));
    fs::create_directories(out);
    write_shapes((out / "shapes.h5").string(), 3, 300);
    // What the examples name.
    Decoder decoder;
    decoder.kind = "autoencoder";
    decoder.options.code = 4;
    decoder.options.filters = decoder.options.encoder_filters = 2;
    decoder.decoder = decoder_network(decoder.options, 1);
    decoder.encoder = encoder_network(decoder.options, 4, 2);
    decoder.codes = code_statistics(Stream::range(5, 0, 64).normal({4}));
    save_decoder((out / "encoder.safetensors").string(), decoder);
    ClassifierOptions classifier;
    classifier.classes = 3;
    classifier.filters = 2;
    const ImageSpec image{3, 48, 48, {}, {}};
    save_classifier((out / "classifier.safetensors").string(), classifier, build_classifier(classifier, 1), {"a", "b", "c"}, image);
    DenoiserOptions denoiser;
    denoiser.code = 4;
    denoiser.hidden = 8;
    denoiser.blocks = 1;
    save_denoiser((out / "denoiser.safetensors").string(), make_denoiser(denoiser, Stream::range(6, 0, 64).normal({4}), 1));
    return out;
  }();
  return path;
}

class EachKind : public ::testing::TestWithParam<MenuEntry> {};

TEST_P(EachKind, TrainsFromItsExampleAndLeavesWeights) {
  set_threads(1);
  const MenuEntry& entry = GetParam();
  Recipe recipe = Recipe::parse("kind = \"" + entry.kind + "\"\n[data]\nfile = \"shapes.h5\"\n" + entry.example, folder().string());
  const TrainingPlan plan = plan_training(recipe);
  EXPECT_EQ(plan.kind, entry.kind);
  EXPECT_EQ(plan.inputs.at(0), (folder() / "shapes.h5").string());
  RunDirectory run = RunDirectory::open((folder() / entry.kind).string(), "train", plan.config);
  const nlohmann::json figures = plan.train(run, at::kCPU, [] { return false; });
  EXPECT_FALSE(figures.empty());
  EXPECT_FALSE(load_safetensors(run.file("weights.safetensors")).tensors.empty());

  // The resolved recipe plans the same again.
  Recipe again = Recipe::parse(plan.config, ".");
  EXPECT_EQ(plan_training(again).config, plan.config);
}

TEST_P(EachKind, HelpSaysWhatItsTablesTake) {
  const MenuEntry& entry = GetParam();
  EXPECT_FALSE(entry.sentence.empty());
  for (const TableHelp& table : entry.tables) {
    EXPECT_FALSE(table.options.empty()) << table.table;
    for (const OptionHelp& option : table.options) EXPECT_FALSE(option.sentence.empty()) << table.table << "." << option.key;
  }
}

INSTANTIATE_TEST_SUITE_P(Menu, EachKind, ::testing::ValuesIn(training_menu()), [](const auto& info) { return info.param.kind; });

// An autoencoder's decoder learns on; the encoder, and with it the codes, stay.
TEST(Menu, AnInverterKeepsTheEncoderOfItsFile) {
  set_threads(1);
  const auto recipe = [](const std::string& more) {
    return Recipe::parse("kind = \"inverter\"\n[data]\nfile = \"shapes.h5\"\n[encoder]\nweights = \"encoder.safetensors\"\n" + more,
                         folder().string());
  };
  const Decoder before = load_decoder((folder() / "encoder.safetensors").string());
  for (const std::string more : {"[training]\nepochs = 1\n", "[network]\nfilters = 4\n[training]\nepochs = 1\nlearning_rate = 1e-9\n"}) {
    SCOPED_TRACE(more);
    Recipe r = recipe(more);
    const TrainingPlan plan = plan_training(r);
    EXPECT_EQ(plan.inputs, (std::vector<std::string>{(folder() / "shapes.h5").string(), (folder() / "encoder.safetensors").string()}));
    const bool wider = more.starts_with("[network]");
    RunDirectory run = RunDirectory::open((folder() / (wider ? "wider" : "on")).string(), "train", plan.config);
    EXPECT_TRUE(plan.train(run, at::kCPU, [] { return false; }).contains("test_psnr"));
    const Decoder after = load_decoder(run.file("weights.safetensors"));
    EXPECT_EQ(after.kind, "autoencoder");
    EXPECT_EQ(after.options.filters, wider ? 4 : 2);
    for (const auto& [name, tensor] : before.encoder.weights) EXPECT_TRUE(at::equal(tensor, after.encoder.weights.at(name))) << name;
    const Tensor moved = after.decoder.weights.at("dense.weight"), was = before.decoder.weights.at("dense.weight");
    if (wider)
      EXPECT_NE(moved.sizes(), was.sizes());
    else
      EXPECT_TRUE(!at::equal(moved, was) && at::allclose(moved, was, 0, 0.1));  // begins where it was
  }
  const auto refuse = [&](const std::string& more, const std::vector<std::string>& parts) {
    expect_refusal(
        [&] {
          Recipe r = recipe(more);
          plan_training(r);
        },
        Failure::input, parts);
  };
  refuse("[network]\ncode = 5\n", {"nothing but filters"});
  refuse("[training]\ncrop = 16\n", {"crop: found 16 px for codes [4]"});
  refuse("layer = \"dense1\"\n", {"layer: found 'dense1'", "encoder.safetensors"});
  refuse("[classifier]\nweights = \"classifier.safetensors\"\n", {"[classifier]"});
  const std::string looked = "[classifier]\nweights = \"classifier.safetensors\"\n[training]\nepochs = 1\nfeature_weight = 0.1\n";
  const auto train = [&](const std::string& more) {
    return [&, more] {
      Recipe r = recipe(looked + more);
      plan_training(r);
    };
  };
  expect_refusal(train(""), Failure::input, {"feature_layers: found none"});
  expect_refusal(train("feature_layers = [\"relu9\"]\n"), Failure::input,
                 {"[training] feature_layers: classifier", "has no layer 'relu9'", "did you mean 'relu1'?", "logits"});
  expect_refusal(train("feature_layers = [\"relu2\"]\nadversarial_weight = 0.1\npatience = 3\n"), Failure::input,
                 {"patience: found 3", "the last"});
  ClassifierOptions grey;
  grey.classes = 3;
  grey.filters = 2;
  grey.channels = 1;
  save_classifier((folder() / "grey.safetensors").string(), grey, build_classifier(grey, 1), {"a", "b", "c"}, {1, 48, 48, {}, {}});
  refuse("[classifier]\nweights = \"grey.safetensors\"\n[training]\nfeature_weight = 0.1\nfeature_layers = [\"relu2\"]\n",
         {"feature_layers: found images of 3 channels, expected 1"});
  Recipe layers = Recipe::parse(
      "kind = \"inverter\"\n[data]\nfile = \"shapes.h5\"\n[classifier]\nweights = \"classifier.safetensors\"\n[encoder]\nlayer = "
      "\"relu1\"\n",
      folder().string());
  expect_refusal([&] { plan_training(layers); }, Failure::input, {"[2,48,48]", "an eighth of the image's size"});
}

TEST(Menu, CropsThatCannotBeLearnedFromAreRefusedAtPlanning) {
  const auto plan = [](const std::string& toml) {
    return [toml] {
      Recipe recipe = Recipe::parse(toml, folder().string());
      plan_training(recipe);
    };
  };
  const std::string data = "[data]\nfile = \"shapes.h5\"\n", crop = "[training]\ncrop = ";
  for (const std::string kind : {"autoencoder", "vae"}) {
    const std::string decoder = "kind = \"" + kind + "\"\n" + data + "[network]\ncode = 4\nfilters = 2\nencoder_filters = 2\n";
    expect_refusal(plan(decoder + crop + "24\n"), Failure::input, {"crop: found 24 px for codes [4]"});
    expect_refusal(plan(decoder + "spatial = true\n" + crop + "20\n"), Failure::input, {"crop: found 20 px", "multiple of 8"});
    expect_refusal(plan(decoder + "spatial = true\n" + crop + "56\n"), Failure::input, {"crop: found 56 px", "at most the images' 48"});
    EXPECT_NO_THROW(plan(decoder + "spatial = true\n" + crop + "24\n")());
  }
  const std::string classifier = "kind = \"classifier\"\n" + data + "[network]\nfilters = 8\nkind = ";
  for (const std::string kind : {"convolutional", "residual"})
    expect_refusal(plan(classifier + "\"" + kind + "\"\n" + crop + "24\n"), Failure::input, {"crop: found 24 px", kind, "shift"});
  EXPECT_NO_THROW(plan(classifier + "\"resnet9\"\n" + crop + "24\n")());

  const std::string denoiser = "kind = \"denoiser\"\n" + data + "[encoder]\nweights = \"encoder.safetensors\"\n";
  expect_refusal(plan(denoiser + crop + "24\n"), Failure::input, {"crop: found 24 px for codes [4]"});

  const std::string critic = "kind = \"critic\"\n" + data +
                             "[classifier]\nweights = \"classifier.safetensors\"\n[generator]\nkind = \"decoder\"\nweights = "
                             "\"encoder.safetensors\"\n[prior]\nkind = \"denoiser\"\nweights = \"denoiser.safetensors\"\n";
  expect_refusal(plan(critic + crop + "24\n"), Failure::input, {"crop: found 24 px", "whole images"});
}

// A critic knows its codes by a mean and a deviation of each channel, so that it reads codes of any height and width.
TEST(Menu, ACriticOfSpatialCodesTakesAPriorByChannel) {
  DecoderOptions options;
  options.code = 4;
  options.spatial = true;
  options.filters = options.encoder_filters = 2;
  for (const std::string form : {"channel", "diagonal"}) {
    const Decoder decoder{"autoencoder", options, decoder_network(options, 1), encoder_network(options, 4, 2),
                          code_statistics(Stream::range(5, 0, 64).normal({4, 6, 6}), form)};
    save_decoder((folder() / (form + ".safetensors")).string(), decoder);
    const auto plan = [&] {
      Recipe recipe =
          Recipe::parse("kind = \"critic\"\n[data]\nfile = \"shapes.h5\"\n[classifier]\nweights = \"classifier.safetensors\"\n" +
                            ("[generator]\nkind = \"decoder\"\nweights = \"" + form) +
                            ".safetensors\"\n[prior]\nkind = \"gaussian\"\n[network]\nsigma_low = 0.1\n",
                        folder().string());
      plan_training(recipe);
    };
    if (form == "channel")
      EXPECT_NO_THROW(plan());
    else
      expect_refusal(plan, Failure::input, {"means are [4,6,6]", "expected [4,1,1]", "form channel"});
  }
}

TEST(Menu, ACriticHearsOfMirroredImages) {
  set_threads(1);
  const auto loss = [](const std::string& flip) {
    Recipe recipe = Recipe::parse(
        "kind = \"critic\"\n[data]\nfile = \"shapes.h5\"\n[classifier]\nweights = \"classifier.safetensors\"\n"
        "[generator]\nkind = \"decoder\"\nweights = \"encoder.safetensors\"\n[prior]\nkind = \"denoiser\"\n"
        "weights = \"denoiser.safetensors\"\n[network]\nhidden = 16\nblocks = 1\n"
        "[training]\nepochs = 1\nflip = " +
            flip + "\n",
        folder().string());
    const TrainingPlan plan = plan_training(recipe);
    RunDirectory run = RunDirectory::open((folder() / ("critic_" + flip)).string(), "train", plan.config);
    const double out = plan.train(run, at::kCPU, [] { return false; }).at("validation");
    // What it keeps while it learns is gone when the run is.
    run.finish("done");
    for (const auto& entry : fs::directory_iterator(folder() / ("critic_" + flip)))
      EXPECT_NE(entry.path().extension(), ".h5") << entry.path();
    return out;
  };
  EXPECT_NE(loss("true"), loss("false"));
}

TEST(Menu, WhatIsOnlyLoadedIsNotOfferedToTraining) {
  const std::vector<std::string> trained = trained_kinds();
  std::vector<std::string> loaded = classifier_kinds();
  std::erase_if(loaded, [&](const std::string& kind) { return std::find(trained.begin(), trained.end(), kind) != trained.end(); });
  ASSERT_NE(std::find(loaded.begin(), loaded.end(), "resnet18"), loaded.end());
  for (const MenuEntry& entry : training_menu())
    for (const TableHelp& table : entry.tables)
      for (const OptionHelp& option : table.options) {
        if (table.table == "classifier") continue;  // a critic loads its target
        for (const std::string& kind : loaded)
          EXPECT_EQ(option.sentence.find(kind), std::string::npos)
              << entry.kind << " [" << table.table << "] " << option.key << ", " << kind;
      }
  const auto plan = [](const std::string& toml) {
    return [toml] {
      Recipe recipe = Recipe::parse(toml + "[data]\nfile = \"" + (folder() / "shapes.h5").string() + "\"\n", ".", {}, "mine.toml");
      plan_training(recipe);
    };
  };
  expect_refusal(plan("kind = \"classifier\"\n[network]\nkind = \"resnet18\"\n"), Failure::input, {"mine.toml, line 3", "convolutional"});
  expect_refusal(plan("kind = \"denoiser\"\n[encoder]\nweights = \"encoder.safetensors\"\n[network]\nwidth = 384\n"), Failure::input,
                 {"[network] says 384×48", "leave"});
  expect_refusal(plan("kind = \"vea\"\n"), Failure::input, {"mine.toml, line 1: kind", "did you mean 'vae'?"});
  expect_refusal(plan(""), Failure::input, {"kind: found none", "autoencoder"});
}

}  // namespace
}  // namespace evoke
