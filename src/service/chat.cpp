#include "service/chat.h"

#include <fmt/core.h>

#include <algorithm>
#include <random>

#include "base/identifier.h"
#include "base/json_writer.h"
#include "service/chat_run.h"
#include "service/request_ids.h"

namespace cortex {
namespace {

std::uint64_t random_seed() {
  std::random_device device;
  return (static_cast<std::uint64_t>(device()) << 32) | device();
}

SamplingParams resolve(const SamplingChoice& asked, const GenerationDefaults& model) {
  SamplingParams params;
  // A model whose makers say "do not sample" is greedy until a request says otherwise.
  const float temperature = model.do_sample == false ? 0.0f : model.temperature.value_or(params.temperature);
  params.temperature = asked.temperature.value_or(temperature);
  params.top_p = asked.top_p.value_or(model.top_p.value_or(params.top_p));
  params.min_p = asked.min_p.value_or(model.min_p.value_or(params.min_p));
  params.top_k = std::max(0, asked.top_k.value_or(model.top_k.value_or(params.top_k)));
  params.presence_penalty = asked.presence_penalty.value_or(params.presence_penalty);
  params.frequency_penalty = asked.frequency_penalty.value_or(params.frequency_penalty);
  params.repetition_penalty =
      asked.repetition_penalty.value_or(model.repetition_penalty.value_or(params.repetition_penalty));
  params.seed = asked.seed ? static_cast<std::uint64_t>(*asked.seed) : random_seed();
  return params;
}

std::string messages_json(const std::vector<Message>& history, const std::vector<Message>& added) {
  JsonWriter json;
  json.begin_array();
  for (const auto* part : {&history, &added}) {
    for (const auto& message : *part) {
      json.begin_object().key("role").string(message.role).key("content").string(message.content).end_object();
    }
  }
  return json.end_array().take();
}

std::vector<std::pair<TokenId, float>> checked_bias(const std::vector<std::pair<std::int64_t, float>>& bias,
                                                    int vocabulary) {
  std::vector<std::pair<TokenId, float>> checked;
  for (const auto& [id, value] : bias) {
    if (id < 0 || id >= vocabulary) {
      throw Error(
          ErrorCode::invalid_token_id,
          fmt::format("logit_bias: token id {} is outside 0..{} (vocabulary size {})", id, vocabulary - 1, vocabulary),
          "logit_bias");
    }
    checked.emplace_back(static_cast<TokenId>(id), value);
  }
  return checked;
}

// How many tokens may follow the prompt.
int room_for_output(const ServedModel& model, std::size_t prompt, const std::optional<int>& max_tokens) {
  const auto context = static_cast<std::size_t>(model.context_tokens);
  const std::size_t wanted = max_tokens ? static_cast<std::size_t>(*max_tokens) : 0;
  // Without max_tokens there must be room for one.
  if (prompt + std::max<std::size_t>(wanted, 1) <= context) {
    return max_tokens ? *max_tokens : static_cast<int>(context - prompt);
  }
  const std::string asked = max_tokens ? fmt::format(" and max_tokens asks for {}", wanted) : std::string();
  throw Error(
      ErrorCode::context_length_exceeded,
      fmt::format("This model's maximum context length is {} tokens. The messages have {}{}.", context, prompt, asked),
      "messages");
}

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

}  // namespace

ChatService::ChatService(const Models& models, Admission& admission, Conversations& conversations,
                         ThreadPool& text_threads, const Clock& clock)
    : models_(models),
      admission_(admission),
      conversations_(conversations),
      text_threads_(text_threads),
      clock_(clock) {}

ChatCall ChatService::prepare(ChatRequest request) {
  ChatCall call;
  call.begun = clock_.steady_now();
  call.id = make_identifier("chat-");
  call.created_s = std::chrono::duration_cast<std::chrono::seconds>(clock_.wall_now().time_since_epoch()).count();

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
  call.ticket = admission_.enter(model.name);
  if (!call.turn && request.store) call.turn = conversations_.create(model.name, request.owner);
  if (call.turn) {
    require_new_system_message_first(*call.turn, request.messages);
    if (request.store) call.conversation_id = call.turn->id();
  }

  require_few_bytes(model, request.messages);
  static const std::vector<Message> kNoHistory;
  const auto& history = call.turn ? call.turn->history() : kNoHistory;
  ChatTemplateOptions options;
  options.add_generation_prompt = true;
  options.arguments_json = request.template_arguments;
  GenerateRequest& generate = call.generate;
  generate.prompt =
      encode_chat(*model.tokenizer, *model.chat_template, messages_json(history, request.messages), options);
  generate.max_tokens = room_for_output(model, generate.prompt.size(), request.max_tokens);
  generate.id = next_request_id();
  generate.model = model.name;
  generate.stop_ids = model.stop_ids;
  generate.sampling = resolve(request.sampling, model.generation);
  generate.logit_bias = checked_bias(request.logit_bias, model.vocabulary);
  generate.logprobs = request.logprobs;
  generate.top_logprobs = request.top_logprobs;
  generate.priority = request.priority;
  generate.salt = std::move(request.salt);
  generate.timeout = request.timeout;
  generate.trace = std::move(request.trace);

  call.served = &model;
  call.model = model.name;
  call.messages = std::move(request.messages);
  call.stop = std::move(request.stop);
  call.owner = std::move(request.owner);
  if (!request.store) call.turn.reset();
  return call;
}

void ChatService::run(ChatCall call, ChatSink sink) {
  {
    std::lock_guard lock(mutex_);
    running_[call.id] = {&call.ticket->engine(), call.generate.id, call.owner};
  }
  std::make_shared<ChatRun>(*this, std::move(call), std::move(sink))->start();
}

bool ChatService::cancel(const std::string& id, const std::string& owner) {
  Running running;
  {
    std::lock_guard lock(mutex_);
    const auto found = running_.find(id);
    if (found == running_.end() || found->second.owner != owner) return false;
    running = found->second;
  }
  running.engine->cancel(running.request);
  return true;
}

void ChatService::forget(const std::string& id) {
  std::lock_guard lock(mutex_);
  running_.erase(id);
}

}  // namespace cortex
