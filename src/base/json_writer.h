// Appends JSON to a string. Keys and values are escaped so that the result is one line of valid UTF-8 whatever the
// input (bad bytes become U+FFFD; U+0085, U+2028 and U+2029, which some SSE readers take for line ends, are escaped).
// Floats are the shortest text that reads back as the same float32; NaN and infinity throw Error numerical_error. One
// owner; not for sharing between threads.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace cortex {

class JsonWriter {
 public:
  JsonWriter& begin_object();
  JsonWriter& end_object();
  JsonWriter& begin_array();
  JsonWriter& end_array();
  JsonWriter& key(std::string_view name);
  JsonWriter& string(std::string_view text);
  JsonWriter& integer(std::int64_t value);
  JsonWriter& unsigned_integer(std::uint64_t value);
  JsonWriter& number(float value);
  JsonWriter& number(double value);  // rounded to `decimals` is the caller's business
  JsonWriter& boolean(bool value);
  JsonWriter& null();
  JsonWriter& numbers(std::span<const float> values);  // an array
  // Text that is JSON already.
  JsonWriter& raw(std::string_view json);

  const std::string& text() const { return text_; }
  std::string take() { return std::move(text_); }

 private:
  void separate();

  std::string text_;
  bool first_ = true;  // nothing stands before the next element in its array or object
};

// `text` as a JSON string, quotes included.
std::string json_string(std::string_view text);

}  // namespace cortex
