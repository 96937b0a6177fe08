// A store whose machine loses power: whatever part of what was not synced is on the disk, what comes back for a key is
// what was written for it.
#include <gtest/gtest.h>

#include <set>

#include "fakes/crashing_file_system.h"
#include "fakes/fake_clock.h"
#include "kv/stored_runs.h"

namespace cortex {
namespace {

constexpr std::size_t kBlockBytes = 1000;

class DiskStorePowerTest : public testing::Test {
 protected:
  DiskStoreOptions options() const {
    DiskStoreOptions options;
    options.directory = "/kv";
    options.limit_bytes = kLimitBytes;
    return options;
  }
  static TestSequence sequence(int number) { return {1 + number * 11 % 40, number, 0, test_root(), kBlockBytes}; }

  // Keeps sequences, with crashes in between at all kinds of places; the disks as they are after them.
  std::vector<std::unique_ptr<CrashingFileSystem>> crashes(CrashingFileSystem& disk, int first) {
    std::vector<std::unique_ptr<CrashingFileSystem>> found;
    DiskStoreOptions crashing = options();
    crashing.failpoint = [&](std::string_view) {
      if (random_() % 40 == 0) found.push_back(disk.after_crash(random_));
    };
    DiskStore store(disk, clock_, crashing);
    EXPECT_TRUE(scanned(store));
    for (int number = first; number < first + kSequences; ++number) {
      store.write(sequence(number).run(0, 3));  // soon replaced
      store_all(store, sequence(number));
    }
    EXPECT_TRUE(comes_true([&] { return has(store, sequence(first + kSequences - 1)); }));
    return found;
  }
  static bool has(const DiskStore& store, const TestSequence& sequence) {
    return store.available(sequence.root, sequence.chain, 0) == sequence.blocks();
  }

  // How many blocks are left; throws on wrong ones.
  int look(CrashingFileSystem& disk, int sequences) {
    DiskStore store(disk, clock_, options());
    EXPECT_TRUE(scanned(store));
    EXPECT_EQ(store.status().state, "ok") << store.status().message;
    EXPECT_LE(disk.bytes(), kLimitBytes);
    int blocks = 0;
    for (int number = 0; number < sequences; ++number) blocks += read_back(store, sequence(number));
    for (const auto& [reason, count] : store.status().rejected) rejected_ += count;
    return blocks;
  }

  static constexpr std::uint64_t kLimitBytes = 2 << 20;
  static constexpr int kSequences = 25;
  FakeClock clock_;
  std::mt19937_64 random_{1};
  std::uint64_t rejected_ = 0;
};

TEST_F(DiskStorePowerTest, NoWrongBytesAfterACrash) {
  int blocks = 0;
  std::size_t disks = 0;
  for (int round = 0; round < 10; ++round) {
    CrashingFileSystem disk;
    for (const auto& crashed : crashes(disk, 0)) {
      ++disks;
      blocks += look(*crashed, kSequences);
      // And life goes on, to the next crash.
      for (const auto& again : crashes(*crashed, kSequences)) blocks += look(*again, 2 * kSequences), ++disks;
    }
  }
  EXPECT_GT(disks, 100u);
  EXPECT_GT(blocks, 1000);
}

// What the hashes are for.
TEST_F(DiskStorePowerTest, NoWrongBytesFromADiskThatDoesNotSync) {
  for (int round = 0; round < 10; ++round) {
    CrashingFileSystem disk;
    disk.lie_about_syncs();
    for (const auto& crashed : crashes(disk, 0)) look(*crashed, kSequences);
  }
  EXPECT_GT(rejected_, 100u);
}

TEST_F(DiskStorePowerTest, ARunIsNotLostToTheOneThatReplacesIt) {
  const TestSequence replaced(9, 1, 0, test_root(), kBlockBytes);
  std::set<int> left;
  for (int round = 0; round < 30; ++round) {
    CrashingFileSystem disk;
    DiskStore(disk, clock_, options()).write(replaced.run(0, 4));
    DiskStoreOptions crashing = options();
    std::vector<std::unique_ptr<CrashingFileSystem>> crashed;
    crashing.failpoint = [&](std::string_view) { crashed.push_back(disk.after_crash(random_)); };
    {
      DiskStore store(disk, clock_, crashing);
      store.write(replaced.run(0));
    }
    crashed.push_back(disk.after_crash(random_));
    for (const auto& found : crashed) {
      DiskStore store(*found, clock_, options());
      EXPECT_TRUE(scanned(store));
      left.insert(read_back(store, replaced));
    }
  }
  EXPECT_EQ(left, (std::set<int>{4, 9}));
}

TEST_F(DiskStorePowerTest, WhatWasSyncedIsThere) {
  CrashingFileSystem disk;
  {
    DiskStore store(disk, clock_, options());
    for (int number = 0; number < 10; ++number) store_all(store, sequence(number));
  }  // syncs all
  for (int i = 0; i < 20; ++i) {
    const auto crashed = disk.after_crash(random_);
    int expected = 0;
    for (int number = 0; number < 10; ++number) expected += sequence(number).blocks();
    EXPECT_EQ(look(*crashed, 10), expected);
  }
  EXPECT_EQ(rejected_, 0u);
}

}  // namespace
}  // namespace cortex
