#include "model/float16.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace cortex {
namespace {

// By the definition of IEEE 754, in double.
double float16_by_definition(unsigned bits) {
  const double sign = bits & 0x8000 ? -1.0 : 1.0;
  const int exponent = static_cast<int>(bits >> 10 & 31);
  const double fraction = static_cast<double>(bits & 1023) / 1024.0;
  if (exponent == 0) return sign * std::ldexp(fraction, -14);
  if (exponent == 31) return fraction == 0.0 ? sign * std::numeric_limits<double>::infinity() : std::nan("");
  return sign * std::ldexp(1.0 + fraction, exponent - 15);
}

TEST(Float16, EveryValueIsExact) {
  for (unsigned bits = 0; bits < 65536; ++bits) {
    const double expected = float16_by_definition(bits);
    const float actual = float_of_float16(static_cast<std::uint16_t>(bits));
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(actual)) << bits;
    } else {
      EXPECT_EQ(static_cast<double>(actual), expected) << bits;
    }
    EXPECT_EQ(std::signbit(actual), (bits & 0x8000) != 0) << bits;
  }
}

TEST(Float16, BfloatIsTheUpperHalf) {
  EXPECT_EQ(float_of_bfloat16(0x3F80), 1.0f);
  EXPECT_EQ(float_of_bfloat16(0xC049), -3.140625f);
  EXPECT_EQ(float_of_bfloat16(0x0001), std::ldexp(1.0f, -133));  // subnormal
  EXPECT_EQ(float_of_bfloat16(0x7F80), std::numeric_limits<float>::infinity());
  EXPECT_TRUE(std::isnan(float_of_bfloat16(0x7FC0)));
  EXPECT_TRUE(std::signbit(float_of_bfloat16(0x8000)));
}

}  // namespace
}  // namespace cortex
