// How often drafts have been right, by their source and by how much of the text before them had matched: what the odds
// of the next ones are taken from. A draft's later tokens count as drafts of longer matches. Every first token that was
// proposed is judged, even when it did not ride in the step: to learn costs nothing, so that a sequence whose drafts
// are wrong stops drafting and begins again when its drafts would be right. Old outcomes fade. Pure; the engine thread
// only.
#pragma once

#include <array>
#include <span>
#include <vector>

#include "engine/drafter.h"

namespace cortex {

class Acceptance {
 public:
  // What the sampler said, from the draft's first place on: as many of the drafts as it reached are judged.
  void judge(const Draft& draft, std::span<const TokenId> sampled);

  // Each draft's odds of being right together with all before it, [draft.tokens.size()] in (0, 1), falling: of a
  // sequence, by its own outcomes and, as far as these are few, by those of `all`.
  std::vector<double> odds(const Draft& draft, const Acceptance& all) const;

  // `kept` is the share of an outcome's weight that the next one of its kind leaves it.
  explicit Acceptance(double kept) : kept_(kept) {}

 private:
  static constexpr int kLengths = 8;  // 0, 1, 2, 3-4, 5-8, 9-16, 17-32, more

  struct Outcomes {
    double right = 0.0, all = 0.0;
  };

  static std::size_t cell(DraftSource source, int matched);

  double kept_;
  std::array<Outcomes, static_cast<std::size_t>(kDraftSources* kLengths)> outcomes_;
};

// Of a sequence the latest ten or so, of all together the latest hundred.
inline constexpr double kKeptOfSequence = 0.9;
inline constexpr double kKeptOfAll = 0.99;

}  // namespace cortex
