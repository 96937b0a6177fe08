#include "engine/step_times.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "base/error.h"

namespace cortex {
namespace {

// A time that was seen once or twice may have been a hiccup: it counts for so many steps, then it is tried again.
constexpr int kSure = 3;
constexpr std::int64_t kSoon = 128;

using Vector = std::array<double, 3>;
using Matrix = std::array<Vector, 3>;

// Solves a symmetric positive definite system; a coefficient below 0 is left out and the others are solved again.
Vector solve_from_zero_up(const Matrix& squares, const Vector& products) {
  std::array<bool, 3> out = {};
  for (;;) {
    Matrix a = squares;
    Vector x = products;
    for (std::size_t i = 0; i < 3; ++i) {
      if (!out[i]) continue;
      for (std::size_t j = 0; j < 3; ++j) a[i][j] = a[j][i] = 0.0;
      a[i][i] = 1.0;
      x[i] = 0.0;
    }
    for (std::size_t i = 0; i < 3; ++i) {
      for (std::size_t j = i + 1; j < 3; ++j) {
        const double factor = a[j][i] / a[i][i];
        for (std::size_t k = i; k < 3; ++k) a[j][k] -= factor * a[i][k];
        x[j] -= factor * x[i];
      }
    }
    for (std::size_t i = 3; i-- > 0;) {
      for (std::size_t k = i + 1; k < 3; ++k) x[i] -= a[i][k] * x[k];
      x[i] /= a[i][i];
    }
    const auto least = std::min_element(x.begin(), x.end());
    if (*least >= 0.0) return x;
    out[static_cast<std::size_t>(least - x.begin())] = true;
  }
}

}  // namespace

void StepTimes::observe(const StepSize& size, double ms) {
  CORTEX_CHECK(size.rows > 0);
  if (!(ms > 0.0)) return;
  const int bucket = std::min(static_cast<int>(std::bit_width(static_cast<unsigned>(size.rows))) - 1, kSizes - 1);
  Latest& latest = latest_[static_cast<std::size_t>(bucket)];
  latest.kept[static_cast<std::size_t>(latest.next)] = {static_cast<double>(size.rows), static_cast<double>(size.seen),
                                                        ms};
  latest.next = (latest.next + 1) % kKept;
  latest.count = std::min(latest.count + 1, kKept);
  fit();
  ++steps_;
  if (size.sampled != size.rows || size.rows > kFew) return;
  Few& few = few_[static_cast<std::size_t>(size.rows)];
  if (steps_ - few.last > kLately) few.count = few.next = 0;
  few.ms[static_cast<std::size_t>(few.next)] = ms - seen_ms_ * static_cast<double>(size.seen);
  few.next = (few.next + 1) % kFewKept;
  few.count = std::min(few.count + 1, kFewKept);
  few.last = steps_;
}

double StepTimes::median_ms(int rows) const {
  const Few& few = few_[static_cast<std::size_t>(rows)];
  if (few.count == 0 || steps_ - few.last > (few.count < kSure ? kSoon : kLately)) return 0.0;
  std::array<double, kFewKept> halved = few.ms;
  const auto middle = halved.begin() + (few.count - 1) / 2;
  std::nth_element(halved.begin(), middle, halved.begin() + few.count);
  return *middle;
}

double StepTimes::predict_sampling_ms(const StepSize& size) const {
  // More rows never take less: the time of a size is at most that of any larger one.
  int below = 0, above = 0;
  double below_ms = 0.0, above_ms = 0.0;
  for (int rows = kFew; rows >= 1; --rows) {
    double ms = median_ms(rows);
    if (ms == 0.0) continue;
    if (above > 0 && above_ms < ms) ms = above_ms;
    if (rows < size.rows) {
      below = rows;
      below_ms = ms;
      break;
    }
    above = rows;
    above_ms = ms;
  }
  if (below == 0 && above == 0) return predict_ms(size);
  const double seen = seen_ms_ * static_cast<double>(size.seen);
  if (above == size.rows || below == 0) return above_ms + seen;
  if (above > 0) return below_ms + (above_ms - below_ms) * (size.rows - below) / (above - below) + seen;
  return below_ms + row_ms_ * (size.rows - below) + seen;
}

void StepTimes::fit() {
  // Relative errors: a row of the system is divided by its time. The diagonal's addition decides what the steps leave
  // open.
  Matrix squares = {};
  Vector products = {}, scale = {1.0, 1.0, 1000.0};  // so that no coefficient is tiny beside the others
  for (const Latest& latest : latest_) {
    for (int i = 0; i < latest.count; ++i) {
      const Observation& step = latest.kept[static_cast<std::size_t>(i)];
      const Vector row = {1.0 / step.ms, step.rows / step.ms, step.seen / scale[2] / step.ms};
      for (std::size_t j = 0; j < 3; ++j) {
        for (std::size_t k = 0; k < 3; ++k) squares[j][k] += row[j] * row[k];
        products[j] += row[j];
      }
    }
  }
  for (std::size_t j = 0; j < 3; ++j) squares[j][j] += 1e-9 * squares[j][j] + 1e-12;
  const Vector x = solve_from_zero_up(squares, products);
  fixed_ms_ = x[0];
  row_ms_ = x[1];
  seen_ms_ = x[2] / scale[2];
}

double StepTimes::predict_ms(const StepSize& size) const {
  return fixed_ms_ + row_ms_ * size.rows + seen_ms_ * static_cast<double>(size.seen);
}

int StepTimes::most_sampling_rows() const {
  int known = kFew;
  while (known > 0 && median_ms(known) == 0.0) --known;
  return known == kFew ? std::numeric_limits<int>::max() : 2 * known + 2;
}

int StepTimes::rows_within(double ms, const StepSize& size, int start, int most, int unit) const {
  const auto with = [&](int rows) {
    const StepSize added = slice_size(start, rows);
    return predict_ms({size.rows + rows, size.seen + added.seen});
  };
  if (with(most) <= ms) return most;
  int least = 0, above = (most + unit - 1) / unit;  // units: `least` fit, `above` do not
  while (above - least > 1) {
    const int middle = (least + above) / 2;
    (with(middle * unit) <= ms ? least : above) = middle;
  }
  return least * unit;
}

}  // namespace cortex
