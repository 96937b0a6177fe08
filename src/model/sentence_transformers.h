// How a text's token states become one vector, as the files of sentence-transformers say: modules.json, the pooling's
// config.json, sentence_bert_config.json. Stateless; any thread.
#pragma once

#include "model/model.h"
#include "model/model_folder.h"

namespace cortex {

// Fills in pooling, normalise and context_tokens; without modules.json, mean pooling and no normalisation, as
// sentence-transformers itself assumes. Throws Error invalid_config naming what is not supported.
void read_sentence_transformers(const ModelFolder& folder, EncoderSpec* spec, EmbeddingUse* use);

}  // namespace cortex
