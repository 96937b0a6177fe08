// The named values of a model's file, however it is written: a JSON object or the metadata of a GGUF file. Reads are
// typed and ranged; a value that is missing, of another type or out of range throws Error with the code the file's
// reader gave, and a message that says file, field, value and limit. Immutable; any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/error.h"

namespace cortex {

class Fields;

struct Value {
  using Array = std::vector<Value>;
  using Object = std::shared_ptr<const Fields>;

  std::variant<std::monostate, bool, std::int64_t, double, std::string, Array, Object> content;

  template <typename T>
  const T* as() const {
    return std::get_if<T>(&content);
  }
  bool is_null() const { return std::holds_alternative<std::monostate>(content); }
};

// For messages: scalars as JSON writes them, long texts cut, "an array", "an object".
std::string describe(const Value& value);
// For messages: a JSON string, cut when long, so that no raw byte of a file reaches a log.
std::string quote(std::string_view text);

class Fields {
 public:
  using Entry = std::pair<std::string, Value>;

  // `source` is the file's name; `path` leads to this object within it, such as "rope_parameters.", or is empty.
  // Throws when a name stands twice.
  Fields(std::string source, std::string path, ErrorCode code, std::vector<Entry> entries);

  const std::string& source() const { return source_; }
  const std::vector<Entry>& entries() const { return entries_; }  // sorted by name

  // Whether it stands there as null: for some fields that says another thing than absence does.
  bool is_null(std::string_view name) const;
  // Null counts as absent, in all of these.
  const Value* find(std::string_view name) const;
  bool contains(std::string_view name) const { return find(name) != nullptr; }

  std::optional<int> find_integer(std::string_view name, int least, int most) const;
  std::optional<float> find_number(std::string_view name, double least, double most) const;
  std::optional<bool> find_boolean(std::string_view name) const;
  const std::string* find_text(std::string_view name) const;
  const Value::Array* find_array(std::string_view name) const;
  const Fields* find_object(std::string_view name) const;

  // As above, but absence is an error.
  int integer(std::string_view name, int least, int most) const;
  float number(std::string_view name, double least, double most) const;
  const std::string& text(std::string_view name) const;
  const Value::Array& array(std::string_view name) const;

  // "source: path.name: what"
  [[noreturn]] void fail(std::string_view name, std::string_view what) const;
  // The same with another code, for files that hold more than one kind of thing.
  [[noreturn]] void fail(std::string_view name, std::string_view what, ErrorCode code) const;

 private:
  const Value* stated(std::string_view name) const;  // null too
  const Value& required(std::string_view name) const;

  std::string source_;
  std::string path_;
  ErrorCode code_;
  std::vector<Entry> entries_;
};

}  // namespace cortex
