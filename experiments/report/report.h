// Runs as one HTML page that needs nothing else: pictures, traces, trajectories, figures, settings.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace evoke {

/// What a page was made of.
struct Reported {
  std::string file;
  int64_t runs = 0, units = 0, pictures = 0, bytes = 0;
};

/// Writes a page about run directories of `evoke sample`, and of `evoke compare`, which stand for the runs of their methods. Runs of the
/// same units stand side by side. The page's bytes follow from the runs alone: neither the time nor a place on this machine is in it. It is
/// written whole or not at all, and nothing else in a run is touched.
///
/// exemplars: a run of `evoke exemplars` whose images are shown beside; empty: the one that the page at `file` showed before, else
/// RUN/exemplars where that exists. Where its images are not there any more, values are shown alone, with a warning.
///
/// A run that is not finished is reported as far as it got, which the page says. Size: about 10 kB a picture of 224 pixels; beyond some
/// 2,000 of them pictures become smaller, so that the page stays near 50 MB.
///
/// Throws Failure::input for what is no such run, or one without any picture yet, and for exemplars of another network.
Reported write_report(const std::vector<std::string>& runs, const std::string& file, const std::string& exemplars = {});

/// RUN/report.html.
std::string report_of(const std::string& run);
/// Writes it, as the verbs do that make or judge a run: the run is what was asked for, so that a page which cannot be written is warned of
/// and no more.
void report_run(const std::string& run);
/// Is a run (or comparison) finished, and its page there?
bool is_reported(const std::string& run);
/// RUN/report.html on a line of its own for what a verb says, where it is there.
std::string report_line(const std::string& run);

}  // namespace evoke
