#include "service/reply_tokens.h"

#include <gtest/gtest.h>

#include "service/served_models.h"

namespace cortex {
namespace {

DialogueKey dialogue_of(const std::vector<std::string>& contents, const std::string& salt = "",
                        const std::string& owner = "") {
  DialogueKey dialogue("m", salt, owner);
  for (const auto& content : contents) dialogue.add("user", content);
  return dialogue;
}

TEST(ReplyTokens, AreFoundAfterTheSameMessagesOfTheSameOwnerOnly) {
  ReplyTokens replies;
  const SampledText reply{5, {1, 2, 3}};
  replies.remember(dialogue_of({"a", "b"}, "salt", "alice"), reply);
  EXPECT_EQ(replies.find(dialogue_of({"a", "b"}, "salt", "alice")), reply);
  EXPECT_FALSE(replies.find(dialogue_of({"a", "b"}, "pepper", "alice")));
  EXPECT_FALSE(replies.find(dialogue_of({"a", "b"}, "salt", "bob")));
  EXPECT_FALSE(replies.find(dialogue_of({"a", "b"}, "alice", "salt")));
  EXPECT_FALSE(replies.find(dialogue_of({"a"}, "salt", "alice")));
  EXPECT_FALSE(replies.find(dialogue_of({"b", "a"}, "salt", "alice")));
  EXPECT_FALSE(replies.find(dialogue_of({"ab"}, "salt", "alice")));
  DialogueKey other_role("m", "salt", "alice");
  other_role.add("user", "a");
  other_role.add("assistant", "b");
  EXPECT_FALSE(replies.find(other_role));
  DialogueKey other_model("n", "salt", "alice");
  for (const char* content : {"a", "b"}) other_model.add("user", content);
  EXPECT_FALSE(replies.find(other_model));
}

TEST(ReplyTokens, TheLatestOfOnePlaceCounts) {
  ReplyTokens replies;
  replies.remember(dialogue_of({"a"}), {5, {1}});
  const std::size_t bytes = replies.bytes();
  replies.remember(dialogue_of({"a"}), {5, {2}});
  EXPECT_EQ(replies.find(dialogue_of({"a"})), (SampledText{5, {2}}));
  EXPECT_EQ(replies.bytes(), bytes);
}

TEST(ReplyTokens, WhatWasUsedLongestAgoIsForgottenFirst) {
  ReplyTokens replies(10000);
  replies.remember(dialogue_of({"0"}), {0, std::vector<TokenId>(100, 0)});
  for (int i = 1; i < 1000; ++i) {
    replies.remember(dialogue_of({std::to_string(i)}), {0, std::vector<TokenId>(100, i)});
    EXPECT_LE(replies.bytes(), 10000U);
    ASSERT_TRUE(replies.find(dialogue_of({"0"})));
    ASSERT_TRUE(replies.find(dialogue_of({std::to_string(i)})));
  }
  EXPECT_FALSE(replies.find(dialogue_of({"1"})));
  EXPECT_TRUE(replies.find(dialogue_of({"998"})));
  // Of more than there is room for nothing is kept.
  replies.remember(dialogue_of({"large"}), {0, std::vector<TokenId>(10000, 0)});
  EXPECT_FALSE(replies.find(dialogue_of({"large"})));
  EXPECT_EQ(replies.bytes(), 0U);
}

TEST(IdsWithin, SpellABeginningOfTheText) {
  const Tokenizer& tokenizer = *tiny_models().find("chat", Task::chat).tokenizer;
  const auto ids = tokenizer.encode("one two three", {.add_special_tokens = false});
  const auto text_within = [&](const std::vector<TokenId>& all, std::string_view text) {
    return tokenizer.decode(ids_within(tokenizer, all, text, true), false);
  };
  EXPECT_EQ(ids_within(tokenizer, ids, "one two three", true), ids);
  const std::string cut = text_within(ids, "one two th");
  EXPECT_TRUE(cut.starts_with("one tw") && std::string("one two th").starts_with(cut)) << cut;
  EXPECT_EQ(text_within(ids, "two"), "");
  std::vector<TokenId> with_special = ids;
  with_special.insert(with_special.begin() + 1, *tokenizer.token_id("<|im_start|>"));
  EXPECT_EQ(ids_within(tokenizer, with_special, "one two three", true).size(), 1U);
}

}  // namespace
}  // namespace cortex
