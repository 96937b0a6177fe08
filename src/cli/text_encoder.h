// What embeds and scores texts for a command: models in this process, or a running server. One owner; main's thread.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/fetch/url.h"
#include "engine/engine_options.h"

namespace cortex {

struct EncodeChoices {
  std::optional<std::string> model;  // by its name; absent: the default of its kind
  bool truncate = false;             // otherwise too long a text is an error
  bool normalize = true;             // embeddings
};

class TextEncoder {
 public:
  virtual ~TextEncoder() = default;
  // At most kMostTextsPerCall texts, [texts][dimensions] and [texts]. Throw Error of the model or server,
  // NetworkFailure, Interrupted.
  virtual std::vector<std::vector<float>> embed(const std::vector<std::string>& texts) = 0;
  virtual std::vector<float> score(const std::string& query, const std::vector<std::string>& texts) = 0;
};

// Loads the models of `options`. Throws Error as Models and Engine do.
std::unique_ptr<TextEncoder> make_local_encoder(EngineOptions options, EncodeChoices choices);

// Asks the server at `url`, with `api_key` unless that is empty; the key goes out only encrypted or on this machine.
std::unique_ptr<TextEncoder> make_server_encoder(const Url& url, std::string api_key, EncodeChoices choices);

}  // namespace cortex
