#include "http/dialect/encode_count.h"

namespace cortex {

void count_encoding(Metrics& metrics, HttpReply& reply, const std::string& model, const EncodeCost& cost) {
  reply.note_model(model);
  metrics.add("encode_tokens", "Tokens of texts that were encoded.", {{"model", model}}, cost.tokens);
  if (cost.cached == cost.texts) return;  // nothing had to wait
  metrics.observe("queue_seconds", "From a request to its first step.", {{"lane", "encode"}}, cost.queue_ms / 1000);
}

void count_rerank(Metrics& metrics, HttpReply& reply, const RerankReply& done) {
  count_encoding(metrics, reply, done.model, done.cost);
  metrics.add("rerank_pairs", "Texts that were scored.", {{"model", done.model}}, done.pairs);
}

}  // namespace cortex
