#include "cli/completion_script.h"

#include <fmt/core.h>

#include <CLI/CLI.hpp>

#include "cli/commands.h"
#include "cli/packaged_models.h"

namespace cortex {
namespace {

using Value = CompletedOption::Value;

// Help up to its first stop: menus have little room.
std::string first_sentence(const std::string& text) { return text.substr(0, text.find_first_of(":;\n")); }

CompletedOption describe(const CLI::Option& option) {
  CompletedOption out;
  for (const auto& name : option.get_snames()) out.names.push_back("-" + name);
  for (const auto& name : option.get_lnames()) out.names.push_back("--" + name);
  out.summary = first_sentence(option.get_description());
  const std::string type = option.get_type_name();
  out.choices = choices_in(type);
  if (option.get_items_expected_max() == 0) {
    out.value = Value::none;
  } else if (!out.choices.empty()) {
    out.value = Value::choice;
  } else if (type == "FILE") {
    out.value = Value::file;
  } else if (type == "DIR") {
    out.value = Value::folder;
  } else if (type == "MODEL") {
    out.value = Value::model;
    for (const auto& model : packaged_models()) out.choices.emplace_back(model.name);
  }
  return out;
}

CompletedCommand describe(const Command& command) {
  CLI::App app("", std::string(command.name));
  command.declare(app);
  CompletedCommand out{std::string(command.name), std::string(command.summary), {}, {}};
  for (const CLI::Option* option : app.get_options()) {
    (option->nonpositional() ? out.options : out.positionals).push_back(describe(*option));
  }
  return out;
}

std::string joined(const std::vector<std::string>& words) {
  std::string out;
  for (const auto& word : words) out += (out.empty() ? "" : " ") + word;
  return out;
}

// In single quotes, as every shell here reads them.
std::string in_quotes(const std::string& text) {
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

// What a value may be, as assignments the script's end acts on.
std::string bash_value(const CompletedOption& option) {
  const std::string words = option.choices.empty() ? "" : "words=" + in_quotes(joined(option.choices)) + "; ";
  switch (option.value) {
    case Value::file:
      return "action=file";
    case Value::folder:
      return "action=directory";
    case Value::model:
      return words + "action=file";
    default:
      return words.empty() ? ":" : words.substr(0, words.size() - 2);
  }
}

std::string bash_command(const CompletedCommand& command) {
  std::string out = fmt::format("    {})\n      case $previous in\n", command.name);
  std::string names;
  for (const auto& option : command.options) {
    names += (names.empty() ? "" : " ") + joined(option.names);
    if (option.value == Value::none) continue;
    std::string pattern;
    for (const auto& name : option.names) pattern += (pattern.empty() ? "" : "|") + name;
    out += fmt::format("        {}) {} ;;\n", pattern, bash_value(option));
  }
  // An option begins with a dash; anything else is a positional's value.
  const std::string positional = command.positionals.empty() ? ":" : bash_value(command.positionals.front());
  out += "        *)\n          case $current in\n";
  out += fmt::format("            -*) words={} ;;\n", in_quotes(names));
  out += fmt::format("            *) {} ;;\n", command.positionals.empty() ? "words=" + in_quotes(names) : positional);
  return out + "          esac ;;\n      esac ;;\n";
}

// In _arguments' specifications, brackets and colons have a meaning.
std::string zsh_escaped(const std::string& text) {
  std::string out;
  for (const char c : text)
    out += std::string("[]:\\").find(c) == std::string::npos ? std::string(1, c) : std::string("\\") + c;
  return out;
}

std::string zsh_value(const CompletedOption& option) {
  switch (option.value) {
    case Value::none:
      return "";
    case Value::choice:
      return ":value:(" + joined(option.choices) + ")";
    case Value::folder:
      return ":folder:_files -/";
    case Value::file:
      return ":file:_files";
    case Value::model:
      return ":model:{_alternative \"models:model:(" + joined(option.choices) + ")\" \"files:file:_files\"}";
    case Value::free:
      return ":value: ";
  }
  return "";
}

std::string fish_value(const CompletedOption& option) {
  switch (option.value) {
    case Value::none:
      return "";
    case Value::file:
      return " -r -F";
    case Value::folder:
      return " -x -a '(__fish_complete_directories)'";
    case Value::model:
      return " -r -F -a " + in_quotes(joined(option.choices));
    case Value::choice:
      return " -x -a " + in_quotes(joined(option.choices));
    case Value::free:
      return " -x";
  }
  return "";
}

std::string fish_names(const CompletedOption& option) {
  std::string out;
  for (const auto& name : option.names)
    out += name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1);
  return out;
}

}  // namespace

std::vector<CompletedCommand> describe_commands() {
  std::vector<CompletedCommand> out;
  for (const Command& command : commands()) out.push_back(describe(command));
  return out;
}

std::vector<std::string> choices_in(const std::string& type_name) {
  const auto open = type_name.find(":{");
  if (open == std::string::npos || !type_name.ends_with('}')) return {};
  std::vector<std::string> out;
  const std::string list = type_name.substr(open + 2, type_name.size() - open - 3);
  for (std::size_t begin = 0; begin <= list.size();) {
    const std::size_t end = std::min(list.find(',', begin), list.size());
    out.push_back(list.substr(begin, end - begin));
    begin = end + 1;
  }
  return out;
}

std::string bash_script(const std::vector<CompletedCommand>& commands) {
  std::string names;
  std::string cases;
  for (const auto& command : commands) {
    names += command.name + " ";
    cases += bash_command(command);
  }
  return "# Completions of cortex for bash: source <(cortex completions bash)\n"
         "_cortex() {\n"
         "  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]}\n"
         "  local words='' action='' IFS=$' \\n'\n"
         "  COMPREPLY=()\n"
         "  if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
         "    words='" +
         names +
         "--help --version'\n"
         "  else\n"
         "    case ${COMP_WORDS[1]} in\n" +
         cases +
         "    esac\n"
         "  fi\n"
         "  local IFS=$'\\n'\n"
         "  [ -z \"$words\" ] || COMPREPLY=($(IFS=$' \\n'; compgen -W \"$words\" -- \"$current\"))\n"
         "  [ -z \"$action\" ] || { compopt -o filenames 2>/dev/null; COMPREPLY+=($(compgen -A \"$action\" -- "
         "\"$current\")); }\n"
         "}\n"
         "complete -F _cortex cortex\n";
}

std::string zsh_script(const std::vector<CompletedCommand>& commands) {
  std::string list;
  std::string cases;
  for (const auto& command : commands) {
    list += "    " + in_quotes(zsh_escaped(command.name) + ":" + command.summary) + "\n";
    cases += fmt::format("    {})\n      _arguments", command.name);
    for (const auto& option : command.options) {
      for (const auto& name : option.names) {
        cases += " \\\n        " + in_quotes("*" + name + "[" + zsh_escaped(option.summary) + "]" + zsh_value(option));
      }
    }
    for (const auto& positional : command.positionals)
      cases += " \\\n        " + in_quotes("*" + zsh_value(positional));
    cases += " ;;\n";
  }
  return "#compdef cortex\n"
         "# Completions of cortex for zsh: cortex completions zsh > a file _cortex in a folder of $fpath\n"
         "_cortex() {\n"
         "  local -a commands\n"
         "  commands=(\n" +
         list +
         "  )\n"
         "  if (( CURRENT == 2 )); then\n"
         "    _describe command commands\n"
         "    return\n"
         "  fi\n"
         "  local command=$words[2]\n"
         "  shift words\n"
         "  (( CURRENT-- ))\n"
         "  case $command in\n" +
         cases +
         "  esac\n"
         "}\n"
         "if [ \"$funcstack[1]\" = _cortex ]; then _cortex \"$@\"; else compdef _cortex cortex; fi\n";
}

std::string fish_script(const std::vector<CompletedCommand>& commands) {
  std::string out =
      "# Completions of cortex for fish: cortex completions fish > ~/.config/fish/completions/cortex.fish\n"
      "complete -c cortex -f\n";
  for (const auto& command : commands) {
    out += fmt::format("complete -c cortex -n __fish_use_subcommand -a {} -d {}\n", command.name,
                       in_quotes(command.summary));
    const std::string when = fmt::format("complete -c cortex -n '__fish_seen_subcommand_from {}'", command.name);
    for (const auto& option : command.options) {
      out += fmt::format("{}{} -d {}{}\n", when, fish_names(option), in_quotes(option.summary), fish_value(option));
    }
    for (const auto& positional : command.positionals) {
      // A positional is no option that takes a value: -r does not fit it.
      std::string value = fish_value(positional);
      if (const auto at = value.find(" -r"); at != std::string::npos) value.erase(at, 3);
      if (const auto at = value.find(" -x"); at != std::string::npos) value.replace(at, 3, " -f");
      out += when + value + "\n";
    }
  }
  return out;
}

}  // namespace cortex
