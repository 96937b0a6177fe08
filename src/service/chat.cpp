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

// The ids of a message that goes on, if all of it up to the prompt's end was sampled; else there are none before that.
SampledText before_the_rest(const Tokenizer& tokenizer, const Message& message, std::size_t prompt_bytes) {
  std::size_t end = 0;
  if (message.sampled) {
    end = message.sampled->begin;
    for (const TokenId id : message.sampled->ids) end += tokenizer.token_bytes(id).size();
  }
  return end == prompt_bytes ? *message.sampled : SampledText{prompt_bytes, {}};
}

// A reply that is not there yet, and the turn that waits for it.
struct OpenReply {
  ReplyTokens& reply_tokens;
  const Tokenizer& tokenizer;
  DialogueKey dialogue;
  std::string begun;
  SampledText before;
  std::unique_ptr<Conversations::Turn> turn;
  std::vector<Message> messages;
  std::string trace;

  SampledText sampled(const ChoiceEnd& choice) const {
    SampledText all = before;
    const auto ids = ids_within(tokenizer, choice.ids, choice.text, begun.empty());
    all.ids.insert(all.ids.end(), ids.begin(), ids.end());
    return all;
  }

  void remember(const ChoiceEnd& choice) {
    DialogueKey with_reply = dialogue;
    with_reply.add("assistant", begun + choice.text);
    reply_tokens.remember(with_reply, sampled(choice));
  }

  // Stores the turn; what it throws becomes the call's error.
  void commit(GenerationEvent* event) {
    try {
      const ChoiceEnd& choice = event->end->choices.front();
      messages.push_back({"assistant", choice.text, sampled(choice)});
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

GenerationSink with_reply(OpenReply open, GenerationSink sink) {
  return [open = std::make_shared<OpenReply>(std::move(open)), sink = std::move(sink)](GenerationEvent event) {
    if (event.end) {
      for (const auto& choice : event.end->choices) open->remember(choice);
    }
    if (event.end && open->turn) open->commit(&event);
    // The client may take the next turn as soon as it hears of the end.
    if (event.end || event.error) open->turn.reset();
    sink(std::move(event));
  };
}

}  // namespace

// Finds what was sampled for the request's messages, and adds these to the dialogue but for one that goes on.
void ChatService::recall(ChatRequest* request, DialogueKey* dialogue) {
  for (auto& message : request->messages) {
    DialogueKey with_message = *dialogue;
    with_message.add(message.role, message.content);
    if (message.role == "assistant") message.sampled = reply_tokens_.find(with_message);
    const bool goes_on = request->continue_final_message && &message == &request->messages.back();
    if (!goes_on) *dialogue = std::move(with_message);
  }
}

ChatCall ChatService::prepare(ChatRequest request) {
  CORTEX_CHECK(!request.store || request.n == 1);
  ChatCall call{begin_call(request.id_prefix, request, place_.clock), {}, {}, {}, {}, {}, {}};
  call.keeps_ids = true;
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
  call.dialogue = DialogueKey(model.name, request.salt, request.owner);
  for (const auto& message : history) call.dialogue.add(message.role, message.content);
  recall(&request, &call.dialogue);

  ChatTemplateOptions options;
  options.add_generation_prompt = request.add_generation_prompt;
  options.arguments_json = request.template_arguments;
  std::shared_ptr<const PromptText> unfinished;
  std::vector<TokenId> prompt;
  if (request.continue_final_message) {
    unfinished = std::make_shared<PromptText>(unfinished_chat_prompt(model, request.messages, options));
    prompt = unfinished->ids;
    call.begun = request.messages.back().content;
    call.sampled = before_the_rest(*model.tokenizer, request.messages.back(), unfinished->text.size());
  } else {
    ChatPrompt whole = chat_prompt(model, history, request.messages, options);
    prompt = std::move(whole.ids);
    call.sampled.begin = whole.text.size();
  }
  add_choices(&call, request, std::move(prompt), unfinished, "messages");
  call.messages = std::move(request.messages);
  if (!request.store) call.turn.reset();
  return call;
}

void ChatService::run(ChatCall call, GenerationSink sink) {
  const std::string trace = call.choices.front().request.trace;
  OpenReply open{reply_tokens_,           *call.served->tokenizer, std::move(call.dialogue), std::move(call.begun),
                 std::move(call.sampled), std::move(call.turn),    std::move(call.messages), trace};
  sink = with_reply(std::move(open), std::move(sink));
  std::make_shared<Generation>(place_, std::move(call), std::move(sink))->start();
}

}  // namespace cortex
