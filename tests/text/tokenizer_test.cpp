#include "text/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "base/error.h"
#include "text/tokenizers.h"

namespace cortex {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Words, and the bytes of "é" as fallback tokens, as SentencePiece's models have them.
Tokenizer byte_fallback_tokenizer() {
  const std::string model = R"({"type":"BPE","byte_fallback":true,"unk_token":"<unk>","vocab":)"
                            R"({"<unk>":0,"<s>":1,"▁hi":2,"▁":3,"<0xC3>":4,"<0xA9>":5,"h":6,"i":7,"hi":8},)"
                            R"("merges":[["h","i"],["▁","hi"]]})";
  const std::string decoder = R"({"type":"Sequence","decoders":[)"
                              R"({"type":"Replace","pattern":{"String":"▁"},"content":" "},)"
                              R"({"type":"ByteFallback"},{"type":"Fuse"},)"
                              R"({"type":"Strip","content":" ","start":1,"stop":0}]})";
  return Tokenizer::from_json(
      tokenizer_json(model, "[" + added_token(1, "<s>") + "]", decoder,
                     R"({"type":"Metaspace","replacement":"▁","prepend_scheme":"first","split":false})"));
}

Vocabulary small_vocabulary() {
  Vocabulary vocabulary;
  vocabulary.model = "gpt2";
  vocabulary.pre = "smollm";
  vocabulary.tokens = {"<|end|>", "a", "b", "1", "2", "Ġ", "ab", "Ġab", "12", "\n\n"};
  vocabulary.token_types = {3, 1, 1, 1, 1, 1, 1, 1, 1, 4};
  vocabulary.merges = {"a b", "Ġ ab", "1 2"};
  return vocabulary;
}

std::string failure_of(const Vocabulary& vocabulary) {
  try {
    Tokenizer::from_vocabulary(vocabulary);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_tokenizer);
    return error.message();
  }
  return "no error";
}

TEST(Tokenizer, EncodesPairsWithTheirTypes) {
  const Tokenizer bert = tokenizer_of("models/bert-mean/tokenizer.json");
  const auto ids = read_rows_of_ids("text/bert/pair_ids.txt");
  const auto types = read_rows_of_ids("text/bert/pair_types.txt");
  const Tokenizer xlm = tokenizer_of("text/xlm-roberta/tokenizer.json");
  const auto xlm_ids = read_rows_of_ids("text/xlm-roberta/pair_ids.txt");
  for (std::size_t i = 0; i < 4; ++i) {
    const auto [first, second] = golden_pairs()[i];
    const EncodedPair pair = bert.encode_pair(first, second);
    EXPECT_EQ(pair.ids, ids.at(i));
    EXPECT_EQ(pair.types, types.at(i));
    const EncodedPair other = xlm.encode_pair(first, second);
    EXPECT_EQ(other.ids, xlm_ids.at(i));
    EXPECT_EQ(other.types, std::vector<std::int32_t>(other.ids.size(), 0));
  }
}

TEST(Tokenizer, PairsHaveTypesWithoutAPostProcessorToo) {
  const Tokenizer tokenizer =
      Tokenizer::from_json(tokenizer_json(R"({"type":"BPE","vocab":{"a":0,"b":1},"merges":[]})"));
  const EncodedPair pair = tokenizer.encode_pair("ab", "b");
  EXPECT_THAT(pair.ids, ElementsAre(0, 1, 1));
  EXPECT_THAT(pair.types, ElementsAre(0, 0, 1));
}

TEST(Tokenizer, IgnoresTruncationAndPaddingOfTheFile) {
  std::string json = read_data("models/bert-mean/tokenizer.json");
  const auto replace = [&](const std::string& from, const std::string& to) {
    const auto at = json.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    json.replace(at, from.size(), to);
  };
  replace(R"("truncation": null)",
          R"("truncation": {"direction":"Right","max_length":4,"strategy":"LongestFirst","stride":0})");
  replace(R"("padding": null)", R"("padding": {"strategy":{"Fixed":64},"direction":"Right","pad_to_multiple_of":null,)"
                                R"("pad_id":0,"pad_type_id":0,"pad_token":"[PAD]"})");
  const auto plain = tokenizer_of("models/bert-mean/tokenizer.json").encode(golden_prompts()[0]);
  EXPECT_EQ(Tokenizer::from_json(json).encode(golden_prompts()[0]), plain);
}

