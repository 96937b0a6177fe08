// Vocabularies of model "llama": tokens with scores.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ctime>
#include <unordered_map>

#include "base/error.h"
#include "model/json_file.h"
#include "text/goldens.h"
#include "text/random_texts.h"
#include "text/tokenizers.h"

namespace cortex {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr std::string_view kSpace = "\u2581";

// <unk>, <s>, </s>, 256 bytes, then these with scores 0, -1, -2, ...
Vocabulary vocabulary_with(const std::vector<std::string>& pieces) {
  Vocabulary vocabulary;
  vocabulary.model = "llama";
  vocabulary.tokens = {"<unk>", "<s>", "</s>"};
  vocabulary.token_types = {2, 3, 3};
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  for (std::size_t byte = 0; byte < 256; ++byte) {
    vocabulary.tokens.push_back(std::string("<0x") + kDigits[byte / 16] + kDigits[byte % 16] + ">");
    vocabulary.token_types.push_back(6);
  }
  vocabulary.scores.resize(vocabulary.tokens.size(), 0.0F);
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    vocabulary.tokens.push_back(pieces[i]);
    vocabulary.token_types.push_back(1);
    vocabulary.scores.push_back(-static_cast<float>(i));
  }
  return vocabulary;
}

constexpr std::int32_t kFirst = 259;  // the id of the first piece
constexpr std::int32_t kBytes = 3;    // of the byte 0

std::string failure_of(const Vocabulary& vocabulary) {
  try {
    Tokenizer::from_vocabulary(vocabulary);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_tokenizer);
    return error.message();
  }
  return "no error";
}

// The plain twin: joins one pair at a time, looking at all of them.
class PlainSentencepiece {
 public:
  explicit PlainSentencepiece(const Vocabulary& vocabulary) : add_space_prefix_(vocabulary.add_space_prefix) {
    for (std::size_t i = 0; i < vocabulary.tokens.size(); ++i) {
      const auto id = static_cast<std::int32_t>(i);
      if (vocabulary.token_types[i] == 1) pieces_[vocabulary.tokens[i]] = {id, vocabulary.scores[i]};
      if (vocabulary.token_types[i] == 4) user_defined_.emplace_back(vocabulary.tokens[i], id);
      if (vocabulary.tokens[i] == "<0x00>") first_byte_ = id;
    }
  }

  std::vector<std::int32_t> encode(std::string_view text) const {
    std::vector<std::int32_t> ids;
    std::size_t begin = 0;
    for (std::size_t i = 0; i < text.size();) {
      const auto* token = user_defined_at(text.substr(i));
      if (!token) {
        ++i;
        continue;
      }
      encode_piece(text.substr(begin, i - begin), &ids);
      ids.push_back(token->second);
      i += token->first.size();
      begin = i;
    }
    encode_piece(text.substr(begin), &ids);
    return ids;
  }

 private:
  // The longest that `text` begins with, or null.
  const std::pair<std::string, std::int32_t>* user_defined_at(std::string_view text) const {
    const std::pair<std::string, std::int32_t>* longest = nullptr;
    for (const auto& token : user_defined_) {
      if (text.starts_with(token.first) && (!longest || token.first.size() > longest->first.size())) longest = &token;
    }
    return longest;
  }

  void encode_piece(std::string_view text, std::vector<std::int32_t>* ids) const {
    std::vector<std::string> symbols = symbols_of(text);
    while (join_best(&symbols)) {
    }
    for (const auto& symbol : symbols) {
      if (const auto piece = pieces_.find(symbol); piece != pieces_.end()) {
        ids->push_back(piece->second.first);
        continue;
      }
      for (const char byte : symbol) ids->push_back(first_byte_ + static_cast<unsigned char>(byte));
    }
  }

  std::vector<std::string> symbols_of(std::string_view text) const {
    std::vector<std::string> symbols;
    if (add_space_prefix_ && !text.empty()) symbols.emplace_back(kSpace);
    for (const char c : text) {
      const bool continues = (static_cast<unsigned char>(c) & 0xC0) == 0x80;
      if (continues) {
        symbols.back() += c;
      } else {
        symbols.emplace_back(c == ' ' ? std::string(kSpace) : std::string(1, c));
      }
    }
    return symbols;
  }

  bool join_best(std::vector<std::string>* symbols) const {
    std::size_t best = 0;
    std::optional<float> score;
    for (std::size_t i = 0; i + 1 < symbols->size(); ++i) {
      const auto piece = pieces_.find((*symbols)[i] + (*symbols)[i + 1]);
      if (piece == pieces_.end() || (score && piece->second.second <= *score)) continue;
      best = i;
      score = piece->second.second;
    }
    if (!score) return false;
    (*symbols)[best] += (*symbols)[best + 1];
    symbols->erase(symbols->begin() + static_cast<std::ptrdiff_t>(best) + 1);
    return true;
  }

