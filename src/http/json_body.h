// A strict JSON body: one object (an array where its reader asks for one), UTF-8, at most 64 levels, no key twice in
// any object. Whoever parses owns the JsonBody; JsonValue is a view into it, two words, valid as long as the JsonBody
// lives (moving the body is fine). Values know where they stand, so that errors name their parameter
// ("messages[3].role"). Reading is safe from any thread.
//
// `null` counts as absent. Every getter throws Error invalid_type, with the path as its param, for a value of another
// type; a number with a fraction or beyond 64 bits is no integer.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"

namespace cortex {

enum class JsonKind { null, boolean, number, string, array, object };

class JsonValue {
 public:
  JsonKind kind() const;
  bool is_string() const { return kind() == JsonKind::string; }
  bool is_number() const { return kind() == JsonKind::number; }
  bool is_array() const { return kind() == JsonKind::array; }
  bool is_object() const { return kind() == JsonKind::object; }
  bool is_scalar() const { return !is_array() && !is_object(); }

  bool boolean() const;
  std::int64_t integer() const;
  double number() const;
  std::string string() const;  // may hold NUL
  // Throw Error invalid_value, with value and range, outside least..most.
  std::int64_t integer_in(std::int64_t least, std::int64_t most) const;
  double number_in(double least, double most) const;

  std::vector<JsonValue> items() const;                            // of an array
  std::vector<std::pair<std::string, JsonValue>> members() const;  // of an object, in their order, nulls too
  std::optional<JsonValue> get(std::string_view name) const;       // of an object; absent or null: nothing
  // Throws Error missing_required_parameter if it is absent or null.
  JsonValue require(std::string_view name) const;
  // Throws Error unknown_field for the first member that is none of these.
  void refuse_unknown(std::initializer_list<std::string_view> known) const;

  // This value as JSON without white space, for those who want text.
  std::string raw_json() const;

  // "messages[3].role"; empty for the body itself. Walks the body: for errors, not for loops.
  std::string path() const;
  // An error about this value: "messages[3].role: " and `message`.
  Error error(ErrorCode code, std::string_view message) const;

 private:
  friend class JsonBody;
  explicit JsonValue(std::array<std::uintptr_t, 2> element) : element_(element) {}
  [[noreturn]] void wrong_type(std::string_view wanted) const;

  std::array<std::uintptr_t, 2> element_;  // a simdjson::dom::element, whose header stays out of here
};

class JsonBody {
 public:
  // Throws Error invalid_json (for a root of another kind too), json_too_deep, invalid_utf8 or duplicate_key.
  static JsonBody parse(const std::string& text, JsonKind root = JsonKind::object);
  JsonBody(JsonBody&&) noexcept;
  JsonBody& operator=(JsonBody&&) noexcept;
  ~JsonBody();

  JsonValue root() const;

 private:
  struct Document;
  explicit JsonBody(std::unique_ptr<Document> document);

  std::unique_ptr<Document> document_;
};

}  // namespace cortex
