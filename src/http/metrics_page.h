// GET /metrics: what was counted as it happened, and what the engine and others tell when the page is asked for. Owned
// by the front; any thread.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/metrics.h"
#include "engine/engine.h"
#include "engine/status.h"
#include "engine/step_counts.h"
#include "guard/guard.h"
#include "http/exchange.h"
#include "http/listener.h"
#include "service/conversations.h"
#include "service/embed_cache.h"
#include "service/models.h"

namespace cortex {

class MetricsPage {
 public:
  // `vllm_names`: with the names that vLLM has for some of it.
  MetricsPage(Metrics& metrics, const Models& models, const Engine& engine, const Guard& guard,
              Conversations& conversations, const EmbedCache& embed_cache, const Clock& clock, bool vllm_names)
      : metrics_(metrics),
        models_(models),
        engine_(engine),
        guard_(guard),
        conversations_(conversations),
        embed_cache_(embed_cache),
        clock_(clock),
        vllm_names_(vllm_names) {}

  void count(const RequestRecord& record);
  void answer(HttpReply& reply);

 private:
  // A counter of the engine's as it was last told. It starts again with the engine's process, and with its model.
  struct Told {
    int restarts = 0;
    double value = 0.0;
  };
  struct ToldHistogram {
    int restarts = 0;
    StepHistogram histogram;
  };

  void read_gauges(const EngineStatus& engine);
  void read_models(const EngineStatus& engine);
  void read_kv(const ModelStatus& model, int restarts);
  void read_grammars(const ModelStatus& model, int restarts);
  void read_drafts(const ModelStatus& model, int restarts);
  void read_steps(const EngineStatus& engine);
  void read_guard(const EngineStatus& engine);
  void read_embed_cache();
  void read_disk(const EngineStatus& engine);
  void read_counter(const std::string& name, const std::string& help, const MetricLabels& labels, int restarts,
                    std::uint64_t value) {
    read_total(name, help, labels, restarts, static_cast<double>(value));
  }
  void read_total(const std::string& name, const std::string& help, const MetricLabels& labels, int restarts,
                  double value);
  void read_histogram(const std::string& name, const std::string& help, StepKind kind, const StepBounds& bounds,
                      int restarts, const StepHistogram& histogram);
  std::vector<MetricAlias> aliases(const EngineStatus& engine) const;

  Metrics& metrics_;
  const Models& models_;
  const Engine& engine_;
  const Guard& guard_;
  Conversations& conversations_;
  const EmbedCache& embed_cache_;
  const Clock& clock_;
  const bool vllm_names_;

  std::mutex mutex_;  // guards what follows
  std::map<std::pair<std::string, MetricLabels>, Told> told_;
  std::map<std::pair<std::string, StepKind>, ToldHistogram> told_histograms_;
  std::set<std::string> decoders_;  // that have shown a KV cache
};

}  // namespace cortex
