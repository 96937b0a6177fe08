#include "bench/load/load_figures.h"

#include <gtest/gtest.h>

#include <vector>

#include "base/error.h"

namespace cortex {
namespace {

TEST(PercentileTest, IsTheNearestRank) {
  const std::vector<double> four{1, 2, 3, 4};
  EXPECT_EQ(percentile(four, 0.25), 1);
  EXPECT_EQ(percentile(four, 0.26), 2);
  EXPECT_EQ(percentile(four, 0.5), 2);
  EXPECT_EQ(percentile(four, 0.99), 4);
  EXPECT_EQ(percentile(four, 1), 4);
  EXPECT_EQ(percentile(std::vector<double>{7}, 0.01), 7);
  EXPECT_THROW(percentile({}, 0.5), CheckFailure);
  EXPECT_THROW(percentile(four, 0), CheckFailure);
}

TEST(PercentileTest, ASpreadNeedsNoOrder) {
  std::vector<double> values;
  for (int i = 100; i > 0; --i) values.push_back(i);
  const Spread spread = spread_of(values);
  EXPECT_EQ(spread.p50, 50);
  EXPECT_EQ(spread.p90, 90);
  EXPECT_EQ(spread.p99, 99);
  EXPECT_EQ(spread.max, 100);
  EXPECT_EQ(spread_of({}).max, 0);
}

// A chat that came at `start_ms`, with 100 tokens in its prompt.
ChatRun run_of(double start_ms, std::vector<double> piece_ms, std::int64_t output_tokens) {
  ChatRun run;
  run.start_ms = start_ms;
  run.end_ms = piece_ms.back();
  run.piece_ms = std::move(piece_ms);
  run.usage = {.prompt_tokens = 100, .cached_tokens = 25, .output_tokens = output_tokens};
  run.finish_reason = "length";
  run.error.clear();
  return run;
}

TEST(ChatFiguresTest, AreOfThoseThatWentWell) {
  std::vector<ChatRun> runs{run_of(100, {200, 220, 240}, 3), run_of(300, {700, 1100}, 5)};
  runs.push_back(runs[0]);
  runs.back().error = "cut";
  const ChatFigures figures = figures_of(runs, {.first_token_ms = 100, .token_ms = 20});
  EXPECT_EQ(figures.chats, 3);
  EXPECT_EQ(figures.failed, 1);
  EXPECT_EQ(figures.ended_at_limit, 2);
  EXPECT_EQ(figures.usage.prompt_tokens, 200);
  EXPECT_EQ(figures.usage.output_tokens, 8);
  EXPECT_DOUBLE_EQ(figures.hit_rate(), 0.25);
  EXPECT_EQ(figures.first_token_ms.p50, 100);
  EXPECT_EQ(figures.first_token_ms.max, 400);
  EXPECT_EQ(figures.between_tokens_ms.p50, 20);
  EXPECT_EQ(figures.between_tokens_ms.max, 400);
  EXPECT_EQ(figures.wall_ms, 1000);
  EXPECT_DOUBLE_EQ(figures.output_tokens_per_s, 8);
  EXPECT_DOUBLE_EQ(figures.total_tokens_per_s, 208);
  EXPECT_EQ(figures.good, 1);
  EXPECT_DOUBLE_EQ(figures.good_tokens_per_s, 3);
}

TEST(ChatFiguresTest, APieceMayHoldSeveralTokens) {
  EXPECT_DOUBLE_EQ(run_of(0, {100, 500}, 5).token_ms(), 100);
  EXPECT_DOUBLE_EQ(run_of(0, {100, 500}, 0).token_ms(), 400);
  EXPECT_EQ(run_of(0, {100}, 5).token_ms(), 0);
}

TEST(ChatFiguresTest, OfNothing) {
  const ChatFigures figures = figures_of(std::vector<ChatRun>(2), {});
  EXPECT_EQ(figures.failed, 2);
  EXPECT_EQ(figures.output_tokens_per_s, 0);
  EXPECT_EQ(figures.hit_rate(), 0);
}

}  // namespace
}  // namespace cortex
