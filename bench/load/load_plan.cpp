#include "bench/load/load_plan.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "base/json_writer.h"
#include "bench/load/words.h"

namespace cortex {
namespace {

// What the seed is split for.
enum Stream : std::uint64_t { prefix_stream, arrival_stream, long_stream, embed_stream, chat_stream };

std::string prompt_of(const LoadOptions& options, std::uint64_t chat) {
  const int shared = std::min(options.prefix_tokens, options.prompt_tokens);
  std::string prompt = random_words(seed_of(options.seed, prefix_stream), shared);
  const int rest = options.prompt_tokens - shared;
  if (shared > 0 && rest > 0) prompt += ' ';
  return prompt + random_words(seed_of(seed_of(options.seed, chat_stream), chat), rest);
}

std::string chat_body(const LoadOptions& options, std::string_view prompt) {
  JsonWriter json;
  json.begin_object();
  if (!options.chat_model.empty()) json.key("model").string(options.chat_model);
  json.key("messages").begin_array().begin_object();
  json.key("role").string("user").key("content").string(prompt).end_object().end_array();
  json.key("stream").boolean(true).key("stream_options").begin_object();
  json.key("include_usage").boolean(true).end_object();
  json.key("max_tokens").integer(options.output_tokens).key("temperature").integer(0);
  if (options.ignore_eos) json.key("ignore_eos").boolean(true);
  if (!options.banned_tokens.empty()) {
    json.key("logit_bias").begin_object();
    for (const std::int64_t token : options.banned_tokens) json.key(std::to_string(token)).integer(-100);
    json.end_object();
  }
  return json.end_object().take();
}

std::string embed_body(const LoadOptions& options, int call) {
  const std::uint64_t seed = seed_of(seed_of(options.seed, embed_stream), static_cast<std::uint64_t>(call));
  JsonWriter json;
  json.begin_object();
  if (!options.embed_model.empty()) json.key("model").string(options.embed_model);
  json.key("texts").begin_array();
  for (int i = 0; i < options.embed_texts; ++i) {
    json.string(random_words(seed_of(seed, static_cast<std::uint64_t>(i)), options.embed_tokens));
  }
  return json.end_array().end_object().take();
}

// When each of the chats comes: at random, independently of one another, at a rate.
std::vector<double> random_starts_ms(const LoadOptions& options) {
  std::mt19937_64 random(seed_of(options.seed, arrival_stream));
  std::vector<double> starts;
  double now_ms = 0.0;
  for (int i = 0; i < options.chats; ++i) {
    const double uniform = static_cast<double>(random() >> 11) * 0x1p-53;  // [0, 1)
    now_ms += -std::log1p(-uniform) * 1000.0 / options.chats_per_second;
    starts.push_back(now_ms);
  }
  return starts;
}

}  // namespace

LoadPlan plan_load(const LoadOptions& options) {
  LoadPlan plan;
  std::vector<double> starts_ms(static_cast<std::size_t>(options.chats), 0.0);
  if (options.arrival == Arrival::poisson) starts_ms = random_starts_ms(options);
  for (std::size_t i = 0; i < starts_ms.size(); ++i) {
    plan.chats.push_back({.start_ms = starts_ms[i], .body = chat_body(options, prompt_of(options, i))});
  }
  plan.chats_are_a_queue = options.arrival == Arrival::one_after_another;
  if (options.long_tokens > 0) {
    const std::string prompt = random_words(seed_of(options.seed, long_stream), options.long_tokens);
    plan.long_chat = PlannedRequest{.start_ms = options.long_after_ms, .body = chat_body(options, prompt)};
  }
  for (int call = 0; call < options.embed_calls; ++call) {
    plan.embeds.push_back({.body = embed_body(options, options.embed_same_texts ? 0 : call)});
  }
  return plan;
}

}  // namespace cortex
