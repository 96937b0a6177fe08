#include "backend/expert_routing.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/error.h"

namespace cortex {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

const ExpertsSpec kTwoOfFour = {.count = 4, .per_token = 2, .intermediate = 8, .normalised = true};

TEST(ExpertRouting, RowsGoToTheirLikeliestExperts) {
  const std::vector<float> logits = {0.0f, 3.0f, 1.0f, 2.0f,   // 1 and 3
                                     5.0f, 0.0f, 0.0f, 4.0f};  // 0 and 3
  const std::vector<ExpertRows> routing = route(logits, kTwoOfFour);
  ASSERT_EQ(routing.size(), 3u);  // nobody chose 2
  EXPECT_EQ(routing[0].expert, 0);
  EXPECT_EQ(routing[0].rows, (std::vector<std::int32_t>{1}));
  EXPECT_EQ(routing[1].expert, 1);
  EXPECT_EQ(routing[1].rows, (std::vector<std::int32_t>{0}));
  EXPECT_EQ(routing[2].expert, 3);
  EXPECT_EQ(routing[2].rows, (std::vector<std::int32_t>{0, 1}));
  const double second = 1.0 / (1.0 + std::exp(1.0));  // of two that are one apart
  EXPECT_NEAR(routing[0].weights[0], 1.0 - second, 1e-7);
  EXPECT_NEAR(routing[1].weights[0], 1.0 - second, 1e-7);
  EXPECT_NEAR(routing[2].weights[0], second, 1e-7);
  EXPECT_NEAR(routing[2].weights[1], second, 1e-7);
}

TEST(ExpertRouting, WithoutNormalisationTheWeightsAreOfAllExperts) {
  ExpertsSpec spec = kTwoOfFour;
  spec.normalised = false;
  const std::vector<float> logits = {0.0f, 3.0f, 1.0f, 2.0f};
  const std::vector<ExpertRows> routing = route(logits, spec);
  const double sum = 1.0 + std::exp(1.0) + std::exp(2.0) + std::exp(3.0);
  ASSERT_EQ(routing.size(), 2u);
  EXPECT_NEAR(routing[0].weights[0], std::exp(3.0) / sum, 1e-7);
  EXPECT_NEAR(routing[1].weights[0], std::exp(2.0) / sum, 1e-7);
}

TEST(ExpertRouting, TiesGoToTheLowerIndex) {
  const std::vector<float> logits = {1.0f, 2.0f, 2.0f, 2.0f};
  const std::vector<ExpertRows> routing = route(logits, kTwoOfFour);
  ASSERT_EQ(routing.size(), 2u);
  EXPECT_EQ(routing[0].expert, 1);
  EXPECT_EQ(routing[1].expert, 2);
}

TEST(ExpertRouting, ValuesThatAreNotFiniteStillChooseDifferentExperts) {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const std::vector<float>& logits : {std::vector<float>{kNaN, kNaN, kNaN, kNaN},
                                           {1.0f, kNaN, 2.0f, kNaN},
                                           {kNaN, infinity, -infinity, infinity},
                                           {-infinity, -infinity, -infinity, -infinity}}) {
    const std::vector<ExpertRows> routing = route(logits, kTwoOfFour);
    ASSERT_EQ(routing.size(), 2u);
    EXPECT_LT(routing[0].expert, routing[1].expert);
  }
}

TEST(ExpertRouting, ManyRowsOfOneExpert) {
  const ExpertsSpec spec = {.count = 1, .per_token = 1, .intermediate = 8, .normalised = false};
  const std::vector<ExpertRows> routing = route(std::vector<float>{-3.0f, 7.0f, 0.0f}, spec);
  ASSERT_EQ(routing.size(), 1u);
  EXPECT_EQ(routing[0].rows, (std::vector<std::int32_t>{0, 1, 2}));
  EXPECT_EQ(routing[0].weights, (std::vector<float>{1.0f, 1.0f, 1.0f}));
}

TEST(ExpertRouting, LogitsAreWholeRows) {
  EXPECT_THROW(route(std::vector<float>{1.0f, 2.0f, 3.0f}, kTwoOfFour), CheckFailure);
  EXPECT_TRUE(route({}, kTwoOfFour).empty());
}

}  // namespace
}  // namespace cortex
