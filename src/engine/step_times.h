// How long a step of one model takes, learnt from the steps that were measured: a + b * rows + c * positions that its
// rows see, fitted to the latest steps of each size so that errors count by their share. It is what turns a budget of
// milliseconds into rows. Steps of a few rows that all sample are known by their own times too, since what one row more
// costs there is far from a line. Pure: no clock; owned by the decoder's scheduler or the encoder's slot, the engine
// thread only.
#pragma once

#include <array>
#include <cstdint>

namespace cortex {

// What a step does, as far as its time goes.
struct StepSize {
  int rows = 0;
  std::int64_t seen = 0;  // over the rows, positions that each attends to
  int sampled = 0;        // rows whose token is chosen
};

// Of `rows` rows of a sequence from position `start` on.
constexpr StepSize slice_size(int start, int rows) {
  return {rows, static_cast<std::int64_t>(rows) * start + static_cast<std::int64_t>(rows) * (rows + 1) / 2};
}

class StepTimes {
 public:
  void observe(const StepSize& size, double ms);

  // 0 until something has been observed.
  double predict_ms(const StepSize& size) const;

  // Of a step whose rows all sample: by the median of the latest such steps of so many rows, between those of fewer and
  // more. A size that has not been seen lately is taken to cost what it can't but cost, so that it is tried.
  double predict_sampling_ms(const StepSize& size) const;

  // The most rows of such a step that are not far beyond what has been seen lately.
  int most_sampling_rows() const;

  // Of a sequence at `start`, the most rows up to `most` that a step of `size` may take along for `ms` in all; a
  // multiple of `unit`, or `most`. All of them until something has been observed.
  int rows_within(double ms, const StepSize& size, int start, int most, int unit) const;

 private:
  static constexpr int kSizes = 17;  // powers of two of rows
  static constexpr int kKept = 8;    // of each
  static constexpr int kFew = 64;    // rows of a step that is known by its own time
  static constexpr int kFewKept = 5;
  static constexpr std::int64_t kLately = 512;  // steps

  struct Observation {
    double rows = 0.0, seen = 0.0, ms = 0.0;
  };
  struct Latest {
    std::array<Observation, kKept> kept;
    int count = 0, next = 0;
  };

  // Of steps with one number of rows, without what their rows see.
  struct Few {
    std::array<double, kFewKept> ms = {};
    int count = 0, next = 0;
    std::int64_t last = 0;  // step
  };

  void fit();
  double median_ms(int rows) const;  // 0 when it is not known lately

  std::array<Latest, kSizes> latest_;
  std::array<Few, kFew + 1> few_;
  std::int64_t steps_ = 0;
  double fixed_ms_ = 0.0, row_ms_ = 0.0, seen_ms_ = 0.0;
};

}  // namespace cortex
