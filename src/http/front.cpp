#include "http/front.h"

#include <utility>

#include "base/metrics.h"
#include "base/thread_pool.h"
#include "engine/step_budget.h"
#include "http/dialect/documents.h"
#include "http/dialect/model_control.h"
#include "http/dialect/native.h"
#include "http/dialect/openai.h"
#include "http/metrics_page.h"
#include "http/probes.h"
#include "service/admission.h"
#include "service/chat.h"
#include "service/completion.h"
#include "service/embed.h"
#include "service/embed_cache.h"
#include "service/rerank.h"

namespace cortex {
namespace {

// An engine that has not turned for so long does not answer.
constexpr std::chrono::seconds kSilence{3};

EngineLoad load_of(const EngineStatus& engine, std::chrono::steady_clock::time_point now) {
  const bool runs =
      engine.state == EngineState::idle || engine.state == EngineState::running || engine.state == EngineState::failing;
  EngineLoad load;
  load.answers = runs && now - engine.last_tick < kSilence;
  load.level = engine.level;
  load.resident_bytes = memory_used_bytes(engine);
  load.device_bytes = engine.device_bytes;
  load.step_drift = engine.step_drift;
  load.on_nvidia = engine.device == "cuda";
  return load;
}

std::int64_t unix_seconds(const Clock& clock) {
  return std::chrono::duration_cast<std::chrono::seconds>(clock.wall_now().time_since_epoch()).count();
}

}  // namespace

// In the order in which they need each other; the listener is the last to come and the first to go.
struct Front::Parts {
  Parts(FrontOptions options, const Models& models, Engine& engine, const Clock& clock)
      : keys_required(!options.listener.api_keys.empty() || !options.listener.admin_keys.empty()),
        guard(
            std::move(options.guard), clock, [&engine, &clock] { return load_of(engine.status(), clock.steady_now()); },
            [&engine](int level, ErrorCode cause) { engine.set_budget(budget_at(level, cause)); }),
        admission(engine, options.most_under_way, &guard),
        embed_cache(options.embed_cache_bytes),
        conversations(options.conversations, options.conversation_limits, clock),
        text_threads(static_cast<std::size_t>(options.text_threads)),
        chat(models, admission, conversations, text_threads, clock),
        completion(models, admission, text_threads, clock),
        embed(models, admission, embed_cache, text_threads, clock),
        rerank(models, admission, embed_cache, text_threads, clock),
        probes(models, engine, guard, options.health, clock),
        services{chat, completion, conversations, embed, rerank, engine, metrics},
        model_control{models, engine, std::move(options.estimate)},
        openai_services{models, chat, completion, embed, engine, metrics, unix_seconds(clock)},
        metrics_page(metrics, models, engine, guard, conversations, embed_cache, clock, options.vllm_metrics),
        listener(Router(routes()), listener_options(std::move(options.listener))) {
    guard.start();
  }

  std::vector<Route> routes();
  ListenerOptions listener_options(ListenerOptions options);
  void add_probes(std::vector<Route>* routes);
  void add_openai(std::vector<Route>* routes);
  void add_model_control(std::vector<Route>* routes);

  const bool keys_required;
  Metrics metrics;
  Guard guard;
  Admission admission;
  EmbedCache embed_cache;
  Conversations conversations;
  ThreadPool text_threads;
  ChatService chat;
  CompletionService completion;
  EmbedService embed;
  RerankService rerank;
  Probes probes;
  NativeServices services;
  ModelControl model_control;
  OpenaiServices openai_services;
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

void Front::Parts::add_openai(std::vector<Route>* routes) {
  using Reply = std::shared_ptr<HttpReply>;
  const auto add = [&](const char* method, const char* pattern, HttpHandler handler) -> Route& {
    routes->push_back(
        {.method = method, .pattern = pattern, .handler = std::move(handler), .dialect = Dialect::openai});
    return routes->back();
  };
  add("GET", "/v1/models", [this](const HttpRequest&, const Reply& reply) {
    openai_list_models(openai_services, *reply);
  }).at_once = true;
  add("GET", "/v1/models/{id}", [this](const HttpRequest& request, const Reply& reply) {
    openai_get_model(openai_services, request, *reply);
  }).at_once = true;
  add("POST", "/v1/chat/completions",
      [this](const HttpRequest& request, const Reply& reply) { openai_chat(openai_services, request, reply); });
  add("POST", "/v1/completions",
      [this](const HttpRequest& request, const Reply& reply) { openai_completion(openai_services, request, reply); });
  for (const char* path : {"/v1/embeddings", "/embeddings"}) {
    add("POST", path,
        [this](const HttpRequest& request, const Reply& reply) { openai_embeddings(openai_services, request, reply); });
  }
}

void Front::Parts::add_model_control(std::vector<Route>* routes) {
  using Reply = std::shared_ptr<HttpReply>;
  constexpr std::uint64_t kLimitBytes = std::uint64_t{16} << 10;
  const auto add = [&](const char* pattern, HttpHandler handler) -> Route& {
    routes->push_back(
        {.method = "POST", .pattern = pattern, .handler = std::move(handler), .body_limit_bytes = kLimitBytes});
    return routes->back();
  };
  Route& load = add("/models/load", [this](const HttpRequest& request, const Reply& reply) {
    load_model(model_control, request, reply);
  });
  // What gives memory back does not wait behind what takes it.
  load.admin = load.at_once = true;
  Route& unload = add("/models/unload", [this](const HttpRequest& request, const Reply& reply) {
    unload_model(model_control, request, reply);
  });
  unload.admin = unload.at_once = true;
  if (!model_control.estimate) return;
  add("/estimate", [this](const HttpRequest& request, const Reply& reply) {
    estimate_memory_of_model(model_control, request, *reply);
  });
}

std::vector<Route> Front::Parts::routes() {
  using Reply = std::shared_ptr<HttpReply>;
  std::vector<Route> routes;
  add_probes(&routes);
  add_openai(&routes);
  add_model_control(&routes);
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
  for (const char* path : {"/rerank", "/v1/rerank", "/reranking", "/v1/reranking"}) {
    Route& route = add("POST", path, [this](const HttpRequest& request, const Reply& reply) {
      cortex::rerank(services, request, reply);
    });
    if (route.pattern != "/rerank") route.dialect = Dialect::documents;
  }
  return routes;
}

Front::Front(FrontOptions options, const Models& models, Engine& engine, const Clock& clock)
    : parts_(std::make_unique<Parts>(std::move(options), models, engine, clock)) {}

Front::~Front() = default;

std::uint16_t Front::port() const { return parts_->listener.port(); }

SelfTestState Front::self_test() const { return parts_->guard.status().self_test; }

void Front::announce_drain() { parts_->probes.start_draining(); }

void Front::drain() { parts_->listener.drain(); }

bool Front::wait_until_idle(std::chrono::milliseconds timeout) { return parts_->listener.wait_until_idle(timeout); }

void Front::stop() {
  parts_->guard.stop();
  parts_->listener.stop();
  parts_->text_threads.stop();
}

}  // namespace cortex
