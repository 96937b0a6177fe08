// What decoder architectures share: the dimensions and rotary embedding as config.json and GGUF metadata write them,
// and the tensors of a stack of attention and gated feed-forward layers. Stateless; any thread.
#pragma once

#include <string>
#include <string_view>

#include "model/fields.h"
#include "model/spec.h"
#include "model/tensor_map.h"

namespace cortex {

// Dimensions, norm, activation, tied head and rope of config.json; biases stay off. Throws Error invalid_config.
DecoderSpec read_decoder_config(const Fields& config);

// The same of GGUF metadata, whose keys begin with `architecture` and a dot. The vocabulary is the embedding's rows,
// the head is tied when its tensor is absent.
DecoderSpec read_decoder_metadata(const Fields& metadata, std::string_view architecture, const TensorMap& tensors);

// How a file names the tensors. Those of a layer follow `layers` + index + "."; weights and biases end in ".weight"
// and ".bias".
struct DecoderTensorNames {
  std::string_view embedding, final_norm, head, layers;
  std::string_view attention_norm, mlp_norm, query, key, value, output, gate, up, down;
};
extern const DecoderTensorNames kHuggingFaceDecoderNames;
extern const DecoderTensorNames kGgufDecoderNames;

// Takes every tensor the spec calls for.
DecoderWeights take_decoder_weights(const DecoderSpec& spec, const DecoderTensorNames& names, TensorMap* tensors);

// Throws Error invalid_config when the embedding has another number of rows than vocab_size says.
void check_vocabulary(const Fields& config, int vocabulary, const std::string& embedding, const TensorMap& tensors);

// "silu", "gelu", ... at `field`. Throws Error invalid_config with those known.
Activation read_activation(const Fields& config, std::string_view field, Activation fallback);

}  // namespace cortex
