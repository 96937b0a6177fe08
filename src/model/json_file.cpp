#include "model/json_file.h"

#include <fmt/core.h>
#include <simdjson.h>

#include <algorithm>
#include <cctype>

namespace cortex {
namespace {

constexpr std::size_t kLongIntegerDigits = 20;  // 2^63 has 19
constexpr std::size_t kPathBytes = 160;
constexpr std::size_t kMaxValues = std::size_t{1} << 20;
constexpr std::size_t kMaxObjects = std::size_t{1} << 17;

// simdjson refuses integers past 64 bits, and tokenizer_config.json usually has one ("no limit"); floats may be long.
std::string with_long_integers_as_floats(std::string_view text) {
  const auto is_digit = [](char c) { return std::isdigit(static_cast<unsigned char>(c)) != 0; };
  std::string out;
  std::size_t copied = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (in_string) {
      if (text[i] == '\\')
        ++i;
      else if (text[i] == '"')
        in_string = false;
      continue;
    }
    if (text[i] == '"') in_string = true;
    if (!is_digit(text[i])) continue;
    std::size_t end = i;
    while (end < text.size() && is_digit(text[end])) ++end;
    const bool fraction = i > 0 && text[i - 1] == '.';
    const bool goes_on = end < text.size() && (text[end] == '.' || text[end] == 'e' || text[end] == 'E');
    if (end - i >= kLongIntegerDigits && !fraction && !goes_on) {
      out.append(text.substr(copied, end - copied)).append(".0");
      copied = end;
    }
    i = end - 1;
  }
  return out.append(text.substr(copied));
}

// A path for messages. Of one that is long the end is kept: each value has one, so they must be short.
std::string joined(const std::string& path, std::string_view step) {
  std::string whole = path;
  whole.append(step.substr(0, kPathBytes));
  return whole.size() <= kPathBytes ? whole : "..." + whole.substr(whole.size() - kPathBytes + 3);
}

class Converter {
 public:
  Converter(const std::string& source, ErrorCode code) : source_(source), code_(code) {}

  // Recursion is bounded by the parser's depth, memory by kMaxValues: a value takes many times the bytes of "0,".
  Value convert(simdjson::dom::element element, const std::string& path) {
    using simdjson::dom::element_type;
    if (++values_ > kMaxValues) {
      throw Error(code_,
                  fmt::format("{}: {}: more JSON values than the limit of {}", source_, quote(path), kMaxValues));
    }
    switch (element.type()) {
      case element_type::ARRAY:
        return convert(simdjson::dom::array(element), path);
      case element_type::OBJECT:
        return convert(simdjson::dom::object(element), path.empty() ? path : path + ".");
      case element_type::INT64:
        return {std::int64_t(element)};
      case element_type::UINT64:
        return {static_cast<double>(std::uint64_t(element))};
      case element_type::DOUBLE:
        return {double(element)};
      case element_type::STRING:
        return {std::string(std::string_view(element))};
      case element_type::BOOL:
        return {bool(element)};
      case element_type::NULL_VALUE:
        return {};
    }
    return {};
  }

 private:
  [[noreturn]] void fail(const std::string& path, std::string_view what, std::size_t limit) const {
    throw Error(code_, fmt::format("{}: {}: more JSON {} than the limit of {}", source_, quote(path), what, limit));
  }

  Value convert(simdjson::dom::array array, const std::string& path) {
    Value::Array values;
    values.reserve(std::min(array.size(), kMaxValues));
    for (const auto element : array) {
      values.push_back(convert(element, joined(path, fmt::format("[{}]", values.size()))));
    }
    return {std::move(values)};
  }

  Value convert(simdjson::dom::object object, const std::string& prefix) {
    if (++objects_ > kMaxObjects) fail(prefix, "objects", kMaxObjects);
    std::vector<Fields::Entry> entries;
    entries.reserve(std::min(object.size(), kMaxValues));
    for (const auto& field : object) {
      Value value = convert(field.value, joined(prefix, field.key));
      entries.emplace_back(field.key, std::move(value));
    }
    return {std::make_shared<const Fields>(source_, prefix, code_, std::move(entries))};
  }

  const std::string& source_;
  ErrorCode code_;
  std::size_t values_ = 0;
  std::size_t objects_ = 0;
};

}  // namespace

Value parse_json(std::string_view text, const std::string& source, ErrorCode code, int depth) {
  const simdjson::padded_string padded(with_long_integers_as_floats(text));
  simdjson::dom::parser parser;
  simdjson::dom::element root;
  auto error = parser.allocate(std::max<std::size_t>(padded.size(), 64), static_cast<std::size_t>(depth));
  if (!error) error = parser.parse(padded).get(root);
  if (error == simdjson::DEPTH_ERROR) {
    throw Error(code, fmt::format("{}: JSON is nested deeper than the limit of {}", source, depth));
  }
  if (error) throw Error(code, fmt::format("{}: is not valid JSON: {}", source, simdjson::error_message(error)));
  return Converter(source, code).convert(root, "");
}

Fields parse_json_object(std::string_view text, const std::string& source, ErrorCode code, int depth) {
  const Value root = parse_json(text, source, code, depth);
  const auto* object = root.as<Value::Object>();
  if (!object) throw Error(code, fmt::format("{}: {} at the top, not an object", source, describe(root)));
  return **object;
}

}  // namespace cortex
