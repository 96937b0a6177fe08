#include "text/detokenizer.h"

#include <gtest/gtest.h>

#include <random>

#include "text/tokenizers.h"

namespace cortex {
namespace {

// Well-formed as the Unicode Standard has it (table 3-7), by the code points' values: not the way detokenizer.cpp does
// it.
bool is_utf8(const std::string& text) {
  for (std::size_t i = 0; i < text.size();) {
    const auto first = static_cast<unsigned char>(text[i]);
    const std::size_t size = first < 0x80 ? 1 : first >> 5 == 6 ? 2 : first >> 4 == 14 ? 3 : first >> 3 == 30 ? 4 : 0;
    if (size == 0 || i + size > text.size()) return false;
    std::uint32_t value = size == 1 ? first : first & (0xFFu >> (size + 1));
    for (std::size_t k = 1; k < size; ++k) {
      const auto byte = static_cast<unsigned char>(text[i + k]);
      if (byte >> 6 != 2) return false;
      value = value << 6 | (byte & 0x3F);
    }
    static constexpr std::uint32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
    if (value < kLeast[size] || value > 0x10FFFF || (value >= 0xD800 && value < 0xE000)) return false;
    i += size;
  }
  return true;
}

// Byte-level tokens for single bytes: any bytes can be pushed.
std::vector<std::int32_t> byte_ids(const Tokenizer& tokenizer, const std::string& bytes) {
  std::vector<std::int32_t> ids;
  for (const char byte : bytes) {
    for (std::int32_t id = 0; id < tokenizer.vocabulary_size(); ++id) {
      if (tokenizer.token_bytes(id) == std::string(1, byte)) ids.push_back(id);
    }
  }
  EXPECT_EQ(ids.size(), bytes.size());
  return ids;
}

std::string random_text(std::mt19937& random) {
  static const std::vector<std::string> kParts = {
      "a",  " ", "\n", "é",      "e\u0301", "東京", "🙂", "👩‍👩‍👧",
      "\t", "ß", "�",  "\u200D", "क्षि",     "12",   "𝄞",  "<|im_end|>"};
  std::string text;
  for (std::size_t i = random() % 12; i > 0; --i) text += kParts[random() % kParts.size()];
  return text;
}

// The pieces, joined; each is checked.
std::string push_all(Detokenizer& detokenizer, const std::vector<std::int32_t>& ids) {
  std::string text;
  for (const auto id : ids) {
    const std::string piece = detokenizer.push(id);
    EXPECT_TRUE(is_utf8(piece)) << piece;
    text += piece;
  }
  return text;
}

TEST(Detokenizer, PiecesMakeTheText) {
  std::mt19937 random(1);
  const auto tokenizer = llama_tokenizer();
  for (int round = 0; round < 2000; ++round) {
    const std::string text = random_text(random);
    const auto ids = tokenizer->encode(text);
    Detokenizer detokenizer(tokenizer);
    EXPECT_EQ(push_all(detokenizer, ids), text);
    EXPECT_EQ(detokenizer.finish(), "");
    EXPECT_EQ(tokenizer->decode(ids, true), text);
  }
}

TEST(Detokenizer, RandomIdsGiveValidPieces) {
  std::mt19937 random(2);
  for (const char* name :
       {"models/llama/tokenizer.json", "models/bert-mean/tokenizer.json", "text/xlm-roberta/tokenizer.json"}) {
    const auto tokenizer = std::make_shared<const Tokenizer>(tokenizer_of(name));
    for (int round = 0; round < 300; ++round) {
      std::vector<std::int32_t> ids(random() % 40);
      for (auto& id : ids)
        id = static_cast<std::int32_t>(random() % static_cast<unsigned>(tokenizer->vocabulary_size()));
      Detokenizer detokenizer(tokenizer, round % 2 == 0);
      const std::string text = push_all(detokenizer, ids);
      const std::string rest = detokenizer.finish();
      EXPECT_TRUE(is_utf8(rest));
      EXPECT_EQ(text + rest, tokenizer->decode(ids, round % 2 == 0));
    }
  }
}

TEST(Detokenizer, HoldsACharacterBackUntilItIsWhole) {
  const auto tokenizer = llama_tokenizer();
  const auto ids = byte_ids(*tokenizer, "🙂");
  Detokenizer detokenizer(tokenizer);
  EXPECT_EQ(detokenizer.push(ids[0]), "");
  EXPECT_EQ(detokenizer.push(ids[1]), "");
  EXPECT_EQ(detokenizer.push(ids[2]), "");
  EXPECT_EQ(detokenizer.push(ids[3]), "🙂");
  EXPECT_EQ(detokenizer.finish(), "");
}

TEST(Detokenizer, ReplacesBytesThatCannotBecomeACharacter) {
  const auto tokenizer = llama_tokenizer();
  // As the Unicode Standard's table 3-8 and the encoding standard of browsers have it.
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"\x80", "\uFFFD"},
      {"a\xFF!", "a\uFFFD!"},
      {"\xC0\x80", "\uFFFD\uFFFD"},
      {"\xE0\x80\x80", "\uFFFD\uFFFD\uFFFD"},
      {"\xED\xA0\x80", "\uFFFD\uFFFD\uFFFD"},
      {"\xF4\x90\x80\x80", "\uFFFD\uFFFD\uFFFD\uFFFD"},
      {"\xF0\x9F\x99!", "\uFFFD!"},
      {"\xE6\x9D\xE6\x9D\xB1", "\uFFFD東"},
      {"\xF1\x80\x80\xE1\x80\xC2\x41", "\uFFFD\uFFFD\uFFFDA"},
  };
  for (const auto& [bytes, text] : cases) {
    Detokenizer detokenizer(tokenizer);
    EXPECT_EQ(push_all(detokenizer, byte_ids(*tokenizer, bytes)), text);
    EXPECT_EQ(detokenizer.finish(), "");
  }
}

TEST(Detokenizer, SaysAtTheEndThatACharacterIsIncomplete) {
  const auto tokenizer = llama_tokenizer();
  Detokenizer detokenizer(tokenizer);
  EXPECT_EQ(push_all(detokenizer, byte_ids(*tokenizer, "ok\xF0\x9F\x99")), "ok");
  EXPECT_EQ(detokenizer.finish(), "\uFFFD");
  EXPECT_EQ(detokenizer.finish(), "");
}

TEST(Detokenizer, SkipsSpecialTokensUnlessTold) {
  const auto tokenizer = llama_tokenizer();
  Detokenizer skips(tokenizer);
  EXPECT_EQ(skips.push(2), "");
  Detokenizer shows(tokenizer, false);
  EXPECT_EQ(shows.push(2), "<|im_end|>");
}

TEST(Detokenizer, DropsTheFirstSpaceOnly) {
  const auto tokenizer = std::make_shared<const Tokenizer>(tokenizer_of("text/xlm-roberta/tokenizer.json"));
  const auto space = tokenizer->token_id("▁");
  ASSERT_TRUE(space);
  Detokenizer detokenizer(tokenizer);
  EXPECT_EQ(detokenizer.push(0), "");  // <s>
  EXPECT_EQ(detokenizer.push(*space), "");
  EXPECT_EQ(detokenizer.push(*space), " ");
}

TEST(Detokenizer, IgnoresIdsOutsideTheVocabulary) {
  const auto tokenizer = llama_tokenizer();
  Detokenizer detokenizer(tokenizer);
  EXPECT_EQ(detokenizer.push(tokenizer->vocabulary_size()), "");
  EXPECT_EQ(detokenizer.push(-1), "");
}

}  // namespace
}  // namespace cortex
