#include "backend/expert_routing.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "base/error.h"

namespace cortex {
namespace {

// The largest logits' indices, largest first; ties to the lower index. What is not a number is never larger, so that
// any row gives `count` different ones.
std::vector<std::size_t> largest(std::span<const float> logits, int count) {
  std::vector<bool> taken(logits.size());
  std::vector<std::size_t> chosen;
  for (int i = 0; i < count; ++i) {
    auto best = static_cast<std::size_t>(std::find(taken.begin(), taken.end(), false) - taken.begin());
    for (std::size_t at = best + 1; at < logits.size(); ++at) {
      if (!taken[at] && logits[at] > logits[best]) best = at;
    }
    taken[best] = true;
    chosen.push_back(best);
  }
  return chosen;
}

// Softmax over all logits, or over the part alone where that is `normalised`; the values of the part.
std::vector<float> weights_of(std::span<const float> logits, std::span<const std::size_t> part, bool normalised) {
  const double top = logits[part.front()];
  const auto term = [&](float logit) { return std::exp(static_cast<double>(logit) - top); };
  double sum = 0.0;
  if (normalised) {
    for (const std::size_t expert : part) sum += term(logits[expert]);
  } else {
    for (const float logit : logits) sum += term(logit);
  }
  std::vector<float> weights;
  for (const std::size_t expert : part) weights.push_back(static_cast<float>(term(logits[expert]) / sum));
  return weights;
}

}  // namespace

std::vector<ExpertRows> route(std::span<const float> logits, const ExpertsSpec& spec) {
  CORTEX_CHECK(spec.per_token >= 1 && spec.per_token <= spec.count);
  const auto count = static_cast<std::size_t>(spec.count);
  CORTEX_CHECK(logits.size() % count == 0);
  std::vector<ExpertRows> experts(count);
  for (std::size_t row = 0; row < logits.size() / count; ++row) {
    const std::span<const float> mine = logits.subspan(row * count, count);
    const std::vector<std::size_t> chosen = largest(mine, spec.per_token);
    const std::vector<float> weights = weights_of(mine, chosen, spec.normalised);
    for (std::size_t i = 0; i < chosen.size(); ++i) {
      experts[chosen[i]].rows.push_back(static_cast<std::int32_t>(row));
      experts[chosen[i]].weights.push_back(weights[i]);
    }
  }
  for (std::size_t i = 0; i < count; ++i) experts[i].expert = static_cast<int>(i);
  std::erase_if(experts, [](const ExpertRows& expert) { return expert.rows.empty(); });
  return experts;
}

}  // namespace cortex
