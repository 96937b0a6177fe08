#include "service/choice_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "service/served_models.h"

namespace cortex {
namespace {

using testing::IsEmpty;
using testing::Optional;

const std::shared_ptr<const Tokenizer>& tokenizer() { return tiny_models().find("chat", Task::complete).tokenizer; }

std::vector<TokenId> ids_of(std::string_view text) {
  return tokenizer()->encode(text, {.add_special_tokens = false, .parse_special = false});
}

// All that a text tells of these tokens.
TextPiece tell(ChoiceText text, const std::vector<TokenId>& ids) {
  TextPiece all;
  const auto add = [&](TextPiece piece) {
    all.text += piece.text;
    all.tokens.insert(all.tokens.end(), piece.tokens.begin(), piece.tokens.end());
  };
  for (const TokenId id : ids) {
    add(text.push({id, -0.25f, {{id, -0.25f}}}));
    if (text.met_stop_string()) break;
  }
  add(text.finish());
  return all;
}

std::string spelled(const std::vector<TokenText>& tokens) {
  std::string text;
  for (const auto& token : tokens) text += token.bytes;
  return text;
}

TEST(ChoiceText, PiecesAndTokensSpellTheText) {
  for (const std::string text : {"Hello there!", "Größe, 東京タワー 🙂", "a\n\nb"}) {
    const TextPiece all = tell({tokenizer(), {}, true}, ids_of(text));
    EXPECT_EQ(all.text, text);
    EXPECT_EQ(spelled(all.tokens), text);
    EXPECT_THAT(all.tokens.front().logprob, Optional(-0.25f));
    EXPECT_EQ(all.tokens.front().top.front().first, all.tokens.front().bytes);
  }
}

TEST(ChoiceText, WithoutLogprobsNoTokenIsTold) {
  EXPECT_THAT(tell({tokenizer(), {}, false}, ids_of("Hello")).tokens, IsEmpty());
}

TEST(ChoiceText, NothingOfAStopStringIsTold) {
  const TextPiece all = tell({tokenizer(), {" three"}, true}, ids_of("one two three"));
  EXPECT_EQ(all.text, "one two");
  EXPECT_EQ(spelled(all.tokens), "one two");
}

TEST(ChoiceText, TokensKnowTheCharactersBeforeThem) {
  const std::string text = "Größe 東京";
  const TextPiece all = tell({tokenizer(), {}, true}, ids_of(text));
  std::size_t bytes = 0;
  for (const auto& token : all.tokens) {
    // A character that has begun but is not whole is not before the token.
    const bool inside = (static_cast<unsigned char>(text[bytes]) & 0xC0) == 0x80;
    EXPECT_EQ(token.begin_characters, count_characters(text.substr(0, bytes)) - (inside ? 1 : 0)) << token.bytes;
    bytes += token.bytes.size();
  }
}

TEST(ChoiceText, GoesOnAfterAPromptEvenInsideACharacter) {
  const std::vector<TokenId> ids = ids_of("a🙂");
  ASSERT_GT(ids.size(), 2u) << "the tiny vocabulary has no such token";
  ChoiceText text(tokenizer(), {}, true);
  text.continue_after(std::span(ids).first(2), 7);
  std::string shown;
  std::vector<std::size_t> begins;
  for (const TokenId id : std::span(ids).subspan(2)) {
    TextPiece piece = text.push({id, -1.0f, {}});
    shown += piece.text;
    for (const auto& token : piece.tokens) begins.push_back(token.begin_characters);
  }
  shown += text.finish().text;
  EXPECT_EQ(shown, "🙂");
  EXPECT_EQ(begins.front(), 7u);
}

TEST(ChoiceText, APromptsTokensHaveTheirScoresButTheFirst) {
  PromptText prompt{"hi", {1}, 1};
  for (const TokenId id : ids_of("hi")) prompt.ids.push_back(id);
  const std::size_t scored = prompt.ids.size() - 1;
  std::vector<float> logprobs;
  std::vector<std::vector<TokenLogprob>> top;
  for (std::size_t i = 0; i < scored; ++i) {
    logprobs.push_back(-1.0f - static_cast<float>(i));
    top.push_back({{prompt.ids[i + 1], -0.5f}});
  }
  const auto tokens = prompt_tokens(tokenizer(), prompt, logprobs, top);
  ASSERT_EQ(tokens.size(), prompt.ids.size());
  EXPECT_FALSE(tokens[0].logprob);
  EXPECT_THAT(tokens[0].top, IsEmpty());
  EXPECT_EQ(tokens[0].begin_characters, 0u);
  EXPECT_EQ(tokens[1].begin_characters, 0u);  // the text does not hold the first
  EXPECT_THAT(tokens[1].logprob, Optional(-1.0f));
  EXPECT_EQ(tokens[1].top[0].first, tokens[1].bytes);
  EXPECT_THAT(prompt_tokens(tokenizer(), prompt, logprobs, {}).back().top, IsEmpty());
}

TEST(ChoiceText, CharactersAreCountedNotBytes) {
  EXPECT_EQ(count_characters(""), 0u);
  EXPECT_EQ(count_characters("aß東🙂"), 4u);
}

}  // namespace
}  // namespace cortex
