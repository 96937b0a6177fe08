#include "kv/store_contents.h"

#include <gtest/gtest.h>

#include <set>

#include "fakes/temporary_folder.h"
#include "kv/store_folder.h"
#include "kv/stored_runs.h"

namespace cortex {
namespace {

class StoreContentsTest : public testing::Test {
 protected:
  StoreContentsTest() {
    EXPECT_FALSE(store_.open());
    for (const StoredRun& run : long_.runs()) store_.write(run);
    store_.write(short_.run(0));
    store_.close();
  }

  StoreContents contents() const { return read_store_contents(real_file_system(), kv_); }
  std::optional<BlockFileFault> verify(const RunFile& run) const {
    return verify_run(real_file_system(), kv_, run, [](std::uint64_t) {});
  }
  // The fault of the only run that has one.
  std::optional<BlockFileFault> found_by_verify() const {
    std::optional<BlockFileFault> found;
    for (const RunFile& run : contents().runs) {
      if (const auto fault = verify(run)) {
        EXPECT_FALSE(found);
        found = fault;
      }
    }
    return found;
  }
  void flip(const std::filesystem::path& path, std::size_t at) const {
    std::string bytes = folder_.read("kv" / path);
    bytes.at(at) = static_cast<char>(bytes[at] ^ 1);
    folder_.write("kv" / path, bytes);
  }

