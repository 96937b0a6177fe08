#include "http/dialect/fields.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace cortex {
namespace {

constexpr std::size_t kLongestSalt = 128;

bool is_salt(std::string_view salt) {
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
  };
  return !salt.empty() && salt.size() <= kLongestSalt && std::all_of(salt.begin(), salt.end(), allowed);
}

}  // namespace

std::optional<std::string> optional_string(const JsonValue& object, std::string_view field) {
  const auto value = object.get(field);
  return value ? std::optional(value->string()) : std::nullopt;
}

std::optional<bool> optional_boolean(const JsonValue& object, std::string_view field) {
  const auto value = object.get(field);
  return value ? std::optional(value->boolean()) : std::nullopt;
}

std::optional<int> optional_integer(const JsonValue& object, std::string_view field, std::int64_t least,
                                    std::int64_t most) {
  const auto value = object.get(field);
  return value ? std::optional(static_cast<int>(value->integer_in(least, most))) : std::nullopt;
}

std::optional<float> optional_number(const JsonValue& object, std::string_view field, double least, double most) {
  const auto value = object.get(field);
  return value ? std::optional(static_cast<float>(value->number_in(least, most))) : std::nullopt;
}

void refuse_unsupported(const std::string& param, std::string_view why) {
  throw Error(ErrorCode::unsupported_parameter, fmt::format("{}: {}", param, why), param);
}

std::string salt_of(const JsonValue& body, const HttpRequest& request) {
  const auto salt = optional_string(body, "cache_salt");
  if (!salt) return request.key_id;
  if (!is_salt(*salt)) {
    throw Error(ErrorCode::invalid_value,
                fmt::format("cache_salt: 1 to {} letters, digits, '_' and '-' are possible", kLongestSalt),
                "cache_salt");
  }
  return request.key_id + ":" + *salt;
}

void respond_json(HttpReply& reply, int status, std::string body, HttpHeaders headers) {
  headers.emplace_back("content-type", "application/json");
  reply.respond(status, std::move(headers), std::move(body));
}

}  // namespace cortex
