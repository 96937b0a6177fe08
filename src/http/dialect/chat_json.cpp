#include "http/dialect/chat_json.h"

#include <algorithm>
#include <cmath>

#include "base/json_writer.h"

namespace cortex {
namespace {

constexpr float kNoProbability = -9999.0f;  // log of 0, as JSON can say it

double per_second(int tokens, double ms) { return ms > 0 ? std::round(10000.0 * tokens / ms) / 10 : 0; }
double rounded(double ms) { return std::round(ms * 1000) / 1000; }

void write_logprob(JsonWriter& json, const std::string& bytes, float logprob) {
  json.key("token").string(bytes).key("logprob").number(std::isfinite(logprob) ? logprob : kNoProbability);
  json.key("bytes").begin_array();
  for (const char byte : bytes) json.integer(static_cast<unsigned char>(byte));
  json.end_array();
}

void write_logprobs(JsonWriter& json, const std::vector<TokenText>& tokens) {
  json.begin_object().key("content").begin_array();
  for (const auto& token : tokens) {
    json.begin_object();
    write_logprob(json, token.bytes, token.logprob);
    json.key("top_logprobs").begin_array();
    for (const auto& [bytes, logprob] : token.top) {
      json.begin_object();
      write_logprob(json, bytes, logprob);
      json.end_object();
    }
    json.end_array().end_object();
  }
  json.end_array().end_object();
}

void write_usage(JsonWriter& json, const ChatUsage& usage) {
  json.key("usage").begin_object();
  json.key("prompt_tokens").integer(usage.prompt_tokens);
  json.key("completion_tokens").integer(usage.completion_tokens);
  json.key("total_tokens").integer(usage.prompt_tokens + usage.completion_tokens);
  json.key("cached_tokens").integer(usage.cached_tokens).end_object();
}

void write_timings(JsonWriter& json, const ChatEnd& end) {
  const GenerateTimings& engine = end.timings.engine;
  json.key("timings").begin_object();
  json.key("queue_ms").number(rounded(engine.queue_ms));
  json.key("prefill_ms").number(rounded(engine.prefill_ms));
  json.key("decode_ms").number(rounded(engine.decode_ms));
  json.key("ttft_ms").number(rounded(end.timings.ttft_ms));
  json.key("total_ms").number(rounded(end.timings.total_ms));
  json.key("prefill_tokens_per_s")
      .number(per_second(end.usage.prompt_tokens - end.usage.cached_tokens, engine.prefill_ms));
  json.key("decode_tokens_per_s").number(per_second(std::max(0, end.usage.completion_tokens - 1), engine.decode_ms));
  json.key("cached_disk_tokens").integer(engine.cached_disk_tokens);
  json.key("draft_tokens").integer(engine.draft_tokens);
  json.key("draft_accepted").integer(engine.draft_accepted).end_object();
}

void write_envelope(JsonWriter& json, const ChatEnvelope& envelope, std::string_view object) {
  json.key("id").string(envelope.id).key("object").string(object);
  json.key("created").integer(envelope.created_s).key("model").string(envelope.model).key("conversation_id");
  envelope.conversation_id ? json.string(*envelope.conversation_id) : json.null();
}

}  // namespace

std::string_view name_of(FinishReason reason) { return reason == FinishReason::stop ? "stop" : "length"; }

std::string chat_reply(const ChatEnvelope& envelope, const ChatEnd& end) {
  JsonWriter json;
  json.begin_object();
  write_envelope(json, envelope, "chat");
  json.key("message").begin_object().key("role").string("assistant").key("content").string(end.text).end_object();
  json.key("finish_reason").string(name_of(end.reason)).key("logprobs");
  envelope.logprobs ? write_logprobs(json, end.tokens) : void(json.null());
  write_usage(json, end.usage);
  write_timings(json, end);
  return json.end_object().take();
}

std::string first_chat_chunk(const ChatEnvelope& envelope) {
  JsonWriter json;
  json.begin_object();
  write_envelope(json, envelope, "chat.chunk");
  json.key("delta").begin_object().key("role").string("assistant").key("content").string("").end_object();
  return json.key("finish_reason").null().end_object().take();
}

std::string chat_chunk(const ChatEnvelope& envelope, const ChatEvent& event) {
  JsonWriter json;
  json.begin_object();
  write_envelope(json, envelope, "chat.chunk");
  json.key("delta").begin_object().key("content").string(event.text).end_object();
  if (envelope.logprobs) {
    json.key("logprobs");
    write_logprobs(json, event.tokens);
  }
  return json.key("finish_reason").null().end_object().take();
}

std::string last_chat_chunk(const ChatEnvelope& envelope, const ChatEnd& end) {
  JsonWriter json;
  json.begin_object();
  write_envelope(json, envelope, "chat.chunk");
  json.key("delta").begin_object().end_object().key("finish_reason").string(name_of(end.reason));
  write_usage(json, end.usage);
  write_timings(json, end);
  return json.end_object().take();
}

}  // namespace cortex
