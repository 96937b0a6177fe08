#include "http/front.h"

#include <utility>

#include "base/metrics.h"
#include "base/thread_pool.h"
#include "http/dialect/native.h"
#include "http/metrics_page.h"
#include "http/probes.h"
#include "service/admission.h"
#include "service/chat.h"
#include "service/embed.h"
#include "service/models.h"
#include "service/rerank.h"

namespace cortex {

// In the order in which they need each other; the listener is the last to come and the first to go.
struct Front::Parts {
  Parts(FrontOptions options, Engine& engine, const FileSystem& files, const Clock& clock)
      : keys_required(!options.listener.api_keys.empty()),
        models(files, options.models),
        admission(engine, options.most_waiting),
        conversations(options.conversations, options.conversation_limits, clock),
        text_threads(static_cast<std::size_t>(options.text_threads)),
        chat(models, admission, conversations, text_threads, clock),
        embed(models, admission, clock),
        rerank(models, admission, clock),
        probes(models, engine, options.health, clock),
        services{chat, conversations, embed, rerank, engine, metrics},
        metrics_page(metrics, engine, conversations, clock),
        listener(Router(routes()), listener_options(std::move(options.listener))) {}

  std::vector<Route> routes();
  ListenerOptions listener_options(ListenerOptions options);
  void add_probes(std::vector<Route>* routes);

  const bool keys_required;
  Metrics metrics;
  Models models;
  Admission admission;
  Conversations conversations;
  ThreadPool text_threads;
  ChatService chat;
  EmbedService embed;
  RerankService rerank;
  Probes probes;
  NativeServices services;
  MetricsPage metrics_page;
  Listener listener;
};

ListenerOptions Front::Parts::listener_options(ListenerOptions options) {
  options.dispatch = [this](std::function<void()> job) { text_threads.submit(std::move(job)); };
  options.observe = [this](const RequestRecord& record) { metrics_page.count(record); };
  return options;
}

void Front::Parts::add_probes(std::vector<Route>* routes) {
  const auto add = [&](const char* path, void (Probes::*answer)(HttpReply&)) {
    HttpHandler handler = [this, answer](const HttpRequest&, const std::shared_ptr<HttpReply>& reply) {
      (probes.*answer)(*reply);
    };
    routes->push_back({"GET", path, std::move(handler), Dialect::native, true, true, true});
  };
  add("/livez", &Probes::livez);
  add("/readyz", &Probes::readyz);
  add("/startupz", &Probes::startupz);
  for (const char* path : {"/health", "/v1/health", "/ping"}) add(path, &Probes::health);
}

std::vector<Route> Front::Parts::routes() {
  using Reply = std::shared_ptr<HttpReply>;
  std::vector<Route> routes;
  add_probes(&routes);
  routes.push_back({"GET", "/healthz",
                    [this](const HttpRequest& request, const Reply& reply) {
                      probes.healthz(*reply, keys_required && request.key_id.empty());
                    },
                    Dialect::native, true, true, true});
  routes.push_back({"GET", "/metrics", [this](const HttpRequest&, const Reply& reply) { metrics_page.answer(*reply); },
                    Dialect::native, false, true, true});
  routes.push_back({"POST", "/chat", [this](HttpRequest request, Reply reply) {
                      native_chat(services, std::move(request), std::move(reply));
                    }});
  routes.push_back({"GET", "/chat/{id}", [this](const HttpRequest& request, const Reply& reply) {
                      native_get_conversation(services, request, *reply);
                    }});
  routes.push_back({"DELETE", "/chat/{id}", [this](const HttpRequest& request, const Reply& reply) {
                      native_delete_conversation(services, request, *reply);
                    }});
  routes.push_back({"DELETE", "/requests/{id}", [this](const HttpRequest& request, const Reply& reply) {
                      native_cancel(services, request, *reply);
                    }});
  routes.push_back({"POST", "/embed", [this](HttpRequest request, Reply reply) {
                      native_embed(services, std::move(request), std::move(reply));
                    }});
  routes.push_back({"POST", "/rerank", [this](HttpRequest request, Reply reply) {
                      native_rerank(services, std::move(request), std::move(reply));
                    }});
  return routes;
}

Front::Front(FrontOptions options, Engine& engine, const FileSystem& files, const Clock& clock)
    : parts_(std::make_unique<Parts>(std::move(options), engine, files, clock)) {}

Front::~Front() = default;

std::uint16_t Front::port() const { return parts_->listener.port(); }

void Front::announce_drain() { parts_->probes.start_draining(); }

void Front::drain() { parts_->listener.drain(); }

bool Front::wait_until_idle(std::chrono::milliseconds timeout) { return parts_->listener.wait_until_idle(timeout); }

void Front::stop() { parts_->listener.stop(); }

}  // namespace cortex
