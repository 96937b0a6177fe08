// Vocabularies of GGUF files against the ids that the original tokenizers gave for llama.cpp's own tests.
#include <gtest/gtest.h>

#include "text/goldens.h"
#include "text/tokenizers.h"

namespace cortex {
namespace {

std::string read_file(const std::filesystem::path& path) { return real_file_system().read_text(path, 1 << 20); }

// The texts stand between lines of "__ggml_vocab_test__".
std::vector<std::string> texts_of(const std::string& name) {
  constexpr std::string_view kBetween = "\n__ggml_vocab_test__\n";
  const std::string all = read_file(ggml_vocabulary(name, ".inp"));
  std::vector<std::string> texts;
  std::size_t begin = 0;
  for (std::size_t end = 0; (end = all.find(kBetween, begin)) != std::string::npos; begin = end + kBetween.size()) {
    texts.push_back(all.substr(begin, end - begin));
  }
  return texts;
}

class GgmlVocabulary : public testing::TestWithParam<const char*> {};

TEST_P(GgmlVocabulary, GivesTheIdsOfTheOriginal) {
  const Tokenizer tokenizer = Tokenizer::from_vocabulary(read_vocabulary(ggml_vocabulary(GetParam())));
  const std::vector<std::string> texts = texts_of(GetParam());
  const auto expected = rows_of_ids(read_file(ggml_vocabulary(GetParam(), ".out")));
  ASSERT_GT(texts.size(), 40U);
  ASSERT_EQ(expected.size(), texts.size());
  for (std::size_t i = 0; i < texts.size(); ++i) {
    EXPECT_EQ(tokenizer.encode(texts[i], {.add_special_tokens = false}), expected[i]) << "\"" << texts[i] << "\"";
  }
}

INSTANTIATE_TEST_SUITE_P(Tokenizer, GgmlVocabulary,
                         testing::Values("gpt-2", "llama-bpe", "llama-spm", "phi-3", "qwen2"));

}  // namespace
}  // namespace cortex
