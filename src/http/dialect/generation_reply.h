// From a generation's events to a reply, whole or as a stream of events, in whatever words a dialect has for them; and
// the metrics that count them. Any thread; a sink is called as Generation says.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/metrics.h"
#include "http/error_reply.h"
#include "http/exchange.h"
#include "service/generation.h"

namespace cortex {

// How a dialect says it, as JSON texts.
struct GenerationWords {
  std::function<std::string(const GenerationEnd&)> reply;
  std::vector<std::string> opening;  // a stream's first chunks
  // A stream's chunks for a piece or an end, in their order; none for what the dialect has no words for.
  std::function<std::vector<std::string>(const GenerationEvent&)> chunks;
};

struct GenerationReply {
  std::shared_ptr<HttpReply> reply;
  Dialect dialect = Dialect::native;
  std::string request_id;
  bool stream = false;
};

// Starts the stream, if it is one. A late error is an event in the dialect's shape, and the connection closes; before
// the first chunk it is a plain answer.
GenerationSink answer_generation(const GenerationReply& to, GenerationWords words, const std::string& model,
                                 Metrics& metrics);

}  // namespace cortex
