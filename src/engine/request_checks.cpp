#include "engine/request_checks.h"

#include <fmt/core.h>

#include <cmath>
#include <span>

namespace cortex {
namespace {

void check_ids(std::span<const TokenId> ids, int vocabulary, const std::string& where) {
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] >= 0 && ids[i] < vocabulary) continue;
    throw Error(ErrorCode::invalid_token_id,
                fmt::format("{}[{}]: token id {} is not in the vocabulary of {}", where, i, ids[i], vocabulary),
                fmt::format("{}[{}]", where, i));
  }
}

void check_range(bool ok, const char* name, double value, const char* range) {
  if (ok) return;
  throw Error(ErrorCode::invalid_value, fmt::format("{}: {} is not in {}", name, value, range), name);
}

// A comparison with NaN is false, so each of these refuses it too.
void check_sampling(const SamplingParams& params) {
  const auto finite = [](float value) { return std::isfinite(value); };
  check_range(params.temperature >= 0.0f && finite(params.temperature), "temperature", params.temperature, "[0, inf)");
  check_range(params.top_p > 0.0f && params.top_p <= 1.0f, "top_p", params.top_p, "(0, 1]");
  check_range(params.min_p >= 0.0f && params.min_p <= 1.0f, "min_p", params.min_p, "[0, 1]");
  check_range(params.top_k >= 0, "top_k", params.top_k, "[0, 2^31)");
  check_range(finite(params.presence_penalty), "presence_penalty", params.presence_penalty, "(-inf, inf)");
  check_range(finite(params.frequency_penalty), "frequency_penalty", params.frequency_penalty, "(-inf, inf)");
  check_range(params.repetition_penalty > 0.0f && finite(params.repetition_penalty), "repetition_penalty",
              params.repetition_penalty, "(0, inf)");
}

}  // namespace

void check_request(const GenerateRequest& request, const RequestLimits& limits) {
  if (request.prompt.empty()) throw Error(ErrorCode::empty_input, "prompt: it has no tokens", "prompt");
  check_range(request.max_tokens >= 0, "max_tokens", request.max_tokens, "[0, 2^31)");
  check_range(request.top_logprobs >= 0 && request.top_logprobs <= limits.vocabulary, "top_logprobs",
              request.top_logprobs, "[0, vocabulary]");
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
  for (const auto& [token, bias] : request.logit_bias) {
    check_ids(std::span(&token, 1), limits.vocabulary, "logit_bias");
    check_range(std::isfinite(bias), "logit_bias", bias, "(-inf, inf)");
  }
}

void check_request(const EncodeRequest& request, const RequestLimits& limits) {
  if (request.texts.empty()) throw Error(ErrorCode::empty_input, "texts: there are none", "texts");
  if (!request.types.empty() && request.types.size() != request.texts.size()) {
    throw Error(ErrorCode::invalid_value,
                fmt::format("types: {} lists for {} texts", request.types.size(), request.texts.size()), "types");
  }
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
