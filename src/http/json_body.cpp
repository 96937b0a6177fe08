#include "http/json_body.h"

#include <fmt/core.h>
#include <simdjson.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <new>
#include <type_traits>

#include "http/error_reply.h"

namespace cortex {

namespace dom = simdjson::dom;

struct JsonBody::Document {
  dom::document document;
};

namespace {

constexpr std::size_t kDepthLimit = 64;
// simdjson counts one more, and lets an empty array or object at the deepest level pass; check_tree() counts those.
constexpr std::size_t kParserDepth = kDepthLimit + 1;

using Element = std::array<std::uintptr_t, 2>;
static_assert(sizeof(dom::element) == sizeof(Element) && std::is_trivially_copyable_v<dom::element>);

Element hide(dom::element element) { return std::bit_cast<Element>(element); }
dom::element show(const Element& element) { return std::bit_cast<dom::element>(element); }

[[noreturn]] void refuse_depth() {
  throw Error(ErrorCode::json_too_deep, fmt::format("the JSON body is nested too deep; limit {}", kDepthLimit));
}

[[noreturn]] void refuse_syntax(std::string_view what) {
  throw Error(ErrorCode::invalid_json, fmt::format("the body is not valid JSON: {}", what));
}

void check(simdjson::error_code error) {
  switch (error) {
    case simdjson::SUCCESS:
      return;
    case simdjson::DEPTH_ERROR:
      refuse_depth();
    case simdjson::UTF8_ERROR:
      throw Error(ErrorCode::invalid_utf8, "the body is not valid UTF-8");
    case simdjson::EMPTY:
      refuse_syntax("it is empty");
    case simdjson::NUMBER_ERROR:
      refuse_syntax("a number is malformed or out of range");
    case simdjson::STRING_ERROR:
    case simdjson::UNESCAPED_CHARS:
    case simdjson::UNCLOSED_STRING:
      refuse_syntax("a string is malformed");
    default:
      refuse_syntax("one value is wanted, whole, with nothing before or after it");
  }
}

// The UTF-16 unit of an escape such as \ud83d at `at`, or nothing.
std::optional<unsigned> escaped_unit(std::string_view text, std::size_t at) {
  if (at + 6 > text.size() || text[at] != '\\' || text[at + 1] != 'u') return std::nullopt;
  unsigned unit = 0;
  const char* end = text.data() + at + 6;
  const auto [stop, error] = std::from_chars(text.data() + at + 2, end, unit, 16);
  if (error != std::errc() || stop != end) return std::nullopt;
  return unit;
}

// Half a surrogate pair in an escape: no character, so no valid UTF-8 either. simdjson takes some of them.
bool has_lone_surrogate(std::string_view text) {
  const auto is_high = [](unsigned unit) { return unit >= 0xd800 && unit <= 0xdbff; };
  const auto is_low = [](unsigned unit) { return unit >= 0xdc00 && unit <= 0xdfff; };
  for (std::size_t at = text.find('\\'); at != text.npos; at = text.find('\\', at)) {
    const auto unit = escaped_unit(text, at);
    if (!unit) {
      at += 2;
    } else if (is_low(*unit)) {
      return true;
    } else if (is_high(*unit)) {
      const auto next = escaped_unit(text, at + 6);
      if (!next || !is_low(*next)) return true;
      at += 12;
    } else {
      at += 6;
    }
  }
  return false;
}

// Whether brackets open deeper than the limit, in text that need not be JSON.
bool opens_too_deep(std::string_view text) {
  std::size_t depth = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string && c == '\\') {
      ++i;
    } else if (c == '"') {
      in_string = !in_string;
    } else if (!in_string && (c == '[' || c == '{')) {
      if (++depth > kDepthLimit) return true;
    } else if (!in_string && (c == ']' || c == '}') && depth > 0) {
      --depth;
    }
  }
  return false;
}

// Of a key, what a path shows.
std::string_view path_part(std::string_view key) { return key.substr(0, 64); }

