#include "engine/ledger.h"

#include <gtest/gtest.h>

#include <limits>
#include <map>
#include <random>

namespace cortex {
namespace {

TEST(Ledger, GivesWhatIsLeft) {
  Ledger ledger(100);
  EXPECT_EQ(ledger.room_bytes(0), 100u);
  EXPECT_TRUE(ledger.reserve(0, 60));
  EXPECT_EQ(ledger.room_bytes(1), 40u);
  EXPECT_EQ(ledger.room_bytes(0), 100u);  // it may grow into what nobody else has
  EXPECT_FALSE(ledger.reserve(1, 41));
  EXPECT_EQ(ledger.reserved_bytes(1), 0u);
  EXPECT_TRUE(ledger.reserve(1, 40));
  EXPECT_EQ(ledger.reserved_bytes(), 100u);
  EXPECT_FALSE(ledger.reserve(0, 61));
  EXPECT_EQ(ledger.reserved_bytes(0), 60u);
  EXPECT_TRUE(ledger.reserve(0, 10));  // in place of the 60
  EXPECT_EQ(ledger.room_bytes(2), 50u);
  ledger.release(1);
  EXPECT_EQ(ledger.room_bytes(2), 90u);
  ledger.release(7);  // who has nothing
  EXPECT_EQ(ledger.reserved_bytes(), 10u);
}

TEST(Ledger, WithoutALimitItOnlyCounts) {
  Ledger ledger(std::nullopt);
  EXPECT_TRUE(ledger.reserve(0, std::uint64_t{1} << 60));
  EXPECT_TRUE(ledger.reserve(1, 5));
  EXPECT_EQ(ledger.room_bytes(1), std::nullopt);
  EXPECT_EQ(ledger.reserved_bytes(), (std::uint64_t{1} << 60) + 5);
}

TEST(Ledger, ANumberThatIsTooLargeForTheSumIsRefusedToo) {
  Ledger ledger(100);
  EXPECT_TRUE(ledger.reserve(0, 1));
  EXPECT_FALSE(ledger.reserve(1, std::numeric_limits<std::uint64_t>::max()));
  EXPECT_EQ(ledger.reserved_bytes(), 1u);
}

TEST(Ledger, WhateverComesTheSumStaysWithinTheLimit) {
  std::mt19937 random(5);
  Ledger ledger(1000);
  std::map<std::size_t, std::uint64_t> expected;
  int refused = 0;
  for (int round = 0; round < 5000; ++round) {
    const std::size_t owner = random() % 6;
    const std::uint64_t bytes = random() % 700;
    if (random() % 4 == 0) {
      ledger.release(owner);
      expected.erase(owner);
    } else if (ledger.reserve(owner, bytes)) {
      expected[owner] = bytes;
    } else {
      ++refused;
    }
    std::uint64_t sum = 0;
    for (const auto& [who, what] : expected) sum += what;
    ASSERT_EQ(ledger.reserved_bytes(), sum);
    ASSERT_LE(sum, 1000u);
  }
  EXPECT_GT(refused, 100);
}

}  // namespace
}  // namespace cortex
