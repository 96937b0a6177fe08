// A model's JSON files, parsed strictly: valid UTF-8, bounded depth, a million values of which 131,072 are objects
// at most, no name twice in an object. Any thread.
#pragma once

#include <string>
#include <string_view>

#include "base/error.h"
#include "model/fields.h"

namespace cortex {

inline constexpr int kJsonDepth = 64;

// `source` names the file in messages. Integers past 64 bits become floats. Throws Error `code`.
Value parse_json(std::string_view text, const std::string& source, ErrorCode code, int depth = kJsonDepth);

// As parse_json, for a file whose top is an object.
Fields parse_json_object(std::string_view text, const std::string& source, ErrorCode code, int depth = kJsonDepth);

}  // namespace cortex
