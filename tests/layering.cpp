// The house: every #include "room/…" goes down, never up or sideways; and so within core, from folder to folder.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace {

const std::map<std::string, std::set<std::string>> allowed{
    {"core", {"core"}},
    {"generators", {"generators", "core"}},
    {"classifiers", {"classifiers", "core"}},
    {"samplers", {"samplers", "core"}},
    {"training", {"training", "generators", "classifiers", "core"}},
    {"experiments", {"experiments", "training", "generators", "classifiers", "samplers", "core"}},
    {"tests", {"tests", "experiments", "training", "generators", "classifiers", "samplers", "core"}},
};

// The folders of core, each with those it may include; "core" itself holds errors and the log.
const std::map<std::string, std::set<std::string>> allowed_in_core{
    {"core", {"core"}},
    {"core/numbers", {"core/numbers", "core"}},
    {"core/storage", {"core/storage", "core/numbers", "core"}},
    {"core/recipes", {"core/recipes", "core/storage", "core"}},
    {"core/nouns", {"core/nouns", "core/numbers", "core"}},
    {"core/networks", {"core/networks", "core/nouns", "core/recipes", "core/storage", "core/numbers", "core"}},
    {"core/programs", {"core/programs", "core/networks", "core/nouns", "core/recipes", "core/storage", "core/numbers", "core"}},
    {"core/records", {"core/records", "core/nouns", "core/storage", "core/numbers", "core"}},
};

// The edges in a file of `folder` that `houses` does not have: "file:line includes x". `depth` names a folder of an include: 1 for
// "core/nouns/run.h" is "core", 2 is "core/nouns".
std::vector<std::string> edges_outside(const std::map<std::string, std::set<std::string>>& house, const std::string& folder, int depth,
                                       const std::string& name, const std::string& source) {
  static const std::regex include(R"re(^\s*#\s*include\s*["<]([a-z_0-9/]+)/[^"/>]*[">])re");
  std::vector<std::string> broken;
  std::istringstream lines(source);
  int number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    std::smatch found;
    if (!std::regex_search(line, found, include)) continue;
    std::string path = found[1].str();
    if (depth == 1) path = path.substr(0, path.find('/'));
    if (house.contains(path) && !house.at(folder).contains(path))
      broken.push_back(name + ":" + std::to_string(number) + " includes " + path);
  }
  return broken;
}

std::vector<std::string> broken_edges(const std::string& room, const std::string& name, const std::string& source) {
  return edges_outside(allowed, room, 1, name, source);
}

std::string content(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

bool is_source(const std::filesystem::path& file) {
  static const std::set<std::string> endings{".h", ".cpp", ".cu", ".cuh"};
  return endings.contains(file.extension().string());
}

TEST(Layering, EveryIncludeGoesDown) {
  const std::filesystem::path root = EVOKE_SOURCE;
  int files = 0;
  for (const auto& [room, below] : allowed)
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root / room)) {
      if (!entry.is_regular_file() || !is_source(entry.path())) continue;
      ++files;
      for (const std::string& edge : broken_edges(room, std::filesystem::relative(entry.path(), root).string(), content(entry.path())))
        ADD_FAILURE() << edge;
    }
  EXPECT_GT(files, 40) << "the rooms were not found under " << root;
}

TEST(Layering, EveryFolderOfCoreIncludesDownwards) {
  const std::filesystem::path root = EVOKE_SOURCE;
  int files = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(root / "core")) {
    if (!entry.is_regular_file() || !is_source(entry.path())) continue;
    const std::string name = std::filesystem::relative(entry.path(), root).string(), folder = std::filesystem::path(name).parent_path();
    ASSERT_TRUE(allowed_in_core.contains(folder)) << folder << " is a new folder of core: say here what it may include";
    ++files;
    for (const std::string& edge : edges_outside(allowed_in_core, folder, 2, name, content(entry.path()))) ADD_FAILURE() << edge;
  }
  EXPECT_GT(files, 30) << "the folders of core were not found under " << root;
}

// Headers stay light: none of ours pulls in all of LibTorch.
TEST(Layering, HeadersNeverIncludeAllOfTorch) {
  const std::filesystem::path root = EVOKE_SOURCE;
  for (const auto& [room, below] : allowed)
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root / room))
      if (entry.is_regular_file() && entry.path().extension() == ".h") {
        EXPECT_EQ(content(entry.path()).find("#include <torch/torch.h>"), std::string::npos) << entry.path();
      }
}

// The check itself: it sees a step sideways, a step up and an odd spelling, and nothing else.
TEST(Layering, ForbiddenEdgesAreSeen) {
  EXPECT_EQ(broken_edges("samplers", "a.cpp", "#pragma once\n#include \"generators/pixel.h\"\n"),
            std::vector<std::string>{"a.cpp:2 includes generators"});
  EXPECT_EQ(broken_edges("core", "b.h", "  #  include <experiments/sample.h>").size(), 1u);
  EXPECT_EQ(broken_edges("training", "c.cpp", "#include \"samplers/langevin.h\"").size(), 1u);
  EXPECT_TRUE(
      broken_edges("training", "d.cpp", "#include \"generators/pixel.h\"\n#include <ATen/ATen.h>\n#include <torch/optim.h>\n").empty());
  EXPECT_EQ(edges_outside(allowed_in_core, "core/numbers", 2, "f.h", "#include \"core/nouns/run.h\""),
            std::vector<std::string>{"f.h:1 includes core/nouns"});
  EXPECT_EQ(edges_outside(allowed_in_core, "core", 2, "g.cpp", "#include \"core/storage/files.h\"").size(), 1u);
  EXPECT_TRUE(
      edges_outside(allowed_in_core, "core/records", 2, "h.cpp", "#include \"core/error.h\"\n#include \"core/storage/hdf5.h\"").empty());
  EXPECT_TRUE(broken_edges("core", "e.cpp", "// one does not write #include \"training/x.h\" here").empty());
}

}  // namespace
