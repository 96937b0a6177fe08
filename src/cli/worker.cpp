#include "worker/worker_main.h"

#include "base/log.h"
#include "cli/command_line.h"
#include "cli/commands.h"

namespace cortex {

RunCommand worker_command(CLI::App& app) {
  app.description("The engine's process: serves the front at the other end of a socket. Started by cortex serve.");
  const auto log_flags = std::make_shared<LogFlags>(app, LogLevel::info);
  return [log_flags] {
    start_log(log_flags->least(), "worker");
    return run_command([] { return run_worker(kWorkerDescriptor); });
  };
}

}  // namespace cortex
