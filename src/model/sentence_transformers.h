// What the files of sentence-transformers make of a model: how token states become one vector (modules.json, the
// pooling's config.json), what goes before a text (config_sentence_transformers.json), how long it may be
// (sentence_bert_config.json). Stateless; any thread.
#pragma once

#include "model/model.h"
#include "model/model_folder.h"

namespace cortex {

// Fills in kind, embedding, answers and an encoder's pooling, and limits the context; the network and the kind that it
// has without these files must be there already. Without modules.json an encoder pools by mean and does not normalise,
// as sentence-transformers itself assumes, and a decoder that embeds takes its last token. Throws Error invalid_config
// naming what is not supported.
void read_sentence_transformers(const ModelFolder& folder, Model* model);

}  // namespace cortex
