// What an engine is asked to compute, and what it answers: text generated token by token, texts encoded to vectors.
// Plain values: they cross to the worker process. Sinks are called as engine.h says.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "backend/step_plan.h"
#include "base/error.h"

namespace cortex {

using RequestId = std::uint64_t;  // made by the caller, unique in its engine's life

// What each id of a model's vocabulary adds to a text, and with which ids a text may end.
struct TokenTexts {
  std::vector<std::uint32_t> offsets;  // [ids + 1]; id i adds bytes[offsets[i]] to bytes[offsets[i + 1]]
  std::vector<char> bytes;
  std::vector<std::uint8_t> special;  // [ids]: 1 where a grammar can't mean the token by its bytes
  std::vector<TokenId> ends;          // the first of them stands for all in a grammar
};

enum class GrammarSyntax { json_schema, regex, lark };

// What a reply keeps to, from its first token to its last. A reply that max_tokens cut may lack its end.
struct Grammar {
  GrammarSyntax syntax = GrammarSyntax::json_schema;
  std::string text;
  std::shared_ptr<const TokenTexts> vocabulary;  // the model's; the same for all its requests
};

struct GenerateRequest {
  RequestId id = 0;
  std::string model;
  std::vector<TokenId> prompt;
  int max_tokens = 0;                  // 0 scores the prompt and samples nothing
  bool max_tokens_may_shrink = false;  // to what the KV space can hold behind the prompt, at least 1
  std::vector<TokenId> stop_ids;
  SamplingParams sampling;
  std::vector<std::pair<TokenId, float>> logit_bias;
  std::optional<Grammar> grammar;
  std::vector<TokenId> prediction;  // what the reply may say: a source of drafts, no more
  bool logprobs = false;            // of sampled tokens
  int top_logprobs = 0;             // the likeliest alternatives beside each, and beside each of the prompt's
  bool prompt_logprobs = false;     // of prompt[1..], as events before the first sampled token; takes no prefix hits
  bool explain = false;             // tells why no more of the prompt was found in KV
  int priority = 0;                 // -10..10, lower first
  std::string salt;                 // keeps cached blocks of tenants apart
  std::optional<std::chrono::milliseconds> timeout;  // from now; then deadline_exceeded
  std::string trace;                                 // the client's request id, for the log only
};

struct SampledToken {
  TokenId token = 0;
  float logprob = 0.0f;
  std::vector<TokenLogprob> top_logprobs;
};

enum class FinishReason { stop, length };

// Why a prompt's next block was not found.
enum class CacheMiss {
  first_use,          // nothing like it was computed
  diverged,           // what was computed has another token there
  evicted,            // it was there, and made room
  other_salt,         // only another tenant of the same key has it
  not_yet_written,    // a sequence that runs is computing it
  cheaper_to_compute  // it is on disk, but reading it would take longer
};
std::string_view name_of(CacheMiss miss);

struct CacheExplanation {
  std::optional<CacheMiss> miss;       // absent: all that can be found was
  std::optional<int> diverged_at;      // position of the first token that differs
  std::optional<TokenId> diverged_to;  // the prompt's token there
};

struct GenerateTimings {
  double queue_ms = 0.0;    // from submission to the first step
  double prefill_ms = 0.0;  // to the first token
  double decode_ms = 0.0;   // from the first token to the last
  int prompt_tokens = 0;
  int cached_tokens = 0;  // of the prompt, found in KV
  int cached_disk_tokens = 0;
  int draft_tokens = 0;
  int draft_accepted = 0;
  std::optional<CacheExplanation> cache;  // when it is asked for
};

// Some tokens, or the end. A failed request gets `error` as its only last event.
struct GenerateEvent {
  std::vector<float> prompt_logprobs;                          // the next ones of prompt[1..]
  std::vector<std::vector<TokenLogprob>> prompt_top_logprobs;  // as these, when top_logprobs are asked for
  std::vector<SampledToken> tokens;                            // a stop id is the last of them, with finish = stop
  std::optional<FinishReason> finish;
  std::optional<GenerateTimings> timings;  // so far with the first token, whole with finish
  std::optional<Error> error;

  bool last() const { return finish.has_value() || error.has_value(); }
};
using GenerateSink = std::function<void(GenerateEvent)>;

// Of an encoder the pooled states or, when it has a head, the logits; of a decoder the last token's state, or its
// log-probabilities of `scores` as the next token.
struct EncodeRequest {
  RequestId id = 0;
  std::string model;
  std::vector<std::vector<TokenId>> texts;       // special tokens included
  std::vector<std::vector<std::int32_t>> types;  // as texts, or empty: all 0; encoders only
  std::vector<TokenId> scores;                   // decoders only; empty: the state
  int priority = 0;
  std::string salt;
  std::optional<std::chrono::milliseconds> timeout;
  std::string trace;
};

struct EncodeReply {
  int dimensions = 0;
  std::vector<float> vectors;  // [texts, dimensions], not normalised
  double queue_ms = 0.0;
  double compute_ms = 0.0;
  std::optional<Error> error;
};
using EncodeSink = std::function<void(EncodeReply)>;

}  // namespace cortex
