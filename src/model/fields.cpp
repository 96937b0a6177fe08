#include "model/fields.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "base/json_writer.h"

namespace cortex {
namespace {

constexpr std::size_t kQuotedBytes = 80;

// Names come from the file too: as they are where they are plain, else escaped.
std::string plain(std::string_view text) {
  const std::string quoted = json_string(text);
  return quoted.substr(1, quoted.size() - 2);
}

}  // namespace

std::string quote(std::string_view text) {
  if (text.size() <= kQuotedBytes) return json_string(text);
  return json_string(text.substr(0, kQuotedBytes)) + "...";
}

std::string describe(const Value& value) {
  if (const auto* boolean = value.as<bool>()) return *boolean ? "true" : "false";
  if (const auto* integer = value.as<std::int64_t>()) return fmt::format("{}", *integer);
  if (const auto* number = value.as<double>()) return fmt::format("{}", *number);
  if (const auto* text = value.as<std::string>()) return quote(*text);
  if (value.as<Value::Array>()) return "an array";
  if (value.as<Value::Object>()) return "an object";
  return "null";
}

Fields::Fields(std::string source, std::string path, ErrorCode code, std::vector<Entry> entries)
    : source_(std::move(source)), path_(std::move(path)), code_(code), entries_(std::move(entries)) {
  const auto by_name = [](const Entry& a, const Entry& b) { return a.first < b.first; };
  std::sort(entries_.begin(), entries_.end(), by_name);
  const auto same_name = [](const Entry& a, const Entry& b) { return a.first == b.first; };
  const auto twice = std::adjacent_find(entries_.begin(), entries_.end(), same_name);
  if (twice != entries_.end()) fail(twice->first, "stands twice; a name may stand once");
}

const Value* Fields::stated(std::string_view name) const {
  const auto before = [](const Entry& entry, std::string_view wanted) { return entry.first < wanted; };
  const auto found = std::lower_bound(entries_.begin(), entries_.end(), name, before);
  return found == entries_.end() || found->first != name ? nullptr : &found->second;
}

bool Fields::is_null(std::string_view name) const {
  const Value* value = stated(name);
  return value && value->is_null();
}

const Value* Fields::find(std::string_view name) const {
  const Value* value = stated(name);
  return value && value->is_null() ? nullptr : value;
}

std::optional<int> Fields::find_integer(std::string_view name, int least, int most) const {
  const Value* value = find(name);
  if (!value) return std::nullopt;
  const auto* integer = value->as<std::int64_t>();
  if (!integer || *integer < least || *integer > most) {
    fail(name, fmt::format("{} is not an integer from {} to {}", describe(*value), least, most));
  }
  return static_cast<int>(*integer);
}

std::optional<float> Fields::find_number(std::string_view name, double least, double most) const {
  const Value* value = find(name);
  if (!value) return std::nullopt;
  double number = std::nan("");
  if (const auto* real = value->as<double>()) number = *real;
  if (const auto* integer = value->as<std::int64_t>()) number = static_cast<double>(*integer);
  if (!(number >= least && number <= most)) {
    fail(name, fmt::format("{} is not a number from {} to {}", describe(*value), least, most));
  }
  return static_cast<float>(number);
}

std::optional<bool> Fields::find_boolean(std::string_view name) const {
  const Value* value = find(name);
  if (!value) return std::nullopt;
  const auto* boolean = value->as<bool>();
  if (!boolean) fail(name, fmt::format("{} is not true or false", describe(*value)));
  return *boolean;
}

const std::string* Fields::find_text(std::string_view name) const {
  const Value* value = find(name);
  if (!value) return nullptr;
  const auto* text = value->as<std::string>();
  if (!text) fail(name, fmt::format("{} is not a string", describe(*value)));
  return text;
}

const Value::Array* Fields::find_array(std::string_view name) const {
  const Value* value = find(name);
  if (!value) return nullptr;
  const auto* array = value->as<Value::Array>();
  if (!array) fail(name, fmt::format("{} is not an array", describe(*value)));
  return array;
}

const Fields* Fields::find_object(std::string_view name) const {
  const Value* value = find(name);
  if (!value) return nullptr;
  const auto* object = value->as<Value::Object>();
  if (!object) fail(name, fmt::format("{} is not an object", describe(*value)));
  return object->get();
}

const Value& Fields::required(std::string_view name) const {
  const Value* value = find(name);
  if (!value) fail(name, "is missing");
  return *value;
}

int Fields::integer(std::string_view name, int least, int most) const {
  required(name);
  return *find_integer(name, least, most);
}

float Fields::number(std::string_view name, double least, double most) const {
  required(name);
  return *find_number(name, least, most);
}

const std::string& Fields::text(std::string_view name) const {
  required(name);
  return *find_text(name);
}

const Value::Array& Fields::array(std::string_view name) const {
  required(name);
  return *find_array(name);
}

void Fields::fail(std::string_view name, std::string_view what) const { fail(name, what, code_); }

void Fields::fail(std::string_view name, std::string_view what, ErrorCode code) const {
  throw Error(code, fmt::format("{}: {}{}: {}", source_, plain(path_), plain(name.substr(0, kQuotedBytes)), what));
}

}  // namespace cortex
