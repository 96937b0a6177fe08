#include "engine/step_times.h"

#include <gtest/gtest.h>

#include <random>

namespace cortex {
namespace {

// A device whose steps take what the model says, with noise.
double time_of(const StepSize& size) { return 2.0 + 0.25 * size.rows + 1e-4 * static_cast<double>(size.seen); }

TEST(StepTimes, CountsWhatASliceSees) {
  EXPECT_EQ(slice_size(0, 1).seen, 1);
  EXPECT_EQ(slice_size(10, 3).seen, 11 + 12 + 13);
}

TEST(StepTimes, KnowsNothingAtFirst) {
  const StepTimes times;
  EXPECT_EQ(times.predict_ms({100, 1000}), 0.0);
  EXPECT_EQ(times.rows_within(1.0, {1, 5}, 0, 500, 16), 500);
}

TEST(StepTimes, LearnsFromSomeSteps) {
  StepTimes times;
  std::mt19937 random(3);
  std::uniform_real_distribution<double> noise(0.97, 1.03);
  for (int i = 0; i < 40; ++i) {
    const StepSize prompt = slice_size(static_cast<int>(random() % 4000), 16 << random() % 6);
    times.observe(prompt, time_of(prompt) * noise(random));
    const StepSize decode = {1 + static_cast<int>(random() % 32), static_cast<std::int64_t>(random() % 20000)};
    times.observe(decode, time_of(decode) * noise(random));
  }
  for (const StepSize& size : {StepSize{1, 1}, StepSize{32, 8000}, slice_size(0, 512), slice_size(3000, 256)}) {
    EXPECT_NEAR(times.predict_ms(size) / time_of(size), 1.0, 0.1) << size.rows;
  }
}

// Steps of one size only say what steps of that size take; the prediction for others is still a number above 0.
TEST(StepTimes, OneSizeIsEnoughForItself) {
  StepTimes times;
  for (int i = 0; i < 20; ++i) times.observe({32, std::int64_t{32} * (200 + i)}, 10.0);
  EXPECT_NEAR(times.predict_ms({32, std::int64_t{32} * 220}), 10.0, 0.5);
  EXPECT_GT(times.predict_ms({64, std::int64_t{64} * 220}), 0.0);
  EXPECT_GT(times.predict_ms({1, 1}), 0.0);
}

TEST(StepTimes, FollowsADeviceThatSlowsDown) {
  StepTimes times;
  for (int i = 0; i < 50; ++i) times.observe({16, 1000}, 5.0);
  for (int i = 0; i < 8; ++i) times.observe({16, 1000}, 15.0);
  EXPECT_NEAR(times.predict_ms({16, 1000}), 15.0, 0.5);
}

TEST(StepTimes, GivesTheRowsThatFitWholeUnitsOrAll) {
  StepTimes times;
  for (int rows = 1; rows <= 512; rows *= 2) {
    for (const int start : {0, 100, 3000}) times.observe(slice_size(start, rows), time_of(slice_size(start, rows)));
  }
  const StepSize decode = {8, 800};
  for (const double ms : {5.0, 20.0, 60.0, 500.0}) {
    for (const int start : {0, 512, 4000}) {
      const int rows = times.rows_within(ms, decode, start, 300, 16);
      const auto with = [&](int more) { return time_of({8 + more, 800 + slice_size(start, more).seen}); };
      EXPECT_TRUE(rows == 300 || rows % 16 == 0) << rows;
      if (rows > 0) {
        EXPECT_LE(with(rows), ms * 1.02);
      }
      if (rows < 300) {
        EXPECT_GT(with(std::min(rows + 16, 300)), ms * 0.98);
      }
    }
  }
}

TEST(StepTimes, NoTimeIsNoObservation) {
  StepTimes times;
  times.observe({1, 1}, 0.0);
  EXPECT_EQ(times.predict_ms({1, 1}), 0.0);
}

// Rows that sample, each of which sees so many positions.
StepSize sampling(int rows, std::int64_t seen) { return {rows, rows * seen, rows}; }

// Times of a processor: a row more is cheap up to the fourth, dear from there on.
double few_ms(int rows) { return rows <= 4 ? 2.0 + 0.2 * (rows - 1) : 2.6 + 0.9 * (rows - 4); }

TEST(StepTimes, StepsOfAFewRowsThatSampleAreKnownByThemselves) {
  StepTimes times;
  for (int i = 0; i < 8; ++i) times.observe(slice_size(0, 512), 60.0);
  for (const int rows : {1, 2, 4, 5, 8, 16}) {
    for (int i = 0; i < 5; ++i) times.observe(sampling(rows, 100), few_ms(rows));
  }
  for (const int rows : {1, 2, 3, 4, 5, 8, 12, 16}) {
    EXPECT_NEAR(times.predict_sampling_ms(sampling(rows, 100)), few_ms(rows), 0.15) << rows;
  }
  // Prompts are none of these.
  for (int i = 0; i < 8; ++i) times.observe({4, 400, 1}, 9.0);
  EXPECT_NEAR(times.predict_sampling_ms({4, 400, 4}), few_ms(4), 0.6);
}

TEST(StepTimes, WhatHasNotBeenSeenIsTakenToBeCheap) {
  StepTimes times;
  EXPECT_EQ(times.predict_sampling_ms({1, 100, 1}), 0.0);
  for (const int rows : {512, 64}) times.observe({rows, sampling(rows, 100).seen}, 0.12 * rows);
  for (int i = 0; i < 5; ++i) times.observe({1, 100, 1}, 2.0);
  const double eight = times.predict_sampling_ms({8, 800, 8});
  EXPECT_GE(eight, 2.0);
  EXPECT_LT(eight, 4.0);
  times.observe({8, 800, 8}, few_ms(8));
  EXPECT_NEAR(times.predict_sampling_ms({8, 800, 8}), few_ms(8), 0.1);
  EXPECT_GT(times.predict_sampling_ms({12, 1200, 12}), few_ms(8));
}

// What is far from all that was seen is come by in steps.
TEST(StepTimes, GoesNotFarBeyondWhatHasBeenSeen) {
  StepTimes times;
  EXPECT_EQ(times.most_sampling_rows(), 2);
  times.observe({1, 100, 1}, 2.0);
  EXPECT_EQ(times.most_sampling_rows(), 4);
  times.observe({4, 400, 4}, 2.5);
  EXPECT_EQ(times.most_sampling_rows(), 10);
  times.observe({64, 6400, 64}, 20.0);
  EXPECT_GT(times.most_sampling_rows(), 1000);
}

TEST(StepTimes, AHiccupIsForgotten) {
  StepTimes times;
  for (int i = 0; i < 5; ++i) {
    times.observe({1, 100, 1}, 2.0);
    times.observe({8, 800, 8}, 6.0);
  }
  times.observe({1, 100, 1}, 80.0);  // the median does not mind
  EXPECT_NEAR(times.predict_sampling_ms({1, 100, 1}), 2.0, 0.2);
  times.observe({4, 400, 4}, 80.0);  // no more than a larger step takes
  EXPECT_LE(times.predict_sampling_ms({4, 400, 4}), 6.1);
  times.observe({16, 1600, 16}, 500.0);  // the only one of its size: until it is long ago
  EXPECT_GT(times.predict_sampling_ms({16, 1600, 16}), 100.0);
  for (int i = 0; i < 129; ++i) times.observe({1, 100, 1}, 2.0);
  EXPECT_LT(times.predict_sampling_ms({16, 1600, 16}), 60.0);
}

TEST(StepTimes, FewRowsOfALongContextTakeLonger) {
  StepTimes times;
  for (int i = 0; i < 8; ++i) {
    for (const int seen : {100, 8000}) {
      for (const int rows : {1, 8, 64}) times.observe(sampling(rows, seen), 1.0 + 0.1 * rows + 1e-4 * rows * seen);
    }
  }
  EXPECT_NEAR(times.predict_sampling_ms({8, 800, 8}), 1.88, 0.3);
  EXPECT_NEAR(times.predict_sampling_ms({8, 64000, 8}), 8.2, 0.8);
}

}  // namespace
}  // namespace cortex
