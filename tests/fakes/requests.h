// Requests to the fake decoder "m", as tests of engines make them. Any thread.
#pragma once

#include <utility>
#include <vector>

#include "engine/engine.h"

namespace cortex {

inline GenerateRequest ask(RequestId id, std::vector<TokenId> prompt, int max_tokens) {
  GenerateRequest request;
  request.id = id;
  request.model = "m";
  request.prompt = std::move(prompt);
  request.max_tokens = max_tokens;
  return request;
}

}  // namespace cortex
