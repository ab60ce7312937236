// What one call of the program, in this process, gave.
#pragma once
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "experiments/verbs.h"

namespace evoke {

struct Outcome {
  int code = -1;
  std::string out, err;
};
inline Outcome evoke_command(std::vector<std::string> words) {
  std::vector<const char*> argv{"evoke"};
  for (const std::string& word : words) argv.push_back(word.c_str());
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  Outcome outcome;
  outcome.code = command(static_cast<int>(argv.size()), argv.data());
  outcome.out = testing::internal::GetCapturedStdout();
  outcome.err = testing::internal::GetCapturedStderr();
  return outcome;
}

}  // namespace evoke
