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

#ifdef __GLIBC__
TEST(ResidentMemory, FreedMemoryGoesBackWhenItIsTold) {
  constexpr std::size_t kPieces = 40000, kPieceBytes = 1000;
  std::vector<std::vector<char>> pieces;
  for (std::size_t i = 0; i < kPieces; ++i) pieces.emplace_back(kPieceBytes, 1);
  // The last one keeps the heap from shrinking by itself.
  const std::vector<char> last(kPieceBytes, 1);
  const std::uint64_t full = resident_bytes();
  pieces.clear();
  give_back_free_memory();
  EXPECT_LT(resident_bytes() + kPieces * kPieceBytes / 2, full);
  EXPECT_EQ(last.back(), 1);
}
#endif

TEST(ResidentMemory, StaysBelowItsCeiling) { EXPECT_LT(resident_bytes(), memory_ceiling_bytes()); }

}  // namespace
}  // namespace cortex
