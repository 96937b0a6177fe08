#include "cli/fetch/digest.h"

#include <gtest/gtest.h>

namespace cortex {
namespace {

std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

TEST(Digest, IsSha256) {
  Digest digest = Digest::sha256();
  digest.add(bytes_of("a"));
  digest.add(bytes_of(""));
  digest.add(bytes_of("bc"));
  EXPECT_EQ(digest.finish(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

// `printf 'what is up, doc?' | git hash-object --stdin`, and the empty file.
TEST(Digest, IsWhatGitNamesAFileBy) {
  Digest digest = Digest::git_blob(16);
  digest.add(bytes_of("what is up, doc?"));
  EXPECT_EQ(digest.finish(), "bd9dbf5aae1a3862dd1526723246b20206e5fc37");
  EXPECT_EQ(Digest::git_blob(0).finish(), "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
}

TEST(Checksum, SaysItsAlgorithm) {
  EXPECT_TRUE(is_sha256(std::string(64, 'a')));
  EXPECT_TRUE(is_git_sha1(std::string(40, '0')));
  for (const std::string& text :
       {std::string(63, 'a'), std::string(64, 'g'), std::string(64, 'A'), std::string("../x")}) {
    EXPECT_FALSE(is_sha256(text)) << text;
    EXPECT_FALSE(is_git_sha1(text)) << text;
  }
}

}  // namespace
}  // namespace cortex
