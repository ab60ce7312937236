#include <unistd.h>

#include <cstdlib>
#include <set>
#include <string>

#include "experiments/verbs.h"

// LibTorch's threads spin while they wait for one another, which beside any other busy process makes a run ten times slower: let them
// sleep soon. OpenMP reads this before main begins, so the program starts itself once more, in the same process.
static void start_with_patient_threads(int count, char** words) {
  static const std::set<std::string> computing{"demo", "train", "sample", "compare", "judge"};
  if (count < 2 || !computing.contains(words[1]) || std::getenv("GOMP_SPINCOUNT") || std::getenv("OMP_WAIT_POLICY")) return;
  setenv("GOMP_SPINCOUNT", "1000", 1);
  execv("/proc/self/exe", words);  // where that is not possible, the program goes on as it is
}

int main(int count, char** words) {
  start_with_patient_threads(count, words);
  return evoke::command(count, words);
}
