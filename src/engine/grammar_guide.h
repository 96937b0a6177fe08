// The guide of a sequence whose reply keeps to a grammar: TokenGuide over a matcher, which adds with what a reply may
// end. Owned by the sequence, its scheduler's thread only.
#pragma once

#include <memory>
#include <vector>

#include "engine/token_guide.h"
#include "text/grammar.h"

namespace cortex {

// What the masks of a model have taken. The engine thread only.
struct MaskCosts {
  std::uint64_t masks = 0;
  double ms = 0.0;
};

class GrammarGuide : public TokenGuide {
 public:
  // Where the text may end, any of `ends` may come, and nothing behind it; those outside the model's vocabulary never
  // do. Before, a token of them that a grammar could take for text may come only where nothing else may.
  GrammarGuide(const CompiledGrammar& grammar, int vocabulary, std::vector<TokenId> ends,
               std::shared_ptr<MaskCosts> costs);

  void allow(std::vector<std::uint32_t>* mask) override;
  bool push(TokenId token) override;
  void pop(int tokens) override;
  std::vector<TokenId> forced(int most) override;

 private:
  bool is_end(TokenId token) const;

  GrammarMatcher matcher_;
  const int vocabulary_;
  const std::vector<TokenId> ends_;  // ascending
  const std::shared_ptr<MaskCosts> costs_;
  bool ended_ = false;
};

}  // namespace cortex
