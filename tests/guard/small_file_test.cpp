#include "guard/small_file.h"

#include <gtest/gtest.h>

#include "fakes/temporary_folder.h"

namespace cortex {
namespace {

TEST(SmallFile, ReadsRegularFilesOnly) {
  TemporaryFolder folder;
  folder.write("a", "12\n");
  EXPECT_EQ(read_small_file(folder.path() / "a"), "12\n");
  EXPECT_FALSE(read_small_file(folder.path() / "b"));
  EXPECT_FALSE(read_small_file(folder.path()));
  folder.write("big", std::string(1 << 20, 'x'));
  EXPECT_EQ(read_small_file(folder.path() / "big")->size(), std::size_t{64} << 10);
  EXPECT_TRUE(read_small_file("/proc/self/statm"));
}

TEST(SmallFile, Numbers) {
  EXPECT_EQ(parse_count(" 42\n"), 42u);
  EXPECT_EQ(parse_count("18446744073709551615"), ~0ull);
  for (const char* text : {"", "-1", "1.5", "18446744073709551616", "4 2", "x"})
    EXPECT_FALSE(parse_count(text)) << text;
  EXPECT_EQ(parse_real(" -0.5\n"), -0.5);
  for (const char* text : {"", "nan", "inf", "1e999", "0.5.", "x"}) EXPECT_FALSE(parse_real(text)) << text;
}

TEST(SmallFile, CountsByName) {
  const char* lines = "MemTotalOther: 1 kB\nMemTotal:   16318480 kB\nanon 7\nlast 9";
  EXPECT_EQ(find_count(lines, "MemTotal:"), 16318480u);
  EXPECT_EQ(find_count(lines, "anon"), 7u);
  EXPECT_EQ(find_count(lines, "last"), 9u);
  EXPECT_FALSE(find_count(lines, "Mem"));
  EXPECT_FALSE(find_count(lines, "none"));
  EXPECT_FALSE(find_count("", "none"));
}

}  // namespace
}  // namespace cortex
