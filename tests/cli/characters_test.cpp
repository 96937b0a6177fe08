#include "cli/characters.h"

#include <gtest/gtest.h>

namespace cortex {
namespace {

TEST(Characters, AreUtf8) {
  for (const char* text : {"", "plain", "\u00e9", "\u20ac", "\U0001f43c", "\ufffd", "\U0010ffff", "\u07ff\u0800"}) {
    EXPECT_EQ(first_bad_byte(text), std::nullopt) << text;
  }
  EXPECT_EQ(first_bad_byte(std::string_view("a\0b", 3)), std::nullopt);
}

TEST(Characters, TheFirstBadByteIsFound) {
  const std::string_view bad[] = {"ab\xff",
                                  "ab\x80",
                                  "ab\xc3",
                                  "ab\xc0\xaf",
                                  "ab\xe0\x80\xaf",
                                  "ab\xed\xa0\x80",
                                  "ab\xf0\x9f\x90",
                                  "ab\xf4\x90\x80\x80",
                                  "ab\xf5\x80\x80\x80",
                                  "ab\xc3("};
  for (const auto text : bad) EXPECT_EQ(first_bad_byte(text), 2u) << text;
}

TEST(Characters, WhatATerminalObeysIsNotShown) {
  EXPECT_EQ(printable("plain \u00e9\nnext"), "plain \u00e9\nnext");
  EXPECT_EQ(printable("a\x1b[31mb\x7f"), "a?[31mb?");
  EXPECT_EQ(printable("a\u009b31m\rb\xff"), "a?31m?b?");
}

TEST(Characters, InOneLine) { EXPECT_EQ(in_one_line("a\r\nb\n"), "a  b "); }

}  // namespace
}  // namespace cortex
