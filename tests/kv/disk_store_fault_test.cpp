// Files that are not what they were, and disks that do not do as they are told. Whatever happens: no bytes but those
// that were written for a key, no refusal to start, never past the quota.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <map>
#include <memory>

#include "fakes/fake_clock.h"
#include "fakes/faulty_file_system.h"
#include "fakes/temporary_folder.h"
#include "kv/disk_store.h"
#include "kv/stored_runs.h"

namespace cortex {
namespace {

using namespace std::chrono_literals;
using Call = FaultyFileSystem::Call;
namespace fs = std::filesystem;

constexpr std::uint64_t kFileBytes = stored_bytes(block_file_bytes(kBlocksPerFile, kTestBlockBytes));

class DiskStoreFaultTest : public testing::Test {
 protected:
  DiskStoreOptions options() const {
    DiskStoreOptions options;
    options.directory = kv_;
    options.limit_bytes = 1 << 20;
    return options;
  }
  DiskStore& open(DiskStoreOptions options) {
    store_.reset();
    store_ = std::make_unique<DiskStore>(disk_, clock_, std::move(options));
    return *store_;
  }
  DiskStore& open() { return open(options()); }
  DiskStore& reopen() {
    EXPECT_TRUE(scanned(open()));
    return *store_;
  }
  void close() { store_.reset(); }
  void keep(const TestSequence& sequence) {
    store_all(*store_, sequence);
    ASSERT_TRUE(comes_true([&] { return has(sequence); }));
  }
  bool has(const TestSequence& sequence) {
    return store_->available(sequence.root, sequence.chain, 0) == sequence.blocks();
  }
  // Lets what is pending be written, however often the store has to rest before.
  bool settle(const std::function<bool()>& condition) {
    return comes_true([&] {
      if (condition()) return true;
      clock_.advance(2min);
      store_->read(one_.request(0, 0), [](const BlockReadResult&) {});  // wakes it
      return false;
    });
  }
  std::string contents(const fs::path& path) const { return folder_.read(path); }
  std::uint64_t rejected(const std::string& reason) const {
    for (const auto& [name, count] : store_->status().rejected) {
      if (name == reason) return count;
    }
    return 0;
  }
  std::size_t quarantined() const {
    return static_cast<std::size_t>(
        std::distance(fs::directory_iterator(kv_ / "quarantine"), fs::directory_iterator()));
  }
  // The file of a sequence, as it would be after `change`, met by a running store and by a scan: the leading blocks
  // that may still be good.
  void expect_miss(const TestSequence& sequence, const std::function<void(std::string&)>& change, int good_at_most) {
    close();
    fs::remove_all(kv_);
    reopen();
    keep(sequence);
    std::string bytes = contents(fs::path("kv") / sequence.path());
    change(bytes);
    folder_.write(fs::path("kv") / sequence.path(), bytes);
    EXPECT_LE(read_back(*store_, sequence), good_at_most);
    EXPECT_EQ(read_back(*store_, sequence), 0) << "it was met again";
    EXPECT_EQ(store_->status().rejected.size(), 1u);
    EXPECT_EQ(store_->status().state, "ok") << store_->status().message;
    keep(sequence);  // and it can be written again
    close();
    folder_.write(fs::path("kv") / sequence.path(), bytes);
    EXPECT_LE(read_back(reopen(), sequence), good_at_most);
    EXPECT_EQ(store_->status().state, "ok") << store_->status().message;
    EXPECT_GE(quarantined(), 1u);
  }

