#include "kv/store_folder.h"

#include <gtest/gtest.h>

#include "fakes/faulty_file_system.h"
#include "fakes/temporary_folder.h"
#include "kv/stored_runs.h"

namespace cortex {
namespace {

using Call = FaultyFileSystem::Call;

class StoreFolderTest : public testing::Test {
 protected:
  TemporaryFolder folder_;
  const std::filesystem::path kv_ = folder_.path() / "deep" / "kv";
  FaultyFileSystem disk_{real_file_system()};
  StoreFolder store_{disk_, kv_, 40'000, nullptr};
  const TestSequence sequence_{16, 1};
};

TEST_F(StoreFolderTest, IsMadeAndLocked) {
  EXPECT_FALSE(store_.is_open());
  EXPECT_FALSE(store_.open());
  EXPECT_TRUE(store_.is_open());
  EXPECT_TRUE(store_.is_there());
  StoreFolder other(disk_, kv_, 0, nullptr);
  EXPECT_EQ(other.open(), "is in use by another server");
  EXPECT_FALSE(other.is_open());
  store_.close();
  EXPECT_FALSE(other.open());
}

TEST_F(StoreFolderTest, ANameMayComeToBeAnothers) {
  ASSERT_FALSE(store_.open());
  std::filesystem::rename(kv_, folder_.path() / "moved");
  EXPECT_FALSE(store_.is_there());
  std::filesystem::create_directory(kv_);
  EXPECT_FALSE(store_.is_there());
}

TEST_F(StoreFolderTest, AFileIsThereWholeOrNotAtAll) {
  ASSERT_FALSE(store_.open());
  const StoredRun run = sequence_.run(0);
  for (const Call call : {Call::create, Call::sync, Call::rename}) {
    disk_.fail(call, 1);
    EXPECT_THROW(store_.write(run), std::system_error);
    EXPECT_TRUE(std::filesystem::is_empty(kv_ / "tmp"));
    EXPECT_FALSE(std::filesystem::exists(kv_ / sequence_.path()));
  }
  store_.write(run);
  EXPECT_EQ(std::filesystem::file_size(kv_ / sequence_.path()), block_file_bytes(16, kTestBlockBytes));
  EXPECT_EQ(store_.bytes_beside_runs(), 0u);
}

TEST_F(StoreFolderTest, WhatCanNotBeUndoneIsCounted) {
  ASSERT_FALSE(store_.open());
  disk_.fail(Call::write, 2, ENOSPC);
  disk_.fail(Call::remove, 1);
  EXPECT_THROW(store_.write(sequence_.run(0)), std::system_error);
  EXPECT_GE(store_.bytes_beside_runs(), bytes_in(kv_));
  EXPECT_GT(bytes_in(kv_), 0u);
  store_.write(sequence_.run(0));  // in the leftover's place
  EXPECT_TRUE(std::filesystem::is_empty(kv_ / "tmp"));
}

TEST_F(StoreFolderTest, DirectoriesAreSyncedTogetherAndFromAbove) {
  ASSERT_FALSE(store_.open());
  store_.sync();
  for (int i = 0; i < 5; ++i) store_.write(TestSequence(1, i).run(0));
  // v1, the root, and one for each of five keys that begin differently
  EXPECT_EQ(store_.unsynced_directories(), 7u);
  const int before = disk_.calls(Call::sync_directory);
  store_.sync();
  EXPECT_EQ(disk_.calls(Call::sync_directory) - before, 7);
  EXPECT_EQ(store_.unsynced_directories(), 0u);
}

TEST_F(StoreFolderTest, TheOldestLeavesTheQuarantine) {
  ASSERT_FALSE(store_.open());
  for (int i = 0; i < 12; ++i) {
    folder_.write("bad", std::string(5000, static_cast<char>('a' + i)));
    store_.quarantine(folder_.path() / "bad", 5000, "payload");
    EXPECT_LE(store_.bytes_beside_runs(), 40'000u);
  }
  EXPECT_EQ(disk_.list(kv_ / "quarantine"),
            (std::vector<std::string>{"000000000008-payload-bad", "000000000009-payload-bad",
                                      "000000000010-payload-bad", "000000000011-payload-bad"}));
  folder_.write("bad", std::string(50'000, 'x'));
  store_.quarantine(folder_.path() / "bad", 50'000, "payload");  // too large to be kept
  EXPECT_FALSE(std::filesystem::exists(folder_.path() / "bad"));
  EXPECT_EQ(disk_.list(kv_ / "quarantine").size(), 4u);
}

TEST_F(StoreFolderTest, NumbersOfTheQuarantineGoOn) {
  ASSERT_FALSE(store_.open());
  store_.found_in_quarantine("000000000041-io-a", 10);
  folder_.write("bad", "x");
  store_.quarantine(folder_.path() / "bad", 1, "magic");
  EXPECT_TRUE(std::filesystem::exists(kv_ / "quarantine" / "000000000042-magic-bad"));
  EXPECT_EQ(store_.bytes_beside_runs(), 8192u);
}

}  // namespace
}  // namespace cortex
