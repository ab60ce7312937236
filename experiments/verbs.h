// The verbs of the command line. Each adds its options to a subcommand and gives back what it does; that returns the exit code.
#pragma once
#include <CLI/CLI.hpp>
#include <functional>

namespace evoke {

using Action = std::function<int()>;

Action demo_verb(CLI::App&);
Action data_verb(CLI::App&);
Action spectrum_verb(CLI::App&);  // of data: `evoke data spectrum`
Action patches_verb(CLI::App&);   // of data: `evoke data patches`
Action train_verb(CLI::App&);
Action sample_verb(CLI::App&);
Action exemplars_verb(CLI::App&);
Action compare_verb(CLI::App&);
Action study_verb(CLI::App&);
Action judge_verb(CLI::App&);
Action report_verb(CLI::App&);
Action merge_verb(CLI::App&);
Action stimuli_verb(CLI::App&);
Action inspect_verb(CLI::App&);
Action doctor_verb(CLI::App&);
Action completion_verb(CLI::App&);

/// The whole program: parses, runs one verb, says what failed in one sentence on stderr. Returns the exit code: 0 done, 1 run-time error,
/// 2 usage, 3 bad config, data or model file, 4 device missing or out of memory, 130 interrupted after saving.
int command(int count, const char* const* words);

}  // namespace evoke
