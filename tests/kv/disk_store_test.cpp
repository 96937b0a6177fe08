#include "kv/disk_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <memory>

#include "base/error.h"
#include "fakes/fake_clock.h"
#include "fakes/temporary_folder.h"
#include "kv/stored_runs.h"

namespace cortex {
namespace {

using namespace std::chrono_literals;

// What a run of sixteen test blocks takes.
constexpr std::uint64_t kFileBytes = stored_bytes(block_file_bytes(kBlocksPerFile, kTestBlockBytes));
constexpr std::size_t kRunBytes = kBlocksPerFile * kTestBlockBytes;

class DiskStoreTest : public testing::Test {
 protected:
  DiskStoreOptions options() const {
    DiskStoreOptions options;
    options.directory = folder_.path() / "kv";
    options.limit_bytes = 1 << 20;
    return options;
  }
  DiskStore& open(DiskStoreOptions options) {
    store_.reset();
    store_ = std::make_unique<DiskStore>(real_file_system(), clock_, std::move(options));
    return *store_;
  }
  DiskStore& open() { return open(options()); }
  // Opens it once more, and waits until all is found.
  DiskStore& reopen() {
    open();
    EXPECT_TRUE(scanned(*store_));
    return *store_;
  }
  bool written(const TestSequence& sequence) {
    return comes_true([&] { return store_->available(sequence.root, sequence.chain, 0) == sequence.blocks(); });
  }

