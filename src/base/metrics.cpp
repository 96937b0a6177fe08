#include "base/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <mutex>

#include "base/error.h"

namespace cortex {
namespace {

// Seconds; from a cache hit to a long generation.
const prometheus::Histogram::BucketBoundaries kBuckets = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,  0.25,
                                                          0.5,   1.0,    2.5,   5.0,  10.0,  30.0, 60.0, 300.0};

template <typename Metric>
using Families = std::map<std::string, prometheus::Family<Metric>*>;

}  // namespace

struct Metrics::State {
  prometheus::Registry registry;
  std::mutex mutex;  // guards the maps; the metrics themselves are atomic
  Families<prometheus::Counter> counters;
  Families<prometheus::Gauge> gauges;
  Families<prometheus::Histogram> histograms;

  bool known(const std::string& name) const {
    return counters.contains(name) || gauges.contains(name) || histograms.contains(name);
  }

  template <typename Metric, typename Builder>
  prometheus::Family<Metric>& family(Families<Metric>* families, Builder builder, const std::string& name,
                                     const std::string& full_name, const std::string& help) {
    std::lock_guard lock(mutex);
    if (const auto found = families->find(name); found != families->end()) return *found->second;
    CORTEX_CHECK(!known(name));
    auto& made = builder.Name(full_name).Help(help).Register(registry);
    families->emplace(name, &made);
    return made;
  }
};

Metrics::Metrics() : state_(std::make_unique<State>()) {}
Metrics::~Metrics() = default;

void Metrics::add(const std::string& name, const std::string& help, const MetricLabels& labels, double amount) {
  state_->family(&state_->counters, prometheus::BuildCounter(), name, "cortex_" + name + "_total", help)
      .Add(labels)
      .Increment(amount);
}

void Metrics::set(const std::string& name, const std::string& help, const MetricLabels& labels, double value) {
  state_->family(&state_->gauges, prometheus::BuildGauge(), name, "cortex_" + name, help).Add(labels).Set(value);
}

void Metrics::observe(const std::string& name, const std::string& help, const MetricLabels& labels, double seconds) {
  state_->family(&state_->histograms, prometheus::BuildHistogram(), name, "cortex_" + name, help)
      .Add(labels, kBuckets)
      .Observe(seconds);
}

std::string Metrics::text() const { return prometheus::TextSerializer().Serialize(state_->registry.Collect()); }

}  // namespace cortex
