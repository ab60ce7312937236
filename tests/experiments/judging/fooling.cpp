// needs: files
// A planted fooling network (Geirhos et al. 2024): to real images it answers as the honest one does, while the pictures made for its units
// are of something else. The way through its own layers gives it away: there its pictures are not among the real images that excite the
// unit.
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>

#include "classifiers/networks.h"
#include "classifiers/objectives.h"
#include "core/nouns/posterior.h"
#include "core/nouns/run.h"
#include "core/numbers/stream.h"
#include "core/recipes/recipe.h"
#include "core/records/pictures.h"
#include "experiments/judging/witness.h"
#include "generators/critic.h"
#include "generators/denoiser.h"
#include "generators/menu.h"
#include "samplers/guided.h"
#include "training/datasets/shapes.h"

namespace evoke {
namespace {

[[maybe_unused]] const bool one_thread = (set_threads(1), true);

const std::string weights = EVOKE_SOURCE "/experiments/weights/";
constexpr int64_t of_each_class = 30;  // real images that the judge knows
constexpr int64_t chains = 8;          // pictures of a unit
constexpr int64_t neighbours = 5;
constexpr int64_t decoy = 17;  // unit u shows the pictures of class u - 17: of another shape and colour

// Images of the shapes dataset in [0,1], row i of class i mod 60, or all of one class.
Tensor renders(int64_t count, uint64_t seed, int64_t only = -1) {
  const Tensor places = 2 * Stream::range(seed, 0, count).uniform({3}) - 1;
  std::vector<Tensor> out;
  for (int64_t i = 0; i < count; ++i) {
    ShapeAttributes a = attributes_of_class(only < 0 ? i % shape_classes : only);
    a.tx = shapes_translation * places[i][0].item<double>();
    a.ty = shapes_translation * places[i][1].item<double>();
    a.theta = M_PI * places[i][2].item<double>();
    out.push_back(render_shape(a));
  }
  return from_bytes(at::stack(out));
}

// Which images are made: some pixel is no shade of one of the four plain colours, and no pure hue of the rainbow.
Tensor is_made(const Tensor& x) {
  static const Tensor colours = [] {
    std::vector<Tensor> out;
    for (const int64_t filled_square : {25, 26, 27, 28}) out.push_back(render_shape(attributes_of_class(filled_square))[24][24]);
    const Tensor all = at::stack(out).to(at::kFloat);
    return all / all.norm(2, 1, true);
  }();
  const Tensor pixels = x.flatten(2).transpose(1, 2), along = pixels.matmul(colours.t());
  const Tensor beside = (pixels.square().sum(2, true) - along.square()).clamp_min(0).sqrt().amin(2);
  return at::minimum(beside, pixels.amin(2)).amax(1).gt(0.02);
}

const Classifier& honest() {
  static const Classifier network = load_classifier(weights + "classifier.safetensors");
  return network;
}

// The same layers, but logit u of an image that is made is that of class u - decoy.
const Classifier& fooling() {
  static const Classifier network = [] {
    Classifier out = honest();
    out.forward = [](const Tensor& x, const std::vector<std::string>& taps) {
      Activations a = honest().forward(x, taps);
      if (const auto logits = a.find("logits"); logits != a.end())
        logits->second = at::where(is_made(x).unsqueeze(1), logits->second.roll(decoy, 1), logits->second);
      return a;
    };
    return out;
  }();
  return network;
}

Tensor logits_of(const Classifier& network, const Tensor& x) {
  const c10::NoGradGuard no_gradient;
  return network.forward(x, {"logits"}).at("logits");
}

// What both networks' pictures are made with: the shipped decoder, the denoiser of its codes, and the critic, which knows what the honest
// network says of decoded codes. All of these are made images, so one trained on the fooling network's answers has the same logits moved.
struct Maker {
  Codec codec;
  Prior prior;
  Critic critic;
  Tensor draws(int64_t count) const {
    Stream stream = Stream::range(1, 0, count);
    return codec.generator.decode(prior.draw(stream));
  }
  Tensor pictures(const Classifier& network, int64_t unit, uint64_t seed) const {
    constexpr int64_t steps = 40;
    Critic own = critic;
    if (&network == &fooling()) own.score = [this](const Tensor& z, const Tensor& sigma) { return critic.score(z, sigma).roll(decoy, 1); };
    const Target target = posterior(codec.generator, {}, network, log_softmax_objective({{"logits", unit}}, network), std::nullopt, {});
    const GuidedOptions options{.critic_weight = 2.0, .sigma_low = 0.01, .rho = 7.0, .particles = 4};
    RunOptions how;
    how.steps = steps;
    how.seed = seed;
    how.chains = at::arange(chains, at::kLong);
    const Sampler sampler = guided(options, steps, prior, own, at::full({chains}, unit, at::kLong));
    const State end = run(sampler, target, at::zeros({chains, codec.generator.latent[0]}), how);
    return from_bytes(to_bytes(codec.generator.decode(end.z)));
  }
};
const Maker& maker() {
  static const Maker one = [] {
    Recipe recipe = Recipe::parse("[generator]\nkind = \"decoder\"\nweights = \"" + weights + "vae.safetensors\"\n", ".");
    const Codec codec = make_codec(recipe, honest().image, at::kCPU);
    return Maker{codec, denoiser_prior(load_denoiser(weights + "denoiser.safetensors"), 0, at::kCPU),
                 as_critic(load_critic(weights + "critic.safetensors"), codec.generator.latent, at::kCPU)};
  }();
  return one;
}

// What a network makes of images on its way to the logits, beside what it makes of real ones.
class Path {
 public:
  Path(const Classifier& network, const Tensor& real) : network_(network), logits_(logits_of(network, real)) {
    const std::vector<std::string> names = depth_candidates(network.layers, 5);
    for (const Layer& layer : network.layers)
      if (std::find(names.begin(), names.end(), layer.name) != names.end()) layers_.push_back(layer);
    for (const Tensor& features : features_of(real)) {
      Depth depth;
      depth.mean = features.mean(0);
      depth.scale = features.std(0).clamp_min(1e-6).reciprocal();
      depth.photographs = manifold_of((features - depth.mean) * depth.scale, neighbours);
      depth.stretch = at::quantile(nearness_left_out(depth.photographs), 0.95).item<double>();
      depths_.push_back(depth);
    }
  }

