#include "engine/request_checks.h"

#include <fmt/core.h>

#include <algorithm>
#include <limits>
#include <span>

namespace cortex {
namespace {

constexpr int kMostTopLogprobs = 20;
constexpr float kMostBias = 100.0f;
constexpr float kMostPenalty = 2.0f;
constexpr float kMostTemperature = 2.0f;
// A positive logit is divided by the repetition penalty: it must stay finite.
constexpr float kLeastRepetitionPenalty = 0.001f;

void check_id(TokenId id, int vocabulary, const std::string& where) {
  if (id >= 0 && id < vocabulary) return;
  throw Error(ErrorCode::invalid_token_id,
              fmt::format("{}: token id {} is not in the vocabulary of {}", where, id, vocabulary), where);
}

void check_ids(std::span<const TokenId> ids, int vocabulary, const std::string& where) {
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] >= 0 && ids[i] < vocabulary) continue;
    check_id(ids[i], vocabulary, fmt::format("{}[{}]", where, i));
  }
}

template <typename Number>
[[noreturn]] void refuse(const std::string& where, Number value, const std::string& range) {
  throw Error(ErrorCode::invalid_value, fmt::format("{}: {} is not in {}", where, value, range), where);
}

// A comparison with NaN is false, so this refuses it too.
template <typename Number>
void check_range(const std::string& where, Number value, Number least, Number most) {
  if (value >= least && value <= most) return;
  refuse(where, value, fmt::format("[{}, {}]", least, most));
}

void check_sampling(const SamplingParams& params) {
  check_range("temperature", params.temperature, 0.0f, kMostTemperature);
  if (!(params.top_p > 0.0f && params.top_p <= 1.0f)) refuse("top_p", params.top_p, "(0, 1]");
  check_range("min_p", params.min_p, 0.0f, 1.0f);
  check_range("top_k", params.top_k, 0, std::numeric_limits<int>::max());
  check_range("presence_penalty", params.presence_penalty, -kMostPenalty, kMostPenalty);
  check_range("frequency_penalty", params.frequency_penalty, -kMostPenalty, kMostPenalty);
  check_range("repetition_penalty", params.repetition_penalty, kLeastRepetitionPenalty, kMostPenalty);
}

}  // namespace

void check_request(const GenerateRequest& request, const RequestLimits& limits) {
  if (request.prompt.empty()) throw Error(ErrorCode::empty_input, "prompt: it has no tokens", "prompt");
  check_range("max_tokens", request.max_tokens, 0, std::numeric_limits<int>::max());
  check_range("top_logprobs", request.top_logprobs, 0, std::min(kMostTopLogprobs, limits.vocabulary));
  check_sampling(request.sampling);
  const std::size_t tokens = request.prompt.size() + static_cast<std::size_t>(request.max_tokens);
  if (tokens > static_cast<std::size_t>(limits.context_tokens)) {
    throw Error(
        ErrorCode::context_length_exceeded,
        fmt::format("This model's maximum context length is {} tokens. The request comes to {}: {} in its prompt "
                    "and {} to generate.",
                    limits.context_tokens, tokens, request.prompt.size(), request.max_tokens),
        "prompt");
  }
  check_ids(request.prompt, limits.vocabulary, "prompt");
  for (std::size_t i = 0; i < request.logit_bias.size(); ++i) {
    const auto& [token, bias] = request.logit_bias[i];
    const std::string where = fmt::format("logit_bias[{}]", i);
    check_id(token, limits.vocabulary, where);
    check_range(where, bias, -kMostBias, kMostBias);
  }
}

void check_request(const EncodeRequest& request, const RequestLimits& limits) {
  if (request.texts.empty()) throw Error(ErrorCode::empty_input, "texts: there are none", "texts");
  if (!request.types.empty() && request.types.size() != request.texts.size()) {
    throw Error(ErrorCode::invalid_value,
                fmt::format("types: {} lists for {} texts", request.types.size(), request.texts.size()), "types");
  }
  if (!request.scores.empty() && !limits.decoder) {
    throw Error(ErrorCode::invalid_value, "scores: this model gives no probabilities of tokens", "scores");
  }
  check_ids(request.scores, limits.vocabulary, "scores");
  for (std::size_t i = 0; i < request.texts.size(); ++i) {
    const auto& text = request.texts[i];
    const std::string where = fmt::format("texts[{}]", i);
    if (text.empty()) throw Error(ErrorCode::empty_input, where + ": it has no tokens", where);
    if (text.size() > static_cast<std::size_t>(limits.context_tokens)) {
      throw Error(ErrorCode::context_length_exceeded,
                  fmt::format("This model's maximum context length is {} tokens. {} has {}.", limits.context_tokens,
                              where, text.size()),
                  where);
    }
    check_ids(text, limits.vocabulary, where);
    if (request.types.empty()) continue;
    const auto& types = request.types[i];
    bool good = types.size() == text.size();
    for (const std::int32_t type : types) good = good && type >= 0 && type < limits.token_types;
    if (!good) {
      throw Error(
          ErrorCode::invalid_value,
          fmt::format("types[{}]: not one type in [0, {}) for each of {} tokens", i, limits.token_types, text.size()),
          fmt::format("types[{}]", i));
    }
  }
}

}  // namespace cortex
