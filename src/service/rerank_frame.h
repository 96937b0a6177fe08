// What a reranker reads around a query and a document. Made once a model, so that a call tokenizes its query and each
// of its documents once. Plain values; any thread.
//
//   before, ids of (query_lead + query + query_tail), between, ids of (document_lead + document), behind
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/engine.h"
#include "model/model.h"
#include "text/tokenizer.h"

namespace cortex {

// What a score is: the cosine of two embeddings, a classifier's logit, or how much likelier the answer "yes" is than
// "no".
enum class RerankBy { cosine, head, generative };
std::string_view name_of(RerankBy by);

struct RerankFrame {
  std::vector<TokenId> before, between, behind;
  std::string query_lead, query_tail, document_lead;
  std::int32_t query_type = 0;     // of all tokens up to the document
  std::int32_t document_type = 0;  // of the others
};

// A cross-encoder's pair, as the tokenizer's own post-processor builds it: [CLS] query [SEP] document [SEP], or
// <s> query </s></s> document </s>. Throws Error invalid_tokenizer when it does more than to put ids around the two.
RerankFrame pair_frame(const Tokenizer& tokenizer);

// The question whether the document fits the query, to be answered by yes or no.
// Source: the model card of Qwen3-Reranker. Throws Error invalid_tokenizer for a tokenizer without its turns' tokens.
RerankFrame question_frame(const Tokenizer& tokenizer);

// The ids of "yes" and "no". Throws Error invalid_tokenizer when one of them is no token.
AnswerIds answer_ids(const Tokenizer& tokenizer);

}  // namespace cortex
