#include "http/dialect/chat_json.h"

#include "base/json_writer.h"
#include "http/dialect/generation_json.h"

namespace cortex {
namespace {

void write_usage(JsonWriter& json, const GenerationUsage& usage) {
  json.key("usage").begin_object();
  json.key("prompt_tokens").integer(usage.prompt_tokens);
  json.key("completion_tokens").integer(usage.completion_tokens);
  json.key("total_tokens").integer(usage.prompt_tokens + usage.completion_tokens);
  json.key("cached_tokens").integer(usage.cached_tokens);
  write_completion_details(json.key("completion_tokens_details"), usage);
  json.end_object();
}

void write_envelope(JsonWriter& json, const ChatEnvelope& envelope, std::string_view object) {
  json.key("id").string(envelope.id).key("object").string(object);
  json.key("created").integer(envelope.created_s).key("model").string(envelope.model).key("conversation_id");
  envelope.conversation_id ? json.string(*envelope.conversation_id) : json.null();
}

}  // namespace

std::string chat_reply(const ChatEnvelope& envelope, const GenerationEnd& end) {
  const ChoiceEnd& choice = end.choices.front();
  JsonWriter json;
  json.begin_object();
  write_envelope(json, envelope, "chat");
  json.key("message").begin_object();
  write_reply_fields(json, choice);
  json.end_object();
  json.key("finish_reason").string(name_of(choice.reason, !choice.tool_calls.empty())).key("logprobs");
  envelope.logprobs ? write_chat_logprobs(json, choice.tokens) : void(json.null());
  write_usage(json, end.usage);
  write_timings(json.key("timings"), end);
  return json.end_object().take();
}

std::string first_chat_chunk(const ChatEnvelope& envelope) {
  JsonWriter json;
  json.begin_object();
  write_envelope(json, envelope, "chat.chunk");
  json.key("delta").begin_object().key("role").string("assistant").key("content").string("").end_object();
  return json.key("finish_reason").null().end_object().take();
}

std::vector<std::string> chat_chunks(const ChatEnvelope& envelope, const GenerationEvent& event) {
  std::vector<std::string> chunks;
  for (const auto& delta : chat_deltas(event)) {
    JsonWriter json;
    json.begin_object();
    write_envelope(json, envelope, "chat.chunk");
    json.key("delta").raw(delta);
    if (envelope.logprobs && chunks.empty()) {
      json.key("logprobs");
      write_chat_logprobs(json, event.tokens);
    }
    chunks.push_back(json.key("finish_reason").null().end_object().take());
  }
  return chunks;
}

std::string last_chat_chunk(const ChatEnvelope& envelope, const GenerationEnd& end) {
  const ChoiceEnd& choice = end.choices.front();
  JsonWriter json;
  json.begin_object();
  write_envelope(json, envelope, "chat.chunk");
  json.key("delta")
      .begin_object()
      .end_object()
      .key("finish_reason")
      .string(name_of(choice.reason, !choice.tool_calls.empty()));
  write_usage(json, end.usage);
  write_timings(json.key("timings"), end);
  return json.end_object().take();
}

}  // namespace cortex
