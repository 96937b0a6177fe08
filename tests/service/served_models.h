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

}  // namespace cortex
