// OpenAI's dialect: /v1/models, /v1/chat/completions, /v1/completions and /v1/embeddings, as far as this server can do
// what they ask for. Stateless functions that turn a body into a service's request and its reply into JSON; any thread.
#pragma once

#include <cstdint>
#include <memory>

#include "base/metrics.h"
#include "http/exchange.h"
#include "service/chat.h"
#include "service/completion.h"
#include "service/embed.h"
#include "service/models.h"

namespace cortex {

// What the handlers reach. Owned by the front.
struct OpenaiServices {
  const Models& models;
  ChatService& chat;
  CompletionService& completion;
  EmbedService& embed;
  Engine& engine;
  Metrics& metrics;
  std::int64_t created_s = 0;  // since when the models are served, Unix time
};

void openai_list_models(const OpenaiServices& services, HttpReply& reply);
void openai_get_model(const OpenaiServices& services, const HttpRequest& request, HttpReply& reply);
void openai_chat(const OpenaiServices& services, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply);
void openai_completion(const OpenaiServices& services, const HttpRequest& request,
                       const std::shared_ptr<HttpReply>& reply);
void openai_embeddings(const OpenaiServices& services, const HttpRequest& request,
                       const std::shared_ptr<HttpReply>& reply);

}  // namespace cortex
