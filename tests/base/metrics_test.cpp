#include "base/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "base/error.h"

namespace cortex {
namespace {

using testing::HasSubstr;

TEST(Metrics, WritesPrometheusText) {
  Metrics metrics;
  metrics.add("requests", "Requests.", {{"endpoint", "/chat"}, {"code", "200"}});
  metrics.add("requests", "Requests.", {{"endpoint", "/chat"}, {"code", "200"}}, 2.0);
  metrics.set("requests_running", "Running.", {}, 3.0);
  metrics.observe("request_seconds", "Time.", {{"endpoint", "/chat"}}, 0.02);
  const std::string text = metrics.text();
  EXPECT_THAT(text, HasSubstr("# TYPE cortex_requests_total counter"));
  EXPECT_THAT(text, HasSubstr("cortex_requests_total{code=\"200\",endpoint=\"/chat\"} 3"));
  EXPECT_THAT(text, HasSubstr("cortex_requests_running 3"));
  EXPECT_THAT(text, HasSubstr("cortex_request_seconds_count{endpoint=\"/chat\"} 1"));
  EXPECT_THAT(text, HasSubstr("cortex_request_seconds_bucket{endpoint=\"/chat\",le=\"0.025\"} 1"));
}

TEST(Metrics, OneNameIsOneKind) {
  Metrics metrics;
  metrics.add("a", "A.", {});
  EXPECT_THROW(metrics.set("a", "A.", {}, 1.0), CheckFailure);
}

TEST(Metrics, LosesNoCountBetweenThreads) {
  Metrics metrics;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 500; ++i) metrics.add("n", "N.", {});
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_THAT(metrics.text(), HasSubstr("cortex_n_total 2000"));
}

}  // namespace
}  // namespace cortex