TEST(Tokenizer, ReadsSpecialTokensOnlyWhenAsked) {
  const auto tokenizer = llama_tokenizer();
  const std::string text = "a<|im_start|>b";
  const auto parsed = tokenizer->encode(text, {.parse_special = true});
  EXPECT_EQ(std::count(parsed.begin(), parsed.end(), 1), 1);
  const auto plain = tokenizer->encode(text, {.parse_special = false});
  for (const auto id : plain) EXPECT_FALSE(tokenizer->is_special(id));
  EXPECT_EQ(tokenizer->decode(plain, true), text);
}

std::vector<std::int32_t> plain_ids(const Tokenizer& tokenizer, const std::string& text) {
  return tokenizer.encode(text, {.add_special_tokens = false, .parse_special = false});
}

TEST(Tokenizer, UnigramDoesNotMakeASpecialTokenOfItsText) {
  const Tokenizer tokenizer = Tokenizer::from_json(tokenizer_json(
      R"({"type":"Unigram","unk_id":0,"vocab":[["<unk>",0],["</s>",0],["<",-2],["/",-2],["s",-2],[">",-2],)"
      R"(["s>",-3],["a",-1],["unk",-9]]})",
      "[" + added_token(0, "<unk>") + "," + added_token(1, "</s>") + "]"));
  EXPECT_THAT(plain_ids(tokenizer, "a</s>"), ElementsAre(7, 2, 3, 6));
  EXPECT_THAT(plain_ids(tokenizer, "<unk>"), ElementsAre(2, 8, 5));
  EXPECT_THAT(plain_ids(tokenizer, "az"), ElementsAre(7, 0));
  EXPECT_THAT(tokenizer.encode("a</s>", {.parse_special = true}), ElementsAre(7, 1));
  EXPECT_EQ(tokenizer.token_id("</s>"), 1);
  EXPECT_EQ(tokenizer.token_id(""), std::nullopt);
  EXPECT_EQ(tokenizer.token_bytes(1), "</s>");
}

TEST(Tokenizer, MergesDoNotMakeASpecialTokenOfItsText) {
  for (const char* ignore_merges : {"false", "true"}) {
    const Tokenizer tokenizer = Tokenizer::from_json(tokenizer_json(
        std::string(R"({"type":"BPE","ignore_merges":)") + ignore_merges +
            R"(,"byte_fallback":true,"unk_token":"<unk>","vocab":{"<unk>":0,"</s>":1,"<":2,"/":3,"s":4,">":5,"</":6,)"
            R"("s>":7,"a":8,"!":9,"<0x21>":10,"</s>a":11},"merges":[["<","/"],["s",">"],["</","s>"],["</s>","a"]]})",
        "[" + added_token(0, "<unk>") + "," + added_token(1, "</s>") + "," + added_token(9, "!") + "]"));
    EXPECT_THAT(plain_ids(tokenizer, "</s>"), ElementsAre(6, 7)) << ignore_merges;
    EXPECT_THAT(plain_ids(tokenizer, "a</s></s>a"), ElementsAre(8, 6, 7, 6, 7, 8)) << ignore_merges;
    EXPECT_THAT(plain_ids(tokenizer, "a!"), ElementsAre(8, 10)) << ignore_merges;
    EXPECT_THAT(tokenizer.encode("a</s>!", {.parse_special = true}), ElementsAre(8, 1, 9)) << ignore_merges;
  }
}

