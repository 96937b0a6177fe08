// How many drafts ride in a step: as many as make it give the most tokens a millisecond. All sequences ride in one
// step, so a draft's row costs everybody: where rows are dear, as under load, none is worth it. Pure; the engine thread
// only.
#pragma once

#include <functional>
#include <span>
#include <vector>

namespace cortex {

inline constexpr int kMostDrafts = 32;  // of a sequence in a step

// `odds` [sequences][proposed drafts]: each draft's odds of being right together with all before it, falling. Of every
// sequence one token is certain. step_ms(n) is how long the step takes with n drafts, 0 where nobody knows yet; at most
// `most` may ride, and the step may take `limit_ms`. Of every sequence's drafts [sequences] so many, the first ones.
std::vector<int> draft_lengths(std::span<const std::vector<double>> odds, int most, double limit_ms,
                               const std::function<double(int drafts)>& step_ms);

}  // namespace cortex
