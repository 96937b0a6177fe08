// Rerank under all its paths. The body's key chooses the shape: `texts` is the native one, `documents` the one that
// Jina's, vLLM's, llama.cpp's, infinity's and Cohere's clients share. Stateless; any thread.
#pragma once

#include <memory>

#include "http/dialect/native.h"

namespace cortex {

// For /rerank, /v1/rerank, /reranking and /v1/reranking. Throws Error for a body that is no JSON; tells every other
// error in the shape's own dialect.
void rerank(const NativeServices& services, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply);

}  // namespace cortex
