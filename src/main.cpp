#include <array>
#include <cstdio>
#include <string_view>

#include "cli/commands.h"

namespace {

struct Command {
  std::string_view name;
  std::string_view summary;
  int (*run)(int argc, char** argv);  // argv[0] is the command's name
};

constexpr std::array kCommands = {
    Command{"serve", "answer /chat, /embed and /rerank over HTTP", cortex::serve_command},
    Command{"chat", "talk with a model in the terminal", cortex::chat_command},
    Command{"perplexity", "score token ids with a model", cortex::perplexity_command},
    Command{"worker", "the engine's process; started by serve", cortex::worker_command},
};

void print_usage(std::FILE* out) {
  std::fputs("usage: cortex COMMAND [OPTIONS]\n\n", out);
  for (const auto& command : kCommands) {
    std::fprintf(out, "  %-12.*s %.*s\n", static_cast<int>(command.name.size()), command.name.data(),
                 static_cast<int>(command.summary.size()), command.summary.data());
  }
  std::fputs("\ncortex COMMAND --help says more; cortex --version says which this is.\n", out);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view name = argc > 1 ? argv[1] : "";
  if (name == "--version") {
    std::puts("cortex " CORTEX_VERSION);
    return cortex::kExitOk;
  }
  if (name == "--help" || name == "-h" || name == "help") {
    print_usage(stdout);
    return cortex::kExitOk;
  }
  for (const auto& command : kCommands) {
    if (command.name == name) return command.run(argc - 1, argv + 1);
  }
  if (!name.empty()) std::fprintf(stderr, "cortex: unknown command \"%.64s\"\n\n", argv[1]);
  print_usage(stderr);
  return cortex::kExitUsage;
}
