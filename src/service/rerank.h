// Texts in the order of their relevance to a query: by a cross-encoder's logit, by how much likelier a decoder's answer
// "yes" is than "no", or by the cosine of two embeddings. Owned by the front; calls and replies come on text threads.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "service/admission.h"
#include "service/encode_batch.h"

namespace cortex {

struct RerankRequest {
  std::optional<std::string> model;
  std::string query;
  std::vector<std::string> texts;
  std::string param = "texts";        // what the caller named them, for messages
  Truncation truncation;              // of texts
  Truncation query_truncation;        // by cosine only; together with a text a query is never cut
  bool raw_scores = false;            // the logit, or the difference of two, in place of its sigmoid
  std::optional<std::int64_t> top_n;  // absent, 0 or above the number of texts: all
  std::string salt;
  std::string trace;
};

struct RerankResult {
  int index = 0;  // in RerankRequest::texts
  float score = 0.0f;
};

struct RerankReply {
  std::string model;
  std::int64_t created_s = 0;         // Unix time
  std::vector<RerankResult> results;  // best first, ties by index
  int pairs = 0;                      // texts that were scored
  EncodeCost cost;
  std::optional<Error> error;
};
using RerankSink = std::function<void(RerankReply)>;

class RerankService {
 public:
  RerankService(const Models& models, Admission& admission, EmbedCache& cache, ThreadPool& text_threads,
                const Clock& clock)
      : models_(models), admission_(admission), cache_(cache), text_threads_(text_threads), clock_(clock) {}

  // Throws Error for a bad request; later failures come to the sink. Returns what cancels it.
  CancelEncode rerank(const RerankRequest& request, RerankSink sink);

 private:
  const Models& models_;
  Admission& admission_;
  EmbedCache& cache_;
  ThreadPool& text_threads_;
  const Clock& clock_;
};

}  // namespace cortex
