#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "cli/command_line.h"
#include "cli/commands.h"
#include "cli/completion_script.h"

namespace cortex {

RunCommand completions_command(CLI::App& app) {
  app.description("Prints a shell's completions of cortex, to be sourced: source <(cortex completions bash)");
  const auto shell = std::make_shared<std::string>();
  app.add_option("shell", *shell, "The shell")->required()->check(CLI::IsMember({"bash", "zsh", "fish"}));
  return [shell] {
    return run_tool("completions", [&] {
      const auto commands = describe_commands();
      print_out(*shell == "bash"  ? bash_script(commands)
                : *shell == "zsh" ? zsh_script(commands)
                                  : fish_script(commands));
      return kExitOk;
    });
  };
}

}  // namespace cortex
