#include "model/arch/rope_fields.h"

#include <fmt/core.h>

#include <cmath>
#include <optional>

#include "model/arch/limits.h"

namespace cortex {
namespace {

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

// A scale that changes nothing is as good as none; any other fails with `what`.
void check_scale_is_one(const Fields& metadata, const std::string& key, std::string_view what) {
  const auto scale = metadata.find_number(key, kLeastPositive, kMaxFactor);
  if (scale && *scale != 1.0f) metadata.fail(key, fmt::format("{} {}", *scale, what));
}

// llama.cpp computes the magnitude from the factor whatever yarn_attn_factor says, and multiplies it by attn_factor.
void read_gguf_yarn(const Fields& metadata, const std::string& scaling, int context_tokens, RopeSpec* rope) {
  rope->scaling = RopeSpec::Scaling::yarn;
  const auto find = [&](const char* key, float otherwise) {
    return metadata.find_number(scaling + key, kLeastPositive, kMaxFactor).value_or(otherwise);
  };
  rope->original_context =
      metadata.find_integer(scaling + "original_context_length", 1, kMaxContext).value_or(context_tokens);
  rope->beta_fast = find("yarn_beta_fast", rope->beta_fast);
  rope->beta_slow = find("yarn_beta_slow", rope->beta_slow);
  if (rope->beta_fast <= rope->beta_slow) {
    metadata.fail(scaling + "yarn_beta_fast",
                  fmt::format("{} is not above yarn_beta_slow, {}", rope->beta_fast, rope->beta_slow));
  }
  if (rope->theta <= 1.0f) {
    metadata.fail(scaling + "type", fmt::format("yarn needs a rope.freq_base above 1, not {}", rope->theta));
  }
  check_scale_is_one(metadata, scaling + "yarn_ext_factor", "is not supported; only 1");
  const std::string multiplier = scaling + "yarn_log_multiplier";
  if (metadata.find_number(multiplier, 0.0, kMaxFactor).value_or(0.0f) != 0.0f) {
    metadata.fail(multiplier, describe(*metadata.find(multiplier)) + " is not supported; only 0");
  }
  rope->magnitude = static_cast<float>(yarn_magnitude(rope->factor, 1.0)) * find("attn_factor", 1.0f);
}

void read_gguf_scaling(const Fields& metadata, const std::string& prefix, int context_tokens, RopeSpec* rope) {
  const std::string scaling = prefix + "rope.scaling.";
  const std::string type_key = scaling + "type";
  check_scale_is_one(metadata, prefix + "rope.scale_linear", "is not supported; only 1");
  const std::string* type = metadata.find_text(type_key);
  if (!type) return check_scale_is_one(metadata, scaling + "factor", "stands without " + type_key);
  if (*type == "none") return;
  if (*type != "linear" && *type != "yarn") {
    metadata.fail(type_key, fmt::format("{} is not supported; one of none, linear, yarn", quote(*type)));
  }
  rope->factor = metadata.number(scaling + "factor", kLeastPositive, kMaxFactor);
  if (*type == "yarn") return read_gguf_yarn(metadata, scaling, context_tokens, rope);
  rope->scaling = RopeSpec::Scaling::linear;
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

RopeSpec read_gguf_rope(const Fields& metadata, const std::string& prefix, int head_dim, int context_tokens) {
  RopeSpec rope;
  rope.theta = metadata.find_number(prefix + "rope.freq_base", 1.0, kMaxTheta).value_or(rope.theta);
  const std::string dims_key = prefix + "rope.dimension_count";
  const auto dims = metadata.find_integer(dims_key, 2, kMaxHeadDim);
  rope.dims = dims.value_or(head_dim);
  check_rope_dims(metadata, dims ? dims_key : prefix + "attention.key_length", rope, head_dim);
  read_gguf_scaling(metadata, prefix, context_tokens, &rope);
  return rope;
}

std::vector<float> take_rope_divisors(int rope_dims, TensorMap* tensors) {
  const std::string name = "rope_freqs.weight";
  if (!tensors->contains(name)) return {};
  std::vector<float> divisors = read_weight(tensors->take(name, {rope_dims / 2}));
  for (const float divisor : divisors) {
    if (divisor >= kLeastPositive && divisor <= kMaxFactor) continue;
    throw Error(ErrorCode::invalid_weights, fmt::format("tensor {}: {} is not a number from {} to {}", quote(name),
                                                        divisor, kLeastPositive, kMaxFactor));
  }
  return divisors;
}

}  // namespace cortex
