#include "service/rerank_frame.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace cortex {
namespace {

constexpr EncodeOptions kPlain{.add_special_tokens = false, .parse_special = false};
constexpr EncodeOptions kWithSpecialText{.add_special_tokens = false, .parse_special = true};
constexpr EncodeOptions kFramed{.add_special_tokens = true, .parse_special = false};

constexpr std::string_view kSystemTurn =
    "<|im_start|>system\n"
    "Judge whether the Document meets the requirements based on the Query and the Instruct provided. Note that the "
    "answer can only be \"yes\" or \"no\".<|im_end|>\n"
    "<|im_start|>user\n";
constexpr std::string_view kInstruction = "Given a web search query, retrieve relevant passages that answer the query";
constexpr std::string_view kAnswerTurn = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n";

using Ids = std::vector<TokenId>;

Ids joined(std::initializer_list<Ids> parts) {
  Ids all;
  for (const Ids& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

EncodedPair assemble(const RerankFrame& frame, const Tokenizer& tokenizer, std::string_view query,
                     std::string_view document) {
  const Ids first = joined({frame.before, tokenizer.encode(query, kPlain), frame.between});
  const Ids second = joined({tokenizer.encode(document, kPlain), frame.behind});
  EncodedPair pair{joined({first, second}), {}};
  pair.types.assign(first.size(), frame.query_type);
  pair.types.resize(pair.ids.size(), frame.document_type);
  return pair;
}

void require_token(const Tokenizer& tokenizer, const char* token) {
  if (tokenizer.token_id(token)) return;
  throw Error(ErrorCode::invalid_tokenizer,
              fmt::format("the tokenizer has no {}, which a reranker that answers by yes or no needs", token));
}

// The query's part and a document's are the same whether they are tokenized together or not.
void require_seam(const Tokenizer& tokenizer, const RerankFrame& frame) {
  const std::string query = frame.query_lead + "a" + frame.query_tail;
  for (const char* document : {"a", "A b", "!", "\n", " 1", "\"", "\xC3\xA9"}) {
    const std::string text = frame.document_lead + document;
    const Ids apart = joined({tokenizer.encode(query, kPlain), tokenizer.encode(text, kPlain)});
    if (tokenizer.encode(query + text, kPlain) == apart) continue;
    throw Error(ErrorCode::invalid_tokenizer,
                "the tokenizer joins a reranker's query and document, which are tokenized apart");
  }
}

}  // namespace

std::string_view name_of(RerankBy by) {
  switch (by) {
    case RerankBy::cosine:
      return "cosine";
    case RerankBy::head:
      return "head";
    case RerankBy::generative:
      return "generative";
  }
  check_failed("a RerankBy of the enumeration", __FILE__, __LINE__);
}

RerankFrame pair_frame(const Tokenizer& tokenizer) {
  const Error unknown(ErrorCode::invalid_tokenizer,
                      "the tokenizer makes more of a pair than its two texts and a frame");
  const Ids query = tokenizer.encode("a", kPlain);
  const Ids document = tokenizer.encode("b", kPlain);
  const EncodedPair pair = tokenizer.encode_pair("a", "b", kFramed);
  const auto first = std::search(pair.ids.begin(), pair.ids.end(), query.begin(), query.end());
  if (query.empty() || document.empty() || first == pair.ids.end()) throw unknown;
  const auto first_end = first + static_cast<std::ptrdiff_t>(query.size());
  const auto second = std::search(first_end, pair.ids.end(), document.begin(), document.end());
  if (second == pair.ids.end()) throw unknown;

  RerankFrame frame;
  frame.before.assign(pair.ids.begin(), first);
  frame.between.assign(first_end, second);
  frame.behind.assign(second + static_cast<std::ptrdiff_t>(document.size()), pair.ids.end());
  frame.query_type = pair.types.front();
  frame.document_type = pair.types.back();
  for (const auto& [one, other] : {std::pair("a", "b"), std::pair("b a c", "a"), std::pair("", "b b")}) {
    const EncodedPair expected = tokenizer.encode_pair(one, other, kFramed);
    const EncodedPair assembled = assemble(frame, tokenizer, one, other);
    if (assembled.ids != expected.ids || assembled.types != expected.types) throw unknown;
  }
  return frame;
}

RerankFrame question_frame(const Tokenizer& tokenizer) {
  for (const char* token : {"<|im_start|>", "<|im_end|>"}) require_token(tokenizer, token);
  RerankFrame frame;
  frame.before = tokenizer.encode(kSystemTurn, kWithSpecialText);
  frame.behind = tokenizer.encode(kAnswerTurn, kWithSpecialText);
  frame.query_lead = fmt::format("<Instruct>: {}\n<Query>: ", kInstruction);
  frame.query_tail = "\n<Document>:";
  frame.document_lead = " ";
  require_seam(tokenizer, frame);
  return frame;
}

AnswerIds answer_ids(const Tokenizer& tokenizer) {
  for (const char* answer : {"yes", "no"}) require_token(tokenizer, answer);
  return {*tokenizer.token_id("yes"), *tokenizer.token_id("no")};
}

}  // namespace cortex
