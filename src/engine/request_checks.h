// Whether a request may enter an engine: ids are in the vocabulary, and numbers are such that a sampler's logits stay
// finite. The front has bounds of its own and a backend checks every plan once more; here a breach costs its own
// request only, with an error that names the parameter, where in a step it would fail all that share it. Pure; any
// thread.
#pragma once

#include "engine/request.h"

namespace cortex {

struct RequestLimits {
  int vocabulary = 0;
  int context_tokens = 0;
  int token_types = 0;  // encoders only
  bool decoder = false;
};

// Throws Error empty_input, invalid_value, invalid_token_id or context_length_exceeded. A stop id outside the
// vocabulary is harmless: it is never sampled.
void check_request(const GenerateRequest& request, const RequestLimits& limits);
void check_request(const EncodeRequest& request, const RequestLimits& limits);

}  // namespace cortex
