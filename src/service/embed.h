// Texts to vectors. Owned by the front; calls and replies come on text threads.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/thread_pool.h"
#include "service/admission.h"
#include "service/encode_batch.h"

namespace cortex {

// A text, or token ids that are taken as they are.
using EmbedInput = std::variant<std::string, std::vector<std::int64_t>>;

struct EmbedRequest {
  std::optional<std::string> model;
  std::vector<EmbedInput> inputs;
  std::string param = "inputs";  // what the caller named them, for messages
  bool single = false;           // one value, not a list: messages name it without an index
  bool normalize = true;
  Truncation truncation;
  std::optional<std::string> prompt_name;  // of the model's prompts, before each text; absent: its default one, if any
  std::optional<std::int64_t> dimensions;
  std::string salt;
  std::string trace;
};

struct EmbedReply {
  std::string model;
  std::vector<std::vector<float>> vectors;  // [inputs][dimensions]
  EncodeCost cost;
  std::optional<Error> error;
};
using EmbedSink = std::function<void(EmbedReply)>;

class EmbedService {
 public:
  EmbedService(const Models& models, Admission& admission, EmbedCache& cache, ThreadPool& text_threads,
               const Clock& clock)
      : models_(models), admission_(admission), cache_(cache), text_threads_(text_threads), clock_(clock) {}

  // Throws Error for a bad request; later failures come to the sink. Returns what cancels it.
  CancelEncode embed(const EmbedRequest& request, EmbedSink sink);

 private:
  const Models& models_;
  Admission& admission_;
  EmbedCache& cache_;
  ThreadPool& text_threads_;
  const Clock& clock_;
};

}  // namespace cortex
