// The house: every #include "room/…" goes down, never up or sideways.
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

// The edges in a file of `room` that the house does not have: "file:line includes x".
std::vector<std::string> broken_edges(const std::string& room, const std::string& name, const std::string& source) {
  static const std::regex include(R"re(^\s*#\s*include\s*["<]([a-z_]+)/[^">]*[">])re");
  std::vector<std::string> broken;
  std::istringstream lines(source);
  int number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    std::smatch found;
    if (std::regex_search(line, found, include) && allowed.contains(found[1]) && !allowed.at(room).contains(found[1]))
      broken.push_back(name + ":" + std::to_string(number) + " includes " + found[1].str());
  }
  return broken;
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
  EXPECT_TRUE(broken_edges("core", "e.cpp", "// one does not write #include \"training/x.h\" here").empty());
}

}  // namespace
