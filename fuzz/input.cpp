#include "input.h"

#include <fmt/core.h>
#include <simdjson.h>

#include <algorithm>

namespace cortex {

void check_reply(const Error& error) {
  constexpr std::size_t kLongestMessageBytes = 4000;
  const char* fault = nullptr;
  if (error.code() == ErrorCode::internal_error) fault = "is a bug of ours";
  if (error.message().empty()) fault = "says nothing";
  if (error.message().size() > kLongestMessageBytes) fault = "is too long";
  if (fault) throw CheckFailure(fmt::format("the error \"{}\" {}", error.message(), fault));
}

void check_refusal(const Error& error) {
  check_reply(error);
  const std::string& message = error.message();
  const auto is_control = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; };
  const char* fault = nullptr;
  if (std::any_of(message.begin(), message.end(), is_control)) fault = "has control characters";
  if (!simdjson::validate_utf8(message)) fault = "is not valid UTF-8";
  if (fault) throw CheckFailure(fmt::format("the error \"{}\" {}", message, fault));
}

}  // namespace cortex
