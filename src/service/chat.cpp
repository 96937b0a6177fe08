#include "service/chat.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <set>
#include <string_view>
#include <utility>

#include "base/excerpt.h"
#include "base/log.h"
#include "service/chat_prompt.h"

namespace cortex {
namespace {

void require_few_bytes(const ServedModel& model, const ChatRequest& request) {
  std::size_t bytes = 0;
  for (const auto& message : request.messages) {
    bytes += message.content.size() + message.reasoning.size();
    for (const auto& call : message.tool_calls) bytes += call.name.size() + call.arguments.size();
  }
  for (const auto& tool : request.tools) bytes += tool.definition.size();
  if (bytes <= model.text_limit_bytes()) return;
  throw Error(ErrorCode::request_too_large,
              fmt::format("messages: have {} bytes, tools included; the limit of this model is {}", bytes,
                          model.text_limit_bytes()),
              "messages");
}

// A tool's result answers a call that stands before it.
void require_calls_of_results(const std::vector<Message>& history, const std::vector<Message>& added) {
  std::set<std::string_view> calls;
  const auto note = [&](const Message& message) {
    for (const auto& call : message.tool_calls) calls.insert(call.id);
  };
  for (const auto& message : history) note(message);
  for (std::size_t i = 0; i < added.size(); ++i) {
    note(added[i]);
    if (added[i].role != "tool" || calls.contains(added[i].tool_call_id)) continue;
    const std::string param = fmt::format("messages[{}].tool_call_id", i);
    throw Error(ErrorCode::invalid_value,
                fmt::format("{}: no call before it has the id {}", param, excerpt(added[i].tool_call_id)), param);
  }
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

void add_message(DialogueKey* dialogue, const Message& message) {
  dialogue->add(message.role, message.content);
  for (const auto& call : message.tool_calls) dialogue->add(call.name, call.arguments);
}

// Whether a reply to this prompt begins with reasoning.
Reasoning reasoning_behind(const ReplyStyle& style, std::string_view prompt) {
  if (!style.reasoning) return Reasoning::off;
  prompt = prompt.substr(0, prompt.find_last_not_of(" \t\r\n") + 1);
  if (prompt.ends_with(style.reasoning->close.text)) return Reasoning::off;
  return prompt.ends_with(style.reasoning->open.text) ? Reasoning::open : Reasoning::may_come;
}

ReplyDemands demands_of(const ChatRequest& request, const ServedModel& model, Reasoning reasoning) {
  ReplyDemands demands;
  demands.reasoning = reasoning == Reasoning::may_come && !request.may_think ? Reasoning::off : reasoning;
  demands.format = request.format;
  demands.use = request.tools.empty() ? ToolUse::none : request.tool_choice.use;
  demands.one_call = !request.parallel_tool_calls || model.reply_style.one_call;
  for (const auto& tool : request.tools) {
    const auto& names = request.tool_choice.names;
    if (!names || std::find(names->begin(), names->end(), tool.name) != names->end()) demands.tools.push_back(tool);
  }
  return demands;
}

// Nothing where all that is written is content.
std::optional<ReplyRules> rules_of(const ReplyDemands& demands, Reasoning reasoning) {
  const bool calls = demands.use != ToolUse::none;
  if (!calls && reasoning == Reasoning::off) return std::nullopt;
  ReplyRules rules;
  rules.reasoning = reasoning;
  rules.only_calls = demands.use == ToolUse::required;
  if (!calls) return rules;
  rules.one_call = demands.one_call;
  rules.calls.emplace();
  rules.calls->certain = calls_are_certain(demands);
  for (const auto& tool : demands.tools) rules.calls->names.push_back(tool.name);
  return rules;
}

std::string tools_json(const std::vector<Tool>& tools) {
  std::string json = "[";
  for (const auto& tool : tools) json += (json.size() > 1 ? "," : "") + tool.definition;
  return json + "]";
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
  std::vector<TokenId> shown;
  std::map<int, std::string> grammar_params;

  SampledText sampled(const ChoiceEnd& choice) const {
    SampledText all = before;
    const std::string& written = choice.written.empty() ? choice.text : choice.written;
    const auto ids = ids_within(tokenizer, choice.ids, written, begun.empty(), shown);
    all.ids.insert(all.ids.end(), ids.begin(), ids.end());
    return all;
  }

  Message message(const ChoiceEnd& choice) const {
    Message message{"assistant", choice.text, sampled(choice)};
    message.reasoning = choice.reasoning;
    message.tool_calls = choice.tool_calls;
    return message;
  }

  void remember(const ChoiceEnd& choice) {
    Message whole = message(choice);
    whole.content = begun + choice.text;
    DialogueKey with_reply = dialogue;
    add_message(&with_reply, whole);
    reply_tokens.remember(with_reply, sampled(choice));
  }

  // Stores the turn; what it throws becomes the call's error.
  void commit(GenerationEvent* event) {
    try {
      messages.push_back(message(event->end->choices.front()));
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
    if (event.error) event.error = with_origin(*event.error, open->grammar_params);
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
    add_message(&with_message, message);
    if (message.role == "assistant") message.sampled = reply_tokens_.find(with_message);
    const bool goes_on = request->continue_final_message && &message == &request->messages.back();
    if (!goes_on) *dialogue = std::move(with_message);
  }
}

// The prompt's ids go to the call's choices; returns its text.
std::string ChatService::write_prompt(const ServedModel& model, const std::vector<Message>& history,
                                      const ChatRequest& request, ChatCall* call) {
  ChatTemplateOptions options;
  options.add_generation_prompt = request.add_generation_prompt;
  options.arguments_json = request.template_arguments;
  if (!request.tools.empty() && request.tool_choice.use != ToolUse::none) {
    options.tools_json = tools_json(request.tools);
  }
  if (request.continue_final_message) {
    auto unfinished = std::make_shared<PromptText>(unfinished_chat_prompt(model, request.messages, options));
    call->begun = request.messages.back().content;
    call->sampled = before_the_rest(*model.tokenizer, request.messages.back(), unfinished->text.size());
    add_choices(call, request, unfinished->ids, unfinished, "messages");
    return unfinished->text;
  }
  ChatPrompt whole = chat_prompt(model, history, request.messages, options);
  call->sampled.begin = whole.text.size();
  add_choices(call, request, std::move(whole.ids), nullptr, "messages");
  return whole.text;
}

ChatCall ChatService::prepare(ChatRequest request) {
  CORTEX_CHECK(!request.store || request.n == 1);
  ChatCall call;
  static_cast<GenerationCall&>(call) = begin_call(request.id_prefix, request, place_.clock);
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
  require_few_bytes(model, request);

  static const std::vector<Message> kNoHistory;
  const auto& history = call.turn ? call.turn->history() : kNoHistory;
  call.dialogue = DialogueKey(model.name, request.salt, request.owner);
  for (const auto& message : history) add_message(&call.dialogue, message);
  require_calls_of_results(history, request.messages);
  recall(&request, &call.dialogue);

  const std::string prompt = write_prompt(model, history, request, &call);
  // A text that goes on is past its reasoning.
  const Reasoning reasoning =
      request.continue_final_message ? Reasoning::off : reasoning_behind(model.reply_style, prompt);
  const ReplyDemands demands = demands_of(request, model, reasoning);
  call.reply = rules_of(demands, reasoning);
  if (auto grammar = reply_grammar(model.reply_style, demands)) {
    call.grammar_params = std::move(grammar->params);
    for (auto& choice : call.choices) {
      choice.request.grammar = Grammar{grammar->syntax, grammar->text, model.grammar_vocabulary->texts()};
    }
  }
  call.messages = std::move(request.messages);
  if (!request.store) call.turn.reset();
  return call;
}

void ChatService::run(ChatCall call, GenerationSink sink) {
  const std::string trace = call.choices.front().request.trace;
  const bool with_calls = call.reply && call.reply->calls;
  OpenReply open{reply_tokens_,
                 *call.served->tokenizer,
                 std::move(call.dialogue),
                 std::move(call.begun),
                 std::move(call.sampled),
                 std::move(call.turn),
                 std::move(call.messages),
                 trace,
                 call.served->reply_style.shown(with_calls),
                 std::move(call.grammar_params)};
  sink = with_reply(std::move(open), std::move(sink));
  std::make_shared<Generation>(place_, std::move(call), std::move(sink))->start();
}

}  // namespace cortex