  bool add_space_prefix_;
  std::int32_t first_byte_ = 0;
  std::vector<std::pair<std::string, std::int32_t>> user_defined_;
  std::unordered_map<std::string, std::pair<std::int32_t, float>> pieces_;
};

TEST(Sentencepiece, JoinsTheBestScoreFirst) {
  // "ab" is worse than "bc", which leaves nothing for it; "abc" needs "ab" or "bc".
  const Tokenizer tokenizer = Tokenizer::from_vocabulary(vocabulary_with({"bc", "ab", "a", "b", "c", "d", "▁"}));
  EXPECT_THAT(tokenizer.encode("abc"), ElementsAre(kFirst + 6, kFirst + 2, kFirst));
  EXPECT_THAT(tokenizer.encode("abd"), ElementsAre(kFirst + 6, kFirst + 1, kFirst + 5));
}

TEST(Sentencepiece, OfEqualScoresTheLeftmostIsJoinedFirst) {
  Vocabulary vocabulary = vocabulary_with({"▁", "▁▁", "▁▁▁", "▁▁▁▁"});
  vocabulary.add_space_prefix = false;
  for (std::size_t i = kFirst; i < vocabulary.scores.size(); ++i) vocabulary.scores[i] = -1e9F;
  const Tokenizer tokenizer = Tokenizer::from_vocabulary(vocabulary);
  EXPECT_THAT(tokenizer.encode("      "), ElementsAre(kFirst + 3, kFirst + 1));
  EXPECT_THAT(tokenizer.encode("       "), ElementsAre(kFirst + 3, kFirst + 2));
}

TEST(Sentencepiece, WhatIsNoTokenIsBytes) {
  const Tokenizer tokenizer = Tokenizer::from_vocabulary(vocabulary_with({"▁", "a"}));
  EXPECT_THAT(tokenizer.encode("aé\n"), ElementsAre(kFirst, kFirst + 1, kBytes + 0xC3, kBytes + 0xA9, kBytes + 0x0A));
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("aé\n"), false), "aé\n");
}

TEST(Sentencepiece, BeginsTextsWithASpaceUnlessTheFileSaysNo) {
  Vocabulary vocabulary = vocabulary_with({"▁", "a"});
  const Tokenizer with = Tokenizer::from_vocabulary(vocabulary);
  EXPECT_THAT(with.encode("a<s>a", {.parse_special = true}), ElementsAre(kFirst, kFirst + 1, 1, kFirst, kFirst + 1));
  EXPECT_TRUE(with.encode("").empty());
  EXPECT_EQ(with.decode(with.encode(" a"), false), " a");
  vocabulary.add_space_prefix = false;
  const Tokenizer without = Tokenizer::from_vocabulary(vocabulary);
  EXPECT_THAT(without.encode("a a"), ElementsAre(kFirst + 1, kFirst, kFirst + 1));
  EXPECT_EQ(without.decode(without.encode(" a"), false), " a");
}

TEST(Sentencepiece, BlanksBehindATokenAreAPartOfItIfTheVocabularySaysSo) {
  Vocabulary vocabulary = read_vocabulary(ggml_vocabulary("phi-3"));
  const EncodeOptions parsed{.add_special_tokens = false, .parse_special = true};
  const Tokenizer without = Tokenizer::from_vocabulary(vocabulary);
  vocabulary.marks_take_blanks = true;
  const Tokenizer with = Tokenizer::from_vocabulary(vocabulary);
  for (const char* blanks : {"\n", " ", "\n\n \t"}) {
    const auto text = [&](const char* token) { return std::string(token) + blanks + "Hi"; };
    EXPECT_EQ(with.encode(text("<|user|>"), parsed), without.encode("<|user|>Hi", parsed)) << blanks;
    EXPECT_NE(without.encode(text("<|user|>"), parsed), without.encode("<|user|>Hi", parsed)) << blanks;
    for (const char* token : {"<s>", "<|endoftext|>", "a"}) {
      EXPECT_EQ(with.encode(text(token), parsed), without.encode(text(token), parsed)) << token;
    }
    EXPECT_EQ(with.encode(text("<|user|>")), without.encode(text("<|user|>"))) << blanks;
  }
}

TEST(Sentencepiece, UserDefinedTokensComeFirst) {
  Vocabulary vocabulary = vocabulary_with({"▁", "a", "b", "▁a", "ab", "a b"});
  vocabulary.token_types.back() = 4;
  vocabulary.add_space_prefix = false;
  const Tokenizer tokenizer = Tokenizer::from_vocabulary(vocabulary);
  EXPECT_THAT(tokenizer.encode(" a b"), ElementsAre(kFirst, kFirst + 5));
  EXPECT_FALSE(tokenizer.is_special(kFirst + 5));
}

