// Shells' completions of `cortex`, written from the commands' own declarations. Pure but for describe_commands();
// main's thread.
#pragma once

#include <string>
#include <vector>

namespace cortex {

struct CompletedOption {
  enum class Value { none, free, choice, file, folder, model };

  std::vector<std::string> names;  // "--port", "-h"
  std::string summary;             // one line
  Value value = Value::free;
  std::vector<std::string> choices;  // of Value::choice, and names that are known of Value::model
};

struct CompletedCommand {
  std::string name;
  std::string summary;
  std::vector<CompletedOption> options;
  std::vector<CompletedOption> positionals;  // without names
};

// All commands, with the options each declares.
std::vector<CompletedCommand> describe_commands();

// "TEXT:{auto,cpu,mlx}" as "auto", "cpu", "mlx": how CLI11 writes a closed set.
std::vector<std::string> choices_in(const std::string& type_name);

std::string bash_script(const std::vector<CompletedCommand>& commands);
std::string zsh_script(const std::vector<CompletedCommand>& commands);
std::string fish_script(const std::vector<CompletedCommand>& commands);

}  // namespace cortex