  TemporaryFolder folder_;
  const fs::path kv_ = folder_.path() / "kv";
  FakeClock clock_;
  FaultyFileSystem disk_{real_file_system()};
  const TestSequence one_{16, 1}, two_{16, 2};
  std::unique_ptr<DiskStore> store_;
};

TEST_F(DiskStoreFaultTest, FilesThatWereCut) {
  const std::uint64_t bytes = block_file_bytes(16, kTestBlockBytes);
  for (std::uint64_t size = 0; size < bytes; size += 512) {
    expect_miss(one_, [&](std::string& file) { file.resize(size); }, 0);
  }
}

TEST_F(DiskStoreFaultTest, FilesWhoseEndIsZero) {
  for (const std::size_t from : {0u, 512u, 4096u, 4096u + 96u * 3u + 5u, 5631u}) {
    expect_miss(
        one_, [&](std::string& file) { std::fill(file.begin() + static_cast<std::ptrdiff_t>(from), file.end(), '\0'); },
        from < 4096 ? 0 : static_cast<int>(from - 4096) / 96);
  }
}

TEST_F(DiskStoreFaultTest, BitsThatFlipped) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 30; ++i) {
    const std::size_t bit = random() % (8 * block_file_bytes(16, kTestBlockBytes));
    expect_miss(
        one_, [&](std::string& file) { file[bit / 8] = static_cast<char>(file[bit / 8] ^ (1 << (bit % 8))); },
        bit / 8 < 4096 ? 0 : static_cast<int>(bit / 8 - 4096) / 96);
  }
}

TEST_F(DiskStoreFaultTest, OtherVersions) {
  for (const char version : {'\0', '\2'}) {
    expect_miss(one_, [&](std::string& file) { file[8] = version; }, 0);
    EXPECT_EQ(rejected("version"), 1u);
  }
}

TEST_F(DiskStoreFaultTest, FilesThatChangedPlaces) {
  for (const bool while_it_runs : {true, false}) {
    reopen();
    keep(one_);
    keep(two_);
    if (!while_it_runs) close();
    fs::rename(kv_ / one_.path(), kv_ / "between");
    fs::rename(kv_ / two_.path(), kv_ / one_.path());
    fs::rename(kv_ / "between", kv_ / two_.path());
    if (!while_it_runs) reopen();
    EXPECT_EQ(read_back(*store_, one_), 0);
    EXPECT_EQ(read_back(*store_, two_), 0);
    EXPECT_EQ(rejected("name"), 2u);
    close();
    fs::remove_all(kv_);
  }
}

TEST_F(DiskStoreFaultTest, BlocksOfAnotherRoot) {
  const TestSequence other(16, 1, 0, test_root("another model"));
  reopen();
  keep(one_);
  close();
  // Under the other's name, and under its own in the other's folder.
  for (const fs::path& path : {other.path(), fs::path("v1") / to_hex(other.root) /
                                                 one_.path().parent_path().filename() / one_.path().filename()}) {
    fs::create_directories((kv_ / path).parent_path());
    fs::copy_file(kv_ / one_.path(), kv_ / path);
  }
  reopen();
  EXPECT_EQ(rejected("root"), 2u);
  EXPECT_EQ(read_back(*store_, other), 0);
  EXPECT_EQ(read_back(*store_, one_), 16);
  EXPECT_EQ(store_->available(other.root, one_.chain, 0), 16);  // by the key alone
  TestSequence asked = one_;
  asked.root = other.root;
  EXPECT_EQ(read_back(*store_, asked), 0);
  EXPECT_GE(store_->status().bytes, bytes_in(kv_));
}

TEST_F(DiskStoreFaultTest, AFileInTheWrongFolder) {
  reopen();
  keep(one_);
  close();
  fs::create_directories(kv_ / one_.path().parent_path().parent_path() / "zz");
  fs::rename(kv_ / one_.path(), kv_ / one_.path().parent_path().parent_path() / "zz" / one_.path().filename());
  EXPECT_EQ(read_back(reopen(), one_), 0);
  EXPECT_EQ(rejected("name"), 1u);
}

TEST_F(DiskStoreFaultTest, QuarantineIsBounded) {
  reopen();
  for (int i = 0; i < 40; ++i) {
    const TestSequence sequence(16, i);
    keep(sequence);
    folder_.write(fs::path("kv") / sequence.path(), std::string(static_cast<std::size_t>(i) * 300, 'x'));
    EXPECT_EQ(read_back(*store_, sequence), 0);
    EXPECT_LE(quarantined(), 16u);
  }
  EXPECT_LE(bytes_in(kv_ / "quarantine"), options().limit_bytes / 16);
  EXPECT_GE(quarantined(), 4u);
  reopen();
  EXPECT_LE(bytes_in(kv_ / "quarantine"), options().limit_bytes / 16);
  EXPECT_GE(store_->status().bytes, bytes_in(kv_));
}

