// The one table from error codes to HTTP: status, headers and the body in each dialect. Pure functions; any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/excerpt.h"
#include "http/exchange.h"

namespace cortex {

enum class Dialect { native, openai, documents };

// 400-class codes for bad parameters are 422 in the native dialect (413 for context and batch), 400 elsewhere.
int http_status(ErrorCode code, Dialect dialect);

// The error as JSON. Native: {"error","error_type","code","param","request_id"}; OpenAI:
// {"error":{"message","type","param","code"}}; documents, the reranks of many: {"detail"} and OpenAI's.
std::string error_body(const Error& error, Dialect dialect, std::string_view request_id);

// Retry-After and retry-after-ms for 409, 429 and 503, x-should-retry: false for failures that would repeat,
// WWW-Authenticate for 401, Connection: close while draining. The delay is `retry_after_s`, else what a TryLater says,
// else the code's usual one.
HttpHeaders error_headers(const Error& error, Dialect dialect, std::optional<double> retry_after_s = {});

// Answers with the three above and content-type application/json.
void respond_error(HttpReply& reply, const Error& error, Dialect dialect, std::string_view request_id,
                   std::optional<double> retry_after_s = {});

// The same in place of a stream nothing of which has left yet. False, and nothing sent, if some of it has.
bool respond_error_unless_begun(HttpReply& reply, const Error& error, Dialect dialect, std::string_view request_id,
                                std::optional<double> retry_after_s = {});

}  // namespace cortex
