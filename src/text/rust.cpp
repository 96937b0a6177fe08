#include "text/rust.h"

namespace cortex::rust {

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
  std::string reason = take(error);
  if (status == CORTEX_UNAVAILABLE) throw Error(ErrorCode::engine_unavailable, std::move(reason));
  const bool is_file = invalid == ErrorCode::invalid_tokenizer || invalid == ErrorCode::invalid_config;
  if (status == CORTEX_INVALID || is_file) throw Error(invalid, std::move(reason));
  if (status == CORTEX_INVALID_UTF8) throw Error(ErrorCode::invalid_utf8, std::move(reason));
  throw Error(ErrorCode::internal_error, "text: " + reason);
}

}  // namespace cortex::rust
