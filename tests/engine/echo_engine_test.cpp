#include "fakes/echo_engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fakes/collected_events.h"

namespace cortex {
namespace {

using testing::ElementsAre;

GenerateRequest echo(RequestId id, std::vector<TokenId> prompt, int max_tokens) {
  GenerateRequest request;
  request.id = id;
  request.prompt = std::move(prompt);
  request.max_tokens = max_tokens;
  return request;
}

TEST(EchoEngine, SaysThePromptBackUntilMaxTokens) {
  EchoEngine engine;
  CollectedEvents events;
  engine.generate(echo(1, {5, 6, 7}, 5), events.sink());
  events.wait();
  EXPECT_THAT(events.tokens(), ElementsAre(5, 6, 7, 5, 6));
  EXPECT_EQ(events.finish(), FinishReason::length);
}

TEST(EchoEngine, AStopIdEndsIt) {
  EchoEngine engine;
  CollectedEvents events;
  auto request = echo(1, {5, 6, 7}, 50);
  request.stop_ids = {6};
  engine.generate(request, events.sink());
  events.wait();
  EXPECT_THAT(events.tokens(), ElementsAre(5, 6));
  EXPECT_EQ(events.finish(), FinishReason::stop);
}

TEST(EchoEngine, TheEndOfTheReplyIsTheFirstStopId) {
  EchoEngine engine;
  CollectedEvents events;
  auto request = echo(1, {5, 6}, 50);
  request.stop_ids = {9};
  engine.generate(request, events.sink());
  events.wait();
  EXPECT_THAT(events.tokens(), ElementsAre(5, 6, 9));
  EXPECT_EQ(events.finish(), FinishReason::stop);
}

TEST(EchoEngine, CancelAndDeadlineAndShutdownEndWithAnError) {
  CollectedEvents cancelled, late, left;
  {
    EchoOptions options;
    options.token_delay = std::chrono::seconds(60);
    EchoEngine engine(options);
    engine.generate(echo(1, {1}, 5), cancelled.sink());
    auto request = echo(2, {1}, 5);
    request.timeout = std::chrono::milliseconds(5);
    engine.generate(request, late.sink());
    engine.generate(echo(3, {1}, 5), left.sink());
    engine.cancel(1);
    cancelled.wait();
    late.wait();
  }
  EXPECT_EQ(cancelled.error_code(), ErrorCode::cancelled);
  EXPECT_EQ(late.error_code(), ErrorCode::deadline_exceeded);
  EXPECT_EQ(left.error_code(), ErrorCode::engine_unavailable);
}

TEST(EchoEngine, EncodesBagsOfTokens) {
  EchoOptions options;
  options.dimensions = 3;
  EchoEngine engine(options);
  EncodeRequest request;
  request.id = 1;
  request.texts = {{0, 1, 3}, {2}};
  CollectedReply reply;
  engine.encode(request, reply.sink());
  EXPECT_THAT(reply.wait().vectors, ElementsAre(2, 1, 0, 0, 0, 1));
}

}  // namespace
}  // namespace cortex