  // Which images go the unit's way: at every depth, one of the nearest real images is among those that excite the unit most.
  Tensor is_way_of(int64_t unit, const Tensor& images) const {
    Tensor exciting = at::zeros({logits_.size(0)}, at::kBool);
    exciting.index_fill_(0, std::get<1>(logits_.select(1, unit).topk(of_each_class)), true);
    return at_every_depth(images, [&](const Depth& depth, const Tensor& features) {
      const Tensor nearest = std::get<1>(at::cdist(features, depth.photographs.points).topk(neighbours, 1, /*largest=*/false));
      return exciting.index({nearest}).any(1);
    });
  }
  // Which go the way of any real image, whatever it excites: at every depth they are in the manifold of all.
  Tensor is_way_of_any(const Tensor& images) const {
    return at_every_depth(
        images, [](const Depth& depth, const Tensor& features) { return nearness(depth.photographs, features).le(depth.stretch); });
  }

 private:
  std::vector<Tensor> features_of(const Tensor& images) const {
    const c10::NoGradGuard no_gradient;
    std::vector<std::string> taps;
    for (const Layer& layer : layers_) taps.push_back(layer.name);
    std::vector<std::vector<Tensor>> parts(layers_.size());
    for (const Tensor& part : images.split(64)) {
      const Activations a = network_.forward(part, taps);
      for (size_t i = 0; i < layers_.size(); ++i) parts[i].push_back(depth_features(a.at(taps[i]), layers_[i]));
    }
    std::vector<Tensor> out;
    for (const std::vector<Tensor>& of_layer : parts) out.push_back(at::cat(of_layer));
    return out;
  }
  Tensor at_every_depth(const Tensor& images, const std::function<Tensor(const Depth&, const Tensor& features)>& holds) const {
    const std::vector<Tensor> features = features_of(images);
    Tensor out = at::ones({images.size(0)}, at::kBool);
    for (size_t i = 0; i < depths_.size(); ++i) out = out & holds(depths_[i], (features[i] - depths_[i].mean) * depths_[i].scale);
    return out;
  }

