// evoke report: runs as one HTML page.
#include <filesystem>
#include <memory>

#include "core/error.h"
#include "core/log.h"
#include "experiments/options.h"
#include "experiments/report/report.h"
#include "experiments/verbs.h"

namespace evoke {

Action report_verb(CLI::App& command) {
  struct Options : CommonOptions {
    std::vector<std::string> runs;
    std::string exemplars;
  };
  auto options = std::make_shared<Options>();
  command
      .add_option("RUN", options->runs, "run directories of evoke sample, finished or not, or of evoke compare; several stand side by side")
      ->required();
  command.add_option("--out", options->out, "file to write [default: report.html in the RUN; for several, here]")->type_name("FILE");
  command
      .add_option("--exemplars", options->exemplars,
                  "a run of evoke exemplars: its real images beside the pictures [default: those that the page showed before, else "
                  "RUN/exemplars]")
      ->type_name("FILE");
  add_common(command, *options, Takes::nothing);
  command.footer(
      "One HTML file that needs nothing else, on a phone, on paper and without a network: pictures by layer and unit, real images, "
      "traces,\n"
      "trajectories (where the run has snapshots), judges' figures, settings. FILE#layer:unit opens a unit. sample, compare and judge "
      "write\n"
      "it by themselves.");
  return [options] {
    begin_verb(*options);
    const std::string file = !options->out.empty()       ? options->out
                             : options->runs.size() == 1 ? report_of(options->runs.front())
                                                         : "report.html";
    require(!std::filesystem::is_directory(file), Failure::usage, "--out ", file, ": found a folder, expected the name of a file");
    const Reported made = write_report(options->runs, file, options->exemplars);
    if (interrupted()) return 130;
    answer(*options, made.file,
           {{"report", made.file}, {"runs", made.runs}, {"units", made.units}, {"pictures", made.pictures}, {"bytes", made.bytes}});
    return 0;
  };
}

}  // namespace evoke
