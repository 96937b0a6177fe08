// The 16-bit floats of weight files as float32; every value is exact, infinities, NaNs and subnormals included.
#pragma once

#include <bit>
#include <cstdint>

namespace cortex {

// The upper half of a float32.
inline float float_of_bfloat16(std::uint16_t bits) { return std::bit_cast<float>(std::uint32_t{bits} << 16); }

// IEEE 754 binary16: a sign bit, 5 bits of exponent with bias 15, 10 bits of fraction.
inline float float_of_float16(std::uint16_t bits) {
  constexpr std::uint32_t kExponentShift = 127 - 15;
  const std::uint32_t sign = std::uint32_t{bits & 0x8000u} << 16;
  const std::uint32_t exponent = (bits >> 10) & 0x1F;
  const std::uint32_t fraction = bits & 0x3FF;
  if (exponent == 0x1F) return std::bit_cast<float>(sign | 0x7F800000u | fraction << 13);
  if (exponent != 0) return std::bit_cast<float>(sign | (exponent + kExponentShift) << 23 | fraction << 13);
  const float magnitude = static_cast<float>(fraction) * 0x1p-24f;  // zero and subnormals
  return sign ? -magnitude : magnitude;
}

}  // namespace cortex
