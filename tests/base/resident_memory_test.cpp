#include "base/resident_memory.h"

#include <gtest/gtest.h>

#include <vector>

namespace cortex {
namespace {

TEST(ResidentMemory, GrowsWithWhatIsTouched) {
  constexpr std::size_t kBytes = 64 << 20;
  const std::uint64_t before = resident_bytes();
  ASSERT_GT(before, 0u);
  const std::vector<char> touched(kBytes, 1);
  EXPECT_GE(resident_bytes(), before + kBytes / 2);
  EXPECT_EQ(touched.back(), 1);
}

TEST(ResidentMemory, StaysBelowItsCeiling) { EXPECT_LT(resident_bytes(), memory_ceiling_bytes()); }

}  // namespace
}  // namespace cortex
