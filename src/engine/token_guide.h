// Says which tokens may come next in one sequence, where its reply keeps to a grammar. Made off the engine thread by
// whoever compiles grammars; then owned by the sequence, its scheduler's thread only. Between steps it stands behind
// the sequence's last token; while a step is planned it runs ahead over the drafts, and is taken back to what was
// sampled.
#pragma once

#include <cstdint>
#include <vector>

#include "backend/step_plan.h"

namespace cortex {

class TokenGuide {
 public:
  virtual ~TokenGuide() = default;
  // The tokens that may come next, as RowSampling::allowed has them: a bit per token of the model's vocabulary, at
  // least one set. Throws Error invalid_grammar when that takes more than its limits allow.
  virtual void allow(std::vector<std::uint32_t>* mask) = 0;
  // The sequence goes on with this token. False where it may not come: then nothing has changed.
  virtual bool push(TokenId token) = 0;
  // Takes back the last `tokens` that were pushed.
  virtual void pop(int tokens) = 0;
  // Tokens that spell what must come next whatever is sampled, at most so many; maybe none. The sampler may spell the
  // same text by others.
  virtual std::vector<TokenId> forced(int most) = 0;
};

}  // namespace cortex