TEST_F(DiskStoreFaultTest, LeftoversAndStrangersInTheFolder) {
  reopen();
  keep(one_);
  close();
  folder_.write("kv/tmp/half a file", std::string(5000, 'x'));
  folder_.write("kv/notes.txt", std::string(5000, 'x'));
  folder_.write("kv/v1/readme", "x");
  folder_.write("kv/v2/" + to_hex(one_.root) + "/file.kv", std::string(9000, 'x'));
  fs::create_symlink(kv_ / one_.path(), kv_ / "v1" / to_hex(one_.root) / "link");
  reopen();
  EXPECT_FALSE(fs::exists(kv_ / "tmp" / "half a file"));
  EXPECT_TRUE(fs::exists(kv_ / "notes.txt"));
  EXPECT_GE(store_->status().bytes, bytes_in(kv_));  // strangers count
  EXPECT_EQ(read_back(*store_, one_), 16);
}

// Every kind of call fails once, each of the first few times in turn.
TEST_F(DiskStoreFaultTest, CallsThatFailOnce) {
  const std::vector<Call> calls = {Call::open,
                                   Call::read,
                                   Call::list,
                                   Call::remove,
                                   Call::status,
                                   Call::create,
                                   Call::write,
                                   Call::sync,
                                   Call::create_directory,
                                   Call::rename,
                                   Call::sync_directory,
                                   Call::set_modified,
                                   Call::available_bytes,
                                   Call::lock};
  for (const Call call : calls) {
    for (int nth = 1; nth <= 5; ++nth) {
      for (const int error : {nth % 2 ? EIO : EROFS, nth % 3 == 0 ? EINTR : nth % 3 == 1 ? ENOSPC : EDQUOT}) {
        close();
        fs::remove_all(kv_);
        disk_.fail(call, nth, error);
        open();
        const TestSequence sequence(20, 1);
        for (int round = 0; round < 3; ++round) {
          store_all(*store_, sequence);
          comes_true([&] { return has(sequence); }, 4ms);
          read_back(*store_, sequence);
          clock_.advance(2min);
        }
        disk_.mend();
        ASSERT_TRUE(settle([&] {
          store_all(*store_, sequence);
          return has(sequence) && read_back(*store_, sequence) == 20;
        })) << static_cast<int>(call)
            << " " << error << " " << nth << " " << store_->status().message;
        EXPECT_LE(bytes_in(kv_), options().limit_bytes);
        reopen();
        EXPECT_EQ(read_back(*store_, sequence), 20);
      }
    }
  }
}

TEST_F(DiskStoreFaultTest, ShortAndInterruptedWrites) {
  for (const std::size_t bytes : {1u, 100u, 511u, 4096u}) {
    for (int nth = 1; nth < 8; ++nth) {
      disk_.shorten_writes(bytes);
      reopen();
      disk_.fail(Call::write, nth, EINTR);
      const TestSequence sequence(16, nth + static_cast<int>(bytes));
      keep(sequence);
      EXPECT_EQ(read_back(*store_, sequence), 16);
    }
  }
}

TEST_F(DiskStoreFaultTest, AFullDiskIsToldAndTriedAgain) {
  reopen();
  keep(one_);
  disk_.fail_from(Call::write, 1, ENOSPC);
  store_all(*store_, two_);
  ASSERT_TRUE(comes_true([&] { return store_->status().state == "full"; }));
  EXPECT_THAT(store_->status().message, testing::HasSubstr("No space left"));
  EXPECT_FALSE(has(one_));  // went for it
  EXPECT_TRUE(comes_true([&] { return store_->status().dropped_bytes == 16 * kTestBlockBytes; }));
  disk_.mend();
  store_all(*store_, two_);
  ASSERT_TRUE(settle([&] { return has(two_); }));
  EXPECT_EQ(store_->status().state, "ok");
  EXPECT_EQ(read_back(*store_, two_), 16);
}

