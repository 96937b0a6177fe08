#include "model/generation_defaults.h"

#include <fmt/core.h>

#include <algorithm>
#include <limits>
#include <optional>

namespace cortex {
namespace {

std::optional<float> find_positive(const Fields& fields, std::string_view name, double most) {
  const auto number = fields.find_number(name, 0.0, most);
  if (number && *number == 0.0f) {
    fields.fail(name, fmt::format("{} is not a number above 0, up to {}", describe(*fields.find(name)), most));
  }
  return number;
}

}  // namespace

// The ranges are those of a request: a default that no request may have would fail every one.
GenerationDefaults read_generation(const Fields& fields, const GenerationFields& names) {
  GenerationDefaults defaults;
  defaults.temperature = fields.find_number(names.temperature, 0.0, 2.0);
  defaults.top_p = find_positive(fields, names.top_p, 1.0);
  defaults.min_p = fields.find_number(names.min_p, 0.0, 1.0);
  defaults.repetition_penalty = find_positive(fields, names.repetition_penalty, 2.0);
  const auto top_k = fields.find_integer(names.top_k, -1, std::numeric_limits<int>::max());
  if (top_k) defaults.top_k = std::max(*top_k, 0);
  if (!names.do_sample.empty()) defaults.do_sample = fields.find_boolean(names.do_sample);
  return defaults;
}

}  // namespace cortex
