// The error type and its suggestions.
#include "core/error.h"

#include <gtest/gtest.h>

namespace evoke {
namespace {

TEST(Error, CarriesSentenceKindAndExitCode) {
  try {
    require(1 + 1 == 3, Failure::input, "sum: found ", 2, ", expected ", 3);
    FAIL() << "nothing was thrown";
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(), "sum: found 2, expected 3");
    EXPECT_EQ(e.exit_code(), 3);
  }
  EXPECT_NO_THROW(require(true, Failure::usage, "never"));
}

TEST(Error, NearestFindsTypingErrorsAndNothingFar) {
  const std::vector<std::string> words{"step_size", "steps", "chains"};
  EXPECT_EQ(nearest("step_sze", words), "step_size");
  EXPECT_EQ(nearest("step", words), "steps");
  EXPECT_EQ(nearest("chians", words), "chains");
  EXPECT_EQ(nearest("temperature", words), "");
  EXPECT_EQ(nearest("x", {}), "");
  EXPECT_EQ(nearest("Langevin", {"langevin"}), "langevin");
  EXPECT_EQ(nearest("rainbow triangle", {"red double line", "rainbow double triangle"}), "rainbow double triangle");
  EXPECT_EQ(nearest("cat", {"black tabby cat", "tabby cat", "catalogue"}), "tabby cat");
  EXPECT_EQ(nearest("x", {"x ray of a chest"}), "");
}

TEST(Error, DidYouMeanSuggestsAndLists) {
  EXPECT_EQ(did_you_mean("ppng", {"ppgn", "mala"}), " (did you mean 'ppgn'?); expected one of ppgn, mala");
  EXPECT_EQ(did_you_mean("quite_else", {"ppgn", "mala"}), "; expected one of ppgn, mala");
}

TEST(Error, ListOfStopsAtMost) {
  EXPECT_EQ(list_of({"a", "b", "c"}), "a, b, c");
  EXPECT_EQ(list_of({"a", "b", "c"}, 2), "a, b, … (3 in all)");
  EXPECT_EQ(list_of({}), "");
}

TEST(Error, OneLineKeepsWhatALibraryMeantToSay) {
  EXPECT_EQ(
      one_line("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."),
      "DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.");
  EXPECT_EQ(one_line("shapes do not fit\nException raised from here\nframe #0"), "shapes do not fit");
  EXPECT_EQ(one_line("a\tb\x1b[31mc"), "a b [31mc");
  EXPECT_EQ(one_line(std::string(2000, 'x')).size(), 1003u);
}

}  // namespace
}  // namespace evoke
