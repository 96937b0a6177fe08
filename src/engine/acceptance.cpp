#include "engine/acceptance.h"

#include <algorithm>
#include <bit>

namespace cortex {
namespace {

// What a match of each length is worth before anything is known, and how many outcomes outweigh that.
constexpr std::array<double, 8> kFirstOdds = {0.1, 0.2, 0.3, 0.45, 0.6, 0.75, 0.85, 0.9};
constexpr double kFirstOddsOfGrammar = 0.95;
constexpr double kFirstWeight = 2.0;
constexpr double kWeightOfAll = 2.0;

constexpr int kLongest = 1 << 16;  // more is no more

int length_class(int matched) {
  if (matched <= 2) return std::max(matched, 0);
  return std::min(static_cast<int>(std::bit_width(static_cast<unsigned>(matched - 1))) + 1, 7);
}

}  // namespace

std::size_t Acceptance::cell(DraftSource source, int matched) {
  return static_cast<std::size_t>(source) * kLengths + static_cast<std::size_t>(length_class(matched));
}

void Acceptance::judge(const Draft& draft, std::span<const TokenId> sampled) {
  const std::size_t reached = std::min(draft.tokens.size(), sampled.size());
  for (std::size_t i = 0; i < reached; ++i) {
    Outcomes& outcomes = outcomes_[cell(draft.source, std::min(draft.matched, kLongest) + static_cast<int>(i))];
    const bool right = draft.tokens[i] == sampled[i];
    outcomes.all = outcomes.all * kept_ + 1.0;
    outcomes.right = outcomes.right * kept_ + (right ? 1.0 : 0.0);
    if (!right) return;
  }
}

std::vector<double> Acceptance::odds(const Draft& draft, const Acceptance& all) const {
  std::vector<double> odds(draft.tokens.size());
  double together = 1.0;
  for (std::size_t i = 0; i < odds.size(); ++i) {
    const int matched = std::min(draft.matched, kLongest) + static_cast<int>(i);
    const std::size_t index = cell(draft.source, matched);
    const Outcomes &own = outcomes_[index], &others = all.outcomes_[index];
    const double first = draft.source == DraftSource::grammar
                             ? kFirstOddsOfGrammar
                             : kFirstOdds[static_cast<std::size_t>(length_class(matched))];
    const double known = (others.right + kFirstWeight * first) / (others.all + kFirstWeight);
    together *= (own.right + kWeightOfAll * known) / (own.all + kWeightOfAll);
    odds[i] = together;
  }
  return odds;
}

}  // namespace cortex
