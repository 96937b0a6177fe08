#include "engine/step_counts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <numeric>

namespace cortex {
namespace {

using testing::Each;

std::uint64_t steps_of(const StepHistogram& histogram) {
  return std::accumulate(histogram.buckets.begin(), histogram.buckets.end(), std::uint64_t{0});
}

TEST(StepCounts, ABucketHasWhatIsAboveTheBoundBeforeAndUpToItsOwn) {
  StepHistogram histogram;
  for (const double value : {0.0, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 16384.0}) {
    histogram.observe(kStepTokensBounds, value);
  }
  histogram.observe(kStepTokensBounds, 16384.5);
  histogram.observe(kStepTokensBounds, std::numeric_limits<float>::max());
  const StepHistogram expected = {{2, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2}, histogram.sum};
  EXPECT_EQ(histogram.buckets, expected.buckets);
}

TEST(StepCounts, BoundsRise) {
  for (const StepBounds& bounds : {kStepSecondsBounds, kStepTokensBounds}) {
    EXPECT_TRUE(std::ranges::is_sorted(bounds, std::ranges::less_equal()));
    EXPECT_GT(bounds.front(), 0.0);
  }
}

TEST(StepCounts, EachKindHasItsOwn) {
  StepCounts counts;
  counts.observe(StepKind::prompt, 0.25, 512);
  counts.observe(StepKind::prompt, 0.125, 100);
  counts.observe(StepKind::decode, 0.0078125, 3);
  counts.observe(StepKind::encode, 60.0, 1 << 20);
  EXPECT_EQ(counts.of(StepKind::prompt).seconds.sum, 0.375);
  EXPECT_EQ(counts.of(StepKind::prompt).tokens.sum, 612.0);
  EXPECT_EQ(steps_of(counts.of(StepKind::prompt).seconds), 2u);
  EXPECT_EQ(counts.of(StepKind::prompt).seconds.buckets[9], 1u);  // up to 0.2 s
  EXPECT_EQ(counts.of(StepKind::prompt).seconds.buckets[10], 1u);
  EXPECT_EQ(counts.of(StepKind::prompt).tokens.buckets[7], 1u);  // up to 128
  EXPECT_EQ(counts.of(StepKind::prompt).tokens.buckets[9], 1u);  // up to 512
  EXPECT_EQ(steps_of(counts.of(StepKind::decode).tokens), 1u);
  EXPECT_EQ(counts.of(StepKind::decode).tokens.buckets[2], 1u);   // up to 4
  EXPECT_EQ(counts.of(StepKind::decode).seconds.buckets[5], 1u);  // up to 10 ms
  EXPECT_EQ(counts.of(StepKind::encode).seconds.buckets.back(), 1u);
  EXPECT_EQ(counts.of(StepKind::encode).tokens.buckets.back(), 1u);
  EXPECT_THAT(counts.of(StepKind::mixed).seconds.buckets, Each(0));
  EXPECT_EQ(counts.of(StepKind::mixed).tokens.sum, 0.0);
}

TEST(StepCounts, AHistogramIsPartOfWhatItBecomes) {
  StepHistogram histogram;
  EXPECT_TRUE(histogram.is_part_of(histogram));
  histogram.observe(kStepTokensBounds, 3);
  histogram.observe(kStepTokensBounds, 100);
  StepHistogram later = histogram;
  EXPECT_TRUE(histogram.is_part_of(later));
  later.observe(kStepTokensBounds, 100);
  EXPECT_TRUE(histogram.is_part_of(later));
  EXPECT_FALSE(later.is_part_of(histogram));
  StepHistogram other;  // as many, but of other sizes
  for (int i = 0; i < 5; ++i) other.observe(kStepTokensBounds, 1000);
  EXPECT_FALSE(histogram.is_part_of(other));
  other = histogram;
  other.sum -= 1.0;
  EXPECT_FALSE(histogram.is_part_of(other));
}

}  // namespace
}  // namespace cortex
