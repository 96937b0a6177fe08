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

TEST(Metrics, AnAliasSumsItsSourceUnderAnotherName) {
  Metrics metrics;
  metrics.add("hit_tokens", "Hits.", {{"model", "a"}, {"tier", "ram"}}, 5);
  metrics.add("hit_tokens", "Hits.", {{"model", "a"}, {"tier", "disk"}}, 2);
  metrics.add("hit_tokens", "Hits.", {{"model", "b"}, {"tier", "ram"}}, 100);
  metrics.observe("ttft_seconds", "Time.", {{"model", "a"}}, 0.02);
  const MetricLabels labels = {{"model_name", "a"}};
  using Kind = MetricAlias::Kind;
  const std::string text =
      metrics.text({{"other:hits_total", "H.", Kind::counter, labels, "hit_tokens", {{"model", "a"}}},
                    {"other:first", "F.", Kind::histogram, labels, "ttft_seconds", {{"model", "a"}}},
                    {"other:never", "N.", Kind::histogram, labels, "unknown", {}},
                    {"other:state", "S.", Kind::gauge, {{"is", "up"}}, "", {}, 1},
                    {"other:state", "S.", Kind::gauge, {{"is", "down"}}, "", {}, 0}});
  EXPECT_THAT(text, HasSubstr("# TYPE other:hits_total counter\nother:hits_total{model_name=\"a\"} 7\n"));
  EXPECT_THAT(text, HasSubstr("other:first_count{model_name=\"a\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("other:first_bucket{model_name=\"a\",le=\"0.01\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("other:first_bucket{model_name=\"a\",le=\"0.025\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("other:never_bucket{model_name=\"a\",le=\"+Inf\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("# TYPE other:state gauge\nother:state{is=\"up\"} 1\nother:state{is=\"down\"} 0\n"));
}

TEST(Metrics, TakesInWhatWasCountedElsewhere) {
  Metrics metrics;
  const std::vector<double> bounds = {1.0, 8.0};
  metrics.observe_counted("step_tokens", "Tokens.", {{"kind", "decode"}}, bounds, std::vector<std::uint64_t>{3, 1, 0},
                          7.5);
  metrics.observe_counted("step_tokens", "Tokens.", {{"kind", "decode"}}, bounds, std::vector<std::uint64_t>{0, 2, 1},
                          40.0);
  metrics.observe_counted("step_tokens", "Tokens.", {{"kind", "prompt"}}, bounds, std::vector<std::uint64_t>{0, 0, 0},
                          0.0);
  const std::string text = metrics.text();
  EXPECT_THAT(text, HasSubstr("# TYPE cortex_step_tokens histogram\n"));
  EXPECT_THAT(text, HasSubstr("cortex_step_tokens_count{kind=\"decode\"} 7\n"));
  EXPECT_THAT(text, HasSubstr("cortex_step_tokens_sum{kind=\"decode\"} 47.5\n"));
  EXPECT_THAT(text, HasSubstr("cortex_step_tokens_bucket{kind=\"decode\",le=\"1\"} 3\n"));
  EXPECT_THAT(text, HasSubstr("cortex_step_tokens_bucket{kind=\"decode\",le=\"8\"} 6\n"));
  EXPECT_THAT(text, HasSubstr("cortex_step_tokens_bucket{kind=\"decode\",le=\"+Inf\"} 7\n"));
  EXPECT_THAT(text, HasSubstr("cortex_step_tokens_count{kind=\"prompt\"} 0\n"));
  EXPECT_THROW(metrics.observe_counted("step_tokens", "", {}, bounds, std::vector<std::uint64_t>{1}, 1.0),
               CheckFailure);
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
