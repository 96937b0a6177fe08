#include "text/rust.h"

#include <algorithm>

namespace cortex::rust {
namespace {

constexpr std::size_t kReasonBytes = 1000;

// A reason may repeat a token or a template, of any length. Cut between characters.
std::string shortened(std::string reason) {
  if (reason.size() <= kReasonBytes) return reason;
  std::size_t end = kReasonBytes;
  while (end > 0 && (static_cast<unsigned char>(reason[end]) & 0xc0) == 0x80) --end;
  reason.resize(end);
  return reason + "...";
}

// What is said of a file goes into a log line.
std::string one_line(std::string reason) {
  const auto is_control = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; };
  std::replace_if(reason.begin(), reason.end(), is_control, ' ');
  return reason;
}

}  // namespace

std::string take(cortex_bytes bytes) {
  std::string text(bytes.data, bytes.size);
  cortex_bytes_free(bytes);
  return text;
}

std::vector<std::int32_t> take(cortex_ids ids) {
  std::vector<std::int32_t> values(ids.data, ids.data + ids.size);
  cortex_ids_free(ids);
  return values;
}

void check(cortex_status status, cortex_bytes error, ErrorCode invalid) {
  if (status == CORTEX_OK) return;
  std::string reason = shortened(take(error));
  if (status == CORTEX_INVALID_SCHEMA) throw Error(ErrorCode::invalid_schema, std::move(reason));
  if (status == CORTEX_UNSUPPORTED_SCHEMA) throw Error(ErrorCode::unsupported_schema, std::move(reason));
  if (status == CORTEX_UNAVAILABLE) throw Error(ErrorCode::engine_unavailable, std::move(reason));
  const bool is_file = invalid == ErrorCode::invalid_tokenizer || invalid == ErrorCode::invalid_config;
  if (is_file) throw Error(invalid, one_line(std::move(reason)));
  if (status == CORTEX_INVALID) throw Error(invalid, std::move(reason));
  if (status == CORTEX_INVALID_UTF8) throw Error(ErrorCode::invalid_utf8, std::move(reason));
  throw Error(ErrorCode::internal_error, "text: " + reason);
}

}  // namespace cortex::rust
