#include "cli/command_line.h"

#include <fmt/core.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <span>
#include <system_error>
#include <thread>

#include "base/error.h"
#include "base/excerpt.h"
#include "base/file_system.h"
#include "cli/characters.h"
#include "cli/commands.h"
#include "cli/fetch/http_client.h"
#include "cli/interrupt.h"
#include "cli/model_path.h"
#include "cli/spelling.h"

namespace cortex {
namespace {

bool is_start_up_code(ErrorCode code) {
  return code == ErrorCode::invalid_weights || code == ErrorCode::invalid_config ||
         code == ErrorCode::invalid_tokenizer || code == ErrorCode::invalid_path || code == ErrorCode::invalid_option ||
         code == ErrorCode::weights_io_error || code == ErrorCode::model_failed;
}

std::string refuse_sign(const std::string& text) {
  return text.starts_with('-') ? fmt::format("{} is not a number of bytes", text) : std::string();
}

bool is_callers_fault(ErrorCode code) { return code < ErrorCode::queue_full; }

int exit_status_of(ErrorCode code) {
  if (is_start_up_code(code)) return kExitConfig;
  return is_callers_fault(code) ? kExitUsage : kExitInternal;
}

// Every long name of an app's options, with its dashes.
std::vector<std::string> option_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options()) {
    for (const auto& name : option->get_lnames()) names.push_back("--" + name);
  }
  return names;
}

// What is wrong with a line, and what to do about it.
std::string explain(const CLI::ParseError& error, const CLI::App& app, int argc, char** argv) {
  const std::vector<std::string> known = option_names(app);
  for (const std::string_view argument : std::span(argv, static_cast<std::size_t>(argc)).subspan(1)) {
    if (argument == "--") break;
    const std::string name(argument.substr(0, argument.find('=')));
    const bool unknown = name.starts_with("--") && std::find(known.begin(), known.end(), name) == known.end();
    // A value may look like an option; then it is not what is wrong.
    if (unknown && (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::ExtrasError) ||
                    error.get_exit_code() == static_cast<int>(CLI::ExitCodes::RequiredError))) {
      return fmt::format("unknown option {}{}", excerpt(name), suggestion(name, known));
    }
  }
  std::string message = error.what();
  if (message != "--model is required") return message;
  return message + "; `cortex models` lists the models that are here, `cortex pull smollm2` fetches a first one";
}

}  // namespace

std::optional<int> parse_command_line(CLI::App& app, int argc, char** argv) {
  try {
    app.parse(argc, argv);
    return std::nullopt;
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help
    fmt::print(stderr, "{}: {}\n{} --help says more.\n", app.get_name(), explain(error, app, argc, argv),
               app.get_name());
    return kExitUsage;
  }
}

std::string environment_name_of(std::string_view option) {
  std::string variable = "CORTEX_" + std::string(option.substr(option.find_first_not_of('-')));
  for (char& c : variable) c = c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return variable;
}

void takes_bytes(CLI::Option* option) {
  option->transform(CLI::AsSizeValue(false));
  option->transform(CLI::Validator(refuse_sign, ""));  // comes first: the other takes -1 for 2^64-1
}

std::string default_state_dir() {
  if (const char* state = std::getenv("XDG_STATE_HOME"); state && *state) return std::string(state) + "/cortex";
  const char* home = std::getenv("HOME");
  return home && *home ? std::string(home) + "/.local/state/cortex" : std::string();
}

