// evoke demo: the whole story on the shapes dataset, from nothing to the comparison of the methods.
#include <filesystem>
#include <iostream>

#include "core/error.h"
#include "core/log.h"
#include "core/storage/files.h"
#include "experiments/compare.h"
#include "experiments/experiment.h"
#include "experiments/sample.h"
#include "experiments/train.h"
#include "experiments/verbs.h"
#include "training/datasets/shapes.h"

namespace evoke {

namespace {

namespace fs = std::filesystem;

struct DemoOptions : CommonOptions {
  bool shipped = false;
};

// What is trained, in this order, and for how many epochs.
struct Net {
  std::string name, recipe, data;
  int64_t epochs;
};
const std::vector<Net> nets{
    {"classifier", "train_classifier", "shapes.h5", 6},   {"oracle", "train_oracle", "oracle.h5", 7},
    {"autoencoder", "train_autoencoder", "shapes.h5", 3}, {"vae", "train_vae", "shapes.h5", 12},
    {"denoiser", "train_denoiser", "shapes.h5", 120},     {"critic", "train_critic", "shapes.h5", 15},
};
constexpr int64_t images = 24000, shipped_images = 6000, demo_draws = 12000;

// A method of the comparison: a shipped recipe, with the nets that its generator, prior and critic come from.
struct Method {
  std::string recipe, generator, prior, critic = "";
};
const std::vector<Method> methods{
    {"dataset_examples", "", ""},
    {"pixel", "", ""},
    {"pixel_transforms", "", ""},
    {"autoencoder_search", "autoencoder", ""},
    {"vae_ascent", "vae", ""},
    {"langevin_gaussian", "vae", ""},
    {"dgn_am", "vae", ""},
    {"ppgn", "vae", "denoiser"},
    {"langevin_denoiser", "vae", "denoiser"},
    {"guided", "vae", "denoiser", "critic"},
};

// One of each style and colour in turn, the rainbow double line, square, circle and triangle among them.
const std::vector<std::string> units{"logits:0",  "logits:9",  "logits:13", "logits:16", "logits:24", "logits:27",
                                     "logits:32", "logits:39", "logits:41", "logits:48", "logits:54", "logits:58"};

std::string toml_path(const fs::path& file) { return nlohmann::json(fs::absolute(file).lexically_normal().string()).dump(); }

// False where it was interrupted.
bool make_data(const fs::path& file, uint64_t seed, int64_t count) {
  const Lock lock = claim_file(file.string());
  if (fs::exists(file)) {
    say("demo: " + file.string() + " is there already");
    return true;
  }
  return !write_shapes(file.string(), seed, count).interrupted;
}

// A recipe of the comparison with the demo's own nets in the shipped ones' place.
std::string write_recipe(const fs::path& out, const Method& method, bool shipped) {
  const auto weights = [&](const std::string& name) { return toml_path(out / name / "weights.safetensors"); };
  std::string toml = "parent = " + toml_path(recipe_file(method.recipe)) +
                     "\n[data]\nfile = " + toml_path(out / (shipped ? "shapes_small.h5" : "shapes.h5")) + "\n";
  if (!shipped) {
    toml += "[classifier]\nweights = " + weights("classifier") + "\n";
    if (!method.generator.empty()) toml += "[generator]\nweights = " + weights(method.generator) + "\n";
    // Nets trained this briefly draw a bad code now and then: a longer search for the start makes up for it, out of the same budget.
    if (!method.prior.empty()) toml += "[prior]\nweights = " + weights(method.prior) + "\n";
    if (!method.critic.empty()) toml += "[critic]\nweights = " + weights(method.critic) + "\n";
    if (!method.prior.empty() && method.critic.empty()) toml += "[run]\nsearch_draws = " + std::to_string(demo_draws) + "\n";
  }
  const fs::path file = out / (shipped ? "recipes_shipped" : "recipes") / (method.recipe + ".toml");
  fs::create_directories(file.parent_path());
  const Lock lock = claim_file(file.string());
  write_file(file.string(), toml);
  return file.string();
}

// Something to look at while the rest is trained: what the target wants where nothing is known of images. False where it was interrupted.
bool first_look(const fs::path& out) {
  Recipe recipe = Recipe::load(write_recipe(out, {"pixel", "", ""}, false),
                               {"objective.units=" + nlohmann::json(units).dump(), "run.chains=1", "run.steps=60"});
  const std::string run = (out / "first_look").string();
  if (!sample_into(assemble(recipe), run, {.title = "first look"})) return false;
  say("demo: " + run + "/contact_sheet.png shows what the target wants of bare pixels; the methods with priors come later");
  return true;
}

// Trains what is not there yet. Returns 130 when interrupted.
int train_all(const DemoOptions& options, const fs::path& out) {
  for (size_t i = 0; i < nets.size(); ++i) {
    const Net& net = nets[i];
    say(text("demo: training ", i + 1, " of ", nets.size(), ", ", net.name));
    std::vector<Override> more{text("training.epochs=", net.epochs), "training.precision=\"auto\""};
    const std::vector<Override> common = overrides(options, "training");
    more.insert(more.end(), common.begin(), common.end());
    more.push_back("data.file=" + toml_path(out / net.data));
    const auto made = [&](const char* name) { return toml_path(out / name / "weights.safetensors"); };
    if (net.name == "denoiser") more.push_back("encoder.weights=" + made("vae"));
    if (net.name == "critic") {
      more.push_back("classifier.weights=" + made("classifier"));
      more.push_back("generator.weights=" + made("vae"));
      more.push_back("prior.weights=" + made("denoiser"));
    }
    const Trained trained = train_into(recipe_file(net.recipe), more, (out / net.name).string());
    if (trained.code != 0) return trained.code;
    detail(text("demo: ", net.name, " ", trained.figures.dump()));
    if (net.name == "classifier" && !first_look(out)) return 130;
  }
  return 0;
}

int demo(const DemoOptions& options) {
  const double begun = seconds();
  const fs::path out = options.out;
  std::error_code trouble;
  fs::create_directories(out, trouble);
  require(fs::is_directory(out), Failure::usage, "demo: ", options.out, " cannot be made a folder; name another place with --out");

  say("demo: the shapes dataset, 60 classes of lines, squares, circles and triangles");
  if (options.shipped) {
    if (!make_data(out / "shapes_small.h5", 0, shipped_images)) return 130;
  } else {
    if (!make_data(out / "shapes.h5", 0, images) || !make_data(out / "oracle.h5", 1, images)) return 130;
    if (const int code = train_all(options, out); code != 0) return code;
  }
  if (interrupted()) return 130;

  say(text("demo: comparing ", methods.size(), " methods on ", units.size(), " units"));
  CompareOptions comparison;
  static_cast<CommonOptions&>(comparison) = options;
  comparison.out = (out / (options.shipped ? "comparison_shipped" : "comparison")).string();
  for (const Method& method : methods) comparison.recipes.push_back(write_recipe(out, method, options.shipped));
  comparison.units = units;
  comparison.chains = options.shipped ? 4 : 6;
  comparison.budget = options.shipped ? 9600 : 14400;
  comparison.files.data = (out / (options.shipped ? "shapes_small.h5" : "shapes.h5")).string();
  // The second oracle is the shipped one, which saw another draw of the same classes.
  if (!options.shipped) comparison.files.oracles = {(out / "oracle" / "weights.safetensors").string(), shipped_oracles().back()};
  if (const int code = compare(comparison); code != 0) return code;

  say(text("demo: done in ", static_cast<int64_t>(seconds() - begun), " s"));
  if (options.json) return 0;
  const std::string program = fs::read_symlink("/proc/self/exe").string();
  std::cout << "Look at " << comparison.out << "/comparison.png: a row a unit, a column a method.\n"
            << "Next: " << program << " sample guided --out runs/guided --set objective.units='[\"rainbow double triangle\"]'\n"
            << "      " << program << " sample langevin_denoiser --out runs/mine --set objective.units='[\"rainbow double triangle\"]'\n"
            << "      " << program << " inspect "
            << (options.shipped ? share_folder() + "/weights/classifier.safetensors" : (out / "classifier/weights.safetensors").string())
            << "\n      " << program << " sample --help, and the recipes in " << share_folder() << "/recipes\n"
            << std::flush;
  return 0;
}

}  // namespace

Action demo_verb(CLI::App& command) {
  auto options = std::make_shared<DemoOptions>();
  command.add_flag("--shipped", options->shipped, "use the weights that come with evoke: 4 core minutes instead of 54");
  add_common(command, *options, Takes::writing, "runs/demo");
  command.remove_option(command.get_option("--set"));
  return [options] {
    begin_verb(*options);
    return demo(*options);
  };
}

}  // namespace evoke
