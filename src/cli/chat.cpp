#include <fmt/core.h>
#include <unistd.h>

#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <iostream>
#include <mutex>
#include <thread>

#include "base/error.h"
#include "base/file_system.h"
#include "base/thread_pool.h"
#include "cli/command_line.h"
#include "cli/commands.h"
#include "engine/local_engine.h"
#include "service/chat.h"

namespace cortex {
namespace {

volatile std::sig_atomic_t interrupted = 0;

void note_interrupt(int) { interrupted = 1; }

// Ctrl-C also interrupts a read, so that it is seen at the prompt.
void catch_interrupts() {
  struct sigaction action{};
  action.sa_handler = note_interrupt;
  sigaction(SIGINT, &action, nullptr);
}

// The next line; nothing at the end of input. An interrupt at the prompt makes it empty.
std::optional<std::string> read_line() {
  std::string line;
  if (std::getline(std::cin, line)) return line;
  if (!interrupted) return std::nullopt;
  interrupted = 0;
  std::clearerr(stdin);
  std::cin.clear();
  std::fputs("\n", stdout);
  return "";
}

struct ChatFlags {
  std::optional<std::string> model;
  std::string system;
  std::optional<float> temperature, top_p;
  std::optional<int> max_tokens;
  std::optional<std::int64_t> seed;
};

// Waits for the engine to load what is configured. Throws Error model_failed.
void wait_until_loaded(const Engine& engine) {
  for (;;) {
    bool loading = false;
    for (const auto& model : engine.status().models) {
      if (model.state == ModelState::failed) throw Error(ErrorCode::model_failed, model.name + ": " + model.failure);
      loading |= model.state != ModelState::ready;
    }
    if (!loading) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

// Prints one reply as it comes; Ctrl-C ends the reply, not the program. Returns the conversation to go on with.
std::optional<std::string> answer(ChatService& chat, ChatRequest request) {
  struct State {
    std::mutex mutex;
    std::condition_variable changed;
    bool over = false;
    std::optional<Error> error;
  };
  auto state = std::make_shared<State>();
  ChatCall call = chat.prepare(std::move(request));
  const std::string id = call.id;
  std::optional<std::string> conversation = call.conversation_id;
  interrupted = 0;
  chat.run(std::move(call), [state](ChatEvent event) {
    std::fwrite(event.text.data(), 1, event.text.size(), stdout);
    std::fflush(stdout);
    if (!event.end && !event.error) return;
    std::lock_guard lock(state->mutex);
    state->error = std::move(event.error);
    state->over = true;
    state->changed.notify_all();
  });
  std::unique_lock lock(state->mutex);
  while (!state->changed.wait_for(lock, std::chrono::milliseconds(50), [&] { return state->over; })) {
    if (interrupted) chat.cancel(id, "");
  }
  std::fputs("\n", stdout);
  if (!state->error) return conversation;
  if (state->error->code() != ErrorCode::cancelled) throw *state->error;
  return std::nullopt;
}

int talk(ChatService& chat, const ChatFlags& flags) {
  const bool interactive = ::isatty(STDIN_FILENO);
  if (interactive) std::fputs("Ctrl-D or /bye ends, Ctrl-C stops a reply, /new starts afresh.\n", stdout);
  std::optional<std::string> conversation;
  for (;;) {
    if (interactive) std::fputs("> ", stdout);
    std::fflush(stdout);
    const std::optional<std::string> line = read_line();
    if (!line || *line == "/bye") return kExitOk;
    if (*line == "/new") conversation.reset();
    if (line->empty() || *line == "/new") continue;
    ChatRequest request;
    request.model = flags.model;
    request.conversation_id = conversation;
    if (!conversation && !flags.system.empty()) request.messages.push_back({"system", flags.system});
    request.messages.push_back({"user", *line});
    request.sampling.temperature = flags.temperature;
    request.sampling.top_p = flags.top_p;
    request.sampling.seed = flags.seed;
    request.max_tokens = flags.max_tokens;
    try {
      // A reply that was stopped is not part of the dialogue.
      if (const auto next = answer(chat, std::move(request))) conversation = next;
    } catch (const Error& error) {
      fmt::print(stderr, "{}\n", error.message());
      if (!interactive) return kExitInternal;
    }
  }
}

}  // namespace

int chat_command(int argc, char** argv) {
  CLI::App app("Talks with a model in the terminal. Lines come from standard input, replies as they are made.",
               "cortex chat");
  EngineFlags engine_flags(app);
  LogFlags log_flags(app, LogLevel::warning);
  ChatFlags flags;
  app.add_option("--system", flags.system, "The system message");
  app.add_option("--temperature", flags.temperature, "0 is greedy; the model's own choice without it")
      ->check(CLI::Range(0.0, 2.0));
  app.add_option("--top-p", flags.top_p, "Sample from the likeliest tokens of this total probability")
      ->check(CLI::Range(0.0, 1.0));
  app.add_option("--max-tokens", flags.max_tokens, "The longest reply")->check(CLI::PositiveNumber);
  app.add_option("--seed", flags.seed, "The same seed gives the same reply");
  if (const auto status = parse_command_line(app, argc, argv)) return *status;
  start_log(log_flags.least(), "chat");

  return run_command([&] {
    LocalEngineOptions options;
    static_cast<EngineOptions&>(options) = engine_flags.options();
    const Models models(real_file_system(), options.models);
    flags.model = models.find(std::nullopt, Task::chat).name;
    LocalEngine engine(std::move(options));
    Admission admission(engine, 1);
    Conversations conversations(":memory:", {}, system_clock());
    ThreadPool text_threads(1);
    ChatService chat(models, admission, conversations, text_threads, system_clock());
    wait_until_loaded(engine);
    catch_interrupts();
    return talk(chat, flags);
  });
}

}  // namespace cortex