TEST_F(DiskStoreFaultTest, ABrokenDiskIsStillRead) {
  reopen();
  keep(one_);
  disk_.fail_from(Call::sync, 1, EIO);
  store_all(*store_, two_);
  ASSERT_TRUE(comes_true([&] { return store_->status().state == "error"; }));
  EXPECT_EQ(read_back(*store_, one_), 16);
  EXPECT_TRUE(fs::is_empty(kv_ / "tmp"));
  // It rests longer each time.
  const int creates = disk_.calls(Call::create);
  for (int i = 0; i < 50; ++i) {
    store_all(*store_, TestSequence(16, 10 + i));
    EXPECT_EQ(read_back(*store_, one_), 16);
    clock_.advance(100ms);
  }
  EXPECT_LE(disk_.calls(Call::create) - creates, 4);
}

// Whatever is thrown while it writes or looks for what is there, such as for want of memory, it rests and goes on.
TEST_F(DiskStoreFaultTest, ExceptionsThatAreNoDisks) {
  for (const std::string_view point :
       {"half_header", "half_payload", "open", "before_rename", "after_rename", "before_dir_sync", "mid_index"}) {
    close();
    fs::remove_all(kv_);
    reopen();
    keep(one_);
    std::atomic<bool> armed = true;
    std::atomic<bool> thrown = false;
    DiskStoreOptions throwing = options();
    throwing.failpoint = [&](std::string_view reached) {
      if (reached != point || !armed.exchange(false)) return;
      thrown = true;
      throw std::bad_alloc();
    };
    open(std::move(throwing));
    ASSERT_TRUE(settle([&] { return has(one_); })) << point;
    store_all(*store_, two_);
    ASSERT_TRUE(settle([&] {
      store_all(*store_, two_);
      return thrown && has(two_);
    })) << point;
    const TestSequence three(16, 3);
    store_all(*store_, three);
    ASSERT_TRUE(settle([&] { return has(three) && store_->status().state == "ok"; })) << point;
    EXPECT_EQ(read_back(*store_, one_), 16) << point;
    EXPECT_EQ(read_back(*store_, two_), 16) << point;
    close();
  }
}

TEST_F(DiskStoreFaultTest, TheDiskKeepsSomeRoom) {
  DiskStoreOptions careful = options();
  careful.free_bytes = 1 << 30;
  disk_.set_available(careful.free_bytes + kFileBytes);
  open(careful);
  ASSERT_TRUE(scanned(*store_));
  keep(one_);
  disk_.set_available(careful.free_bytes - 1);
  store_all(*store_, two_);
  ASSERT_TRUE(comes_true([&] { return store_->status().state == "full"; }));
  EXPECT_THAT(store_->status().message, testing::HasSubstr("to keep 1073741824 bytes free"));
  EXPECT_TRUE(has(one_));  // to remove it would not have helped
  disk_.set_available(careful.free_bytes + kFileBytes);
  store_all(*store_, two_);
  ASSERT_TRUE(settle([&] { return has(two_); }));
}

TEST_F(DiskStoreFaultTest, ALimitThatHoldsNoFile) {
  DiskStoreOptions tiny = options();
  tiny.limit_bytes = 4096;
  open(tiny);
  store_all(*store_, one_);
  ASSERT_TRUE(comes_true([&] { return store_->status().state == "full"; }));
  EXPECT_LE(bytes_in(kv_), tiny.limit_bytes);
}

TEST_F(DiskStoreFaultTest, FoldersThatAreNotToBeUsed) {
  const std::map<std::string, std::function<void()>> ways = {
      {"is a symbolic link",
       [&] {
         fs::create_directory(folder_.path() / "elsewhere");
         fs::create_directory_symlink(folder_.path() / "elsewhere", kv_);
       }},
      {"is not a folder", [&] { folder_.write("kv", "x"); }},
      {"is open to other users (mode 755)", [&] { fs::create_directory(kv_), ::chmod(kv_.c_str(), 0755); }},
  };
  for (const auto& [reason, make] : ways) {
    close();
    fs::remove_all(kv_);
    make();
    DiskStore& store = open();
    EXPECT_EQ(store.status().state, "off");
    EXPECT_THAT(store.status().message, testing::HasSubstr(reason));
    store_all(store, one_);
    EXPECT_EQ(read_back(store, one_), 0);
    EXPECT_EQ(store.available(one_.root, one_.chain, 0), 0);
  }
  if (::geteuid() != 0) return;  // only root can give a folder away
  close();
  fs::remove_all(kv_);
  fs::create_directory(kv_);
  ASSERT_EQ(::chmod(kv_.c_str(), 0700), 0);
  ASSERT_EQ(::chown(kv_.c_str(), 12345, 12345), 0);
  EXPECT_THAT(open().status().message, testing::HasSubstr("belongs to another user"));
}

