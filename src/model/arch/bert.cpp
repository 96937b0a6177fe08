// BERT and MiniLM, embedders and classifiers. The pooler is a classifier's dense layer; an embedding has no use for it,
// nor for pre-training heads.
#include <string>
#include <utility>

#include "model/arch/architectures.h"
#include "model/arch/bert_layers.h"
#include "model/arch/encoder_parts.h"

namespace cortex {

Network bert_from_huggingface(const Fields& config, TensorMap* tensors) {
  EncoderSpec spec = read_bert_config(config, "bert");
  const std::string prefix = bert_prefix("bert.", *tensors);
  EncoderWeights weights = take_bert_weights(config, spec, spec.positions, prefix, tensors);
  tensors->ignore_prefix("cls.");
  if (is_classifier(config)) {
    spec.head = EncoderHeadSpec{.labels = static_cast<int>(read_labels(config).size())};
    EncoderHeadWeights head;
    head.dense = take_linear(prefix + "pooler.dense", spec.hidden, spec.hidden, true, tensors);
    head.out = take_linear("classifier", spec.head->labels, spec.hidden, true, tensors);
    weights.head = std::move(head);
  }
  return EncoderModel{std::move(spec), std::move(weights)};
}

}  // namespace cortex
