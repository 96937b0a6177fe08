#include <fmt/core.h>
#include <simdjson.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "base/json_writer.h"
#include "http/dialect/fields.h"
#include "http/dialect/generation_fields.h"
#include "http/dialect/generation_json.h"
#include "http/dialect/generation_reply.h"
#include "http/dialect/openai.h"
#include "http/dialect/openai_generation.h"
#include "http/dialect/text_inputs.h"
#include "http/error_reply.h"
#include "http/json_body.h"

namespace cortex {
namespace {

constexpr const char* kObject = "text_completion";
constexpr int kUsualMaxTokens = 16;

std::optional<int> read_max_tokens(const JsonValue& body, bool echo) {
  const auto most = optional_integer(body, "max_tokens", 0, kLargestInteger);
  if (most == 0 && !echo) {
    throw Error(ErrorCode::invalid_value, "max_tokens: 0 is possible with echo only; else from 1", "max_tokens");
  }
  return most;
}

int read_n(const JsonValue& body) {
  const int n = optional_integer(body, "n", 1, kMostChoicesPerPrompt).value_or(1);
  const auto best_of = body.get("best_of");
  if (best_of && best_of->integer() != n) {
    throw Error(ErrorCode::invalid_value, fmt::format("best_of: {} is not possible; only n, {}", best_of->integer(), n),
                "best_of");
  }
  return n;
}

CompletionRequest read_completion(const JsonValue& body, const HttpRequest& request) {
  const auto suffix = optional_string(body, "suffix");
  if (suffix && !suffix->empty()) refuse_unsupported("suffix", "not supported");
  CompletionRequest completion;
  static_cast<GenerationOptions&>(completion) = read_generation_options(body, request);
  completion.model = optional_string(body, "model");
  TextInputs prompt = read_text_inputs(body.require("prompt"), "prompt", kMostChoices);
  completion.prompts = std::move(prompt.texts);
  completion.single = prompt.single;
  completion.echo = optional_boolean(body, "echo").value_or(false);
  completion.max_tokens = read_max_tokens(body, completion.echo);
  completion.usual_max_tokens = kUsualMaxTokens;
  completion.stop = read_stops(body, kMostOpenaiStops);
  const auto logprobs = optional_integer(body, "logprobs", 0, kMostTopLogprobs);
  completion.logprobs = logprobs.has_value();
  completion.top_logprobs = logprobs.value_or(0);
  completion.n = read_n(body);
  return completion;
}

// A token's text; one that is not whole characters is told by its bytes: "bytes:\xe2\x80".
std::string token_name(const std::string& bytes) {
  if (simdjson::validate_utf8(bytes)) return bytes;
  std::string name = "bytes:";
  for (const char byte : bytes) name += fmt::format("\\x{:02x}", static_cast<unsigned char>(byte));
  return name;
}

// {token: logprob}: the likeliest ones and the token itself; of several that look the same, the likeliest.
void write_top(JsonWriter& json, const TokenText& token) {
  if (!token.logprob) return void(json.null());
  std::vector<std::pair<std::string, float>> top;
  const auto add = [&](const std::string& bytes, float logprob) {
    std::string name = token_name(bytes);
    const auto same = [&](const auto& other) { return other.first == name; };
    if (std::none_of(top.begin(), top.end(), same)) top.emplace_back(std::move(name), logprob);
  };
  for (const auto& [bytes, logprob] : token.top) add(bytes, logprob);
  add(token.bytes, *token.logprob);
  json.begin_object();
  for (const auto& [name, logprob] : top) json.key(name).number(finite_logprob(logprob));
  json.end_object();
}

void write_logprobs(JsonWriter& json, const std::vector<TokenText>& tokens) {
  json.begin_object().key("tokens").begin_array();
  for (const auto& token : tokens) json.string(token_name(token.bytes));
  json.end_array().key("token_logprobs").begin_array();
  for (const auto& token : tokens) {
    token.logprob ? json.number(finite_logprob(*token.logprob)) : json.null();
  }
  json.end_array().key("top_logprobs").begin_array();
  for (const auto& token : tokens) write_top(json, token);
  json.end_array().key("text_offset").begin_array();
  for (const auto& token : tokens) json.integer(static_cast<std::int64_t>(token.begin_characters));
  json.end_array().end_object();
}

void write_choice(JsonWriter& json, const OpenaiEnvelope& envelope, std::int64_t index, const std::string& text,
                  const std::vector<TokenText>& tokens, const std::optional<FinishReason>& reason) {
  json.begin_object().key("text").string(text).key("index").integer(index).key("logprobs");
  envelope.logprobs ? write_logprobs(json, tokens) : void(json.null());
  json.key("finish_reason");
  reason ? json.string(name_of(*reason)) : json.null();
  json.end_object();
}

std::string reply_json(const OpenaiEnvelope& envelope, const GenerationEnd& end) {
  JsonWriter json;
  begin_openai_object(json, envelope, kObject);
  json.key("choices").begin_array();
  for (std::size_t i = 0; i < end.choices.size(); ++i) {
    const ChoiceEnd& choice = end.choices[i];
    write_choice(json, envelope, static_cast<std::int64_t>(i), choice.text, choice.tokens, choice.reason);
  }
  json.end_array();
  write_openai_usage(json.key("usage"), end.usage);
  write_timings(json.key("timings"), end);
  return json.end_object().take();
}

std::vector<std::string> chunks_of(const OpenaiEnvelope& envelope, const GenerationEvent& event) {
  if (event.end) return openai_last_chunks(envelope, kObject, *event.end);
  JsonWriter json;
  begin_openai_object(json, envelope, kObject);
  json.key("choices").begin_array();
  write_choice(json, envelope, event.choice, event.text, event.tokens, event.finish);
  json.end_array();
  write_chunk_usage(json, envelope, event.usage);
  return {json.end_object().take()};
}

}  // namespace

void openai_completion(const OpenaiServices& services, const HttpRequest& request,
                       const std::shared_ptr<HttpReply>& reply) {
  const JsonBody document = JsonBody::parse(request.body);
  const JsonValue body = document.root();
  const OpenaiStreamOptions options = read_stream_options(body);
  const CompletionRequest completion = read_completion(body, request);
  GenerationCall call = services.completion.prepare(completion);
  call.keeps_tokens = !options.stream;
  const OpenaiEnvelope envelope{call.id, call.created_s, call.model, completion.logprobs, options};

  GenerationWords words;
  words.reply = [envelope](const GenerationEnd& end) { return reply_json(envelope, end); };
  words.chunks = [envelope](const GenerationEvent& event) { return chunks_of(envelope, event); };
  CompletionService& service = services.completion;
  GenerationSink sink = answer_generation({reply, Dialect::openai, request.id, options.stream}, std::move(words),
                                          call.model, services.metrics);
  service.run(std::move(call), std::move(sink));
  reply->on_disconnect([&service, id = envelope.id, owner = request.key_id] { service.cancel(id, owner); });
}

}  // namespace cortex
