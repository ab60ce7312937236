// needs: files
// Recipes: merging, reading, refusing, and writing back.
#include "core/recipes/recipe.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>

#include "core/error.h"
#include "tests/expect.h"

namespace evoke {
namespace {

namespace fs = std::filesystem;

struct Everything {
  double step_size = 0.05;
  int64_t steps = 200;
  bool negative = false;
  std::string name = "plain";
  std::vector<std::string> units{"logits:0"};
  std::vector<double> weights{0.1, 1.0 / 3.0};
  std::string mode = "slow", file;
};
void describe(Fields& f, Everything& o) {
  f("step_size", o.step_size, "code units", "length of a step", positive);
  f("steps", o.steps, "steps", "how many", {0, 1e6});
  f("negative", o.negative, "turns the sign");
  f("name", o.name, "what it is called");
  f("units", o.units, "what is climbed");
  f("weights", o.weights, "", "of each");
  f.choice("mode", o.mode, "how it goes", {"slow", "fast"});
  f.path("file", o.file, "what is read");
}

struct Small {
  double epsilon = 1;
};
void describe(Fields& f, Small& o) { f("epsilon", o.epsilon, "", "a number"); }

fs::path folder(const std::string& name) {
  const fs::path path = fs::path(::testing::TempDir()) / ("evoke_config_" + std::to_string(::getpid())) / name;
  fs::create_directories(path);
  return path;
}
void put(const fs::path& file, const std::string& content) {
  fs::create_directories(file.parent_path());
  std::ofstream(file) << content;
}

void expect_unreadable(const std::string& toml, const std::vector<std::string>& parts, const std::vector<Override>& overrides = {}) {
  expect_refusal([&] { Recipe::parse(toml, "", overrides).read<Everything>("run"); }, overrides.empty() ? Failure::input : Failure::usage,
                 parts);
}

// A variable of the environment, for the time of a test.
struct Variable {
  Variable(const char* name, const char* value) : name(name) { ::setenv(name, value, 1); }
  ~Variable() { ::unsetenv(name); }
  const char* name;
};

TEST(Config, ReadsEveryTypeAndKeepsDefaults) {
  Recipe recipe = Recipe::parse(R"([run]
step_size = 2
steps = 12
negative = true
units = "logits:3"
weights = [1, 2.5]
mode = "fast"
file = "data/x.h5"
)",
                                "/somewhere/recipes");
  const auto run = recipe.read<Everything>("run");
  EXPECT_EQ(run.step_size, 2.0);  // a whole number serves where a number is wanted
  EXPECT_EQ(run.steps, 12);
  EXPECT_TRUE(run.negative);
  EXPECT_EQ(run.name, "plain");
  EXPECT_EQ(run.units, std::vector<std::string>{"logits:3"});
  EXPECT_EQ(run.weights, (std::vector<double>{1, 2.5}));
  EXPECT_EQ(run.mode, "fast");
  EXPECT_EQ(run.file, "/somewhere/recipes/data/x.h5");
  EXPECT_NO_THROW(recipe.refuse_unread());
}

TEST(Config, ResolvedLoadsToTheSameValues) {
  Recipe first = Recipe::parse("kind = \"vae\"\n[run]\nname = \"a \\\"b\\\" \\\\ \\n\\t\\u0001 é\"\nfile = \"x\"\n", "/r");
  EXPECT_EQ(first.kind(""), "vae");
  Everything values;
  values.step_size = std::nextafter(0.1, 1.0);
  values.weights = {1e-300, 1.0 / 3.0, 5, 1e9, -0.0, std::numeric_limits<double>::denorm_min(), -1e9};
  values.steps = 999999;
  values = first.read<Everything>("run", values);
  EXPECT_EQ(first.kind("sampler", "langevin"), "langevin");
  first.read<Small>("sampler");

  const std::string written = first.resolved();
  Recipe second = Recipe::parse(written, "/elsewhere");
  EXPECT_EQ(second.kind(""), "vae");
  const auto again = second.read<Everything>("run");
  EXPECT_EQ(again.step_size, values.step_size);
  EXPECT_EQ(again.weights, values.weights);
  EXPECT_TRUE(std::signbit(again.weights[4]));
  EXPECT_EQ(again.steps, 999999);
  EXPECT_EQ(again.name, "a \"b\" \\ \n\t\x01 é");
  EXPECT_EQ(again.name, values.name);
  EXPECT_EQ(again.file, "/r/x");
  EXPECT_EQ(second.kind("sampler"), "langevin");
  second.read<Small>("sampler");
  second.refuse_unread();
  EXPECT_EQ(second.resolved(), written);
}

TEST(Config, ParentsMergeAndAnotherKindReplaces) {
  const fs::path root = folder("parents");
  put(root / "base/shapes.toml",
      "[run]\nsteps = 1\nname = \"base\"\nfile = \"a.h5\"\n[sampler]\nkind = \"langevin\"\nold = 1\n[sampler.inner]\nx = 1\n");
  put(root / "base/middle.toml", "parent = \"shapes.toml\"\n[run]\nsteps = 2\n");
  put(root / "child.toml", "parent = \"base/middle.toml\"\n[run]\nmode = \"fast\"\n[sampler]\nkind = \"ppgn\"\nepsilon = 3\n");
  Recipe recipe = Recipe::load((root / "child.toml").string());
  const auto run = recipe.read<Everything>("run");
  EXPECT_EQ(run.steps, 2);
  EXPECT_EQ(run.name, "base");
  EXPECT_EQ(run.mode, "fast");
  EXPECT_EQ(run.file, (root / "base/a.h5").string());  // from the folder of the file that names it
  EXPECT_EQ(recipe.kind("sampler"), "ppgn");
  EXPECT_EQ(recipe.read<Small>("sampler").epsilon, 3);  // `old` and [sampler.inner] went with their kind
  EXPECT_NO_THROW(recipe.refuse_unread());

  // The same kind merges, from a child and from an override; another kind in an override replaces.
  put(root / "same.toml", "parent = \"child.toml\"\n[sampler]\nkind = \"ppgn\"\n");
  Recipe same = Recipe::load((root / "same.toml").string(), {"sampler.kind=ppgn"});
  same.kind("sampler");
  EXPECT_EQ(same.read<Small>("sampler").epsilon, 3);
  Recipe other = Recipe::load((root / "same.toml").string(), {"sampler.kind=mala"});
  EXPECT_EQ(other.kind("sampler"), "mala");
  EXPECT_EQ(other.read<Small>("sampler").epsilon, 1);
}

TEST(Config, ListsOfTables) {
  const fs::path root = folder("lists");
  put(root / "parent.toml",
      "[run]\nsteps = 3\n[[run.part]]\nkind = \"a\"\nepsilon = 1\n[[run.part]]\nkind = \"b\"\nepsilon = 2\n[[run.part]]\n");
  put(root / "same.toml", "parent = \"parent.toml\"\n[run]\nsteps = 4\n");
  put(root / "other.toml", "parent = \"parent.toml\"\n[[run.part]]\nepsilon = 7\n");
  put(root / "none.toml", "parent = \"parent.toml\"\n[run]\npart = []\n");
  // Reads all: the kinds and numbers of a list's items.
  const auto read = [&](const std::string& file, const std::vector<Override>& overrides = {}) {
    Recipe recipe = Recipe::load((root / file).string(), overrides);
    std::string out;
    recipe.read<Everything>("run");
    for (int64_t item = 0; item < recipe.count("run.part"); ++item) {
      const std::string table = text("run.part.", item), kind = recipe.kind(table, "none");
      out += text(kind, recipe.read<Small>(table).epsilon, " ");
    }
    recipe.refuse_unread();
    // What was read can be read again.
    Recipe again = Recipe::parse(recipe.resolved(), "");
    EXPECT_EQ(again.count("run.part"), recipe.count("run.part"));
    EXPECT_EQ(again.kind("run.part.0", "none"), recipe.kind("run.part.0", "none"));
    return out;
  };
  EXPECT_EQ(read("parent.toml"), "a1 b2 none1 ");
  EXPECT_EQ(read("same.toml"), "a1 b2 none1 ");
  EXPECT_EQ(read("other.toml"), "none7 ");
  EXPECT_EQ(read("parent.toml", {"run.part.1.epsilon=5"}), "a1 b5 none1 ");
  EXPECT_EQ(read("parent.toml", {"run.part=[{kind = \"c\", epsilon = 9}]"}), "c9 ");
  Recipe emptied = Recipe::load((root / "none.toml").string());
  EXPECT_EQ(emptied.read<Everything>("run").steps, 3);
  EXPECT_EQ(emptied.count("run.part"), 0);
  EXPECT_EQ(Recipe::load((root / "parent.toml").string(), {"run.part=[]"}).count("run.part"), 0);

  expect_refusal([&] { read("other.toml", {"run.part.3.epsilon=5"}); }, Failure::usage, {"[run.part.3]", "which nothing here reads"});
  expect_refusal([&] { read("other.toml", {"run.part=[{epsilno = 5}]"}); }, Failure::usage, {"--set run.part", "did you mean 'epsilon'"});
  expect_refusal([&] { read("other.toml", {"run.part=[{epsilon = 5}, 3]"}); }, Failure::usage, {"expected tables alone"});
}

TEST(Config, OverridesBeatEnvironmentBeatsRecipe) {
  Recipe recipe = Recipe::parse("[run]\nsteps = 10\nname = \"recipe\"\nstep_size = 1\n", "",
                                {"run.steps=30",
                                 "run.step_size=0.5",
                                 {"run.steps=20", "EVOKE_RUN__STEPS", true},
                                 {"run.name=from_outside", "EVOKE_RUN__NAME", true}});
  const auto run = recipe.read<Everything>("run");
  EXPECT_EQ(run.steps, 30);
  EXPECT_EQ(run.name, "from_outside");
  EXPECT_EQ(run.step_size, 0.5);
  recipe.refuse_unread();
}

TEST(Config, OverridesAreTomlOrBareWords) {
  Recipe recipe =
      Recipe::parse("", "/r", {"run.units=[\"a:1\", \"b:2\"]", "run.mode=fast", "run.name=12", "run.negative=true", "run.file=x y.h5"});
  const auto run = recipe.read<Everything>("run");
  EXPECT_EQ(run.units, (std::vector<std::string>{"a:1", "b:2"}));
  EXPECT_EQ(run.mode, "fast");
  EXPECT_EQ(run.name, "12");
  EXPECT_TRUE(run.negative);
  EXPECT_EQ(run.file, (fs::current_path() / "x y.h5").string());
  EXPECT_EQ(Recipe::parse("", "", {"run.units=logits:54@2,3"}).read<Everything>("run").units, std::vector<std::string>{"logits:54@2,3"});

  // A value cannot bring a second key along.
  EXPECT_EQ(Recipe::parse("", "", {"run.name=1\nsteps = 5"}).read<Everything>("run").name, "1\nsteps = 5");
  for (const char* bad : {"run.steps", "=3", ".steps=3", "run.=3", "run.units=[1, ", "run.name=\"open", "parent=x"})
    expect_refusal([&] { Recipe::parse("", "", {bad}); }, Failure::usage, {"--set"});
}

TEST(Config, UnknownKeysAreRefusedWithASuggestion) {
  const fs::path file = folder("unknown") / "sample.toml";
  put(file, "[run]\nsteps = 1\nstep_sze = 0.1\n");
  expect_refusal([&] { Recipe::load(file.string()).read<Everything>("run"); }, Failure::input,
                 {file.string(), "line 3", "[run]", "'step_sze'", "did you mean 'step_size'?", "expected one of"});
  expect_unreadable("", {"--set run.stpes", "did you mean 'steps'?"}, {"run.stpes=3"});
  expect_unreadable("", {"EVOKE_RUN__STPES", "did you mean 'steps'?"}, {{"run.stpes=3", "EVOKE_RUN__STPES", true}});
}

// Resolved text is parsed again, networks have TOML beside them, weights keep their options as TOML: the environment is no part of these.
TEST(Config, ARecipeReadsNoEnvironmentByItself) {
  const Variable steps("EVOKE_RUN__STEPS", "20"), units("EVOKE_RUN__UNITS", "[\"logits:3\"]"), other("EVOKE_OTHER__KEY", "1");
  const fs::path file = folder("environment") / "saved.toml";
  put(file, "[run]\nsteps = 10\nunits = [\"logits:5\"]\n");
  Recipe loaded = Recipe::load(file.string(), {"run.mode=fast"});
  const auto run = loaded.read<Everything>("run");
  EXPECT_EQ(run.steps, 10);
  EXPECT_EQ(run.units, std::vector<std::string>{"logits:5"});
  EXPECT_NO_THROW(loaded.refuse_unread());
  Recipe again = Recipe::parse(loaded.resolved(), "");
  EXPECT_EQ(again.read<Everything>("run").units, std::vector<std::string>{"logits:5"});
  EXPECT_NO_THROW(again.refuse_unread());
}

// A variable that is set for one command stops no other, which has no such table; a table that is typed is meant for this command.
TEST(Config, TablesOfTheEnvironmentThatNothingReadsArePassedOver) {
  const Override variable{"run.steps=20", "EVOKE_RUN__STEPS", true};
  Recipe recipe = Recipe::parse("[sampler]\nepsilon = 0.5\n", "", {variable});
  recipe.read<Small>("sampler");
  ::testing::internal::CaptureStderr();
  EXPECT_NO_THROW(recipe.refuse_unread());
  const std::string said = ::testing::internal::GetCapturedStderr();
  EXPECT_NE(said.find("EVOKE_RUN__STEPS: nothing here reads a table [run]; it is passed over"), std::string::npos) << said;
  EXPECT_EQ(recipe.resolved().find("run"), std::string::npos);

  for (const std::vector<Override>& typed : std::vector<std::vector<Override>>{{"run.steps=20"}, {variable, "run.chains=2"}}) {
    Recipe refused = Recipe::parse("", "", typed);
    expect_refusal([&] { refused.refuse_unread(); }, Failure::usage, {"[run], which nothing here reads"});
  }
}

// A kind named outside replaces the table below it; what the environment says of another kind goes with it.
TEST(Config, TheEnvironmentIsOneChildAndTheOtherOverridesAnother) {
  Recipe recipe = Recipe::parse("[sampler]\nkind = \"langevin\"\n", "",
                                {"sampler.kind=ppgn", {"sampler.step_size=0.1", "EVOKE_SAMPLER__STEP_SIZE", true}});
  EXPECT_EQ(recipe.kind("sampler"), "ppgn");
  EXPECT_NO_THROW(recipe.read<Small>("sampler"));
}

TEST(Config, WrongValuesAreTheMistakeOfWhoWroteThem) {
  const auto refused = [](const std::string& toml, const std::vector<Override>& outside, Failure kind, const std::string& place) {
    expect_refusal([&] { Recipe::parse(toml, "", outside, "mine.toml").read<Everything>("run"); }, kind, {place});
  };
  refused("[run]\nsteps = 1.5\n", {}, Failure::input, "mine.toml, line 2: [run] steps");
  refused("[run]\nsteps = 1\n", {"run.steps=1.5"}, Failure::usage, "--set run.steps: [run] steps");
  refused("", {{"run.steps=many", "EVOKE_THREADS", true}}, Failure::usage, "EVOKE_THREADS: [run] steps");
  refused("", {{"run.mode=fats", "--mode"}}, Failure::usage, "--mode: [run] mode");

  // What is made of a value later: the same.
  const auto about = [](const std::string& toml, const std::vector<Override>& outside, Failure kind, const std::string& place) {
    Recipe recipe = Recipe::parse(toml, "", outside, "mine.toml");
    recipe.read<Everything>("run");
    expect_refusal(
        [&] {
          recipe.about("run", {"units", "name"}, [] { fail(Failure::usage, "no such unit"); });
        },
        kind, {place + ": no such unit"});
    expect_refusal([&] { recipe.about("run", {"units"}, [] { fail(Failure::runtime, "torn"); }); }, Failure::runtime, {"torn"});
    EXPECT_EQ(recipe.about("run", {"units"}, [] { return 3; }), 3);
  };
  about("[run]\nunits = \"x\"\n", {}, Failure::input, "mine.toml, line 2: [run] units");
  about("[run]\nname = \"x\"\n", {}, Failure::input, "mine.toml, line 2: [run] name");
  about("[run]\nunits = \"x\"\n", {"run.units=y"}, Failure::usage, "--set run.units: [run] units");
  about("", {}, Failure::input, "recipe: [run] units");
}

TEST(Config, OneReaderKnowsTheWholeTable) {
  Recipe recipe = Recipe::parse("[run]\nsteps = 3\n", "");
  EXPECT_EQ(recipe.read<Everything>("run").steps, 3);
  EXPECT_EQ(recipe.read<Everything>("run").steps, 3);  // twice is fine
  expect_refusal([&] { recipe.read<Small>("run"); }, Failure::input, {"line 2", "'steps'"});
}

TEST(Config, WrongTypesRangesAndNotNumbersAreRefused) {
  expect_unreadable("[run]\nsteps = 1.5", {"line 2", "[run] steps", "1.5", "whole number"});
  expect_unreadable("[run]\nsteps = \"many\"", {"[run] steps", "\"many\"", "whole number"});
  expect_unreadable("[run]\nsteps = -1", {"[run] steps: found -1, expected 0 to 1e+06"});
  expect_unreadable("[run]\nstep_size = 0", {"[run] step_size: found 0.0, expected more than 0"});
  expect_unreadable("[run]\nstep_size = nan", {"[run] step_size: found nan"});
  expect_unreadable("[run]\nstep_size = inf", {"[run] step_size: found inf"});
  expect_unreadable("[run]\nstep_size = 1e30", {"[run] step_size: found 1e+30, expected more than 0 and at most 1e+09"});
  expect_unreadable("[run]\nweights = [1e30]", {"[run] weights: found 1e+30"});
  expect_unreadable("[run]\nweights = [1.0, nan]", {"[run] weights: found nan"});
  expect_unreadable("[run]\nweights = [1.0, \"x\"]", {"[run] weights", "\"x\"", "a number"});
  expect_unreadable("[run]\nstep_size = true", {"[run] step_size", "truth value"});
  expect_unreadable("[run]\nnegative = 1", {"[run] negative", "true or false"});
  expect_unreadable("[run]\nname = 3", {"[run] name", "string in quotes"});
  expect_unreadable("[run]\nunits = [3]", {"[run] units", "strings"});
  expect_unreadable("[run]\nunits = 1979-05-27", {"[run] units", "date"});
  expect_unreadable("[run]\nmode = \"fats\"", {"[run] mode", "'fats'", "did you mean 'fast'?"});
}

TEST(Config, TornAndForeignRecipesAreRefusedWithTheirPlace) {
  const auto refused = [](const std::string& toml, const std::vector<std::string>& parts) {
    expect_refusal([&] { Recipe::parse(toml, "", {}, "mine.toml"); }, Failure::input, parts);
  };
  refused("[run]\nsteps = 1\nsteps = 2\n", {"mine.toml", "line 3", "column"});
  refused("[run]\na = 1\n[run]\nb = 1\n", {"mine.toml", "line 3"});
  refused("[run\n", {"mine.toml", "line 1"});
  refused("steps = \n", {"mine.toml", "line 1"});
  refused("\x89HDF\r\n\x1a\n", {"mine.toml", "line 1"});
  refused("run = [{steps = 1}, 2]\n", {"mine.toml, line 1", "list 'run'", "expected tables alone"});
  refused("parent = 3\n", {"mine.toml, line 1", "parent", "file name in quotes"});
  expect_refusal([&] { Recipe::load("/nowhere/at/all.toml"); }, Failure::input, {"/nowhere/at/all.toml"});
}

TEST(Config, ParentsThatLeadBackOrNowhereAreRefused) {
  const fs::path root = folder("circle");
  put(root / "a.toml", "parent = \"b.toml\"\n");
  put(root / "b.toml", "\nparent = \"../circle/a.toml\"\n");
  put(root / "c.toml", "parent = \"none.toml\"\n");
  expect_refusal([&] { Recipe::load((root / "a.toml").string()); }, Failure::input,
                 {"b.toml, line 2", "lead back", "a.toml → b.toml → a.toml"});
  expect_refusal([&] { Recipe::load((root / "c.toml").string()); }, Failure::input, {"c.toml, line 1", "none.toml"});
}

TEST(Config, UnreadTablesAndKeysAreRefused) {
  Recipe recipe = Recipe::parse("[run]\nsteps = 1\n[smapler]\nepsilon = 1\n", "");
  recipe.read<Everything>("run");
  recipe.kind("sampler", "none");
  expect_refusal([&] { recipe.refuse_unread(); }, Failure::input, {"line 4", "[smapler]", "did you mean 'sampler'?"});

  // A kind that takes no options leaves nothing else in its table.
  Recipe alone = Recipe::parse("[transform]\nkind = \"none\"\nsize = 3\n", "");
  EXPECT_EQ(alone.kind("transform"), "none");
  expect_refusal([&] { alone.refuse_unread(); }, Failure::input, {"line 3", "[transform]", "'size'"});

  Recipe top = Recipe::parse("seed = 3\n", "");
  expect_refusal([&] { top.refuse_unread(); }, Failure::input, {"line 1", "'seed'", "top level"});
}

TEST(Config, HelpListsWhatIsDeclared) {
  const auto help = help_of<Everything>();
  ASSERT_EQ(help.size(), 8u);
  EXPECT_EQ(help[0].key, "step_size");
  EXPECT_EQ(help[0].value, "0.05");
  EXPECT_EQ(help[0].unit, "code units");
  EXPECT_EQ(help[5].value, "[0.1, 0.3333333333333333]");
  EXPECT_EQ(help[6].sentence, "how it goes (one of slow, fast)");
}

}  // namespace
}  // namespace evoke
