// The program's beginning: what has to be right before any of it runs.
#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <set>
#include <string>

#include "experiments/verbs.h"

// LibTorch's threads spin while they wait for one another, which beside any other busy process makes a run ten times slower: let them
// sleep soon. OpenMP reads this before main begins, so the program starts itself once more, in the same process.
static void start_with_patient_threads(int count, char** words) {
  static const std::set<std::string> computing{"demo", "train", "sample", "exemplars", "compare", "study", "judge", "stimuli"};
  if (count < 2 || !computing.contains(words[1]) || std::getenv("GOMP_SPINCOUNT") || std::getenv("OMP_WAIT_POLICY")) return;
  setenv("GOMP_SPINCOUNT", "1000", 1);
  execv("/proc/self/exe", words);  // where that is not possible, the program goes on as it is
}

// A closed stdin, stdout or stderr would be the number of the next file that is opened, and answers would be written into results. They are
// opened here instead; stdout so that writing it fails and is said.
static void fill_closed_descriptors() {
  for (const int number : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (fcntl(number, F_GETFD) < 0) (void)!open("/dev/null", number == STDERR_FILENO ? O_WRONLY : O_RDONLY);
}

int main(int count, char** words) {
  fill_closed_descriptors();
  start_with_patient_threads(count, words);
  return evoke::command(count, words);
}
