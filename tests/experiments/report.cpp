// needs: files
// The report: that the page holds what the run holds, that nothing a run is called can break out of it, and how it refuses.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "classifiers/networks.h"
#include "core/numbers/stream.h"
#include "core/records/pictures.h"
#include "core/records/results.h"
#include "core/storage/files.h"
#include "core/storage/hdf5.h"
#include "experiments/report/page.h"
#include "generators/decoder.h"
#include "tests/experiments/outcome.h"

namespace evoke {
namespace {

namespace fs = std::filesystem;
using json = nlohmann::json;

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
std::map<std::string, std::string> tree(const fs::path& folder) {
  std::map<std::string, std::string> out;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    if (entry.is_regular_file()) out[fs::relative(entry.path(), folder).string()] = content(entry.path());
  return out;
}

// What stands in the script element of this id.
std::string element(const std::string& page, const std::string& id) {
  const std::string begin = "id=\"" + id + "\">";
  const size_t at = page.find(begin);
  if (at == std::string::npos) return {};
  return page.substr(at + begin.size(), page.find("</script>", at) - at - begin.size());
}
struct Read {
  json summary;
  std::vector<json> pieces;
  const json& held(size_t unit) const { return pieces.at(summary["units"][unit]["piece"].get<size_t>())[std::to_string(unit)]; }
};
Read read_page(const fs::path& file) {
  const std::string page = content(file);
  Read out{json::parse(element(page, "summary")), {}};
  for (size_t i = 0;; ++i) {
    const std::string piece = element(page, "piece-" + std::to_string(i));
    if (piece.empty()) return out;
    out.pieces.push_back(json::parse(piece));
  }
}
size_t occurrences(const std::string& in, const std::string& of) {
  size_t count = 0;
  for (size_t at = in.find(of); at != std::string::npos; at = in.find(of, at + 1)) ++count;
  return count;
}
std::string from_base64(const std::string& words) {
  std::string out;
  uint32_t bits = 0;
  int held = 0;
  for (const char c : words) {
    if (c == '=') break;
    const size_t value = std::string("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/").find(c);
    bits = bits << 6 | static_cast<uint32_t>(value), held += 6;
    if (held >= 8) out += static_cast<char>(bits >> (held -= 8) & 255);
  }
  return out;
}

constexpr int64_t side = 16, classes = 6;
const std::vector<std::string> labels{"red line",  "<script>alert(1)</script>", "red disk", "</script><b onclick='x'>\"&amp;", "★ étoile",
                                      "green star"};

class Report : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder = fs::path(testing::TempDir()) / ("evoke_report_" + std::to_string(getpid()));
    fs::create_directories(folder);
    ClassifierOptions options;
    options.classes = classes, options.filters = 2, options.height = options.width = side;
    ImageSpec image;
    image.height = image.width = side;
    save_classifier(folder / "classifier.safetensors", options, build_classifier(options, 1), labels, image);
    save_classifier(folder / "oracle.safetensors", options, build_classifier(options, 9), labels, image);
    Decoder decoder;
    decoder.kind = "autoencoder";
    decoder.options = {.code = 4, .filters = 2, .encoder_filters = 2, .hidden = 0, .channels = 3, .height = side, .width = side};
    decoder.decoder = decoder_network(decoder.options, 2);
    decoder.encoder = encoder_network(decoder.options, 4, 3);
    Stream stream = Stream::range(5, 0, 64);
    decoder.codes = code_statistics(stream.normal({4}));
    save_decoder(folder / "decoder.safetensors", decoder);

    Hdf5 data = Hdf5::create(folder / "data.h5");
    data.set_attribute("format", "evoke dataset");
    data.set_attribute("version", "1");
    data.write("/images", to_bytes(Stream::range(6, 0, 90).uniform({3, side, side})));
    data.write("/labels", at::arange(90, at::kLong).remainder(classes));
    data.write("/split", at::arange(90, at::kLong).remainder(7).eq(4).mul(2).to(at::kByte));
    data.write_text("/label_names", labels);

