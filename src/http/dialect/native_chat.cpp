#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <utility>

#include "base/json_writer.h"
#include "http/dialect/chat_json.h"
#include "http/dialect/fields.h"
#include "http/dialect/native.h"
#include "http/error_reply.h"
#include "http/json_body.h"
#include "http/sse.h"

namespace cortex {
namespace {

constexpr std::size_t kMostMessages = 2048;
constexpr std::size_t kMostStops = 16;
constexpr std::size_t kLongestStopBytes = 256;
constexpr std::size_t kMostBiases = 1024;
constexpr double kLongestTimeoutS = 3600;

std::string read_content(const JsonValue& message) {
  const JsonValue content = message.require("content");
  if (content.is_string()) return content.string();
  if (!content.is_array()) throw content.error(ErrorCode::invalid_type, "a string or an array of parts is wanted");
  std::string text;
  for (const JsonValue& part : content.items()) {
    const std::string type = part.require("type").string();
    if (type == "text") {
      text += part.require("text").string();
    } else if (type == "image_url") {
      const std::string url = part.require("image_url").require("url").string();
      if (!url.starts_with("data:")) {
        throw part.error(ErrorCode::remote_media_disabled, "only data: URIs are read");
      }
      throw part.error(ErrorCode::model_not_capable, "no model here can see images");
    } else {
      throw part.require("type").error(ErrorCode::invalid_value,
                                       fmt::format("unknown part {}; one of text, image_url", excerpt(type)));
    }
  }
  return text;
}

Message read_message(const JsonValue& message) {
  message.refuse_unknown({"role", "content", "name", "reasoning_content", "reasoning", "tool_calls", "tool_call_id"});
  const JsonValue role = message.require("role");
  std::string name = role.string();
  if (name == "developer") name = "system";
  // Of what a message may carry beside its text, only the types are looked at: templates here know no use for it.
  for (const char* field : {"name", "reasoning_content", "reasoning"}) optional_string(message, field);
  for (const char* field : {"tool_calls", "tool_call_id"}) {
    if (message.get(field)) refuse_unsupported(message.path() + "." + field, "tools are not supported yet");
  }
  if (name == "tool") refuse_unsupported(role.path(), "tools are not supported yet");
  if (name != "system" && name != "user" && name != "assistant") {
    throw role.error(ErrorCode::invalid_value,
                     fmt::format("unknown role {}; one of system, user, assistant, tool", excerpt(name)));
  }
  return {std::move(name), read_content(message)};
}

std::vector<Message> read_messages(const JsonValue& body) {
  const JsonValue list = body.require("messages");
  const std::vector<JsonValue> items = list.items();
  if (items.empty() || items.size() > kMostMessages) {
    throw Error(ErrorCode::invalid_value,
                fmt::format("messages: has {} entries; 1 to {} are possible", items.size(), kMostMessages), "messages");
  }
  std::vector<Message> messages;
  messages.reserve(items.size());
  for (const JsonValue& item : items) messages.push_back(read_message(item));
  return messages;
}

std::vector<std::string> read_stops(const JsonValue& body) {
  const auto stop = body.get("stop");
  if (!stop) return {};
  std::vector<std::string> stops;
  if (stop->is_string()) {
    stops.push_back(stop->string());
  } else {
    for (const JsonValue& item : stop->items()) stops.push_back(item.string());
  }
  if (stops.size() > kMostStops) {
    throw Error(ErrorCode::invalid_value, fmt::format("stop: has {} entries; at most {}", stops.size(), kMostStops),
                "stop");
  }
  for (const auto& text : stops) {
    if (text.empty() || text.size() > kLongestStopBytes) {
      throw Error(ErrorCode::invalid_value,
                  fmt::format("stop: a string of {} bytes; 1 to {} are possible", text.size(), kLongestStopBytes),
                  "stop");
    }
  }
  return stops;
}

std::vector<std::pair<std::int64_t, float>> read_biases(const JsonValue& body) {
  const auto bias = body.get("logit_bias");
  if (!bias) return {};
  std::vector<std::pair<std::int64_t, float>> biases;
  for (const auto& [key, value] : bias->members()) {
    std::int64_t id = 0;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc() || end != key.data() + key.size()) {
      throw Error(ErrorCode::invalid_token_id, fmt::format("logit_bias: {} is not a token id", excerpt(key)),
                  "logit_bias");
    }
    biases.emplace_back(id, static_cast<float>(value.number_in(-100, 100)));
  }
  if (biases.size() > kMostBiases) {
    throw Error(ErrorCode::invalid_value,
                fmt::format("logit_bias: has {} entries; at most {}", biases.size(), kMostBiases), "logit_bias");
  }
  return biases;
}

SamplingChoice read_sampling(const JsonValue& body) {
  SamplingChoice choice;
  choice.temperature = optional_number(body, "temperature", 0, 2);
  choice.top_p = optional_number(body, "top_p", 0, 1);
  if (choice.top_p && *choice.top_p == 0) {
    throw Error(ErrorCode::invalid_value, "top_p: 0 is out of range; above 0, up to 1", "top_p");
  }
  choice.min_p = optional_number(body, "min_p", 0, 1);
  choice.presence_penalty = optional_number(body, "presence_penalty", -2, 2);
  choice.frequency_penalty = optional_number(body, "frequency_penalty", -2, 2);
  choice.repetition_penalty = optional_number(body, "repetition_penalty", 0, 2);
  if (choice.repetition_penalty && *choice.repetition_penalty == 0) {
    throw Error(ErrorCode::invalid_value, "repetition_penalty: 0 is out of range; above 0, up to 2",
                "repetition_penalty");
  }
  choice.top_k = optional_integer(body, "top_k", -1, kLargestInteger);
  if (const auto seed = body.get("seed")) choice.seed = seed->integer();
  return choice;
}

// What a template may be told beside the conversation: scalars under known names.
std::string read_template_arguments(const JsonValue& body) {
  constexpr std::array kKnown = {"enable_thinking", "thinking", "reasoning_effort", "date_string"};
  const auto arguments = body.get("chat_template_kwargs");
  if (!arguments) return "{}";
  for (const auto& [key, value] : arguments->members()) {
    const std::string path = fmt::format("chat_template_kwargs.{}", key.substr(0, 32));
    if (std::find(kKnown.begin(), kKnown.end(), key) == kKnown.end()) {
      throw Error(ErrorCode::invalid_value, fmt::format("{}: unknown; one of {}", path, fmt::join(kKnown, ", ")), path);
    }
    if (!value.is_scalar()) {
      throw Error(ErrorCode::invalid_value, fmt::format("{}: a string, number or boolean is wanted", path), path);
    }
  }
  return arguments->raw_json();
}

void refuse_what_is_missing_here(const JsonValue& body) {
  for (const char* field : {"tools", "tool_choice", "parallel_tool_calls", "response_format"}) {
    if (body.get(field)) refuse_unsupported(field, "not supported yet");
  }
  if (body.get("chat_template")) {
    throw Error(ErrorCode::chat_template_not_allowed, "chat_template: templates come with the model, not with requests",
                "chat_template");
  }
}

std::optional<std::chrono::milliseconds> read_timeout(const JsonValue& body) {
  const auto timeout = body.get("timeout_s");
  if (!timeout) return std::nullopt;
  return std::chrono::milliseconds(
      static_cast<std::int64_t>(std::ceil(timeout->number_in(0, kLongestTimeoutS) * 1000)));
}

ChatRequest read_chat(const JsonValue& body, const HttpRequest& request) {
  refuse_what_is_missing_here(body);
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
                       "priority",
                       "timeout_s",
                       "cache_salt",
                       "tools",
                       "tool_choice",
                       "parallel_tool_calls",
                       "response_format",
                       "logit_bias",
                       "logprobs",
                       "top_logprobs",
                       "chat_template_kwargs",
                       "chat_template"});
  ChatRequest chat;
  chat.model = optional_string(body, "model");
  chat.conversation_id = optional_string(body, "conversation_id");
  chat.messages = read_messages(body);
  chat.store = optional_boolean(body, "store").value_or(true);
  chat.sampling = read_sampling(body);
  chat.max_tokens = optional_integer(body, "max_tokens", 1, kLargestInteger);
  chat.stop = read_stops(body);
  chat.logit_bias = read_biases(body);
  chat.logprobs = optional_boolean(body, "logprobs").value_or(false);
  chat.top_logprobs = optional_integer(body, "top_logprobs", 0, 20).value_or(0);
  if (chat.top_logprobs > 0 && !chat.logprobs) {
    throw Error(ErrorCode::invalid_value, "top_logprobs: needs logprobs to be true", "top_logprobs");
  }
  chat.priority = optional_integer(body, "priority", -10, 10).value_or(0);
  chat.timeout = read_timeout(body);
  chat.template_arguments = read_template_arguments(body);
  chat.owner = request.key_id;
  chat.salt = salt_of(body, request);
  chat.trace = request.id;
  return chat;
}

