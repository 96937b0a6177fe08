#include <fmt/core.h>

#include <string>
#include <utility>
#include <vector>

#include "base/json_writer.h"
#include "http/dialect/fields.h"
#include "http/dialect/generation_fields.h"
#include "http/dialect/generation_json.h"
#include "http/dialect/generation_reply.h"
#include "http/dialect/message_fields.h"
#include "http/dialect/openai.h"
#include "http/dialect/openai_generation.h"
#include "http/dialect/tool_fields.h"
#include "http/error_reply.h"
#include "http/json_body.h"

namespace cortex {
namespace {

constexpr const char* kChunk = "chat.completion.chunk";

void refuse_what_is_missing_here(const JsonValue& body) {
  for (const char* field : {"functions", "function_call", "audio", "web_search_options"}) {
    if (body.get(field)) refuse_unsupported(field, "not supported");
  }
}

std::optional<int> read_max_tokens(const JsonValue& body) {
  const auto older = optional_integer(body, "max_tokens", 1, kLargestInteger);
  const auto newer = optional_integer(body, "max_completion_tokens", 1, kLargestInteger);
  return newer ? newer : older;
}

ChatRequest read_chat(const JsonValue& body, const HttpRequest& request) {
  refuse_what_is_missing_here(body);
  ChatRequest chat;
  static_cast<GenerationOptions&>(chat) = read_generation_options(body, request);
  chat.id_prefix = "chatcmpl-";
  chat.model = optional_string(body, "model");
  chat.messages = read_messages(body, UnknownFields::ignored);
  chat.store = false;  // OpenAI's `store` is about another kind of storage
  chat.max_tokens = read_max_tokens(body);
  chat.stop = read_stops(body, kMostOpenaiStops);
  chat.logprobs = optional_boolean(body, "logprobs").value_or(false);
  chat.top_logprobs = read_top_logprobs(body, chat.logprobs);
  chat.n = optional_integer(body, "n", 1, kMostChoicesPerPrompt).value_or(1);
  chat.template_arguments = read_template_arguments(body);
  chat.may_think = read_may_think(body);
  read_tools(body, UnknownFields::ignored, &chat);
  chat.format = read_response_format(body, UnknownFields::ignored);
  chat.prediction = read_prediction(body, UnknownFields::ignored);
  chat.continue_final_message = optional_boolean(body, "continue_final_message").value_or(false);
  const auto generation_prompt = optional_boolean(body, "add_generation_prompt");
  if (chat.continue_final_message && generation_prompt == true) {
    throw Error(ErrorCode::invalid_value, "continue_final_message: can't be true beside add_generation_prompt",
                "continue_final_message");
  }
  chat.add_generation_prompt = generation_prompt.value_or(true);
  return chat;
}

std::string reply_json(const OpenaiEnvelope& envelope, const GenerationEnd& end) {
  JsonWriter json;
  begin_openai_object(json, envelope, "chat.completion");
  json.key("choices").begin_array();
  for (std::size_t i = 0; i < end.choices.size(); ++i) {
    const ChoiceEnd& choice = end.choices[i];
    json.begin_object().key("index").integer(static_cast<std::int64_t>(i)).key("message").begin_object();
    write_reply_fields(json, choice);
    json.key("refusal").null().end_object().key("logprobs");
    envelope.logprobs ? write_chat_logprobs(json, choice.tokens) : void(json.null());
    json.key("finish_reason").string(name_of(choice.reason, !choice.tool_calls.empty())).end_object();
  }
  json.end_array();
  write_openai_usage(json.key("usage"), end.usage);
  write_timings(json.key("timings"), end);
  return json.end_object().take();
}

// A chunk of one choice; `delta` is JSON. What an event tells once stands in the first of its chunks.
std::string chunk_json(const OpenaiEnvelope& envelope, const GenerationEvent& event, std::string_view delta,
                       bool is_first = true) {
  JsonWriter json;
  begin_openai_object(json, envelope, kChunk);
  json.key("choices").begin_array().begin_object().key("index").integer(event.choice).key("delta").raw(delta);
  json.key("logprobs");
  envelope.logprobs&& is_first && !event.tokens.empty() ? write_chat_logprobs(json, event.tokens) : void(json.null());
  json.key("finish_reason");
  event.finish ? json.string(name_of(*event.finish, event.called_tools)) : json.null();
  json.end_object().end_array();
  write_chunk_usage(json, envelope, event.usage);
  return json.end_object().take();
}

std::vector<std::string> chunks_of(const OpenaiEnvelope& envelope, const GenerationEvent& event) {
  if (event.end) return openai_last_chunks(envelope, kChunk, *event.end);
  if (event.finish) return {chunk_json(envelope, event, "{}")};
  std::vector<std::string> chunks;
  for (const auto& delta : chat_deltas(event)) chunks.push_back(chunk_json(envelope, event, delta, chunks.empty()));
  return chunks;
}

GenerationWords words_of(const OpenaiEnvelope& envelope, int choices, int prompt_tokens) {
  GenerationWords words;
  words.reply = [envelope](const GenerationEnd& end) { return reply_json(envelope, end); };
  for (int i = 0; i < choices; ++i) {
    GenerationEvent event;
    event.choice = i;
    event.usage.prompt_tokens = prompt_tokens;
    words.opening.push_back(chunk_json(envelope, event, R"({"role":"assistant","content":""})"));
  }
  words.chunks = [envelope](const GenerationEvent& event) { return chunks_of(envelope, event); };
  return words;
}

}  // namespace

void openai_chat(const OpenaiServices& services, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply) {
  const JsonBody document = JsonBody::parse(request.body);
  const JsonValue body = document.root();
  const OpenaiStreamOptions options = read_stream_options(body);
  ChatRequest chat = read_chat(body, request);
  const bool logprobs = chat.logprobs;
  const int n = chat.n;
  ChatCall call = services.chat.prepare(std::move(chat));
  call.keeps_tokens = !options.stream;
  const OpenaiEnvelope envelope{call.id, call.created_s, call.model, logprobs, options};
  const int prompt_tokens = static_cast<int>(call.choices.front().request.prompt.size());

  ChatService& service = services.chat;
  GenerationSink sink = answer_generation({reply, Dialect::openai, request.id, options.stream},
                                          words_of(envelope, n, prompt_tokens), call.model, services.metrics);
  service.run(std::move(call), std::move(sink));
  reply->on_disconnect([&service, id = envelope.id, owner = request.key_id] { service.cancel(id, owner); });
}

}  // namespace cortex
