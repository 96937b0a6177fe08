// What each architecture's file offers to the registry.
#pragma once

#include "model/fields.h"
#include "model/model.h"
#include "model/tensor_map.h"

namespace cortex {

Network bert_from_huggingface(const Fields& config, TensorMap* tensors);
Network gemma3_from_gguf(const Fields& metadata, TensorMap* tensors);
Network gemma3_from_huggingface(const Fields& config, TensorMap* tensors);
Network llama_from_gguf(const Fields& metadata, TensorMap* tensors);
Network llama_from_huggingface(const Fields& config, TensorMap* tensors);
Network mistral_from_huggingface(const Fields& config, TensorMap* tensors);
Network modernbert_from_huggingface(const Fields& config, TensorMap* tensors);
Network olmo2_from_huggingface(const Fields& config, TensorMap* tensors);
Network phi3_from_gguf(const Fields& metadata, TensorMap* tensors);
Network phi3_from_huggingface(const Fields& config, TensorMap* tensors);
Network qwen2_from_gguf(const Fields& metadata, TensorMap* tensors);
Network qwen2_from_huggingface(const Fields& config, TensorMap* tensors);
Network qwen3_from_gguf(const Fields& metadata, TensorMap* tensors);
Network qwen3_from_huggingface(const Fields& config, TensorMap* tensors);
Network qwen3_moe_from_gguf(const Fields& metadata, TensorMap* tensors);
Network qwen3_moe_from_huggingface(const Fields& config, TensorMap* tensors);
Network xlm_roberta_from_huggingface(const Fields& config, TensorMap* tensors);

}  // namespace cortex
