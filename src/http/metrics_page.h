// GET /metrics: what was counted as it happened, and gauges read when the page is asked for. Owned by the front; any
// thread.
#pragma once

#include "base/clock.h"
#include "base/metrics.h"
#include "engine/engine.h"
#include "http/exchange.h"
#include "http/listener.h"
#include "service/conversations.h"

namespace cortex {

class MetricsPage {
 public:
  MetricsPage(Metrics& metrics, const Engine& engine, Conversations& conversations, const Clock& clock)
      : metrics_(metrics), engine_(engine), conversations_(conversations), clock_(clock) {}

  void count(const RequestRecord& record);
  void answer(HttpReply& reply);

 private:
  void read_gauges();

  Metrics& metrics_;
  const Engine& engine_;
  Conversations& conversations_;
  const Clock& clock_;
};

}  // namespace cortex
