// The process's metrics in Prometheus' text format, over prometheus-cpp's registry. Families are made at start; values
// may be set from any thread. Label values never come from a request.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace cortex {

using MetricLabels = std::map<std::string, std::string>;

// One series under a name that another program looks for.
struct MetricAlias {
  enum class Kind { counter, gauge, histogram };

  std::string name;  // whole; aliases of one name stand together
  std::string help;
  Kind kind = Kind::gauge;
  MetricLabels labels;
  // What counts or observes it here, as add() and observe() were told, summed over all series that have these labels;
  // empty: `value` is it.
  std::string source;
  MetricLabels source_labels;
  double value = 0.0;
};

class Metrics {
 public:
  Metrics();
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  // Names come with the prefix "cortex_", counters also with "_total". The first use of a name makes its family with
  // `help`; one name is one kind. Throws CheckFailure otherwise.
  void add(const std::string& name, const std::string& help, const MetricLabels& labels, double amount = 1.0);
  void set(const std::string& name, const std::string& help, const MetricLabels& labels, double value);
  void observe(const std::string& name, const std::string& help, const MetricLabels& labels, double seconds);
  // Values that somebody else has counted: of buckets [bounds + 1] each has those above the bound before it and up to
  // its own. One name has the same bounds each time.
  void observe_counted(const std::string& name, const std::string& help, const MetricLabels& labels,
                       std::span<const double> bounds, std::span<const std::uint64_t> buckets, double sum);

  // Content type: text/plain; version=0.0.4. The aliases follow; one whose source is not there yet is 0.
  std::string text(const std::vector<MetricAlias>& aliases = {}) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace cortex
