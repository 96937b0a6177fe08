// Rotary embeddings as config.json writes them, in its older form (rope_theta, rope_scaling) and its newer one
// (rope_parameters), and as GGUF metadata does. Stateless; any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "model/fields.h"
#include "model/spec.h"
#include "model/tensor_map.h"

namespace cortex {

inline constexpr std::string_view kFullAttention = "full_attention";
inline constexpr std::string_view kSlidingAttention = "sliding_attention";

// Fails with `field` when the rope turns an odd number of elements, none, or more than a head has. Throws Error
// invalid_config, as all of these.
void check_rope_dims(const Fields& fields, std::string_view field, const RopeSpec& rope, int head_dim);

// The one rope of all layers.
RopeSpec read_rope(const Fields& config, int head_dim);

// How files say the rope of one kind of layer where each kind has its own.
struct LayerRopeFields {
  std::string_view layer_type;   // its object in rope_parameters: kFullAttention or kSlidingAttention
  std::string_view theta_field;  // its theta in older files
  float default_theta;
  bool scaled = true;  // whether an older file's rope_scaling applies to it
};
RopeSpec read_layer_rope(const Fields& config, const LayerRopeFields& fields, int head_dim);

// The rope of GGUF metadata, whose keys begin with `prefix` ("llama."), scaled as llama.cpp does it. Without
// rope.dimension_count the whole head turns.
RopeSpec read_gguf_rope(const Fields& metadata, const std::string& prefix, int head_dim, int context_tokens);

// rope_freqs.weight, where the file has it, as the divisors of a rope. Throws Error invalid_weights, weights_io_error.
std::vector<float> take_rope_divisors(int rope_dims, TensorMap* tensors);

}  // namespace cortex
