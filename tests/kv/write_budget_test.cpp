#include "kv/write_budget.h"

#include <gtest/gtest.h>

#include <deque>
#include <random>
#include <utility>

namespace cortex {
namespace {

using namespace std::chrono_literals;

TEST(WriteBudget, NeverMoreWithinADay) {
  WriteBudget budget(1000);
  std::mt19937_64 random(1);
  std::deque<std::pair<WriteBudget::Time, std::uint64_t>> spent;
  WriteBudget::Time now{5h};
  std::uint64_t total = 0;
  for (int i = 0; i < 5000; ++i) {
    now += std::chrono::minutes(random() % 90);
    const std::uint64_t bytes = 1 + random() % 200;
    if (!budget.allows(now, bytes)) continue;
    budget.spend(now, bytes);
    spent.emplace_back(now, bytes);
    total += bytes;
    std::uint64_t within_a_day = 0;
    for (const auto& [time, count] : spent) within_a_day += time > now - 24h ? count : 0;
    ASSERT_LE(within_a_day, 1000u);
  }
  EXPECT_GT(total, 100'000u);  // 5,000 times 45 minutes are 156 days
}

TEST(WriteBudget, ZeroIsNoLimit) {
  WriteBudget budget(0);
  budget.spend({}, ~0ull);
  EXPECT_TRUE(budget.allows({}, ~0ull));
}

}  // namespace
}  // namespace cortex
