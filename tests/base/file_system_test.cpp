#include "base/file_system.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <array>
#include <chrono>
#include <fstream>
#include <system_error>

#include "fakes/faulty_file_system.h"
#include "fakes/temporary_folder.h"

namespace cortex {
namespace {

class FileSystemTest : public testing::Test {
 protected:
  void replace(const std::string& name, std::string_view text) {
    real_file_system().replace(directory_ / name, std::as_bytes(std::span(text)));
  }

  TemporaryFolder folder_;
  const std::filesystem::path& directory_ = folder_.path();
};

TEST_F(FileSystemTest, ReplacesAWholeFileAndLeavesNothingBeside) {
  replace("a", "first");
  replace("a", "second");
  EXPECT_EQ(real_file_system().read_text(directory_ / "a", 100), "second");
  EXPECT_EQ(real_file_system().list(directory_), std::vector<std::string>{"a"});
}

TEST_F(FileSystemTest, ReadsAtOffsets) {
  replace("a", "0123456789");
  const auto file = real_file_system().open(directory_ / "a");
  EXPECT_EQ(file->size_bytes(), 10u);
  std::array<std::byte, 3> bytes{};
  file->read(4, bytes);
  EXPECT_EQ(std::to_integer<char>(bytes[0]), '4');
  EXPECT_EQ(std::to_integer<char>(bytes[2]), '6');
}

TEST_F(FileSystemTest, AShortFileIsAnErrorThatNamesIt) {
  replace("a", "0123456789");
  const auto file = real_file_system().open(directory_ / "a");
  std::filesystem::resize_file(directory_ / "a", 5);
  std::array<std::byte, 8> bytes{};
  try {
    file->read(0, bytes);
    FAIL() << "nothing was thrown";
  } catch (const std::system_error& error) {
    EXPECT_NE(std::string(error.what()).find((directory_ / "a").string()), std::string::npos) << error.what();
  }
}

TEST_F(FileSystemTest, ALinkExistsWhereverItLeads) {
  replace("a", "x");
  std::filesystem::create_symlink("a", directory_ / "link");
  std::filesystem::create_symlink("nowhere", directory_ / "dangling");
  const FileSystem& files = real_file_system();
  for (const char* name : {"a", "link", "dangling", "."}) EXPECT_TRUE(files.exists(directory_ / name)) << name;
  EXPECT_FALSE(files.exists(directory_ / "nowhere"));
  EXPECT_EQ(files.canonical(directory_ / "link"), std::filesystem::canonical(directory_) / "a");
  EXPECT_THROW(files.canonical(directory_ / "dangling"), std::system_error);
}

TEST_F(FileSystemTest, OpensRegularFilesOnly) {
  ASSERT_EQ(::mkfifo((directory_ / "fifo").c_str(), 0600), 0);
  EXPECT_THROW(real_file_system().open(directory_ / "fifo"), std::system_error);
  EXPECT_THROW(real_file_system().open(directory_), std::system_error);
  EXPECT_THROW(real_file_system().open(directory_ / "absent"), std::system_error);
}

TEST_F(FileSystemTest, ReadTextKeepsToItsLimit) {
  replace("a", "0123456789");
  EXPECT_EQ(real_file_system().read_text(directory_ / "a", 10).size(), 10u);
  EXPECT_THROW(real_file_system().read_text(directory_ / "a", 9), std::system_error);
}

TEST_F(FileSystemTest, ListsInOrder) {
  replace("b", "");
  replace("a", "");
  real_file_system().create_directories(directory_ / "c" / "d");
  EXPECT_EQ(real_file_system().list(directory_), (std::vector<std::string>{"a", "b", "c"}));
  EXPECT_TRUE(real_file_system().is_directory(directory_ / "c"));
  EXPECT_TRUE(real_file_system().is_file(directory_ / "a"));
  real_file_system().remove(directory_ / "a");
  EXPECT_FALSE(real_file_system().is_file(directory_ / "a"));
}

TEST_F(FileSystemTest, ANewFileIsItsOwnersAndTakesNoOthersName) {
  FileSystem& files = real_file_system();
  {
    const auto file = files.create(directory_ / "a");
    file->write(std::as_bytes(std::span(std::string_view("first "))));
    file->write(std::as_bytes(std::span(std::string_view("second"))));
    file->sync();
  }
  EXPECT_EQ(files.read_text(directory_ / "a", 100), "first second");
  EXPECT_EQ(files.status(directory_ / "a")->permissions, 0600u);
  EXPECT_THROW(files.create(directory_ / "a"), std::system_error);
  std::filesystem::create_symlink("nowhere", directory_ / "link");
  EXPECT_THROW(files.create(directory_ / "link"), std::system_error);
  EXPECT_FALSE(files.exists(directory_ / "nowhere"));
}

TEST_F(FileSystemTest, TellsWhatANameStandsFor) {
  FileSystem& files = real_file_system();
  replace("a", "0123456789");
  std::filesystem::create_symlink("a", directory_ / "link");
  files.create_directory(directory_ / "folder");
  ASSERT_EQ(::mkfifo((directory_ / "fifo").c_str(), 0600), 0);

  EXPECT_FALSE(files.status(directory_ / "nothing"));
  EXPECT_FALSE(files.status(directory_ / "a" / "below a file"));
  EXPECT_EQ(files.status(directory_ / "a")->kind, FileStatus::Kind::file);
  EXPECT_EQ(files.status(directory_ / "a")->size_bytes, 10u);
  EXPECT_TRUE(files.status(directory_ / "a")->owned);
  EXPECT_EQ(files.status(directory_ / "link")->kind, FileStatus::Kind::link);
  EXPECT_EQ(files.status(directory_ / "folder")->kind, FileStatus::Kind::directory);
  EXPECT_EQ(files.status(directory_ / "folder")->permissions, 0700u);
  EXPECT_EQ(files.status(directory_ / "fifo")->kind, FileStatus::Kind::other);
  EXPECT_NE(files.status(directory_ / "a")->number, files.status(directory_ / "folder")->number);
}

TEST_F(FileSystemTest, GivesFilesTimes) {
  FileSystem& files = real_file_system();
  replace("a", "x");
  for (const int seconds : {1'700'000'000, 5, -5}) {
    const std::chrono::system_clock::time_point time{std::chrono::milliseconds(1000LL * seconds + 250)};
    files.set_modified(directory_ / "a", time);
    EXPECT_EQ(files.status(directory_ / "a")->modified, time) << seconds;
  }
  EXPECT_THROW(files.set_modified(directory_ / "absent", {}), std::system_error);
}

TEST_F(FileSystemTest, RenamesOverWhatIsThere) {
  FileSystem& files = real_file_system();
  replace("a", "old");
  replace("b", "new");
  files.rename(directory_ / "b", directory_ / "a");
  files.sync_directory(directory_);
  EXPECT_EQ(files.read_text(directory_ / "a", 10), "new");
  EXPECT_FALSE(files.exists(directory_ / "b"));
  EXPECT_THROW(files.rename(directory_ / "b", directory_ / "a"), std::system_error);
  EXPECT_THROW(files.sync_directory(directory_ / "b"), std::system_error);
  EXPECT_THROW(files.create_directory(directory_ / "a"), std::system_error);
}

TEST_F(FileSystemTest, ALockHasOneHolder) {
  FileSystem& files = real_file_system();
  auto held = files.lock(directory_ / "LOCK");
  ASSERT_TRUE(held);
  EXPECT_FALSE(files.lock(directory_ / "LOCK"));
  held.reset();
  EXPECT_TRUE(files.lock(directory_ / "LOCK"));
  std::filesystem::create_symlink("LOCK", directory_ / "link");
  EXPECT_THROW(files.lock(directory_ / "link"), std::system_error);
}

TEST_F(FileSystemTest, KnowsTheRoomThatIsLeft) {
  EXPECT_GT(real_file_system().available_bytes(directory_), 0u);
  EXPECT_THROW(real_file_system().available_bytes(directory_ / "absent"), std::system_error);
}

TEST_F(FileSystemTest, AFileIsWrittenWholeInShortAndInterruptedCalls) {
  for (int nth = 1; nth <= 5; ++nth) {
    FaultyFileSystem files(real_file_system());
    files.shorten_writes(2);
    files.fail(FaultyFileSystem::Call::write, nth, EINTR);
    const std::string name = "a" + std::to_string(nth);
    files.create(directory_ / name)->write(std::as_bytes(std::span(std::string_view("0123456789"))));
    EXPECT_EQ(files.read_text(directory_ / name, 100), "0123456789");
    EXPECT_EQ(files.calls(FaultyFileSystem::Call::write), 6);
  }
}

}  // namespace
}  // namespace cortex
