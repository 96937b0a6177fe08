#include "worker/worker_main.h"

#include "base/log.h"
#include "cli/command_line.h"
#include "cli/commands.h"

namespace cortex {

int worker_command(int argc, char** argv) {
  CLI::App app("The engine's process: serves the front at the other end of a socket. Started by cortex serve.",
               "cortex worker");
  LogFlags log_flags(app, LogLevel::info);
  if (const auto status = parse_command_line(app, argc, argv)) return *status;
  start_log(log_flags.least(), "worker");
  return run_command([] { return run_worker(kWorkerDescriptor); });
}

}  // namespace cortex
