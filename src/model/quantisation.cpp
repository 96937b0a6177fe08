#include "model/quantisation.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <span>

namespace cortex {
namespace {

constexpr int kMost = 1 << 20;

int read_choice(const Fields& fields, std::string_view name, std::span<const int> choices) {
  const int value = fields.integer(name, 0, kMost);
  if (std::find(choices.begin(), choices.end(), value) == choices.end()) {
    fields.fail(name, fmt::format("{} is not supported; one of {}", value, fmt::join(choices, ", ")));
  }
  return value;
}

bool is_setting(std::string_view name) {
  return name == "group_size" || name == "bits" || name == "mode" || name == "quant_method";
}

AffineFormat read_format(const Fields& fields) {
  constexpr std::array kBits = {2, 3, 4, 5, 6, 8};
  constexpr std::array kGroups = {32, 64, 128};
  if (const auto* method = fields.find_text("quant_method")) {
    fields.fail("quant_method",
                quote(*method) + " weights are not supported; floats, MLX's affine groups and GGUF are");
  }
  if (const auto* mode = fields.find_text("mode"); mode && *mode != "affine") {
    fields.fail("mode", quote(*mode) + " is not supported; only affine");
  }
  return {.bits = read_choice(fields, "bits", kBits), .group_elements = read_choice(fields, "group_size", kGroups)};
}

// A layer may have a format of its own, true for the model's, or false for floats.
std::optional<AffineFormat> read_exception(const Fields& fields, const std::string& layer, const Value& value,
                                           const AffineFormat& standard) {
  if (const auto* quantised = value.as<bool>()) return *quantised ? std::optional(standard) : std::nullopt;
  const auto* object = value.as<Value::Object>();
  if (!object) fields.fail(layer, describe(value) + " is not true, false or a format with bits and group_size");
  for (const auto& [name, unused] : (*object)->entries()) {
    if (!is_setting(name)) (*object)->fail(name, "is not one of bits, group_size, mode");
  }
  return read_format(**object);
}

}  // namespace

std::optional<AffineFormat> Quantisation::format_of(std::string_view layer) const {
  const auto exception = exceptions.find(layer);
  return exception == exceptions.end() ? standard : exception->second;
}

Quantisation read_quantisation(const Fields& config) {
  const Fields* fields = config.find_object("quantization");
  if (!fields) fields = config.find_object("quantization_config");
  if (!fields) return {};
  Quantisation quantisation;
  const AffineFormat standard = read_format(*fields);
  quantisation.standard = standard;
  for (const auto& [name, value] : fields->entries()) {
    if (is_setting(name) || value.is_null()) continue;
    quantisation.exceptions.emplace(name, read_exception(*fields, name, value, standard));
  }
  return quantisation;
}

}  // namespace cortex
