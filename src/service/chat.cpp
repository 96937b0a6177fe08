#include "service/chat.h"

#include <fmt/core.h>

#include <utility>

#include "base/log.h"
#include "service/chat_prompt.h"

namespace cortex {
namespace {

void require_few_bytes(const ServedModel& model, const std::vector<Message>& messages) {
  std::size_t bytes = 0;
  for (const auto& message : messages) bytes += message.content.size();
  if (bytes <= model.text_limit_bytes()) return;
  throw Error(ErrorCode::request_too_large,
              fmt::format("messages: have {} bytes; the limit of this model is {}", bytes, model.text_limit_bytes()),
              "messages");
}

void require_new_system_message_first(const Conversations::Turn& turn, const std::vector<Message>& messages) {
  if (turn.is_first()) return;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    if (messages[i].role != "system") continue;
    const std::string param = fmt::format("messages[{}].role", i);
    throw Error(ErrorCode::invalid_value,
                fmt::format("{}: \"system\" stands only in the call that creates a conversation", param), param);
  }
}

// A turn that waits for its reply.
struct OpenTurn {
  std::unique_ptr<Conversations::Turn> turn;
  std::vector<Message> messages;
  std::string trace;

  // Stores it; what it throws becomes the call's error.
  void commit(GenerationEvent* event) {
    try {
      messages.push_back({"assistant", event->end->choices.front().text});
      turn->commit(messages);
      return;
    } catch (const Error& error) {
      event->error = error;
    } catch (const std::exception& error) {
      log_error(error.what(), trace);
      event->error = Error(ErrorCode::internal_error, "the reply could not be finished");
    }
    event->end.reset();
  }
};

GenerationSink with_commit(OpenTurn open, GenerationSink sink) {
  return [open = std::make_shared<OpenTurn>(std::move(open)), sink = std::move(sink)](GenerationEvent event) {
    if (event.end) open->commit(&event);
    // The client may take the next turn as soon as it hears of the end.
    if (event.end || event.error) open->turn.reset();
    sink(std::move(event));
  };
}

}  // namespace

ChatCall ChatService::prepare(ChatRequest request) {
  CORTEX_CHECK(!request.store || request.n == 1);
  ChatCall call{begin_call(request.id_prefix, request, place_.clock), {}, {}, {}};
  std::optional<std::string> name = request.model;
  if (request.conversation_id) {
    call.turn = conversations_.resume(*request.conversation_id, request.owner);
    if (name && *name != call.turn->model()) {
      throw Error(
          ErrorCode::invalid_value,
          fmt::format("model: this conversation is with \"{}\"; leave model out or name it", call.turn->model()),
          "model");
    }
    name = call.turn->model();
  }
  const ServedModel& model = models_.find(name, Task::chat);
  admit(&call, admission_, model, static_cast<std::size_t>(request.n));
  if (!call.turn && request.store) call.turn = conversations_.create(model.name, request.owner);
  if (call.turn) {
    require_new_system_message_first(*call.turn, request.messages);
    if (request.store) call.conversation_id = call.turn->id();
  }
  require_few_bytes(model, request.messages);

  static const std::vector<Message> kNoHistory;
  const auto& history = call.turn ? call.turn->history() : kNoHistory;
  ChatTemplateOptions options;
  options.add_generation_prompt = request.add_generation_prompt;
  options.arguments_json = request.template_arguments;
  std::shared_ptr<const PromptText> unfinished;
  std::vector<TokenId> prompt;
  if (request.continue_final_message) {
    unfinished = std::make_shared<PromptText>(unfinished_chat_prompt(model, request.messages, options));
    prompt = unfinished->ids;
  } else {
    prompt = chat_prompt(model, history, request.messages, options);
  }
  add_choices(&call, request, std::move(prompt), unfinished, "messages");
  call.messages = std::move(request.messages);
  if (!request.store) call.turn.reset();
  return call;
}

void ChatService::run(ChatCall call, GenerationSink sink) {
  if (call.turn) {
    const std::string trace = call.choices.front().request.trace;
    sink = with_commit({std::move(call.turn), std::move(call.messages), trace}, std::move(sink));
  }
  std::make_shared<Generation>(place_, std::move(call), std::move(sink))->start();
}

}  // namespace cortex