EngineFlags::EngineFlags(CLI::App& app, Wants wants) {
  app.add_option(
         "--model", models_,
         "[NAME=]PATH[,kind=KIND] of a model: a directory in the Hugging Face layout, a .gguf file, or the name "
         "of one that was pulled (org/name); repeatable, the first of each kind is that kind's default; KIND is "
         "chat, embed, rerank or classify, by default what its files say")
      ->type_name("MODEL")
      ->allow_extra_args(false)  // one each: what follows is another argument
      ->required(wants == Wants::models)
      ->envname("CORTEX_MODEL");
  app.add_flag("--load-on-use", load_on_use_,
               "Loads a model at its first request, not at the start; pinned ones do not wait")
      ->envname("CORTEX_LOAD_ON_USE");
  app.add_option("--pin", pinned_, "Name of a model that loads at the start and stays, however idle; repeatable")
      ->type_name("NAME")
      ->allow_extra_args(false)
      ->envname("CORTEX_PIN");
  app.add_option("--idle-unload", options_.idle_unload_s,
                 "Seconds after which a model that nobody asks for is unloaded; its next request loads it again; 0 is "
                 "never")
      ->envname("CORTEX_IDLE_UNLOAD")
      ->check(CLI::Range(0, 30 * 24 * 3600))
      ->capture_default_str();
  app.add_option("--backend", options_.backend,
                 "What executes models: cpu, mlx, or auto: mlx where it has a GPU, else cpu")
      ->envname("CORTEX_BACKEND")
      ->check(CLI::IsMember({"auto", "cpu", "mlx"}))
      ->capture_default_str();
  app.add_option("--threads", options_.threads, "Threads that compute; 0 is one per core")
      ->envname("CORTEX_THREADS")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  app.add_flag("--exact", options_.exact,
               "Multiplies in float32 on a processor: slower, nearer to the model's own numbers")
      ->envname("CORTEX_EXACT");
  app.add_option("--kv-bytes", kv_bytes_, "Bytes of each chat model's KV cache; 0 leaves it to the model's size")
      ->envname("CORTEX_KV_BYTES")
      ->capture_default_str();
  takes_bytes(app.get_option("--kv-bytes"));
  app.add_option(
         "--speculation", speculation_,
         "Whether text that was there before is drafted, where that saves time: on or off; replies are the same")
      ->envname("CORTEX_SPECULATION")
      ->check(CLI::IsMember({"on", "off"}))
      ->capture_default_str();
  app.add_option("--max-sequences", options_.max_sequences, "Chats of a model that are computed at the same time")
      ->envname("CORTEX_MAX_SEQUENCES")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
}

EngineOptions EngineFlags::options() const {
  EngineOptions options = options_;
  options.speculation = speculation_ == "on";
  if (kv_bytes_ > 0) options.kv_bytes = kv_bytes_;
  const ModelPlaces places = model_places(std::getenv);
  for (const auto& text : models_) options.models.push_back(parse_model(real_file_system(), places, text));
  for (ModelConfig& model : options.models) {
    model.pinned = std::ranges::find(pinned_, model.name) != pinned_.end();
    model.load_at_start = model.pinned || !load_on_use_;
  }
  for (const auto& name : pinned_) {
    if (std::ranges::find(options.models, name, &ModelConfig::name) != options.models.end()) continue;
    throw Error(ErrorCode::invalid_option, fmt::format("--pin {}: no --model is called so", name));
  }
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

void wait_until_loaded(const Engine& engine) {
  for (;;) {
    bool loading = false;
    for (const auto& model : engine.status().models) {
      if (model.state == ModelState::failed) throw Error(ErrorCode::model_failed, model.name + ": " + model.failure);
      loading |= model.state == ModelState::loading;
    }
    if (!loading) return;
    InterruptWatch::check();
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

int run_command(const std::function<int()>& body) {
  try {
    return body();
  } catch (const Error& error) {
    log_error(fmt::format("{}: {}", name_of(error.code()), error.message()));
    return exit_status_of(error.code());
  } catch (const std::bad_alloc&) {
    log_error("there is not enough memory");
    return kExitNoMemory;
  } catch (const std::exception& error) {
    log_error(error.what());
    return kExitInternal;
  }
}

int run_tool(std::string_view command, const std::function<int()>& body) {
  const auto say = [&](std::string_view message, int status) {
    fmt::print(stderr, "cortex {}: {}\n", command, printable(message));
    return status;
  };
  std::signal(SIGPIPE, SIG_IGN);  // a write says it instead
  try {
    const int status = body();
    print_out({});
    return status;
  } catch (const Error& error) {
    return say(error.message(), exit_status_of(error.code()));
  } catch (const NetworkFailure& failure) {
    return say(failure.what(), kExitUnavailable);
  } catch (const Interrupted&) {
    return kExitInterrupted;
  } catch (const ClosedPipe&) {
    return kExitOk;
  } catch (const std::bad_alloc&) {
    return say("there is not enough memory", kExitNoMemory);
  } catch (const std::exception& error) {
    return say(error.what(), kExitInternal);
  }
}

void print_out(std::string_view text) {
  const bool written = text.empty() || std::fwrite(text.data(), 1, text.size(), stdout) == text.size();
  if (written && std::fflush(stdout) == 0) return;
  if (errno == EPIPE) throw ClosedPipe();
  if (errno == EINTR) InterruptWatch::check();
  throw Error(ErrorCode::weights_io_error,
              fmt::format("standard output: can't be written: {}", std::generic_category().message(errno)));
}

}  // namespace cortex
