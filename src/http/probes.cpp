#include "http/probes.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "base/json_writer.h"
#include "base/resident_memory.h"
#include "guard/heat.h"
#include "http/dialect/fields.h"

namespace cortex {
namespace {

HttpHeaders unready_headers(const Health& health) {
  if (health.ready()) return {};
  const double seconds = retry_after_s(health);
  return {{"retry-after", fmt::format("{:.0f}", std::ceil(seconds))},
          {"retry-after-ms", fmt::format("{:.0f}", seconds * 1000)}};
}

int status_of(const Health& health) { return health.ready() ? 200 : 503; }

void write_age(JsonWriter& json, std::string_view name, std::chrono::steady_clock::time_point then,
               std::chrono::steady_clock::time_point now) {
  json.key(name).integer(std::max<std::int64_t>(0, std::llround(milliseconds_between(then, now))));
}

double rounded(double value) { return std::round(value * 1000) / 1000; }

void write_kv(JsonWriter& json, const KvStatus& kv) {
  json.begin_object().key("blocks").integer(kv.blocks).key("used").integer(kv.blocks_used);
  json.key("cached").integer(kv.blocks_cached).key("running").integer(kv.running).key("waiting").integer(kv.waiting);
  json.key("query_tokens").unsigned_integer(kv.query_tokens);
  json.key("hit_tokens").unsigned_integer(kv.memory_hit_tokens + kv.disk_hit_tokens);
  json.key("disk_hit_tokens").unsigned_integer(kv.disk_hit_tokens);
  json.key("preemptions").unsigned_integer(kv.preemptions).end_object();
}

void write_models(JsonWriter& json, const Models& models, const EngineStatus& engine) {
  json.key("models").begin_array();
  for (const auto& model : models.all()) {
    const auto same = [&](const ModelStatus& status) { return status.name == model.name; };
    const auto status = std::find_if(engine.models.begin(), engine.models.end(), same);
    const bool known = status != engine.models.end();
    json.begin_object().key("id").string(model.name).key("kind").string(name_of(model.kind));
    json.key("state").string(name_of(known ? status->state : ModelState::loading));
    json.key("context_length").integer(model.context_tokens);
    json.key("bytes").unsigned_integer(known ? status->bytes : 0);
    json.key("pinned").boolean(known && status->pinned);
    if (known) json.key("idle_s").number(rounded(status->idle_s)).key("plan").string(status->plan);
    if (model.rerank) json.key("rerank").string(name_of(*model.rerank));
    if (known && status->state == ModelState::loading) json.key("progress").number(status->progress);
    if (known && status->kv.blocks > 0) write_kv(json.key("kv"), status->kv);
    json.end_object();
  }
  json.end_array();
}

void write_engine(JsonWriter& json, const EngineStatus& engine, std::chrono::steady_clock::time_point now) {
  json.key("engine").begin_object();
  json.key("backend").string(engine.backend).key("device").string(engine.device);
  json.key("state").string(name_of(engine.state));
  write_age(json, "last_tick_age_ms", engine.last_tick, now);
  if (engine.last_step) {
    write_age(json, "last_step_age_ms", *engine.last_step, now);
  } else {
    json.key("last_step_age_ms").null();
  }
  json.key("steps").unsigned_integer(engine.steps).key("restarts").integer(engine.restarts);
  json.key("running").integer(engine.running).key("waiting").integer(engine.waiting).end_object();
}

void write_pressure(JsonWriter& json, const MonitorStatus& monitor) {
  json.key("level").integer(monitor.level).key("pressure");
  if (monitor.pressure) {
    json.number(rounded(*monitor.pressure));
  } else {
    json.null();
  }
}

void write_monitor_end(JsonWriter& json, const MonitorStatus& monitor) {
  json.key("source").string(monitor.source).key("stale").boolean(monitor.stale);
  json.key("since_s").number(rounded(monitor.since_s)).end_object();
}

// Where a monitor does not count bytes, as an injected one, what this process sees of itself is told.
void write_memory(JsonWriter& json, const MonitorStatus& monitor, const EngineStatus& engine) {
  const bool counted = monitor.ceiling_bytes > 0;
  write_pressure(json.key("memory").begin_object(), monitor);
  json.key("used_bytes").unsigned_integer(counted ? monitor.used_bytes : memory_used_bytes(engine));
  json.key("ceiling_bytes").unsigned_integer(counted ? monitor.ceiling_bytes : memory_ceiling_bytes());
  write_monitor_end(json, monitor);
}

void write_thermal(JsonWriter& json, const MonitorStatus& monitor) {
  write_pressure(json.key("thermal").begin_object(), monitor);
  const bool known = monitor.pressure && !monitor.stale;
  json.key("state").string(known ? name_of_heat(*monitor.pressure) : "unknown");
  write_monitor_end(json, monitor);
}

void write_step_drift(JsonWriter& json, const MonitorStatus& monitor, const EngineStatus& engine) {
  json.key("step_drift").begin_object().key("level").integer(monitor.level).key("ratio");
  if (engine.step_drift > 0) {
    json.number(rounded(engine.step_drift));
  } else {
    json.null();
  }
  json.key("since_s").number(rounded(monitor.since_s)).end_object();
}

void write_guards(JsonWriter& json, const GuardStatus& guard, const EngineStatus& engine) {
  json.key("guards").begin_object().key("level").integer(guard.level);
  for (const MonitorStatus& monitor : guard.monitors) {
    if (monitor.name == "memory") write_memory(json, monitor, engine);
    if (monitor.name == "thermal") write_thermal(json, monitor);
    if (monitor.name == "step_drift") write_step_drift(json, monitor, engine);
  }
  json.end_object();
}

void write_disk(JsonWriter& json, const KvDiskStatus& disk) {
  json.key("disk").begin_object().key("state").string(disk.state);
  json.key("used_bytes").unsigned_integer(disk.bytes).key("quota_bytes").unsigned_integer(disk.limit_bytes);
  json.key("files").unsigned_integer(disk.files).key("scanning").boolean(disk.scanning);
  if (!disk.message.empty()) json.key("message").string(disk.message);
  json.end_object();
}

void write_reasons(JsonWriter& json, std::string_view name, const std::vector<HealthReason>& reasons) {
  json.key(name).begin_array();
  for (const auto& reason : reasons) {
    json.begin_object().key("code").string(reason.code).key("message").string(reason.message).end_object();
  }
  json.end_array();
}

}  // namespace

Probes::Probes(const Models& models, const Engine& engine, const Guard& guard, HealthRules rules, const Clock& clock)
    : models_(models), engine_(engine), guard_(guard), rules_(rules), clock_(clock), started_(clock.steady_now()) {}

Health Probes::assess_now(Seen* seen) {
  seen->engine = engine_.status();
  seen->guard = guard_.status();
  Health health = assess(seen->engine, draining_, clock_.steady_now(), rules_);
  assess_guard(seen->guard, &health);
  if (health.ready()) was_ready_ = true;
  return health;
}

std::string Probes::health_json(const Health& health, const Seen& seen, bool anonymous) const {
  const EngineStatus& engine = seen.engine;
  const auto now = clock_.steady_now();
  JsonWriter json;
  json.begin_object().key("status").string(name_of(health.status));
  write_reasons(json, "reasons", health.reasons);
  if (anonymous) return json.end_object().take();
  write_reasons(json, "warnings", health.warnings);
  json.key("version").string(CORTEX_VERSION);
  const double uptime_s = std::round(milliseconds_between(started_, now)) / 1000;
  json.key("uptime_s").number(uptime_s);
  write_models(json, models_, engine);
  write_engine(json, engine, now);
  write_guards(json, seen.guard, engine);
  write_disk(json, engine.kv_disk);
  return json.end_object().take();
}

void Probes::healthz(HttpReply& reply, bool anonymous) {
  Seen seen;
  const Health health = assess_now(&seen);
  respond_json(reply, status_of(health), health_json(health, seen, anonymous), unready_headers(health));
}

void Probes::livez(HttpReply& reply) {
  const bool dead = engine_.status().state == EngineState::dead;
  respond_json(reply, dead ? 503 : 200, dead ? R"({"status":"dead"})" : R"({"status":"ok"})");
}

void Probes::readyz(HttpReply& reply) {
  Seen seen;
  const Health health = assess_now(&seen);
  respond_json(reply, status_of(health), fmt::format(R"({{"status":"{}"}})", name_of(health.status)),
               unready_headers(health));
}

void Probes::startupz(HttpReply& reply) {
  Seen seen;
  const Health health = assess_now(&seen);
  respond_json(reply, was_ready_ ? 200 : 503, fmt::format(R"({{"status":"{}"}})", name_of(health.status)),
               was_ready_ ? HttpHeaders{} : unready_headers(health));
}

void Probes::health(HttpReply& reply) {
  Seen seen;
  const Health health = assess_now(&seen);
  respond_json(reply, status_of(health),
               health.ready() ? R"({"status":"ok"})"
                              : R"({"error":{"message":"Loading model","type":"unavailable_error","code":503}})",
               unready_headers(health));
}

}  // namespace cortex
