#include "core/storage/child_process.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>

#include "core/error.h"

namespace evoke {

Ending run_in_child(const std::function<void()>& act, int seconds) {
  const pid_t child = ::fork();
  if (child < 0) {
    const std::string reason = std::strerror(errno);
    fail(Failure::runtime, "no process can be begun (", reason, ")");
  }
  if (child == 0) {
    for (const int crash : {SIGSEGV, SIGBUS, SIGFPE, SIGABRT, SIGILL, SIGXCPU}) ::signal(crash, SIG_DFL);
    const auto limit = static_cast<rlim_t>(seconds);
    const rlimit none{0, 0}, time{limit, limit};
    ::setrlimit(RLIMIT_CORE, &none);
    ::setrlimit(RLIMIT_CPU, &time);
    const int nowhere = ::open("/dev/null", O_WRONLY);
    for (const int stream : {STDOUT_FILENO, STDERR_FILENO})
      if (nowhere < 0 || ::dup2(nowhere, stream) < 0) ::close(stream);
    try {
      act();
    } catch (...) {
      ::_exit(1);
    }
    ::_exit(0);
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return Ending::well;
  return WIFSIGNALED(status) && (WTERMSIG(status) == SIGXCPU || WTERMSIG(status) == SIGKILL) ? Ending::endless : Ending::crashed;
}

}  // namespace evoke
