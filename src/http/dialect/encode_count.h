// What a reply to /embed or /rerank is in the metrics, whatever its dialect. Any thread.
#pragma once

#include <string>

#include "base/metrics.h"
#include "http/exchange.h"
#include "service/encode_batch.h"
#include "service/rerank.h"

namespace cortex {

// Before it is sent.
void count_encoding(Metrics& metrics, HttpReply& reply, const std::string& model, const EncodeCost& cost);
void count_rerank(Metrics& metrics, HttpReply& reply, const RerankReply& done);

}  // namespace cortex
