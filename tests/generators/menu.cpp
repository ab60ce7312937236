// needs: files
// Weights on disk, and what a recipe can name: round trips, every row of the menus, refusals in a sentence.
#include "generators/menu.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <set>

#include "core/error.h"
#include "core/records/pictures.h"
#include "core/storage/hdf5.h"
#include "core/storage/safetensors.h"
#include "generators/decoder.h"
#include "generators/denoiser.h"
#include "generators/spectrum.h"

namespace evoke {
namespace {

// Small tensors: threads that wait for one another would take most of the time.
[[maybe_unused]] const bool one_thread = (set_threads(1), true);

const ImageSpec image{3, 16, 24, {}, {}};

// Files of this process, gone with it.
struct Files {
  std::set<std::string> names;
  ~Files() {
    for (const std::string& name : names) unlink(name.c_str());
  }
};
std::string file(const std::string& name) {
  static Files files;
  return *files.names.insert(testing::TempDir() + "evoke_menu_" + std::to_string(getpid()) + "_" + name).first;
}
Tensor normal(at::IntArrayRef shape, uint64_t seed = 1) { return Stream::range(seed, 0, 1).normal(shape).squeeze(0); }

Decoder decoder(const std::string& kind = "vae", int64_t hidden = 0) {
  DecoderOptions options;
  options.code = 5;
  options.filters = 4;
  options.encoder_filters = 3;
  options.hidden = hidden;
  options.height = 16;
  options.width = 24;
  Decoder out{kind, options, decoder_network(options, 1), {}, code_statistics(normal({64, 5}) * 2 + 1)};
  if (kind == "vae" || kind == "autoencoder") out.encoder = encoder_network(options, kind == "vae" ? 10 : 5, 2);
  return out;
}

Denoiser denoiser(const std::string& space, double sigma) {
  DenoiserOptions options;
  options.space = space;
  options.sigma = sigma;
  options.code = 5;
  options.hidden = 16;
  options.blocks = 1;
  options.base_channels = 8;
  options.height = 16;
  options.width = 24;
  options.sigma_low = 0.0123456789;
  Denoiser out = make_denoiser(options, space == "code" ? normal({64, 5}) : normal({8, 3, 16, 24}), 3);
  Tensor& last = out.network.weights.at("out.weight");
  last = normal(last.sizes(), 5) * 0.3;
  return out;
}

// Of other images than those drawn: it is resized.
Spectrum spectrum(int64_t channels = 3) {
  const Tensor factor = at::eye(channels) + at::tril(at::full({channels, channels}, 0.2), -1);
  return {normal({channels, 9, 6}).abs() + 0.1, at::full({channels}, 0.4), factor, 9, 10};
}

Recipe recipe(const std::string& toml) { return Recipe::parse(toml, testing::TempDir()); }

void expect_refusal(const std::string& part, const std::function<void()>& act) {
  try {
    act();
    ADD_FAILURE() << "not refused: " << part;
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    EXPECT_TRUE(error.kind() == Failure::input || error.kind() == Failure::usage);
  }
}

TEST(Weights, DecodersComeBackToTheBit) {
  for (const char* kind : {"autoencoder", "vae", "gan", "inverter"}) {
    for (const int64_t hidden : {0, 6}) {
      SCOPED_TRACE(kind);
      const Decoder saved = decoder(kind, hidden);
      const std::string path = file("decoder.safetensors");
      save_decoder(path, saved);
      const Decoder loaded = load_decoder(path);
      EXPECT_EQ(loaded.kind, kind);
      EXPECT_EQ(loaded.options.encoder_filters, 3);
      EXPECT_EQ(loaded.options.hidden, hidden);
      EXPECT_TRUE(at::equal(loaded.codes.covariance, saved.codes.covariance));
      EXPECT_TRUE(at::equal(loaded.codes.high, saved.codes.high));
      const Tensor z = normal({3, 5}), x = at::sigmoid(normal({3, 3, 16, 24}));
      EXPECT_TRUE(at::equal(as_generator(loaded, at::kCPU).decode(z), as_generator(saved, at::kCPU).decode(z)));
      EXPECT_EQ(loaded.encoder.steps.empty(), saved.encoder.steps.empty());
      if (!saved.encoder.steps.empty()) {
        EXPECT_TRUE(at::equal(as_encoder(loaded, at::kCPU)->encode(x), as_encoder(saved, at::kCPU)->encode(x)));
      }

      // Half precision: close, not equal.
      save_decoder(path, saved, true);
      const double error =
          (as_generator(load_decoder(path), at::kCPU).decode(z) - as_generator(saved, at::kCPU).decode(z)).abs().max().item<double>();
      EXPECT_GT(error, 0.0);
      EXPECT_LT(error, 0.01);
    }
  }
}

TEST(Weights, StatisticsOfCodesComeBackToTheBit) {
  const std::string path = file("codes_alone.safetensors");
  for (const char* form : {"full", "channel", "diagonal"}) {
    const CodeStatistics saved = code_statistics(normal({20, 3, 2, 4}), form);
    save_codes(path, saved, {3, 2, 4});
    const CodeStatistics loaded = load_codes(path, {3, 2, 4});
    EXPECT_TRUE(at::equal(loaded.covariance, saved.covariance));
    EXPECT_TRUE(at::equal(loaded.high, saved.high));
    EXPECT_NO_THROW(load_codes(path));
    expect_refusal("codes [5]", [&] { load_codes(path, {5}); });
  }
  expect_refusal("vae", [&] {
    save_decoder(path, decoder());
    load_codes(path);
  });
}

TEST(Weights, DenoisersComeBackToTheBit) {
  for (const char* space : {"code", "image"}) {
    for (const double sigma : {0.0, 0.3}) {
      const Denoiser saved = denoiser(space, sigma);
      const std::string path = file("denoiser.safetensors");
      save_denoiser(path, saved);
      const Denoiser loaded = load_denoiser(path);
      EXPECT_EQ(loaded.options.space, space);
      EXPECT_EQ(loaded.options.sigma, sigma);
      EXPECT_EQ(loaded.options.sigma_low, 0.0123456789);
      const Tensor z = std::string(space) == "code" ? normal({3, 5}) : normal({3, 3, 16, 24});
      EXPECT_TRUE(at::equal(denoiser_prior(loaded, 0.3, at::kCPU).score(z), denoiser_prior(saved, 0.3, at::kCPU).score(z)));
    }
  }
}

TEST(Weights, OfAnotherKindOrShapeAreRefused) {
  const std::string a = file("a.safetensors"), b = file("b.safetensors");
  save_decoder(a, decoder());
  save_denoiser(b, denoiser("code", 0));
  expect_refusal("denoiser", [&] { load_decoder(b); });
  expect_refusal("vae", [&] { load_denoiser(a); });
  expect_refusal("missing", [&] { load_decoder(file("missing.safetensors")); });

  // Options that say another code than the weights have; a tensor too many; statistics that are gone.
  Decoder wrong = decoder();
  wrong.options.code = 6;
  save_decoder(a, wrong);
  expect_refusal("do not fit the network", [&] { load_decoder(a); });
  save_decoder(a, decoder());
  SafeTensors good = load_safetensors(a);
  SafeTensors more = good, fewer = good;
  more.tensors["stray"] = at::zeros({1});
  save_safetensors(a, more);
  expect_refusal("stray", [&] { load_decoder(a); });
  SafeTensors misshapen = good;
  misshapen.tensors["codes.mean"] = at::zeros({6});
  save_safetensors(a, misshapen);
  expect_refusal("expected those of codes [5]", [&] { load_decoder(a); });
  fewer.tensors.erase("codes.mean");
  save_safetensors(a, fewer);
  expect_refusal("codes.mean", [&] { load_decoder(a); });
}

TEST(Menu, MakesEveryGeneratorAndPrior) {
  const std::string vae = file("vae.safetensors"), codes = file("codes.safetensors"), pixels = file("pixels.safetensors");
  save_decoder(vae, decoder());
  save_denoiser(codes, denoiser("code", 0));
  save_denoiser(pixels, denoiser("image", 0.3));
  const std::string waves = file("waves.safetensors");
  save_spectrum(waves, spectrum(), "");
  const std::string with_decoder = "[generator]\nkind = \"decoder\"\nweights = \"" + vae + "\"\n";
  const std::string with_pixels = "[generator]\nkind = \"pixel\"\nrange = \"clip\"\n";

  struct Case {
    std::string kind, toml;
  };
  for (const Case& c :
       std::vector<Case>{{"none", with_decoder},
                         {"gaussian", with_decoder + "[prior]\nkind = \"gaussian\"\nweight = 0.5"},
                         {"none", "[generator]\nkind = \"fourier\""},
                         {"none", "[generator]\nkind = \"fourier\"\ncolour = \"spectrum\"\nspectrum = \"" + waves + "\"\ndecay = 1.5"},
                         {"none", "[generator]\nkind = \"maco\"\nspectrum = \"" + waves + "\""},
                         {"gaussian", "[generator]\nkind = \"fourier\"\n[prior]\nkind = \"gaussian\"\nstandard = true\nweight = 0.5"},
                         {"joint", "[generator]\nkind = \"fourier\"\n[prior]\nkind = \"joint\"\nweight = 0.5"},
                         {"gaussian", with_pixels + "[prior]\nkind = \"gaussian\"\nstandard = true\nweight = 0.5"},
                         {"box", with_decoder + "[prior]\nkind = \"box\"\nweight = 0.5"},
                         {"box", with_decoder + "[prior]\nkind = \"box\"\nrange = \"dgn_am\"\nweight = 0.5"},
                         {"box", with_pixels + "[prior]\nkind = \"box\"\nrange = \"given\"\nweight = 0.5"},
                         {"denoiser", with_decoder + "[prior]\nkind = \"denoiser\"\nweight = 0.5\nweights = \"" + codes + "\""},
                         {"denoiser", with_pixels + "[prior]\nkind = \"denoiser\"\nweight = 0.5\nweights = \"" + pixels + "\""},
                         {"joint", with_decoder + "[prior]\nkind = \"joint\"\nweight = 0.5"}}) {
    SCOPED_TRACE(c.toml);
    Recipe r = recipe(c.toml);
    const Codec codec = make_codec(r, image, at::kCPU);
    const Generator& generator = codec.generator;
    Stream stream = Stream::range(1, 0, 3);
    const Tensor z = generator.start(stream);
    EXPECT_EQ(generator.decode(z).sizes(), at::IntArrayRef({3, 3, 16, 24}));
    const WeightedPrior got = make_prior(r, codec, at::kCPU);
    EXPECT_NO_THROW(r.refuse_unread());
    EXPECT_EQ(got.prior.has_value(), c.kind != "none");
    if (!got.prior) continue;
    EXPECT_EQ(got.prior->name, c.kind);
    EXPECT_EQ(got.weight, 0.5);
    EXPECT_EQ(got.prior->score(z).sizes(), z.sizes());
    if (got.prior->log_density) {
      EXPECT_EQ(got.prior->log_density(z).sizes(), at::IntArrayRef({3}));
    }
    if (got.prior->draw) {
      EXPECT_EQ(got.prior->draw(stream).sizes(), z.sizes());
    }
  }
}

TEST(Menu, ALayerOfTheClassifierMakesCodes) {
  const std::string path = file("inverter.safetensors");
  save_decoder(path, decoder("inverter"));
  // Five numbers of an image: its mean times 1 … 5, and a map that no decoder draws from.
  Classifier classifier;
  classifier.name = "toy";
  classifier.image = image;
  classifier.layers = {{"map", "toy", {3, 16, 24}, 0}, {"five", "toy", {5}, 0}};
  classifier.forward = [](const Tensor& x, const std::vector<std::string>& taps) {
    Activations out;
    for (const std::string& tap : taps) out[tap] = tap == "map" ? x : x.mean({1, 2, 3}).unsqueeze(1) * at::arange(1, 6).to(at::kFloat);
    return out;
  };
  const std::string generator = "[generator]\nkind = \"decoder\"\nweights = \"" + path + "\"\n[encoder]\n";
  Recipe r = recipe(generator + "layer = \"five\"\n[prior]\nkind = \"joint\"\n");
  const Codec codec = make_codec(r, image, at::kCPU, &classifier);
  ASSERT_TRUE(codec.encoder.has_value());
  EXPECT_EQ(codec.encoder->name, "toy:five");
  EXPECT_TRUE(at::allclose(codec.encoder->encode(at::full({1, 3, 16, 24}, 0.5)), at::tensor({0.5f, 1.0f, 1.5f, 2.0f, 2.5f}).unsqueeze(0)));
  EXPECT_TRUE(make_prior(r, codec, at::kCPU).prior.has_value());

  const auto refuse = [&](const std::string& part, const std::string& encoder, const Classifier* of) {
    expect_refusal(part, [&] {
      Recipe other = recipe(generator + encoder);
      make_codec(other, image, at::kCPU, of);
    });
  };
  refuse("[encoder] layer: classifier toy has no layer 'six'", "layer = \"six\"", &classifier);
  refuse("[3,16,24]", "layer = \"map\"", &classifier);
  refuse("of no network", "layer = \"five\"", nullptr);
  refuse("with no weights named, of [classifier]", "layer = \"five\"\nweights = \"" + path + "\"", &classifier);
  refuse("found a decoder of kind inverter, which has no encoder", "weights = \"" + path + "\"", &classifier);
  const std::string other_size = file("other_size.safetensors");
  Decoder small = decoder();
  small.options.width += 8;
  small.decoder = decoder_network(small.options, 1), small.encoder = encoder_network(small.options, 10, 2);
  save_decoder(other_size, small);
  refuse("to encode, expected", "weights = \"" + other_size + "\"", &classifier);
  classifier.image.width = 32;
  refuse("[3,16,24] to encode, expected [3,16,32]", "layer = \"five\"", &classifier);
}

TEST(Menu, DgnAmsBoxReachesThreeDeviationsAboveTheMean) {
  const std::string vae = file("vae.safetensors");
  const Decoder saved = decoder();
  save_decoder(vae, saved);
  Recipe r = recipe("[generator]\nkind = \"decoder\"\nweights = \"" + vae + "\"\n[prior]\nkind = \"box\"\nrange = \"dgn_am\"");
  const Prior prior = *make_prior(r, make_codec(r, image, at::kCPU), at::kCPU).prior;
  EXPECT_TRUE(at::equal(prior.low, at::zeros({5})));
  EXPECT_TRUE(at::allclose(prior.high, saved.codes.mean + 3 * saved.codes.covariance.diagonal().sqrt()));
}

TEST(Menu, PixelsStartAtAnImageFile) {
  const Tensor bytes = (at::sigmoid(normal({16, 24, 3})) * 255).to(at::kByte);
  save_png(file("start.png"), bytes);
  save_safetensors(file("start.safetensors"), {{{"image", at::full({3, 16, 24}, 0.3)}}, {}});
  const auto first = [&](const std::string& name) {
    Recipe r = recipe("[generator]\nkind = \"pixel\"\nrange = \"clip\"\ndeviation = 0.0\ninitial = \"" + file(name) + "\"");
    const Generator generator = make_codec(r, image, at::kCPU).generator;
    Stream stream = Stream::range(1, 0, 1);
    return generator.decode(generator.start(stream));
  };
  EXPECT_EQ((to_bytes(first("start.png"))[0].to(at::kInt) - bytes.to(at::kInt)).abs().max().item<int64_t>(), 0);
  EXPECT_TRUE(at::allclose(first("start.safetensors"), at::full({1, 3, 16, 24}, 0.3)));
}

TEST(Menu, DrawsOfADatasetAreSpreadOverIt) {
  // A file has its images class by class: image i of 1,000 says its number in its first two bytes. Every fourth is no training image.
  const std::string name = file("sorted.h5");
  const Tensor number = at::arange(1000);
  Tensor images = at::zeros({1000, 16, 24, 3}, at::kByte);
  images.select(1, 0).select(1, 0).select(1, 0).copy_(number.div(256, "floor"));
  images.select(1, 0).select(1, 0).select(1, 1).copy_(number.remainder(256));
  const Tensor split = number.remainder(4).eq(1).to(at::kLong);
  {
    Hdf5 made = Hdf5::create(name);
    made.write("/images", images);
    made.write("/split", split);
  }
  Recipe r = recipe("[generator]\nkind = \"pixel\"\nrange = \"clip\"\n[prior]\nkind = \"data\"\nfile = \"" + name + "\"");
  const Prior prior = *make_prior(r, make_codec(r, image, at::kCPU), at::kCPU).prior;
  ASSERT_EQ(prior.count, 750);
  const auto drawn = [&](int64_t first, int64_t count) {
    Stream stream = Stream::range(1, first, count);
    const Tensor bytes = to_bytes(prior.draw(stream)).to(at::kLong);
    return bytes.select(1, 0).select(1, 0).select(1, 0) * 256 + bytes.select(1, 0).select(1, 0).select(1, 1);
  };
  // The first draws come from every fifth of the file, and all draws are all training images, however they are asked for.
  EXPECT_GE(drawn(0, 320).div(200, "floor").bincount({}, 5).min().item<int64_t>(), 20);
  EXPECT_TRUE(at::equal(std::get<0>(drawn(0, 750).sort()), (split == 0).nonzero().squeeze(1)));
  EXPECT_TRUE(at::equal(at::cat({drawn(0, 100), drawn(100, 650)}), drawn(0, 750)));
}

TEST(Menu, WavesOfAnySize) {
  save_spectrum(file("waves.safetensors"), spectrum(), "");
  for (const std::string kind : {"fourier", "maco"}) {
    for (const auto& [height, width] : {std::pair{16, 24}, std::pair{15, 25}, std::pair{16, 25}, std::pair{1, 1}, std::pair{40, 7}}) {
      SCOPED_TRACE(text(kind, " ", height, " ", width));
      Recipe r = recipe("[generator]\nkind = \"" + kind + "\"\nspectrum = \"" + file("waves.safetensors") +
                        "\"\nheight = " + std::to_string(height) + "\nwidth = " + std::to_string(width));
      const Generator generator = make_codec(r, image, at::kCPU).generator;
      Stream stream = Stream::range(1, 0, 2);
      const Tensor drawn = generator.decode(generator.start(stream));
      EXPECT_EQ(drawn.sizes(), at::IntArrayRef({2, 3, height, width}));
      EXPECT_EQ(generator.image.height, height);
      EXPECT_TRUE(((drawn > 0) & (drawn < 1)).all().item<bool>());
    }
  }
}

TEST(Menu, SpectraComeBackAndOthersAreRefused) {
  const std::string path = file("waves.safetensors"), vae = file("vae.safetensors");
  const Spectrum saved = spectrum();
  save_spectrum(path, saved, "");
  const Spectrum loaded = load_spectrum(path);
  EXPECT_TRUE(at::allclose(loaded.magnitude, saved.magnitude, 1e-3, 0));
  EXPECT_TRUE(at::equal(loaded.factor, saved.factor));
  EXPECT_EQ(loaded.width, 10);
  save_decoder(vae, decoder());
  expect_refusal("vae", [&] { load_spectrum(vae); });
  Spectrum wrong = saved;
  wrong.width = 13;
  save_spectrum(path, wrong, "");
  expect_refusal("magnitude", [&] { load_spectrum(path); });
  wrong = saved;
  wrong.magnitude = -saved.magnitude;
  save_spectrum(path, wrong, "");
  expect_refusal("below 0", [&] { load_spectrum(path); });

  const auto refuse = [](const std::string& part, const std::string& toml, const ImageSpec& seen) {
    expect_refusal(part, [&] {
      Recipe r = recipe("[generator]\n" + toml);
      make_codec(r, seen, at::kCPU);
    });
  };
  const ImageSpec grey{1, 16, 24, {}, {}};
  const std::string with = "\nspectrum = \"" + path + "\"";
  save_spectrum(path, saved, "");
  refuse("found a spectrum of 3 channels, expected one of 1", "kind = \"fourier\"\ncolour = \"spectrum\"" + with, grey);
  refuse("found a spectrum of 3 channels, expected one of 1", "kind = \"maco\"" + with, grey);
  refuse("found a spectrum of 3 channels, expected one of 1", "kind = \"maco\"\ncolour = \"none\"" + with, grey);
  refuse("expected 3; set colour = \"none\"", "kind = \"fourier\"\ncolour = \"imagenet\"", grey);
  refuse("evoke data spectrum", "kind = \"fourier\"\ncolour = \"spectrum\"", image);
  refuse("evoke data spectrum", "kind = \"maco\"", image);
  refuse("missing.safetensors", "kind = \"maco\"\nspectrum = \"missing.safetensors\"", image);
  Recipe r = recipe("[generator]\nkind = \"fourier\"");
  EXPECT_EQ(make_codec(r, grey, at::kCPU).generator.image.channels, 1);  // without colours to correlate
}

TEST(Menu, RefusesWithASentence) {
  const std::string gan = file("gan.safetensors"), codes = file("codes.safetensors"), pixels = file("pixels.safetensors");
  save_decoder(gan, decoder("gan"));
  DenoiserOptions other;
  other.code = 4;
  other.hidden = 8;
  other.blocks = 1;
  save_denoiser(codes, make_denoiser(other, normal({64, 4}), 3));
  save_denoiser(pixels, denoiser("image", 0));
  const std::string with_decoder = "[generator]\nkind = \"decoder\"\nweights = \"" + gan + "\"\n",
                    denoised = "[prior]\nkind = \"denoiser\"\n";
  const auto refuse = [](const std::string& part, const std::string& toml) {
    SCOPED_TRACE(toml);
    expect_refusal(part, [&] {
      Recipe r = recipe(toml);
      make_prior(r, make_codec(r, image, at::kCPU), at::kCPU);
    });
  };
  refuse("did you mean 'decoder'", "[generator]\nkind = \"decodr\"");
  refuse("names no weights", "[generator]\nkind = \"decoder\"");
  refuse("did you mean 'range'", "[generator]\nkind = \"pixel\"\nrang = \"clip\"");
  refuse("did you mean 'gaussian'", with_decoder + "[prior]\nkind = \"gausian\"");
  refuse("standard = true", "[prior]\nkind = \"gaussian\"");
  refuse("range = \"given\"", "[prior]\nkind = \"box\"");
  refuse("without an encoder", with_decoder + "[prior]\nkind = \"joint\"");
  refuse("names no weights", with_decoder + denoised);
  refuse("[4]", with_decoder + denoised + "weights = \"" + codes + "\"");
  refuse("range = \"clip\"", denoised + "weights = \"" + pixels + "\"");
  refuse("'sigma'", with_decoder + "[prior]\nkind = \"gaussian\"\nsigma = 1.0");
}

TEST(Menu, EveryKindHasHelp) {
  for (const std::vector<MenuEntry>& menu : {generator_menu(), prior_menu()})
    for (const MenuEntry& entry : menu) {
      EXPECT_FALSE(entry.sentence.empty()) << entry.kind;
      EXPECT_EQ(entry.tables.at(0).table, entry.table);
      EXPECT_EQ(entry.tables.at(0).options.empty(), entry.kind == "none") << entry.kind;
    }
}

}  // namespace
}  // namespace evoke
