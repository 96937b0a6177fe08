// Between C++ and rust/text: spans, owned results, errors. Any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "text/text.h"

namespace cortex::rust {

inline cortex_span span(std::string_view text) { return {text.data(), text.size()}; }

// Copies and frees.
std::string take(cortex_bytes bytes);
std::vector<std::int32_t> take(cortex_ids ids);

// Throws for anything but CORTEX_OK, freeing `error`: engine_unavailable, invalid_utf8, invalid_schema,
// unsupported_schema, `invalid` for what can't be used, and for a bug internal_error, or `invalid` too where a file of
// somebody else's is to blame.
void check(cortex_status status, cortex_bytes error, ErrorCode invalid);

}  // namespace cortex::rust
