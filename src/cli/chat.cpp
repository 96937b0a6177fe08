#include <fmt/core.h>
#include <unistd.h>

#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <iostream>
#include <mutex>
#include <thread>
#include <utility>

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
  explicit ChatFlags(CLI::App& app) : engine(app), log(app, LogLevel::warning) {
    app.add_option("--system", system, "The system message; none by default");
    app.add_option("--temperature", temperature, "0 is greedy; default: the model's own choice")
        ->check(CLI::Range(0.0, 2.0));
    app.add_option("--top-p", top_p,
                   "Sample from the likeliest tokens of this total probability; default: the model's own choice")
        ->check(CLI::Range(0.0, 1.0));
    app.add_option("--max-tokens", max_tokens, "The longest reply; default: what the context holds")
        ->check(CLI::PositiveNumber);
    app.add_option("--seed", seed, "The same seed gives the same reply; default: another one each time");
  }

  EngineFlags engine;
  LogFlags log;
  std::optional<std::string> model;
  std::string system;
  std::optional<float> temperature, top_p;
  std::optional<int> max_tokens;
  std::optional<std::int64_t> seed;
};

// What a reply looks like in a terminal: reasoning is dim there, and in brackets elsewhere.
class ReplyPrinter {
 public:
  explicit ReplyPrinter(bool is_terminal) : is_terminal_(is_terminal) {}

  std::string print(const GenerationEvent& event) {
    std::string text;
    if (!event.reasoning.empty() && !std::exchange(reasons_, true)) text += is_terminal_ ? "\x1b[2m" : "[";
    text += event.reasoning;
    const bool is_over = !event.text.empty() || event.finish || event.error;
    if (is_over && std::exchange(reasons_, false)) text += is_terminal_ ? "\x1b[0m\n\n" : "]\n\n";
    return text + event.text;
  }

 private:
  bool is_terminal_;
  bool reasons_ = false;
};

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
  auto printer = std::make_shared<ReplyPrinter>(::isatty(STDOUT_FILENO) != 0);
  chat.run(std::move(call), [state, printer](GenerationEvent event) {
    const std::string text = printer->print(event);
    std::fwrite(text.data(), 1, text.size(), stdout);
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

int chat(ChatFlags* flags) {
  LocalEngineOptions options;
  static_cast<EngineOptions&>(options) = flags->engine.options();
  const Models models(real_file_system(), options.models);
  flags->model = models.find(std::nullopt, Task::chat).name;
  LocalEngine engine(std::move(options));
  Admission admission(engine, 2);  // the turn before may not have left yet when its last word is here
  Conversations conversations(":memory:", {}, system_clock());
  ThreadPool text_threads(1);
  ChatService chat(models, admission, conversations, text_threads, system_clock());
  wait_until_loaded(engine);
  std::signal(SIGPIPE, SIG_DFL);  // replies are written by other threads, which nobody hears
  catch_interrupts();
  return talk(chat, *flags);
}

}  // namespace

RunCommand chat_command(CLI::App& app) {
  app.description("Talks with a model in the terminal. Lines come from standard input, replies as they are made.");
  const auto flags = std::make_shared<ChatFlags>(app);
  return [flags] {
    start_log(flags->log.least(), "chat");
    return run_tool("chat", [&] { return chat(flags.get()); });
  };
}

}  // namespace cortex
