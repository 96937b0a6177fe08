// The text side of a Hugging Face folder: tokenizer.json, tokenizer_config.json, chat_template.jinja,
// generation_config.json, and the ids that end a turn. Stateless; any thread.
#pragma once

#include <string>

#include "model/fields.h"
#include "model/model.h"
#include "model/model_folder.h"

namespace cortex {

// Fills in tokenizer, chat_template, special_tokens, and for a decoder stop_ids and generation. The network must be
// there already: ids are held against its vocabulary. Throws Error invalid_tokenizer, invalid_config or invalid_path.
void read_tokenizer_files(const ModelFolder& folder, const Fields& config, Model* model);

}  // namespace cortex
