// OLMo 2: norms after attention and feed-forward in place of before, and one norm over all heads of queries and one
// over all heads of keys.
#include <utility>

#include "model/arch/architectures.h"
#include "model/arch/decoder_parts.h"
#include "model/arch/decoder_tensors.h"
#include "model/arch/rope_fields.h"

namespace cortex {

Network olmo2_from_huggingface(const Fields& config, TensorMap* tensors) {
  DecoderSpec spec = read_decoder_config(config, {.norm_epsilon = 1e-5f});
  spec.rope = read_rope(config, spec.head_dim);
  spec.query_key_norm = QueryKeyNorm::whole;
  spec.pre_norm = false;
  spec.post_norm = true;
  spec.qkv_bias = spec.output_bias = config.find_boolean("attention_bias").value_or(false);
  DecoderTensorNames names = huggingface_decoder_names(*tensors);
  names.attention_post_norm = "post_attention_layernorm";
  names.mlp_post_norm = "post_feedforward_layernorm";
  return take_huggingface_decoder(config, std::move(spec), names, tensors);
}

}  // namespace cortex
