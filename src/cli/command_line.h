// What the commands' lines have in common: parsing by CLI11 with our exit codes, the options that say which models run
// and how, and what becomes of an exception. Main's thread.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/log.h"
#include "engine/engine.h"
#include "engine/engine_options.h"

namespace cortex {

// Parses, or says what is wrong and what may have been meant (or the help) and returns the exit status.
std::optional<int> parse_command_line(CLI::App& app, int argc, char** argv);

// "--name" as CORTEX_NAME in the environment.
std::string environment_name_of(std::string_view option);

// An option whose value is a number of bytes, such as 4GiB; k, M and G are powers of 1024 with and without the i.
void takes_bytes(CLI::Option* option);

// Where serve keeps what outlives it; empty where the environment does not say whose it would be.
std::string default_state_dir();

// --model, --backend, --threads, --kv-bytes, ...; each also as CORTEX_<NAME> in the environment.
class EngineFlags {
 public:
  enum class Wants { models, maybe_models };

  explicit EngineFlags(CLI::App& app, Wants wants = Wants::models);

  // Whether a model was given.
  bool has_models() const { return !models_.empty(); }
  // Throws Error invalid_option, also for a pinned model that none is called, or invalid_path for one that is not here.
  EngineOptions options() const;

 private:
  std::vector<std::string> models_;  // as parse_model takes them
  std::vector<std::string> pinned_;  // names of models
  bool load_on_use_ = false;
  EngineOptions options_;
  std::string speculation_ = "on";
  std::uint64_t kv_bytes_ = 0;  // 0: by the model
};

// --log-level.
class LogFlags {
 public:
  LogFlags(CLI::App& app, LogLevel least);
  LogLevel least() const;
  const std::string& name() const { return name_; }  // as the option takes it

 private:
  std::string name_;
};

// Waits for the engine to load what is configured. Throws Error model_failed, and Interrupted under an InterruptWatch.
void wait_until_loaded(const Engine& engine);

// Runs the body of a command that serves; an Error, a failed allocation or another exception becomes a line in the log
// and its status.
int run_command(const std::function<int()>& body);

// Runs the body of a command that people wait for: what goes wrong is said plainly on standard error. A reader of its
// output that goes away ends it quietly, with status 0.
int run_tool(std::string_view command, const std::function<int()>& body);

// Writes to standard output; throws ClosedPipe when its reader is gone, Error weights_io_error when it can't be
// written.
class ClosedPipe {};
void print_out(std::string_view text);

}  // namespace cortex
