#include "bench/load/chat_chunk.h"

#include <gtest/gtest.h>

namespace cortex {
namespace {

TEST(ChatChunkTest, TextIsWhatIsNotEmpty) {
  EXPECT_TRUE(read_chat_chunk(R"({"choices":[{"delta":{"content":"a"}}]})").has_text);
  EXPECT_TRUE(read_chat_chunk(R"({"choices":[{"delta":{"content" : "\""}}]})").has_text);
  EXPECT_TRUE(read_chat_chunk(R"({"choices":[{"delta":{"reasoning_content":"hm"}}]})").has_text);
  EXPECT_TRUE(read_chat_chunk(R"({"choices":[{"delta":{"content":null,"reasoning":"hm"}}]})").has_text);
  EXPECT_FALSE(read_chat_chunk(R"({"choices":[{"delta":{"role":"assistant","content":""}}]})").has_text);
  EXPECT_FALSE(read_chat_chunk(R"({"choices":[{"delta":{"role":"assistant","content":null}}]})").has_text);
  EXPECT_FALSE(read_chat_chunk(R"({"choices":[{"delta":{}}]})").has_text);
}

TEST(ChatChunkTest, WhatATextQuotesIsNoKey) {
  const ChatChunk chunk = read_chat_chunk(
      R"({"choices":[{"delta":{"content":"\"usage\":{\"prompt_tokens\":1},\"error\":\"no\",\"finish_reason\":\"stop\""}}]})");
  EXPECT_TRUE(chunk.has_text);
  EXPECT_FALSE(chunk.usage.has_value());
  EXPECT_EQ(chunk.error, "");
  EXPECT_EQ(chunk.finish_reason, "");
}

TEST(ChatChunkTest, ReasonsAndTheEnd) {
  EXPECT_EQ(read_chat_chunk(R"({"choices":[{"delta":{},"finish_reason":"length"}]})").finish_reason, "length");
  EXPECT_EQ(read_chat_chunk(R"({"choices":[{"delta":{},"finish_reason":null}]})").finish_reason, "");
  EXPECT_TRUE(read_chat_chunk("[DONE]").is_done);
  EXPECT_FALSE(read_chat_chunk("{}").is_done);
}

TEST(ChatChunkTest, Usage) {
  const ChatChunk chunk = read_chat_chunk(
      R"({"choices":[],"usage":{"prompt_tokens":35,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":16}}})");
  ASSERT_TRUE(chunk.usage.has_value());
  EXPECT_EQ(chunk.usage->prompt_tokens, 35);
  EXPECT_EQ(chunk.usage->cached_tokens, 16);
  EXPECT_EQ(chunk.usage->output_tokens, 5);
  EXPECT_EQ(read_chat_chunk(R"({"usage":{"prompt_tokens":3,"completion_tokens":1}})").usage->cached_tokens, 0);
  EXPECT_FALSE(read_chat_chunk(R"({"choices":[],"usage":null})").usage.has_value());
}

TEST(ChatChunkTest, Errors) {
  EXPECT_EQ(read_chat_chunk(R"({"error":{"message":"no room","code":503}})").error, "no room");
  EXPECT_EQ(read_chat_chunk(R"({"error":"no room"})").error, "no room");
  EXPECT_EQ(read_chat_chunk(R"({"error":{}})").error, "an error without a message");
  EXPECT_EQ(read_chat_chunk(R"({"error":null})").error, "");
  EXPECT_EQ(read_chat_chunk(R"({"error":{)").error, "an event that is no JSON");
}

}  // namespace
}  // namespace cortex
