// What every request for generated text may say, whatever its prompt is, and how that becomes the engine's request.
// Plain values and pure functions; any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "service/models.h"

namespace cortex {

// What a request may say of sampling; what it leaves open is the model's choice, then the built-in one.
struct SamplingChoice {
  std::optional<float> temperature, top_p, min_p, presence_penalty, frequency_penalty, repetition_penalty;
  std::optional<int> top_k;
  std::optional<std::int64_t> seed;
};

struct GenerationOptions {
  SamplingChoice sampling;
  std::optional<int> max_tokens;        // absent: as many as the context has room for,
  std::optional<int> usual_max_tokens;  // but no more than this
  std::vector<std::string> stop;
  std::vector<std::pair<std::int64_t, float>> logit_bias;
  bool logprobs = false;
  int top_logprobs = 0;
  bool explain = false;    // tells what the KV cache had of the prompt, and why no more
  int n = 1;               // texts for each prompt
  std::string prediction;  // what the text may say: drafts are taken from it
  int priority = 0;
  std::optional<std::chrono::milliseconds> timeout;
  std::string salt;
  std::string owner;  // whose key asks: conversations and cancels are theirs
  std::string trace;
};

// The engine's request for the first text of a prompt, without an id. `param` names the prompt in messages. Throws
// Error invalid_token_id for a bias outside the vocabulary, context_length_exceeded, request_too_large for a prediction
// beyond the limit of texts.
GenerateRequest make_generate_request(const ServedModel& model, const GenerationOptions& options,
                                      std::vector<TokenId> prompt, std::string_view param);

}  // namespace cortex
