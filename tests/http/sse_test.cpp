#include "http/sse.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace cortex {
namespace {

TEST(Sse, OneEventIsOneDataLine) {
  EXPECT_EQ(sse_event("{\"a\":1}"), "data: {\"a\":1}\n\n");
  EXPECT_EQ(sse_event("message_stop", "{}"), "event: message_stop\ndata: {}\n\n");
  EXPECT_EQ(sse_ping(), ": ping\n\n");
  EXPECT_EQ(sse_done(), "data: [DONE]\n\n");
}

TEST(Sse, EscapesUnicodeLineEnds) {
  EXPECT_EQ(sse_event("\"a\xc2\x85"
                      "b\xe2\x80\xa8\xe2\x80\xa9\""),
            "data: \"a\\u0085b\\u2028\\u2029\"\n\n");
}

TEST(Sse, LeavesTheirNeighboursAlone) {
  const std::string json = "\"\xc3\xa9\xc2\x86\xe2\x80\xa7\xe2\x82\xac\xe2\"";
  EXPECT_EQ(sse_event(json), "data: " + json + "\n\n");
}

TEST(Sse, RefusesMoreThanOneLine) {
  EXPECT_THROW(sse_event("{\n}"), CheckFailure);
  EXPECT_THROW(sse_event("{\r}"), CheckFailure);
}

}  // namespace
}  // namespace cortex