void check_keys(const dom::object& object) {
  std::vector<std::string_view> keys;
  keys.reserve(object.size());
  for (const auto field : object) keys.push_back(field.key);
  std::sort(keys.begin(), keys.end());
  const auto twice = std::adjacent_find(keys.begin(), keys.end());
  if (twice != keys.end()) {
    throw Error(ErrorCode::duplicate_key, fmt::format("the key {} stands twice in one object", excerpt(*twice)),
                std::string(path_part(*twice)));
  }
}

void check_tree(dom::element element, std::size_t depth) {
  if (element.is_array()) {
    if (depth > kDepthLimit) refuse_depth();
    for (const dom::element item : dom::array(element)) check_tree(item, depth + 1);
  } else if (element.is_object()) {
    if (depth > kDepthLimit) refuse_depth();
    const dom::object object = element;
    check_keys(object);
    for (const auto field : object) check_tree(field.value, depth + 1);
  }
}

std::string_view name_of(JsonKind kind) {
  switch (kind) {
    case JsonKind::null:
      return "null";
    case JsonKind::boolean:
      return "a boolean";
    case JsonKind::number:
      return "a number";
    case JsonKind::string:
      return "a string";
    case JsonKind::array:
      return "an array";
    case JsonKind::object:
      return "an object";
  }
  return "";
}

std::string joined(std::string path, std::string_view key) {
  if (!path.empty()) path += '.';
  return path += path_part(key);
}

// Elements lie on simdjson's tape in the order of the text, so the one that holds `target` is the last child that does
// not start after it.
bool starts_after(dom::element element, const Element& target) { return hide(element)[1] > target[1]; }

struct Step {
  dom::element element;
  std::string path;
};

std::optional<Step> step_towards(const Step& from, const Element& target) {
  std::optional<Step> next;
  if (from.element.is_object()) {
    std::string_view key;
    for (const auto field : dom::object(from.element)) {
      if (starts_after(field.value, target)) break;
      key = field.key;
      next = Step{field.value, {}};
    }
    if (next) next->path = joined(from.path, key);
  } else if (from.element.is_array()) {
    std::size_t count = 0;
    for (const dom::element item : dom::array(from.element)) {
      if (starts_after(item, target)) break;
      ++count;
      next = Step{item, {}};
    }
    if (next) next->path = fmt::format("{}[{}]", from.path, count - 1);
  }
  return next;
}

}  // namespace

JsonKind JsonValue::kind() const {
  switch (show(element_).type()) {
    case dom::element_type::ARRAY:
      return JsonKind::array;
    case dom::element_type::OBJECT:
      return JsonKind::object;
    case dom::element_type::INT64:
    case dom::element_type::UINT64:
    case dom::element_type::DOUBLE:
      return JsonKind::number;
    case dom::element_type::STRING:
      return JsonKind::string;
    case dom::element_type::BOOL:
      return JsonKind::boolean;
    case dom::element_type::NULL_VALUE:
      break;
  }
  return JsonKind::null;
}

void JsonValue::wrong_type(std::string_view wanted) const {
  std::string found(name_of(kind()));
  if (is_number()) found = fmt::format("the number {}", simdjson::minify(show(element_)));
  throw error(ErrorCode::invalid_type, fmt::format("{} is wanted, not {}", wanted, found));
}

bool JsonValue::boolean() const {
  bool value = false;
  if (show(element_).get(value) != simdjson::SUCCESS) wrong_type("a boolean");
  return value;
}

std::int64_t JsonValue::integer() const {
  std::int64_t value = 0;
  if (show(element_).get(value) != simdjson::SUCCESS) wrong_type("an integer of 64 bits");
  return value;
}

double JsonValue::number() const {
  double value = 0;
  if (show(element_).get(value) != simdjson::SUCCESS) wrong_type("a number");
  return value;
}

std::string JsonValue::string() const {
  std::string_view value;
  if (show(element_).get(value) != simdjson::SUCCESS) wrong_type("a string");
  return std::string(value);
}

std::int64_t JsonValue::integer_in(std::int64_t least, std::int64_t most) const {
  const std::int64_t value = integer();
  if (value < least || value > most) {
    throw error(ErrorCode::invalid_value,
                fmt::format("{} is out of range; the minimum is {}, the maximum is {}", value, least, most));
  }
  return value;
}

