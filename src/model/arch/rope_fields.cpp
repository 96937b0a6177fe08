#include "model/arch/rope_fields.h"

#include <fmt/core.h>

#include <cmath>
#include <optional>

#include "model/arch/limits.h"

namespace cortex {
namespace {

constexpr double kLeastPositive = 1e-30;
constexpr double kMaxTheta = 1e12;
constexpr double kMaxFactor = 1e6;

// Where a configuration's rope stands: `parameters` is the newer form, `scaling` the older, each absent or null.
struct RopeHolders {
  const Fields* parameters;
  const Fields* scaling;
  std::string_view theta_field;
  float default_theta;
};

// Files state it outside of the scaling too, and then mean that; without any the context is the original one.
int read_original_context(const Fields& config, const Fields& scaling) {
  constexpr std::string_view kField = "original_max_position_embeddings";
  if (const auto outside = config.find_integer(kField, 1, kMaxContext)) return *outside;
  if (const auto inside = scaling.find_integer(kField, 1, kMaxContext)) return *inside;
  return config.integer("max_position_embeddings", 1, kMaxContext);
}

void read_llama3(const Fields& scaling, RopeSpec* rope) {
  rope->scaling = RopeSpec::Scaling::llama3;
  rope->low_frequency_factor = scaling.number("low_freq_factor", kLeastPositive, kMaxFactor);
  rope->high_frequency_factor = scaling.number("high_freq_factor", kLeastPositive, kMaxFactor);
  if (rope->high_frequency_factor <= rope->low_frequency_factor) {
    scaling.fail("high_freq_factor", fmt::format("{} is not above low_freq_factor, {}", rope->high_frequency_factor,
                                                 rope->low_frequency_factor));
  }
}

// How much attention sharpens when positions are stretched; source: the YaRN paper, 3.4, with DeepSeek's multiplier.
double yarn_magnitude(double factor, double multiplier) {
  return factor <= 1.0 ? 1.0 : 0.1 * multiplier * std::log(factor) + 1.0;
}

void read_yarn(const Fields& scaling, RopeSpec* rope) {
  rope->scaling = RopeSpec::Scaling::yarn;
  rope->beta_fast = scaling.find_number("beta_fast", kLeastPositive, kMaxFactor).value_or(rope->beta_fast);
  rope->beta_slow = scaling.find_number("beta_slow", kLeastPositive, kMaxFactor).value_or(rope->beta_slow);
  if (rope->beta_fast <= rope->beta_slow) {
    scaling.fail("beta_fast", fmt::format("{} is not above beta_slow, {}", rope->beta_fast, rope->beta_slow));
  }
  if (rope->theta <= 1.0f) scaling.fail("rope_theta", fmt::format("{} is not above 1, as yarn needs", rope->theta));
  rope->truncate = scaling.find_boolean("truncate").value_or(true);
  const auto multiplier = scaling.find_number("mscale", 0.0, kMaxFactor);
  const auto all_dims = scaling.find_number("mscale_all_dim", 0.0, kMaxFactor);
  if (const auto stated = scaling.find_number("attention_factor", kLeastPositive, kMaxFactor)) {
    rope->magnitude = *stated;
  } else if (multiplier.value_or(0) != 0 && all_dims.value_or(0) != 0) {
    rope->magnitude =
        static_cast<float>(yarn_magnitude(rope->factor, *multiplier) / yarn_magnitude(rope->factor, *all_dims));
  } else {
    rope->magnitude = static_cast<float>(yarn_magnitude(rope->factor, 1.0));
  }
}

// What stands there for a type that isn't named can't be guessed, and must not be passed over.
void check_untyped(const Fields& scaling) {
  for (const auto& [name, value] : scaling.entries()) {
    if (value.is_null() || name == "rope_theta" || name == "partial_rotary_factor") continue;
    scaling.fail(name, describe(value) + " stands without a rope_type; one of default, linear, llama3, yarn");
  }
}

// The type is called "rope_type", or "type" in the oldest files.
void read_scaling(const Fields& config, const Fields& scaling, RopeSpec* rope) {
  const std::string_view field = scaling.contains("rope_type") ? "rope_type" : "type";
  const std::string* type = scaling.find_text(field);
  if (!type) return check_untyped(scaling);
  if (*type == "default") return;
  const bool known = *type == "linear" || *type == "llama3" || *type == "yarn";
  if (!known) {
    scaling.fail(field, fmt::format("{} is not supported; one of default, linear, llama3, yarn", quote(*type)));
  }
  rope->factor = scaling.number("factor", kLeastPositive, kMaxFactor);
  if (*type == "linear") {
    rope->scaling = RopeSpec::Scaling::linear;
    return;
  }
  rope->original_context = read_original_context(config, scaling);
  if (*type == "llama3") read_llama3(scaling, rope);
  if (*type == "yarn") read_yarn(scaling, rope);
}

RopeSpec read(const Fields& config, const RopeHolders& from, int head_dim) {
  if (from.parameters && from.scaling) {
    config.fail("rope_scaling", "stands beside rope_parameters, its newer form; only one of them may");
  }
  const auto holder = [&](std::string_view field) -> const Fields& {
    return from.parameters && from.parameters->contains(field) ? *from.parameters : config;
  };
  RopeSpec rope;
  const bool inside = from.parameters && from.parameters->contains("rope_theta");
  const std::string_view theta = inside ? "rope_theta" : from.theta_field;
  rope.theta = holder("rope_theta").find_number(theta, 1.0, kMaxTheta).value_or(from.default_theta);
  constexpr std::string_view kPartial = "partial_rotary_factor";
  const float partial = holder(kPartial).find_number(kPartial, 0.0, 1.0).value_or(1.0f);
  rope.dims = static_cast<int>(static_cast<float>(head_dim) * partial);
  check_rope_dims(config, "head_dim", rope, head_dim);
  if (from.parameters) read_scaling(config, *from.parameters, &rope);
  if (from.scaling) read_scaling(config, *from.scaling, &rope);
  return rope;
}

// Each kind of layer has an object of its own, and nothing stands beside them.
const Fields* layer_parameters(const Fields& config, std::string_view layer_type) {
  const Fields* all = config.find_object("rope_parameters");
  if (!all) return nullptr;
  for (const auto& [name, value] : all->entries()) {
    if (value.is_null() || name == kFullAttention || name == kSlidingAttention) continue;
    all->fail(name, fmt::format("{} is not a kind of layer; {} and {} are", describe(value), kFullAttention,
                                kSlidingAttention));
  }
  return all->find_object(layer_type);
}

}  // namespace

void check_rope_dims(const Fields& fields, std::string_view field, const RopeSpec& rope, int head_dim) {
  if (rope.dims < 2 || rope.dims % 2 != 0 || rope.dims > head_dim) {
    fields.fail(field,
                fmt::format("rope turns {} elements of a head; an even number from 2 to {}", rope.dims, head_dim));
  }
}

RopeSpec read_rope(const Fields& config, int head_dim) {
  return read(config,
              {.parameters = config.find_object("rope_parameters"),
               .scaling = config.find_object("rope_scaling"),
               .theta_field = "rope_theta",
               .default_theta = RopeSpec{}.theta},
              head_dim);
}

RopeSpec read_layer_rope(const Fields& config, const LayerRopeFields& fields, int head_dim) {
  return read(config,
              {.parameters = layer_parameters(config, fields.layer_type),
               .scaling = fields.scaled ? config.find_object("rope_scaling") : nullptr,
               .theta_field = fields.theta_field,
               .default_theta = fields.default_theta},
              head_dim);
}

}  // namespace cortex
