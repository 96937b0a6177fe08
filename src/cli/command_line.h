// What the commands' lines have in common: parsing by CLI11 with our exit codes, the options that say which models run
// and how, and what becomes of an exception at start-up. Main's thread.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/log.h"
#include "engine/engine_options.h"

namespace cortex {

// Parses, or says what is wrong (or the help) and returns the exit status.
std::optional<int> parse_command_line(CLI::App& app, int argc, char** argv);

// --model, --backend, --threads, --kv-bytes, ...; each also as CORTEX_<NAME> in the environment.
class EngineFlags {
 public:
  explicit EngineFlags(CLI::App& app);

  // Throws Error invalid_option.
  EngineOptions options() const;

 private:
  std::vector<std::string> models_;  // NAME=PATH or PATH
  EngineOptions options_;
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

// "smollm2=/models/x.gguf", or a path alone, whose last part without its suffix is the name. Throws Error
// invalid_option.
ModelConfig parse_model(const std::string& text);

// Runs a command's body; an Error, a failed allocation or another exception becomes a line in the log and its status.
int run_command(const std::function<int()>& body);

}  // namespace cortex
