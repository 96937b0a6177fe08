#include "bench/load/load_figures.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"

namespace cortex {

double ChatRun::token_ms() const {
  // As many tokens as the server says it made: a piece may hold several.
  const auto tokens = std::max<std::int64_t>(usage.output_tokens, static_cast<std::int64_t>(piece_ms.size())) - 1;
  return piece_ms.size() < 2 ? 0.0 : (piece_ms.back() - piece_ms.front()) / static_cast<double>(tokens);
}

double percentile(std::span<const double> sorted, double share) {
  CORTEX_CHECK(!sorted.empty() && share > 0 && share <= 1);
  const auto rank = static_cast<std::size_t>(std::ceil(share * static_cast<double>(sorted.size())));
  return sorted[std::clamp<std::size_t>(rank, 1, sorted.size()) - 1];
}

Spread spread_of(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  return {.p50 = percentile(values, 0.5),
          .p90 = percentile(values, 0.9),
          .p99 = percentile(values, 0.99),
          .max = values.back()};
}

double ChatFigures::hit_rate() const {
  return usage.prompt_tokens > 0 ? static_cast<double>(usage.cached_tokens) / static_cast<double>(usage.prompt_tokens)
                                 : 0.0;
}

ChatFigures figures_of(std::span<const ChatRun> runs, const ServiceGoal& goal) {
  ChatFigures figures;
  std::vector<double> first, between;
  double begin_ms = std::numeric_limits<double>::infinity(), end_ms = 0.0;
  std::int64_t good_tokens = 0;
  for (const ChatRun& run : runs) {
    ++figures.chats;
    if (!run.error.empty()) {
      ++figures.failed;
      continue;
    }
    begin_ms = std::min(begin_ms, run.start_ms);
    end_ms = std::max(end_ms, run.end_ms);
    figures.usage.prompt_tokens += run.usage.prompt_tokens;
    figures.usage.cached_tokens += run.usage.cached_tokens;
    figures.usage.output_tokens += run.usage.output_tokens;
    if (run.finish_reason == "length") ++figures.ended_at_limit;
    if (run.piece_ms.empty()) continue;  // a model may say nothing
    first.push_back(run.first_token_ms());
    for (std::size_t i = 1; i < run.piece_ms.size(); ++i) between.push_back(run.piece_ms[i] - run.piece_ms[i - 1]);
    if (run.first_token_ms() <= goal.first_token_ms && run.token_ms() <= goal.token_ms) {
      ++figures.good;
      good_tokens += run.usage.output_tokens;
    }
  }
  figures.first_token_ms = spread_of(std::move(first));
  figures.between_tokens_ms = spread_of(std::move(between));
  if (end_ms <= begin_ms) return figures;
  figures.wall_ms = end_ms - begin_ms;
  const auto per_s = [&](std::int64_t tokens) { return static_cast<double>(tokens) * 1000.0 / figures.wall_ms; };
  figures.output_tokens_per_s = per_s(figures.usage.output_tokens);
  figures.total_tokens_per_s = per_s(figures.usage.output_tokens + figures.usage.prompt_tokens);
  figures.good_tokens_per_s = per_s(good_tokens);
  return figures;
}

}  // namespace cortex
