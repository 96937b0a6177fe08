// Random texts come back from their ids: as they were, or as the tokenizer's normalizer makes them; and what stands in
// them for a special token stays text.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <iterator>

#include "text/goldens.h"
#include "text/random_texts.h"
#include "text/tokenizers.h"

namespace cortex {
namespace {

constexpr int kTexts = 10000;
constexpr EncodeOptions kPlain{.add_special_tokens = false, .parse_special = false};

struct Kind {
  std::string name;
  std::function<Tokenizer()> open;
  // What a text becomes.
  std::function<std::string(const std::string&)> normalize = [](const std::string& text) { return text; };
};

void replace_all(std::string* text, std::string_view from, std::string_view to) {
  for (std::size_t at = 0; (at = text->find(from, at)) != std::string::npos; at += to.size()) {
    text->replace(at, from.size(), to);
  }
}

// To SentencePiece U+2581 is a space.
std::string with_spaces(const std::string& text) {
  std::string spaced = text;
  replace_all(&spaced, "\u2581", " ");
  return spaced;
}

// Another way to cut for the tokens of GPT-2.
Tokenizer gpt2_cut_as(const std::string& pre) {
  Vocabulary vocabulary = read_vocabulary(ggml_vocabulary("gpt-2"));
  vocabulary.pre = pre;
  return Tokenizer::from_vocabulary(vocabulary);
}

Tokenizer from_file(const std::filesystem::path& path) { return Tokenizer::from_vocabulary(read_vocabulary(path)); }

std::vector<std::string> special_tokens(const Tokenizer& tokenizer) {
  std::vector<std::string> tokens;
  for (int id = 0; id < tokenizer.vocabulary_size(); ++id) {
    if (tokenizer.is_special(id)) tokens.emplace_back(tokenizer.token_bytes(id));
  }
  return tokens;
}

// Two or three random texts with special tokens' texts between them.
std::string strewn_text(RandomTexts* texts, const std::vector<std::string>& tokens) {
  std::string text = texts->below(2) ? texts->next() : "";
  for (int i = 0; i < 2; ++i) {
    text += tokens[texts->below(static_cast<std::uint32_t>(tokens.size()))];
    if (texts->below(2)) text += texts->next();
  }
  return text;
}

std::vector<Kind> kinds() {
  std::vector<Kind> kinds;
  for (const char* pre : {"default", "gpt-2", "smollm", "llama-bpe", "qwen2"}) {
    kinds.push_back({std::string("gpt2_") + pre, [pre] { return gpt2_cut_as(pre); }});
  }
  for (const char* name : {"llama-bpe", "qwen2"}) {
    kinds.push_back({std::string("file_") + name, [name] { return from_file(ggml_vocabulary(name)); }});
  }
  kinds.push_back({"llama_spm", [] { return from_file(ggml_vocabulary("llama-spm")); }, with_spaces});
  kinds.push_back({"gemma", [] { return from_file(default_model("gemma-3-270m-q4_k_m.gguf")); }, with_spaces});
  kinds.push_back({"json_llama", [] { return tokenizer_of("models/llama/tokenizer.json"); }});
  kinds.push_back({"json_qwen3_reranker", [] { return tokenizer_of("models/qwen3-reranker/tokenizer.json"); }});
  return kinds;
}

class RoundTrip : public testing::TestWithParam<Kind> {};

TEST_P(RoundTrip, GivesTheTextBack) {
  const Tokenizer tokenizer = GetParam().open();
  const std::uint32_t seed = 20261125;
  RandomTexts texts(seed);
  for (int i = 0; i < kTexts; ++i) {
    const std::string text = texts.next();
    const auto ids = tokenizer.encode(text, {.add_special_tokens = false});
    ASSERT_EQ(tokenizer.decode(ids, false), GetParam().normalize(text)) << "seed " << seed << ", text " << i;
  }
}

TEST_P(RoundTrip, KeepsTheTextsOfSpecialTokens) {
  const Tokenizer tokenizer = GetParam().open();
  const std::vector<std::string> tokens = special_tokens(tokenizer);
  ASSERT_FALSE(tokens.empty());
  const std::uint32_t seed = 20261126;
  RandomTexts texts(seed);
  for (int i = 0; i < kTexts / 5; ++i) {
    const std::string text = strewn_text(&texts, tokens);
    const auto ids = tokenizer.encode(text, kPlain);
    ASSERT_TRUE(std::ranges::none_of(ids, [&](auto id) { return tokenizer.is_special(id); }))
        << "seed " << seed << ", text " << i << ": " << text;
    ASSERT_EQ(tokenizer.decode(ids, false), GetParam().normalize(text)) << "seed " << seed << ", text " << i;
  }
}

// Its user-defined </s> begins what follows with a space, so texts do not come back.
TEST(Tokenizer, OfPhi3KeepsTheTextsOfSpecialTokensToo) {
  const Tokenizer tokenizer = from_file(ggml_vocabulary("phi-3"));
  const std::vector<std::string> tokens = special_tokens(tokenizer);
  ASSERT_FALSE(tokens.empty());
  RandomTexts texts(20261126);
  for (int i = 0; i < kTexts / 5; ++i) {
    const std::string text = strewn_text(&texts, tokens);
    const auto ids = tokenizer.encode(text, kPlain);
    ASSERT_TRUE(std::ranges::none_of(ids, [&](auto id) { return tokenizer.is_special(id); })) << i << ": " << text;
  }
}

INSTANTIATE_TEST_SUITE_P(Tokenizer, RoundTrip, testing::ValuesIn(kinds()), [](const auto& info) {
  std::string name = info.param.name;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

// What these make of a text is another: small letters without accents, or none for an unknown one. Once they have made
// it, it stays.
class Settled : public testing::TestWithParam<const char*> {};

TEST_P(Settled, IsWhatComesBack) {
  const Tokenizer tokenizer = tokenizer_of(std::string("models/") + GetParam() + "/tokenizer.json");
  const std::uint32_t seed = 20261125;
  RandomTexts texts(seed);
  for (int i = 0; i < kTexts; ++i) {
    const std::string text = texts.next();
    std::string once = tokenizer.decode(tokenizer.encode(text), true);
    const std::string twice = tokenizer.decode(tokenizer.encode(once), true);
    // XLM-RoBERTa's makes its own beginning of one.
    if (once.starts_with(' ')) once.erase(0, 1);
    ASSERT_EQ(twice, once) << "seed " << seed << ", text " << i << ": " << text;
  }
}

// The unknown token stands for what is unknown, and nothing else comes from a text.
TEST_P(Settled, KeepsTheTextsOfSpecialTokens) {
  const Tokenizer tokenizer = tokenizer_of(std::string("models/") + GetParam() + "/tokenizer.json");
  const bool is_bert = tokenizer.token_id("[UNK]").has_value();
  const auto unknown = tokenizer.token_id(is_bert ? "[UNK]" : "<unk>");
  ASSERT_TRUE(unknown);
  const std::vector<std::string> tokens = special_tokens(tokenizer);
  const std::uint32_t seed = 20261126;
  RandomTexts texts(seed);
  for (int i = 0; i < kTexts / 5; ++i) {
    const std::string first = strewn_text(&texts, tokens);
    const std::string second = strewn_text(&texts, tokens);
    auto ids = tokenizer.encode(first, kPlain);
    std::ranges::copy(tokenizer.encode(second, kPlain), std::back_inserter(ids));
    for (const auto id : ids) {
      ASSERT_TRUE(id == unknown || !tokenizer.is_special(id)) << "seed " << seed << ", text " << i << ": " << id;
    }
    ASSERT_EQ(tokenizer.encode_pair(first, second, kPlain).ids, ids);
  }
}

INSTANTIATE_TEST_SUITE_P(Tokenizer, Settled,
                         testing::Values("bert-mean", "bert-reranker", "modernbert-mean", "xlm-roberta-cls",
                                         "xlm-roberta-reranker"));

}  // namespace
}  // namespace cortex
