// What the gateways that route to vLLM read of a server's metrics, under vLLM's names: one series a family, about the
// model that answers requests which name none. Pure functions; any thread.
//
// Source: the model server protocol of the Gateway API Inference Extension, docs/proposals/003-model-server-protocol.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/metrics.h"
#include "engine/engine.h"

namespace cortex {

// The share of blocks that sequences use, 0 to 1.
double usage_of(const KvStatus& kv);

// `now_s` is Unix time.
std::vector<MetricAlias> vllm_metrics(const std::string& model, const KvStatus& kv, std::int64_t now_s);

}  // namespace cortex
