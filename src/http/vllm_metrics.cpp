#include "http/vllm_metrics.h"

#include <utility>

namespace cortex {
namespace {

using Kind = MetricAlias::Kind;

class Aliases {
 public:
  explicit Aliases(std::string model) : model_(std::move(model)) {}

  void add_gauge(const char* name, const char* help, double value, MetricLabels more = {}) {
    aliases_.push_back({"vllm:" + std::string(name), help, Kind::gauge, labels(std::move(more)), "", {}, value});
  }

  void add_source(Kind kind, const char* name, const char* help, const char* source, MetricLabels more = {},
                  MetricLabels of = {}) {
    of.emplace("model", model_);
    aliases_.push_back({"vllm:" + std::string(name), help, kind, labels(std::move(more)), source, std::move(of), 0});
  }

  std::vector<MetricAlias> take() { return std::move(aliases_); }

 private:
  MetricLabels labels(MetricLabels more) const {
    more.emplace("model_name", model_);
    more.emplace("engine", "0");
    return more;
  }

  std::string model_;
  std::vector<MetricAlias> aliases_;
};

void add_gauges(const KvStatus& kv, std::int64_t now_s, Aliases* aliases) {
  aliases->add_gauge("num_requests_running", "Sequences that are being computed.", kv.running);
  aliases->add_gauge("num_requests_waiting", "Sequences that wait.", kv.waiting);
  aliases->add_gauge("kv_cache_usage_perc", "The share of KV blocks that sequences use, 0 to 1.", usage_of(kv));
  aliases->add_gauge("cache_config_info", "Always 1.", 1,
                     {{"block_size", std::to_string(kBlockTokens)}, {"num_gpu_blocks", std::to_string(kv.blocks)}});
  aliases->add_gauge("lora_requests_info", "Unix time; there are no adapters.", static_cast<double>(now_s),
                     {{"max_lora", "0"}, {"running_lora_adapters", ""}, {"waiting_lora_adapters", ""}});
}

void add_counters(Aliases* aliases) {
  aliases->add_source(Kind::counter, "prompt_tokens_total", "Tokens of prompts.", "prompt_tokens");
  aliases->add_source(Kind::counter, "generation_tokens_total", "Tokens that were sampled.", "generation_tokens");
  aliases->add_source(Kind::counter, "num_preemptions_total", "Sequences that made room for others.", "preemptions");
  aliases->add_source(Kind::counter, "prefix_cache_queries_total", "Tokens of prompts that were looked up.",
                      "prefix_query_tokens");
  aliases->add_source(Kind::counter, "prefix_cache_hits_total", "Tokens of prompts that were found.",
                      "prefix_hit_tokens");
  for (const char* reason : {"stop", "length"}) {
    aliases->add_source(Kind::counter, "request_success_total", "Generations that came to their end.", "finished",
                        {{"finished_reason", reason}}, {{"reason", reason}});
  }
}

void add_histograms(Aliases* aliases) {
  aliases->add_source(Kind::histogram, "time_to_first_token_seconds", "From a request to its first token.",
                      "ttft_seconds");
  aliases->add_source(Kind::histogram, "inter_token_latency_seconds", "From a token of a generation to its next.",
                      "inter_token_seconds");
  aliases->add_source(Kind::histogram, "e2e_request_latency_seconds", "From a request to the end of what it generates.",
                      "generation_seconds");
}

}  // namespace

double usage_of(const KvStatus& kv) { return kv.blocks > 0 ? static_cast<double>(kv.blocks_used) / kv.blocks : 0.0; }

std::vector<MetricAlias> vllm_metrics(const std::string& model, const KvStatus& kv, std::int64_t now_s) {
  Aliases aliases(model);
  add_gauges(kv, now_s, &aliases);
  add_counters(&aliases);
  add_histograms(&aliases);
  return aliases.take();
}

}  // namespace cortex
