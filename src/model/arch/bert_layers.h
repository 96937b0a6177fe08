// What BERT and RoBERTa share: post-norm layers with biases everywhere, learned positions, token types. Stateless; any
// thread.
#pragma once

#include <string>
#include <string_view>

#include "model/fields.h"
#include "model/spec.h"
#include "model/tensor_map.h"

namespace cortex {

// All but the head. `positions` and the context are the whole table's. Throws Error invalid_config.
EncoderSpec read_bert_config(const Fields& config, std::string_view architecture);

// The names' prefix: `model` where the file has it ("bert."), or nothing.
std::string bert_prefix(std::string_view model, const TensorMap& tensors);

// All but the head; what a pre-trained model has besides its layers is ignored. The position table is taken whole, of
// `position_rows` rows. Throws Error invalid_config when vocab_size is not the embedding's, or invalid_weights.
EncoderWeights take_bert_weights(const Fields& config, const EncoderSpec& spec, int position_rows,
                                 const std::string& prefix, TensorMap* tensors);

}  // namespace cortex
