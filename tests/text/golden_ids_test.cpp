// Every tiny model's tokenizer gives the ids that its golden outputs were computed from.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "model/json_file.h"
#include "text/goldens.h"
#include "text/tokenizers.h"

namespace cortex {
namespace {

std::string folder_of(const std::string& name) { return "models/" + name; }

std::vector<std::pair<std::string, std::string>> read_pairs(const std::string& file) {
  const Value pairs = parse_json(read_data(file), file, ErrorCode::invalid_config);
  std::vector<std::pair<std::string, std::string>> texts;
  for (const Value& pair : *pairs.as<Value::Array>()) {
    const auto& both = *pair.as<Value::Array>();
    texts.emplace_back(*both.at(0).as<std::string>(), *both.at(1).as<std::string>());
  }
  return texts;
}

class GoldenTexts : public testing::TestWithParam<const char*> {};

TEST_P(GoldenTexts, GiveTheGoldenIds) {
  const std::string folder = folder_of(GetParam());
  const Tokenizer tokenizer = tokenizer_of(folder + "/tokenizer.json");
  const auto golden = golden_rows(folder + "/golden.safetensors", "ids");
  ASSERT_EQ(golden.size(), golden_prompts().size());
  for (std::size_t i = 0; i < golden.size(); ++i) EXPECT_EQ(tokenizer.encode(golden_prompts()[i]), golden[i]) << i;
}

INSTANTIATE_TEST_SUITE_P(Tokenizer, GoldenTexts,
                         testing::Values("bert-cls", "bert-mean", "gemma3", "gemma3-old", "llama", "llama-mlx-q4",
                                         "llama-mlx-q8", "llama3-rope", "llama3-rope-old", "mistral", "mistral-window",
                                         "modernbert-mean", "olmo2", "phi3", "qwen2", "qwen3", "qwen3-embedding",
                                         "qwen3-mlx-q4", "qwen3-mlx-q8", "qwen3-moe", "qwen3-moe-old",
                                         "xlm-roberta-cls"));

class GoldenPairs : public testing::TestWithParam<const char*> {};

TEST_P(GoldenPairs, GiveTheGoldenIdsAndTypes) {
  const std::string folder = folder_of(GetParam());
  const Tokenizer tokenizer = tokenizer_of(folder + "/tokenizer.json");
  const auto pairs = read_pairs(folder + "/pairs.json");
  const auto ids = golden_rows(folder + "/golden.safetensors", "ids");
  const auto types = golden_rows(folder + "/golden.safetensors", "types");
  ASSERT_EQ(ids.size(), pairs.size());
  const bool has_types = !types.empty();  // BERT alone reads them
  EXPECT_EQ(has_types, std::string_view(GetParam()) == "bert-reranker");
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    const EncodedPair pair = tokenizer.encode_pair(pairs[i].first, pairs[i].second);
    EXPECT_EQ(pair.ids, ids[i]) << i;
    if (has_types) {
      EXPECT_EQ(pair.types, types.at(i)) << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Tokenizer, GoldenPairs,
                         testing::Values("bert-reranker", "modernbert-reranker", "xlm-roberta-reranker"));

TEST(Tokenizer, GivesTheGoldenIdsOfAQuestionToADecoder) {
  const std::string folder = folder_of("qwen3-reranker");
  const Fields parts =
      parse_json_object(read_data(folder + "/reranker.json"), "reranker.json", ErrorCode::invalid_config);
  const Tokenizer tokenizer = tokenizer_of(folder + "/tokenizer.json");
  const auto pairs = read_pairs(folder + "/pairs.json");
  const auto golden = golden_rows(folder + "/golden.safetensors", "ids");
  ASSERT_EQ(golden.size(), pairs.size());
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    const auto& [query, document] = pairs[i];
    const std::string question =
        fmt::format("<Instruct>: {}\n<Query>: {}\n<Document>: {}", parts.text("instruction"), query, document);
    std::vector<std::int32_t> ids = tokenizer.encode(parts.text("prefix"), {.parse_special = true});
    for (const auto id : tokenizer.encode(question)) ids.push_back(id);
    for (const auto id : tokenizer.encode(parts.text("suffix"), {.parse_special = true})) ids.push_back(id);
    EXPECT_EQ(ids, golden[i]) << i;
  }
  EXPECT_EQ(tokenizer.token_id("yes"), parts.integer("yes", 0, 1000));
  EXPECT_EQ(tokenizer.token_id("no"), parts.integer("no", 0, 1000));
}

}  // namespace
}  // namespace cortex
