// needs: files
// Shell completion, as bash itself asks for it.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include "experiments/menus.h"
#include "experiments/options.h"
#include "tests/experiments/outcome.h"

namespace evoke {
namespace {

namespace fs = std::filesystem;
using Words = std::set<std::string>;

const fs::path& script() {
  static const fs::path file = [] {
    const fs::path out = fs::path(testing::TempDir()) / ("evoke_completion_" + std::to_string(getpid()) + ".bash");
    const Outcome outcome = evoke_command({"completion", "bash"});
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    std::ofstream(out) << outcome.out;
    return out;
  }();
  return file;
}

// What bash offers for each line that is typed so far. Bash cuts words at '=' and ':', and only what comes after the last is completed.
std::vector<Words> offered(const std::vector<std::string>& lines) {
  std::string program = "source " + script().string() + "; compopt() { :; }\n";
  for (const std::string& line : lines)
    program += "COMP_LINE='" + line + "' COMP_POINT=" + std::to_string(line.size()) +
               "; _evoke; printf '%s\\n' \"${COMPREPLY[@]}\"; echo ' end'\n";
  std::ofstream(script().string() + ".lines") << program;
  FILE* pipe = popen(("bash --norc --noprofile " + script().string() + ".lines 2>&1").c_str(), "r");
  std::vector<Words> out(1);
  char buffer[4096];
  while (std::fgets(buffer, sizeof buffer, pipe)) {
    const std::string word = buffer;
    if (word == " end\n")
      out.emplace_back();
    else if (word != "\n")
      out.back().insert(word.substr(0, word.size() - 1));
  }
  EXPECT_EQ(pclose(pipe), 0);
  out.pop_back();
  EXPECT_EQ(out.size(), lines.size());
  out.resize(lines.size());
  return out;
}
Words offered(const std::string& line) { return offered(std::vector{line}).at(0); }
bool holds(const Words& all, const Words& some) { return std::includes(all.begin(), all.end(), some.begin(), some.end()); }

TEST(Completion, VerbsAndFlags) {
  EXPECT_EQ(offered("evoke sam"), Words{"sample"});
  EXPECT_TRUE(holds(offered("evoke "), {"data", "train", "sample", "compare", "judge", "inspect", "completion", "--help"}));
  EXPECT_EQ(offered("evoke data "), (Words{"folder", "patches", "shapes", "spectrum"}));
  EXPECT_EQ(offered("evoke data shapes --im"), Words{"--images"});
  EXPECT_TRUE(offered("evoke data folder --im").empty());
  EXPECT_EQ(offered("evoke sample ppgn --de"), Words{"--device"});
  EXPECT_TRUE(holds(offered("evoke sample -"), {"--out", "--device", "--set", "-q", "--quiet", "--json", "--help"}));
  EXPECT_EQ(offered("evoke sample --device "), (Words{"auto", "cpu", "cuda"}));
  EXPECT_EQ(offered("evoke exemplars net.pt2 photos --split t"), (Words{"test", "train"}));
  EXPECT_EQ(offered("evoke completion "), (Words{"bash", "fish", "zsh"}));
  EXPECT_TRUE(offered("evoke sample --seed ").empty());
}

TEST(Completion, RecipesAndFiles) {
  const Words recipes = offered("evoke sample ");
  for (const std::string& name : recipe_names()) EXPECT_TRUE(recipes.contains(name)) << name;
  EXPECT_TRUE(holds(offered("evoke study "), {"channels", "layer", "shapes"}));
  EXPECT_TRUE(holds(offered("evoke compare langevin_"), {"langevin_denoiser", "langevin_gaussian"}));
  const fs::path folder = fs::path(testing::TempDir()) / ("evoke_completion_files_" + std::to_string(getpid()));
  fs::create_directories(folder);
  std::ofstream(folder / "mine.toml") << "\n";
  EXPECT_EQ(offered("evoke sample " + folder.string() + "/m"), Words{folder.string() + "/mine.toml"});
  EXPECT_EQ(offered("evoke inspect " + folder.string() + "/m"), Words{folder.string() + "/mine.toml"});
  EXPECT_EQ(offered("evoke sample x --out " + folder.string() + "/m"), Words{folder.string() + "/mine.toml"});
}

// Every kind of every menu, and every option, is there because it is in the menu.
TEST(Completion, WhatSetCanSayFollowsFromTheMenus) {
  EXPECT_EQ(offered("evoke sample ppgn --set sampler.epsilon1"), Words{"sampler.epsilon1="});
  EXPECT_EQ(offered("evoke sample ppgn --set sampler.kind=lan"), Words{"langevin"});
  EXPECT_EQ(offered("evoke sample ppgn --set objective.as_released="), (Words{"false", "true"}));
  const Words keys = offered("evoke sample ppgn --set "), trained = offered("evoke train x --set ");
  std::map<std::string, Words> kinds;  // by table
  const auto name = [](const std::string& table) { return table + (is_list(table) ? ".0" : ""); };
  for (const MenuEntry& entry : sampling_tables()) {
    if (!entry.kind.empty()) {
      if (!kinds.contains(entry.table)) kinds[entry.table] = offered("evoke sample ppgn --set " + name(entry.table) + ".kind=");
      EXPECT_TRUE(kinds[entry.table].contains(entry.kind)) << entry.kind;
    }
    for (const TableHelp& table : entry.tables)
      for (const OptionHelp& option : table.options) EXPECT_TRUE(keys.contains(name(table.table) + "." + option.key + "=")) << option.key;
  }
  for (const MenuEntry& entry : training_tables())
    for (const TableHelp& table : entry.tables)
      for (const OptionHelp& option : table.options) EXPECT_TRUE(trained.contains(table.table + "." + option.key + "=")) << option.key;
}

TEST(Completion, OtherShellsGetTheSameWords) {
  for (const char* shell : {"zsh", "fish"}) {
    const Outcome outcome = evoke_command({"completion", shell});
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    for (const char* word : {"sample", "shapes", "langevin_gaussian", "epsilon1=", "skip-broken"})
      EXPECT_NE(outcome.out.find(word), std::string::npos) << shell << " " << word;
    // Where the shell is installed, it reads its script.
    const fs::path file = script().string() + "." + shell;
    std::ofstream(file) << outcome.out;
    const std::string look = std::string("command -v ") + shell + " >/dev/null 2>&1 || exit 0; " + shell + " -n " + file.string();
    EXPECT_EQ(std::system(look.c_str()), 0) << shell;
  }
  const Outcome other = evoke_command({"completion", "bsh"});
  EXPECT_EQ(other.code, 2);
  EXPECT_NE(other.err.find("did you mean 'bash'?"), std::string::npos) << other.err;
}

}  // namespace
}  // namespace evoke
