#include "base/error.h"

#include <array>
#include <cstring>
#include <utility>

namespace cortex {
namespace {

// In the order of ErrorCode.
constexpr std::array kNames = {
    "invalid_framing",
    "invalid_header",
    "invalid_target",
    "invalid_json",
    "json_too_deep",
    "invalid_utf8",
    "duplicate_key",
    "length_required",
    "request_too_large",
    "uri_too_long",
    "unsupported_media_type",
    "headers_too_large",
    "request_timeout",
    "unsupported_transfer_encoding",
    "http_version_unsupported",
    "method_not_allowed",
    "not_found",
    "invalid_api_key",
    "insufficient_scope",
    "host_not_allowed",
    "origin_not_allowed",
    "chat_template_not_allowed",
    "missing_required_parameter",
    "invalid_type",
    "invalid_value",
    "unsupported_parameter",
    "unknown_field",
    "invalid_token_id",
    "invalid_schema",
    "unsupported_schema",
    "invalid_grammar",
    "invalid_image",
    "remote_media_disabled",
    "context_length_exceeded",
    "batch_too_large",
    "empty_input",
    "request_cannot_fit",
    "model_not_capable",
    "model_not_found",
    "conversation_not_found",
    "conversation_busy",
    "request_quarantined",
    "cancelled",
    "queue_full",
    "rate_limit_exceeded",
    "internal_error",
    "weights_io_error",
    "numerical_error",
    "model_failed",
    "not_supported",
    "model_loading",
    "draining",
    "memory_pressure",
    "thermal_throttled",
    "engine_unavailable",
    "deadline_exceeded",
    "invalid_weights",
    "invalid_config",
    "invalid_tokenizer",
    "invalid_path",
    "invalid_option",
};
static_assert(kNames.size() == static_cast<std::size_t>(ErrorCode::invalid_option) + 1);

}  // namespace

std::string_view name_of(ErrorCode code) { return kNames[static_cast<std::size_t>(code)]; }

ErrorCode error_code_of(std::string_view name) {
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    if (name == kNames[i]) return static_cast<ErrorCode>(i);
  }
  return ErrorCode::internal_error;
}

Error::Error(ErrorCode code, std::string message, std::string param)
    : code_(code), message_(std::move(message)), param_(std::move(param)) {}

void check_failed(const char* condition, const char* file, int line) {
  const char* slash = std::strrchr(file, '/');
  throw CheckFailure(std::string(slash ? slash + 1 : file) + ":" + std::to_string(line) + ": " + condition +
                     " does not hold");
}

}  // namespace cortex
