// The program: which verb, and how a failure is said.
#include <c10/util/Exception.h>

#include <iostream>
#include <new>

#include "core/error.h"
#include "core/log.h"
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
    {"train", "train what a recipe describes: classifier, autoencoder, vae, gan, denoiser", train_verb},
    {"sample", "synthesize images: any sampler with any generator, prior and objective", sample_verb},
    {"exemplars", "the real images that excite each unit most and least, and what values every unit takes", exemplars_verb},
    {"compare", "several recipes on the same units and budget, judged side by side", compare_verb},
    {"judge", "score a run's images by the truth", judge_verb},
    {"merge", "join the runs of all shards into the run that one machine would have written", merge_verb},
    {"inspect", "layers, shapes, units and parameters of a model; the layout of a dataset", inspect_verb},
    {"doctor", "versions, devices and libraries, and whether they compute what they should", doctor_verb},
};

int refuse(int code, const std::string& sentence) {
  std::cout << std::flush;
  std::cerr << "evoke: " << sentence << "\n" << std::flush;
  return code;
}

bool speaks_of_memory(const std::string& sentence) {
  for (const char* words : {"out of memory", "can't allocate memory", "not enough memory", "CUDA_ERROR_OUT_OF_MEMORY"})
    if (sentence.find(words) != std::string::npos) return true;
  return false;
}

constexpr const char* spare_memory = "; take fewer chains, a smaller batch or another device";

// A sentence without the C++ stack that LibTorch appends to it.
std::string first_line(const std::string& sentence) { return sentence.substr(0, sentence.find('\n')); }

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
    return refuse(2, text(where, ": ", first_line(wrong.what()), "; ", where, " --help lists what there is"));
  }
  for (size_t i = 0; i < commands.size(); ++i)
    if (commands[i]->parsed()) return actions[i]();
  return 2;
}

}  // namespace

int command(int count, const char* const* words) {
  try {
    return parse_and_run(count, words);
  } catch (const Error& error) {
    return refuse(error.exit_code(), error.what());
  } catch (const c10::OutOfMemoryError& error) {
    return refuse(4, first_line(error.what_without_backtrace()) + spare_memory);
  } catch (const c10::Error& error) {
    const std::string sentence = first_line(error.what_without_backtrace());
    if (speaks_of_memory(sentence)) return refuse(4, sentence + spare_memory);
    return refuse(1, "LibTorch: " + sentence);
  } catch (const std::bad_alloc&) {
    return refuse(4, text("memory is exhausted", spare_memory));
  } catch (const std::exception& error) {
    const std::string sentence = first_line(error.what());
    return refuse(speaks_of_memory(sentence) ? 4 : 1, sentence);
  }
}

}  // namespace evoke
