// One call's texts on their way through the cache and the engine. What the cache has is not computed, equal texts are
// computed once, and what another call computes is waited for; where that call fails, is cancelled or is too large to
// wait for, this one computes it itself. Made on a text thread; lives as long as it waits for something.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "base/thread_pool.h"
#include "engine/engine.h"
#include "service/embed_cache.h"

namespace cortex {

struct EncodedTexts {
  std::vector<EmbedVector> vectors;  // [texts], all of one length
  int cached = 0;                    // texts that were not computed for this call
  double queue_ms = 0.0;             // as the engine's replies have them, added up
  double compute_ms = 0.0;
  std::optional<Error> error;  // then some vectors are null
};
using EncodedTextsSink = std::function<void(EncodedTexts)>;

class EncodeCall : public std::enable_shared_from_this<EncodeCall> {
 public:
  // The sink is called once, on one of `threads`. The request's id and timeout are not used.
  EncodeCall(EncodeRequest request, Engine& engine, EmbedCache& cache, ThreadPool& threads, EncodedTextsSink sink);

  void start();
  // Ends it with the error `cancelled`; nothing happens when it is already over. Any thread.
  void cancel();

 private:
  struct Text {
    EmbedKey key;
    std::size_t index = 0;  // in request_
    bool computed = false;  // for this call
    EmbedVector vector;
  };
  // What the engine is to compute, in its order.
  struct Batch {
    std::vector<std::size_t> texts;  // in texts_
    std::unique_ptr<EmbedCache::Claim> claim;
  };

  // On a text thread, without the lock.
  void take_in(Batch& batch, const EncodeReply& reply);
  void look_again();
  void deliver();
  // Any thread, without the lock.
  void arrive(std::size_t text, const EmbedVector& vector);
  // These with the lock held.
  void look_up(const std::vector<std::size_t>& texts);
  void compute(Batch batch);
  void fill(std::size_t text, EmbedVector vector);
  void end_if_complete();
  void end(std::optional<Error> error);

  Engine& engine_;
  EmbedCache& cache_;
  ThreadPool& threads_;

  std::mutex mutex_;  // guards what follows; may be held while the cache or the engine is asked
  EncodeRequest request_;
  std::vector<Text> texts_;          // all different
  std::size_t missing_ = 0;          // vectors
  std::vector<std::size_t> places_;  // [request_.texts], in texts_
  std::vector<RequestId> computing_;
  std::vector<std::size_t> lost_;  // texts that another was to compute, and has not
  bool over_ = false;
  EncodedTexts done_;
  EncodedTextsSink sink_;  // null once it was called
};

}  // namespace cortex
