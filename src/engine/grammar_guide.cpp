#include "engine/grammar_guide.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/clock.h"
#include "base/error.h"

namespace cortex {
namespace {

constexpr int kWordBits = 32;

std::vector<TokenId> in_order(std::vector<TokenId> ends, int vocabulary) {
  std::erase_if(ends, [&](TokenId id) { return id < 0 || id >= vocabulary; });
  std::ranges::sort(ends);
  const auto repeated = std::ranges::unique(ends);
  ends.erase(repeated.begin(), repeated.end());
  return ends;
}

std::uint32_t bit_of(TokenId token) { return std::uint32_t{1} << (token % kWordBits); }

std::uint32_t& word_of(std::vector<std::uint32_t>* mask, TokenId token) {
  return (*mask)[static_cast<std::size_t>(token / kWordBits)];
}

bool has_any(const std::vector<std::uint32_t>& mask) {
  return std::ranges::any_of(mask, [](std::uint32_t word) { return word != 0; });
}

}  // namespace

GrammarGuide::GrammarGuide(const CompiledGrammar& grammar, int vocabulary, std::vector<TokenId> ends,
                           std::shared_ptr<MaskCosts> costs)
    : matcher_(grammar),
      vocabulary_(vocabulary),
      ends_(in_order(std::move(ends), vocabulary)),
      costs_(std::move(costs)) {}

void GrammarGuide::allow(std::vector<std::uint32_t>* mask) {
  CORTEX_CHECK(!ended_);
  const auto begin = std::chrono::steady_clock::now();
  mask->resize(static_cast<std::size_t>((vocabulary_ + kWordBits - 1) / kWordBits));
  const bool may_end = matcher_.allow(*mask);
  // The model may have fewer tokens than its tokenizer.
  if (vocabulary_ % kWordBits != 0) mask->back() &= (std::uint32_t{1} << (vocabulary_ % kWordBits)) - 1;
  if (may_end) {
    for (const TokenId end : ends_) word_of(mask, end) |= bit_of(end);
  } else if (std::ranges::any_of(ends_, [&](TokenId end) { return (word_of(mask, end) & bit_of(end)) != 0; })) {
    std::vector<std::uint32_t> others = *mask;
    for (const TokenId end : ends_) word_of(&others, end) &= ~bit_of(end);
    if (has_any(others)) *mask = std::move(others);
  }
  ++costs_->masks;
  costs_->ms += milliseconds_between(begin, std::chrono::steady_clock::now());
  if (has_any(*mask)) return;
  throw Error(ErrorCode::invalid_grammar, may_end ? "the reply is complete, but the model has no token to end it with"
                                                  : "the model has no token with which the reply could go on");
}

bool GrammarGuide::push(TokenId token) {
  if (ended_) return false;
  if (is_end(token) && matcher_.may_end()) {
    ended_ = true;
    return true;
  }
  return token < vocabulary_ && matcher_.push(token);
}

void GrammarGuide::pop(int tokens) {
  if (tokens > 0 && ended_) {
    ended_ = false;
    --tokens;
  }
  if (tokens > 0) matcher_.pop(tokens);
}

std::vector<TokenId> GrammarGuide::forced(int most) {
  if (ended_ || most <= 0) return {};
  return matcher_.forced(most);
}

bool GrammarGuide::is_end(TokenId token) const { return std::ranges::binary_search(ends_, token); }

}  // namespace cortex
