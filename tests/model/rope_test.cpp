#include <gtest/gtest.h>

#include "base/error.h"
#include "model/spec.h"

namespace cortex {
namespace {

void expect_frequencies(const RopeSpec& rope, const std::vector<double>& expected) {
  const std::vector<float> actual = inverse_frequencies(rope);
  ASSERT_EQ(actual.size(), expected.size());
  for (std::size_t i = 0; i < actual.size(); ++i) EXPECT_FLOAT_EQ(actual[i], static_cast<float>(expected[i])) << i;
}

RopeSpec rope_of(float theta, int dims) {
  RopeSpec rope;
  rope.theta = theta;
  rope.dims = dims;
  return rope;
}

const std::vector<double> kPlain = {1.0,
                                    0.19392274474868576,
                                    0.03760603093086393,
                                    0.0072926647372171085,
                                    0.001414213562373095,
                                    0.0002742481756762073,
                                    5.318295896944989e-05,
                                    1.031338537721246e-05};

TEST(Rope, PlainFrequenciesAreAGeometricSeries) {
  expect_frequencies(rope_of(500000.0f, 16), kPlain);
  EXPECT_EQ(inverse_frequencies(rope_of(10000.0f, 2)), std::vector<float>{1.0f});
  EXPECT_TRUE(inverse_frequencies(rope_of(10000.0f, 0)).empty());
}

TEST(Rope, LinearScalingDividesAll) {
  RopeSpec rope = rope_of(500000.0f, 16);
  rope.scaling = RopeSpec::Scaling::linear;
  rope.factor = 4.0f;
  std::vector<double> expected = kPlain;
  for (double& frequency : expected) frequency /= 4.0;
  expect_frequencies(rope, expected);
}

// Expected values: the formula of Llama 3.1's reference in double, evaluated apart from this code.
TEST(Rope, Llama3KeepsHighBlendsMiddleStretchesLow) {
  RopeSpec rope = rope_of(500000.0f, 16);
  rope.scaling = RopeSpec::Scaling::llama3;
  rope.factor = 8.0f;
  rope.low_frequency_factor = 1.0f;
  rope.high_frequency_factor = 4.0f;
  rope.original_context = 64;
  expect_frequencies(rope,
                     {1.0, 0.0794030091792082, 0.004700753866357992, 0.0009115830921521386, 0.00017677669529663688,
                      3.428102195952591e-05, 6.647869871181236e-06, 1.2891731721515574e-06});

  rope.dims = 128;
  rope.original_context = 8192;
  const std::vector<float> actual = inverse_frequencies(rope);
  EXPECT_FLOAT_EQ(actual[28], 0.0032114459947525913f);
  EXPECT_FLOAT_EQ(actual[29], 0.002166570763503359f);
  EXPECT_FLOAT_EQ(actual[34], 0.00017850781276799638f);
  EXPECT_FLOAT_EQ(actual[35], 9.556212353964683e-05f);
}

TEST(Rope, OddDimensionsAreOurBug) { EXPECT_THROW(inverse_frequencies(rope_of(10000.0f, 3)), CheckFailure); }

// Values of the formulas that transformers' yarn computes, in double.
RopeSpec yarn_of(float theta, int dims, float factor, int original_context) {
  RopeSpec rope = rope_of(theta, dims);
  rope.scaling = RopeSpec::Scaling::yarn;
  rope.factor = factor;
  rope.original_context = original_context;
  return rope;
}

TEST(Rope, YarnStretchesSlowPairsOnly) {
  RopeSpec rope = yarn_of(1e6f, 16, 4.0f, 32768);
  expect_frequencies(rope, {1.0, 0.1778279410038923, 0.03162277660168379, 0.004217559938927618, 0.0005,
                            4.445698525097307e-05, 7.905694150420949e-06, 1.4058533129758728e-06});
  rope.truncate = false;  // the range is 2.95 to 4.96 in place of 2 to 5
  expect_frequencies(rope, {1.0, 0.1778279410038923, 0.03162277660168379, 0.0055172704751341225, 0.0006074079378798391,
                            4.445698525097307e-05, 7.905694150420949e-06, 1.4058533129758728e-06});
}

TEST(Rope, YarnsRangeIsThatOfItsBetas) {
  RopeSpec rope = yarn_of(1e4f, 8, 2.0f, 64);
  rope.beta_fast = 2.0f;
  rope.beta_slow = 1.0f;
  expect_frequencies(rope, {1.0, 0.075, 0.005, 0.0005});
}

TEST(Rope, DivisorsAreThoseOfTheirPairs) {
  RopeSpec rope = rope_of(1e4f, 8);
  rope.divisors = {1.0f, 2.0f, 4.0f, 8.0f};
  expect_frequencies(rope, {1.0, 0.05, 0.0025, 0.000125});
  rope.divisors.pop_back();
  EXPECT_THROW(inverse_frequencies(rope), CheckFailure);
}

}  // namespace
}  // namespace cortex