double JsonValue::number_in(double least, double most) const {
  const double value = number();
  if (value < least || value > most) {
    throw error(ErrorCode::invalid_value,
                fmt::format("{} is out of range; the minimum is {}, the maximum is {}", value, least, most));
  }
  return value;
}

std::vector<JsonValue> JsonValue::items() const {
  dom::array array;
  if (show(element_).get(array) != simdjson::SUCCESS) wrong_type("an array");
  std::vector<JsonValue> items;
  items.reserve(array.size());
  for (const dom::element item : array) items.push_back(JsonValue(hide(item)));
  return items;
}

std::vector<std::pair<std::string, JsonValue>> JsonValue::members() const {
  dom::object object;
  if (show(element_).get(object) != simdjson::SUCCESS) wrong_type("an object");
  std::vector<std::pair<std::string, JsonValue>> members;
  members.reserve(object.size());
  for (const auto field : object) members.emplace_back(field.key, JsonValue(hide(field.value)));
  return members;
}

std::optional<JsonValue> JsonValue::get(std::string_view name) const {
  dom::object object;
  if (show(element_).get(object) != simdjson::SUCCESS) wrong_type("an object");
  dom::element value;
  if (object.at_key(name).get(value) != simdjson::SUCCESS || value.is_null()) return std::nullopt;
  return JsonValue(hide(value));
}

JsonValue JsonValue::require(std::string_view name) const {
  const auto value = get(name);
  if (!value) {
    const std::string param = joined(path(), name);
    throw Error(ErrorCode::missing_required_parameter, param + ": is required", param);
  }
  return *value;
}

void JsonValue::refuse_unknown(std::initializer_list<std::string_view> known) const {
  dom::object object;
  if (show(element_).get(object) != simdjson::SUCCESS) wrong_type("an object");
  for (const auto field : object) {
    if (std::find(known.begin(), known.end(), field.key) != known.end()) continue;
    const std::string param = joined(path(), field.key);
    throw Error(ErrorCode::unknown_field, param + ": there is no such field", param);
  }
}

std::string JsonValue::raw_json() const { return simdjson::minify(show(element_)); }

std::string JsonValue::path() const {
  Step step{show(element_), {}};
  const auto* document = std::bit_cast<const dom::document*>(element_[0]);
  step.element = document->root();
  while (hide(step.element) != element_) {
    auto next = step_towards(step, element_);
    CORTEX_CHECK(next.has_value());
    step = std::move(*next);
  }
  return step.path;
}

Error JsonValue::error(ErrorCode code, std::string_view message) const {
  std::string param = path();
  std::string text = param.empty() ? fmt::format("the body: {}", message) : fmt::format("{}: {}", param, message);
  return Error(code, std::move(text), std::move(param));
}

JsonBody::JsonBody(std::unique_ptr<Document> document) : document_(std::move(document)) {}
JsonBody::JsonBody(JsonBody&&) noexcept = default;
JsonBody& JsonBody::operator=(JsonBody&&) noexcept = default;
JsonBody::~JsonBody() = default;

JsonBody JsonBody::parse(const std::string& text, JsonKind root_kind) {
  if (text.starts_with("\xef\xbb\xbf")) refuse_syntax("it starts with a byte order mark");
  auto document = std::make_unique<Document>();
  dom::parser parser;
  if (parser.allocate(std::max<std::size_t>(text.size(), 1), kParserDepth) != simdjson::SUCCESS) throw std::bad_alloc();
  dom::element root;
  const auto error = parser.parse_into_document(document->document, text).get(root);
  if ((error == simdjson::SUCCESS || error == simdjson::STRING_ERROR) && has_lone_surrogate(text)) {
    throw Error(ErrorCode::invalid_utf8, "the body is not valid UTF-8: a lone surrogate is escaped in it");
  }
  // simdjson finds an open end before it counts depth.
  if (error == simdjson::TAPE_ERROR && opens_too_deep(text)) refuse_depth();
  check(error);
  JsonBody body(std::move(document));
  const JsonKind kind = body.root().kind();
  if (kind != root_kind) refuse_syntax(fmt::format("{} is wanted, not {}", name_of(root_kind), name_of(kind)));
  check_tree(root, 1);
  return body;
}

JsonValue JsonBody::root() const { return JsonValue(hide(document_->document.root())); }

}  // namespace cortex
