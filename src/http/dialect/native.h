// The native dialect: /chat, /embed, /rerank as api.md's section 1 has them, with TEI's and cortex-py's shapes of
// /embed. Stateless functions that turn a body into a service's request and its reply into JSON; any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/metrics.h"
#include "http/exchange.h"
#include "service/chat.h"
#include "service/completion.h"
#include "service/conversations.h"
#include "service/embed.h"
#include "service/rerank.h"

namespace cortex {

class JsonValue;

// What the handlers reach. Owned by the front.
struct NativeServices {
  ChatService& chat;
  CompletionService& completion;
  Conversations& conversations;
  EmbedService& embed;
  RerankService& rerank;
  Engine& engine;
  Metrics& metrics;
};

void native_chat(const NativeServices& services, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply);
void native_get_conversation(const NativeServices& services, const HttpRequest& request, HttpReply& reply);
void native_delete_conversation(const NativeServices& services, const HttpRequest& request, HttpReply& reply);
void native_cancel(const NativeServices& services, const HttpRequest& request, HttpReply& reply);
void native_embed(const NativeServices& services, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply);
// Of /rerank, whose paths two shapes share: see documents.h.
void native_rerank(const NativeServices& services, const JsonValue& body, const HttpRequest& request,
                   const std::shared_ptr<HttpReply>& reply);
// Of both shapes: how many results are wanted; 0 and more than there are mean all.
std::optional<std::int64_t> read_top_n(const JsonValue& body);

}  // namespace cortex