TEST_F(DiskStoreFaultTest, AFolderThatIsMadeIsItsOwnersOnly) {
  reopen();
  keep(one_);
  for (const auto& entry : fs::recursive_directory_iterator(kv_)) {
    EXPECT_EQ(static_cast<unsigned>(entry.status().permissions()) & 077, 0u) << entry.path();
  }
  EXPECT_EQ(static_cast<unsigned>(fs::status(kv_).permissions()), 0700u);
}

TEST_F(DiskStoreFaultTest, AFolderThatGoesAway) {
  fs::create_directory(folder_.path() / "elsewhere");
  const std::vector<std::function<void()>> ways = {
      [&] { fs::remove_all(kv_); },
      [&] { fs::rename(kv_, folder_.path() / "moved"); },
      [&] { fs::remove_all(kv_), fs::create_directory_symlink(folder_.path() / "elsewhere", kv_); },
      [&] { fs::remove_all(kv_), folder_.write("kv", "a file"); },
  };
  for (std::size_t way = 0; way < ways.size(); ++way) {
    reopen();
    keep(one_);
    ways[way]();
    EXPECT_EQ(read_back(*store_, one_), 0);
    store_all(*store_, two_);
    EXPECT_EQ(store_->status().state, "error") << store_->status().message;
    EXPECT_TRUE(fs::is_empty(folder_.path() / "elsewhere"));
    if (way >= 2) fs::remove(kv_);
    ASSERT_TRUE(settle([&] {
      store_all(*store_, two_);
      return has(two_);
    })) << store_->status().message;
    EXPECT_EQ(read_back(*store_, two_), 16);
    EXPECT_EQ(store_->status().state, "ok");
    close();
    fs::remove_all(kv_);
  }
}

TEST_F(DiskStoreFaultTest, AFolderThatCanOnlyBeRead) {
  reopen();
  keep(one_);
  for (const Call call : {Call::create, Call::create_directory, Call::remove, Call::rename, Call::set_modified}) {
    disk_.fail_from(call, 1, EROFS);
  }
  store_all(*store_, two_);
  ASSERT_TRUE(comes_true([&] { return store_->status().state == "error"; }));
  EXPECT_EQ(read_back(*store_, one_), 16);
  close();
  open();  // all that a start writes is there
  ASSERT_TRUE(scanned(*store_));
  EXPECT_EQ(read_back(*store_, one_), 16);
}

TEST_F(DiskStoreFaultTest, AFullTmpfs) {
  const fs::path small = folder_.path() / "small";
  fs::create_directory(small);
#ifdef __linux__
  if (::mount("tmpfs", small.c_str(), "tmpfs", 0, "size=128k,mode=700") == 0) {
    DiskStoreOptions options = this->options();
    options.directory = small / "kv";
    open(options);
    ASSERT_TRUE(scanned(*store_));
    for (int i = 0; i < 60; ++i) {
      const TestSequence sequence(16, i);
      store_all(*store_, sequence);
      ASSERT_TRUE(settle([&] {
        store_all(*store_, sequence);
        return has(sequence);
      })) << store_->status().message;
      EXPECT_EQ(read_back(*store_, sequence), 16);
    }
    EXPECT_LT(store_->status().files, 60u);
    close();
    ASSERT_EQ(::umount(small.c_str()), 0);
    return;
  }
#endif
  // The same without the right to mount: a disk that is full from some write on.
  reopen();
  for (int i = 0; i < 20; ++i) {
    disk_.fail(Call::write, 3, ENOSPC);
    keep(TestSequence(16, i));
  }
}

}  // namespace
}  // namespace cortex
