#include "backend/plan_check.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "base/error.h"

namespace cortex {
namespace {

template <typename... Args>
void require(bool holds, fmt::format_string<Args...> format, Args&&... args) {
  if (!holds) throw CheckFailure(fmt::format(format, std::forward<Args>(args)...));
}

void require_token(TokenId token, int vocabulary, std::string_view list, std::size_t index) {
  if (token >= 0 && token < vocabulary) return;
  throw Error(ErrorCode::invalid_token_id,
              fmt::format("{}[{}]: token id {} is not in 0..{}", list, index, token, vocabulary - 1));
}

void check_tokens(const StepPlan& plan, const PlanLimits& limits) {
  for (std::size_t i = 0; i < plan.tokens.size(); ++i) {
    const TokenId token = plan.tokens[i];
    if (token >= 0) {
      require_token(token, limits.vocabulary, "tokens", i);
      continue;
    }
    const std::int64_t index = -1 - static_cast<std::int64_t>(token);
    require(index < static_cast<std::int64_t>(limits.last_step.size()),
            "tokens[{}]: wanted row {} of the last step, which had {}", i, index, limits.last_step.size());
    require_token(limits.last_step[static_cast<std::size_t>(index)].token, limits.vocabulary, "tokens", i);
  }
}

void check_slice(const SequenceSlice& slice, std::size_t index, const PlanLimits& limits) {
  require(slice.rows >= 1, "slices[{}]: {} rows; at least 1", index, slice.rows);
  require(slice.start >= 0, "slices[{}]: starts at {}", index, slice.start);
  const std::int64_t end = static_cast<std::int64_t>(slice.start) + slice.rows;
  require(end <= limits.context_tokens, "slices[{}]: ends at position {}, the context has {}", index, end,
          limits.context_tokens);
  const std::int64_t needed = (end + kBlockTokens - 1) / kBlockTokens;
  require(static_cast<std::int64_t>(slice.blocks.size()) >= needed, "slices[{}]: {} blocks, {} needed", index,
          slice.blocks.size(), needed);
  for (std::int64_t i = 0; i < needed; ++i) {
    const BlockId block = slice.blocks[static_cast<std::size_t>(i)];
    require(block >= 0 && block < limits.kv_blocks, "slices[{}]: block {}, {} are reserved", index, block,
            limits.kv_blocks);
  }
}

void check_slices(const StepPlan& plan, const PlanLimits& limits) {
  std::int64_t rows = 0;
  for (std::size_t i = 0; i < plan.slices.size(); ++i) {
    const SequenceSlice& slice = plan.slices[i];
    require(slice.first_row == rows, "slices[{}]: first row {}, expected {}", i, slice.first_row, rows);
    check_slice(slice, i, limits);
    rows += slice.rows;
  }
  require(rows == static_cast<std::int64_t>(plan.tokens.size()), "{} tokens, {} rows in slices", plan.tokens.size(),
          rows);
}

void check_sampling(const RowSampling& sampling, std::size_t index, int vocabulary) {
  const SamplingParams& params = sampling.params;
  require(std::isfinite(params.temperature) && params.temperature >= 0.0f, "wanted[{}]: temperature {}", index,
          params.temperature);
  require(params.top_p > 0.0f && params.top_p <= 1.0f, "wanted[{}]: top_p {}", index, params.top_p);
  require(params.min_p >= 0.0f && params.min_p <= 1.0f, "wanted[{}]: min_p {}", index, params.min_p);
  require(params.top_k >= 0, "wanted[{}]: top_k {}", index, params.top_k);
  require(std::isfinite(params.repetition_penalty) && params.repetition_penalty > 0.0f,
          "wanted[{}]: repetition_penalty {}", index, params.repetition_penalty);
  require(std::isfinite(params.presence_penalty) && std::isfinite(params.frequency_penalty),
          "wanted[{}]: penalties {} and {}", index, params.presence_penalty, params.frequency_penalty);
  for (const auto& [token, bias] : sampling.logit_bias) {
    require_token(token, vocabulary, "wanted.logit_bias", index);
    require(std::isfinite(bias), "wanted[{}]: logit_bias {} of token {}", index, bias, token);
  }
  for (const TokenCount& count : sampling.counts) require_token(count.token, vocabulary, "wanted.counts", index);
}

void check_mask(std::span<const std::uint32_t> allowed, std::size_t index, int vocabulary) {
  if (allowed.empty()) return;
  const std::size_t words = (static_cast<std::size_t>(vocabulary) + 31) / 32;
  require(allowed.size() == words, "wanted[{}]: a mask of {} words, {} expected", index, allowed.size(), words);
  const std::uint32_t last_bits = vocabulary % 32 == 0 ? ~0u : (1u << (vocabulary % 32)) - 1u;
  const bool any = std::any_of(allowed.begin(), allowed.end() - 1, [](std::uint32_t word) { return word != 0; });
  require(any || (allowed.back() & last_bits) != 0, "wanted[{}]: the mask allows no token", index);
}

void check_wanted(const StepPlan& plan, int vocabulary) {
  int last_row = -1;
  for (std::size_t i = 0; i < plan.wanted.size(); ++i) {
    const WantedRow& wanted = plan.wanted[i];
    require(wanted.row > last_row && wanted.row < static_cast<int>(plan.tokens.size()),
            "wanted[{}]: row {} after row {} of {}", i, wanted.row, last_row, plan.tokens.size());
    last_row = wanted.row;
    require(wanted.top_logprobs >= 0, "wanted[{}]: top_logprobs {}", i, wanted.top_logprobs);
    for (const TokenId token : wanted.scores) require_token(token, vocabulary, "wanted.scores", i);
    if (!wanted.token) continue;
    check_sampling(wanted.sampling, i, vocabulary);
    check_mask(wanted.sampling.allowed, i, vocabulary);
  }
}

}  // namespace

void check_plan(const StepPlan& plan, const PlanLimits& limits) {
  check_slices(plan, limits);
  check_tokens(plan, limits);
  check_wanted(plan, limits.vocabulary);
}

std::vector<TokenId> resolved_tokens(const StepPlan& plan, std::span<const RowResult> last_step) {
  std::vector<TokenId> tokens = plan.tokens;
  for (TokenId& token : tokens) {
    if (token < 0) token = last_step[static_cast<std::size_t>(-1 - token)].token;
  }
  return tokens;
}

void check_texts(const PackedTexts& texts, const EncoderSpec& spec) {
  const std::size_t tokens = texts.tokens.size();
  require(!texts.starts.empty() && texts.starts.front() == 0, "starts: must begin with 0");
  require(static_cast<std::size_t>(texts.starts.back()) == tokens, "starts: ends at {}, there are {} tokens",
          texts.starts.back(), tokens);
  const int limit = spec.positions > 0 ? std::min(spec.context_tokens, spec.positions) : spec.context_tokens;
  for (std::size_t i = 0; i + 1 < texts.starts.size(); ++i) {
    const std::int64_t length = static_cast<std::int64_t>(texts.starts[i + 1]) - texts.starts[i];
    require(length >= 1 && length <= limit, "texts[{}]: {} tokens; 1 to {}", i, length, limit);
  }
  require(texts.types.empty() || texts.types.size() == tokens, "{} types, {} tokens", texts.types.size(), tokens);
  for (std::size_t i = 0; i < tokens; ++i) require_token(texts.tokens[i], spec.vocabulary, "tokens", i);
  const int types = std::max(spec.token_types, 1);  // 0 says nothing where there are none
  for (std::size_t i = 0; i < texts.types.size(); ++i) {
    require(texts.types[i] >= 0 && texts.types[i] < types, "types[{}]: {}; below {}", i, texts.types[i], types);
  }
}

void check_blocks(std::span<const BlockId> blocks, int kv_blocks) {
  for (const BlockId block : blocks) {
    require(block >= 0 && block < kv_blocks, "block {}, {} are reserved", block, kv_blocks);
  }
}

void check_block_bytes(std::span<const BlockId> blocks, std::size_t block_bytes, std::size_t bytes) {
  require(bytes == blocks.size() * block_bytes, "{} bytes for {} blocks of {}", bytes, blocks.size(), block_bytes);
}

}  // namespace cortex
