// What the configurations of encoder architectures share: the heads of attention, and what makes a classifier.
// Stateless; any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "model/fields.h"
#include "model/spec.h"
#include "model/tensor_map.h"

namespace cortex {

// num_attention_heads and hidden_size into `spec`, which share it. Throws Error invalid_config, as all of these.
void read_encoder_heads(const Fields& config, EncoderSpec* spec);

// Whether `architectures` names a sequence classifier, as rerankers are.
bool is_classifier(const Fields& config);

// The labels of a classifier by their logits: id2label's, or as many as num_labels says, "LABEL_0" and on; 2 where
// neither stands.
std::vector<std::string> read_labels(const Fields& config);

// "NAME.weight" [out, in], and "NAME.bias" [out] where there is one.
Linear take_linear(const std::string& name, int out, int in, bool biased, TensorMap* tensors);

}  // namespace cortex
