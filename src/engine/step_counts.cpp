#include "engine/step_counts.h"

#include <algorithm>
#include <functional>

#include "base/error.h"

namespace cortex {

std::string_view name_of(StepKind kind) {
  switch (kind) {
    case StepKind::prompt:
      return "prompt";
    case StepKind::decode:
      return "decode";
    case StepKind::mixed:
      return "mixed";
    case StepKind::encode:
      return "encode";
  }
  check_failed("a StepKind of the enumeration", __FILE__, __LINE__);
}

void StepHistogram::observe(const StepBounds& bounds, double value) {
  ++buckets[static_cast<std::size_t>(std::ranges::lower_bound(bounds, value) - bounds.begin())];
  sum += value;
}

bool StepHistogram::is_part_of(const StepHistogram& later) const {
  return std::ranges::equal(buckets, later.buckets, std::ranges::less_equal()) && sum <= later.sum;
}

void StepCounts::observe(StepKind kind, double seconds, int tokens) {
  StepCount& count = kinds[static_cast<std::size_t>(kind)];
  count.seconds.observe(kStepSecondsBounds, seconds);
  count.tokens.observe(kStepTokensBounds, tokens);
}

}  // namespace cortex
