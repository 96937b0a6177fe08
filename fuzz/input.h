// What all fuzz targets share: how an input becomes texts, and what an orderly refusal is. Stateless; one thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/error.h"

// Both what libFuzzer and what replay.cpp calls.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace cortex {

inline std::string_view text_of(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

// An input that is several texts has a NUL byte after each but the last; what is not there is empty.
template <std::size_t kCount>
std::array<std::string_view, kCount> parts_of(std::string_view input) {
  std::array<std::string_view, kCount> parts;
  for (std::size_t i = 0; i < kCount; ++i) {
    const std::size_t end = i + 1 < kCount ? input.find('\0') : input.npos;
    parts[i] = input.substr(0, end);
    input = end == input.npos ? std::string_view() : input.substr(end + 1);
  }
  return parts;
}

// An Error is what foreign bytes may bring about, if it is not our own bug and its message can stand in a log: valid
// UTF-8, one line, no more than a few kilobytes. Throws CheckFailure otherwise.
void check_refusal(const Error& error);

// The same of an Error that is told to a client, whose JSON is escaped: it may repeat any byte.
void check_reply(const Error& error);

}  // namespace cortex
