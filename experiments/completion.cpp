// evoke completion: what a shell has to know to complete verbs, flags, recipes and options of recipes.
#include <algorithm>
#include <set>

#include "core/error.h"
#include "experiments/menus.h"
#include "experiments/options.h"
#include "experiments/verbs.h"

namespace evoke {

namespace {

// A flag or a word of its own ("RECIPE"), and what may stand there.
struct Argument {
  std::vector<std::string> names;  // "-q", "--quiet"; empty: a word of its own
  std::string what, sentence;      // what: "FILE", "NUMBER", "RECIPE"…
  bool takes_value = false;
  std::vector<std::string> words;
};
// A verb: "sample", or "data shapes".
struct Command {
  std::string words, sentence;
  std::vector<std::string> followed_by;  // verbs within
  std::vector<Argument> arguments;
  std::vector<std::string> keys, values;  // of --set: "sampler.kind=", "sampler.kind=ppgn"
};

bool names_files(const Argument& argument) {
  static const std::set<std::string> kinds{"FILE", "FOLDER", "MODEL", "RUN", "NET", "DATA", "DIR"};
  return kinds.contains(argument.what);
}

Argument argument_of(const CLI::Option& option) {
  Argument out;
  const std::string type = option.get_type_name();
  for (const std::string& name : option.get_snames()) out.names.push_back("-" + name);
  for (const std::string& name : option.get_lnames()) out.names.push_back("--" + name);
  out.sentence = option.get_description();
  out.takes_value = option.get_items_expected_max() > 0;
  out.what = out.names.empty() ? option.get_single_name() : type;
  // A choice calls itself "{a,b}"; a type may be followed by what checks it.
  if (const size_t begin = type.find('{'), end = type.find('}'); begin != std::string::npos && end != std::string::npos) {
    std::istringstream words(type.substr(begin + 1, end - begin - 1));
    for (std::string word; std::getline(words, word, ',');) out.words.push_back(word);
  }
  if (out.what.find("RECIPE") != std::string::npos) {
    out.words = recipe_names();
    out.what = "RECIPE";
  }
  if (out.what == "STUDY") out.words = recipe_names(studies_folder);
  if (std::find(out.names.begin(), out.names.end(), "--device") != out.names.end()) out.words = {"auto", "cpu", "cuda"};
  return out;
}

// What --set can say: every key of every kind once, and its values where they are few.
void add_settings(Command& command, const std::vector<MenuEntry>& tables) {
  std::set<std::string> keys, values;
  for (const MenuEntry& entry : tables) {
    const auto dotted = [](const std::string& table, const std::string& key) {
      return (table.empty() ? "" : table + (is_list(table) ? ".0." : ".")) + key + "=";
    };
    if (!entry.kind.empty()) {
      keys.insert(dotted(entry.table, "kind"));
      values.insert(dotted(entry.table, "kind") + entry.kind);
    }
    for (const TableHelp& table : entry.tables)
      for (const OptionHelp& option : table.options) {
        keys.insert(dotted(table.table, option.key));
        for (const std::string& word : option.words) values.insert(dotted(table.table, option.key) + word);
      }
  }
  command.keys.assign(keys.begin(), keys.end());
  command.values.assign(values.begin(), values.end());
}

void add_commands(std::vector<Command>& out, const CLI::App& app, const std::string& before) {
  for (const CLI::App* sub : app.get_subcommands([](const CLI::App*) { return true; })) {
    Command command;
    command.words = before + sub->get_name();
    command.sentence = sub->get_description();
    for (const CLI::App* inner : sub->get_subcommands([](const CLI::App*) { return true; }))
      command.followed_by.push_back(inner->get_name());
    for (const CLI::Option* option : sub->get_options()) command.arguments.push_back(argument_of(*option));
    if (command.words == "sample" || command.words == "compare") add_settings(command, sampling_tables());
    if (command.words == "train") add_settings(command, training_tables());
    add_commands(out, *sub, command.words + " ");  // before it: shells take the first that fits
    out.push_back(command);
  }
}

std::string joined(const std::vector<std::string>& words, const std::string& between = " ") {
  std::string out;
  for (const std::string& word : words) out += (out.empty() ? "" : between) + word;
  return out;
}

// Between single quotes, where shells take every character as it is but these.
std::string quoted(const std::string& words, bool fish = false) {
  std::string out = "'";
  for (const char c : words) {
    if (c == '\'')
      out += fish ? "\\'" : "'\\''";
    else if (c == '\\' && fish)
      out += "\\\\";
    else
      out += c;
  }
  return out + "'";
}

std::vector<std::string> verbs_of(const std::vector<Command>& commands) {
  std::vector<std::string> out;
  for (const Command& command : commands)
    if (command.words.find(' ') == std::string::npos) out.push_back(command.words);
  return out;
}

// ---- bash ------------------------------------------------------------------------------------------------------------------------------

// Bash cuts words at '=' and ':', so that the word being typed is taken from the line itself, and what bash has already is taken off again.
std::string bash_script(const std::vector<Command>& commands) {
  std::string out =
      "# Completion for bash. In ~/.bashrc:  source <(evoke completion bash)\n"
      "_evoke() {\n"
      "  local line=${COMP_LINE:0:COMP_POINT} words current previous verb choices='' files=''\n"
      "  read -ra words <<<\"$line\"\n"
      "  [[ $line == *[[:space:]] ]] && words+=('')\n"
      "  current=${words[${#words[@]}-1]} previous=${words[${#words[@]}-2]} verb=${words[1]}\n"
      "  COMPREPLY=()\n"
      "  if ((${#words[@]} <= 2)); then\n"
      "    choices=" +
      quoted(joined(verbs_of(commands)) + " --help --version") +
      "\n"
      "  else\n";
  for (const Command& command : commands)
    if (!command.followed_by.empty())
      out += "    [[ $verb == " + command.words + " ]] && ((${#words[@]} > 3)) && verb=\"$verb ${words[2]}\"\n";
  out += "    case \"$verb $previous\" in\n";
  const auto branch = [&](const std::string& pattern, const std::string& does) { out += "      " + pattern + ") " + does + " ;;\n"; };
  for (const Command& command : commands)
    for (const Argument& argument : command.arguments) {
      if (argument.names.empty() || !argument.takes_value) continue;
      std::string pattern;
      for (const std::string& name : argument.names) pattern += (pattern.empty() ? "\"" : "|\"") + command.words + " " + name + "\"";
      if (argument.names.back() == "--set" && !command.keys.empty())
        branch(pattern,
               "[[ $current == *=* ]] && choices=" + quoted(joined(command.values)) + " || choices=" + quoted(joined(command.keys)));
      else if (!argument.words.empty())
        branch(pattern, "choices=" + quoted(joined(argument.words)));
      else
        branch(pattern, names_files(argument) ? "files=1" : ":");
    }
  out += "      *)\n        case \"$verb $current\" in\n";
  for (const Command& command : commands) {
    std::vector<std::string> flags, words = command.followed_by;
    bool files = false;
    for (const Argument& argument : command.arguments) {
      flags.insert(flags.end(), argument.names.begin(), argument.names.end());
      if (!argument.names.empty()) continue;
      words.insert(words.end(), argument.words.begin(), argument.words.end());
      files = files || names_files(argument) || argument.what == "RECIPE";
    }
    out += "          \"" + command.words + " -\"*) choices=" + quoted(joined(flags)) + " ;;\n";
    out += "          \"" + command.words + " \"*) choices=" + quoted(joined(words)) + (files ? " files=1" : "") + " ;;\n";
  }
  return out +
         "        esac ;;\n"
         "    esac\n"
         "  fi\n"
         "  local found cut=${current%\"${current##*[=:]}\"}\n"
         "  while read -r found; do COMPREPLY+=(\"${found#\"$cut\"}\"); done < <(compgen -W \"$choices\" -- \"$current\")\n"
         "  if [[ $files ]]; then\n"
         "    compopt -o filenames\n"
         "    while read -r found; do COMPREPLY+=(\"$found\"); done < <(compgen -f -- \"$current\")\n"
         "  fi\n"
         "  [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace\n"
         "  return 0\n"
         "}\n"
         "complete -F _evoke evoke\n";
}

// ---- zsh -------------------------------------------------------------------------------------------------------------------------------

std::string zsh_script(const std::vector<Command>& commands) {
  // In _arguments a colon and brackets have a meaning of their own.
  const auto plain = [](const std::string& words) {
    std::string out;
    for (const char c : words) {
      if (c == ':' || c == '[' || c == ']' || c == '\\') out += '\\';
      out += c;
    }
    return out;
  };
  std::string out =
      "#compdef evoke\n"
      "# Completion for zsh. In ~/.zshrc, after compinit:  source <(evoke completion zsh)\n"
      "_evoke() {\n"
      "  local verb=${words[2]}\n"
      "  local -a choices\n"
      "  if ((CURRENT == 2)); then\n"
      "    choices=(";
  for (const Command& command : commands)
    if (command.words.find(' ') == std::string::npos) out += quoted(command.words + ":" + plain(command.sentence)) + " ";
  out += ")\n    _describe verb choices\n    return\n  fi\n";
  for (const Command& command : commands)
    if (!command.followed_by.empty())
      out += "  if [[ $verb == " + command.words + " ]]; then\n    if ((CURRENT == 3)); then\n      compadd -- " +
             joined(command.followed_by) +
             "\n      return\n    fi\n    verb=\"$verb ${words[3]}\"\n    shift words\n    ((CURRENT--))\n  fi\n";
  out += "  shift words\n  ((CURRENT--))\n  case $verb in\n";
  for (const Command& command : commands) {
    if (!command.followed_by.empty()) continue;
    out += "    " + quoted(command.words) + ")\n      _arguments -s";
    for (const Argument& argument : command.arguments) {
      std::string action;
      if (!argument.words.empty() && argument.what == "RECIPE")
        action = "{compadd -- " + joined(argument.words) + "; _files}";
      else if (!argument.words.empty())
        action = "(" + plain(joined(argument.words)) + ")";
      else if (names_files(argument))
        action = "_files";
      else if (!argument.names.empty() && argument.names.back() == "--set" && !command.keys.empty())
        action = "{if [[ $PREFIX == *=* ]]; then compadd -- " + joined(command.values) + "; else compadd -S '' -- " + joined(command.keys) +
                 "; fi}";
      const std::string value = argument.takes_value ? ":" + plain(argument.what) + ":" + action : "";
      if (argument.names.empty()) out += " \\\n        " + quoted("*:" + plain(argument.what) + ":" + action);
      for (const std::string& name : argument.names)
        out += " \\\n        " + quoted((name == "--set" ? "*" : "") + name + "[" + plain(argument.sentence) + "]" + value);
    }
    out += "\n      ;;\n";
  }
  return out + "  esac\n}\ncompdef _evoke evoke\n";
}

// ---- fish ------------------------------------------------------------------------------------------------------------------------------

std::string fish_script(const std::vector<Command>& commands) {
  std::string out =
      "# Completion for fish:  evoke completion fish > ~/.config/fish/completions/evoke.fish\n"
      "complete -c evoke -f\n";
  const auto line = [&](const std::string& condition, const std::string& rest) {
    out += "complete -c evoke -n " + quoted(condition, true) + " " + rest + "\n";
  };
  for (const Command& command : commands) {
    const size_t space = command.words.find(' ');
    const std::string inner = space == std::string::npos ? "" : command.words.substr(space + 1);
    line(inner.empty() ? "__fish_use_subcommand"
                       : "__fish_seen_subcommand_from " + command.words.substr(0, space) + "; and not __fish_seen_subcommand_from " + inner,
         "-a " + (inner.empty() ? command.words : inner) + " -d " + quoted(command.sentence, true));
    const std::string seen = "__fish_seen_subcommand_from " + (inner.empty() ? command.words : inner);
    for (const Argument& argument : command.arguments) {
      std::string rest;
      for (const std::string& name : argument.names)
        rest += (name.starts_with("--") ? "-l " + name.substr(2) : "-s " + name.substr(1)) + " ";
      std::vector<std::string> words = argument.words;
      if (!argument.names.empty() && argument.names.back() == "--set") {
        words = command.keys;
        words.insert(words.end(), command.values.begin(), command.values.end());
      }
      const bool files = names_files(argument) || argument.what == "RECIPE";
      if (argument.takes_value && !argument.names.empty()) rest += files ? "-r " : "-x ";
      if (files) rest += "-F ";
      if (!words.empty()) rest += "-a " + quoted(joined(words), true) + " ";
      if (!argument.names.empty()) rest += "-d " + quoted(argument.sentence, true);
      if (!rest.empty()) line(seen, rest);
    }
  }
  return out;
}

}  // namespace

Action completion_verb(CLI::App& command) {
  struct Options : CommonOptions {
    std::string shell;
  };
  auto options = std::make_shared<Options>();
  command.add_option("SHELL", options->shell, "bash, zsh or fish")->required()->type_name("{bash,zsh,fish}");
  command.footer(
      "bash:  source <(evoke completion bash)     in ~/.bashrc\n"
      "zsh:   source <(evoke completion zsh)      in ~/.zshrc, after compinit\n"
      "fish:  evoke completion fish > ~/.config/fish/completions/evoke.fish");
  return [options, &command] {
    static const std::vector<std::string> shells{"bash", "zsh", "fish"};
    require(std::find(shells.begin(), shells.end(), options->shell) != shells.end(), Failure::usage, "completion: found shell '",
            options->shell, "'", did_you_mean(options->shell, shells));
    std::vector<Command> commands;
    add_commands(commands, *command.get_parent(), "");
    std::cout << (options->shell == "bash"  ? bash_script(commands)
                  : options->shell == "zsh" ? zsh_script(commands)
                                            : fish_script(commands));
    flush_answers();
    return 0;
  };
}

}  // namespace evoke
