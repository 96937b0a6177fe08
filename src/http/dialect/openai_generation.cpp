#include "http/dialect/openai_generation.h"

#include "http/dialect/fields.h"
#include "http/dialect/generation_json.h"

namespace cortex {

OpenaiStreamOptions read_stream_options(const JsonValue& body) {
  OpenaiStreamOptions options;
  options.stream = optional_boolean(body, "stream").value_or(false);
  options.explain = optional_boolean(body, "explain").value_or(false);
  const auto given = body.get("stream_options");
  if (!given) return options;
  if (!given->is_object()) throw given->error(ErrorCode::invalid_type, "an object is wanted");
  if (!options.stream) {
    throw Error(ErrorCode::invalid_value, "stream_options: needs stream to be true", "stream_options");
  }
  options.continuous_usage = optional_boolean(*given, "continuous_usage_stats").value_or(false);
  options.usage = optional_boolean(*given, "include_usage").value_or(false);
  return options;
}

void begin_openai_object(JsonWriter& json, const OpenaiEnvelope& envelope, std::string_view object) {
  json.begin_object().key("id").string(envelope.id).key("object").string(object);
  json.key("created").integer(envelope.created_s).key("model").string(envelope.model);
}

void write_openai_usage(JsonWriter& json, const GenerationUsage& usage) {
  json.begin_object();
  json.key("prompt_tokens").integer(usage.prompt_tokens);
  json.key("completion_tokens").integer(usage.completion_tokens);
  json.key("total_tokens").integer(usage.prompt_tokens + usage.completion_tokens);
  json.key("prompt_tokens_details").begin_object().key("cached_tokens").integer(usage.cached_tokens).end_object();
  write_completion_details(json.key("completion_tokens_details"), usage);
  json.end_object();
}

void write_chunk_usage(JsonWriter& json, const OpenaiEnvelope& envelope, const GenerationUsage& usage) {
  if (envelope.options.continuous_usage) return write_openai_usage(json.key("usage"), usage);
  if (envelope.options.usage) json.key("usage").null();
}

std::vector<std::string> openai_last_chunks(const OpenaiEnvelope& envelope, std::string_view object,
                                            const GenerationEnd& end) {
  const OpenaiStreamOptions& options = envelope.options;
  if (!options.usage && !options.explain) return {};
  JsonWriter json;
  begin_openai_object(json, envelope, object);
  json.key("choices").begin_array().end_array();
  if (options.usage || options.continuous_usage) write_openai_usage(json.key("usage"), end.usage);
  write_timings(json.key("timings"), end);
  return {json.end_object().take()};
}

}  // namespace cortex