    put(folder / "recipe.toml", R"(
[classifier]
weights = "classifier.safetensors"
[generator]
kind = "decoder"
weights = "decoder.safetensors"
[prior]
kind = "gaussian"
[objective]
kind = "log_softmax"
units = ["logits:1", "logits:3"]
[sampler]
kind = "langevin"
step_size = 0.1
[run]
chains = 3
steps = 12
snapshots = 5
seed = 5
device = "cpu"
threads = 1
)");
  }
  static void TearDownTestSuite() { remove_tree(folder); }

  static std::string path(const std::string& name) { return (folder / name).string(); }
  static Outcome sample(const std::string& out, std::vector<std::string> more = {}) {
    std::vector<std::string> words{"sample", path("recipe.toml"), "--out", path(out), "-q"};
    words.insert(words.end(), more.begin(), more.end());
    return evoke_command(words);
  }
  static Outcome report(std::vector<std::string> words) {
    words.insert(words.begin(), "report");
    return evoke_command(words);
  }
  static void expect_refusal(const Outcome& outcome, int code, const std::string& saying) {
    EXPECT_EQ(outcome.code, code) << outcome.err;
    EXPECT_EQ(outcome.out, "");
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
    EXPECT_NE(outcome.err.find(saying), std::string::npos) << outcome.err << "does not say: " << saying;
  }

  static inline fs::path folder;
};

// ---- What it holds ---------------------------------------------------------------------------------------------------------------------

TEST_F(Report, HoldsThePicturesTracesAndTrajectoriesOfTheRun) {
  ASSERT_EQ(sample("held").code, 0);
  const Results results = load_results(path("held"));
  const Hdf5 file = Hdf5::open(path("held/results.h5"));
  const Read page = read_page(folder / "held/report.html");
  const json& run = page.summary["runs"][0];
  EXPECT_EQ(run["name"], "held");
  EXPECT_EQ(run["config"], content(folder / "held/config.toml"));
  EXPECT_EQ(run["moments"], (json{0, 5, 10, "end"}));
  ASSERT_EQ(page.summary["units"].size(), 2U);
  for (size_t u = 0; u < 2; ++u) {
    const json &unit = page.summary["units"][u], &held = page.held(u)["runs"][0];
    EXPECT_EQ(unit["name"], u == 0 ? "logits:1" : "logits:3");
    EXPECT_EQ(unit["layer"], "logits");
    EXPECT_EQ(unit["runs"][0]["chain"], (json{0, 1, 2}));
    for (int64_t chain = 0; chain < 3; ++chain) {
      const int64_t row = static_cast<int64_t>(u) * 3 + chain;
      // Small pictures lose nothing.
      const auto decoded = [&](const json& picture) {
        put(folder / "one.webp", from_base64(picture.get<std::string>()));
        return load_image(path("one.webp"));
      };
      EXPECT_TRUE(at::equal(decoded(held["pictures"][chain]), results.images[row])) << row;
      const Tensor snapshots = file.read_rows("/snapshots", row, 1)[0];
      EXPECT_TRUE(at::equal(decoded(held["strips"][chain]), at::cat({snapshots[0], snapshots[1], snapshots[2], results.images[row]}, 1)));
      EXPECT_NEAR(unit["runs"][0]["activation"][chain].get<double>(), results.activation[row].item<double>(),
                  1e-3 * std::abs(results.activation[row].item<double>()));
      const Tensor trace = file.read_rows("/activation/trace", row, 1)[0];
      ASSERT_EQ(held["traces"]["score"][chain].size(), 12U);
      for (int64_t step = 0; step < 12; ++step)
        EXPECT_NEAR(held["traces"]["score"][chain][step].get<double>(), trace[step].item<double>(),
                    1e-3 * std::abs(trace[step].item<double>()));
      EXPECT_TRUE(fs::exists(folder / "held/images" / unit["runs"][0]["files"][chain].get<std::string>()));
    }
    EXPECT_EQ(held["traces"].size(), file.names("/terms").size() + 1);
  }
  EXPECT_TRUE(page.summary["figures"].empty());
}

