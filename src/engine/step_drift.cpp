#include "engine/step_drift.h"

#include <algorithm>
#include <bit>

namespace cortex {
namespace {

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::ranges::nth_element(values, middle);
  return *middle;
}

// Sizes within a quarter of each other's power of two are one.
int bucket_of(std::uint64_t value) {
  const int power = std::bit_width(value);
  return power < 3 ? static_cast<int>(value) : 4 * power + static_cast<int>(value >> (power - 3) & 3);
}

}  // namespace

void StepDrift::observe(const Source& source, const StepSize& size, double ms, double now_s) {
  if (!(ms > 0.0)) return;
  Table& table = tables_[source.model];
  if (table.load != source.load) table = {.load = source.load, .steps = 0, .first_ms = {}};
  if (table.steps++ < kWarmUp) return;
  // What rows see counts for little beside the rows themselves, but in long contexts: powers of two of it will do.
  const std::pair key(bucket_of(static_cast<std::uint64_t>(size.rows)),
                      std::bit_width(static_cast<std::uint64_t>(size.seen) >> 10));
  std::vector<double>& first = table.first_ms[key];
  if (first.size() < kCalibration) {
    first.push_back(ms);
    if (first.size() == kCalibration) first = std::vector(kCalibration, median(first));
    return;
  }
  while (!recent_.empty() && (recent_.size() >= kKept || now_s - recent_.front().at_s > kWindowS)) recent_.pop_front();
  recent_.push_back({now_s, ms / first.front()});
}

double StepDrift::ratio(double now_s) const {
  std::vector<double> ratios;
  for (const Recent& step : recent_) {
    if (now_s - step.at_s <= kWindowS) ratios.push_back(step.ratio);
  }
  return ratios.size() < kFewest ? 0.0 : median(std::move(ratios));
}

}  // namespace cortex
