#include "service/content_stops.h"

#include <gtest/gtest.h>

namespace cortex {
namespace {

TEST(ContentStops, AMatchInContentIsTheEnd) {
  ContentStops stops({"END"});
  EXPECT_EQ(stops.push({{PieceKind::reasoning, "END"}, {PieceKind::content, "aéE"}}),
            (ReplyPieces{{PieceKind::reasoning, "END"}, {PieceKind::content, "aé"}}));
  EXPECT_EQ(stops.held_bytes(), 1U);
  EXPECT_EQ(stops.push({{PieceKind::content, "ND é"}, {PieceKind::call, "f"}}), ReplyPieces{});
  EXPECT_TRUE(stops.matched());
  EXPECT_EQ(stops.held_bytes(), 6U);
  EXPECT_EQ(stops.held_characters(), 5U);
  EXPECT_EQ(stops.finish(), ReplyPieces{});
}

TEST(ContentStops, WhatIsHeldBackComesBeforeACallAndAtTheEnd) {
  ContentStops stops({"END"});
  EXPECT_EQ(stops.push({{PieceKind::content, "EN"}}), ReplyPieces{});
  EXPECT_EQ(
      stops.push({{PieceKind::call, "f"}, {PieceKind::call_end, ""}, {PieceKind::content, "DE"}}),
      (ReplyPieces{
          {PieceKind::content, "EN"}, {PieceKind::call, "f"}, {PieceKind::call_end, ""}, {PieceKind::content, "D"}}));
  EXPECT_EQ(stops.finish(), (ReplyPieces{{PieceKind::content, "E"}}));
  EXPECT_EQ(stops.held_characters(), 0U);
  EXPECT_FALSE(stops.matched());
}

}  // namespace
}  // namespace cortex