TEST(Tokenizer, WordsDoNotBecomeASpecialTokenByItsText) {
  const std::string vocab = R"("vocab":{"[UNK]":0,"[SEP]":1,"[":2,"##SEP":3,"##]":4,"a":5}})";
  const std::string added = "[" + added_token(0, "[UNK]") + "," + added_token(1, "[SEP]") + "]";
  const std::string split = R"({"type":"WhitespaceSplit"})";
  const Tokenizer pieces =
      Tokenizer::from_json(tokenizer_json(R"({"type":"WordPiece","unk_token":"[UNK]","continuing_subword_prefix":"##",)"
                                          R"("max_input_chars_per_word":100,)" +
                                              vocab,
                                          added, "null", split));
  EXPECT_THAT(plain_ids(pieces, "a [SEP] z"), ElementsAre(5, 2, 3, 4, 0));
  EXPECT_THAT(pieces.encode("a [SEP]", {.parse_special = true}), ElementsAre(5, 1));
  const Tokenizer words =
      Tokenizer::from_json(tokenizer_json(R"({"type":"WordLevel","unk_token":"[UNK]",)" + vocab, added, "null", split));
  EXPECT_THAT(plain_ids(words, "a [SEP] z"), ElementsAre(5, 0, 0));
  EXPECT_THAT(words.encode("a [SEP]", {.parse_special = true}), ElementsAre(5, 1));
}

TEST(Tokenizer, ANormalizerDoesNotMakeASpecialToken) {
  const Tokenizer tokenizer = tokenizer_of("text/xlm-roberta/tokenizer.json");
  const auto end = tokenizer.token_id("</s>");
  for (const bool parse_special : {false, true}) {
    const auto ids = tokenizer.encode("a ＜/s＞ b", {.add_special_tokens = false, .parse_special = parse_special});
    EXPECT_EQ(std::ranges::count(ids, end), 0);
  }
}

TEST(Tokenizer, AddsSpecialTokensOnlyWhenAsked) {
  const Tokenizer tokenizer = tokenizer_of("models/bert-mean/tokenizer.json");
  const auto framed = tokenizer.encode("paris");
  EXPECT_EQ(framed.front(), tokenizer.token_id("[CLS]"));
  EXPECT_EQ(framed.back(), tokenizer.token_id("[SEP]"));
  const auto bare = tokenizer.encode("paris", {.add_special_tokens = false});
  EXPECT_EQ(bare, std::vector(framed.begin() + 1, framed.end() - 1));
}

TEST(Tokenizer, RefusesTextThatIsNotUtf8) {
  for (const char* text : {"a\xFF", "\xC0\x80", "\xED\xA0\x80", "\xE6\x9D"}) {
    try {
      llama_tokenizer()->encode(text);
      ADD_FAILURE() << "no error";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::invalid_utf8);
    }
  }
}

TEST(Tokenizer, TakesNulAndEmptyText) {
  const auto tokenizer = llama_tokenizer();
  EXPECT_TRUE(tokenizer->encode("").empty());
  EXPECT_TRUE(tokenizer->encode(std::string_view()).empty());
  const std::string text("a\0b", 3);
  EXPECT_EQ(tokenizer->decode(tokenizer->encode(text), false), text);
}

TEST(Tokenizer, KnowsItsTokens) {
  const auto tokenizer = llama_tokenizer();
  EXPECT_EQ(tokenizer->token_id("<|im_start|>"), 1);
  EXPECT_EQ(tokenizer->token_id("no such token"), std::nullopt);
  EXPECT_TRUE(tokenizer->is_special(1));
  EXPECT_FALSE(tokenizer->is_special(3));
  EXPECT_EQ(tokenizer->token_bytes(1), "<|im_start|>");
  EXPECT_EQ(tokenizer->token_bytes(3), "!");
  for (const std::int32_t id : {-1, tokenizer->vocabulary_size()}) {
    EXPECT_EQ(tokenizer->token_bytes(id), "");
    EXPECT_FALSE(tokenizer->is_special(id));
  }
}

TEST(Tokenizer, TableAndTokenBytesAgree) {
  const auto tokenizer = llama_tokenizer();
  const TokenTable table = tokenizer->token_table();
  ASSERT_EQ(table.offsets.size(), static_cast<std::size_t>(tokenizer->vocabulary_size()) + 1);
  for (int id = 0; id < tokenizer->vocabulary_size(); ++id) {
    const auto begin = table.offsets[static_cast<std::size_t>(id)];
    const auto end = table.offsets[static_cast<std::size_t>(id) + 1];
    EXPECT_EQ(table.bytes.substr(begin, end - begin), tokenizer->token_bytes(id));
  }
}

TEST(Tokenizer, ByteLevelTokensAreTheirBytes) {
  const auto tokenizer = llama_tokenizer();
  for (const std::string& prompt : golden_prompts()) {
    std::string bytes;
    for (const auto id : tokenizer->encode(prompt)) bytes += tokenizer->token_bytes(id);
    EXPECT_EQ(bytes, prompt);
  }
}

TEST(Tokenizer, WordPiecesGetTheirSpaces) {
  const Tokenizer tokenizer = tokenizer_of("models/bert-mean/tokenizer.json");
  const auto ids = tokenizer.encode("Paris, when heat rises.");
  EXPECT_EQ(tokenizer.decode(ids, true), "paris, when heat rises.");
}

TEST(Tokenizer, MetaspaceTokensGetTheirSpaces) {
  const Tokenizer tokenizer = tokenizer_of("text/xlm-roberta/tokenizer.json");
  const std::string text = "The scheduler hands each sequence";
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(text), true), text);
}

