// The subcommands of `cortex`: one table, one file each. A command declares its options on an app of its own and
// returns what runs it once they are parsed, so that help and completions come from the same declarations. Main's
// thread.
#pragma once

#include <functional>
#include <span>
#include <string_view>

namespace CLI {  // NOLINT(readability-identifier-naming): the library's
class App;
}

namespace cortex {

// Exit statuses, after sysexits.h.
inline constexpr int kExitOk = 0;
inline constexpr int kExitNotReady = 1;  // doctor: serve would not start; cache verify: there are bad files
inline constexpr int kExitUsage = 64;
inline constexpr int kExitUnavailable = 69;  // the address is taken or not allowed, the other side can't be reached
inline constexpr int kExitInternal = 70;
inline constexpr int kExitNoMemory = 75;
inline constexpr int kExitConfig = 78;  // a file or option that start-up can't go on with
inline constexpr int kExitInterrupted = 130;

using RunCommand = std::function<int()>;  // returns the exit status

struct Command {
  std::string_view name;
  std::string_view summary;
  RunCommand (*declare)(CLI::App& app);
};

// In the order the help has them.
std::span<const Command> commands();

// `cortex` itself: picks the command, parses its options and runs it.
int run_command_line(int argc, char** argv);

RunCommand serve_command(CLI::App& app);
RunCommand chat_command(CLI::App& app);
RunCommand embed_command(CLI::App& app);
RunCommand rerank_command(CLI::App& app);
RunCommand pull_command(CLI::App& app);
RunCommand models_command(CLI::App& app);
RunCommand cache_command(CLI::App& app);
RunCommand doctor_command(CLI::App& app);
RunCommand perplexity_command(CLI::App& app);
RunCommand bench_command(CLI::App& app);
RunCommand completions_command(CLI::App& app);
RunCommand worker_command(CLI::App& app);

}  // namespace cortex
