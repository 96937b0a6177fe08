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
#include "service/rerank.h"

namespace cortex {

// In the order in which they need each other; the listener is the last to come and the first to go.
struct Front::Parts {
  Parts(FrontOptions options, const Models& models, Engine& engine, const Clock& clock)
      : keys_required(!options.listener.api_keys.empty()),
        admission(engine, options.most_under_way),
        conversations(options.conversations, options.conversation_limits, clock),
        text_threads(static_cast<std::size_t>(options.text_threads)),
        chat(models, admission, conversations, text_threads, clock),
        embed(models, admission, text_threads, clock),
        rerank(models, admission, text_threads, clock),
        probes(models, engine, options.health, clock),
        services{chat, conversations, embed, rerank, engine, metrics},
        metrics_page(metrics, engine, conversations, clock),
        listener(Router(routes()), listener_options(std::move(options.listener))) {}

  std::vector<Route> routes();
  ListenerOptions listener_options(ListenerOptions options);
  void add_probes(std::vector<Route>* routes);

  const bool keys_required;
  Metrics metrics;
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

// They answer at once whatever waits, also while draining, and need no key.
void Front::Parts::add_probes(std::vector<Route>* routes) {
  const auto add = [&](const char* path, HttpHandler handler) {
    routes->push_back({.method = "GET",
                       .pattern = path,
                       .handler = std::move(handler),
                       .open = true,
                       .answers_while_draining = true,
                       .at_once = true});
  };
  const auto probe = [this](void (Probes::*answer)(HttpReply&)) {
    return [this, answer](const HttpRequest&, const std::shared_ptr<HttpReply>& reply) { (probes.*answer)(*reply); };
  };
  add("/healthz", [this](const HttpRequest& request, const std::shared_ptr<HttpReply>& reply) {
    probes.healthz(*reply, keys_required && request.key_id.empty());
  });
  add("/livez", probe(&Probes::livez));
  add("/readyz", probe(&Probes::readyz));
  add("/startupz", probe(&Probes::startupz));
  for (const char* path : {"/health", "/v1/health", "/ping"}) add(path, probe(&Probes::health));
  // Clients ask HEAD / to see whether anybody is there.
  add("/", [](const HttpRequest&, const std::shared_ptr<HttpReply>& reply) {
    reply->respond(200, {{"content-type", "text/plain; charset=utf-8"}}, "cortex is running\n");
  });
}

std::vector<Route> Front::Parts::routes() {
  using Reply = std::shared_ptr<HttpReply>;
  std::vector<Route> routes;
  add_probes(&routes);
  const auto add = [&](const char* method, const char* pattern, HttpHandler handler) -> Route& {
    routes.push_back({.method = method, .pattern = pattern, .handler = std::move(handler)});
    return routes.back();
  };
  Route& metrics_route =
      add("GET", "/metrics", [this](const HttpRequest&, const Reply& reply) { metrics_page.answer(*reply); });
  metrics_route.open_on_loopback = metrics_route.answers_while_draining = true;
  add("POST", "/chat",
      [this](const HttpRequest& request, const Reply& reply) { native_chat(services, request, reply); });
  add("GET", "/chat/{id}",
      [this](const HttpRequest& request, const Reply& reply) { native_get_conversation(services, request, *reply); });
  add("DELETE", "/chat/{id}", [this](const HttpRequest& request, const Reply& reply) {
    native_delete_conversation(services, request, *reply);
  });
  // A cancel overtakes what it cancels.
  add("DELETE", "/requests/{id}", [this](const HttpRequest& request, const Reply& reply) {
    native_cancel(services, request, *reply);
  }).at_once = true;
  add("POST", "/embed",
      [this](const HttpRequest& request, const Reply& reply) { native_embed(services, request, reply); });
  add("POST", "/rerank",
      [this](const HttpRequest& request, const Reply& reply) { native_rerank(services, request, reply); });
  return routes;
}

Front::Front(FrontOptions options, const Models& models, Engine& engine, const Clock& clock)
    : parts_(std::make_unique<Parts>(std::move(options), models, engine, clock)) {}

Front::~Front() = default;

std::uint16_t Front::port() const { return parts_->listener.port(); }

void Front::announce_drain() { parts_->probes.start_draining(); }

void Front::drain() { parts_->listener.drain(); }

bool Front::wait_until_idle(std::chrono::milliseconds timeout) { return parts_->listener.wait_until_idle(timeout); }

void Front::stop() {
  parts_->listener.stop();
  parts_->text_threads.stop();
}

}  // namespace cortex