  TemporaryFolder folder_;
  const std::filesystem::path kv_ = folder_.path() / "kv";
  StoreFolder store_{real_file_system(), kv_, 1 << 20, nullptr};
  const TestSequence long_{20, 1};
  const TestSequence short_{3, 2, 0, test_root("another")};
};

TEST_F(StoreContentsTest, RunsAreListedTheLastUsedFirst) {
  const auto now = std::chrono::system_clock::now();
  real_file_system().set_modified(kv_ / long_.path(16), now + std::chrono::hours(2));
  real_file_system().set_modified(kv_ / long_.path(0), now - std::chrono::hours(2));
  const StoreContents found = contents();
  ASSERT_EQ(found.runs.size(), 3u);
  EXPECT_EQ(found.runs[0].path, kv_ / long_.path(16));
  EXPECT_EQ(found.runs[1].path, kv_ / short_.path(0));
  EXPECT_EQ(found.runs[2].path, kv_ / long_.path(0));
  EXPECT_EQ(found.runs[0].first_block, 16);
  EXPECT_EQ(found.runs[0].blocks, 4);
  EXPECT_EQ(found.runs[1].blocks, 3);
  EXPECT_EQ(found.runs[1].root, short_.root);
  EXPECT_EQ(found.runs[2].blocks, 16);
  EXPECT_EQ(found.runs[2].bytes, block_file_bytes(16, kTestBlockBytes));
  for (const RunFile& run : found.runs) {
    EXPECT_FALSE(run.fault);
    EXPECT_FALSE(verify(run));
  }
  EXPECT_TRUE(found.quarantined.empty() && found.unfinished.empty() && found.others.empty());
}

TEST_F(StoreContentsTest, TellsTheStoresFilesFromStrangers) {
  const std::string name = to_hex(long_.chain[0]) + ".kv";
  folder_.write("kv/quarantine/000000000003-short_header-" + name, "12345");
  folder_.write("kv/quarantine/notes", "x");
  folder_.write("kv/quarantine/3-io-" + name, "x");
  folder_.write("kv/quarantine/00000000000x-io-" + name, "x");
  folder_.write("kv/quarantine/000000000003-" + name, "x");
  folder_.write("kv/tmp/" + name, "1234");
  folder_.write("kv/tmp/draft", "x");
  folder_.write("kv/readme", "x");
  folder_.write("kv/v1/" + to_hex(long_.root) + "/notes", "x");
  std::filesystem::create_symlink(kv_ / "readme", kv_ / "tmp" / (to_hex(long_.chain[1]) + ".kv"));
  const StoreContents found = contents();
  ASSERT_EQ(found.quarantined.size(), 1u);
  EXPECT_EQ(found.quarantined[0].bytes, 5u);
  EXPECT_EQ(found.quarantined[0].path.parent_path(), kv_ / "quarantine");
  ASSERT_EQ(found.unfinished.size(), 1u);
  EXPECT_EQ(found.unfinished[0].bytes, 4u);
  EXPECT_EQ(found.others.size(), 8u);
  EXPECT_EQ(found.runs.size(), 3u);
}

TEST_F(StoreContentsTest, VerifyFindsEveryByteOfAFile) {
  const std::filesystem::path path = short_.path(0);
  const std::string whole = folder_.read("kv" / path);
  const std::set<std::optional<BlockFileFault>> expected = {BlockFileFault::magic, BlockFileFault::version,
                                                            BlockFileFault::checksum, BlockFileFault::payload};
  std::set<std::optional<BlockFileFault>> found;
  for (std::size_t at = 0; at < whole.size(); at = at < 16 ? at + 1 : at + 61) {
    flip(path, at);
    const auto fault = found_by_verify();
    EXPECT_TRUE(fault) << at;
    EXPECT_EQ(at >= kBlockFileHeaderBytes, fault == BlockFileFault::payload) << at;
    found.insert(fault);
    folder_.write("kv" / path, whole);
  }
  EXPECT_EQ(found, expected);
  EXPECT_FALSE(found_by_verify());
}

TEST_F(StoreContentsTest, AHeaderThatIsWrongIsListedWithItsFault) {
  flip(short_.path(0), 30);
  int faults = 0;
  for (const RunFile& run : contents().runs) {
    if (!run.fault) continue;
    ++faults;
    EXPECT_EQ(run.fault, BlockFileFault::checksum);
    EXPECT_EQ(run.path, kv_ / short_.path(0));
    EXPECT_EQ(run.blocks, 0);
  }
  EXPECT_EQ(faults, 1);
}

TEST_F(StoreContentsTest, ARunInAnothersPlaceIsAFault) {
  std::filesystem::rename(kv_ / short_.path(0), kv_ / long_.path(0));
  EXPECT_EQ(found_by_verify(), BlockFileFault::root);
  folder_.remove("kv" / long_.path(0));
  const auto wrong = kv_ / long_.path(16).parent_path().parent_path() / "zz" / long_.path(16).filename();
  std::filesystem::create_directory(wrong.parent_path());
  std::filesystem::rename(kv_ / long_.path(16), wrong);
  EXPECT_EQ(found_by_verify(), BlockFileFault::name);
}

TEST_F(StoreContentsTest, VerifySaysHowFarItIs) {
  std::vector<std::uint64_t> seen;
  for (const RunFile& run : contents().runs) {
    if (run.blocks != 3) continue;
    EXPECT_FALSE(verify_run(real_file_system(), kv_, run, [&](std::uint64_t bytes) { seen.push_back(bytes); }));
  }
  EXPECT_EQ(seen, (std::vector<std::uint64_t>{4096, 4096 + kTestBlockBytes, 4096 + 2 * kTestBlockBytes,
                                              4096 + 3 * kTestBlockBytes}));
}

TEST_F(StoreContentsTest, WhatIsGoneMeanwhileIsNoFault) {
  const StoreContents found = contents();
  folder_.remove("kv" / short_.path(0));
  for (const RunFile& run : found.runs) EXPECT_FALSE(verify(run));
  EXPECT_EQ(contents().runs.size(), 2u);
}

TEST_F(StoreContentsTest, TheLockIsTheServers) {
  EXPECT_TRUE(is_store(real_file_system(), kv_));
  EXPECT_FALSE(is_store(real_file_system(), folder_.path()));
  auto lock = lock_store(real_file_system(), kv_);
  ASSERT_TRUE(lock);
  EXPECT_EQ(store_.open(), "is in use by another server");
  lock.reset();
  EXPECT_FALSE(store_.open());
  EXPECT_FALSE(lock_store(real_file_system(), kv_));
  EXPECT_EQ(contents().runs.size(), 3u);  // needs none
}

TEST_F(StoreContentsTest, RemovingLeavesTheStoresOwnFolders) {
  folder_.write("kv/v1/" + to_hex(long_.root) + "/notes", "x");
  for (const RunFile& run : contents().runs) remove_from_store(real_file_system(), kv_, run.path);
  EXPECT_TRUE(contents().runs.empty());
  EXPECT_EQ(real_file_system().list(kv_), (std::vector<std::string>{"LOCK", "quarantine", "tmp", "v1"}));
  EXPECT_EQ(real_file_system().list(kv_ / "v1"), std::vector<std::string>{to_hex(long_.root)});
  EXPECT_EQ(real_file_system().list(kv_ / "v1" / to_hex(long_.root)), std::vector<std::string>{"notes"});
}

}  // namespace
}  // namespace cortex
