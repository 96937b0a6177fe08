#include "service/stop_strings.h"

#include <gtest/gtest.h>

#include <random>

namespace cortex {
namespace {

TEST(StopStrings, CutsAtTheFirstMatch) {
  StopStrings stops({"END", "STOP"});
  EXPECT_EQ(stops.push("one STOP two END"), "one ");
  EXPECT_TRUE(stops.matched());
  EXPECT_EQ(stops.push("more"), "");
  EXPECT_EQ(stops.finish(), "");
  EXPECT_EQ(stops.shown_bytes(), 4u);
}

TEST(StopStrings, HoldsBackOnlyWhatMayBecomeAMatch) {
  StopStrings stops({"\n\n"});
  EXPECT_EQ(stops.push("a\n"), "a");
  EXPECT_EQ(stops.push("b"), "\nb");
  EXPECT_EQ(stops.push("\n"), "");
  EXPECT_EQ(stops.push("\n"), "");
  EXPECT_TRUE(stops.matched());
}

TEST(StopStrings, GivesBackAtTheEndWhatNeverMatched) {
  StopStrings stops({"abc"});
  EXPECT_EQ(stops.push("xab"), "x");
  EXPECT_EQ(stops.finish(), "ab");
  EXPECT_FALSE(stops.matched());
  EXPECT_EQ(stops.shown_bytes(), 3u);
}

TEST(StopStrings, FindsAMatchInsideARepeatedBeginning) {
  StopStrings stops({"aab"});
  std::string shown;
  for (const char* piece : {"a", "a", "a", "b", "c"}) shown += stops.push(piece);
  EXPECT_EQ(shown, "a");
  EXPECT_TRUE(stops.matched());
}

TEST(StopStrings, WithoutStopsNothingIsHeldBack) {
  StopStrings stops({});
  EXPECT_EQ(stops.push("text"), "text");
  EXPECT_EQ(stops.finish(), "");
}

// The plain twin: look at every prefix of the whole text.
TEST(StopStrings, AgreesWithASearchOfTheWholeText) {
  std::mt19937 random(7);
  for (int round = 0; round < 2000; ++round) {
    std::string text;
    for (int i = 0; i < 40; ++i) text.push_back("ab"[random() % 2]);
    std::vector<std::string> stops;
    for (std::size_t i = 0; i <= random() % 3; ++i) {
      std::string stop;
      for (std::size_t j = 0; j <= random() % 6; ++j) stop.push_back("ab"[random() % 2]);
      stops.push_back(stop);
    }
    std::size_t first = std::string::npos;
    for (std::size_t end = 1; end <= text.size() && first == std::string::npos; ++end) {
      for (const auto& stop : stops) {
        if (text.substr(0, end).ends_with(stop)) first = std::min(first, end - stop.size());
      }
    }

    StopStrings matcher(stops);
    std::string shown;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t size = 1 + random() % 5;
      shown += matcher.push(text.substr(at, size));
      at += size;
    }
    shown += matcher.finish();
    EXPECT_EQ(shown, text.substr(0, first)) << text;
    EXPECT_EQ(matcher.matched(), first != std::string::npos);
  }
}

TEST(StopStrings, AreNotLookedForInWhatPasses) {
  StopStrings stops({"stop"});
  EXPECT_EQ(stops.push("a st"), "a ");
  EXPECT_EQ(stops.pass("op stop"), "stop stop");
  EXPECT_FALSE(stops.matched());
  EXPECT_EQ(stops.push("op stop b"), "op ");
  EXPECT_TRUE(stops.matched());
  EXPECT_EQ(stops.pass("more"), "");
}

}  // namespace
}  // namespace cortex
