// The tensors of a decoder by their names in a file: what a spec calls for is taken into its slots, fused tensors as
// the rows of their parts. Stateless; any thread.
#pragma once

#include <string_view>

#include "model/fields.h"
#include "model/model.h"
#include "model/tensor_map.h"

namespace cortex {

// How a file names tensors, all ending in ".weight" or ".bias". `root` leads to all but the head; those of a layer
// follow `layers` + index + ".".
struct DecoderTensorNames {
  std::string_view root, embedding, final_norm, head, layers;
  std::string_view attention_norm, attention_post_norm, mlp_norm, mlp_post_norm;
  std::string_view query, key, value, output, query_norm, key_norm;
  std::string_view gate, up, down;
  std::string_view fused_qkv = {};      // rows of query, key and value; empty: apart
  std::string_view fused_gate_up = {};  // rows of gate and up; empty: apart
  std::string_view router;
  std::string_view experts;  // one by one as EXPERTS.N.GATE, or stacked as EXPERTS.gate_up_proj, ...; empty: neither
  std::string_view stacked_gate, stacked_up, stacked_down;  // [experts, out, in]
};

// Those of config.json's models. One that was saved without its head, as embedders are, has no root either.
DecoderTensorNames huggingface_decoder_names(const TensorMap& tensors);
extern const DecoderTensorNames kGgufDecoderNames;

// Takes every tensor the spec calls for. Throws Error invalid_weights.
DecoderWeights take_decoder_weights(const DecoderSpec& spec, const DecoderTensorNames& names, TensorMap* tensors);

// A whole model of config.json: holds vocab_size against the embedding, takes what the spec calls for, and ignores what
// files store besides: a copy of a tied head, frequencies that the spec computes. A yarn rope stretches the context.
// Throws Error invalid_config too.
DecoderModel take_huggingface_decoder(const Fields& config, DecoderSpec spec, const DecoderTensorNames& names,
                                      TensorMap* tensors);

}  // namespace cortex
