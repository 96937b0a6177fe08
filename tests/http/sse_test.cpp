#include "http/sse.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/json_writer.h"

namespace cortex {
namespace {

TEST(Sse, OneEventIsOneDataLine) {
  EXPECT_EQ(sse_event("{\"a\":1}"), "data: {\"a\":1}\n\n");
  EXPECT_EQ(sse_event("message_stop", "{}"), "event: message_stop\ndata: {}\n\n");
  EXPECT_EQ(sse_ping(), ": ping\n\n");
  EXPECT_EQ(sse_done(), "data: [DONE]\n\n");
}

TEST(Sse, UnicodeLineEndsAreEscapedByTheWriter) {
  const std::string json = JsonWriter()
                               .string(
                                   "a\xc2\x85"
                                   "b\xe2\x80\xa8\xe2\x80\xa9")
                               .take();
  EXPECT_EQ(sse_event(json), "data: \"a\\u0085b\\u2028\\u2029\"\n\n");
}

TEST(Sse, RefusesMoreThanOneLine) {
  EXPECT_THROW(sse_event("{\n}"), CheckFailure);
  EXPECT_THROW(sse_event("{\r}"), CheckFailure);
}

}  // namespace
}  // namespace cortex