TEST(Tokenizer, ByteFallbackTokensAreOneByte) {
  const Tokenizer tokenizer = byte_fallback_tokenizer();
  EXPECT_EQ(tokenizer.token_bytes(4), "\xC3");
  EXPECT_EQ(tokenizer.token_bytes(2), " hi");
  EXPECT_TRUE(tokenizer.drops_first_space());
  const auto ids = tokenizer.encode("hi é hi");
  EXPECT_THAT(ids, ElementsAre(2, 3, 4, 5, 2));
  EXPECT_EQ(tokenizer.decode(ids, true), "hi é hi");
}

TEST(Tokenizer, FromAVocabularySplitsDigitsBeforeWords) {
  const Tokenizer tokenizer = Tokenizer::from_vocabulary(small_vocabulary());
  EXPECT_EQ(tokenizer.vocabulary_size(), 10);
  EXPECT_THAT(tokenizer.encode("ab ab12"), ElementsAre(6, 7, 3, 4));
  EXPECT_EQ(tokenizer.decode(std::vector{6, 7, 8}, false), "ab ab12");
}

TEST(Tokenizer, FromAVocabularyControlTokensAreSpecialAndUserDefinedOnesText) {
  const Tokenizer tokenizer = Tokenizer::from_vocabulary(small_vocabulary());
  EXPECT_TRUE(tokenizer.is_special(0));
  EXPECT_FALSE(tokenizer.is_special(9));
  EXPECT_THAT(tokenizer.encode("a<|end|>\n\nb", {.parse_special = true}), ElementsAre(1, 0, 9, 2));
  EXPECT_THAT(tokenizer.encode("a\n\nb"), ElementsAre(1, 9, 2));
  EXPECT_EQ(tokenizer.decode(std::vector{1, 0, 9, 2}, true), "a\n\nb");
}

TEST(Tokenizer, FromAVocabularyAddsBosAndEosAsTheFileSays) {
  Vocabulary vocabulary = small_vocabulary();
  vocabulary.bos = 0;
  EXPECT_THAT(Tokenizer::from_vocabulary(vocabulary).encode("a"), ElementsAre(1));
  vocabulary.add_bos = true;
  EXPECT_THAT(Tokenizer::from_vocabulary(vocabulary).encode("a"), ElementsAre(0, 1));
  vocabulary.add_eos = true;
  EXPECT_THAT(failure_of(vocabulary), HasSubstr("tokenizer.ggml.eos_token_id: is missing"));
  vocabulary.eos = 10;
  EXPECT_THAT(failure_of(vocabulary), HasSubstr("tokenizer.ggml.eos_token_id: 10 is outside the vocabulary of 10"));
  vocabulary.eos = 0;
  const Tokenizer both = Tokenizer::from_vocabulary(vocabulary);
  EXPECT_THAT(both.encode("a"), ElementsAre(0, 1, 0));
  EXPECT_THAT(both.encode("a", {.add_special_tokens = false}), ElementsAre(1));
  EXPECT_THAT(both.encode_pair("a", "b").types, ElementsAre(0, 0, 0, 1, 1, 1));
}

// The tokens of a text, whose merges join whatever stands in one piece.
std::vector<std::string> tokens_of(const std::string& text, const std::string& pre) {
  Vocabulary vocabulary;
  vocabulary.model = "gpt2";
  vocabulary.pre = pre;
  vocabulary.tokens = {"1", "2",  "3", "4", "12", "34",  "1234", "Ġ", ".",  "Ġ.",
                       "Ċ", ".Ċ", "'", "L", "LL", "'LL", "a",    "b", "ab", "Ġa"};
  vocabulary.token_types.assign(vocabulary.tokens.size(), 1);
  vocabulary.merges = {"1 2", "3 4", "12 34", "Ġ .", ". Ċ", "L L", "' LL", "Ġ a"};
  const Tokenizer tokenizer = Tokenizer::from_vocabulary(vocabulary);
  std::vector<std::string> tokens;
  for (const auto id : tokenizer.encode(text)) tokens.emplace_back(tokenizer.token_bytes(id));
  return tokens;
}

