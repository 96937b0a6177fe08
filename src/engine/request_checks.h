// Whether a request may enter an engine: nothing behind this point checks an id again before it meets a gather. Pure;
// any thread.
#pragma once

#include "engine/engine.h"

namespace cortex {

struct RequestLimits {
  int vocabulary = 0;
  int context_tokens = 0;
  int token_types = 0;  // encoders only
};

// Throws Error empty_input, invalid_value, invalid_token_id or context_length_exceeded. A stop id outside the
// vocabulary is harmless: it is never sampled.
void check_request(const GenerateRequest& request, const RequestLimits& limits);
void check_request(const EncodeRequest& request, const RequestLimits& limits);

}  // namespace cortex
