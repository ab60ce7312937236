// needs: files
// evoke study: a small study of two runs, taken up again and said again; what is refused.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "core/storage/files.h"
#include "experiments/sample.h"
#include "tests/expect.h"
#include "tests/experiments/outcome.h"

namespace evoke {
namespace {

class Study : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder = testing::TempDir() + "evoke_study_" + std::to_string(getpid());
    std::filesystem::create_directories(folder);
  }
  static std::string write(const std::string& name, const std::string& more = "") {
    const std::string file = folder + "/" + name + ".toml";
    write_file(file, R"(title = "Two ways"
source = "nobody, never"
summary = "Pixels are read by the target as {bare/target}, by the oracle as {bare/oracle}."
units = ["logits:9", "logits:54"]
exemplars = ["nearest"]
runs = ["bare", "draws", "facets", "patches"]
patches = true
sweeps = ["steps"]
measures = ["slope"]
points = ["certain"]
images = 3000
chains = 2
[run.bare]
recipe = "pixel"
set = ["run.steps=3"]
[run.draws]
recipe = "autoencoder_search"
set = ["sampler.draws=128"]
[run.patches]
recipe = "pixel"
set = ["run.steps=2", "objective.penalty=[{kind='patches', file='{patches}', weight=1.0}]"]
[exemplar.nearest]
network = "{share}/weights/classifier.safetensors"
set = ["layers=['logits']", "units=['logits:9','logits:54']", "keep=16", "facets=2"]
[run.facets]
recipe = "facets"
group = "facets"
set = ["run.steps=2", "run.starts='{nearest}/facets.safetensors'"]
[sweep.steps]
of = "steps"
runs = ["bare", "facets"]
set = ["run.steps={value}"]
values = [0, 3]
figures = ["target", "variety"]
[measure.slope]
kind = "slopes"
run = "bare"
[point.certain]
source = "Pixels are never read."
here = "{bare/oracle}, slope {slope/image/slope}, after three steps {steps_target/3/bare}"
holds = ["bare/oracle < 0.5", "slope/image/slope > 0", "steps_variety/3/bare > 0", "bare_3/target >= bare/target", "bare/target >= bare_3/target"]
)" + more);
    return file;
  }
  static Outcome study(const std::string& file, const std::string& out, std::vector<std::string> more = {}) {
    std::vector<std::string> words{"study", file, "--out", folder + "/" + out, "-q", "--threads", "1"};
    words.insert(words.end(), more.begin(), more.end());
    return evoke_command(words);
  }
  static inline std::string folder;
};

TEST_F(Study, RunsJudgesAndSaysWhatAgrees) {
  const std::string file = write("two");
  const Outcome first = study(file, "two");
  ASSERT_EQ(first.code, 0) << first.err;
  expect_in("| Pixels are never read. | 0.000, slope ", first.out);
  expect_in("| agrees |", first.out);
  expect_in("Pixels are read by the target as ", first.out);
  for (const char* name :
       {"study.md", "study.json", "figure.png", "bare/results.h5", "draws/results.h5", "shapes.h5", "nearest/facets.safetensors",
        "figure_facets.png", "figure_bare_by_steps.png", "steps_target.svg", "steps_variety.svg"})
    EXPECT_TRUE(std::filesystem::exists(folder + "/two/" + name)) << name;

  // A repeat with the run's own value is the run, to the byte; with another it is another.
  const auto codes = [&](const std::string& name) { return load_results(folder + "/two/" + name).codes; };
  EXPECT_TRUE(at::equal(codes("bare_3"), codes("bare")));
  EXPECT_FALSE(at::equal(codes("bare_0"), codes("bare")));
  EXPECT_EQ(load_results(folder + "/two/facets_0").codes.size(0), codes("facets").size(0));

  // Again: the same page, from the runs that are there; and once a run is gone, it is made again, to the byte.
  const std::string page = read_file(folder + "/two/study.md"), results = read_file(folder + "/two/bare/results.h5");
  const auto written = std::filesystem::last_write_time(folder + "/two/draws/results.h5");
  std::filesystem::rename(folder + "/two/bare", folder + "/moved");
  const Outcome again = study(file, "two");
  ASSERT_EQ(again.code, 0) << again.err;
  EXPECT_EQ(read_file(folder + "/two/bare/results.h5"), results);
  EXPECT_EQ(std::filesystem::last_write_time(folder + "/two/draws/results.h5"), written);
  // All but the seconds are the same.
  const auto before_tables = [](const std::string& text) { return text.substr(0, text.find("## Judged")); };
  EXPECT_EQ(before_tables(read_file(folder + "/two/study.md")), before_tables(page));
}

TEST_F(Study, WhatCannotBeIsRefusedInOneSentence) {
  const auto refused = [](const Outcome& outcome, int code, const std::vector<std::string>& words) {
    EXPECT_EQ(outcome.code, code) << outcome.err;
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
    for (const std::string& word : words) expect_in(word, outcome.err);
  };
  refused(study("shaps", "no"), 2, {"'shaps'", "did you mean 'shapes'"});
  refused(study("overview", "no"), 2, {"--network"});
  refused(study("shapes", "no", {"--network", "net.pt2"}), 2, {"networks of its own", "leave --network out"});
  const std::string unknown = study("nosuch", "no").err;
  EXPECT_EQ(unknown.find("expected one of"), unknown.rfind("expected one of")) << unknown;
  refused(study(write("layer", "[exemplar.x]\nnetwork=\"{share}/weights/classifier.safetensors\"\nset=[\"layers=['conv9']\"]\n"), "layer",
                {"--set", "exemplars=[\"nearest\", \"x\"]"}),
          2, {"[exemplar.x]", "conv9"});
  refused(study(write("kind", "[measure.x]\nkind=\"slops\"\n"), "no", {"--set", "measures=[\"x\"]"}), 3,
          {"'slops'", "did you mean 'slopes'"});
  refused(study(write("key"), "no", {"--set", "run.bare.recipee=\"x\""}), 2, {"recipee", "did you mean"});
  refused(study(write("sweep"), "no", {"--set", "sweep.steps.runs=[\"bear\"]"}), 3, {"[sweep.steps]", "'bear'", "did you mean 'bare'"});
  refused(study(write("twice"), "no", {"--set", "sweep.steps.values=[1, 1.0]"}), 3, {"[sweep.steps]", "bare_1"});
  refused(study(write("empty"), "no", {"--set", "sweep.steps.values=[]"}), 3, {"[sweep.steps]", "no values"});
  refused(study(write("figure"), "no",
                {"--set", "sweep.steps.figures=[\"targt\"]", "--set", "exemplars=[]", "--set", "runs=[\"bare\"]", "--set",
                 "sweep.steps.runs=[\"bare\"]"}),
          3, {"targt", "did you mean"});
  EXPECT_FALSE(std::filesystem::exists(folder + "/no/bare"));  // refused before anything is sampled
  refused(study(write("missing"), "no", {"--set", "runs=[\"bare\", \"gone\"]"}), 3, {"gone"});
  refused(study(write("unit"), "unit", {"--set", "units=[\"conv9:1\"]"}), 2, {"conv9"});
}

}  // namespace
}  // namespace evoke
