// The text side of every configured model: tokenizer, chat template, limits, what it can do. Made once at start from
// the models' files and immutable afterwards; any thread. The weights are the engine's.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/file_system.h"
#include "engine/model_config.h"
#include "model/model.h"
#include "service/reply_style.h"
#include "service/rerank_frame.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace cortex {

enum class Task { chat, complete, embed, rerank };

// What grammars know of a vocabulary, made when the first of them needs it. Any thread.
class GrammarVocabulary {
 public:
  GrammarVocabulary(std::shared_ptr<const Tokenizer> tokenizer, int rows, std::vector<TokenId> ends);
  std::shared_ptr<const TokenTexts> texts() const;

 private:
  std::shared_ptr<const Tokenizer> tokenizer_;
  int rows_;
  std::vector<TokenId> ends_;
  mutable std::once_flag made_;
  mutable std::shared_ptr<const TokenTexts> texts_;
};

struct ServedModel {
  std::string name;
  ModelKind kind = ModelKind::chat;
  int context_tokens = 0;
  int vocabulary = 0;
  int token_types = 0;     // above 1, texts of a pair are told apart by them
  int dimensions = 0;      // of an embedding
  EmbeddingUse embedding;  // of embedders
  std::optional<RerankBy> rerank;
  RerankFrame frame;  // of rerankers but by cosine
  AnswerIds answers;  // of generative rerankers
  std::shared_ptr<const Tokenizer> tokenizer;
  std::shared_ptr<const GrammarVocabulary> grammar_vocabulary;
  std::optional<ChatTemplate> chat_template;
  ReplyStyle reply_style;
  std::vector<TokenId> stop_ids;
  GenerationDefaults generation;

  bool can(Task task) const;
  // Texts beyond it are not even tokenized: more than any real text of a context's tokens has.
  std::size_t text_limit_bytes() const;
  // "chat and complete", "embed and rerank", ...
  std::string capabilities() const;
};

class Models {
 public:
  // Throws Error invalid_weights, invalid_config, invalid_tokenizer, invalid_path, or invalid_option for a bad or
  // repeated name and for a kind that the model can't be.
  Models(const FileSystem& files, const std::vector<ModelConfig>& configs);

  // The named model, or with no name the first of the task's own kind, else the first that can do it. Throws Error
  // invalid_value (not a name), model_not_found or model_not_capable.
  const ServedModel& find(const std::optional<std::string>& name, Task task) const;

  const std::vector<ServedModel>& all() const { return models_; }

 private:
  std::vector<ServedModel> models_;
};

// [A-Za-z0-9][A-Za-z0-9._-]{0,95} with at most one '/', no "..".
bool is_model_name(std::string_view name);

}  // namespace cortex
