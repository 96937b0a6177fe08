#include "kv/block_pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <set>

#include "base/error.h"

namespace cortex {
namespace {

using testing::ElementsAre;
using testing::Optional;

using Blocks = std::vector<BlockId>;

TEST(BlockPool, GivesTheLowestContiguousRun) {
  BlockPool pool(8);
  EXPECT_THAT(pool.allocate(3), Optional(ElementsAre(0, 1, 2)));
  EXPECT_THAT(pool.allocate(2), Optional(ElementsAre(3, 4)));
  EXPECT_EQ(pool.free_blocks(), 3);
  EXPECT_EQ(pool.used_blocks(), 5);
}

TEST(BlockPool, SkipsHolesThatAreTooSmall) {
  BlockPool pool(8);
  ASSERT_TRUE(pool.allocate(5));
  pool.release(Blocks{1, 2});
  EXPECT_THAT(pool.allocate(3), Optional(ElementsAre(5, 6, 7)));
  EXPECT_THAT(pool.allocate(2), Optional(ElementsAre(1, 2)));
}

TEST(BlockPool, TakesTheLowestScatteredIdsWhenNoRunIsLongEnough) {
  BlockPool pool(8);
  ASSERT_TRUE(pool.allocate(8));
  pool.release(Blocks{7, 1, 4, 5});
  EXPECT_THAT(pool.allocate(3), Optional(ElementsAre(1, 4, 5)));
  EXPECT_THAT(pool.allocate(1), Optional(ElementsAre(7)));
}

TEST(BlockPool, GivesAllOrNothing) {
  BlockPool pool(4);
  EXPECT_EQ(pool.allocate(5), std::nullopt);
  EXPECT_EQ(pool.free_blocks(), 4);
  EXPECT_THAT(pool.allocate(4), Optional(ElementsAre(0, 1, 2, 3)));
  EXPECT_EQ(pool.allocate(1), std::nullopt);
  EXPECT_THAT(pool.allocate(0), Optional(ElementsAre()));
}

TEST(BlockPool, ABlockIsFreeWhenItsLastReferenceGoes) {
  BlockPool pool(2);
  ASSERT_TRUE(pool.allocate(2));
  pool.retain(Blocks{1});
  EXPECT_EQ(pool.references(1), 2);
  pool.release(Blocks{0, 1});
  EXPECT_EQ(pool.free_blocks(), 1);
  pool.release(Blocks{1});
  EXPECT_EQ(pool.free_blocks(), 2);
  EXPECT_EQ(pool.references(1), 0);
}

TEST(BlockPool, RefusesWhatIsNotInUse) {
  BlockPool pool(2);
  EXPECT_THROW(pool.release(Blocks{0}), CheckFailure);
  EXPECT_THROW(pool.retain(Blocks{0}), CheckFailure);
  EXPECT_THROW(pool.release(Blocks{2}), CheckFailure);
  EXPECT_THROW(pool.release(Blocks{-1}), CheckFailure);
  EXPECT_THROW(BlockPool(-1), CheckFailure);
}

TEST(BlockPool, NeverGivesABlockTwice) {
  std::mt19937 random(7);
  BlockPool pool(40);
  std::vector<Blocks> held;
  std::set<BlockId> used;
  for (int turn = 0; turn < 5000; ++turn) {
    if (random() % 2 == 0) {
      const int count = static_cast<int>(random() % 9);
      const auto blocks = pool.allocate(count);
      ASSERT_EQ(blocks.has_value(), count <= 40 - static_cast<int>(used.size()));
      if (!blocks) continue;
      ASSERT_TRUE(std::is_sorted(blocks->begin(), blocks->end()));
      for (const BlockId block : *blocks) ASSERT_TRUE(used.insert(block).second);
      held.push_back(*blocks);
    } else if (!held.empty()) {
      std::swap(held[random() % held.size()], held.back());
      pool.release(held.back());
      for (const BlockId block : held.back()) used.erase(block);
      held.pop_back();
    }
    ASSERT_EQ(pool.used_blocks(), static_cast<int>(used.size()));
  }
}

}  // namespace
}  // namespace cortex