  Classifier network_;
  Tensor logits_;
  std::vector<Layer> layers_;
  std::vector<Depth> depths_;
};

Interval share(const Tensor& which) { return wilson(which.sum().item<int64_t>(), which.size(0)); }
Interval share(const std::vector<Tensor>& parts) { return share(at::cat(parts)); }

// A judge's verdict on pictures: fewer of them go the unit's way than of as many real images left out.
bool flagged(const Tensor& pictures, const Tensor& left_out) { return share(pictures).high < share(left_out).low; }

TEST(Fooling, RealImagesGetTheSameAnswers) {
  const Tensor real = renders(10 * shape_classes, 2), made = maker().draws(200);
  EXPECT_TRUE(logits_of(fooling(), real).equal(logits_of(honest(), real)));
  EXPECT_TRUE(logits_of(fooling(), made).equal(logits_of(honest(), made).roll(decoy, 1)));
}

TEST(Fooling, ItsOwnWayGivesItAwayOverTwentySeeds) {
  const Tensor real = renders(of_each_class * shape_classes, 1);
  const Path honest_path(honest(), real), fooling_path(fooling(), real);
  const auto read_as = [](const Classifier& network, const Tensor& x, int64_t label) {
    return share(logits_of(network, x).argmax(1).eq(label)).value;
  };
  std::map<std::string, std::vector<Tensor>> all;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    SCOPED_TRACE(seed);
    const int64_t unit = 3 * static_cast<int64_t>(seed), shown = (unit + shape_classes - decoy) % shape_classes;
    const Tensor pictures = maker().pictures(honest(), unit, seed), lies = maker().pictures(fooling(), unit, seed);
    // Each network takes its own pictures for the unit's class; those of the fooling one are of another.
    EXPECT_GE(read_as(honest(), pictures, unit), 0.75);
    EXPECT_GE(read_as(fooling(), lies, unit), 0.75);
    EXPECT_GE(read_as(honest(), lies, shown), 0.75);

    const Tensor left_out = fooling_path.is_way_of(unit, renders(chains, 100 + seed, unit));
    const Tensor of_honest = honest_path.is_way_of(unit, pictures), of_fooling = fooling_path.is_way_of(unit, lies);
    EXPECT_FALSE(flagged(of_honest, left_out)) << of_honest << left_out;
    EXPECT_TRUE(flagged(of_fooling, left_out)) << of_fooling << left_out;

    // Controls: other real images pass, those of the class that was shown do not, and neither does noise.
    const Tensor others = renders(chains, 200 + seed, unit);
    Stream phases = Stream::range(300 + seed, 0, chains), uniform = Stream::range(400 + seed, 0, chains);
    const Tensor noise = fooling_path.is_way_of(unit, uniform.uniform({3, shapes_size, shapes_size}));
    EXPECT_FALSE(flagged(fooling_path.is_way_of(unit, others), left_out));
    EXPECT_TRUE(flagged(fooling_path.is_way_of(unit, renders(chains, 500 + seed, shown)), left_out));
    EXPECT_TRUE(flagged(noise, left_out));
    all["left out"].push_back(left_out);
    all["honest"].push_back(of_honest);
    all["fooling"].push_back(of_fooling);
    all["noise"].push_back(noise);
    all["scrambled"].push_back(fooling_path.is_way_of(unit, phase_scrambled(others, phases)));
    all["fooling, as what is shown"].push_back(fooling_path.is_way_of(shown, lies));
    all["honest, any"].push_back(honest_path.is_way_of_any(pictures));
    all["fooling, any"].push_back(fooling_path.is_way_of_any(lies));
  }
  // The judge earns its place (photographs left out at least .90, scrambled ones and noise at most .10).
  EXPECT_GE(share(all["left out"]).value, 0.90);
  EXPECT_LE(share(all["scrambled"]).value, 0.10);
  EXPECT_LE(share(all["noise"]).value, 0.10);
  // The honest network's pictures are nearly all on the unit's way, the fooling one's on that of the class they show.
  EXPECT_GE(share(all["honest"]).value, 0.85);
  EXPECT_LE(share(all["fooling"]).high, 0.05);
  EXPECT_GE(share(all["fooling, as what is shown"]).value, 0.85);
  // One that asks only whether a picture could be of any real image cannot know: the decoys are as good pictures as the honest ones.
  EXPECT_GT(share(all["fooling, any"]).high, share(all["honest, any"]).low);
}

}  // namespace
}  // namespace evoke
