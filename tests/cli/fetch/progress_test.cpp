#include "cli/fetch/progress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>

namespace cortex {
namespace {

using std::chrono::seconds;
using testing::HasSubstr;
using testing::StartsWith;

TEST(FormatBytes, PicksItsUnit) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(1023), "1023 B");
  EXPECT_EQ(format_bytes(1024), "1.0 KiB");
  EXPECT_EQ(format_bytes(1536), "1.5 KiB");
  EXPECT_EQ(format_bytes((1 << 20) - 1), "1.0 MiB");
  EXPECT_EQ(format_bytes(92'870'829), "88.6 MiB");
  EXPECT_EQ(format_bytes(std::uint64_t{3} << 40), "3.0 TiB");
  EXPECT_EQ(format_bytes(~std::uint64_t{0}), "16384.0 PiB");
}

TEST(FormatDuration, PicksItsUnits) {
  EXPECT_EQ(format_duration(seconds(0)), "0 s");
  EXPECT_EQ(format_duration(seconds(59)), "59 s");
  EXPECT_EQ(format_duration(seconds(185)), "3 min 05 s");
  EXPECT_EQ(format_duration(seconds(7800)), "2 h 10 min");
}

TEST(ProgressBar, SaysHowFarItIs) {
  EXPECT_EQ(progress_bar("a.gguf", 512, 1024, 0, 80), "a.gguf [##########..........]  50% 512 B of 1.0 KiB");
  EXPECT_EQ(progress_bar("a.gguf", 512, 1024, 256, 100),
            "a.gguf [##########..........]  50% 512 B of 1.0 KiB, 256 B/s, 2 s left");
  EXPECT_EQ(progress_bar("a.gguf", 1024, 1024, 256, 100),
            "a.gguf [####################] 100% 1.0 KiB of 1.0 KiB, 256 B/s");
  EXPECT_EQ(progress_bar("a.gguf", 2048, 0, 0, 80), "a.gguf 2.0 KiB");
}

TEST(ProgressBar, FitsItsWidth) {
  const std::string name(200, 'x');
  for (const int width : {0, 1, 20, 60, 79}) {
    EXPECT_LE(progress_bar(name, 5, 10, 3, width).size(), static_cast<std::size_t>(width));
  }
  EXPECT_THAT(progress_bar("a/very/long/path/to/model.safetensors", 512, 1024, 0, 60), StartsWith("....safetensors ["));
}

TEST(ProgressBar, NeverPassesItsEnd) { EXPECT_THAT(progress_bar("a", 20, 10, 0, 80), HasSubstr("100%")); }

// Off a terminal there are lines and no control characters.
TEST(Progress, WritesLinesToAFile) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::tmpfile(), std::fclose);
  {
    Progress progress(file.get());
    progress.begin("a.gguf", 10, 1024);
    progress.at(512);
    progress.at(1024);
    progress.end();
    progress.note("done");
  }
  std::string text(200, '\0');
  std::rewind(file.get());
  text.resize(std::fread(text.data(), 1, text.size(), file.get()));
  EXPECT_EQ(text, "a.gguf: 1.0 KiB, 10 B of it here already\ndone\n");
}

}  // namespace
}  // namespace cortex