TEST(Sentencepiece, TextIsNeverJoinedToSomethingSpecial) {
  const Tokenizer tokenizer = Tokenizer::from_vocabulary(
      vocabulary_with({"▁", "<", "s", ">", "<s", "0", "x", "4", "1", "<0", "<0x", "<0x4", "<0x41", "unk", "<unk"}));
  for (const char* text : {"<s>", "<0x41>", "<unk>"}) {
    const auto ids = tokenizer.encode(text);
    for (const auto id : ids) EXPECT_TRUE(id >= kFirst || (id >= kBytes && id != kBytes + 0x41)) << text << ": " << id;
    EXPECT_EQ(tokenizer.decode(ids, true), text);
  }
  EXPECT_TRUE(tokenizer.is_special(0));
}

TEST(Sentencepiece, ACharacterThatIsAlsoSpecialIsBytes) {
  Vocabulary vocabulary = vocabulary_with({"▁", "a", "!"});
  vocabulary.token_types.back() = 3;
  const Tokenizer tokenizer = Tokenizer::from_vocabulary(vocabulary);
  EXPECT_THAT(tokenizer.encode("a!"), ElementsAre(kFirst, kFirst + 1, kBytes + '!'));
  EXPECT_THAT(tokenizer.encode("a!", {.parse_special = true}), ElementsAre(kFirst, kFirst + 1, kFirst + 2));
}

TEST(Sentencepiece, RefusesWhatDoesNotFit) {
  Vocabulary vocabulary = vocabulary_with({"a"});
  vocabulary.scores.pop_back();
  EXPECT_THAT(failure_of(vocabulary), HasSubstr("tokenizer.ggml.scores: 259 entries for 260 tokens"));
  vocabulary.scores.push_back(std::nanf(""));
  EXPECT_THAT(failure_of(vocabulary), HasSubstr("tokenizer.ggml.scores[259]: is not a number"));
  vocabulary = vocabulary_with({"a"});
  vocabulary.tokens[kBytes + 0xFF] = "b";
  EXPECT_THAT(failure_of(vocabulary), HasSubstr("there is no \"<0xFF>\", and every byte needs one"));
}

TEST(Sentencepiece, RefusesWhatWouldTakeMuchMemory) {
  EXPECT_THAT(failure_of(vocabulary_with({"a", std::string(257, 'a')})),
              HasSubstr("tokenizer.ggml.tokens[260]: 257 bytes are over the limit of 256"));
  std::vector<std::string> pieces;
  for (std::size_t size = 1; size <= 256; ++size) pieces.emplace_back(size, 'a');
  EXPECT_THAT(failure_of(vocabulary_with(pieces)),
              HasSubstr("tokenizer.ggml.tokens: 256 tokens can be put together in more than 4096 ways"));
  pieces.resize(33);
  EXPECT_THAT(failure_of(vocabulary_with(pieces)), HasSubstr("no error"));
}

TEST(Sentencepiece, GivesTheIdsOfItsPlainTwin) {
  for (const auto& [path, seed] :
       {std::pair(ggml_vocabulary("llama-spm"), 1U), std::pair(default_model("gemma-3-270m-q4_k_m.gguf"), 2U)}) {
    const Vocabulary vocabulary = read_vocabulary(path);
    const Tokenizer tokenizer = Tokenizer::from_vocabulary(vocabulary);
    const PlainSentencepiece twin(vocabulary);
    RandomTexts texts(seed);
    for (int i = 0; i < 10000; ++i) {
      const std::string text = texts.next();
      ASSERT_EQ(tokenizer.encode(text, {.add_special_tokens = false}), twin.encode(text))
          << path << ", seed " << seed << ", text " << i << ": " << text;
    }
  }
}

TEST(Sentencepiece, GivesTheGoldenIdsOfGemma) {
  const Vocabulary vocabulary = read_vocabulary(default_model("gemma-3-270m-q4_k_m.gguf"));
  const std::clock_t begin = std::clock();
  const Tokenizer tokenizer = Tokenizer::from_vocabulary(vocabulary);
  EXPECT_LT(static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC, 2.0);
  const std::string file = "goldens/gemma-3-270m-q4_k_m.json";
  const Fields golden = parse_json_object(read_data(file), file, ErrorCode::invalid_config);
  const auto ids = golden_rows("goldens/gemma-3-270m-q4_k_m.golden.safetensors", "ids");
  const auto& prompts = golden.array("prompts");
  ASSERT_EQ(ids.size(), prompts.size());
  for (std::size_t i = 0; i < ids.size(); ++i) {
    EXPECT_EQ(tokenizer.encode((*prompts[i].as<Value::Object>())->text("text")), ids[i]) << i;
  }
}

}  // namespace
}  // namespace cortex
