#include "cli/commands.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cstdio>
#include <string>
#include <vector>

#include "base/excerpt.h"
#include "cli/command_line.h"
#include "cli/spelling.h"

namespace cortex {
namespace {

constexpr std::array kCommands = {
    Command{"serve", "answer /chat, /embed and /rerank over HTTP", serve_command},
    Command{"chat", "talk with a model in the terminal", chat_command},
    Command{"embed", "texts to embeddings, one JSON line each", embed_command},
    Command{"rerank", "texts in the order of their relevance to a query", rerank_command},
    Command{"pull", "fetch a model from the hub", pull_command},
    Command{"models", "list the models on this machine", models_command},
    Command{"cache", "look after the prompts that serve keeps on disk", cache_command},
    Command{"doctor", "say what this machine is and what is missing", doctor_command},
    Command{"perplexity", "score token ids with a model", perplexity_command},
    Command{"bench", "time a model on its backend", bench_command},
    Command{"completions", "print a shell's completions", completions_command},
    Command{"worker", "the engine's process; started by serve", worker_command},
};

void print_usage(std::FILE* out) {
  std::fputs("usage: cortex COMMAND [OPTIONS]\n\n", out);
  for (const auto& command : kCommands) {
    std::fprintf(out, "  %-12.*s %.*s\n", static_cast<int>(command.name.size()), command.name.data(),
                 static_cast<int>(command.summary.size()), command.summary.data());
  }
  std::fputs("\ncortex COMMAND --help says more; cortex --version says which this is.\n", out);
}

int refuse(std::string_view name) {
  if (name.empty()) {
    print_usage(stderr);
    return kExitUsage;
  }
  std::vector<std::string> names;
  for (const auto& command : kCommands) names.emplace_back(command.name);
  std::fprintf(stderr, "cortex: unknown command %s%s\ncortex --help lists the commands.\n", excerpt(name).c_str(),
               suggestion(name, names).c_str());
  return kExitUsage;
}

const Command* find_command(std::string_view name) {
  const auto* found =
      std::find_if(kCommands.begin(), kCommands.end(), [&](const Command& command) { return command.name == name; });
  return found == kCommands.end() ? nullptr : found;
}

int help(std::string_view name) {
  const Command* command = find_command(name);
  if (!command) return refuse(name);
  CLI::App app("", "cortex " + std::string(name));
  command->declare(app);
  std::fputs(app.help().c_str(), stdout);
  return kExitOk;
}

}  // namespace

std::span<const Command> commands() { return kCommands; }

int run_command_line(int argc, char** argv) {
  const std::string_view name = argc > 1 ? argv[1] : "";
  if (name == "--version") {
    std::puts("cortex " CORTEX_VERSION);
    return kExitOk;
  }
  if (name == "help" && argc > 2) return help(argv[2]);
  if (name == "--help" || name == "-h" || name == "help") {
    print_usage(stdout);
    return kExitOk;
  }
  const Command* command = find_command(name);
  if (!command) return refuse(name);
  CLI::App app("", "cortex " + std::string(name));
  const RunCommand run = command->declare(app);
  if (const auto status = parse_command_line(app, argc - 1, argv + 1)) return *status;
  return run();
}

}  // namespace cortex
