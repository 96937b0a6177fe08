// Texts in the order of their relevance to a query. With an embedder the score is the cosine of the two embeddings.
// Owned by the front; calls and replies come on text threads.
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
  Truncation truncation;
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
  std::vector<RerankResult> results;  // best first, ties by index
  EncodeCost cost;
  std::optional<Error> error;
};
using RerankSink = std::function<void(RerankReply)>;

class RerankService {
 public:
  RerankService(const Models& models, Admission& admission, ThreadPool& text_threads, const Clock& clock)
      : models_(models), admission_(admission), text_threads_(text_threads), clock_(clock) {}

  // Throws Error for a bad request; later failures come to the sink. Returns the id for Engine::cancel.
  RequestId rerank(const RerankRequest& request, RerankSink sink);

 private:
  const Models& models_;
  Admission& admission_;
  ThreadPool& text_threads_;
  const Clock& clock_;
};

}  // namespace cortex
