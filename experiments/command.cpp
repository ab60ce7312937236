// The program: which verb, and how a failure is said.
#include <c10/util/Exception.h>

#include <iomanip>
#include <iostream>
#include <new>
#include <sstream>

#include "core/error.h"
#include "core/log.h"
#include "core/numbers/memory.h"
#include "experiments/options.h"
#include "experiments/verbs.h"

namespace evoke {

namespace {

struct Verb {
  const char *name, *sentence;
  Action (*add)(CLI::App&);
};
const std::vector<Verb> verbs{
    {"demo", "the whole story on the shapes dataset, in minutes", demo_verb},
    {"data", "make or convert a dataset into HDF5", data_verb},
    {"train", "train what a recipe describes; evoke train --help lists what that can be", train_verb},
    {"sample", "synthesize images: any sampler with any generator, prior and objective", sample_verb},
    {"exemplars", "the real images that excite each unit most and least, and what values every unit takes", exemplars_verb},
    {"compare", "several recipes on the same units and budget, judged side by side", compare_verb},
    {"study", "repeat a published study: runs, judges, measures, and what agrees with the source", study_verb},
    {"judge", "score a run's images by the truth", judge_verb},
    {"report", "runs as one HTML page that needs nothing else", report_verb},
    {"merge", "join the runs of all shards into the run that one machine would have written", merge_verb},
    {"stimuli", "a run's pictures as an experiment shows them: luminance, contrast, mask, and scored again", stimuli_verb},
    {"inspect", "layers, shapes, units and parameters of a model; the layout of a dataset", inspect_verb},
    {"completion", "what bash, zsh or fish needs to complete evoke's words", completion_verb},
    {"doctor", "versions, devices and libraries, and whether they compute what they should", doctor_verb},
};

int refuse(int code, const std::string& sentence) {
  std::cout.flush();
  std::cerr << "evoke: " << sentence << "\n" << std::flush;
  return code;
}

// Memory is exhausted, in our words, with how much was asked for where the allocator's sentence tells ("you tried to allocate 1000 bytes",
// "Tried to allocate 2.00 GiB").
int refuse_memory(const std::string& sentence) {
  std::string asked;
  if (const size_t at = sentence.find("ried to allocate "); at != std::string::npos) {
    std::istringstream rest(sentence.substr(at + 17));
    double amount = 0;
    std::string unit;
    if (rest >> amount >> unit) {
      if (unit.starts_with("bytes")) amount /= 1024.0 * 1024.0 * 1024.0;
      std::ostringstream number;
      number << std::fixed << std::setprecision(amount < 10 ? 2 : 0) << amount;
      asked = text(": ", number.str(), unit.starts_with("bytes") ? " GiB" : " " + unit.substr(0, 3), " more were asked for at once");
    }
  }
  return refuse(4, text(sentence.find("CUDA") == std::string::npos ? "memory" : "the device's memory", " is exhausted", asked,
                        "; take fewer chains, a smaller batch or another device"));
}

int parse_and_run(int count, const char* const* words) {
  CLI::App app{"Images that a network's units prefer, under learned priors."};
  app.name("evoke");
  app.set_version_flag("--version", "evoke " EVOKE_VERSION);
  app.require_subcommand(1);
  app.footer(
      "Exit codes: 0 done, 1 run-time error, 2 usage, 3 bad config, data or model file, 4 device missing or out of memory, "
      "130 interrupted after saving.\nevoke VERB --help lists a verb's options with defaults and units.");
  std::vector<Action> actions;
  std::vector<CLI::App*> commands;
  std::vector<std::string> names;
  for (const Verb& verb : verbs) {
    commands.push_back(app.add_subcommand(verb.name, verb.sentence));
    actions.push_back(verb.add(*commands.back()));
    names.emplace_back(verb.name);
  }

  if (count < 2) {
    std::cout << app.help();
    return refuse(2, text("found no verb; expected one of ", list_of(names)));
  }
  const std::string verb = words[1];
  require(verb.starts_with("-") || std::find(names.begin(), names.end(), verb) != names.end(), Failure::usage, "found no verb '", verb, "'",
          did_you_mean(verb, names), "; evoke --help describes them");
  try {
    app.parse(count, words);
  } catch (const CLI::Success& wanted) {
    app.exit(wanted, std::cout, std::cout);  // --help and --version
    return 0;
  } catch (const CLI::ParseError& wrong) {
    const std::string where = verb.starts_with("-") ? "evoke" : "evoke " + verb;
    return refuse(2, text(where, ": ", one_line(wrong.what()), "; ", where, " --help lists what there is"));
  }
  for (size_t i = 0; i < commands.size(); ++i)
    if (commands[i]->parsed()) return actions[i]();
  return 2;
}

}  // namespace

int command(int count, const char* const* words) {
  const auto run = [&] {
    const int code = parse_and_run(count, words);
    flush_answers();
    return code;
  };
  try {
    return run();
  } catch (const Error& error) {
    return refuse(error.exit_code(), error.what());
  } catch (const c10::OutOfMemoryError& error) {
    return refuse_memory(one_line(error.what_without_backtrace()));
  } catch (const c10::Error& error) {
    const std::string sentence = one_line(error.what_without_backtrace());
    return speaks_of_memory(sentence) ? refuse_memory(sentence) : refuse(1, "LibTorch: " + sentence);
  } catch (const std::bad_alloc&) {
    return refuse_memory("");
  } catch (const std::exception& error) {
    const std::string sentence = one_line(error.what());
    return speaks_of_memory(sentence) ? refuse_memory(sentence) : refuse(1, sentence);
  }
}

}  // namespace evoke
