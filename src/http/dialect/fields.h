// What the dialects' bodies have in common: optional fields with their ranges, salts, JSON answers. Any thread.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

#include "http/exchange.h"
#include "http/json_body.h"

namespace cortex {

inline constexpr std::int64_t kLargestInteger = std::numeric_limits<std::int32_t>::max();

// Absent and null are nothing; a wrong type is Error invalid_type, a wrong value invalid_value with the range.
std::optional<std::string> optional_string(const JsonValue& object, std::string_view field);
std::optional<bool> optional_boolean(const JsonValue& object, std::string_view field);
std::optional<int> optional_integer(const JsonValue& object, std::string_view field, std::int64_t least,
                                    std::int64_t most);
std::optional<float> optional_number(const JsonValue& object, std::string_view field, double least, double most);

// Throws Error unsupported_parameter.
[[noreturn]] void refuse_unsupported(const std::string& param, std::string_view why);

// The asking key and `cache_salt` in one. Throws Error invalid_value for a salt outside [A-Za-z0-9_-]{1,128}.
std::string salt_of(const JsonValue& body, const HttpRequest& request);

void respond_json(HttpReply& reply, int status, std::string body, HttpHeaders headers = {});

}  // namespace cortex