  TemporaryFolder folder_;
  FakeClock clock_;
  std::unique_ptr<DiskStore> store_;
};

TEST_F(DiskStoreTest, GivesBackWhatWasWritten) {
  DiskStore& store = open();
  const TestSequence sequence(37, 1);
  EXPECT_EQ(store.available(sequence.root, sequence.chain, 0), 0);
  EXPECT_EQ(read_back(store, sequence), 0);
  store_all(store, sequence);
  ASSERT_TRUE(written(sequence));
  for (const auto& [first, count] : {std::pair(0, 37), {0, 1}, {5, 20}, {16, 16}, {31, 2}, {36, 1}, {17, 0}}) {
    EXPECT_EQ(read_back(store, sequence, first, count), count) << first;
    EXPECT_EQ(store.available(sequence.root, sequence.chain, first), 37 - first);
  }
  EXPECT_EQ(store.available(sequence.root, sequence.chain, 37), 0);
  const DiskStoreStatus status = store.status();
  EXPECT_EQ(status.state, "ok") << status.message;
  EXPECT_EQ(status.files, 3u);
  EXPECT_GE(status.bytes, bytes_in(folder_.path()));
  EXPECT_TRUE(status.rejected.empty());
}

TEST_F(DiskStoreTest, ARestartCostsNothing) {
  const TestSequence sequence(37, 1, 18), other(20, 2, 18);
  for (int life = 0; life < 3; ++life) {
    DiskStore& store = open();
    if (life == 0) store_all(store, sequence);
    if (life == 1) store_all(store, other);
    ASSERT_TRUE(scanned(store));
    ASSERT_TRUE(written(sequence));
    EXPECT_EQ(read_back(store, sequence), 37);
    if (life > 0) {
      ASSERT_TRUE(written(other));
      EXPECT_EQ(read_back(store, other), 20);
    }
    EXPECT_EQ(store.status().files, life == 0 ? 3u : 4u);
  }
}

TEST_F(DiskStoreTest, SequencesThatPartWithinARunHaveItsBeginning) {
  DiskStore& store = open();
  const TestSequence one(16, 1, 9), two(16, 2, 9), three(12, 3, 5);
  store_all(store, one);
  ASSERT_TRUE(written(one));
  EXPECT_EQ(store.available(two.root, two.chain, 0), 9);
  EXPECT_EQ(read_back(store, two), 9);
  store_all(store, two);
  ASSERT_TRUE(written(two));
  EXPECT_EQ(read_back(store, one), 16);
  EXPECT_EQ(read_back(store, two), 16);
  EXPECT_EQ(read_back(store, three), 5);
  EXPECT_EQ(store.available(three.root, three.chain, 3), 2);
  EXPECT_EQ(store.available(three.root, three.chain, 5), 0);
}

TEST_F(DiskStoreTest, ALongerRunTakesAShortersPlace) {
  const TestSequence sequence(32, 1);
  {
    DiskStore& store = open();
    for (const int blocks : {17, 19, 32}) {
      store.write(sequence.run(0));
      store.write(sequence.run(16, blocks - 16));
      ASSERT_TRUE(comes_true([&] { return store.available(sequence.root, sequence.chain, 0) == blocks; }));
      ASSERT_TRUE(comes_true([&] { return store.status().files == 2; }));
    }
    store.write(sequence.run(16, 5));  // is there already
    EXPECT_EQ(read_back(store, sequence), 32);
  }
  EXPECT_EQ(reopen().status().files, 2u);
  EXPECT_EQ(read_back(*store_, sequence), 32);
}

TEST_F(DiskStoreTest, TheSameIsNotWrittenTwice) {
  DiskStore& store = open();
  const TestSequence sequence(16, 1);
  EXPECT_FALSE(store.has_run(sequence.chain.back()));
  store_all(store, sequence);
  EXPECT_TRUE(store.has_run(sequence.chain.back()));
  ASSERT_TRUE(written(sequence));
  ASSERT_TRUE(comes_true([&] { return store.status().written_bytes > 0; }));
  const std::uint64_t once = store.status().written_bytes;
  for (int i = 0; i < 5; ++i) store_all(store, sequence);
  const TestSequence last(1, 2);
  store_all(store, last);
  ASSERT_TRUE(written(last));
  EXPECT_LT(store.status().written_bytes, 2 * once + kBlockFileHeaderBytes);
  EXPECT_EQ(store.status().dropped_bytes, 0u);
  EXPECT_TRUE(store.has_run(sequence.chain.back()));
}

TEST_F(DiskStoreTest, StaysWithinItsQuotaAndKeepsWhatIsUsed) {
  DiskStoreOptions limited = options();
  limited.limit_bytes = 20 * kFileBytes;
  std::atomic<std::uint64_t> most = 0;
  limited.failpoint = [&](std::string_view) { most = std::max(most.load(), bytes_in(folder_.path())); };
  DiskStore& store = open(limited);
  const TestSequence favourite(16, 0);
  store_all(store, favourite);
  ASSERT_TRUE(written(favourite));
  for (int i = 1; i <= 60; ++i) {
    const TestSequence sequence(16, i);
    store_all(store, sequence);
    ASSERT_TRUE(written(sequence));
    EXPECT_EQ(read_back(store, favourite), 16) << i;
    EXPECT_LE(store.status().bytes, limited.limit_bytes);
  }
  EXPECT_LE(most, limited.limit_bytes);
  EXPECT_GT(most, limited.limit_bytes / 2);
  EXPECT_EQ(store.available(test_root(), TestSequence(16, 1).chain, 0), 0);
  EXPECT_EQ(store.status().state, "ok");
}

TEST_F(DiskStoreTest, WhatIsContinuedGoesAfterWhatContinuesIt) {
  DiskStoreOptions limited = options();
  limited.limit_bytes = 16 * kFileBytes;
  DiskStore& store = open(limited);
  const TestSequence tall(10 * kBlocksPerFile, 1);
  store_all(store, tall);
  ASSERT_TRUE(written(tall));
  int before = tall.blocks();
  for (int i = 2; i < 30; ++i) {
    const TestSequence sequence(16, i);
    store_all(store, sequence);
    ASSERT_TRUE(written(sequence));
    // Whatever is left is a beginning: no file is left without those that lead to it.
    const int left = store.available(tall.root, tall.chain, 0);
    for (int first = left + kBlocksPerFile; first < tall.blocks(); first += kBlocksPerFile) {
      EXPECT_EQ(store.available(tall.root, tall.chain, first), 0) << left;
    }
    EXPECT_LE(left, before);
    before = left;
  }
  EXPECT_EQ(before, 0);
}

TEST_F(DiskStoreTest, ALowerLimitIsMetAtTheStart) {
  for (int i = 0; i < 20; ++i) {
    DiskStore& store = store_ ? *store_ : open();
    const TestSequence sequence(16, i);
    store_all(store, sequence);
    ASSERT_TRUE(written(sequence));
  }
  DiskStoreOptions limited = options();
  limited.limit_bytes = 5 * kFileBytes;
  open(limited);
  ASSERT_TRUE(scanned(*store_));
  EXPECT_LE(bytes_in(folder_.path()), limited.limit_bytes);
  EXPECT_EQ(store_->status().files, 5u);
}

TEST_F(DiskStoreTest, LastUseSurvivesARestart) {
  for (int i = 0; i < 8; ++i) {
    const TestSequence sequence(16, i);
    DiskStore& store = store_ ? *store_ : open();
    clock_.advance(10s);
    store_all(store, sequence);
    ASSERT_TRUE(written(sequence));
    // A new file has the machine's time; the clock's is what reading gives it.
    EXPECT_EQ(read_back(store, sequence), 16);
  }
  clock_.advance(10s);
  EXPECT_EQ(read_back(*store_, TestSequence(16, 0)), 16);
  DiskStoreOptions limited = options();
  limited.limit_bytes = 2 * kFileBytes;
  open(limited);
  ASSERT_TRUE(scanned(*store_));
  EXPECT_EQ(read_back(*store_, TestSequence(16, 0)), 16);
  EXPECT_EQ(read_back(*store_, TestSequence(16, 7)), 16);
  EXPECT_EQ(store_->status().files, 2u);
}

TEST_F(DiskStoreTest, TheWallClockMayGoBack) {
  class Turned : public FakeClock {
   public:
    std::chrono::system_clock::time_point wall_now() const override { return FakeClock::wall_now() - 366 * 24h; }
  };
  const TestSequence before(16, 1);
  store_all(open(), before);
  ASSERT_TRUE(written(before));
  store_.reset();
  const Turned turned;
  {
    DiskStoreOptions limited = options();
    limited.limit_bytes = 4 * kFileBytes;
    DiskStore store(real_file_system(), turned, limited);
    ASSERT_TRUE(scanned(store));
    for (int i = 0; i < 10; ++i) {
      // What this process used last goes last, whatever the clock says.
      EXPECT_EQ(read_back(store, before), 16) << i;
      const TestSequence after(16, 2 + i);
      store_all(store, after);
      ASSERT_TRUE(comes_true([&] { return store.available(after.root, after.chain, 0) == 16; }));
    }
    EXPECT_EQ(read_back(store, before), 16);
  }
  EXPECT_EQ(read_back(reopen(), before), 16);
}

TEST_F(DiskStoreTest, WhatADayAllowsIsWritten) {
  DiskStoreOptions thrifty = options();
  thrifty.write_bytes_per_day = 3 * block_file_bytes(kBlocksPerFile, kTestBlockBytes);
  DiskStore& store = open(thrifty);
  for (int i = 0; i < 5; ++i) store_all(store, TestSequence(16, i));
  ASSERT_TRUE(comes_true([&] { return store.status().state == "full"; }));
  EXPECT_THAT(store.status().message, testing::HasSubstr("within a day"));
  EXPECT_EQ(store.status().files, 3u);
  EXPECT_TRUE(store.has_run(TestSequence(16, 4).chain.back()));  // waits
  EXPECT_EQ(read_back(store, TestSequence(16, 0)), 16);          // reads go on
  clock_.advance(25h);
  ASSERT_TRUE(comes_true([&] { return store.status().files == 5; }));
  EXPECT_EQ(store.status().state, "ok");
  EXPECT_EQ(store.status().dropped_bytes, 0u);
}

TEST_F(DiskStoreTest, OfWhatIsPendingTheOldestIsDropped) {
  DiskStoreOptions thrifty = options();
  thrifty.write_bytes_per_day = 1;  // nothing can be written
  thrifty.pending_bytes = 4 * kRunBytes;
  DiskStore& store = open(thrifty);
  for (int i = 0; i < 6; ++i) store_all(store, TestSequence(16, i));
  EXPECT_EQ(store.status().dropped_bytes, 2 * kRunBytes);
  EXPECT_FALSE(store.has_run(TestSequence(16, 1).chain.back()));
  EXPECT_TRUE(store.has_run(TestSequence(16, 2).chain.back()));
  TestSequence huge(16, 9, 0, test_root(), kTestBlockBytes * 5);
  store_all(store, huge);
  EXPECT_FALSE(store.has_run(huge.chain.back()));
}

TEST_F(DiskStoreTest, ARunThatWaitsIsReplacedByOneThatExtendsIt) {
  DiskStoreOptions thrifty = options();
  thrifty.write_bytes_per_day = 1;
  DiskStore& store = open(thrifty);
  const TestSequence sequence(16, 1);
  store.write(sequence.run(0, 3));
  store.write(sequence.run(0, 9));
  store.write(sequence.run(0, 5));
  EXPECT_FALSE(store.has_run(sequence.chain[2]));
  EXPECT_FALSE(store.has_run(sequence.chain[4]));
  EXPECT_TRUE(store.has_run(sequence.chain[8]));
  EXPECT_EQ(store.status().dropped_bytes, 0u);
}

TEST_F(DiskStoreTest, WritesWhatIsPendingWhenItEnds) {
  for (int i = 0; i < 20; ++i) store_all(store_ ? *store_ : open(), TestSequence(40, i));
  DiskStore& store = reopen();
  for (int i = 0; i < 20; ++i) EXPECT_EQ(read_back(store, TestSequence(40, i)), 40) << i;
}

TEST_F(DiskStoreTest, ADeadlineEndsTheWriting) {
  DiskStoreOptions slow = options();
  slow.flush_deadline = 1000ms;
  slow.failpoint = [&](std::string_view point) {
    if (point == "before_rename") clock_.advance(300ms);
  };
  open(slow);
  ASSERT_TRUE(scanned(*store_));
  slow.directory = folder_.path() / "other";
  for (int i = 0; i < 40; ++i) store_all(*store_, TestSequence(16, i));
  store_.reset();
  const std::uint64_t files = reopen().status().files;
  EXPECT_GE(files, 4u);
  EXPECT_LT(files, 40u);
}

TEST_F(DiskStoreTest, EveryReadIsAnsweredAtTheEnd) {
  const TestSequence sequence(40, 1);
  std::atomic<int> answers = 0;
  open();
  store_all(*store_, sequence);
  for (int i = 0; i < 50; ++i) {
    store_->read(sequence.request(0, 40), [&](const BlockReadResult& result) {
      good_blocks(sequence, 0, result);
      ++answers;
    });
  }
  store_.reset();
  EXPECT_EQ(answers, 50);
}

TEST_F(DiskStoreTest, AnswersWhileItScans) {
  const TestSequence whole(32, 1), part(24, 2);
  store_all(open(), whole);
  store_all(*store_, part);
  ASSERT_TRUE(written(whole) && written(part));
  std::promise<void> go_on;
  const std::shared_future<void> held = go_on.get_future().share();
  DiskStoreOptions slow = options();
  slow.failpoint = [&, first = true](std::string_view point) mutable {
    if (point == "mid_index" && std::exchange(first, false)) held.wait();
  };
  DiskStore& store = open(slow);
  EXPECT_TRUE(store.status().scanning);
  EXPECT_EQ(store.available(whole.root, whole.chain, 0), 32);
  EXPECT_EQ(store.available(whole.root, whole.chain, 20), 12);
  EXPECT_EQ(store.available(part.root, part.chain, 0), 16);  // a part of a run can't be told by name
  EXPECT_EQ(store.available(test_root("another"), whole.chain, 0), 0);
  std::promise<int> blocks;
  store.read(whole.request(0, 32),
             [&](const BlockReadResult& result) { blocks.set_value(good_blocks(whole, 0, result)); });
  go_on.set_value();
  EXPECT_EQ(blocks.get_future().get(), 32);
  ASSERT_TRUE(scanned(store));
  EXPECT_EQ(store.available(part.root, part.chain, 0), 24);
  EXPECT_TRUE(store.status().rejected.empty());
}

TEST_F(DiskStoreTest, TwoStoresDoNotShareAFolder) {
  const TestSequence sequence(16, 1), later(16, 2);
  auto first = std::make_unique<DiskStore>(real_file_system(), clock_, options());
  store_all(*first, sequence);
  DiskStore& second = open();
  EXPECT_EQ(second.status().state, "off");
  EXPECT_THAT(second.status().message, testing::HasSubstr("is in use by another server"));
  EXPECT_THAT(second.status().message,
              testing::Not(testing::HasSubstr(options().directory.string())));  // the log has it
  second.write(later.run(0));
  EXPECT_FALSE(second.has_run(later.chain.back()));
  EXPECT_EQ(second.available(sequence.root, sequence.chain, 0), 0);
  EXPECT_EQ(read_back(second, sequence), 0);
  EXPECT_EQ(second.status().dropped_bytes, 16 * kTestBlockBytes);
  first.reset();
  // Once the other has ended the folder is there for the second.
  clock_.advance(2min);
  EXPECT_EQ(read_back(second, later), 0);
  ASSERT_TRUE(scanned(second));
  EXPECT_EQ(second.status().state, "ok") << second.status().message;
  EXPECT_EQ(read_back(second, sequence), 16);
}

TEST_F(DiskStoreTest, ReadsTellTheirPace) {
  DiskStore& store = open();
  const double careful = store.read_bytes_per_second();
  EXPECT_GT(careful, 10e6);
  EXPECT_LT(careful, 1e9);
  const TestSequence sequence(16, 1);
  store_all(store, sequence);
  ASSERT_TRUE(written(sequence));
  class Slow : public FakeClock {  // each look at it takes a second
   public:
    std::chrono::steady_clock::time_point steady_now() const override {
      return FakeClock::steady_now() + std::chrono::seconds(++looks_);
    }

   private:
    mutable std::atomic<int> looks_ = 0;
  };
  store_.reset();
  const Slow slow;
  DiskStore slower(real_file_system(), slow, options());
  ASSERT_TRUE(scanned(slower));
  for (int i = 0; i < 100; ++i) EXPECT_EQ(read_back(slower, sequence), 16);
  EXPECT_LT(slower.read_bytes_per_second(), 1e5);
}

TEST_F(DiskStoreTest, WrongRequestsAreTheCallers) {
  DiskStore& store = open();
  const TestSequence sequence(16, 1);
  EXPECT_THROW(store.read(sequence.request(8, 9), [](const BlockReadResult&) {}), CheckFailure);
  EXPECT_THROW(store.read(sequence.request(-1, 3), [](const BlockReadResult&) {}), CheckFailure);
  StoredRun run = sequence.run(0);
  run.payload.pop_back();
  EXPECT_THROW(store.write(run), CheckFailure);
  run = sequence.run(0);
  run.first_block = 8;
  EXPECT_THROW(store.write(run), CheckFailure);
}

TEST_F(DiskStoreTest, TokensOfARequestAreCompared) {
  DiskStore& store = open();
  const TestSequence sequence(16, 1);
  store_all(store, sequence);
  ASSERT_TRUE(written(sequence));
  TestSequence other = sequence;
  other.tokens[100] += 1;  // keys that are not those of the tokens
  EXPECT_EQ(read_back(store, other), 0);
  TestSequence wider = sequence;
  wider.block_bytes *= 2;
  EXPECT_EQ(read_now(store, wider, 0, 16).blocks, 0);
  EXPECT_EQ(read_back(store, sequence), 16);  // the file is not to blame
  using Rejected = std::vector<std::pair<std::string, std::uint64_t>>;
  EXPECT_EQ(store.status().rejected, (Rejected{{"request", 2}}));
}

// With ten times the files a start takes no more than ten times the calls: each is met once.
TEST_F(DiskStoreTest, ManyFilesAreFoundInOnePass) {
  DiskStoreOptions roomy = options();
  roomy.limit_bytes = 1 << 30;
  std::map<int, int> steps;
  for (const int files : {300, 3000}) {
    roomy.directory = folder_.path() / std::to_string(files);
    open(roomy);
    ASSERT_TRUE(scanned(*store_));
    store_.reset();
    for (int i = 0; i < files; ++i) {
      const StoredRun run = TestSequence(1, i).run(0);
      const auto path = roomy.directory / block_file_path(run.root, run.keys.back());
      std::filesystem::create_directories(path.parent_path());
      const auto header = make_block_file_header(run);
      std::ofstream out(path, std::ios::binary);
      out.write(reinterpret_cast<const char*>(header.data()), header.size());
      out.write(reinterpret_cast<const char*>(run.payload.data()), static_cast<std::streamsize>(run.payload.size()));
    }
    DiskStoreOptions counting = roomy;
    counting.failpoint = [&](std::string_view point) { steps[files] += point == "mid_index"; };
    DiskStore& store = open(counting);
    ASSERT_TRUE(scanned(store));
    EXPECT_EQ(store.status().files, static_cast<std::uint64_t>(files));
    EXPECT_EQ(read_back(store, TestSequence(1, files / 2)), 1);
    store_.reset();
  }
  EXPECT_LE(steps[3000], 10 * steps[300]);
}

}  // namespace
}  // namespace cortex
