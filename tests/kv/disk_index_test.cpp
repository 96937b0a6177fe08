#include "kv/disk_index.h"

#include <gtest/gtest.h>

#include <random>

#include "kv/stored_runs.h"

namespace cortex {
namespace {

class DiskIndexTest : public testing::Test {
 protected:
  void add(const TestSequence& sequence, int first, int most = kBlocksPerFile) {
    const StoredRun run = sequence.run(first, most);
    index_.add({run.root, run.keys.back()}, run.parent, run.keys, 100);
  }
  std::vector<BlockKey> evict_all() {
    std::vector<BlockKey> order;
    while (const auto victim = index_.victim()) {
      order.push_back(victim->last_key);
      index_.remove(victim->last_key);
    }
    return order;
  }

  DiskIndex index_;
};

TEST_F(DiskIndexTest, FindsTheFileThatSharesMost) {
  std::mt19937_64 random(1);
  std::vector<TestSequence> sequences;
  for (int i = 0; i < 60; ++i) {
    sequences.emplace_back(1 + static_cast<int>(random() % 16), i, static_cast<int>(random() % 16));
    add(sequences.back(), 0);
  }
  for (int i = 0; i < 200; ++i) {
    const TestSequence wanted(1 + static_cast<int>(random() % 16), static_cast<int>(random() % 80),
                              static_cast<int>(random() % 16));
    int most = 0;  // the plain way: one after another
    for (const TestSequence& sequence : sequences) {
      int common = 0;
      while (common < std::min(wanted.blocks(), sequence.blocks()) &&
             wanted.chain[static_cast<std::size_t>(common)] == sequence.chain[static_cast<std::size_t>(common)]) {
        ++common;
      }
      most = std::max(most, common);
    }
    const auto match = index_.find(wanted.chain);
    EXPECT_EQ(match ? match->blocks : 0, most);
  }
}

TEST_F(DiskIndexTest, EvictsTheLongestUnusedButNothingThatIsContinued) {
  const TestSequence tall(48, 1), small(5, 2);
  add(tall, 32);
  add(tall, 16);
  add(tall, 0);
  add(small, 0);
  index_.use(tall.chain[47]);
  const std::vector<BlockKey> expected = {small.chain[4], tall.chain[47], tall.chain[31], tall.chain[15]};
  EXPECT_EQ(evict_all(), expected);
  EXPECT_EQ(index_.bytes(), 0u);
  EXPECT_EQ(index_.files(), 0u);
}

TEST_F(DiskIndexTest, WhatEarlierProcessesUsedGoesFirst) {
  const TestSequence now(1, 1), future(1, 2), past(1, 3);
  const auto add_old = [&](const TestSequence& sequence, std::int64_t seconds) {
    index_.add({sequence.root, sequence.chain[0]}, sequence.root, sequence.chain, 100,
               std::chrono::system_clock::time_point(std::chrono::seconds(seconds)));
  };
  add(now, 0);
  add_old(future, 9'000'000'000);
  add_old(past, 1'000);
  EXPECT_EQ(evict_all(), (std::vector<BlockKey>{past.chain[0], future.chain[0], now.chain[0]}));
}

TEST_F(DiskIndexTest, KnowsWhatALongerRunMakesSuperfluous) {
  const TestSequence sequence(16, 1), other(9, 2, 4);
  add(sequence, 0, 5);
  add(other, 0);
  EXPECT_FALSE(index_.find_shorter(sequence.run(0, 5).keys));
  EXPECT_EQ(index_.find_shorter(sequence.run(0).keys)->last_key, sequence.chain[4]);
  add(sequence, 0);
  index_.remove(sequence.chain[4]);
  EXPECT_FALSE(index_.find_shorter(sequence.run(0).keys));
  EXPECT_EQ(index_.find(sequence.chain)->blocks, 16);
}

TEST_F(DiskIndexTest, OneFileAKeyIsCountedOnce) {
  const TestSequence sequence(16, 1);
  for (int i = 0; i < 3; ++i) add(sequence, 0);
  EXPECT_EQ(index_.bytes(), 100u);
  EXPECT_TRUE(index_.has(DiskIndex::Name{sequence.root, sequence.chain[15]}));
  EXPECT_FALSE(index_.has(DiskIndex::Name{test_root("another"), sequence.chain[15]}));
}

}  // namespace
}  // namespace cortex
