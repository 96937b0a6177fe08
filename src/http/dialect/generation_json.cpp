#include "http/dialect/generation_json.h"

#include <algorithm>
#include <cmath>
#include <string>

namespace cortex {
namespace {

constexpr float kNoProbability = -9999.0f;  // log of 0, as JSON can say it

double per_second(int tokens, double ms) { return ms > 0 ? std::round(10000.0 * tokens / ms) / 10 : 0; }
double rounded(double ms) { return std::round(ms * 1000) / 1000; }

void write_logprob(JsonWriter& json, const std::string& bytes, float logprob) {
  json.key("token").string(bytes).key("logprob").number(finite_logprob(logprob));
  json.key("bytes").begin_array();
  for (const char byte : bytes) json.integer(static_cast<unsigned char>(byte));
  json.end_array();
}

void write_cache(JsonWriter& json, const CacheReport& cache) {
  const CacheExplanation& why = cache.explanation;
  const char* memory_or_none = cache.hit_tokens > 0 ? "ram" : "none";
  json.begin_object().key("hit_tokens").integer(cache.hit_tokens);
  json.key("tier").string(cache.disk_tokens > 0 ? "disk" : memory_or_none).key("miss");
  why.miss ? json.string(name_of(*why.miss)) : json.null();
  json.key("diverged_at");
  why.diverged_at ? json.integer(*why.diverged_at) : json.null();
  json.key("diverged_token");
  why.diverged_to ? json.integer(*why.diverged_to) : json.null();
  json.key("diverged_text");
  why.diverged_to ? json.string(cache.diverged_text) : json.null();
  json.end_object();
}

// AI SDK and LiteLLM read the first name, vLLM's clients the second.
void write_reasoning(JsonWriter& json, const std::string& reasoning) {
  json.key("reasoning_content").string(reasoning).key("reasoning").string(reasoning);
}

void write_calls(JsonWriter& json, const std::vector<ToolCall>& calls) {
  json.key("tool_calls").begin_array();
  for (const auto& call : calls) {
    json.begin_object().key("id").string(call.id).key("type").string("function").key("function").begin_object();
    json.key("name").string(call.name).key("arguments").string(call.arguments).end_object().end_object();
  }
  json.end_array();
}

std::string call_delta(const ToolCallPiece& piece) {
  JsonWriter json;
  json.begin_object().key("tool_calls").begin_array().begin_object().key("index").integer(piece.index);
  if (!piece.id.empty()) json.key("id").string(piece.id).key("type").string("function");
  json.key("function").begin_object();
  if (!piece.name.empty()) json.key("name").string(piece.name);
  json.key("arguments").string(piece.arguments).end_object();
  return json.end_object().end_array().end_object().take();
}

}  // namespace

std::string_view name_of(FinishReason reason, bool called_tools) {
  if (reason == FinishReason::length) return "length";
  return called_tools ? "tool_calls" : "stop";
}

void write_reply_fields(JsonWriter& json, const ChoiceEnd& choice) {
  json.key("role").string("assistant").key("content");
  choice.text.empty() && !choice.tool_calls.empty() ? json.null() : json.string(choice.text);
  if (!choice.reasoning.empty()) write_reasoning(json, choice.reasoning);
  if (!choice.tool_calls.empty()) write_calls(json, choice.tool_calls);
}

void write_message(JsonWriter& json, const Message& message) {
  json.begin_object().key("role").string(message.role).key("content");
  message.content.empty() && !message.tool_calls.empty() ? json.null() : json.string(message.content);
  if (!message.reasoning.empty()) write_reasoning(json, message.reasoning);
  if (!message.tool_calls.empty()) write_calls(json, message.tool_calls);
  if (message.role == "tool") json.key("tool_call_id").string(message.tool_call_id);
  json.end_object();
}

std::vector<std::string> chat_deltas(const GenerationEvent& event) {
  std::vector<std::string> deltas;
  if (!event.reasoning.empty()) {
    JsonWriter json;
    json.begin_object();
    write_reasoning(json, event.reasoning);
    deltas.push_back(json.end_object().take());
  }
  // Tokens may be told ahead of their text.
  if (!event.text.empty() || (event.reasoning.empty() && event.tool_calls.empty())) {
    JsonWriter json;
    deltas.push_back(json.begin_object().key("content").string(event.text).end_object().take());
  }
  for (const auto& piece : event.tool_calls) deltas.push_back(call_delta(piece));
  return deltas;
}

void write_completion_details(JsonWriter& json, const GenerationUsage& usage) {
  json.begin_object().key("reasoning_tokens").integer(usage.reasoning_tokens);
  json.key("accepted_prediction_tokens").integer(usage.accepted_draft_tokens);
  json.key("rejected_prediction_tokens").integer(usage.rejected_draft_tokens).end_object();
}

float finite_logprob(float logprob) { return std::isfinite(logprob) ? logprob : kNoProbability; }

void write_chat_logprobs(JsonWriter& json, const std::vector<TokenText>& tokens) {
  json.begin_object().key("content").begin_array();
  for (const auto& token : tokens) {
    json.begin_object();
    write_logprob(json, token.bytes, token.logprob.value_or(kNoProbability));
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

void write_timings(JsonWriter& json, const GenerationEnd& end) {
  const GenerateTimings& engine = end.timings.engine;
  json.begin_object();
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
  json.key("draft_accepted").integer(engine.draft_accepted);
  if (end.timings.cache) write_cache(json.key("cache"), *end.timings.cache);
  json.end_object();
}

}  // namespace cortex
