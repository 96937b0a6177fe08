#include "http/dialect/text_inputs.h"

#include <fmt/core.h>

namespace cortex {
namespace {

std::vector<std::int64_t> read_ids(const JsonValue& list) {
  std::vector<std::int64_t> ids;
  for (const JsonValue& item : list.items()) ids.push_back(item.integer());
  return ids;
}

}  // namespace

TextInputs read_text_inputs(const JsonValue& value, std::string_view param, std::size_t most) {
  if (value.is_string()) return {{value.string()}, true};
  if (!value.is_array()) throw value.error(ErrorCode::invalid_type, "a string or an array is wanted");
  const std::vector<JsonValue> items = value.items();
  if (!items.empty() && items.front().is_number()) return {{read_ids(value)}, true};
  require_batch(param, items.size(), most);
  TextInputs inputs;
  for (const JsonValue& item : items) {
    if (item.is_string() != items.front().is_string()) {
      throw item.error(ErrorCode::invalid_type, "strings and lists of ids can't be mixed");
    }
    if (item.is_string()) {
      inputs.texts.emplace_back(item.string());
    } else if (item.is_array()) {
      inputs.texts.emplace_back(read_ids(item));
    } else {
      throw item.error(ErrorCode::invalid_type, "a string or an array of token ids is wanted");
    }
  }
  return inputs;
}

void require_batch(std::string_view param, std::size_t size, std::size_t most) {
  if (size <= most) return;
  throw Error(ErrorCode::batch_too_large,
              fmt::format("{}: batch size {} > maximum allowed batch size {}", param, size, most), std::string(param));
}

HttpHeaders text_headers(const EncodeCost& cost) {
  HttpHeaders headers = {{"x-cached-texts", std::to_string(cost.cached)}};
  if (cost.truncated > 0) headers.emplace_back("x-truncated-inputs", std::to_string(cost.truncated));
  return headers;
}

}  // namespace cortex
