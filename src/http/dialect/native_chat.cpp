#include <fmt/core.h>

#include <string>
#include <utility>
#include <vector>

#include "base/json_writer.h"
#include "http/dialect/chat_json.h"
#include "http/dialect/fields.h"
#include "http/dialect/generation_fields.h"
#include "http/dialect/generation_json.h"
#include "http/dialect/generation_reply.h"
#include "http/dialect/message_fields.h"
#include "http/dialect/native.h"
#include "http/dialect/tool_fields.h"
#include "http/error_reply.h"
#include "http/json_body.h"

namespace cortex {
namespace {

constexpr std::size_t kMostStops = 16;

ChatRequest read_chat(const JsonValue& body, const HttpRequest& request) {
  body.refuse_unknown({"model",
                       "conversation_id",
                       "messages",
                       "stream",
                       "store",
                       "max_tokens",
                       "temperature",
                       "top_p",
                       "top_k",
                       "min_p",
                       "presence_penalty",
                       "frequency_penalty",
                       "repetition_penalty",
                       "seed",
                       "stop",
                       "explain",
                       "priority",
                       "timeout_s",
                       "cache_salt",
                       "tools",
                       "tool_choice",
                       "parallel_tool_calls",
                       "response_format",
                       "prediction",
                       "logit_bias",
                       "logprobs",
                       "top_logprobs",
                       "chat_template_kwargs",
                       "chat_template"});
  ChatRequest chat;
  static_cast<GenerationOptions&>(chat) = read_generation_options(body, request);
  chat.model = optional_string(body, "model");
  chat.conversation_id = optional_string(body, "conversation_id");
  chat.messages = read_messages(body, UnknownFields::refused);
  chat.store = optional_boolean(body, "store").value_or(true);
  chat.max_tokens = optional_integer(body, "max_tokens", 1, kLargestInteger);
  chat.stop = read_stops(body, kMostStops);
  chat.logprobs = optional_boolean(body, "logprobs").value_or(false);
  chat.top_logprobs = read_top_logprobs(body, chat.logprobs);
  chat.template_arguments = read_template_arguments(body);
  chat.may_think = read_may_think(body);
  read_tools(body, UnknownFields::refused, &chat);
  chat.format = read_response_format(body, UnknownFields::refused);
  chat.prediction = read_prediction(body, UnknownFields::refused);
  return chat;
}

GenerationWords words_of(const ChatEnvelope& envelope) {
  GenerationWords words;
  words.reply = [envelope](const GenerationEnd& end) { return chat_reply(envelope, end); };
  words.opening = {first_chat_chunk(envelope)};
  words.chunks = [envelope](const GenerationEvent& event) -> std::vector<std::string> {
    if (event.end) return {last_chat_chunk(envelope, *event.end)};
    if (event.finish) return {};  // the end says it
    return chat_chunks(envelope, event);
  };
  return words;
}

}  // namespace

void native_chat(const NativeServices& services, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply) {
  const JsonBody document = JsonBody::parse(request.body);
  const JsonValue body = document.root();
  const bool stream = optional_boolean(body, "stream").value_or(false);
  ChatRequest chat = read_chat(body, request);
  const bool logprobs = chat.logprobs;
  ChatCall call = services.chat.prepare(std::move(chat));
  call.keeps_tokens = !stream;
  const ChatEnvelope envelope{call.id, call.created_s, call.model, call.conversation_id, logprobs};

  ChatService& service = services.chat;
  GenerationSink sink =
      answer_generation({reply, Dialect::native, request.id, stream}, words_of(envelope), call.model, services.metrics);
  service.run(std::move(call), std::move(sink));
  reply->on_disconnect([&service, id = envelope.id, owner = request.key_id] { service.cancel(id, owner); });
}

void native_get_conversation(const NativeServices& services, const HttpRequest& request, HttpReply& reply) {
  const Conversation conversation = services.conversations.get(request.path_id, request.key_id);
  JsonWriter json;
  json.begin_object().key("conversation_id").string(conversation.id).key("model").string(conversation.model);
  json.key("created").integer(conversation.created_s).key("messages").begin_array();
  for (const auto& message : conversation.messages) write_message(json, message);
  respond_json(reply, 200, json.end_array().end_object().take());
}

void native_delete_conversation(const NativeServices& services, const HttpRequest& request, HttpReply& reply) {
  const std::string id = request.path_id;
  services.conversations.remove(id, request.key_id);
  JsonWriter json;
  json.begin_object().key("conversation_id").string(id).key("deleted").boolean(true).end_object();
  respond_json(reply, 200, json.take());
}

void native_cancel(const NativeServices& services, const HttpRequest& request, HttpReply& reply) {
  const std::string id = request.path_id;
  if (!services.chat.cancel(id, request.key_id) && !services.completion.cancel(id, request.key_id)) {
    throw Error(ErrorCode::not_found, fmt::format("no request {} is running", excerpt(id)));
  }
  JsonWriter json;
  json.begin_object().key("id").string(id).key("cancelled").boolean(true).end_object();
  respond_json(reply, 200, json.take());
}

}  // namespace cortex
