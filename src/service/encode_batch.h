// The texts of one /embed or /rerank call on their way to the engine: tokenized, checked, cut where that is allowed,
// and what all of it cost. One per call; used on text threads.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/thread_pool.h"
#include "engine/engine.h"
#include "service/admission.h"
#include "service/embed_cache.h"
#include "service/models.h"

namespace cortex {

enum class TruncateSide { left, right };

struct Truncation {
  bool allowed = false;  // otherwise too long a text is context_length_exceeded
  TruncateSide side = TruncateSide::right;
  std::optional<std::size_t> most_tokens;  // of the text alone, if that is less than there is room for
};

// For headers, metrics and logs.
struct EncodeCost {
  int texts = 0;   // of a reranker one for each document
  int cached = 0;  // texts that were not computed for this call
  int characters = 0;
  int tokens = 0;
  int truncated = 0;  // texts that were cut
  double tokenization_ms = 0.0;
  double queue_ms = 0.0;
  double inference_ms = 0.0;
  double total_ms = 0.0;
};

struct EncodedBatch {
  std::vector<std::vector<float>> vectors;  // [texts][dimensions] as the engine gave them
  EncodeCost cost;
  std::optional<Error> error;
};
// Ends a call with the error `cancelled`, or nothing when it is over. Any thread, also when the call is long gone.
using CancelEncode = std::function<void()>;

using EncodedBatchSink = std::function<void(EncodedBatch)>;

class EncodeBatch {
 public:
  EncodeBatch(const ServedModel& model, const Clock& clock);

  // All throw Error empty_input or context_length_exceeded about `param`, and batch_too_large when all texts together
  // come to more than one frame to the engine's process, or one back, can hold. A text of more bytes than the model can
  // have a use for is request_too_large before it is tokenized, or cut to that where cutting is allowed. `prompt` goes
  // before the text. Ids are taken as they are, without special tokens; outside the vocabulary they are
  // invalid_token_id.
  void add_text(std::string_view text, const Truncation& truncation, const std::string& param,
                std::string_view prompt = {});
  void add_ids(std::span<const std::int64_t> ids, const Truncation& truncation, const std::string& param);

  // The query of all documents that follow, in the model's frame. It is never cut, and must leave room for a token of
  // a document.
  void set_query(std::string_view query, const std::string& param);
  void add_document(std::string_view document, const Truncation& truncation, const std::string& param);

  // Hands what the cache lacks to the ticket's engine; the sink is called on one of `threads`, or before this returns.
  // Throws what Ticket::require_short does.
  CancelEncode send(Admission::Ticket ticket, EmbedCache& cache, ThreadPool& threads, std::string salt,
                    std::string trace, EncodedBatchSink sink) &&;

 private:
  // Counts the text's characters; the part of it that is worth a look.
  std::string_view take_in(std::string_view text, const Truncation& truncation, const std::string& param);
  // Cuts ids to `most`, between the first `lead` and the last `trail` of them. False when that is not allowed.
  bool cut(std::vector<TokenId>* ids, std::size_t most, const Truncation& truncation, std::size_t lead,
           std::size_t trail);
  void add(std::vector<TokenId> ids, const std::string& param);

  const ServedModel& model_;
  const Clock& clock_;
  std::chrono::steady_clock::time_point begun_;
  std::vector<TokenId> query_;  // what stands before each document
  EncodeRequest request_;
  EncodeCost cost_;
};

// Divides by the Euclidean length; a zero vector stays as it is.
void normalise(std::span<float> vector);

}  // namespace cortex