TEST_F(Report, NothingThatARunIsCalledBreaksOut) {
  ASSERT_EQ(sample("<script>alert(1)</script>&\"'", {"--no-report"}).code, 0);
  // The slash in its name makes two folders of it.
  const std::string run = path("<script>alert(1)</script>&\"'");
  ASSERT_EQ(report({run}).code, 0);
  const std::string page = content(run + "/report.html");
  const Read read = read_page(run + "/report.html");
  EXPECT_EQ(occurrences(page, "<script"), 2 + read.pieces.size());  // the summary, the program, the pieces
  EXPECT_EQ(occurrences(page, "</script"), 2 + read.pieces.size());
  EXPECT_EQ(read.summary["units"][0]["label"], labels[1]);
  EXPECT_EQ(read.summary["units"][1]["label"], labels[3]);
  EXPECT_EQ(page.find("<script>alert"), std::string::npos);
  EXPECT_EQ(page.find("<b onclick"), std::string::npos);
  EXPECT_NE(page.find("<title>script&gt;&amp;&quot;&#39;</title>"), std::string::npos);
  // What scripts may run is said by their content alone.
  EXPECT_EQ(page.find("unsafe-inline"), std::string::npos);
  EXPECT_NE(page.find("default-src 'none'"), std::string::npos);
  EXPECT_EQ(page.find("http://"), page.find("http://www.w3.org/2000/svg"));
  EXPECT_EQ(page.find("https://"), std::string::npos);
}

