// XLM-RoBERTa, RoBERTa and CamemBERT, embedders and classifiers: BERT's layers, but the rows of the position table up
// to the padding token's id are never used, so the first token's position is the row after that.
#include <fmt/core.h>

#include <string>
#include <utility>

#include "model/arch/architectures.h"
#include "model/arch/bert_layers.h"
#include "model/arch/encoder_parts.h"
#include "model/arch/limits.h"

namespace cortex {

Network xlm_roberta_from_huggingface(const Fields& config, TensorMap* tensors) {
  EncoderSpec spec = read_bert_config(config, config.text("model_type"));
  const int rows = spec.positions;
  const int first = config.find_integer("pad_token_id", 0, kMaxVocabulary).value_or(1) + 1;
  if (first >= rows) {
    config.fail("max_position_embeddings",
                fmt::format("{} rows, of which the first {} are not used, up to pad_token_id", rows, first));
  }
  spec.positions = spec.context_tokens = rows - first;
  const std::string prefix = bert_prefix("roberta.", *tensors);
  EncoderWeights weights = take_bert_weights(config, spec, rows, prefix, tensors);
  weights.position_embedding = rows_of(*weights.position_embedding, first, spec.positions);
  tensors->ignore_prefix("lm_head.");
  if (is_classifier(config)) {
    spec.head = EncoderHeadSpec{.labels = static_cast<int>(read_labels(config).size())};
    EncoderHeadWeights head;
    head.dense = take_linear("classifier.dense", spec.hidden, spec.hidden, true, tensors);
    head.out = take_linear("classifier.out_proj", spec.head->labels, spec.hidden, true, tensors);
    weights.head = std::move(head);
  }
  return EncoderModel{std::move(spec), std::move(weights)};
}

}  // namespace cortex