// Writes a stream's events. The service calls it one event at a time.
class ChatStream {
 public:
  ChatStream(ChatEnvelope envelope, std::shared_ptr<HttpReply> reply, std::string request_id)
      : envelope_(std::move(envelope)), reply_(std::move(reply)), request_id_(std::move(request_id)) {}

  void take(const ChatEvent& event) {
    if (event.error) return fail(*event.error);
    begin();
    if (event.end) {
      reply_->write(sse_event(last_chat_chunk(envelope_, *event.end)).append(sse_done()));
      reply_->end();
    } else {
      reply_->write(sse_event(chat_chunk(envelope_, event)));
    }
  }

 private:
  void begin() {
    if (std::exchange(begun_, true)) return;
    reply_->write(sse_event(first_chat_chunk(envelope_)));
  }

  // Before anything has left, an error is a plain answer.
  void fail(const Error& error) {
    if (!begun_ && respond_error_unless_begun(*reply_, error, Dialect::native, request_id_)) return;
    reply_->write(sse_event(error_body(error, Dialect::native, request_id_)));
    reply_->end(StreamEnd::failed);
  }

  ChatEnvelope envelope_;
  std::shared_ptr<HttpReply> reply_;
  std::string request_id_;
  bool begun_ = false;
};

}  // namespace

