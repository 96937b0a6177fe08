#include "http/metrics_page.h"

#include <algorithm>
#include <chrono>
#include <string>

#include "base/resident_memory.h"
#include "http/vllm_metrics.h"
#include "service/health.h"

namespace cortex {

void MetricsPage::count(const RequestRecord& record) {
  const std::string route(record.route);
  const std::string model = record.model.empty() ? "-" : record.model;
  metrics_.add("requests", "Requests that are over, by route, model and status.",
               {{"endpoint", route}, {"model", model}, {"code", std::to_string(record.status)}});
  metrics_.observe("request_seconds", "From a request's header to the end of its reply.",
                   {{"endpoint", route}, {"model", model}}, record.seconds);
  if (record.error) {
    metrics_.add("errors", "Requests that ended in an error, by its code.",
                 {{"code", std::string(name_of(*record.error))}});
  }
}

void MetricsPage::read_gauges(const EngineStatus& engine) {
  const auto set_lane = [&](const char* lane, int running, int waiting) {
    metrics_.set("requests_running", "Requests that are being computed.", {{"lane", lane}}, running);
    metrics_.set("requests_waiting", "Requests that wait for their first step.", {{"lane", lane}}, waiting);
  };
  set_lane("interactive", engine.running - engine.running_encodings, engine.waiting - engine.waiting_encodings);
  set_lane("encode", engine.running_encodings, engine.waiting_encodings);
  metrics_.set("engine_restarts", "Times the engine's process was started again.", {}, engine.restarts);
  metrics_.set("memory_used_bytes", "Resident bytes of the front and the engine.", {},
               static_cast<double>(memory_used_bytes(engine)));
  metrics_.set("conversations", "Stored conversations.", {}, conversations_.count());
  if (engine.last_step) {
    metrics_.set("last_step_age_seconds", "Since the last good step.", {},
                 milliseconds_between(*engine.last_step, clock_.steady_now()) / 1000);
  }
  metrics_.set("build_info", "Always 1.",
               {{"version", CORTEX_VERSION}, {"commit", CORTEX_COMMIT}, {"backend", engine.backend}}, 1);
}

void MetricsPage::read_models(const EngineStatus& engine) {
  for (const auto& model : engine.models) {
    for (const ModelState state : {ModelState::unloaded, ModelState::loading, ModelState::ready, ModelState::failed}) {
      metrics_.set("model_state", "1 for the state a model is in.",
                   {{"model", model.name}, {"state", std::string(name_of(state))}}, model.state == state ? 1 : 0);
    }
    if (model.kv.blocks > 0) decoders_.insert(model.name);
    if (!decoders_.contains(model.name)) continue;
    read_kv(model, engine.restarts);
    read_grammars(model, engine.restarts);
    read_drafts(model, engine.restarts);
  }
}

void MetricsPage::read_kv(const ModelStatus& model, int restarts) {
  const KvStatus& kv = model.kv;
  const auto set_blocks = [&](const char* state, int blocks) {
    metrics_.set("kv_blocks", "Blocks of a model's KV cache.", {{"model", model.name}, {"state", state}}, blocks);
  };
  set_blocks("used", kv.blocks_used);
  set_blocks("cached", kv.blocks_cached);
  set_blocks("free", kv.blocks - kv.blocks_used - kv.blocks_cached);
  const MetricLabels labels = {{"model", model.name}};
  metrics_.set("kv_usage_ratio", "The share of a model's KV blocks that sequences use.", labels, usage_of(kv));
  read_counter("prefix_query_tokens", "Tokens of prompts that were looked up in KV.", labels, restarts,
               kv.query_tokens);
  const char* hits = "Tokens of prompts that were found in KV.";
  read_counter("prefix_hit_tokens", hits, {{"model", model.name}, {"tier", "ram"}}, restarts, kv.memory_hit_tokens);
  read_counter("prefix_hit_tokens", hits, {{"model", model.name}, {"tier", "disk"}}, restarts, kv.disk_hit_tokens);
  read_counter("preemptions", "Sequences that made room for others.", labels, restarts, kv.preemptions);
}

void MetricsPage::read_grammars(const ModelStatus& model, int restarts) {
  const GrammarStatus& grammars = model.grammars;
  const auto read_outcome = [&](const char* outcome, std::uint64_t count) {
    read_counter("grammars", "Grammars that replies were to keep to, by what became of them.",
                 {{"model", model.name}, {"outcome", outcome}}, restarts, count);
  };
  read_outcome("compiled", grammars.compiled);
  read_outcome("reused", grammars.reused);
  read_outcome("refused", grammars.refused);
  const MetricLabels labels = {{"model", model.name}};
  read_counter("grammar_masks", "Rows for which a grammar said what may come.", labels, restarts, grammars.masks);
  read_total("grammar_mask_seconds", "That this took.", labels, restarts, grammars.masks_ms / 1e3);
}

void MetricsPage::read_drafts(const ModelStatus& model, int restarts) {
  const SpeculationStatus& drafts = model.speculation;
  const MetricLabels labels = {{"model", model.name}};
  read_counter("draft_tokens", "Tokens that were drafted.", labels, restarts, drafts.drafted);
  read_counter("draft_accepted_tokens", "Drafted tokens that were right.", labels, restarts, drafts.accepted);
  const auto steps = static_cast<double>(drafts.steps);
  metrics_.set("tokens_per_step", "Tokens of a sequence's step since the model was loaded, 1 without drafts.", labels,
               steps > 0.0 ? (steps + static_cast<double>(drafts.accepted)) / steps : 1.0);
  metrics_.set("draft_saved_seconds", "That drafts have saved since the model was loaded, by prediction.", labels,
               drafts.saved_ms / 1e3);
}

void MetricsPage::read_steps(const EngineStatus& engine) {
  for (const StepKind kind : {StepKind::prompt, StepKind::decode, StepKind::mixed, StepKind::encode}) {
    const StepCount& count = engine.step_counts.of(kind);
    read_histogram("step_seconds", "That a step took on the device, by what it carried.", kind, kStepSecondsBounds,
                   engine.restarts, count.seconds);
    read_histogram("step_tokens", "Tokens that a step computed, by what it carried.", kind, kStepTokensBounds,
                   engine.restarts, count.tokens);
  }
}

void MetricsPage::read_disk(const EngineStatus& engine) {
  const KvDiskStatus& disk = engine.kv_disk;
  metrics_.set("disk_used_bytes", "Bytes of KV blocks on disk.", {}, static_cast<double>(disk.bytes));
  read_counter("disk_read_bytes", "Bytes of KV blocks that were read.", {}, engine.restarts, disk.read_bytes);
  read_counter("disk_written_bytes", "Bytes of KV blocks that were written.", {}, engine.restarts, disk.written_bytes);
  for (const auto& [reason, count] : disk.rejected) {
    read_counter("disk_blocks_rejected", "Files of KV blocks that were not what they should be.", {{"reason", reason}},
                 engine.restarts, count);
  }
}

void MetricsPage::read_guard(const EngineStatus& engine) {
  const GuardStatus guard = guard_.status();
  const MonitorStatus* memory = guard.find("memory");
  const std::uint64_t ceiling = memory && memory->ceiling_bytes > 0 ? memory->ceiling_bytes : memory_ceiling_bytes();
  metrics_.set("memory_ceiling_bytes", "Bytes that the front and the engine may have.", {},
               static_cast<double>(ceiling));
  for (const MonitorStatus& monitor : guard.monitors) {
    const MetricLabels labels = {{"guard", monitor.name}};
    metrics_.set("guard_level", "The level that a monitor asks for, 0 to 4.", labels, monitor.level);
    if (monitor.pressure) {
      metrics_.set("guard_pressure_ratio", "What a monitor last read, 0 to 1.", labels, *monitor.pressure);
      metrics_.set("guard_age_seconds", "Since a monitor last read something.", labels, *monitor.age_s);
    }
    for (int from = 0; from <= kHighestLevel; ++from) {
      for (int to = std::max(from - 1, 0); to <= kHighestLevel; ++to) {  // down goes one at a time
        if (from == to) continue;
        const auto count = monitor.changes.at(static_cast<std::size_t>(from)).at(static_cast<std::size_t>(to));
        read_counter("guard_transitions", "Changes of a monitor's level.",
                     {{"guard", monitor.name}, {"from", std::to_string(from)}, {"to", std::to_string(to)}}, 0, count);
      }
    }
  }
  metrics_.set("guard_engine_level", "The level that the engine acts at.", {}, engine.level);
  read_counter("guard_preempted", "Sequences that a level made wait anew.", {}, engine.restarts,
               engine.guard_preempted);
  read_counter("guard_cancelled", "Requests that a level ended.", {}, engine.restarts, engine.guard_cancelled);
}

void MetricsPage::read_embed_cache() {
  metrics_.set("embed_cache_bytes", "Bytes of vectors and scores of texts that are kept.", {},
               static_cast<double>(embed_cache_.bytes()));
  for (const auto& [model, counts] : embed_cache_.counts()) {
    const MetricLabels labels = {{"model", model}};
    read_counter("embed_cache_hits", "Texts that were not computed for the request that had them.", labels, 0,
                 counts.hits);
    read_counter("embed_cache_misses", "Texts that were computed.", labels, 0, counts.misses);
  }
}

// The page's own goes on where the engine's starts again.
void MetricsPage::read_total(const std::string& name, const std::string& help, const MetricLabels& labels, int restarts,
                             double value) {
  const Told told = std::exchange(told_[{name, labels}], {restarts, value});
  const bool went_on = told.restarts == restarts && told.value <= value;
  metrics_.add(name, help, labels, went_on ? value - told.value : value);
}

void MetricsPage::read_histogram(const std::string& name, const std::string& help, StepKind kind,
                                 const StepBounds& bounds, int restarts, const StepHistogram& histogram) {
  const ToldHistogram told = std::exchange(told_histograms_[{name, kind}], {restarts, histogram});
  StepHistogram more = histogram;
  if (told.restarts == restarts && told.histogram.is_part_of(histogram)) {
    for (std::size_t i = 0; i < more.buckets.size(); ++i) more.buckets[i] -= told.histogram.buckets[i];
    more.sum -= told.histogram.sum;
  }
  metrics_.observe_counted(name, help, {{"kind", std::string(name_of(kind))}}, bounds, more.buckets, more.sum);
}

std::vector<MetricAlias> MetricsPage::aliases(const EngineStatus& engine) const {
  if (!vllm_names_) return {};
  const auto generates = [](const ServedModel& model) { return model.kind == ModelKind::chat; };
  const auto served = std::find_if(models_.all().begin(), models_.all().end(), generates);
  if (served == models_.all().end()) return {};
  const auto is_it = [&](const ModelStatus& model) { return model.name == served->name; };
  const auto status = std::find_if(engine.models.begin(), engine.models.end(), is_it);
  const auto now = std::chrono::duration_cast<std::chrono::seconds>(clock_.wall_now().time_since_epoch());
  return vllm_metrics(served->name, status == engine.models.end() ? KvStatus() : status->kv, now.count());
}

void MetricsPage::answer(HttpReply& reply) {
  std::string text;
  {
    std::lock_guard lock(mutex_);
    const EngineStatus engine = engine_.status();
    read_gauges(engine);
    read_models(engine);
    read_steps(engine);
    read_disk(engine);
    read_guard(engine);
    read_embed_cache();
    text = metrics_.text(aliases(engine));
  }
  reply.respond(200, {{"content-type", "text/plain; version=0.0.4"}}, std::move(text));
}

}  // namespace cortex
