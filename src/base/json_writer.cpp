#include "base/json_writer.h"

#include <array>
#include <charconv>
#include <cmath>

#include "base/error.h"

namespace cortex {
namespace {

// Bytes of the valid UTF-8 character at the start of `text`, or 0.
std::size_t character_bytes(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const auto continues = [&](std::size_t i) { return i < text.size() && (byte(i) & 0xC0) == 0x80; };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return continues(1) ? 2 : 0;
  if (lead >= 0xE0 && lead <= 0xEF) {
    if (!continues(1) || !continues(2)) return 0;
    if (lead == 0xE0 && byte(1) < 0xA0) return 0;  // overlong
    if (lead == 0xED && byte(1) > 0x9F) return 0;  // surrogate
    return 3;
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    if (!continues(1) || !continues(2) || !continues(3)) return 0;
    if (lead == 0xF0 && byte(1) < 0x90) return 0;  // overlong
    if (lead == 0xF4 && byte(1) > 0x8F) return 0;  // past U+10FFFF
    return 4;
  }
  return 0;
}

void append_control(std::string* out, unsigned char byte) {
  constexpr std::string_view kHex = "0123456789abcdef";
  out->append("\\u00");
  out->push_back(kHex[byte >> 4]);
  out->push_back(kHex[byte & 15]);
}

void append_ascii(std::string* out, char c) {
  switch (c) {
    case '"':
      out->append("\\\"");
      return;
    case '\\':
      out->append("\\\\");
      return;
    case '\n':
      out->append("\\n");
      return;
    case '\r':
      out->append("\\r");
      return;
    case '\t':
      out->append("\\t");
      return;
    case '\b':
      out->append("\\b");
      return;
    case '\f':
      out->append("\\f");
      return;
    default:
      break;
  }
  if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) {
    append_control(out, static_cast<unsigned char>(c));
  } else {
    out->push_back(c);
  }
}

void append_string(std::string* out, std::string_view text) {
  out->push_back('"');
  while (!text.empty()) {
    const std::size_t size = character_bytes(text);
    const std::string_view character = text.substr(0, size);
    if (size == 0) {
      out->append("\xEF\xBF\xBD");
    } else if (size == 1) {
      append_ascii(out, text[0]);
    } else if (character == "\xC2\x85") {
      out->append("\\u0085");
    } else if (character == "\xE2\x80\xA8") {
      out->append("\\u2028");
    } else if (character == "\xE2\x80\xA9") {
      out->append("\\u2029");
    } else {
      out->append(character);
    }
    text.remove_prefix(size == 0 ? 1 : size);
  }
  out->push_back('"');
}

template <typename Number>
void append_number(std::string* out, Number value) {
  std::array<char, 32> digits;
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr;
  out->append(digits.data(), end);
}

template <typename Float>
void append_finite(std::string* out, Float value) {
  if (!std::isfinite(value)) throw Error(ErrorCode::numerical_error, "a result is a non-finite number");
  append_number(out, value);
}

}  // namespace

void JsonWriter::separate() {
  if (!first_) text_.push_back(',');
  first_ = false;
}

JsonWriter& JsonWriter::begin_object() {
  separate();
  text_.push_back('{');
  first_ = true;
  return *this;
}

JsonWriter& JsonWriter::end_object() {
  text_.push_back('}');
  first_ = false;
  return *this;
}

JsonWriter& JsonWriter::begin_array() {
  separate();
  text_.push_back('[');
  first_ = true;
  return *this;
}

JsonWriter& JsonWriter::end_array() {
  text_.push_back(']');
  first_ = false;
  return *this;
}

JsonWriter& JsonWriter::key(std::string_view name) {
  separate();
  append_string(&text_, name);
  text_.push_back(':');
  first_ = true;
  return *this;
}

JsonWriter& JsonWriter::string(std::string_view text) {
  separate();
  append_string(&text_, text);
  return *this;
}

JsonWriter& JsonWriter::integer(std::int64_t value) {
  separate();
  append_number(&text_, value);
  return *this;
}

JsonWriter& JsonWriter::unsigned_integer(std::uint64_t value) {
  separate();
  append_number(&text_, value);
  return *this;
}

JsonWriter& JsonWriter::number(float value) {
  separate();
  append_finite(&text_, value);
  return *this;
}

JsonWriter& JsonWriter::number(double value) {
  separate();
  append_finite(&text_, value);
  return *this;
}

JsonWriter& JsonWriter::boolean(bool value) {
  separate();
  text_.append(value ? "true" : "false");
  return *this;
}

JsonWriter& JsonWriter::null() {
  separate();
  text_.append("null");
  return *this;
}

JsonWriter& JsonWriter::numbers(std::span<const float> values) {
  begin_array();
  for (const float value : values) number(value);
  return end_array();
}

JsonWriter& JsonWriter::raw(std::string_view json) {
  separate();
  text_.append(json);
  return *this;
}

std::string json_string(std::string_view text) {
  std::string out;
  append_string(&out, text);
  return out;
}

}  // namespace cortex
