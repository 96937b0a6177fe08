// What LocalEngine refuses, and how it says so.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/local_engine_fixture.h"
#include "fakes/collected_events.h"
#include "fakes/fake_backend.h"
#include "fakes/requests.h"

namespace cortex {
namespace {

using testing::HasSubstr;

class LocalEngineRefusalTest : public LocalEngineFixture {};

TEST_F(LocalEngineRefusalTest, RefusesWhatIsOutOfRange) {
  auto request = ask(1, {1, kFakeVocabulary}, 5);
  auto error = refusal(request);
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::invalid_token_id);
  EXPECT_THAT(error->message(), HasSubstr("prompt[1]: token id 1000 is not in the vocabulary of 1000"));
  EXPECT_EQ(refusal(ask(1, {-1}, 5))->code(), ErrorCode::invalid_token_id);
  EXPECT_EQ(refusal(ask(1, {}, 5))->code(), ErrorCode::empty_input);
  EXPECT_EQ(refusal(ask(1, {1}, -1))->code(), ErrorCode::invalid_value);
  request = ask(1, {1}, 5);
  request.logit_bias = {{kFakeVocabulary, 1.0f}};
  EXPECT_EQ(refusal(request)->code(), ErrorCode::invalid_token_id);
  request = ask(1, {1}, 5);
  request.sampling.top_p = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(refusal(request)->code(), ErrorCode::invalid_value);
  request = ask(1, {1}, 5);
  request.model = "nobody";
  EXPECT_EQ(refusal(request)->code(), ErrorCode::model_not_found);
  request.model = "e";
  EXPECT_EQ(refusal(request)->code(), ErrorCode::model_not_capable);
}

TEST_F(LocalEngineRefusalTest, RefusesWhatExceedsTheContext) {
  const auto error = refusal(ask(1, long_prompt(500), 13));
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::context_length_exceeded);
  EXPECT_THAT(error->message(), HasSubstr("512"));
  EXPECT_THAT(error->message(), HasSubstr("513"));
  CollectedEvents fits;
  engine().generate(ask(2, long_prompt(500), 12), fits.sink());
  fits.wait();
  EXPECT_EQ(fits.finish(), FinishReason::length);
}

TEST_F(LocalEngineRefusalTest, RefusesWhatThePoolCanNeverHold) {
  options_.kv_bytes = 4 * kFakeBlockBytes;
  const auto error = refusal(ask(1, long_prompt(60), 5));
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::request_cannot_fit);
}

TEST_F(LocalEngineRefusalTest, RefusesTextsThatItCanNotEncode) {
  EXPECT_EQ(refusal(texts(1, {}))->code(), ErrorCode::empty_input);
  EXPECT_EQ(refusal(texts(1, {{1}, {}}))->code(), ErrorCode::empty_input);
  EXPECT_EQ(refusal(texts(1, {{kFakeVocabulary}}))->code(), ErrorCode::invalid_token_id);
  EXPECT_EQ(refusal(texts(1, {long_prompt(513)}))->code(), ErrorCode::context_length_exceeded);
  auto typed = texts(1, {{1, 2}});
  typed.types = {{0}};
  EXPECT_EQ(refusal(typed)->code(), ErrorCode::invalid_value);
  typed.types = {{0, 2}};
  EXPECT_EQ(refusal(typed)->code(), ErrorCode::invalid_value);
  auto scored = texts(1, {{1}});
  scored.scores = {1};
  EXPECT_EQ(refusal(scored)->code(), ErrorCode::invalid_value);
  scored.model = "m";
  EXPECT_FALSE(refusal(scored));
  scored.scores = {kFakeVocabulary};
  EXPECT_EQ(refusal(scored)->code(), ErrorCode::invalid_token_id);
}

TEST_F(LocalEngineRefusalTest, RefusesOptionsThatDoNotFit) {
  options_.rows_per_step = 10;
  EXPECT_THROW(LocalEngine{options_}, Error);
  options_.rows_per_step = 256;
  options_.models = {{"m", "decoder"}, {"m", "decoder"}};
  EXPECT_THROW(LocalEngine{options_}, Error);
}

TEST_F(LocalEngineRefusalTest, RefusesAnIdThatIsInUse) {
  switches_.step_ms = 2;
  CollectedEvents first;
  engine().generate(ask(1, {1}, 400), first.sink());
  EXPECT_EQ(refusal(ask(1, {1}, 400))->code(), ErrorCode::internal_error);
  engine().cancel(1);
  first.wait();
}

}  // namespace
}  // namespace cortex
