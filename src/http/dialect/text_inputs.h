// The four shapes in which requests give texts: a string, strings, token ids, lists of token ids. Pure functions; any
// thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "http/json_body.h"

namespace cortex {

struct TextInputs {
  std::vector<std::variant<std::string, std::vector<std::int64_t>>> texts;
  bool single = false;  // one string or one list of ids, not a list of such
};

// Throws Error invalid_type for anything else, a mixture too; batch_too_large for more than `most`.
TextInputs read_text_inputs(const JsonValue& value, std::string_view param, std::size_t most);

// Throws Error batch_too_large.
void require_batch(std::string_view param, std::size_t size, std::size_t most);

}  // namespace cortex
