// Completions: text that goes on where a prompt ends, without a chat template. Owned by the front.
//
// prepare() is called on a text thread; run() once for each prepared call, whose sink is called as Generation says.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/clock.h"
#include "base/thread_pool.h"
#include "service/admission.h"
#include "service/generation.h"
#include "service/models.h"

namespace cortex {

// More texts in one call than this are refused: they would fill the queue at once.
inline constexpr std::size_t kMostChoices = 256;

struct CompletionRequest : GenerationOptions {
  std::optional<std::string> model;
  // Texts, in which control tokens may be written out, or token ids that are taken as they are.
  std::vector<std::variant<std::string, std::vector<std::int64_t>>> prompts;
  bool single = false;  // one value, not a list: messages name it without an index
  bool echo = false;    // the prompt is the beginning of each text, with log-probabilities if they are wanted
};

class CompletionService {
 public:
  CompletionService(const Models& models, Admission& admission, ThreadPool& text_threads, const Clock& clock)
      : models_(models), admission_(admission), place_{running_, text_threads, clock} {}

  // Throws Error for whatever is wrong with the request.
  GenerationCall prepare(const CompletionRequest& request);
  void run(GenerationCall call, GenerationSink sink);

  // Ends a running call with `cancelled`. False when no such call of this owner runs.
  bool cancel(const std::string& id, const std::string& owner) { return running_.cancel(id, owner); }

 private:
  const Models& models_;
  Admission& admission_;
  RunningCalls running_;
  GenerationPlace place_;
};

}  // namespace cortex
