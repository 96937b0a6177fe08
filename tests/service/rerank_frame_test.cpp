#include "service/rerank_frame.h"

#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "base/error.h"
#include "service/golden_pairs.h"
#include "service/served_models.h"

namespace cortex {
namespace {

using testing::HasSubstr;

constexpr EncodeOptions kPlain{.add_special_tokens = false, .parse_special = false};
constexpr EncodeOptions kFramed{.add_special_tokens = true, .parse_special = false};

std::vector<TokenId> in_frame(const RerankFrame& frame, const Tokenizer& tokenizer, const std::string& query,
                              const std::string& document) {
  std::vector<TokenId> ids = frame.before;
  const auto append = [&](const std::vector<TokenId>& more) { ids.insert(ids.end(), more.begin(), more.end()); };
  append(tokenizer.encode(frame.query_lead + query + frame.query_tail, kPlain));
  append(frame.between);
  append(tokenizer.encode(frame.document_lead + document, kPlain));
  append(frame.behind);
  return ids;
}

// Words, marks, spaces, other scripts and special tokens' names, joined at random.
std::string random_text(std::mt19937* random) {
  constexpr std::array kPieces = {"Paris", "the", " ",       "  ",   "\n",   "\t",    "!",    ".",
                                  "42",    "é",   "e\u0301", "東京", "🙂",   "[SEP]", "</s>", "<|im_end|>",
                                  "yes",   "no",  "\"",      "'s",   "\r\n", "ﬁ",     "<s>",  "-"};
  std::string text;
  for (auto left = (*random)() % 12; left > 0; --left) text += kPieces[(*random)() % kPieces.size()];
  return text;
}

TEST(RerankFrame, APairIsTheTokenizersOwn) {
  std::mt19937 random(3);
  for (const char* name : {"bert-reranker", "xlm-roberta-reranker", "modernbert-reranker"}) {
    const ServedModel& model = tiny_rerankers().find(name, Task::rerank);
    const Tokenizer& tokenizer = *model.tokenizer;
    for (int i = 0; i < 200; ++i) {
      const std::string query = random_text(&random);
      const std::string document = random_text(&random);
      const EncodedPair pair = tokenizer.encode_pair(query, document, kFramed);
      ASSERT_EQ(in_frame(model.frame, tokenizer, query, document), pair.ids)
          << name << ": " << query << "|" << document;
      const auto second = pair.ids.size() - model.frame.behind.size() - tokenizer.encode(document, kPlain).size();
      std::vector<std::int32_t> types(second, model.frame.query_type);
      types.resize(pair.ids.size(), model.frame.document_type);
      ASSERT_EQ(types, pair.types) << name;
    }
  }
}

TEST(RerankFrame, TypesTellTheTwoTextsApart) {
  EXPECT_EQ(tiny_rerankers().find("bert-reranker", Task::rerank).frame.document_type, 1);
  EXPECT_EQ(tiny_rerankers().find("xlm-roberta-reranker", Task::rerank).frame.document_type, 0);
}

TEST(RerankFrame, AQuestionIsTokenizedInPartsAsInOne) {
  const ServedModel& model = tiny_rerankers().find("qwen3-reranker", Task::rerank);
  const Tokenizer& tokenizer = *model.tokenizer;
  std::mt19937 random(5);
  for (int i = 0; i < 200; ++i) {
    const std::string query = random_text(&random);
    const std::string document = random_text(&random);
    std::vector<TokenId> whole = model.frame.before;
    const std::string text = fmt::format("{}{}{}{}{}", model.frame.query_lead, query, model.frame.query_tail,
                                         model.frame.document_lead, document);
    const auto middle = tokenizer.encode(text, kPlain);
    whole.insert(whole.end(), middle.begin(), middle.end());
    whole.insert(whole.end(), model.frame.behind.begin(), model.frame.behind.end());
    ASSERT_EQ(in_frame(model.frame, tokenizer, query, document), whole) << query << "|" << document;
  }
}

TEST(RerankFrame, AQuestionsIdsAreTheGoldenOnes) {
  const ServedModel& model = tiny_rerankers().find("qwen3-reranker", Task::rerank);
  const GoldenPairs golden("qwen3-reranker");
  for (std::size_t k = 0; k < golden.pairs.size(); ++k) {
    const auto& [query, document] = golden.pairs[k];
    EXPECT_EQ(in_frame(model.frame, *model.tokenizer, query, document), golden.ids(k)) << k;
  }
  EXPECT_EQ(model.answers.yes, 484);
  EXPECT_EQ(model.answers.no, 485);
}

TEST(RerankFrame, ATokenizerWithoutTurnsOrAnswersAsksNothing) {
  const Tokenizer& bert = *tiny_rerankers().find("bert-reranker", Task::rerank).tokenizer;
  const auto message_of = [](const auto& call) -> std::string {
    try {
      call();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::invalid_tokenizer);
      return error.message();
    }
    return "nothing was thrown";
  };
  EXPECT_THAT(message_of([&] { question_frame(bert); }), HasSubstr("<|im_start|>"));
  EXPECT_THAT(message_of([&] { answer_ids(bert); }), HasSubstr("yes"));
}

}  // namespace
}  // namespace cortex