namespace {

void count(Metrics& metrics, const std::string& model, const ChatEvent& event) {
  const MetricLabels labels = {{"model", model}};
  if (event.error) {
    const bool cancelled = event.error->code() == ErrorCode::cancelled;
    metrics.add("finished", "Generations that are over.",
                {{"model", model}, {"reason", cancelled ? "cancelled" : "error"}});
  }
  if (!event.end) return;
  const ChatEnd& end = *event.end;
  metrics.add("finished", "Generations that are over.",
              {{"model", model}, {"reason", std::string(name_of(end.reason))}});
  metrics.add("prompt_tokens", "Tokens of prompts.", labels, end.usage.prompt_tokens);
  metrics.add("generation_tokens", "Tokens that were sampled.", labels, end.usage.completion_tokens);
  metrics.observe("ttft_seconds", "From a request to its first token.", labels, end.timings.ttft_ms / 1000);
}

}  // namespace

void native_chat(const NativeServices& services, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply) {
  const JsonBody document = JsonBody::parse(request.body);
  const JsonValue body = document.root();
  const bool stream = optional_boolean(body, "stream").value_or(false);
  ChatRequest chat = read_chat(body, request);
  const bool logprobs = chat.logprobs;
  ChatCall call = services.chat.prepare(std::move(chat));
  const ChatEnvelope envelope{call.id, call.created_s, call.model, call.conversation_id, logprobs};

  ChatService& service = services.chat;
  const std::string id = call.id;
  const std::string owner = call.owner;
  const std::string model = call.model;
  Metrics& metrics = services.metrics;
  ChatSink sink;
  if (stream) {
    reply->start_stream(200, sse_headers());
    auto events = std::make_shared<ChatStream>(envelope, reply, request.id);
    sink = [events, &metrics, model](const ChatEvent& event) {
      count(metrics, model, event);
      events->take(event);
    };
  } else {
    sink = [envelope, reply, request_id = request.id, &metrics, model](const ChatEvent& event) {
      count(metrics, model, event);
      if (event.error) respond_error(*reply, *event.error, Dialect::native, request_id);
      if (event.end) respond_json(*reply, 200, chat_reply(envelope, *event.end));
    };
  }
  service.run(std::move(call), std::move(sink));
  reply->on_disconnect([&service, id, owner] { service.cancel(id, owner); });
}

void native_get_conversation(const NativeServices& services, const HttpRequest& request, HttpReply& reply) {
  const Conversation conversation = services.conversations.get(request.path_id, request.key_id);
  JsonWriter json;
  json.begin_object().key("conversation_id").string(conversation.id).key("model").string(conversation.model);
  json.key("created").integer(conversation.created_s).key("messages").begin_array();
  for (const auto& message : conversation.messages) {
    json.begin_object().key("role").string(message.role).key("content").string(message.content).end_object();
  }
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
  if (!services.chat.cancel(id, request.key_id)) {
    throw Error(ErrorCode::not_found, fmt::format("no request {} is running", excerpt(id)));
  }
  JsonWriter json;
  json.begin_object().key("id").string(id).key("cancelled").boolean(true).end_object();
  respond_json(reply, 200, json.take());
}

}  // namespace cortex
