// One request that generates, or one text of a request that encodes, as the scheduler knows it: its tokens, how many of
// them the KV blocks hold, and what its sampler remembers. Plain bookkeeping; owned by the scheduler, the engine thread
// only.
//
// Invariants:
//   1. tokens = prompt, then what was sampled; tokens[i] stands at position i;
//   2. 0 <= computed <= tokens.size(); positions below `computed` have their K and V in `blocks`;
//   3. while it waits, it has no blocks and nothing is computed; from then on `blocks` has room for the tokens that it
//      started with, for those that came until its last step was planned and, within a step, for its drafts;
//   4. 0 <= published <= computed / kBlockTokens <= keys.size() <= tokens.size() / kBlockTokens; blocks below
//      `published` hold what their keys say;
//   5. drafts are no part of it: what blocks hold of them is behind `computed`, and is written anew before it is read.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "backend/step_plan.h"
#include "engine/acceptance.h"
#include "engine/request.h"
#include "engine/token_guide.h"
#include "kv/block_hash.h"

namespace cortex {

// How often each token has come, kept as tokens come, so that a step never counts a history again.
class PenaltyCounts {
 public:
  void add_prompt(TokenId token) { ++entry(token).in_prompt; }
  void add_output(TokenId token) { ++entry(token).in_output; }
  std::span<const TokenCount> counts() const { return counts_; }  // [distinct tokens], by first appearance
  // As counts() would be once these had come.
  std::vector<TokenCount> counts_with(std::span<const TokenId> output) const {
    std::vector<TokenCount> counts = counts_;
    for (const TokenId token : output) {
      const auto known = index_.find(token);
      auto it = known != index_.end() ? counts.begin() + static_cast<std::ptrdiff_t>(known->second)
                                      : std::ranges::find(counts, token, &TokenCount::token);
      if (it == counts.end()) it = counts.insert(it, {token, 0, 0});
      ++it->in_output;
    }
    return counts;
  }

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
  std::string salt;
};

// How much of a sequence's tokens was found when it first started.
struct PrefixHit {
  int memory_tokens = 0;
  int disk_tokens = 0;
  std::optional<CacheExplanation> explanation;  // when it is asked for
};

struct Sequence {
  Sequence(std::uint64_t new_arrival, GenerateRequest new_request, std::unique_ptr<TokenGuide> new_guide)
      : request(std::move(new_request)),
        arrival(new_arrival),
        tokens(std::move(request.prompt)),
        guide(std::move(new_guide)) {
    prompt_tokens = static_cast<int>(tokens.size());
    if (!has_penalties(request.sampling)) return;
    for (const TokenId token : tokens) counts.add_prompt(token);
  }
  Sequence(std::uint64_t new_arrival, TextSequence new_text)
      : arrival(new_arrival), tokens(std::move(new_text.tokens)), text(new_text.index), scores(new_text.scores) {
    request.id = new_text.id;
    request.priority = new_text.priority;
    request.salt = std::move(new_text.salt);
    prompt_tokens = static_cast<int>(tokens.size());
  }

  int remaining() const { return static_cast<int>(tokens.size()) - computed; }
  int output_tokens() const { return static_cast<int>(tokens.size()) - prompt_tokens; }
  // The row of its last token chooses the next one.
  bool samples() const { return !text && request.max_tokens > 0; }
  // A single row is left: it rides in every step.
  bool decodes() const { return remaining() == 1; }
  // What was computed for another may stand for its own: not where the log-probability of each prompt token is wanted.
  bool reuses() const { return !request.prompt_logprobs; }

  GenerateRequest request;  // its prompt has moved into `tokens`
  std::uint64_t arrival;    // lower came earlier
  std::vector<TokenId> tokens;
  int prompt_tokens = 0;
  int computed = 0;
  std::vector<BlockId> blocks;
  std::optional<double> waits_since_ms;  // by StepTime::now_ms; absent until a step has been planned without it
  int scored = 0;                        // prompt positions whose log-probabilities have been told

  BlockKey root, kin_root;               // PrefixReuse's
  std::vector<BlockKey> keys;            // of full blocks of tokens, as far as they were needed
  std::vector<BlockKey> kin_keys;        // as keys, see PrefixIndex::Link::kin
  int published = 0;                     // blocks that the index has, or has another one for
  int announced = 0;                     // blocks up to here that others wait for
  int kept = 0;                          // blocks that have been offered to the tier below
  std::optional<std::uint64_t> restore;  // being read from the tier below: no step until that is over
  bool started_before = false;
  PrefixHit hit;

  PenaltyCounts counts;             // empty while the penalties are off
  std::optional<std::size_t> text;  // TextSequence::index
  std::span<const TokenId> scores;  // of a text

  std::unique_ptr<TokenGuide> guide;  // where the reply keeps to a grammar; stands behind the last token
  std::optional<Error> failed;        // it threw: the sequence is to end
  bool drafts = true;                 // until a drafter throws
  Acceptance acceptance{kKeptOfSequence};
  int draft_tokens = 0, draft_accepted = 0;
};

}  // namespace cortex
