// One request that generates, or one text of a request that encodes, as the scheduler knows it: its tokens, how many of
// them the KV blocks hold, and what its sampler remembers. Plain bookkeeping; owned by the scheduler, the engine thread
// only.
//
// Invariants:
//   1. tokens = prompt, then what was sampled; tokens[i] stands at position i;
//   2. 0 <= computed <= tokens.size(); positions below `computed` have their K and V in `blocks`;
//   3. while it runs, `blocks` has room for prompt + max_tokens positions.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "backend/step_plan.h"
#include "engine/engine.h"

namespace cortex {

// How often each token has come, kept as tokens come, so that a step never counts a history again.
class PenaltyCounts {
 public:
  void add_prompt(TokenId token) { ++entry(token).in_prompt; }
  void add_output(TokenId token) { ++entry(token).in_output; }
  std::span<const TokenCount> counts() const { return counts_; }  // [distinct tokens], by first appearance

 private:
  TokenCount& entry(TokenId token) {
    const auto [it, added] = index_.try_emplace(token, counts_.size());
    if (added) counts_.push_back({token, 0, 0});
    return counts_[it->second];
  }

  std::vector<TokenCount> counts_;
  std::unordered_map<TokenId, std::size_t> index_;
};

inline bool has_penalties(const SamplingParams& params) {
  return params.presence_penalty != 0.0f || params.frequency_penalty != 0.0f || params.repetition_penalty != 1.0f;
}

// A text of an EncodeRequest. It samples nothing; its last row is wanted: the state, or the log-probabilities of
// `scores` as the next token.
struct TextSequence {
  RequestId id = 0;       // the request's
  std::size_t index = 0;  // in EncodeRequest::texts
  std::vector<TokenId> tokens;
  std::span<const TokenId> scores;  // the request's, which outlives the sequence
  int priority = 0;
};

struct Sequence {
  Sequence(GenerateRequest new_request, std::uint64_t new_arrival)
      : request(std::move(new_request)), arrival(new_arrival), tokens(std::move(request.prompt)) {
    prompt_tokens = static_cast<int>(tokens.size());
    if (!has_penalties(request.sampling)) return;
    for (const TokenId token : tokens) counts.add_prompt(token);
  }
  Sequence(TextSequence new_text, std::uint64_t new_arrival)
      : arrival(new_arrival), tokens(std::move(new_text.tokens)), text(new_text.index), scores(new_text.scores) {
    request.id = new_text.id;
    request.priority = new_text.priority;
    prompt_tokens = static_cast<int>(tokens.size());
  }

  int remaining() const { return static_cast<int>(tokens.size()) - computed; }
  int output_tokens() const { return static_cast<int>(tokens.size()) - prompt_tokens; }
  // Its prompt is computed: one row a step from here on.
  bool decodes() const { return computed >= prompt_tokens; }

  GenerateRequest request;  // its prompt has moved into `tokens`
  std::uint64_t arrival;    // lower came earlier
  std::vector<TokenId> tokens;
  int prompt_tokens = 0;
  int computed = 0;
  std::vector<BlockId> blocks;
  PenaltyCounts counts;             // empty while the penalties are off
  std::optional<std::size_t> text;  // TextSequence::index
  std::span<const TokenId> scores;  // of a text
};

}  // namespace cortex
