#include "cli/fetch/part_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>

#include "base/error.h"
#include "fakes/temporary_folder.h"

namespace cortex {
namespace {

using testing::HasSubstr;

// Of "hello world".
const std::string kSha256 = "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9";
const std::string kGitSha1 = "95d09f2b10159347eece71399a7e2e907ea3df4f";
constexpr std::uint64_t kSize = 11;

class PartFileTest : public testing::Test {
 protected:
  bool exists(const std::string& name) const { return std::filesystem::exists(folder_.path() / name); }
  PartFile open(const std::string& checksum = kSha256) const { return {folder_.path() / "blob", kSize, checksum}; }

  TemporaryFolder folder_;
};

std::string message_of(ErrorCode code, const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.message();
    return error.message();
  }
  return "nothing was thrown";
}

TEST_F(PartFileTest, AppearsWhenItIsWhole) {
  for (const auto& checksum : {kSha256, kGitSha1}) {
    folder_.remove("blob");
    PartFile part = open(checksum);
    part.append("hello ");
    EXPECT_FALSE(part.is_whole());
    part.append("world");
    EXPECT_TRUE(part.is_whole());
    EXPECT_FALSE(exists("blob"));
    part.finish();
    EXPECT_EQ(folder_.read("blob"), "hello world");
    EXPECT_FALSE(exists("blob.incomplete"));
  }
}

TEST_F(PartFileTest, GoesOnFromWhatIsThere) {
  open().append("hello ");
  PartFile part = open();
  EXPECT_EQ(part.here_bytes(), 6u);
  part.append("world");
  part.finish();
  EXPECT_EQ(folder_.read("blob"), "hello world");
}

TEST_F(PartFileTest, StartsOver) {
  PartFile part = open();
  part.append("nonsense");
  part.start_over();
  EXPECT_EQ(part.here_bytes(), 0u);
  part.append("hello world");
  part.finish();
  EXPECT_EQ(folder_.read("blob"), "hello world");
}

TEST_F(PartFileTest, AWrongChecksumLeavesNothing) {
  PartFile part = open();
  part.append("hello wurld");
  EXPECT_THAT(message_of(ErrorCode::invalid_weights, [&] { part.finish(); }), HasSubstr(kSha256));
  EXPECT_FALSE(exists("blob"));
  EXPECT_FALSE(exists("blob.incomplete"));
}

TEST_F(PartFileTest, MoreThanItsSizeLeavesNothing) {
  PartFile part = open();
  part.append("hello ");
  message_of(ErrorCode::invalid_weights, [&] { part.append("world!"); });
  EXPECT_FALSE(exists("blob"));
  EXPECT_FALSE(exists("blob.incomplete"));
}

TEST_F(PartFileTest, APartThatIsTooLongIsDropped) {
  folder_.write("blob.incomplete", "hello world and more");
  EXPECT_EQ(open().here_bytes(), 0u);
}

TEST_F(PartFileTest, AFullDiskKeepsThePart) {
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  PartFile part = open();
  const rlimit tight{8, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &tight);
  const std::string message = message_of(ErrorCode::weights_io_error, [&] { part.append("hello world"); });
  setrlimit(RLIMIT_FSIZE, &before);
  EXPECT_THAT(message, HasSubstr("the disk is full"));
  EXPECT_THAT(message, HasSubstr("3 B more are needed"));
  EXPECT_FALSE(exists("blob"));
  EXPECT_EQ(folder_.read("blob.incomplete"), "hello wo");
}

TEST_F(PartFileTest, FollowsNoLink) {
  TemporaryFolder other;
  other.write("victim", "precious");
  std::filesystem::create_symlink(other.path() / "victim", folder_.path() / "blob.incomplete");
  message_of(ErrorCode::weights_io_error, [&] { open(); });
  EXPECT_EQ(other.read("victim"), "precious");
}

}  // namespace
}  // namespace cortex
