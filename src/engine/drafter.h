// Guesses how sequences go on. What it guesses rides as extra rows in the ordinary step, and counts only where the
// target samples the same: a drafter that is wrong costs time, never what is said. One a decoder, owned by its
// scheduler, the engine thread only. SuffixDrafter guesses from text that was there before; a small model would be
// another one.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "backend/step_plan.h"

namespace cortex {

// A sequence as it stands. Its tokens only ever grow, so that a drafter may keep what it has read of them.
struct DraftContext {
  std::uint64_t sequence = 0;           // unique in the scheduler's life
  std::span<const TokenId> tokens;      // prompt and output
  std::size_t prompt_tokens = 0;        // of these
  std::span<const TokenId> prediction;  // what the client says the output may be
  std::string_view salt;                // nothing is shared between sequences of different salts
};

// Where a draft comes from, which says how far it is to be trusted.
enum class DraftSource { context, prediction, outputs, nearby, grammar };
inline constexpr int kDraftSources = 5;

struct Draft {
  std::vector<TokenId> tokens;  // that may come after the last one, in order; empty: no idea
  DraftSource source = DraftSource::context;
  int matched = 0;  // tokens before these that were alike where they were found; the more, the likelier
};

class Drafter {
 public:
  virtual ~Drafter() = default;
  // At most `most` tokens, at least 1. What it throws ends the sequence's drafts, not the sequence.
  virtual Draft propose(const DraftContext& context, int most) = 0;
  // The sequence has ended, by itself or because nobody wants more. It need not have been heard of.
  virtual void finish(const DraftContext& context) = 0;
  // The sequence is gone. Allocates nothing.
  virtual void forget(std::uint64_t sequence) noexcept = 0;
};

}  // namespace cortex
