#include "base/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <limits>
#include <mutex>

#include "base/error.h"

namespace cortex {
namespace {

// Seconds; from a cache hit to a long generation.
const prometheus::Histogram::BucketBoundaries kBuckets = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,  0.25,
                                                          0.5,   1.0,    2.5,   5.0,  10.0,  30.0, 60.0, 300.0};

template <typename Metric>
using Families = std::map<std::string, prometheus::Family<Metric>*>;

std::string counter_name(const std::string& name) { return "cortex_" + name + "_total"; }
std::string plain_name(const std::string& name) { return "cortex_" + name; }

prometheus::MetricType type_of(MetricAlias::Kind kind) {
  switch (kind) {
    case MetricAlias::Kind::counter:
      return prometheus::MetricType::Counter;
    case MetricAlias::Kind::gauge:
      return prometheus::MetricType::Gauge;
    case MetricAlias::Kind::histogram:
      return prometheus::MetricType::Histogram;
  }
  return prometheus::MetricType::Untyped;
}

bool has_labels(const prometheus::ClientMetric& series, const MetricLabels& labels) {
  return std::all_of(labels.begin(), labels.end(), [&](const auto& label) {
    const prometheus::ClientMetric::Label wanted{label.first, label.second};
    return std::find(series.label.begin(), series.label.end(), wanted) != series.label.end();
  });
}

void add_histogram(const prometheus::ClientMetric::Histogram& from, prometheus::ClientMetric::Histogram* to) {
  to->sample_count += from.sample_count;
  to->sample_sum += from.sample_sum;
  if (to->bucket.empty()) {
    to->bucket = from.bucket;  // bounds are the same everywhere
    return;
  }
  for (std::size_t i = 0; i < from.bucket.size(); ++i)
    to->bucket[i].cumulative_count += from.bucket[i].cumulative_count;
}

prometheus::ClientMetric series_of(const MetricAlias& alias, const std::vector<prometheus::MetricFamily>& families) {
  prometheus::ClientMetric series;
  for (const auto& [name, value] : alias.labels) series.label.push_back({name, value});
  series.gauge.value = series.counter.value = alias.value;
  const bool counts = alias.kind == MetricAlias::Kind::counter;
  const std::string source = counts ? counter_name(alias.source) : plain_name(alias.source);
  for (const auto& family : families) {
    if (alias.source.empty() || family.name != source) continue;
    for (const auto& found : family.metric) {
      if (!has_labels(found, alias.source_labels)) continue;
      series.counter.value += found.counter.value;
      add_histogram(found.histogram, &series.histogram);
    }
  }
  if (series.histogram.bucket.empty()) series.histogram.bucket = {{0, std::numeric_limits<double>::infinity()}};
  return series;
}

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
  state_->family(&state_->counters, prometheus::BuildCounter(), name, counter_name(name), help)
      .Add(labels)
      .Increment(amount);
}

void Metrics::set(const std::string& name, const std::string& help, const MetricLabels& labels, double value) {
  state_->family(&state_->gauges, prometheus::BuildGauge(), name, plain_name(name), help).Add(labels).Set(value);
}

void Metrics::observe(const std::string& name, const std::string& help, const MetricLabels& labels, double seconds) {
  state_->family(&state_->histograms, prometheus::BuildHistogram(), name, plain_name(name), help)
      .Add(labels, kBuckets)
      .Observe(seconds);
}

void Metrics::observe_counted(const std::string& name, const std::string& help, const MetricLabels& labels,
                              std::span<const double> bounds, std::span<const std::uint64_t> buckets, double sum) {
  CORTEX_CHECK(buckets.size() == bounds.size() + 1);
  state_->family(&state_->histograms, prometheus::BuildHistogram(), name, plain_name(name), help)
      .Add(labels, prometheus::Histogram::BucketBoundaries(bounds.begin(), bounds.end()))
      .ObserveMultiple({buckets.begin(), buckets.end()}, sum);
}

std::string Metrics::text(const std::vector<MetricAlias>& aliases) const {
  std::vector<prometheus::MetricFamily> families = state_->registry.Collect();
  const std::size_t own = families.size();
  for (const MetricAlias& alias : aliases) {
    prometheus::ClientMetric series = series_of(alias, families);
    if (families.size() == own || families.back().name != alias.name) {
      families.push_back({alias.name, alias.help, type_of(alias.kind), {}});
    }
    families.back().metric.push_back(std::move(series));
  }
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace cortex
