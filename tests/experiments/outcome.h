// What one call of the program, in this process, gave.
#pragma once
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/storage/files.h"
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

/// A manifest's text with the checksum that it has to carry.
inline std::string signed_manifest(nlohmann::json manifest) {
  manifest.erase("sha256");
  manifest["sha256"] = sha256(manifest.dump());
  return manifest.dump();
}

}  // namespace evoke
