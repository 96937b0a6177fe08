#include "http/error_reply.h"

#include <algorithm>
#include <cmath>

#include "base/json_writer.h"
#include "base/try_later.h"

namespace cortex {
namespace {

int openai_status(ErrorCode code) {
  switch (code) {
    case ErrorCode::invalid_framing:
    case ErrorCode::invalid_header:
    case ErrorCode::invalid_target:
    case ErrorCode::invalid_json:
    case ErrorCode::json_too_deep:
    case ErrorCode::invalid_utf8:
    case ErrorCode::duplicate_key:
    case ErrorCode::model_not_capable:
    case ErrorCode::empty_input:
    case ErrorCode::request_cannot_fit:
    case ErrorCode::missing_required_parameter:
    case ErrorCode::invalid_type:
    case ErrorCode::invalid_value:
    case ErrorCode::unsupported_parameter:
    case ErrorCode::unknown_field:
    case ErrorCode::invalid_token_id:
    case ErrorCode::invalid_schema:
    case ErrorCode::unsupported_schema:
    case ErrorCode::invalid_grammar:
    case ErrorCode::invalid_image:
    case ErrorCode::remote_media_disabled:
    case ErrorCode::context_length_exceeded:
    case ErrorCode::batch_too_large:
      return 400;
    case ErrorCode::invalid_api_key:
      return 401;
    case ErrorCode::insufficient_scope:
    case ErrorCode::host_not_allowed:
    case ErrorCode::origin_not_allowed:
    case ErrorCode::chat_template_not_allowed:
      return 403;
    case ErrorCode::not_found:
    case ErrorCode::model_not_found:
    case ErrorCode::conversation_not_found:
      return 404;
    case ErrorCode::method_not_allowed:
      return 405;
    case ErrorCode::request_timeout:
      return 408;
    case ErrorCode::conversation_busy:
      return 409;
    case ErrorCode::length_required:
      return 411;
    case ErrorCode::request_too_large:
      return 413;
    case ErrorCode::uri_too_long:
      return 414;
    case ErrorCode::unsupported_media_type:
      return 415;
    case ErrorCode::request_quarantined:
      return 422;
    case ErrorCode::queue_full:
    case ErrorCode::rate_limit_exceeded:
      return 429;
    case ErrorCode::headers_too_large:
      return 431;
    case ErrorCode::cancelled:
      return 499;
    case ErrorCode::not_supported:
    case ErrorCode::unsupported_transfer_encoding:
      return 501;
    case ErrorCode::model_loading:
    case ErrorCode::draining:
    case ErrorCode::memory_pressure:
    case ErrorCode::thermal_throttled:
    case ErrorCode::engine_unavailable:
      return 503;
    case ErrorCode::deadline_exceeded:
      return 504;
    case ErrorCode::http_version_unsupported:
      return 505;
    case ErrorCode::internal_error:
    case ErrorCode::weights_io_error:
    case ErrorCode::numerical_error:
    case ErrorCode::model_failed:
    // Of start-up; no client should meet them.
    case ErrorCode::invalid_weights:
    case ErrorCode::invalid_config:
    case ErrorCode::invalid_tokenizer:
    case ErrorCode::invalid_path:
    case ErrorCode::invalid_option:
      return 500;
  }
  return 500;
}

bool is_about_a_parameter(ErrorCode code) {
  switch (code) {
    case ErrorCode::missing_required_parameter:
    case ErrorCode::invalid_type:
    case ErrorCode::invalid_value:
    case ErrorCode::unsupported_parameter:
    case ErrorCode::unknown_field:
    case ErrorCode::invalid_token_id:
    case ErrorCode::invalid_schema:
    case ErrorCode::unsupported_schema:
    case ErrorCode::invalid_grammar:
    case ErrorCode::invalid_image:
    case ErrorCode::remote_media_disabled:
      return true;
    default:
      return false;
  }
}

std::string_view openai_type(int status) {
  if (status == 403) return "permission_error";
  if (status == 429) return "rate_limit_error";
  return status >= 500 ? "server_error" : "invalid_request_error";
}

std::string_view native_type(ErrorCode code, int status) {
  if (status == 429) return "Overloaded";
  if (status == 503) return "Unhealthy";
  if (status >= 500) return "Backend";
  if (code == ErrorCode::empty_input) return "Empty";
  return code == ErrorCode::invalid_token_id ? "Tokenizer" : "Validation";
}

double usual_delay_s(ErrorCode code) {
  switch (code) {
    case ErrorCode::memory_pressure:
      return 5.0;
    case ErrorCode::thermal_throttled:
      return 30.0;
    case ErrorCode::model_loading:
    case ErrorCode::engine_unavailable:
      return 2.0;
    default:
      return 1.0;
  }
}

bool would_repeat(ErrorCode code, int status) {
  return status == 501 || status == 505 || code == ErrorCode::numerical_error || code == ErrorCode::model_failed ||
         code == ErrorCode::deadline_exceeded;
}

void write_param(JsonWriter& json, const Error& error) {
  json.key("param");
  if (error.param().empty()) {
    json.null();
  } else {
    json.string(error.param());
  }
}

}  // namespace

int http_status(ErrorCode code, Dialect dialect) {
  if (dialect == Dialect::native) {
    if (is_about_a_parameter(code)) return 422;
    if (code == ErrorCode::context_length_exceeded || code == ErrorCode::batch_too_large) return 413;
  }
  return openai_status(code);
}

std::string error_body(const Error& error, Dialect dialect, std::string_view request_id) {
  const int status = http_status(error.code(), dialect);
  JsonWriter json;
  json.begin_object();
  if (dialect == Dialect::documents) json.key("detail").string(error.message());
  if (dialect != Dialect::native) {
    json.key("error").begin_object();
    json.key("message").string(error.message());
    json.key("type").string(openai_type(status));
    write_param(json, error);
    json.key("code").string(name_of(error.code()));
    json.end_object();
  } else {
    json.key("error").string(error.message());
    json.key("error_type").string(native_type(error.code(), status));
    json.key("code").string(name_of(error.code()));
    write_param(json, error);
    json.key("request_id").string(request_id);
  }
  json.end_object();
  return json.take();
}

HttpHeaders error_headers(const Error& error, Dialect dialect, std::optional<double> retry_after_s) {
  const int status = http_status(error.code(), dialect);
  HttpHeaders headers;
  if (status == 409 || status == 429 || status == 503) {
    const auto* later = dynamic_cast<const TryLater*>(&error);
    const double known_s = later ? later->wait_s() : usual_delay_s(error.code());
    const double wanted_s = retry_after_s.value_or(known_s);
    const double delay_s = std::isfinite(wanted_s) ? std::clamp(wanted_s, 0.001, 60.0) : 60.0;
    headers.emplace_back("retry-after", std::to_string(static_cast<int>(std::ceil(delay_s))));
    headers.emplace_back("retry-after-ms", std::to_string(static_cast<int>(std::ceil(delay_s * 1000.0))));
  }
  if (would_repeat(error.code(), status)) headers.emplace_back("x-should-retry", "false");
  if (status == 401) headers.emplace_back("www-authenticate", "Bearer");
  if (error.code() == ErrorCode::draining) headers.emplace_back("connection", "close");
  return headers;
}

void respond_error(HttpReply& reply, const Error& error, Dialect dialect, std::string_view request_id,
                   std::optional<double> retry_after_s) {
  respond_error_unless_begun(reply, error, dialect, request_id, retry_after_s);
}

bool respond_error_unless_begun(HttpReply& reply, const Error& error, Dialect dialect, std::string_view request_id,
                                std::optional<double> retry_after_s) {
  HttpHeaders headers = error_headers(error, dialect, retry_after_s);
  headers.emplace_back("content-type", "application/json");
  reply.note_error(error.code());
  return reply.respond(http_status(error.code(), dialect), std::move(headers), error_body(error, dialect, request_id));
}

}  // namespace cortex