TEST(Tokenizer, FromAVocabularyCutsAsThePreTokenizerSays) {
  for (const char* pre : {"gpt-2", "default"}) {
    EXPECT_THAT(tokens_of(".\n", pre), ElementsAre(".", "\n")) << pre;
    EXPECT_THAT(tokens_of("'LLa", pre), ElementsAre("'", "LL", "a")) << pre;
    EXPECT_THAT(tokens_of("ab", pre), ElementsAre("a", "b")) << pre;
    EXPECT_THAT(tokens_of("  a", pre), ElementsAre(" ", " a")) << pre;
  }
  EXPECT_THAT(tokens_of("1234", "gpt-2"), ElementsAre("1234"));
  EXPECT_THAT(tokens_of("1234", "default"), ElementsAre("12", "3", "4"));
  EXPECT_THAT(tokens_of(" .", "gpt-2"), ElementsAre(" ."));
  EXPECT_THAT(tokens_of(" .", "default"), ElementsAre(" ", "."));
  EXPECT_THAT(tokens_of("1234", "smollm"), ElementsAre("1", "2", "3", "4"));
  for (const char* pre : {"llama-bpe", "llama3", "llama-v3", "qwen2", "deepseek-r1-qwen"}) {
    const bool is_llama = std::string_view(pre).starts_with("llama");
    EXPECT_THAT(tokens_of(".\n", pre), ElementsAre(".\n")) << pre;
    EXPECT_THAT(tokens_of("'LLa", pre), ElementsAre("'LL", "a")) << pre;
    EXPECT_THAT(tokens_of("  a", pre), ElementsAre(" ", " a")) << pre;
    EXPECT_EQ(tokens_of("1234", pre),
              is_llama ? (std::vector<std::string>{"12", "3", "4"}) : (std::vector<std::string>{"1", "2", "3", "4"}));
    // A piece that is a token.
    EXPECT_EQ(tokens_of("ab", pre), is_llama ? std::vector<std::string>{"ab"} : (std::vector<std::string>{"a", "b"}));
  }
}

TEST(Tokenizer, FromAVocabularyNamesWhatIsNotSupported) {
  Vocabulary vocabulary = small_vocabulary();
  vocabulary.pre = "klingon";
  EXPECT_THAT(failure_of(vocabulary),
              HasSubstr(R"(tokenizer.ggml.pre: "klingon" is not supported; supported: "default", "gpt-2", "smollm", )"
                        R"("llama-bpe", "llama3", "llama-v3", "qwen2", "deepseek-r1-qwen")"));
  vocabulary = small_vocabulary();
  vocabulary.model = "t5";
  EXPECT_THAT(failure_of(vocabulary),
              HasSubstr(R"(tokenizer.ggml.model: "t5" is not supported; supported: "gpt2", "llama")"));
}

TEST(Tokenizer, FromAVocabularyRefusesWhatDoesNotFit) {
  Vocabulary vocabulary = small_vocabulary();
  vocabulary.merges.push_back("a c");
  EXPECT_THAT(failure_of(vocabulary), HasSubstr("tokenizer.ggml.merges"));
  vocabulary = small_vocabulary();
  vocabulary.merges[1] = "ab";
  EXPECT_THAT(failure_of(vocabulary), HasSubstr(R"(tokenizer.ggml.merges[1]: "ab" is not two tokens)"));
  vocabulary = small_vocabulary();
  vocabulary.tokens[2] = "a";
  EXPECT_THAT(failure_of(vocabulary), HasSubstr(R"("a" is both id 1 and id 2)"));
  vocabulary = small_vocabulary();
  vocabulary.tokens[2] = "\xFF";
  EXPECT_THAT(failure_of(vocabulary), HasSubstr("tokenizer.ggml.tokens[2]: not UTF-8"));
  vocabulary = small_vocabulary();
  vocabulary.token_types.pop_back();
  EXPECT_THAT(failure_of(vocabulary), HasSubstr("tokenizer.ggml.token_type: 9 entries for 10 tokens"));
}

TEST(Tokenizer, IsSharedByThreads) {
  const auto tokenizer = llama_tokenizer();
  std::vector<std::vector<std::int32_t>> expected;
  for (const auto& prompt : golden_prompts()) expected.push_back(tokenizer->encode(prompt));
  std::vector<int> wrong(4, 0);
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < wrong.size(); ++t) {
    threads.emplace_back([&, t] {
      for (int round = 0; round < 50; ++round) {
        const std::size_t i = (t + static_cast<std::size_t>(round)) % 4;
        const auto ids = tokenizer->encode(golden_prompts()[i]);
        if (ids != expected[i] || tokenizer->decode(ids, false) != golden_prompts()[i]) ++wrong[t];
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_THAT(wrong, ElementsAre(0, 0, 0, 0));
}

}  // namespace
}  // namespace cortex
