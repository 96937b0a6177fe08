#include "http/metrics_page.h"

#include <string>

#include "base/resident_memory.h"
#include "service/health.h"

namespace cortex {

void MetricsPage::count(const RequestRecord& record) {
  const std::string route(record.route);
  metrics_.add("requests", "Requests that are over, by route and status.",
               {{"endpoint", route}, {"code", std::to_string(record.status)}});
  metrics_.observe("request_seconds", "From a request's header to the end of its reply.", {{"endpoint", route}},
                   record.seconds);
}

void MetricsPage::read_gauges() {
  const EngineStatus engine = engine_.status();
  metrics_.set("requests_running", "Requests that are being computed.", {}, engine.running);
  metrics_.set("requests_waiting", "Requests that wait for their first step.", {}, engine.waiting);
  const char* blocks = "KV blocks of all chat models.";
  metrics_.set("kv_blocks", blocks, {{"state", "used"}}, engine.kv_blocks_used);
  metrics_.set("kv_blocks", blocks, {{"state", "free"}}, engine.kv_blocks - engine.kv_blocks_used);
  for (const auto& model : engine.models) {
    for (const ModelState state : {ModelState::unloaded, ModelState::loading, ModelState::ready, ModelState::failed}) {
      metrics_.set("model_state", "1 for the state a model is in.",
                   {{"model", model.name}, {"state", std::string(name_of(state))}}, model.state == state ? 1 : 0);
    }
  }
  metrics_.set("engine_restarts", "Times the engine's process was started again.", {}, engine.restarts);
  metrics_.set("memory_used_bytes", "Resident bytes of the front and the engine.", {},
               static_cast<double>(memory_used_bytes(engine)));
  metrics_.set("memory_ceiling_bytes", "Bytes this machine or its cgroup allows.", {},
               static_cast<double>(memory_ceiling_bytes()));
  metrics_.set("conversations", "Stored conversations.", {}, conversations_.count());
  if (engine.last_step) {
    metrics_.set("last_step_age_seconds", "Since the last good step.", {},
                 milliseconds_between(*engine.last_step, clock_.steady_now()) / 1000);
  }
  metrics_.set("build_info", "Always 1.", {{"version", CORTEX_VERSION}, {"backend", engine.backend}}, 1);
}

void MetricsPage::answer(HttpReply& reply) {
  read_gauges();
  reply.respond(200, {{"content-type", "text/plain; version=0.0.4"}}, metrics_.text());
}

}  // namespace cortex
