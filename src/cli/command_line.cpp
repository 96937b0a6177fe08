#include "cli/command_line.h"

#include <fmt/core.h>

#include <filesystem>
#include <new>
#include <system_error>

#include "base/error.h"
#include "cli/commands.h"

namespace cortex {
namespace {

bool is_start_up_code(ErrorCode code) {
  return code == ErrorCode::invalid_weights || code == ErrorCode::invalid_config ||
         code == ErrorCode::invalid_tokenizer || code == ErrorCode::invalid_path || code == ErrorCode::invalid_option ||
         code == ErrorCode::weights_io_error || code == ErrorCode::model_failed;
}

bool is_callers_fault(ErrorCode code) { return code < ErrorCode::queue_full; }

}  // namespace

std::optional<int> parse_command_line(CLI::App& app, int argc, char** argv) {
  try {
    app.parse(argc, argv);
    return std::nullopt;
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kExitOk : kExitUsage;
  }
}

EngineFlags::EngineFlags(CLI::App& app) {
  app.add_option(
         "--model", models_,
         "NAME=PATH of a model: a directory in the Hugging Face layout or a .gguf file; repeatable, the first of "
         "each kind is that kind's default")
      ->required()
      ->envname("CORTEX_MODEL");
  app.add_option("--backend", options_.backend,
                 "What executes models: cpu, mlx, or auto: mlx where it has a GPU, else cpu")
      ->envname("CORTEX_BACKEND")
      ->check(CLI::IsMember({"auto", "cpu", "mlx"}))
      ->capture_default_str();
  app.add_option("--threads", options_.threads, "Threads that compute; 0 is one per core")
      ->envname("CORTEX_THREADS")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  app.add_option("--kv-bytes", kv_bytes_, "Bytes of each chat model's KV cache; 0 leaves it to the model's size")
      ->envname("CORTEX_KV_BYTES")
      ->transform(CLI::AsSizeValue(false))
      ->capture_default_str();
  app.add_option("--max-sequences", options_.max_sequences, "Chats of a model that are computed at the same time")
      ->envname("CORTEX_MAX_SEQUENCES")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
}

EngineOptions EngineFlags::options() const {
  EngineOptions options = options_;
  if (kv_bytes_ > 0) options.kv_bytes = kv_bytes_;
  for (const auto& text : models_) options.models.push_back(parse_model(text));
  return options;
}

LogFlags::LogFlags(CLI::App& app, LogLevel least) {
  switch (least) {
    case LogLevel::debug:
      name_ = "debug";
      break;
    case LogLevel::info:
      name_ = "info";
      break;
    case LogLevel::warning:
      name_ = "warning";
      break;
    case LogLevel::error:
      name_ = "error";
      break;
  }
  app.add_option("--log-level", name_, "The least that is logged: debug, info, warning or error")
      ->envname("CORTEX_LOG_LEVEL")
      ->check(CLI::IsMember({"debug", "info", "warning", "error"}))
      ->capture_default_str();
}

LogLevel LogFlags::least() const {
  if (name_ == "debug") return LogLevel::debug;
  if (name_ == "info") return LogLevel::info;
  return name_ == "warning" ? LogLevel::warning : LogLevel::error;
}

ModelConfig parse_model(const std::string& text) {
  const auto equals = text.find('=');
  ModelConfig config;
  if (equals == std::string::npos) {
    config.path = text;
    const std::filesystem::path path(text);
    const auto last = path.has_filename() ? path : path.parent_path();
    config.name = last.extension() == ".gguf" ? last.stem().string() : last.filename().string();
  } else {
    config.name = text.substr(0, equals);
    config.path = text.substr(equals + 1);
  }
  if (config.name.empty() || config.path.empty()) {
    throw Error(ErrorCode::invalid_option, fmt::format("--model {}: NAME=PATH is wanted", text));
  }
  return config;
}

int run_command(const std::function<int()>& body) {
  try {
    return body();
  } catch (const Error& error) {
    log_error(fmt::format("{}: {}", name_of(error.code()), error.message()));
    if (is_start_up_code(error.code())) return kExitConfig;
    return is_callers_fault(error.code()) ? kExitUsage : kExitInternal;
  } catch (const std::bad_alloc&) {
    log_error("there is not enough memory");
    return kExitNoMemory;
  } catch (const std::exception& error) {
    log_error(error.what());
    return kExitInternal;
  }
}

}  // namespace cortex
