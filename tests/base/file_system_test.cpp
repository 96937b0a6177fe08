#include "base/file_system.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <array>
#include <fstream>
#include <system_error>

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

}  // namespace
}  // namespace cortex
