// The four shapes in which requests give texts: a string, strings, token ids, lists of token ids; and what the headers
// of their replies tell of them. Pure functions; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "http/exchange.h"
#include "http/json_body.h"
#include "service/encode_batch.h"

namespace cortex {

struct TextInputs {
  std::vector<std::variant<std::string, std::vector<std::int64_t>>> texts;
  bool single = false;  // one string or one list of ids, not a list of such
};

// Throws Error invalid_type for anything else, a mixture too; batch_too_large for more than `most`.
TextInputs read_text_inputs(const JsonValue& value, std::string_view param, std::size_t most);

// Throws Error batch_too_large.
void require_batch(std::string_view param, std::size_t size, std::size_t most);

// How many texts were not computed, and how many were cut, if any.
HttpHeaders text_headers(const EncodeCost& cost);

}  // namespace cortex
