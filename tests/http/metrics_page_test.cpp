#include "http/metrics_page.h"

#include <gmock/gmock.h>

#include <map>
#include <regex>
#include <sstream>

#include "http/front_fixture.h"

namespace cortex {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr const char* kHi = R"({"messages":[{"role":"user","content":"hi"}]})";

EngineStatus with_kv(EngineStatus status) {
  status.models[0].kv = {200, 50, 30, 2, 3, 1000, 600, 100, 4};
  status.models[0].grammars = {.compiled = 3, .reused = 5, .refused = 1, .masks = 900, .masks_ms = 18.0};
  status.models[0].speculation = {.steps = 400, .drafted = 150, .accepted = 100, .saved_ms = 250.0};
  status.kv_disk = {"ok", "", false, 4096, 8192, 2, 500, 700, {{"checksum", 1}}};
  return status;
}

class MetricsPageTest : public FrontFixture {
 protected:
  // The value of a series, by its text before the space.
  double value(const std::string& series) {
    std::istringstream lines(get("/metrics").body);
    for (std::string line; std::getline(lines, line);) {
      if (line.starts_with(series + " ")) return std::stod(line.substr(series.size() + 1));
    }
    ADD_FAILURE() << "there is no " << series;
    return -1;
  }
};

TEST_F(MetricsPageTest, TellsWhatTheCachesHoldAndHaveDone) {
  engine_.set_status(with_kv(ready_status()));
  front_ = make(engine_);
  const std::map<std::string, double> expected = {
      {R"(cortex_kv_blocks{model="chat",state="used"})", 50},
      {R"(cortex_kv_blocks{model="chat",state="cached"})", 30},
      {R"(cortex_kv_blocks{model="chat",state="free"})", 120},
      {R"(cortex_kv_usage_ratio{model="chat"})", 0.25},
      {R"(cortex_prefix_query_tokens_total{model="chat"})", 1000},
      {R"(cortex_prefix_hit_tokens_total{model="chat",tier="ram"})", 600},
      {R"(cortex_prefix_hit_tokens_total{model="chat",tier="disk"})", 100},
      {R"(cortex_preemptions_total{model="chat"})", 4},
      {R"(cortex_grammars_total{model="chat",outcome="compiled"})", 3},
      {R"(cortex_grammars_total{model="chat",outcome="reused"})", 5},
      {R"(cortex_grammars_total{model="chat",outcome="refused"})", 1},
      {R"(cortex_grammar_masks_total{model="chat"})", 900},
      {R"(cortex_grammar_mask_seconds_total{model="chat"})", 0.018},
      {R"(cortex_draft_tokens_total{model="chat"})", 150},
      {R"(cortex_draft_accepted_tokens_total{model="chat"})", 100},
      {R"(cortex_tokens_per_step{model="chat"})", 1.25},
      {R"(cortex_draft_saved_seconds{model="chat"})", 0.25},
      {"cortex_disk_used_bytes", 4096},
      {"cortex_disk_written_bytes_total", 500},
      {"cortex_disk_read_bytes_total", 700},
      {R"(cortex_disk_blocks_rejected_total{reason="checksum"})", 1},
  };
  for (const auto& [series, wanted] : expected) EXPECT_EQ(value(series), wanted) << series;
  EXPECT_THAT(get("/metrics").body, Not(HasSubstr(R"(kv_blocks{model="embed")")));
}

TEST_F(MetricsPageTest, CountersGoOnWhereTheEnginesStartAgain) {
  EngineStatus status = with_kv(ready_status());
  engine_.set_status(status);
  front_ = make(engine_);
  const std::string queries = R"(cortex_prefix_query_tokens_total{model="chat"})";
  EXPECT_EQ(value(queries), 1000);
  EXPECT_EQ(value(queries), 1000);
  status.models[0].kv.query_tokens = 1500;
  engine_.set_status(status);
  EXPECT_EQ(value(queries), 1500);

  // The process is away, and back with counters of its own, which may have passed the old ones unseen.
  status.models[0].kv = {};
  status.kv_disk.written_bytes = 0;
  engine_.set_status(status);
  EXPECT_EQ(value(queries), 1500);
  EXPECT_EQ(value(R"(cortex_kv_blocks{model="chat",state="used"})"), 0);
  status.restarts = 1;
  status.models[0].kv.query_tokens = 10;
  engine_.set_status(status);
  EXPECT_EQ(value(queries), 1510);
  status.restarts = 2;
  status.models[0].kv.query_tokens = 4000;
  status.kv_disk.written_bytes = 50;
  engine_.set_status(status);
  EXPECT_EQ(value(queries), 5510);
  EXPECT_EQ(value("cortex_disk_written_bytes_total"), 550);

  // The model alone starts again.
  status.models[0].kv.query_tokens = 7;
  engine_.set_status(status);
  EXPECT_EQ(value(queries), 5517);
}

TEST_F(MetricsPageTest, StepsAreCountedByWhatTheyCarried) {
  EngineStatus status = ready_status();
  engine_.set_status(status);
  front_ = make(engine_);
  const std::string page = get("/metrics").body;
  EXPECT_THAT(page, HasSubstr("# TYPE cortex_step_seconds histogram\n"));
  EXPECT_THAT(page, HasSubstr("# TYPE cortex_step_tokens histogram\n"));
  for (const char* kind : {"prompt", "decode", "mixed", "encode"}) {
    EXPECT_EQ(value("cortex_step_seconds_count{kind=\"" + std::string(kind) + "\"}"), 0) << kind;
    EXPECT_EQ(value("cortex_step_tokens_bucket{kind=\"" + std::string(kind) + "\",le=\"+Inf\"}"), 0) << kind;
  }

  status.step_counts.observe(StepKind::decode, 0.25, 3);
  status.step_counts.observe(StepKind::decode, 0.004, 40);
  status.step_counts.observe(StepKind::mixed, 20.0, 30000);
  engine_.set_status(status);
  const std::map<std::string, double> expected = {
      {R"(cortex_step_seconds_count{kind="decode"})", 2},
      {R"(cortex_step_seconds_sum{kind="decode"})", 0.254},
      {R"(cortex_step_seconds_bucket{kind="decode",le="0.002"})", 0},
      {R"(cortex_step_seconds_bucket{kind="decode",le="0.005"})", 1},
      {R"(cortex_step_seconds_bucket{kind="decode",le="0.2"})", 1},
      {R"(cortex_step_seconds_bucket{kind="decode",le="0.5"})", 2},
      {R"(cortex_step_tokens_count{kind="decode"})", 2},
      {R"(cortex_step_tokens_sum{kind="decode"})", 43},
      {R"(cortex_step_tokens_bucket{kind="decode",le="2"})", 0},
      {R"(cortex_step_tokens_bucket{kind="decode",le="4"})", 1},
      {R"(cortex_step_tokens_bucket{kind="decode",le="64"})", 2},
      {R"(cortex_step_seconds_bucket{kind="mixed",le="10"})", 0},
      {R"(cortex_step_tokens_bucket{kind="mixed",le="16384"})", 0},
      {R"(cortex_step_tokens_bucket{kind="mixed",le="+Inf"})", 1},
      {R"(cortex_step_tokens_count{kind="prompt"})", 0},
      {R"(cortex_step_tokens_count{kind="encode"})", 0},
  };
  for (const auto& [series, wanted] : expected) EXPECT_EQ(value(series), wanted) << series;
}

TEST_F(MetricsPageTest, StepsGoOnWhereTheEnginesProcessStartsAgain) {
  const std::string steps = R"(cortex_step_tokens_count{kind="decode"})";
  const std::string tokens = R"(cortex_step_tokens_sum{kind="decode"})";
  EngineStatus status = ready_status();
  status.step_counts.observe(StepKind::decode, 0.25, 3);
  engine_.set_status(status);
  front_ = make(engine_);
  EXPECT_EQ(value(steps), 1);
  EXPECT_EQ(value(steps), 1);
  status.step_counts.observe(StepKind::decode, 0.25, 4);
  engine_.set_status(status);
  EXPECT_EQ(value(steps), 2);

  // The process is away, and back with counts of its own, which may have passed the old ones unseen.
  status.step_counts = {};
  engine_.set_status(status);
  EXPECT_EQ(value(steps), 2);
  status.restarts = 1;
  engine_.set_status(status);
  EXPECT_EQ(value(steps), 2);
  status.step_counts.observe(StepKind::decode, 0.25, 5);
  engine_.set_status(status);
  EXPECT_EQ(value(steps), 3);
  status.restarts = 2;
  for (int i = 0; i < 10; ++i) status.step_counts.observe(StepKind::decode, 0.25, 100);
  engine_.set_status(status);
  EXPECT_EQ(value(steps), 14);
  EXPECT_EQ(value(tokens), 3 + 4 + 5 + 5 + 1000);
  EXPECT_EQ(value(R"(cortex_step_tokens_bucket{kind="decode",le="64"})"), 4);
}

TEST_F(MetricsPageTest, TokensAndTheirTimesAreCounted) {
  engine_.set_status(ready_status());
  front_ = make(engine_);
  post("/chat", kHi);
  post("/chat", kHi);
  EXPECT_GT(value(R"(cortex_prompt_tokens_total{model="chat"})"), 2);
  EXPECT_EQ(value(R"(cortex_generation_tokens_total{model="chat"})"), 8);
  EXPECT_EQ(value(R"(cortex_ttft_seconds_count{model="chat"})"), 2);
  EXPECT_EQ(value(R"(cortex_inter_token_seconds_count{model="chat"})"), 6);
  EXPECT_EQ(value(R"(cortex_generation_seconds_count{model="chat"})"), 2);
  EXPECT_EQ(value(R"(cortex_queue_seconds_count{lane="interactive"})"), 2);
}

TEST_F(MetricsPageTest, RequestsAreCountedByTheModelThatServedThemAndErrorsByTheirCode) {
  engine_.set_status(ready_status());
  front_ = make(engine_);
  post("/chat", kHi);
  post("/embed", R"({"inputs":"a"})");
  post("/embed", R"({"inputs":"a"})");
  post("/rerank", R"({"query":"a","texts":["a","b"]})");
  EXPECT_EQ(value(R"(cortex_requests_total{code="200",endpoint="/chat",model="chat"})"), 1);
  EXPECT_EQ(value(R"(cortex_requests_total{code="200",endpoint="/embed",model="embed"})"), 2);
  EXPECT_EQ(value(R"(cortex_request_seconds_count{endpoint="/embed",model="embed"})"), 2);
  EXPECT_THAT(get("/metrics").body, Not(HasSubstr("cortex_errors_total{")));
  post("/embed", R"({"inputs":)");
  post("/chat", R"({"messages":"hi"})");
  post("/chat", R"({"messages":[],"model":"no-such-model"})");
  get("/no-such-path");
  EXPECT_EQ(value(R"(cortex_errors_total{code="invalid_json"})"), 1);
  EXPECT_EQ(value(R"(cortex_errors_total{code="invalid_type"})"), 1);
  EXPECT_EQ(value(R"(cortex_errors_total{code="not_found"})"), 1);
  EXPECT_THAT(get("/metrics").body, Not(HasSubstr("no-such")));
}

TEST_F(MetricsPageTest, EachLaneHasItsOwn) {
  EngineStatus status = ready_status();
  status.running = 5;
  status.running_encodings = 2;
  status.waiting = 9;
  status.waiting_encodings = 6;
  engine_.set_status(status);
  front_ = make(engine_);
  EXPECT_EQ(value(R"(cortex_requests_running{lane="interactive"})"), 3);
  EXPECT_EQ(value(R"(cortex_requests_running{lane="encode"})"), 2);
  EXPECT_EQ(value(R"(cortex_requests_waiting{lane="interactive"})"), 3);
  EXPECT_EQ(value(R"(cortex_requests_waiting{lane="encode"})"), 6);
  post("/embed", R"({"inputs":"a"})");
  EXPECT_EQ(value(R"(cortex_queue_seconds_count{lane="encode"})"), 1);
}

TEST_F(MetricsPageTest, VllmsNamesAreThereWhenAskedFor) {
  engine_.set_status(with_kv(ready_status()));
  front_ = make(engine_);
  EXPECT_THAT(get("/metrics").body, Not(HasSubstr("vllm:")));
  front_->stop();
  front_ = make_with_vllm_names(engine_);
  const std::string labels = R"(engine="0",model_name="chat")";
  // Histograms of what has not happened yet are there all the same.
  EXPECT_EQ(value("vllm:time_to_first_token_seconds_count{" + labels + "}"), 0);
  post("/chat", kHi);
  const std::map<std::string, double> expected = {
      {"vllm:num_requests_running{" + labels + "}", 2},
      {"vllm:num_requests_waiting{" + labels + "}", 3},
      {"vllm:kv_cache_usage_perc{" + labels + "}", 0.25},
      {R"(vllm:cache_config_info{block_size="16",engine="0",model_name="chat",num_gpu_blocks="200"})", 1},
      {"vllm:generation_tokens_total{" + labels + "}", 4},
      {"vllm:num_preemptions_total{" + labels + "}", 4},
      {"vllm:prefix_cache_queries_total{" + labels + "}", 1000},
      {"vllm:prefix_cache_hits_total{" + labels + "}", 700},
      {R"(vllm:request_success_total{engine="0",finished_reason="stop",model_name="chat"})", 1},
      {R"(vllm:request_success_total{engine="0",finished_reason="length",model_name="chat"})", 0},
      {"vllm:time_to_first_token_seconds_count{" + labels + "}", 1},
      {"vllm:inter_token_latency_seconds_count{" + labels + "}", 3},
      {"vllm:e2e_request_latency_seconds_count{" + labels + "}", 1},
  };
  for (const auto& [series, wanted] : expected) EXPECT_EQ(value(series), wanted) << series;
  EXPECT_GT(value("vllm:prompt_tokens_total{" + labels + "}"), 0);
  EXPECT_GT(value(R"(vllm:lora_requests_info{engine="0",max_lora="0",model_name="chat",running_lora_adapters="",)"
                  R"(waiting_lora_adapters=""})"),
            1.6e9);
}

TEST_F(MetricsPageTest, OfVllmsFamiliesEachHasOneSeries) {
  engine_.set_status(with_kv(ready_status()));
  front_ = make_with_vllm_names(engine_);
  post("/chat", kHi);
  std::map<std::string, int> series;
  std::istringstream lines(get("/metrics").body);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("vllm:") && line.find("_bucket{") == std::string::npos)
      ++series[line.substr(0, line.find('{'))];
  }
  EXPECT_EQ(series.size(), 5u + 6 + 2 * 3);
  for (const auto& [name, count] : series) EXPECT_EQ(count, name == "vllm:request_success_total" ? 2 : 1) << name;
}

TEST_F(MetricsPageTest, EveryLineIsPrometheusText) {
  engine_.set_status(with_kv(ready_status()));
  front_ = make_with_vllm_names(engine_);
  post("/chat", kHi);
  post("/embed", R"({"inputs":"a"})");
  post("/rerank", R"({"query":"a","texts":["a","b"]})");
  const std::regex line_of(
      R"re((# (HELP|TYPE) [a-z_:0-9]+ .+)|([a-z_:0-9]+(\{[a-z_]+="[^"]*"(,[a-z_]+="[^"]*")*\})? \S+))re");
  std::map<std::string, int> types;
  std::istringstream lines(get("/metrics").body);
  for (std::string line; std::getline(lines, line);) {
    EXPECT_TRUE(std::regex_match(line, line_of)) << line;
    if (line.starts_with("# TYPE ")) ++types[line.substr(7, line.find(' ', 7) - 7)];
  }
  for (const auto& [name, count] : types) EXPECT_EQ(count, 1) << name;
  for (const char* name : {"cortex_encode_tokens_total", "cortex_rerank_pairs_total", "cortex_kv_usage_ratio"}) {
    EXPECT_TRUE(types.contains(name)) << name;
  }
}

}  // namespace
}  // namespace cortex