TEST_F(Report, WordsOfThePageAreEscapedAndReadBack) {
  EXPECT_EQ(escaped("a<b>&\"'"), "a&lt;b&gt;&amp;&quot;&#39;");
  EXPECT_EQ(data_of({{"a", "</script>"}}), "{\"a\":\"\\u003c/script>\"}");
  EXPECT_EQ(json::parse(data_of({{"a", "\xff</script>"}}))["a"], "\xef\xbf\xbd</script>");  // what is no UTF-8 is replaced
  for (const auto& [plain, coded] : std::map<std::string, std::string>{
           {"", ""}, {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"}, {"foob", "Zm9vYg=="}, {"fooba", "Zm9vYmE="}, {"foobar", "Zm9vYmFy"}})
    EXPECT_EQ(base64(plain), coded);  // RFC 4648, Section 10
  put(folder / "page.html", page_of("t", "../a \"<&>'&lt;", "{}", {}));
  EXPECT_EQ(remembered_exemplars(path("page.html")), "../a \"<&>'&lt;");
  put(folder / "page.html", page_of("t", "", "{}", {}));
  EXPECT_EQ(remembered_exemplars(path("page.html")), "");
  EXPECT_EQ(remembered_exemplars(path("no such page")), "");
}

TEST_F(Report, IsTheSameBytesEachTimeAndTouchesNothingElse) {
  ASSERT_EQ(sample("first/run").code, 0);
  ASSERT_EQ(sample("second/run").code, 0);
  EXPECT_TRUE(content(folder / "first/run/report.html") == content(folder / "second/run/report.html"));
  ASSERT_EQ(sample("other/run", {"--seed", "6"}).code, 0);
  EXPECT_FALSE(content(folder / "first/run/report.html") == content(folder / "other/run/report.html"));

  const std::map<std::string, std::string> before = tree(folder / "first");
  const Outcome again = report({path("first/run"), "--json"});
  ASSERT_EQ(again.code, 0) << again.err;
  EXPECT_EQ(json::parse(again.out)["pictures"], 6);
  EXPECT_TRUE(tree(folder / "first") == before);

  // A page of many runs is called after a few of them.
  const auto title_of = [&](const std::vector<std::string>& runs) {
    std::vector<std::string> words = runs;
    words.insert(words.end(), {"--out", path("many.html")});
    EXPECT_EQ(report(words).code, 0);
    const std::string page = content(folder / "many.html");
    const size_t from = page.find("<title>") + 7;
    return page.substr(from, page.find("</title>") - from);
  };
  for (const char* name : {"b", "c", "d", "e"})
    fs::create_directories(folder / "many"),
        fs::copy(folder / "second/run", folder / "many" / name, fs::copy_options::recursive | fs::copy_options::update_existing);
  const std::string a = path("other/run"), many = path("many");
  EXPECT_EQ(title_of({a, many + "/b", many + "/c", many + "/d"}), "run · b · c · d");
  EXPECT_EQ(title_of({a, many + "/b", many + "/c", many + "/d", many + "/e"}), "run · b · c and 2 more");

  // Not where it is not wanted; and where it is missing, the same command writes it.
  ASSERT_EQ(sample("without/run", {"--no-report"}).code, 0);
  EXPECT_FALSE(fs::exists(folder / "without/run/report.html"));
  ASSERT_EQ(sample("without/run").code, 0);
  EXPECT_TRUE(content(folder / "without/run/report.html") == before.at("run/report.html"));
}

TEST_F(Report, OfMergedShardsIsThatOfTheWhole) {
  ASSERT_EQ(sample("whole/run").code, 0);
  for (const char* shard : {"0", "1"}) {
    ASSERT_EQ(sample(std::string("shard") + shard, {"--shard", std::string(shard) + "/2"}).code, 0);
    EXPECT_FALSE(fs::exists(folder / (std::string("shard") + shard) / "report.html"));
  }
  ASSERT_EQ(evoke_command({"merge", path("shard0"), path("shard1"), "--out", path("merged/run"), "-q"}).code, 0);
  EXPECT_TRUE(content(folder / "merged/run/report.html") == content(folder / "whole/run/report.html"));
}

TEST_F(Report, RunsOfTheSameUnitsStandSideBySide) {
  ASSERT_EQ(sample("a/run").code, 0);
  ASSERT_EQ(sample("b/run", {"--set", "objective.units=[\"logits:3\", \"logits:4\"]"}).code, 0);
  const Outcome both = report({path("a/run"), path("b/run"), "--out", path("both.html")});
  ASSERT_EQ(both.code, 0) << both.err;
  EXPECT_EQ(both.out, path("both.html") + "\n");
  const Read page = read_page(folder / "both.html");
  EXPECT_EQ(page.summary["runs"][0]["name"], "a/run");
  EXPECT_EQ(page.summary["runs"][1]["name"], "b/run");
  EXPECT_EQ(page.summary["runs"][1]["folder"], "b/run/");
  ASSERT_EQ(page.summary["units"].size(), 3U);
  EXPECT_EQ(page.summary["units"][0]["runs"][1], json());
  EXPECT_EQ(page.summary["units"][1]["name"], "logits:3");
  EXPECT_EQ(page.held(1)["runs"][1]["pictures"].size(), 3U);
  EXPECT_EQ(page.summary["units"][2]["runs"][0], json());
}

// ---- What judges found -----------------------------------------------------------------------------------------------------------------

TEST_F(Report, JudgingRefreshesItWithTheSameFigures) {
  ASSERT_EQ(sample("judged").code, 0);
  const std::vector<std::string> judge{"judge",  path("judged"),  "--oracle", path("oracle.safetensors"),
                                       "--data", path("data.h5"), "-q",       "--json"};
  const Outcome outcome = evoke_command(judge);
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const json table = json::parse(outcome.out)["table"];
  const Read page = read_page(folder / "judged/report.html");
  ASSERT_EQ(page.summary["figures"].size(), table.size());
  for (size_t i = 0; i < table.size(); ++i) {
    const json& line = page.summary["figures"][i];
    EXPECT_EQ(line["name"], i == 0 ? json("judged") : table[i]["name"]);
    EXPECT_EQ(line["run"], i == 0 ? json(0) : json());
    for (const char* figure : {"agreement_target", "agreement_oracle", "alike", "percentile", "variety"})
      EXPECT_EQ(line[figure], table[i][figure]);
  }
  // What each picture was read as.
  const Tensors findings = [&] {
    const Hdf5 file = Hdf5::open(path("judged/results.h5"));
    return Tensors{{"wanted", file.read("/judge/wanted")}, {"oracle", file.read("/judge/oracle_class")}};
  }();
  for (int64_t row = 0; row < 6; ++row)
    EXPECT_EQ(page.summary["units"][row / 3]["runs"][0]["verdicts"]["oracle"].get<std::string>()[row % 3],
              findings.at("wanted")[row].item<int64_t>() == findings.at("oracle")[row].item<int64_t>() ? '1' : '0');

  // Without the judgement's table the findings alone say the same, as far as they go.
  fs::remove(folder / "judged/judgement.json");
  ASSERT_EQ(report({path("judged")}).code, 0);
  const json alone = read_page(folder / "judged/report.html").summary["figures"];
  ASSERT_EQ(alone.size(), 1U);
  for (const char* figure : {"pictures", "agreement_target", "agreement_oracle", "alike", "percentile"})
    EXPECT_EQ(alone[0][figure], table[0][figure]) << figure;

  // --no-report leaves the page as it was.
  put(folder / "judged/report.html", "mine");
  std::vector<std::string> quietly = judge;
  quietly.emplace_back("--no-report");
  ASSERT_EQ(evoke_command(quietly).code, 0);
  EXPECT_EQ(content(folder / "judged/report.html"), "mine");
}

TEST_F(Report, AComparisonIsThePageOfItsMethods) {
  put(folder / "calm.toml", "parent = \"recipe.toml\"\n[sampler]\nstep_size = 0.01\n");
  const Outcome outcome = evoke_command({"compare", path("recipe.toml"), path("calm.toml"), "--oracle", path("oracle.safetensors"),
                                         "--data", path("data.h5"), "--out", path("comparison"), "-q", "--json"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const json table = json::parse(outcome.out)["table"];
  const Read page = read_page(folder / "comparison/report.html");
  ASSERT_EQ(page.summary["runs"].size(), 2U);
  EXPECT_EQ(page.summary["runs"][1]["name"], "calm");
  EXPECT_EQ(page.summary["runs"][1]["folder"], "calm/");
  ASSERT_EQ(page.summary["figures"].size(), table.size());
  for (size_t i = 0; i < table.size(); ++i) {
    EXPECT_EQ(page.summary["figures"][i]["name"], table[i]["name"]);
    EXPECT_EQ(page.summary["figures"][i]["agreement_oracle"], table[i]["agreement_oracle"]);
    EXPECT_FALSE(page.summary["figures"][i].contains("seconds"));  // the one figure that is another each time
  }
}

// ---- Real images -----------------------------------------------------------------------------------------------------------------------

TEST_F(Report, ExemplarsStandBesideAndAreRemembered) {
  ASSERT_EQ(sample("beside").code, 0);
  const auto exemplars = [&](const std::string& net, const std::string& out) {
    return evoke_command({"exemplars", path(net), path("data.h5"), "--keep", "3", "--out", path(out), "-q"});
  };
  ASSERT_EQ(exemplars("classifier.safetensors", "seen").code, 0);
  ASSERT_EQ(exemplars("oracle.safetensors", "strange").code, 0);
  ASSERT_EQ(report({path("beside"), "--exemplars", path("seen")}).code, 0);
  const std::string shown = content(folder / "beside/report.html");
  const Read page = read_page(folder / "beside/report.html");
  const Hdf5 found = Hdf5::open(path("seen/exemplars.h5"));
  for (const char* end : {"top", "bottom"})
    for (int64_t k = 0; k < 3; ++k) {
      const json& one = page.held(1)[end][k];  // logits:3
      const auto row = found.read(std::string("/logits/") + end + "/rows")[3][k].item<int64_t>();
      EXPECT_EQ(one["row"], row);
      put(folder / "one.webp", from_base64(one["picture"].get<std::string>()));
      EXPECT_TRUE(at::equal(load_image(path("one.webp")), Hdf5::open(path("data.h5")).read("/images")[row]));
    }
  // Remembered, also by a judgement; and those of another network refused.
  ASSERT_EQ(report({path("beside")}).code, 0);
  EXPECT_TRUE(content(folder / "beside/report.html") == shown);
  expect_refusal(report({path("beside"), "--exemplars", path("strange")}), 2, "another network");
  expect_refusal(report({path("beside"), "--exemplars", path("nowhere")}), 3, "evoke exemplars");
  EXPECT_TRUE(content(folder / "beside/report.html") == shown);

  // Their images gone, then they themselves: said, and the rest is shown.
  fs::rename(folder / "data.h5", folder / "moved.h5");
  const Outcome gone = report({path("beside")});
  fs::rename(folder / "moved.h5", folder / "data.h5");
  EXPECT_EQ(gone.code, 0);
  EXPECT_NE(gone.err.find("not at " + path("data.h5")), std::string::npos) << gone.err;
  EXPECT_FALSE(read_page(folder / "beside/report.html").held(1)["top"][0].contains("picture"));
  fs::rename(folder / "seen", folder / "elsewhere");
  const Outcome without = report({path("beside")});
  EXPECT_EQ(without.code, 0);
  EXPECT_NE(without.err.find("shows none"), std::string::npos) << without.err;
  EXPECT_FALSE(read_page(folder / "beside/report.html").held(1).contains("top"));
  // In the run's own folder they are found.
  fs::rename(folder / "elsewhere", folder / "beside/exemplars");
  ASSERT_EQ(report({path("beside")}).code, 0);
  EXPECT_TRUE(read_page(folder / "beside/report.html").held(1).contains("top"));
}

// ---- What cannot be reported -----------------------------------------------------------------------------------------------------------

TEST_F(Report, ARunThatIsNotFinishedIsReportedAsFarAsItGot) {
  ASSERT_EQ(sample("unfinished").code, 0);
  json manifest = json::parse(content(folder / "unfinished/manifest.json"));
  manifest["status"] = "interrupted";
  put(folder / "unfinished/manifest.json", signed_manifest(manifest));
  fs::create_directories(folder / "unfinished/parts");
  fs::rename(folder / "unfinished/results.h5", folder / "unfinished/parts/000000000000.h5");
  ASSERT_EQ(report({path("unfinished")}).code, 0);
  const Read page = read_page(folder / "unfinished/report.html");
  EXPECT_EQ(page.summary["runs"][0]["unfinished"], "interrupted");
  EXPECT_EQ(page.held(1)["runs"][0]["pictures"].size(), 3U);

  const std::string before = content(folder / "unfinished/report.html");
  fs::remove(folder / "unfinished/parts/000000000000.h5");
  expect_refusal(report({path("unfinished")}), 3, "no finished picture yet; repeat its command");
  EXPECT_TRUE(content(folder / "unfinished/report.html") == before);
}

TEST_F(Report, RefusesWhatIsNoRun) {
  ASSERT_EQ(sample("fine").code, 0);
  expect_refusal(report({path("nowhere")}), 3, "found no folder");
  fs::create_directories(folder / "empty");
  expect_refusal(report({path("empty")}), 3, "without a manifest.json");
  put(folder / "empty/manifest.json", "{");
  expect_refusal(report({path("empty")}), 3, "no manifest of a run");
  expect_refusal(report({path("recipe.toml")}), 3, "found no folder");
  expect_refusal(report({path("fine"), "--out", path("empty")}), 2, "found a folder");
  expect_refusal(report({path("fine"), "--out", path("no/such/folder/a.html")}), 1, "no/such/folder");
  expect_refusal(report({}), 2, "RUN is required");
  ASSERT_EQ(evoke_command({"exemplars", path("classifier.safetensors"), path("data.h5"), "--out", path("looked"), "-q"}).code, 0);
  expect_refusal(report({path("looked")}), 3, "a run of evoke exemplars, expected one of evoke sample");
  put(folder / "fine/config.toml", content(folder / "fine/config.toml") + "\n");
  expect_refusal(report({path("fine")}), 3, "config.toml");
  ASSERT_EQ(sample("torn").code, 0);
  put(folder / "torn/results.h5", content(folder / "torn/results.h5").substr(0, 900));
  expect_refusal(report({path("torn")}), 3, "results.h5");
}

}  // namespace
}  // namespace evoke
