// What goes wrong with a request, a file or an option: a code out of one closed list, a message for people, and the
// parameter it is about. Thrown by value, by any thread; the front's one table (http/error_reply) maps codes to HTTP.
#pragma once

#include <exception>
#include <string>
#include <string_view>

namespace cortex {

enum class ErrorCode {
  // The bytes on the wire.
  invalid_framing,
  invalid_header,
  invalid_target,
  invalid_json,
  json_too_deep,
  invalid_utf8,
  duplicate_key,
  length_required,
  request_too_large,
  uri_too_long,
  unsupported_media_type,
  headers_too_large,
  request_timeout,
  unsupported_transfer_encoding,
  http_version_unsupported,
  method_not_allowed,
  not_found,
  // Who asks.
  invalid_api_key,
  insufficient_scope,
  host_not_allowed,
  origin_not_allowed,
  chat_template_not_allowed,
  // What is asked.
  missing_required_parameter,
  invalid_type,
  invalid_value,
  unsupported_parameter,
  unknown_field,
  invalid_token_id,
  invalid_schema,
  unsupported_schema,
  invalid_grammar,
  invalid_image,
  remote_media_disabled,
  context_length_exceeded,
  batch_too_large,
  empty_input,
  request_cannot_fit,
  model_not_capable,
  model_not_found,
  conversation_not_found,
  conversation_busy,
  request_quarantined,
  cancelled,
  // How the server is.
  queue_full,
  rate_limit_exceeded,
  internal_error,
  weights_io_error,
  numerical_error,
  model_failed,
  not_supported,
  model_loading,
  draining,
  memory_pressure,
  thermal_throttled,
  engine_unavailable,
  deadline_exceeded,
  // Start-up: exit 78, in the log line only.
  invalid_weights,
  invalid_config,
  invalid_tokenizer,
  invalid_path,
  invalid_option,
};

// The code as it stands on the wire, such as "invalid_value".
std::string_view name_of(ErrorCode code);

// The code whose wire name this is; internal_error for an unknown name.
ErrorCode error_code_of(std::string_view name);

class Error : public std::exception {
 public:
  // `message` says where, what, the value and the limit. `param` is the JSON path it is about, such as
  // "messages[3].role", or empty.
  Error(ErrorCode code, std::string message, std::string param = {});

  ErrorCode code() const { return code_; }
  const std::string& message() const { return message_; }
  const std::string& param() const { return param_; }
  const char* what() const noexcept override { return message_.c_str(); }

 private:
  ErrorCode code_;
  std::string message_;
  std::string param_;
};

// A bug of ours: thrown by CORTEX_CHECK. It fails the request it happened in, not the server.
class CheckFailure : public std::exception {
 public:
  explicit CheckFailure(std::string message) : message_(std::move(message)) {}
  const char* what() const noexcept override { return message_.c_str(); }

 private:
  std::string message_;
};

[[noreturn]] void check_failed(const char* condition, const char* file, int line);

#define CORTEX_CHECK(condition) \
  (static_cast<bool>(condition) ? void() : ::cortex::check_failed(#condition, __FILE__, __LINE__))

}  // namespace cortex
