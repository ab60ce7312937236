#include "core/storage/child_process.h"

#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <stdexcept>

#include "tests/expect.h"

namespace evoke {
namespace {

TEST(ChildProcess, EndingsAreToldApart) {
  EXPECT_EQ(run_in_child([] {}, 20), Ending::well);
  EXPECT_EQ(run_in_child([] { std::abort(); }, 20), Ending::crashed);
  EXPECT_EQ(run_in_child([] { ::raise(SIGSEGV); }, 20), Ending::crashed);
  EXPECT_EQ(run_in_child([] { throw std::runtime_error("left the action"); }, 20), Ending::crashed);
  EXPECT_EQ(run_in_child([] { ::_exit(3); }, 20), Ending::crashed);
  volatile bool forever = true;
  EXPECT_EQ(run_in_child(
                [&] {
                  while (forever) {
                  }
                },
                1),
            Ending::endless);
}

// glibc writes "corrupted double-linked list" past every buffer, straight to descriptor 2, where it finds its heap damaged.
TEST(ChildProcess, WhatItPrintsIsNotSeen) {
  ::testing::internal::CaptureStderr();
  ::testing::internal::CaptureStdout();
  const auto speak = [] {
    for (const int stream : {1, 2}) (void)!::write(stream, "corrupted\n", 10);
    std::abort();
  };
  EXPECT_EQ(run_in_child(speak, 20), Ending::crashed);
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
  EXPECT_EQ(::testing::internal::GetCapturedStdout(), "");
}

TEST(ChildProcess, WhatItChangesStaysThere) {
  int changed = 0;
  EXPECT_EQ(run_in_child([&] { changed = 1; }, 20), Ending::well);
  EXPECT_EQ(changed, 0);
}

}  // namespace
}  // namespace evoke
