#include "bench/load/sse_splitter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace cortex {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

// The events of `stream` when it comes in pieces of `piece` bytes.
std::vector<std::string> events_of(std::string_view stream, std::size_t piece) {
  SseSplitter splitter;
  std::vector<std::string> events;
  const auto add = [&](std::string_view data) { events.emplace_back(data); };
  for (std::size_t at = 0; at < stream.size(); at += piece) splitter.feed(stream.substr(at, piece), add);
  return events;
}

TEST(SseSplitterTest, EventsComeWholeHoweverTheyAreCut) {
  constexpr std::string_view kStream =
      ": a comment\n\ndata: {\"a\":1}\n\nevent: named\ndata:first\r\ndata: second\r\n\r\nid: 7\n\ndata\n\ndata: "
      "[DONE]\n\n";
  for (std::size_t piece = 1; piece <= kStream.size(); ++piece) {
    EXPECT_THAT(events_of(kStream, piece), ElementsAre("{\"a\":1}", "first\nsecond", "", "[DONE]")) << piece;
  }
}

TEST(SseSplitterTest, AnEventWithoutItsEmptyLineIsNone) {
  EXPECT_THAT(events_of("data: 1", 3), IsEmpty());
  EXPECT_THAT(events_of("data: 1\n", 3), IsEmpty());
  EXPECT_THAT(events_of("database: 1\n\n", 3), IsEmpty());
}

}  // namespace
}  // namespace cortex
