// Texts that LocalEngine's decoder encodes, beside what it generates.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/local_engine_fixture.h"
#include "fakes/collected_events.h"
#include "fakes/fake_backend.h"
#include "fakes/requests.h"

namespace cortex {
namespace {

using namespace std::chrono_literals;

class LocalEngineTextsTest : public LocalEngineFixture {};

// Texts for the decoder, of every length around the blocks' and the steps'.
EncodeRequest ragged(RequestId id, int count) {
  EncodeRequest request = texts(id, {});
  request.model = "m";
  for (int i = 0; i < count; ++i) request.texts.push_back(long_prompt(1 + i * 37 % 200));
  return request;
}

TEST_F(LocalEngineTextsTest, ADecoderGivesTheLastStateOfEveryTextInOrder) {
  options_.rows_per_step = 40;
  options_.max_sequences = 6;
  options_.kv_bytes = 20 * kFakeBlockBytes;
  const EncodeRequest request = ragged(1, 40);
  std::vector<float> expected;
  for (const auto& text : request.texts) {
    expected.push_back(static_cast<float>(text.size()));
    expected.push_back(static_cast<float>(text.front()));
  }
  CollectedReply reply;
  engine().encode(request, reply.sink());
  const EncodeReply encoded = reply.wait();
  ASSERT_FALSE(encoded.error) << encoded.error->message();
  EXPECT_EQ(encoded.dimensions, 2);
  EXPECT_EQ(encoded.vectors, expected);
  EXPECT_GE(encoded.queue_ms, 0.0);
  EXPECT_GT(encoded.compute_ms, 0.0);
  wait_until_idle();
}

TEST_F(LocalEngineTextsTest, ADecoderScoresWhatMayComeNextBesideAChat) {
  options_.rows_per_step = 40;
  options_.max_sequences = 6;
  EncodeRequest request = ragged(1, 40);
  request.scores = {120, 700};
  std::vector<float> expected;
  for (const auto& text : request.texts) {
    for (const TokenId token : request.scores) expected.push_back(fake_score(text, token));
  }
  CollectedReply reply;
  CollectedEvents events;
  engine().encode(request, reply.sink());
  engine().generate(ask(2, {1, 2, 3}, 60), events.sink());
  EXPECT_EQ(reply.wait().vectors, expected);
  events.wait();
  EXPECT_EQ(events.tokens(), fake_reply({1, 2, 3}, 60));
  wait_until_idle();
}

TEST_F(LocalEngineTextsTest, AChatDoesNotWaitForAllTextsOfARequest) {
  switches_.step_ms = 1;
  options_.rows_per_step = 64;
  options_.max_sequences = 8;
  EncodeRequest request = texts(1, std::vector<std::vector<TokenId>>(200, long_prompt(64)));
  request.model = "m";
  CollectedReply reply;
  engine().encode(request, reply.sink());
  const auto before = wait_for([](const EngineStatus& status) { return status.steps > 2; });
  EXPECT_EQ(before.running, 1);
  EXPECT_EQ(before.waiting, 0);
  CollectedEvents events;
  engine().generate(ask(2, long_prompt(30), 3), events.sink());
  events.wait();
  EXPECT_EQ(events.tokens(), fake_reply(long_prompt(30), 3));
  EXPECT_LT(engine().status().steps, before.steps + 100);
  EXPECT_EQ(reply.wait().vectors.size(), 400u);
}

TEST_F(LocalEngineTextsTest, CancelAndDeadlineEndAllTextsOfARequest) {
  switches_.step_ms = 2;
  EncodeRequest request = texts(1, std::vector<std::vector<TokenId>>(500, long_prompt(200)));
  for (std::size_t i = 0; i < 500; ++i) request.texts[i].front() = static_cast<TokenId>(100 + i);
  request.model = "m";
  CollectedReply cancelled, late;
  engine().encode(request, cancelled.sink());
  wait_for([](const EngineStatus& status) { return status.kv_blocks_used > 0; });
  engine().cancel(1);
  EXPECT_EQ(cancelled.wait().error->code(), ErrorCode::cancelled);
  wait_until_idle();
  request.id = 2;
  request.timeout = 30ms;
  engine().encode(request, late.sink());
  EXPECT_EQ(late.wait().error->code(), ErrorCode::deadline_exceeded);
  wait_until_idle();
}

TEST_F(LocalEngineTextsTest, ABrokenTextFailsItsRequestOnly) {
  CollectedReply sound, broken, thrown;
  auto request = ragged(1, 10);
  request.texts[3].back() = kFakeNan;
  engine().encode(request, broken.sink());
  engine().encode(ragged(2, 10), sound.sink());
  EXPECT_EQ(broken.wait().error->code(), ErrorCode::numerical_error);
  EXPECT_EQ(sound.wait().vectors.size(), 20u);
  request = ragged(3, 10);
  request.texts[9].back() = kFakeThrow;
  engine().encode(request, thrown.sink());
  EXPECT_EQ(thrown.wait().error->code(), ErrorCode::weights_io_error);
  wait_until_idle();
}

TEST_F(LocalEngineTextsTest, ATextThatThePoolCanNeverHoldIsRefused) {
  options_.kv_bytes = 4 * kFakeBlockBytes;
  auto request = texts(1, {{1}, long_prompt(65)});
  request.model = "m";
  EXPECT_EQ(refusal(request)->code(), ErrorCode::request_cannot_fit);
  request.texts.back() = long_prompt(64);
  EXPECT_FALSE(refusal(request));
  wait_until_idle();
}

}  // namespace
}  // namespace cortex
