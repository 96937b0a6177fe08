// The tiny models' text side and an engine that echoes, for tests of the services.
#pragma once

#include "base/file_system.h"
#include "fakes/test_paths.h"
#include "service/models.h"

namespace cortex {

// "chat" (llama, 512 tokens of context) and "embed" (bert, 320).
inline const Models& tiny_models() {
  static const Models models(real_file_system(), {{"chat", test_data("models/llama").string()},
                                                  {"embed", test_data("models/bert-mean").string()}});
  return models;
}

// Rerankers of every kind, under their folders' names: by a head, by an answer, and "embed" by cosine.
inline const Models& tiny_rerankers() {
  const auto path = [](const char* name) { return test_data(std::string("models/") + name).string(); };
  static const Models models(real_file_system(), {{"bert-reranker", path("bert-reranker")},
                                                  {"xlm-roberta-reranker", path("xlm-roberta-reranker")},
                                                  {"modernbert-reranker", path("modernbert-reranker")},
                                                  {"qwen3-reranker", path("qwen3-reranker"), ModelKind::rerank},
                                                  {"embed", path("bert-mean")}});
  return models;
}

}  // namespace cortex
