#include "kv/block_pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
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

TEST(BlockPool, KnowsHowFarItWasEverUsed) {
  BlockPool pool(8);
  EXPECT_EQ(pool.touched_blocks(), 0);
  const auto blocks = pool.allocate(3);
  ASSERT_TRUE(blocks);
  EXPECT_EQ(pool.touched_blocks(), 3);
  pool.release(*blocks);
  ASSERT_TRUE(pool.allocate(2));
  EXPECT_EQ(pool.touched_blocks(), 3);
  ASSERT_TRUE(pool.allocate(6));
  EXPECT_EQ(pool.touched_blocks(), 8);
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

PrefixIndex::Link link_of(int name) {
  PrefixIndex::Link link;
  link.key.bytes[0] = static_cast<std::uint8_t>(name);
  link.key.bytes[1] = static_cast<std::uint8_t>(name >> 8);
  link.kin = link.key;
  return link;
}

TEST(BlockPool, ASingleBlockFollowsTheLast) {
  BlockPool pool(8);
  ASSERT_TRUE(pool.allocate(8));
  pool.release(Blocks{1, 4, 5});
  EXPECT_THAT(pool.allocate(1, 3), Optional(ElementsAre(4)));
  EXPECT_THAT(pool.allocate(1, 3), Optional(ElementsAre(1)));
  EXPECT_THAT(pool.allocate(1, 7), Optional(ElementsAre(5)));
}

TEST(BlockPool, WhatTheIndexHasIsKeptUntilItsRoomIsNeeded) {
  BlockPool pool(4);
  ASSERT_TRUE(pool.allocate(4));
  for (const int block : {0, 1, 2}) ASSERT_TRUE(pool.index().add(block, link_of(block)));
  pool.release(Blocks{0, 1, 2, 3});
  EXPECT_EQ(pool.cached_blocks(), 3);
  EXPECT_EQ(pool.empty_blocks(), 1);
  EXPECT_EQ(pool.free_blocks(), 4);
  EXPECT_EQ(pool.used_blocks(), 0);

  EXPECT_THAT(pool.allocate(1), Optional(ElementsAre(3)));  // the empty one
  EXPECT_THAT(pool.allocate(1), Optional(ElementsAre(2)));  // then the tail
  EXPECT_EQ(pool.index().find(link_of(2).key), std::nullopt);
  EXPECT_TRUE(pool.index().was_forgotten(link_of(2).key));
  EXPECT_EQ(pool.index().find(link_of(1).key), 1);
  EXPECT_EQ(pool.allocate(3), std::nullopt);
  EXPECT_EQ(pool.index().find(link_of(1).key), 1);  // nothing was evicted in vain
}

TEST(BlockPool, EvictsWhenItIsTold) {
  BlockPool pool(6);
  ASSERT_TRUE(pool.allocate(5));
  for (const int block : {0, 1, 2}) ASSERT_TRUE(pool.index().add(block, link_of(block)));
  pool.release(Blocks{0, 1, 2});
  EXPECT_EQ(pool.evict(2), 2);  // the tail first
  EXPECT_EQ(pool.cached_blocks(), 1);
  EXPECT_EQ(pool.empty_blocks(), 3);
  EXPECT_EQ(pool.index().find(link_of(0).key), 0);
  EXPECT_TRUE(pool.index().was_forgotten(link_of(1).key));
  EXPECT_EQ(pool.evict(2), 1);
  EXPECT_EQ(pool.evict(2), 0);
  EXPECT_EQ(pool.used_blocks(), 2);
}

TEST(BlockPool, TellsOnceWhatWasGivenAndIsEmpty) {
  BlockPool pool(8);
  EXPECT_THAT(pool.take_touched(), ElementsAre());
  ASSERT_TRUE(pool.allocate(6));
  ASSERT_TRUE(pool.index().add(1, link_of(1)));
  pool.release(Blocks{0, 1, 2, 4, 5});  // 1 is cached, 3 in use
  EXPECT_THAT(pool.take_touched(), ElementsAre(0, 2, 4, 5));
  EXPECT_EQ(pool.touched_blocks(), 4);
  EXPECT_THAT(pool.take_touched(), ElementsAre());
  EXPECT_EQ(pool.evict(1), 1);
  EXPECT_THAT(pool.take_touched(), ElementsAre(1));
  const auto again = pool.allocate(2);
  EXPECT_THAT(again, Optional(ElementsAre(0, 1)));
  pool.release(*again);
  EXPECT_THAT(pool.take_touched(), ElementsAre(0, 1));
  pool.release(Blocks{3});
  EXPECT_THAT(pool.take_touched(), ElementsAre(3));
  EXPECT_EQ(pool.touched_blocks(), 0);
}

TEST(BlockPool, WhatIsFoundAgainIsReleasedAnew) {
  BlockPool pool(3);
  ASSERT_TRUE(pool.allocate(3));
  for (const int block : {0, 1, 2}) ASSERT_TRUE(pool.index().add(block, link_of(block)));
  pool.release(Blocks{0});
  pool.release(Blocks{1});
  pool.release(Blocks{2});
  pool.retain(Blocks{0});  // a hit
  EXPECT_EQ(pool.used_blocks(), 1);
  EXPECT_EQ(pool.references(0), 1);
  pool.release(Blocks{0});
  EXPECT_THAT(pool.allocate(1), Optional(ElementsAre(1)));
  EXPECT_THAT(pool.allocate(1), Optional(ElementsAre(2)));
  EXPECT_THAT(pool.allocate(1), Optional(ElementsAre(0)));
}

TEST(BlockPool, SharedBlocksStayUntilTheLastIsDone) {
  BlockPool pool(2);
  ASSERT_TRUE(pool.allocate(1));
  ASSERT_TRUE(pool.index().add(0, link_of(0)));
  pool.retain(Blocks{0});
  pool.release(Blocks{0});
  EXPECT_EQ(pool.cached_blocks(), 0);
  EXPECT_EQ(pool.allocate(2), std::nullopt);
  pool.release(Blocks{0});
  EXPECT_EQ(pool.cached_blocks(), 1);
}

// Against a plain model: what is used, what is cached, and in which order that goes.
TEST(BlockPool, EvictsInTheOrderOfReleaseWhateverComes) {
  std::mt19937 random(11);
  BlockPool pool(24);
  std::vector<Blocks> held;
  std::vector<BlockId> cached;  // oldest first
  std::map<BlockId, int> names, references;
  int next_name = 0;
  for (int turn = 0; turn < 20000; ++turn) {
    const int what = static_cast<int>(random() % 4);
    if (what == 0) {
      const int count = static_cast<int>(random() % 7);
      const int empty = pool.empty_blocks();
      const auto blocks = pool.allocate(count);
      ASSERT_EQ(blocks.has_value(), count <= empty + static_cast<int>(cached.size()));
      if (!blocks) continue;
      for (int evicted = empty; evicted < count; ++evicted) {
        ASSERT_EQ(pool.index().find(link_of(names.at(cached.front())).key), std::nullopt);
        names.erase(cached.front());
        cached.erase(cached.begin());
      }
      for (const BlockId block : *blocks) ASSERT_EQ(references[block]++, 0);
      held.push_back(*blocks);
    } else if (what == 1 && !held.empty()) {
      for (const BlockId block : held[random() % held.size()]) {
        if (!names.contains(block) && pool.index().add(block, link_of(next_name))) names[block] = next_name++;
      }
    } else if (what == 2 && !cached.empty()) {
      const BlockId block = cached[random() % cached.size()];
      pool.retain(Blocks{block});
      references[block] = 1;
      std::erase(cached, block);
      held.push_back({block});
    } else if (!held.empty()) {
      std::swap(held[random() % held.size()], held.back());
      pool.release(held.back());
      std::ranges::reverse(held.back());
      for (const BlockId block : held.back()) {
        if (--references[block] == 0 && names.contains(block)) cached.push_back(block);
      }
      held.pop_back();
    }
    ASSERT_EQ(pool.cached_blocks(), static_cast<int>(cached.size()));
    const auto used = std::ranges::count_if(references, [](const auto& entry) { return entry.second > 0; });
    ASSERT_EQ(pool.used_blocks(), static_cast<int>(used));
    for (const BlockId block : cached) ASSERT_EQ(pool.index().find(link_of(names.at(block)).key), block);
  }
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
