#include "bench/load/load_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <map>

#include "base/json_writer.h"

namespace cortex {
namespace {

double rounded(double value) { return std::round(value * 1000.0) / 1000.0; }

const char* name_of(Arrival arrival) {
  switch (arrival) {
    case Arrival::at_once:
      return "at_once";
    case Arrival::one_after_another:
      return "sequential";
    case Arrival::poisson:
      return "poisson";
  }
  return "";
}

std::span<const ChatRun> long_runs(const LoadResult& result) {
  return result.long_chat ? std::span(&*result.long_chat, 1) : std::span<const ChatRun>();
}

// How often each thing went wrong.
std::map<std::string, int> errors_in(const LoadResult& result) {
  std::map<std::string, int> errors;
  const auto count = [&](const auto& runs) {
    for (const auto& run : runs) {
      if (!run.error.empty()) ++errors[run.error];
    }
  };
  count(result.chats);
  count(long_runs(result));
  count(result.embeds);
  return errors;
}

std::vector<double> embed_ms(const LoadResult& result) {
  std::vector<double> ms;
  for (const EmbedRun& run : result.embeds) {
    if (run.error.empty()) ms.push_back(run.ms);
  }
  return ms;
}

// Lines for people
// -----------------------------------------------------------------------------------------------------

std::string words_of(const Spread& spread) {
  return fmt::format("p50 {:.1f}  p90 {:.1f}  p99 {:.1f}  max {:.1f} ms", spread.p50, spread.p90, spread.p99,
                     spread.max);
}

std::string arrival_words(const LoadOptions& options) {
  switch (options.arrival) {
    case Arrival::at_once:
      return "all at once";
    case Arrival::one_after_another:
      return "one after another";
    case Arrival::poisson:
      return fmt::format("{:g} a second at random", options.chats_per_second);
  }
  return "";
}

void add_chats(std::string* text, const LoadOptions& options, const ChatFigures& figures, const ServiceGoal& goal) {
  const auto out = std::back_inserter(*text);
  fmt::format_to(out, "chats            {}, {}; {} failed, {} of the others ended at {} tokens\n", figures.chats,
                 arrival_words(options), figures.failed, figures.ended_at_limit, options.output_tokens);
  fmt::format_to(out, "tokens           {} of prompts, {:.1f} % of them cached; {} of replies\n",
                 figures.usage.prompt_tokens, 100.0 * figures.hit_rate(), figures.usage.output_tokens);
  fmt::format_to(out, "first token      {}\n", words_of(figures.first_token_ms));
  fmt::format_to(out, "between tokens   {}\n", words_of(figures.between_tokens_ms));
  fmt::format_to(out, "throughput       {:.1f} tokens/s of replies, {:.1f} with prompts, in {:.2f} s\n",
                 figures.output_tokens_per_s, figures.total_tokens_per_s, figures.wall_ms / 1000.0);
  fmt::format_to(out, "goodput          {:.1f} tokens/s of {} chats (first token in {:g} ms, then {:g} ms a token)\n",
                 figures.good_tokens_per_s, figures.good, goal.first_token_ms, goal.token_ms);
}

// JSON
// ------------------------------------------------------------------------------------------------------------------

void write(JsonWriter& json, const Spread& spread) {
  json.begin_object().key("p50").number(rounded(spread.p50)).key("p90").number(rounded(spread.p90));
  json.key("p99").number(rounded(spread.p99)).key("max").number(rounded(spread.max)).end_object();
}

void write_usage(JsonWriter& json, const ChatUsage& usage) {
  json.key("prompt_tokens").integer(usage.prompt_tokens).key("cached_tokens").integer(usage.cached_tokens);
  json.key("output_tokens").integer(usage.output_tokens);
}

void write_each(JsonWriter& json, std::span<const ChatRun> runs) {
  json.begin_array();
  for (const ChatRun& run : runs) {
    json.begin_object().key("start_ms").number(rounded(run.start_ms));
    json.key("first_token_ms").number(rounded(run.first_token_ms())).key("token_ms").number(rounded(run.token_ms()));
    json.key("end_ms").number(rounded(run.end_ms));
    write_usage(json, run.usage);
    json.key("finish_reason").string(run.finish_reason);
    if (!run.error.empty()) json.key("error").string(run.error);
    json.end_object();
  }
  json.end_array();
}

void write_chats(JsonWriter& json, std::span<const ChatRun> runs, const ServiceGoal& goal) {
  const ChatFigures figures = figures_of(runs, goal);
  json.begin_object().key("chats").integer(figures.chats).key("failed").integer(figures.failed);
  json.key("ended_at_limit").integer(figures.ended_at_limit).key("good").integer(figures.good);
  write_usage(json, figures.usage);
  json.key("hit_rate").number(rounded(figures.hit_rate()));
  write(json.key("first_token_ms"), figures.first_token_ms);
  write(json.key("between_tokens_ms"), figures.between_tokens_ms);
  json.key("wall_ms").number(rounded(figures.wall_ms));
  json.key("output_tokens_per_s").number(rounded(figures.output_tokens_per_s));
  json.key("total_tokens_per_s").number(rounded(figures.total_tokens_per_s));
  json.key("good_tokens_per_s").number(rounded(figures.good_tokens_per_s));
  write_each(json.key("each"), runs);
  json.end_object();
}

void write_load(JsonWriter& json, const LoadOptions& options, const ServiceGoal& goal) {
  json.begin_object().key("chats").integer(options.chats).key("arrival").string(name_of(options.arrival));
  if (options.arrival == Arrival::poisson) json.key("chats_per_s").number(options.chats_per_second);
  json.key("prompt_tokens").integer(options.prompt_tokens).key("prefix_tokens").integer(options.prefix_tokens);
  json.key("output_tokens").integer(options.output_tokens).key("seed").unsigned_integer(options.seed);
  json.key("goal_first_token_ms").number(goal.first_token_ms).key("goal_token_ms").number(goal.token_ms);
  json.end_object();
}

}  // namespace

int failures_in(const LoadResult& result) {
  int failures = 0;
  for (const auto& [error, count] : errors_in(result)) failures += count;
  return failures;
}

std::string report_text(const LoadOptions& options, const LoadResult& result, const ServiceGoal& goal) {
  std::string text;
  const auto out = std::back_inserter(text);
  if (!result.chats.empty()) add_chats(&text, options, figures_of(result.chats, goal), goal);
  if (result.long_chat) {
    const ChatRun& run = *result.long_chat;
    fmt::format_to(out, "long prompt      {} tokens after {:.0f} ms: first token {:.1f} ms, then {:.1f} ms a token\n",
                   run.usage.prompt_tokens, run.start_ms, run.first_token_ms(), run.token_ms());
  }
  if (!result.embeds.empty()) {
    fmt::format_to(out, "embeddings       {} calls of {} texts: {}\n", result.embeds.size(), options.embed_texts,
                   words_of(spread_of(embed_ms(result))));
  }
  if (result.most_bytes > 0) {
    fmt::format_to(out, "server's memory  {:.1f} MiB at most, {:.1f} in the end\n",
                   static_cast<double>(result.most_bytes) / (1 << 20),
                   static_cast<double>(result.last_bytes) / (1 << 20));
  }
  fmt::format_to(out, "this client      {:.1f} % of a core\n", 100.0 * result.client_cpu_share);
  for (const auto& [error, count] : errors_in(result)) fmt::format_to(out, "failed {} times: {}\n", count, error);
  return text;
}

std::string report_json(const LoadOptions& options, const LoadResult& result, const ServiceGoal& goal) {
  JsonWriter json;
  write_load(json.begin_object().key("load"), options, goal);
  json.key("wall_ms").number(rounded(result.wall_ms));
  json.key("client_cpu_share").number(rounded(result.client_cpu_share));
  if (!result.chats.empty()) write_chats(json.key("chats"), result.chats, goal);
  if (result.long_chat) write_chats(json.key("long_chat"), long_runs(result), goal);
  if (!result.embeds.empty()) {
    json.key("embeds").begin_object().key("calls").integer(static_cast<std::int64_t>(result.embeds.size()));
    json.key("texts").integer(options.embed_texts);
    write(json.key("ms"), spread_of(embed_ms(result)));
    json.key("each_ms").begin_array();
    for (const double ms : embed_ms(result)) json.number(rounded(ms));
    json.end_array().end_object();
  }
  if (result.most_bytes > 0) {
    json.key("memory").begin_object().key("most_bytes").unsigned_integer(result.most_bytes);
    json.key("last_bytes").unsigned_integer(result.last_bytes).end_object();
  }
  json.key("errors").begin_array();
  for (const auto& [error, count] : errors_in(result)) {
    json.begin_object().key("count").integer(count).key("message").string(error).end_object();
  }
  return json.end_array().end_object().take();
}

}  // namespace cortex
