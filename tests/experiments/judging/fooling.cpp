// needs: files
// A planted fooling network (Geirhos et al. 2024): to real images it answers as the honest one does, while the pictures made for its units
// are of something else. The path through its own layers gives it away: there its pictures are not where the real images are that excite
// the unit.
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <iostream>
#include <map>

#include "classifiers/networks.h"
#include "classifiers/objectives.h"
#include "core/nouns/posterior.h"
#include "core/nouns/run.h"
#include "core/numbers/stream.h"
#include "core/recipes/recipe.h"
#include "core/records/pictures.h"
#include "experiments/judging/target_path.h"
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
constexpr int64_t decoy = 17;          // unit u shows the pictures of class u - 17: of another shape and colour

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

RealImages read_from(const Tensor& images) {
  return {images.size(0), {}, [bytes = to_bytes(images)](const Tensor& rows) { return bytes.index_select(0, rows); }};
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

// A judge of the target's own path, beside renders that it knows and others that are left out. It asks the network for its logits and
// layers alone, so it knows nothing of which images are made.
Judges judges_of(const Classifier& network) {
  static const RealImages known = read_from(renders(of_each_class * shape_classes, 1));
  static const RealImages left_out = read_from(renders(10 * shape_classes, 2));
  Judges judges;
  judges.target = network;
  judges.target_identity = network.name;
  judges.real_identity = "renders";
  judges.all.push_back(target_judge(network, {}, at::kCPU));
  add_target_path(judges, known, left_out);
  return judges;
}

// What is said of pictures [N,C,H,W] of one unit.
struct Said {
  bool flagged = false;
  Tensor inside;  // [N], 1 or 0
};
Said say_of(const Judges& judges, int64_t unit, const Tensor& pictures) {
  const std::vector<Column> columns(static_cast<size_t>(pictures.size(0)), column_of({"logits", unit}));
  const Judged judged = judge_pictures(judges, pictures_in(to_bytes(pictures), columns));
  try_depths(judges, columns);
  return {!off_path(*judges.target_path, judged).empty(), on_path(*judges.target_path, judged.findings)};
}

Interval share(const Tensor& which) { return wilson(which.sum().to(at::kLong).item<int64_t>(), which.size(0)); }

TEST(Fooling, RealImagesGetTheSameAnswers) {
  const Tensor real = renders(10 * shape_classes, 2), made = maker().draws(200);
  EXPECT_TRUE(logits_of(fooling(), real).equal(logits_of(honest(), real)));
  EXPECT_TRUE(logits_of(fooling(), made).equal(logits_of(honest(), made).roll(decoy, 1)));
}

TEST(Fooling, ItsOwnPathGivesItAwayOverTwentySeeds) {
  const Judges of_honest = judges_of(honest()), of_fooling = judges_of(fooling());
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

    Stream phases = Stream::range(300 + seed, 0, chains), uniform = Stream::range(400 + seed, 0, chains);
    const Tensor real = renders(chains, 100 + seed, unit);
    const std::map<std::string, std::pair<Said, bool>> said{
        {"honest", {say_of(of_honest, unit, pictures), false}},
        {"fooling", {say_of(of_fooling, unit, lies), true}},
        // Controls: other real images pass, those of the class that is shown do not, and neither does noise.
        {"real", {say_of(of_fooling, unit, real), false}},
        {"real, as what is shown", {say_of(of_fooling, unit, renders(chains, 500 + seed, shown)), true}},
        {"noise", {say_of(of_fooling, unit, uniform.uniform({3, shapes_size, shapes_size})), true}},
        {"scrambled", {say_of(of_fooling, unit, phase_scrambled(real, phases)), true}},
        {"fooling, as what is shown", {say_of(of_fooling, shown, lies), false}},
    };
    for (const auto& [name, verdict] : said) {
      EXPECT_EQ(verdict.first.flagged, verdict.second) << name << "\n" << verdict.first.inside;
      all[name].push_back(verdict.first.inside);
    }
  }
  const auto share_of = [&](const std::string& name) { return share(at::cat(all.at(name)).clone()); };
  for (const auto& [name, parts] : all) std::cout << "on the unit's path, " << name << ": " << share_of(name).value << "\n";
  // The judge earns its place (real images left out at least .90, scrambled ones and noise at most .10).
  EXPECT_GE(share_of("real").value, 0.90);
  EXPECT_LE(share_of("scrambled").value, 0.10);
  EXPECT_LE(share_of("noise").value, 0.10);
  // The honest network's pictures are nearly all on the unit's path, the fooling one's on that of the class they show.
  EXPECT_GE(share_of("honest").value, 0.95);
  EXPECT_LE(share_of("fooling").high, 0.05);
  EXPECT_GE(share_of("fooling, as what is shown").value, 0.85);
}

// All units in one run, as `evoke judge` sees them.
TEST(Fooling, ItsUnitsAreNamed) {
  std::vector<Tensor> true_pictures, lies;
  std::vector<Column> columns;
  for (int64_t unit = 1; unit < shape_classes; unit += 12) {
    true_pictures.push_back(maker().pictures(honest(), unit, 40));
    lies.push_back(maker().pictures(fooling(), unit, 40));
    columns.insert(columns.end(), chains, column_of({"logits", unit}));
  }
  const auto flagged = [&](const Classifier& network, const std::vector<Tensor>& pictures) {
    const Judges judges = judges_of(network);
    const Judged judged = judge_pictures(judges, pictures_in(to_bytes(at::cat(pictures)), columns));
    try_depths(judges, columns);
    EXPECT_TRUE(can_tell(*judges.target_path));
    EXPECT_GE(judges.target_path->left_out.value, 0.90);
    EXPECT_LE(judges.target_path->others.value, 0.05);
    std::vector<std::string> names;
    for (const Column& column : off_path(*judges.target_path, judged)) names.push_back(column.name);
    return names;
  };
  EXPECT_EQ(flagged(honest(), true_pictures), std::vector<std::string>());
  EXPECT_EQ(flagged(fooling(), lies), (std::vector<std::string>{"logits:1", "logits:13", "logits:25", "logits:37", "logits:49"}));
}

}  // namespace
}  // namespace evoke
